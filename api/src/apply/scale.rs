//! Who owns an object's replicas owns those of its scale, and the other way round: the scale
//! subresource shows them as `autoscaling/v1` and writes them back as the object's own.

use super::managed::{Managed, Owned};
use super::set::Set;
use crate::doc::Doc;

/// The version of scales.
const VERSION: &str = "autoscaling/v1";
/// Where a scale has its replicas.
const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Where each version of a kind has its replicas; none for a version that cannot be scaled. Owners
/// through other versions are forgotten.
pub type ReplicasPaths<'a> = &'a [(&'a str, Option<&'a [&'a str]>)];

/// Gives a scale the owners of an object's replicas.
///
/// # Errors
///
/// If the object's owners cannot be read.
pub fn owners_to_scale(
    object: &Doc,
    scale: &mut Doc,
    paths: ReplicasPaths<'_>,
) -> Result<(), String> {
    let mut shown = Managed::default();
    for (manager, owned) in Managed::read(object)?.owners {
        if let Some(Some(path)) = replicas(paths, &owned.api_version)
            && owns(&owned.fields, path)
        {
            let owned = Owned {
                fields: Set::of_fields(&[&REPLICAS]),
                api_version: VERSION.to_string(),
                time: owned.time,
            };
            shown.owners.insert(manager, owned);
        }
    }
    shown.write(scale);
    Ok(())
}

/// Gives an object's replicas the owners that its scale has after a write. Who is no longer among
/// them loses the replicas. `api_version` is the object's version through which the scale was written.
///
/// # Errors
///
/// If owners cannot be read.
pub fn owners_from_scale(
    object: &mut Doc,
    scale: &Doc,
    api_version: &str,
    paths: ReplicasPaths<'_>,
) -> Result<(), String> {
    let before = Managed::read(object)?.owners;
    let mut of_scale = Managed::read(scale)?.owners;
    let mut after = Managed::default();
    for (manager, owned) in &before {
        let Some(path) = replicas(paths, &owned.api_version) else {
            continue;
        };
        let mut kept = owned.clone();
        if let Some(path) = path
            && owns(&owned.fields, path)
            && of_scale.remove(manager).is_none()
        {
            kept.fields = owned.fields.difference(&Set::of_fields(&[path]));
            if kept.fields.is_empty() {
                continue;
            }
        }
        after.owners.insert(manager.clone(), kept);
    }
    let Some(Some(path)) = replicas(paths, api_version) else {
        after.write(object);
        return Ok(());
    };
    for (manager, owned) in of_scale {
        if owns(&owned.fields, &REPLICAS) {
            let owned = Owned {
                fields: Set::of_fields(&[path]),
                api_version: api_version.to_string(),
                time: before.get(&manager).and_then(|known| known.time.clone()),
            };
            after.owners.insert(manager, owned);
        }
    }
    after.write(object);
    Ok(())
}

/// The path of a version; none inside if it cannot be scaled.
fn replicas<'a>(paths: ReplicasPaths<'a>, api_version: &str) -> Option<Option<&'a [&'a str]>> {
    let known = paths.iter().find(|known| known.0 == api_version);
    known.map(|known| known.1)
}

fn owns(fields: &Set, path: &[&str]) -> bool {
    !fields.intersection(&Set::of_fields(&[path])).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: ReplicasPaths<'static> = &[
        ("apps/v1", Some(&REPLICAS)),
        ("apps/v2", Some(&["spec", "the-replicas"])),
        ("apps/v3", None),
    ];

    /// `manager operation version fields [time]`; a manager ending in `*` writes the scale.
    fn owners(entries: &[&str]) -> Doc {
        let mut doc = Doc::literal(r#"{"metadata":{"managedFields":[]}}"#);
        let list = doc.find_path(&["metadata", "managedFields"]).unwrap();
        for entry in entries {
            let words: Vec<&str> = entry.split(' ').collect();
            let fields: Vec<String> = words[3]
                .split(',')
                .map(|f| format!(r#""f:{f}":{{}}"#))
                .collect();
            let time = words
                .get(4)
                .map_or(String::new(), |time| format!(r#""time":"{time}","#));
            let sub = if words[0].ends_with('*') {
                r#","subresource":"scale""#
            } else {
                ""
            };
            let json = format!(
                r#"{{"manager":"{}","operation":"{}","apiVersion":"{}",{time}"fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{{}}}}}{sub}}}"#,
                words[0].trim_end_matches('*'),
                words[1],
                words[2],
                fields.join(",")
            );
            let made = doc.absorb(Doc::literal(&json));
            doc.push_id(list, made);
        }
        if entries.is_empty() {
            doc.remove(doc.find_path(&["metadata"]).unwrap(), "managedFields");
        }
        doc
    }

    #[test]
    fn scales_show_who_owns_the_replicas() {
        for (object, want) in [
            (
                &[
                    "m1 Apply apps/v1 another-field",
                    "m2 Apply apps/v1 replicas 2013-02-03T00:00:00Z",
                    "m3* Update apps/v2 the-replicas",
                ][..],
                &[
                    "m2 Apply autoscaling/v1 replicas 2013-02-03T00:00:00Z",
                    "m3* Update autoscaling/v1 replicas",
                ][..],
            ),
            (&["m1 Apply apps/v10 replicas"], &[]),
        ] {
            let mut scale = owners(&[]);
            owners_to_scale(&owners(object), &mut scale, PATHS).unwrap();
            assert_eq!(scale.to_string(), owners(want).to_string());
        }
    }

    #[test]
    fn objects_get_the_owners_of_their_scale() {
        for (object, scale, want) in [
            // Another manager takes the replicas.
            (
                &["test Apply apps/v1 replicas,selector"][..],
                &["scale* Update autoscaling/v1 replicas"][..],
                &[
                    "test Apply apps/v1 selector",
                    "scale* Update apps/v1 replicas",
                ][..],
            ),
            (
                &["test Update apps/v1 replicas,selector"],
                &["scale* Apply autoscaling/v1 replicas"],
                &[
                    "scale* Apply apps/v1 replicas",
                    "test Update apps/v1 selector",
                ],
            ),
            // The same one does, through the scale.
            (
                &["test Apply apps/v1 replicas,selector"],
                &["test* Apply autoscaling/v1 replicas"],
                &[
                    "test Apply apps/v1 selector",
                    "test* Apply apps/v1 replicas",
                ],
            ),
            // The scale is no longer anybody's.
            (&["scale* Apply apps/v1 replicas"], &[], &[]),
            // Nothing else is left to the first.
            (
                &["test Apply apps/v1 replicas"],
                &["scale* Update autoscaling/v1 replicas"],
                &["scale* Update apps/v1 replicas"],
            ),
            // Both apply the same.
            (
                &["test Apply apps/v1 replicas,selector"],
                &[
                    "test Apply autoscaling/v1 replicas",
                    "scale* Apply autoscaling/v1 replicas",
                ],
                &[
                    "scale* Apply apps/v1 replicas",
                    "test Apply apps/v1 replicas,selector",
                ],
            ),
            // Versions that are unknown, that have another path, that cannot be scaled.
            (
                &[
                    "a Apply apps/v10 replicas",
                    "b Apply apps/v2 the-replicas,x",
                    "c Apply apps/v3 replicas",
                ],
                &["scale* Update autoscaling/v1 replicas"],
                &[
                    "b Apply apps/v2 x",
                    "c Apply apps/v3 replicas",
                    "scale* Update apps/v1 replicas",
                ],
            ),
        ] {
            let mut doc = owners(object);
            owners_from_scale(&mut doc, &owners(scale), "apps/v1", PATHS).unwrap();
            assert_eq!(
                doc.to_string(),
                owners(want).to_string(),
                "{object:?} {scale:?}"
            );
        }
    }
}

//! Persistent volume claims: what they ask for stays, but for their size and class once they are
//! bound.

use api::doc::Doc;
use api::field::FieldError;
use api::name;

use crate::kinds::facts::{Facts, Raw, Status, keep, put_path, remove_path};
use crate::validation::pod::resources::is_native;
use crate::validation::pod::unified_diff;
use crate::validation::pod::walk::quantity;
use crate::validation::{At, Errors, claim, same};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const REQUEST: [&str; 4] = ["spec", "resources", "requests", "storage"];
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// What is particular about claims.
pub const CLAIM: Facts = Facts {
    status: Status::Own("{}"),
    prepare_create: |_, new| data_sources(new, None),
    prepare_update: |cx, new, old| {
        if cx.subresource.is_empty() {
            data_sources(new, Some(old));
        }
    },
    create: |_, new, errors| claim::spec(errors, new.get("spec"), claim::Options::default()),
    update: |_, new, old, errors| {
        let options = claim::Options::of_old(old.get("spec"));
        claim::spec(errors, new.get("spec"), options);
        changes(errors, new, old);
    },
    sub_update: |_, new, _, errors| status(errors, new),
    warnings: |cx, new, _, warnings| {
        if !cx.subresource.is_empty() {
            return;
        }
        if annotation(new).is_some() {
            warnings.push(format!(
                "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \
                 \"storageClassName\" attribute instead"
            ));
        }
        warnings.extend(claim::warnings("spec", new.get("spec")));
    },
    ..Facts::PLAIN
};

fn annotation(claim: At<'_>) -> Option<&str> {
    let annotations = claim.path(&["metadata", "annotations"]);
    annotations.entry(CLASS_ANNOTATION).map(At::str)
}

/// Drops what was never understood, and fills whichever of the two fields is missing.
fn data_sources(new: &mut Doc, old: Option<&Doc>) {
    let spec = At::root(new).get("spec");
    let used = old.is_some_and(|old| {
        let spec = At::root(old).get("spec");
        spec.has("dataSource") || spec.has("dataSourceRef")
    });
    let was_reference =
        old.is_some_and(|old| At::root(old).path(&["spec", "dataSourceRef"]).is_set());
    let is_elsewhere = !spec.path(&["dataSourceRef", "namespace"]).is_empty();
    let drops_reference = is_elsewhere && !was_reference;
    let source = spec.get("dataSource");
    let known = [
        ("PersistentVolumeClaim", ""),
        ("VolumeSnapshot", "snapshot.storage.k8s.io"),
    ];
    let is_known = known.contains(&(source.get("kind").str(), source.get("apiGroup").str()));
    let has_reference = spec.has("dataSourceRef") && !drops_reference;
    let drops_source = !used && !has_reference && !is_known;
    if drops_reference {
        remove_path(new, &["spec", "dataSourceRef"]);
    }
    if drops_source {
        remove_path(new, &["spec", "dataSource"]);
    }
    let spec = At::root(new).get("spec");
    let pair = match (spec.has("dataSource"), spec.has("dataSourceRef")) {
        (true, false) => ["dataSource", "dataSourceRef"],
        (false, true) if !is_elsewhere => ["dataSourceRef", "dataSource"],
        _ => return,
    };
    if let Some(from) = new.find_path(&["spec", pair[0]]) {
        let copy = new.copy(from);
        new.remove(copy, "namespace");
        put_path(new, &["spec", pair[1]], copy);
    }
}

fn changes(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (now, was) = comparable(errors, new, old);
    let specs = (At::root(&now).get("spec"), At::root(&was).get("spec"));
    if !same(specs.0, specs.1) {
        let diff = unified_diff::diff(specs.1, specs.0);
        let detail = format!(
            "spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims\n{diff}"
        );
        errors.forbidden(new.get("spec"), detail);
    }
    let size = |claim: At<'_>| {
        let requests = claim.path(&["spec", "resources", "requests"]);
        requests.entry("storage").map(quantity)
    };
    let actual = old
        .path(&["status", "capacity"])
        .entry("storage")
        .map(quantity);
    let zero = || api::values::Quantity::from_units(0);
    let asked = size(new).unwrap_or_else(zero);
    if asked < size(old).unwrap_or_else(zero) && asked <= actual.unwrap_or_else(zero) {
        let detail = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden(REQUEST.join("."), detail));
    }
    let (spec, before) = (new.get("spec"), old.get("spec"));
    errors.renamed("spec.", "", |errors| {
        errors.immutable(spec.get("volumeMode"), before.get("volumeMode"));
    });
    let class = spec.get("volumeAttributesClassName");
    let is_changed = !same(class, before.get("volumeAttributesClassName"));
    if is_changed
        && old
            .path(&["status", "currentVolumeAttributesClassName"])
            .is_set()
    {
        let what = match (class.is_set(), class.is_empty()) {
            (false, _) => "nil",
            (true, true) => "empty string",
            (true, false) => return,
        };
        let detail = format!(
            "update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        );
        errors.forbidden(class, detail);
    }
}

/// Copies in which what may change is the same. A class may move from the annotation to the field,
/// or be given once.
fn comparable(errors: &mut Errors, new: At<'_>, old: At<'_>) -> (Doc, Doc) {
    let copy = |at: At<'_>| at.node().map(|node| node.doc().clone()).unwrap_or_default();
    let (mut now, mut was) = (copy(new), copy(old));
    if old.path(&["spec", "volumeName"]).is_empty() {
        keep(&mut was, &now, &["spec", "volumeName"]);
    }
    let class_path = ["spec", "storageClassName"];
    let (class, had_class) = (new.path(&class_path), old.path(&class_path).is_set());
    let (noted, was_noted) = (annotation(new), annotation(old));
    let is_given = class.is_set() && !had_class;
    let moves =
        is_given && was_noted == Some(class.str()) && (noted.is_none() || noted == was_noted);
    if moves {
        remove_path(&mut now, &class_path);
    } else {
        if noted.unwrap_or_default() != was_noted.unwrap_or_default() {
            let path = format!("metadata.annotations.{CLASS_ANNOTATION}");
            let value = noted.unwrap_or_default();
            errors.push(FieldError::invalid(path, value, "field is immutable"));
        }
        if is_given && was_noted.is_none_or(|was| was == class.str()) {
            remove_path(&mut now, &class_path);
        }
    }
    if new.path(&["status", "phase"]).str() == "Bound" {
        if new.path(&["spec", "resources", "requests"]).is_set() {
            keep(&mut now, &was, &REQUEST);
        }
        keep(&mut now, &was, &["spec", "volumeAttributesClassName"]);
    }
    (now, was)
}

fn status(errors: &mut Errors, new: At<'_>) {
    if new.path(&["spec", "accessModes"]).is_empty() {
        errors.push(FieldError::required("Spec.accessModes", ""));
    }
    let status = new.get("status");
    for amount in status.get("capacity").items() {
        basic(errors, amount);
    }
    let statuses = status.get("allocatedResourceStatuses");
    for entry in statuses.items() {
        resource_key(errors, statuses, entry.key());
        if !RESIZES.contains(&entry.str()) {
            let path = errors.path(statuses);
            errors.push(FieldError::not_supported(path, entry.key(), &RESIZES));
        }
    }
    let allocated = status.get("allocatedResources");
    for amount in allocated.items() {
        if resource_key(errors, allocated, amount.key()) {
            basic(errors, amount);
        }
    }
}

fn basic(errors: &mut Errors, amount: At<'_>) {
    let units = quantity(amount).units();
    if units < 0 {
        errors.invalid_value(
            amount,
            Raw(units.to_string()),
            "must be a valid resource quantity",
        );
    }
}

fn resource_key(errors: &mut Errors, map: At<'_>, key: &str) -> bool {
    let complaints = name::label_key(key);
    let is_good = complaints.is_empty();
    for complaint in complaints {
        errors.invalid_value(map, key, complaint);
    }
    if is_good && is_native(key) && key != "storage" {
        let path = errors.path(map);
        errors.push(FieldError::not_supported(path, key, &["storage"]));
        return false;
    }
    is_good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create};

    const GOOD: &str = r#"{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"a"},"spec":{
        "accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"2Gi"}},"volumeMode":"Filesystem",
        "storageClassName":"fast","volumeName":"v","volumeAttributesClassName":"gold"},
        "status":{"phase":"Bound","capacity":{"storage":"2Gi"},"currentVolumeAttributesClassName":"gold"}}"#;

    #[test]
    fn wrong_fields_are_told() {
        cases(
            &CLAIM,
            GOOD,
            &[
                Case::create(
                    "spec accessModes",
                    "[]",
                    &["spec.accessModes: Required value: at least 1 access mode is required"],
                ),
                Case::create(
                    "spec resources requests",
                    "{}",
                    &["spec.resources[storage]: Required value"],
                ),
                Case::update("spec resources requests storage", r#""3Gi""#, &[]),
                Case::update(
                    "spec resources requests storage",
                    r#""1Gi""#,
                    &[
                        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity",
                    ],
                ),
                Case::update(
                    "spec storageClassName",
                    r#""slow""#,
                    &[
                        "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n…",
                    ],
                ),
                Case::update(
                    "spec volumeAttributesClassName",
                    "-",
                    &[
                        "spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
                    ],
                ),
                Case::update(
                    "spec volumeMode",
                    r#""Block""#,
                    &[
                        "spec: Forbidden: …",
                        r#"volumeMode: Invalid value: "Block": field is immutable"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status capacity storage",
                    r#""-1""#,
                    &[
                        "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                    ],
                ),
                Case::sub(
                    "status",
                    "status allocatedResources",
                    r#"{"cpu":"1"}"#,
                    &[
                        r#"status.allocatedResources: Unsupported value: "cpu": supported values: "storage""#,
                    ],
                ),
            ],
        );
    }

    #[test]
    fn sources_of_data_follow_each_other() {
        let spec = |new: &str| {
            let made = prepared_create(&CLAIM, new);
            made.root().get("spec").unwrap().to_string()
        };
        assert_eq!(
            spec(r#"{"spec":{"dataSource":{"kind":"PersistentVolumeClaim","name":"a"}}}"#),
            r#"{"dataSource":{"kind":"PersistentVolumeClaim","name":"a"},"dataSourceRef":{"kind":"PersistentVolumeClaim","name":"a"}}"#
        );
        assert_eq!(
            spec(r#"{"spec":{"dataSource":{"kind":"X","name":"a"}}}"#),
            "{}"
        );
        assert_eq!(
            spec(r#"{"spec":{"dataSourceRef":{"apiGroup":"x.y","kind":"X","name":"a"}}}"#),
            r#"{"dataSourceRef":{"apiGroup":"x.y","kind":"X","name":"a"},"dataSource":{"apiGroup":"x.y","kind":"X","name":"a"}}"#
        );
        assert_eq!(
            spec(r#"{"spec":{"dataSourceRef":{"kind":"X","name":"a","namespace":"b"}}}"#),
            "{}"
        );
    }
}

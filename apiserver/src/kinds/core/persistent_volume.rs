//! Persistent volumes: exactly one source each, which never changes.

use api::doc::Doc;
use api::field::FieldError;

use crate::kinds::facts::{Facts, Status, keep, label, subdomain};
use crate::registry::strategy::Cx;
use crate::validation::errors::NOT_POSITIVE;
use crate::validation::pod::walk::quantity;
use crate::validation::pod::{scheduling, unified_diff, volumes, warnings::deprecated_label};
use crate::validation::{At, Errors, labels, same};

const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const INLINE: &str = "may not be specified in the context of inline volumes";
pub(super) const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// In the order in which upstream looks at them; whether mount options make sense there.
const SOURCES: [(&str, bool); 20] = [
    ("hostPath", false),
    ("gcePersistentDisk", true),
    ("awsElasticBlockStore", true),
    ("glusterfs", true),
    ("flocker", false),
    ("nfs", true),
    ("rbd", true),
    ("quobyte", true),
    ("cephfs", true),
    ("iscsi", true),
    ("cinder", true),
    ("fc", false),
    ("flexVolume", false),
    ("azureFile", true),
    ("vsphereVolume", true),
    ("photonPersistentDisk", true),
    ("portworxVolume", false),
    ("azureDisk", true),
    ("scaleIO", false),
    ("local", false),
];
const LATE_SOURCES: [&str; 2] = ["storageos", "csi"];

fn source_names() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|(field, _)| *field).chain(LATE_SOURCES)
}

/// What is particular about persistent volumes.
pub const PERSISTENT_VOLUME: Facts = Facts {
    status: Status::Own(r#"{"phase":"Pending"}"#),
    prepare_create: |cx, new| {
        new.set_path(&["status", "lastPhaseTransitionTime"], cx.now);
    },
    prepare_update,
    create: |_, new, errors| volume(errors, new, None),
    update: |_, new, old, errors| {
        // Upstream judges the volume as a whole twice.
        volume(errors, new, Some(old));
        spec_of(errors, new, Some(old));
        changes(errors, new, old);
    },
    warnings: |cx, new, _, warnings| {
        if cx.subresource.is_empty() {
            warn(new, warnings);
        }
    },
    ..Facts::PLAIN
};

/// The time of the last change of phase, unless the client tells it.
fn prepare_update(cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
    if cx.subresource != "status" {
        return;
    }
    let path = ["status", "lastPhaseTransitionTime"];
    let (now, before) = (At::root(new).get("status"), At::root(old).get("status"));
    let (time, was) = (At::root(new).path(&path), At::root(old).path(&path));
    let is_same_phase = now.get("phase").str() == before.get("phase").str();
    if is_same_phase && !time.is_set() {
        keep(new, old, &path);
    } else if !is_same_phase && (!time.is_set() || time.str() == was.str()) {
        new.set_path(&path, cx.now);
    }
}

fn volume(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    spec_of(errors, new, old);
    let spec = new.get("spec");
    let annotations = new.path(&["metadata", "annotations"]);
    let has_options = SOURCES
        .iter()
        .any(|(field, options)| *options && spec.has(field));
    if annotations.entry(MOUNT_OPTIONS).is_some() && !has_options {
        let path = format!("metadata.annotations.{MOUNT_OPTIONS}");
        let detail = "may not specify mount options for this volume type";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn spec_of(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let any_value = old.is_some_and(|old| {
        let terms = old.path(&["spec", "nodeAffinity", "required", "nodeSelectorTerms"]);
        terms.items().any(labels::has_bad_value)
    });
    let name = new.path(&["metadata", "name"]).str();
    spec(errors, new.get("spec"), name, false, any_value);
}

/// The spec of a volume that an attachment has in itself.
pub fn inline_spec(errors: &mut Errors, at: At<'_>) {
    spec(errors, at, "", true, false);
}

fn spec(errors: &mut Errors, spec: At<'_>, name: &str, is_inline: bool, any_value: bool) {
    if is_inline {
        for field in ["claimRef", "capacity"] {
            if spec.has(field) {
                errors.forbidden(spec.get(field), INLINE);
            }
        }
        if !spec.has("csi") {
            let detail = "has to be specified in the context of inline volumes";
            errors.required(spec.get("csi"), detail);
        }
    }
    access_modes(errors, spec.get("accessModes"));
    if !is_inline {
        capacity(errors, spec.get("capacity"));
    }
    reclaim_policy(errors, spec.get("persistentVolumeReclaimPolicy"), is_inline);
    affinity(errors, spec.get("nodeAffinity"), is_inline, any_value);
    one_source(errors, spec, name);
    let host = spec.get("hostPath").get("path").str();
    let policy = spec.get("persistentVolumeReclaimPolicy");
    let is_root = host.starts_with('/') && host.split('/').all(|part| ["", "."].contains(&part));
    if is_root && policy.str() == "Recycle" {
        errors.forbidden(policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    class(errors, spec.get("storageClassName"), is_inline);
    let mode = spec.get("volumeMode");
    match (mode.is_set(), is_inline) {
        (true, true) if mode.str() != "Filesystem" => errors.forbidden(
            mode,
            "may not specify volumeMode other than Filesystem in the context of inline volumes",
        ),
        (true, false) => errors.one_of(mode, &["Block", "Filesystem"]),
        _ => {}
    }
    let attributes = spec.get("volumeAttributesClassName");
    if attributes.is_set() && !is_inline {
        if errors.need(attributes, "an empty string is disallowed") {
            errors.names(attributes, subdomain);
        }
        if !spec.has("csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.required(spec.get("csi"), detail);
        }
    }
}

fn access_modes(errors: &mut Errors, list: At<'_>) {
    errors.need(list, "");
    for mode in list.items().filter(|mode| !MODES.contains(&mode.str())) {
        let path = errors.path(list);
        errors.push(FieldError::not_supported(path, mode.str(), &MODES));
    }
    let is_other = |mode: At<'_>| MODES[..3].contains(&mode.str());
    if list.contains("ReadWriteOncePod") && list.items().any(is_other) {
        errors.forbidden(list, "may not use ReadWriteOncePod with other access modes");
    }
}

fn capacity(errors: &mut Errors, map: At<'_>) {
    errors.need(map, "");
    if map.entry("storage").is_none() || map.len() > 1 {
        errors.not_supported(map, &["storage"]);
    }
    for amount in map.items() {
        let value = quantity(amount);
        if value.units() < 0 {
            let detail = "must be a valid resource quantity";
            errors.invalid_value(amount, value.units(), detail);
        }
        if value.signum() <= 0 {
            errors.invalid(amount, NOT_POSITIVE);
        }
    }
}

fn reclaim_policy(errors: &mut Errors, policy: At<'_>, is_inline: bool) {
    if policy.is_empty() {
        return;
    }
    if !is_inline {
        errors.one_of(policy, &["Delete", "Recycle", "Retain"]);
    } else if policy.str() != "Retain" {
        let detail = "may only be Retain in the context of inline volumes";
        errors.forbidden(policy, detail);
    }
}

fn affinity(errors: &mut Errors, at: At<'_>, is_inline: bool, any_value: bool) {
    let required = at.get("required");
    if !at.is_set() {
        return;
    }
    if is_inline {
        errors.forbidden(at, INLINE);
    } else if required.is_set() {
        scheduling::node_selector(errors, required, any_value);
    } else {
        errors.required(required, "must specify required node constraints");
    }
}

fn class(errors: &mut Errors, name: At<'_>, is_inline: bool) {
    if name.is_empty() {
        return;
    }
    match is_inline {
        true => errors.forbidden(name, INLINE),
        false => errors.names(name, subdomain),
    }
}

fn one_source(errors: &mut Errors, spec: At<'_>, name: &str) {
    let mut count = 0;
    for field in source_names() {
        let at = spec.get(field);
        if !at.is_set() {
            continue;
        }
        count += 1;
        if count > 1 && field != "flexVolume" {
            let path = errors.path(at).replace("cephfs", "cephFS");
            let detail = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(path, detail));
            continue;
        }
        errors.renamed(".gcePersistentDisk.", ".persistentDisk.", |errors| {
            source(errors, spec, field, name);
        });
    }
    if count == 0 {
        errors.required(spec, "must specify a volume type");
    }
}

/// What a source needs here besides what it needs in a pod.
fn source(errors: &mut Errors, spec: At<'_>, field: &'static str, name: &str) {
    let at = spec.get(field);
    if field == "iscsi" {
        return iscsi(errors, at, name);
    }
    if field == "csi" {
        return csi(errors, at);
    }
    volumes::source_of(errors, field, at);
    match field {
        "glusterfs" if at.has("endpointsNamespace") => {
            let namespace = at.get("endpointsNamespace");
            if namespace.is_empty() {
                let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                errors.invalid(namespace, detail);
            } else {
                errors.names(namespace, label);
            }
        }
        "cinder" | "storageos" if at.has("secretRef") => {
            errors.need(at.get("secretRef").get("namespace"), "");
        }
        "azureFile" if at.has("secretNamespace") => {
            errors.need(at.get("secretNamespace"), "");
        }
        "local" => {
            if errors.need(at.get("path"), "") {
                errors.names(at.get("path"), volumes::no_backsteps);
            }
            if !spec.has("nodeAffinity") {
                let detail = "Local volume requires node affinity";
                errors.required(spec.get("nodeAffinity"), detail);
            }
        }
        _ => {}
    }
}

fn iscsi(errors: &mut Errors, at: At<'_>, name: &str) {
    const PORTAL_BYTES_MAX: usize = 64;
    let portal = at.get("targetPortal");
    let mut found = Errors::default();
    volumes::source_of(&mut found, "iscsi", at);
    for mut error in found.into_vec() {
        if error.detail.starts_with("must be valid format starting") {
            error.detail = "must be valid format".to_string();
        }
        errors.push(error);
    }
    if at.has("initiatorName") && name.len() + 1 + portal.str().len() > PORTAL_BYTES_MAX {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters \
                      if iscsi.initiatorName is specified.";
        errors.invalid_below(at, ".targetportal", portal.str(), detail);
    }
    if at.has("secretRef") {
        errors.need(at.get("secretRef").get("name"), "");
    }
}

fn csi(errors: &mut Errors, at: At<'_>) {
    volumes::csi_driver(errors, at.get("driver"));
    errors.need(at.get("volumeHandle"), "");
    for secret in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = at.get(secret);
        if secret.is_set() {
            if errors.need(secret.get("name"), "") {
                errors.names(secret.get("name"), subdomain);
            }
            if errors.need(secret.get("namespace"), "") {
                errors.names(secret.get("namespace"), label);
            }
        }
    }
}

fn changes(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let (now, was) = (sources(spec, Some(before)), sources(before, None));
    if now.root() != was.root() {
        let diff = unified_diff::diff(At::root(&was), At::root(&now));
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        errors.push(FieldError::forbidden("spec.persistentvolumesource", detail));
    }
    errors.renamed("spec.", "", |errors| {
        errors.immutable(spec.get("volumeMode"), before.get("volumeMode"));
        if before.has("nodeAffinity") && !same_affinity(spec, before) {
            let detail = "field is immutable, except for updating from beta label to GA";
            errors.invalid(spec.get("nodeAffinity"), detail);
        }
    });
    let attributes = spec.get("volumeAttributesClassName");
    if before.has("volumeAttributesClassName") && !attributes.is_set() {
        errors.forbidden(attributes, "update from non-nil value to nil is forbidden");
    }
}

/// Only the sources. A secret for expansion may be added once.
fn sources(spec: At<'_>, before: Option<At<'_>>) -> Doc {
    let mut doc = Doc::new();
    for field in source_names() {
        if let Some(node) = spec.get(field).node() {
            let copy = doc.graft(node);
            doc.put(doc.top(), field, copy);
        }
    }
    let secret = "controllerExpandSecretRef";
    if let Some(before) = before
        && before.has("csi")
        && !before.get("csi").has(secret)
        && let Some(csi) = doc.find(doc.top(), "csi")
    {
        doc.remove(csi, secret);
    }
    doc
}

/// Labels of nodes that were renamed may be renamed here.
fn same_affinity(now: At<'_>, before: At<'_>) -> bool {
    const RENAMED: [(&str, &str); 5] = [
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        (
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/region",
        ),
        (
            "failure-domain.beta.kubernetes.io/zone",
            "topology.kubernetes.io/zone",
        ),
        (
            "beta.kubernetes.io/instance-type",
            "node.kubernetes.io/instance-type",
        ),
    ];
    fn expressions<'d>(spec: At<'d>) -> Vec<At<'d>> {
        let terms = spec
            .path(&["nodeAffinity", "required", "nodeSelectorTerms"])
            .items();
        terms
            .flat_map(|term| term.get("matchExpressions").items())
            .collect()
    }
    let Some(node) = before.get("nodeAffinity").node() else {
        return true;
    };
    let mut renamed = Doc::new();
    let copy = renamed.graft(node);
    renamed.put(renamed.top(), "nodeAffinity", copy);
    let places: Vec<_> = expressions(At::root(&renamed))
        .iter()
        .filter_map(|expression| expression.node().map(|node| node.id()))
        .collect();
    for (place, now) in places.into_iter().zip(expressions(now)) {
        let old = renamed.node(place).text(&["key"]);
        let is_renamed = RENAMED.contains(&(old, now.get("key").str()));
        if is_renamed {
            renamed.set(place, "key", now.get("key").str());
        }
    }
    same(
        now.get("nodeAffinity"),
        At::root(&renamed).get("nodeAffinity"),
    )
}

fn warn(new: At<'_>, warnings: &mut Vec<String>) {
    let annotations = new.path(&["metadata", "annotations"]);
    for (annotation, text) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
        ),
        (
            MOUNT_OPTIONS,
            r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
        ),
    ] {
        if annotations.entry(annotation).is_some() {
            warnings.push(format!("metadata.annotations[{annotation}]: {text}"));
        }
    }
    let spec = new.get("spec");
    if spec.get("persistentVolumeReclaimPolicy").str() == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, \
             the recommended approach is to use dynamic provisioning."
                .to_string(),
        );
    }
    let terms = spec.path(&["nodeAffinity", "required", "nodeSelectorTerms"]);
    for (i, term) in terms.items().enumerate() {
        for (j, expression) in term.get("matchExpressions").items().enumerate() {
            let key = expression.get("key").str();
            if let Some(advice) = deprecated_label(key) {
                warnings.push(format!(
                    "spec.nodeAffinity.required.nodeSelectorTerms[{i}].matchExpressions[{j}].key: \
                     {key} is {advice}"
                ));
            }
        }
    }
    for (field, told, text) in [
        (
            "cephfs",
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            "scaleIO",
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            "rbd",
            "rbd",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
    ] {
        if spec.has(field) {
            warnings.push(format!("spec.{told}: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create, prepared_update, warnings};

    const GOOD: &str = r#"{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"a"},"spec":{
        "accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"persistentVolumeReclaimPolicy":"Retain",
        "storageClassName":"fast","volumeMode":"Filesystem","nodeAffinity":{"required":{"nodeSelectorTerms":[
            {"matchExpressions":[{"key":"beta.kubernetes.io/os","operator":"In","values":["linux"]}]}]}},
        "csi":{"driver":"a.b","volumeHandle":"h"}}}"#;

    #[test]
    fn wrong_fields_are_told() {
        cases(
            &PERSISTENT_VOLUME,
            GOOD,
            &[
                Case::create(
                    "spec accessModes",
                    "-",
                    &["spec.accessModes: Required value"],
                ),
                Case::create(
                    "spec accessModes 0",
                    r#""x""#,
                    &[
                        r#"spec.accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
                    ],
                ),
                Case::create(
                    "spec accessModes 1",
                    r#""ReadWriteOncePod""#,
                    &[
                        "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                    ],
                ),
                Case::create(
                    "spec capacity",
                    r#"{"storage":"0"}"#,
                    &[r#"spec.capacity[storage]: Invalid value: "0": must be greater than zero"#],
                ),
                Case::create(
                    "spec capacity cpu",
                    r#""1""#,
                    &[
                        r#"spec.capacity: Unsupported value: {"storage":"1Gi","cpu":"1"}: supported values: "storage""#,
                    ],
                ),
                Case::create(
                    "spec persistentVolumeReclaimPolicy",
                    r#""x""#,
                    &[
                        r#"spec.persistentVolumeReclaimPolicy: Unsupported value: "x": supported values: "Delete", "Recycle", "Retain""#,
                    ],
                ),
                Case::create(
                    "spec csi",
                    "-",
                    &["spec: Required value: must specify a volume type"],
                ),
                Case::create(
                    "spec csi volumeHandle",
                    r#""""#,
                    &["spec.csi.volumeHandle: Required value"],
                ),
                Case::create(
                    "spec nfs",
                    r#"{"server":"a","path":"/"}"#,
                    &["spec.csi: Forbidden: may not specify more than 1 volume type"],
                ),
                Case::create(
                    "spec volumeMode",
                    r#""x""#,
                    &[
                        r#"spec.volumeMode: Unsupported value: "x": supported values: "Block", "Filesystem""#,
                    ],
                ),
                Case::create(
                    "spec storageClassName",
                    r#""_""#,
                    &[
                        "spec.storageClassName: Invalid value: \"_\": a lowercase RFC 1123 subdomain…",
                    ],
                ),
                Case::create(
                    "metadata annotations volume.beta.kubernetes.io/mount-options",
                    r#""x""#,
                    &[
                        "metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options for this volume type",
                    ],
                ),
                Case::update(
                    "spec csi volumeHandle",
                    r#""i""#,
                    &[
                        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n…",
                    ],
                ),
                Case::update(
                    "spec csi controllerExpandSecretRef",
                    r#"{"name":"a","namespace":"b"}"#,
                    &[],
                ),
                Case::update(
                    "spec volumeMode",
                    r#""Block""#,
                    &[r#"volumeMode: Invalid value: "Block": field is immutable"#],
                ),
                Case::update(
                    "spec nodeAffinity required nodeSelectorTerms 0 matchExpressions 0 key",
                    r#""kubernetes.io/os""#,
                    &[],
                ),
                Case::update(
                    "spec nodeAffinity required nodeSelectorTerms 0 matchExpressions 0 key",
                    r#""x""#,
                    &["nodeAffinity: Invalid value: …"],
                ),
            ],
        );
        let local = GOOD.replace(
            r#""csi":{"driver":"a.b","volumeHandle":"h"}"#,
            r#""local":{"path":"/a"}"#,
        );
        cases(
            &PERSISTENT_VOLUME,
            &local,
            &[
                Case::create(
                    "spec nodeAffinity",
                    "-",
                    &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
                ),
                Case::create(
                    "spec local path",
                    r#""/../a""#,
                    &[r#"spec.local.path: Invalid value: "/../a": must not contain '..'"#],
                ),
            ],
        );
    }

    #[test]
    fn phases_have_times() {
        let made = prepared_create(&PERSISTENT_VOLUME, "{}");
        let now = r#"{"phase":"Pending","lastPhaseTransitionTime":"2024-01-02T03:04:05Z"}"#;
        assert_eq!(made.root().get("status").unwrap().to_string(), now);
        let old = r#"{"spec":{},"status":{"phase":"A","lastPhaseTransitionTime":"x"}}"#;
        let time = |new: &str| {
            let made = prepared_update(&PERSISTENT_VOLUME, "status", new, old);
            made.root()
                .text(&["status", "lastPhaseTransitionTime"])
                .to_string()
        };
        assert_eq!(time(r#"{"status":{"phase":"A"}}"#), "x");
        assert_eq!(time(r#"{"status":{"phase":"B"}}"#), "2024-01-02T03:04:05Z");
        assert_eq!(
            time(r#"{"status":{"phase":"B","lastPhaseTransitionTime":"y"}}"#),
            "y"
        );
    }

    #[test]
    fn old_sources_are_warned_of() {
        let old = r#"{"spec":{"persistentVolumeReclaimPolicy":"Recycle","rbd":{}}}"#;
        assert_eq!(warnings(&PERSISTENT_VOLUME, old, None).len(), 2);
    }
}

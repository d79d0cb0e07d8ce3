//! Volumes, their classes and drivers, and devices.

use api::doc::Node;

use super::Printer;
use super::view::{Cell, Col, View, at, joined, text};

pub(super) const PRINTERS: &[Printer] = &[
    (
        "",
        "PersistentVolume",
        &[
            Col::Name,
            Col::Of(|view| view.at("spec.capacity").map_or("0".into(), storage)),
            Col::Of(|view| access_modes(view, "spec.accessModes")),
            Col::Text("spec.persistentVolumeReclaimPolicy"),
            Col::Of(phase),
            Col::Of(|view| match view.at("spec.claimRef") {
                Some(claim) => {
                    format!("{}/{}", text(claim, "namespace"), text(claim, "name")).into()
                }
                None => "".into(),
            }),
            Col::Of(class),
            Col::Or("spec.volumeAttributesClassName", "<unset>"),
            Col::Text("status.reason"),
            Col::Age,
            Col::Or("spec.volumeMode", "<unset>"),
        ],
    ),
    (
        "",
        "PersistentVolumeClaim",
        &[
            Col::Name,
            Col::Of(phase),
            Col::Text("spec.volumeName"),
            Col::Of(|view| match view.text("spec.volumeName") {
                "" => "".into(),
                _ => view.at("status.capacity").map_or("0".into(), storage),
            }),
            Col::Of(|view| match view.text("spec.volumeName") {
                "" => "".into(),
                _ => access_modes(view, "status.accessModes"),
            }),
            Col::Of(class),
            Col::Or("spec.volumeAttributesClassName", "<unset>"),
            Col::Age,
            Col::Or("spec.volumeMode", "<unset>"),
        ],
    ),
    (
        "storage.k8s.io",
        "StorageClass",
        &[
            Col::Of(|view| {
                let annotation = |name| annotation(view, name);
                let is_default = annotation("storageclass.kubernetes.io/is-default-class")
                    == Some("true")
                    || annotation("storageclass.beta.kubernetes.io/is-default-class")
                        == Some("true");
                let suffix = if is_default { " (default)" } else { "" };
                format!("{}{suffix}", view.name()).into()
            }),
            Col::Text("provisioner"),
            Col::Or("reclaimPolicy", "Delete"),
            Col::Or("volumeBindingMode", "Immediate"),
            Col::Bool("allowVolumeExpansion", false),
            Col::Age,
        ],
    ),
    (
        "storage.k8s.io",
        "VolumeAttributesClass",
        &[Col::Name, Col::Text("driverName"), Col::Age],
    ),
    (
        "storage.k8s.io",
        "VolumeAttachment",
        &[
            Col::Name,
            Col::Text("spec.attacher"),
            Col::Text("spec.source.persistentVolumeName"),
            Col::Text("spec.nodeName"),
            Col::Bool("status.attached", false),
            Col::Age,
        ],
    ),
    (
        "storage.k8s.io",
        "CSINode",
        &[Col::Name, Col::Count("spec.drivers"), Col::Age],
    ),
    (
        "storage.k8s.io",
        "CSIDriver",
        &[
            Col::Name,
            Col::Bool("spec.attachRequired", true),
            Col::Bool("spec.podInfoOnMount", false),
            Col::Bool("spec.storageCapacity", false),
            Col::Of(|view| match view.at("spec.tokenRequests") {
                Some(requests) => {
                    let audiences = requests.children().map(|one| text(one, "audience"));
                    joined(audiences, ",").into()
                }
                None => "<unset>".into(),
            }),
            Col::Bool("spec.requiresRepublish", false),
            Col::Of(|view| {
                let modes = view
                    .items("spec.volumeLifecycleModes")
                    .filter_map(Node::as_str);
                match joined(modes, ",") {
                    none if none.is_empty() => "<none>".into(),
                    modes => modes.into(),
                }
            }),
            Col::Age,
        ],
    ),
    (
        "storage.k8s.io",
        "CSIStorageCapacity",
        &[
            Col::Name,
            Col::Text("storageClassName"),
            Col::Or("capacity", "<unset>"),
        ],
    ),
    ("resource.k8s.io", "DeviceClass", &[Col::Name, Col::Age]),
    (
        "resource.k8s.io",
        "ResourceClaimTemplate",
        &[Col::Name, Col::Age],
    ),
    (
        "resource.k8s.io",
        "ResourceClaim",
        &[Col::Name, Col::Of(claim_state), Col::Age],
    ),
    (
        "resource.k8s.io",
        "ResourceSlice",
        &[
            Col::Name,
            Col::Text("spec.nodeName"),
            Col::Text("spec.driver"),
            Col::Text("spec.pool.name"),
            Col::Age,
        ],
    ),
];

/// The storage among resources.
fn storage(resources: Node<'_>) -> Cell {
    at(resources, "storage")
        .and_then(Node::as_str)
        .unwrap_or("0")
        .into()
}

fn access_modes(view: &View<'_>, path: &str) -> Cell {
    let has = |mode: &str| view.items(path).any(|one| one.as_str() == Some(mode));
    let shown = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown = shown.iter().filter(|(mode, _)| has(mode));
    joined(shown.map(|(_, short)| *short), ",").into()
}

fn phase(view: &View<'_>) -> Cell {
    if view.is_deleted() {
        return "Terminating".into();
    }
    view.text("status.phase").into()
}

fn class(view: &View<'_>) -> Cell {
    annotation(view, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| view.text("spec.storageClassName"))
        .into()
}

fn annotation<'d>(view: &View<'d>, name: &str) -> Option<&'d str> {
    view.at("metadata.annotations")?.get(name)?.as_str()
}

fn claim_state(view: &View<'_>) -> Cell {
    let is_allocated = view.at("status.allocation").is_some();
    let states = [
        ("deleted", view.is_deleted()),
        ("pending", !is_allocated && !view.is_deleted()),
        ("allocated", is_allocated),
        (
            "reserved",
            is_allocated && view.count("status.reservedFor") > 0,
        ),
    ];
    let held = states.iter().filter(|(_, holds)| *holds);
    joined(held.map(|(name, _)| *name), ",").into()
}

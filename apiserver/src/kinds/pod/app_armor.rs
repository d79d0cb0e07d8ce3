//! AppArmor profiles once stood in annotations: those of new pods become fields.

use api::doc::{Doc, Id, New};

use crate::validation::At;
use crate::validation::pod::walk;

/// What an annotation's key starts with; a container's name follows.
pub(crate) const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCALHOST: &str = "localhost/";

/// Type and name of the profile that an annotation names, if it is right.
pub(crate) fn profile(annotation: &str) -> Option<(&'static str, Option<&str>)> {
    match annotation {
        "unconfined" => Some(("Unconfined", None)),
        "runtime/default" => Some(("RuntimeDefault", None)),
        other => {
            let name = other.strip_prefix(LOCALHOST)?;
            (!name.is_empty()).then_some(("Localhost", Some(name)))
        }
    }
}

/// Whether a field says the same as an annotation.
pub(crate) fn is_same(field: At<'_>, profile: (&str, Option<&str>)) -> bool {
    let name = field.get("localhostProfile");
    field.get("type").str() == profile.0 && name.is_set().then(|| name.str()) == profile.1
}

/// Sets the field of each container that has an annotation and no field, unless the pod's own field
/// says the same.
pub(super) fn annotations_to_fields(pod: &mut Doc) {
    const PATH_BYTES_MAX: usize = 4095;
    let root = At::root(pod);
    let spec = root.get("spec");
    if walk::os(spec) == "windows" {
        return;
    }
    let of_pod = spec.path(&["securityContext", "appArmorProfile"]);
    let mut found: Vec<(Id, &'static str, Option<String>)> = Vec::new();
    for container in walk::all_containers(spec) {
        if container.get("securityContext").has("appArmorProfile") {
            continue;
        }
        let key = format!("{PREFIX}{}", container.get("name").str());
        let annotation = root.path(&["metadata", "annotations"]).entry(&key);
        let Some(profile) = annotation.and_then(|at| self::profile(at.str())) else {
            continue;
        };
        let is_good = profile
            .1
            .is_none_or(|name| name.trim() == name && name.len() <= PATH_BYTES_MAX);
        if is_good && !is_same(of_pod, profile) {
            let name = profile.1.map(ToString::to_string);
            found.extend(container.node().map(|node| (node.id(), profile.0, name)));
        }
    }
    for (container, kind, name) in found {
        let context = pod.object(container, "securityContext");
        let field = pod.set(context, "appArmorProfile", New::Object);
        pod.set(field, "type", kind);
        if let Some(name) = name {
            pod.set(field, "localhostProfile", &name);
        }
    }
}

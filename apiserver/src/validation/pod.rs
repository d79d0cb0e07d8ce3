//! Pods and templates of pods: what every kind that makes pods judges them with.
//!
//! - [`validate_create`], [`validate_update`] and their likes: pods themselves
//! - [`template`] and [`options`]: pods in other kinds
//! - [`containers`], [`volumes`], [`scheduling`], …: the parts of a spec, for whoever has such parts

pub(crate) mod annotations;
pub(crate) mod containers;
pub(crate) mod env;
pub(crate) mod handlers;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod projected;
pub(crate) mod resize;
pub(crate) mod resources;
pub(crate) mod scheduling;
pub(crate) mod security;
pub(crate) mod spec;
pub(crate) mod status;
pub(crate) mod template;
pub(crate) mod unified_diff;
pub(crate) mod update;
pub(crate) mod volumes;
pub(crate) mod walk;
pub(crate) mod warnings;
pub(crate) mod windows;

use api::doc::Doc;
use api::field::FieldError;

use super::{At, Errors};
use options::Options;

pub use options::Options as PodOptions;
pub use template::validate as validate_template;

/// What is wrong with a new pod, but for its metadata.
pub fn validate_create(new: &Doc) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let pod = At::root(new);
    let spec = pod.get("spec");
    whole(&mut errors, pod, &Options::for_pod(None));
    errors.deny(spec.get("ephemeralContainers"), "cannot be set on create");
    if !spec.get("schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.deny(spec.get("nodeName"), detail);
    }
    annotations::agree_with_fields(&mut errors, pod.get("metadata"), spec);
    errors.into_vec()
}

/// What is wrong with a changed pod.
pub fn validate_update(new: &Doc, old: &Doc) -> Vec<FieldError> {
    let mut errors = Errors::default();
    update::validate(&mut errors, At::root(new), At::root(old));
    errors.into_vec()
}

/// What is wrong with a changed status.
pub fn validate_status_update(new: &Doc, old: &Doc) -> Vec<FieldError> {
    let mut errors = Errors::default();
    status::validate(&mut errors, At::root(new), At::root(old));
    errors.into_vec()
}

/// What is wrong with changed ephemeral containers.
pub fn validate_ephemeral_containers_update(new: &Doc, old: &Doc) -> Vec<FieldError> {
    update::ephemeral_containers(At::root(new), At::root(old)).into_vec()
}

/// What is wrong with changed resources.
pub fn validate_resize(new: &Doc, old: &Doc) -> Vec<FieldError> {
    resize::validate(At::root(new), At::root(old)).into_vec()
}

/// What is wrong with a Binding of a pod to a node.
pub fn validate_binding(binding: &Doc) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let target = At::root(binding).get("target");
    if !["", "Node"].contains(&target.get("kind").str()) {
        errors.not_supported(target.get("kind"), &["Node", "<empty>"]);
    }
    errors.need(target.get("name"), "");
    errors.into_vec()
}

/// A pod that stands for itself: what holds at any time.
pub(crate) fn whole(errors: &mut Errors, pod: At<'_>, options: &Options) {
    let (meta, spec) = (pod.get("metadata"), pod.get("spec"));
    annotations::validate(errors, meta.get("annotations"), spec, options);
    spec::validate(errors, spec, Some(meta), options);
    if spec.get("serviceAccountName").is_empty() {
        for volume in spec.get("volumes").items() {
            for source in volume.path(&["projected", "sources"]).items() {
                if source.has("serviceAccountToken") {
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(source.get("serviceAccountToken"), detail);
                }
            }
        }
    }
    for container in spec.get("containers").items() {
        containers::image_is_trimmed(errors, container);
    }
    for container in spec.get("initContainers").items() {
        containers::image_is_trimmed(errors, container);
    }
}

#[cfg(test)]
mod tests;

//! Volume attachments.

use api::field::FieldError;

use crate::kinds::core::persistent_volume::inline_spec;
use crate::kinds::facts::{Facts, Status, subdomain};
use crate::validation::pod::volumes::csi_driver;
use crate::validation::{At, Errors};

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;
const ONE_SOURCE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";

/// What is particular about attachments.
pub const VOLUME_ATTACHMENT: Facts = Facts {
    unconditional: false,
    status: Status::Own(r#"{"attached":false}"#),
    status_keeps_metadata: true,
    create: |_, new, errors| attachment(errors, new),
    update: |_, new, old, errors| changed(errors, new, old),
    sub_update: |_, new, old, errors| changed(errors, new, old),
    ..Facts::PLAIN
};

fn changed(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    attachment(errors, new);
    errors.immutable(new.get("spec"), old.get("spec"));
}

fn attachment(errors: &mut Errors, new: At<'_>) {
    let (spec, status) = (new.get("spec"), new.get("status"));
    csi_driver(errors, spec.get("attacher"));
    let source = spec.get("source");
    let (inline, volume) = (
        source.get("inlineVolumeSpec"),
        source.get("persistentVolumeName"),
    );
    match (inline.is_set(), volume.is_set()) {
        (false, false) => errors.required(source, ONE_SOURCE),
        (true, true) => errors.forbidden(source, ONE_SOURCE),
        (false, true) => {
            errors.need(volume, "must specify non empty persistentVolumeName");
        }
        (true, false) => inline_spec(errors, inline),
    }
    errors.names(spec.get("nodeName"), subdomain);
    let metadata = status.get("attachmentMetadata");
    let bytes: usize = metadata
        .items()
        .map(|entry| entry.key().len() + entry.str().len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        errors.too_long(metadata, METADATA_BYTES_MAX);
    }
    for field in ["attachError", "detachError"] {
        failure(errors, status.get(field));
    }
    if volume.is_set() {
        for complaint in subdomain(volume.str()) {
            let path = "spec.source.persistentVolumeName";
            errors.push(FieldError::invalid(path, volume.str(), complaint));
        }
    }
}

/// Upstream tells a larger bound for messages than it has.
fn failure(errors: &mut Errors, at: At<'_>) {
    if at.get("message").str().len() > MESSAGE_BYTES_MAX {
        errors.too_long(at.get("message"), METADATA_BYTES_MAX);
    }
    if at.get("errorCode").int() < 0 {
        let detail = "must be between 0 and 2147483647, inclusive";
        errors.invalid(at.get("errorCode"), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_attachments_are_told() {
        let good = r#"{"apiVersion":"storage.k8s.io/v1","kind":"VolumeAttachment","metadata":{"name":"a"},
            "spec":{"attacher":"x.y","nodeName":"n","source":{"persistentVolumeName":"v"}},"status":{"attached":true}}"#;
        cases(
            &VOLUME_ATTACHMENT,
            good,
            &[
                Case::create("spec attacher", r#""""#, &["spec.attacher: Required value"]),
                Case::create(
                    "spec source",
                    "{}",
                    &[
                        "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                    ],
                ),
                Case::create(
                    "spec source persistentVolumeName",
                    r#""""#,
                    &[
                        "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
                        "spec.source.persistentVolumeName: Invalid value: \"\": a lowercase…",
                    ],
                ),
                Case::create(
                    "spec source",
                    r#"{"inlineVolumeSpec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1"},"csi":{"driver":"x.y","volumeHandle":"h"}}}"#,
                    &[
                        "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
                    ],
                ),
                Case::update("spec nodeName", r#""m""#, &["spec: Invalid value: …"]),
                Case::sub(
                    "status",
                    "status attachError",
                    r#"{"errorCode":-1}"#,
                    &[
                        "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                    ],
                ),
            ],
        );
    }
}

//! Templates of pods, as workloads have them.

use super::options::Options;
use super::{annotations, spec};
use crate::validation::{At, Errors, labels};

/// A PodTemplateSpec. Upstream tells of its labels and annotations as if they stood outside of its
/// metadata.
pub fn validate(errors: &mut Errors, template: At<'_>, options: &Options) {
    let meta = template.get("metadata");
    let pod = template.get("spec");
    metadata(errors, template, options);
    spec::validate(errors, pod, None, options);
    annotations::agree_with_fields(errors, meta, pod);
    let detail = "ephemeral containers not allowed in pod template";
    errors.deny(pod.get("ephemeralContainers"), detail);
}

/// Its labels and annotations.
pub(crate) fn metadata(errors: &mut Errors, template: At<'_>, options: &Options) {
    let meta = template.get("metadata");
    errors.renamed("metadata.labels", "labels", |errors| {
        labels::labels(errors, meta.get("labels"));
    });
    errors.renamed("metadata.annotations", "annotations", |errors| {
        labels::annotations(errors, meta.get("annotations"));
        let annotations = meta.get("annotations");
        annotations::validate(errors, annotations, template.get("spec"), options);
    });
}

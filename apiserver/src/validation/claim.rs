//! Specs of PersistentVolumeClaims: of claims themselves, of StatefulSets' and of volumes that are
//! made with their pod.

use api::field::FieldError;
use api::name;

use super::errors::NOT_POSITIVE;
use super::{At, Errors, labels};
use crate::registry::strategy::{dns_label, dns_subdomain};
use crate::validation::pod::walk::quantity;

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// What a claim may have because its old one has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Values that no label can have, in the selector.
    pub any_selector_value: bool,
    /// API groups that are no domain, in what the volume is filled from.
    pub any_group: bool,
}

impl Options {
    /// For a claim that changes.
    pub fn of_old(spec: At<'_>) -> Self {
        let has_bad_group = |field| {
            let group = spec.get(field).get("apiGroup").str();
            !group.is_empty() && !name::dns_1123_subdomain(group).is_empty()
        };
        Self {
            any_selector_value: labels::has_bad_value(spec.get("selector")),
            any_group: has_bad_group("dataSource") || has_bad_group("dataSourceRef"),
        }
    }
}

/// A PersistentVolumeClaimSpec.
pub fn spec(errors: &mut Errors, at: At<'_>, options: Options) {
    access_modes(errors, at.get("accessModes"));
    if at.has("selector") {
        labels::selector(errors, at.get("selector"), options.any_selector_value);
    }
    storage(errors, at.get("resources"));
    for class in ["storageClassName", "volumeAttributesClassName"] {
        if !at.get(class).is_empty() {
            errors.names(at.get(class), |text| dns_subdomain(text, false));
        }
    }
    if at.has("volumeMode") {
        errors.one_of(at.get("volumeMode"), &["Block", "Filesystem"]);
    }
    data_sources(errors, at, options);
}

fn access_modes(errors: &mut Errors, list: At<'_>) {
    errors.need(list, "at least 1 access mode is required");
    for mode in list
        .items()
        .filter(|mode| !ACCESS_MODES.contains(&mode.str()))
    {
        let path = errors.path(list);
        errors.push(FieldError::not_supported(path, mode.str(), &ACCESS_MODES));
    }
    let is_other = |mode: At<'_>| ACCESS_MODES[..3].contains(&mode.str());
    if list.contains("ReadWriteOncePod") && list.items().any(is_other) {
        errors.forbidden(list, "may not use ReadWriteOncePod with other access modes");
    }
}

/// Upstream leaves `requests` out of the path.
fn storage(errors: &mut Errors, resources: At<'_>) {
    let Some(request) = resources.get("requests").entry("storage") else {
        let path = format!("{}[storage]", errors.path(resources));
        return errors.push(FieldError::required(path, ""));
    };
    if quantity(request).signum() <= 0 {
        errors.invalid_below(resources, "[storage]", request.str(), NOT_POSITIVE);
    }
}

fn data_sources(errors: &mut Errors, at: At<'_>, options: Options) {
    let (source, reference) = (at.get("dataSource"), at.get("dataSourceRef"));
    for filled_from in [source, reference].into_iter().filter(|at| at.is_set()) {
        data_source(errors, filled_from, options);
    }
    if !source.is_set() || !reference.is_set() {
        return;
    }
    let path = format!("{}.dataSource", errors.path(at));
    let differs = ["apiGroup", "kind", "name"]
        .iter()
        .any(|field| source.get(field).str() != reference.get(field).str());
    if !reference.get("namespace").is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.invalid_value(at, path.as_str(), detail);
    } else if differs {
        errors.invalid_value(at, path.as_str(), "must match dataSourceRef");
    }
}

fn data_source(errors: &mut Errors, at: At<'_>, options: Options) {
    const CLAIM: &str = "PersistentVolumeClaim";
    errors.need(at.get("name"), "");
    errors.need(at.get("kind"), "");
    let group = at.get("apiGroup");
    if group.is_empty() && at.get("kind").str() != CLAIM {
        let detail = format!("must be '{CLAIM}' when referencing the default apiGroup");
        errors.invalid_value(at, at.get("kind").str(), detail);
    }
    if !group.is_empty() && !options.any_group {
        errors.names(group, name::dns_1123_subdomain);
    }
    if !at.get("namespace").is_empty() {
        errors.names(at.get("namespace"), |text| dns_label(text, false));
    }
}

/// A PersistentVolumeClaimTemplate: of its metadata only labels and annotations are used.
pub(crate) fn template(errors: &mut Errors, at: At<'_>) {
    let meta = at.get("metadata");
    labels::annotations(errors, meta.get("annotations"));
    labels::labels(errors, meta.get("labels"));
    for field in meta.items() {
        let is_used = ["annotations", "labels"].contains(&field.key());
        if !is_used && !field.is_empty() {
            errors.forbidden(field, "cannot be set");
        }
    }
    spec(errors, at.get("spec"), Options::of_old(at.get("spec")));
}

/// Fractions of bytes, which cannot be had.
pub(crate) fn warnings(path: &str, spec: At<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for list in ["requests", "limits"] {
        if let Some(at) = spec.path(&["resources", list]).entry("storage")
            && quantity(at).millis() % 1000 != 0
        {
            warnings.push(format!(
                "{path}.resources.{list}[storage]: fractional byte value {:?} is invalid, must be an \
                 integer",
                at.str()
            ));
        }
    }
    warnings
}

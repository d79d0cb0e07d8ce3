//! `metadata` of every object, as the generic path validates it around what its strategy does.

use api::doc::Doc;
use api::field::{FieldError, FieldErrorKind};
use api::name;

use super::{At, Errors, labels};
use crate::registry::Strategy;
use crate::registry::strategy::dns_label;

const MANAGER_BYTES_MAX: usize = 128;
const SUBRESOURCE_BYTES_MAX: usize = 256;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What is fixed of a resource's metadata.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Its objects stand in namespaces.
    pub namespaced: bool,
    /// It is built in: finalizers without a domain must be upstream's.
    pub built_in: bool,
}

/// What is wrong with a new object's metadata. Its name must have been generated already.
pub fn validate_create(doc: &Doc, scope: Scope, strategy: &dyn Strategy) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let meta = At::root(doc).get("metadata");
    let prefix = meta.get("generateName");
    if !prefix.is_empty() {
        errors.names(prefix, |text| strategy.name_errors(text, true));
    }
    if errors.need(meta.get("name"), "name or generateName is required") {
        errors.names(meta.get("name"), |text| strategy.name_errors(text, false));
    }
    common(&mut errors, meta, scope);
    errors.into_vec()
}

/// What is wrong with a changed object's metadata. Upstream finds some of it twice; this tells it
/// once.
pub fn validate_update(new: &Doc, old: &Doc, scope: Scope) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (meta, before) = (At::root(new).get("metadata"), At::root(old).get("metadata"));
    if errors.need(meta.get("name"), "name or generateName is required") {
        errors.names(meta.get("name"), name::path_segment);
    }
    common(&mut errors, meta, scope);
    if before.has("deletionTimestamp") {
        no_new_finalizers(
            &mut errors,
            meta.get("finalizers"),
            before.get("finalizers"),
        );
    }
    if meta.get("resourceVersion").is_empty() {
        errors.invalid(
            meta.get("resourceVersion"),
            "must be specified for an update",
        );
    }
    if meta.get("generation").int() < before.get("generation").int() {
        errors.invalid(meta.get("generation"), "must not be decremented");
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        errors.immutable(meta.get(field), before.get(field));
    }
    errors.into_vec()
}

fn common(errors: &mut Errors, meta: At<'_>, scope: Scope) {
    let namespace = meta.get("namespace");
    if !scope.namespaced {
        errors.deny(namespace, "not allowed on this type");
    } else if errors.need(namespace, "") {
        errors.names(namespace, |text| dns_label(text, false));
    }
    errors.non_negative(meta.get("generation"));
    labels::labels(errors, meta.get("labels"));
    labels::annotations(errors, meta.get("annotations"));
    owner_references(errors, meta.get("ownerReferences"));
    finalizers(errors, meta.get("finalizers"), scope.built_in);
    managed_fields(errors, meta.get("managedFields"));
}

/// Upstream gives no index here.
fn owner_references(errors: &mut Errors, at: At<'_>) {
    let mut controller: Option<String> = None;
    for owner in at.items() {
        let api_version = owner.get("apiVersion").str();
        let version = api_version.rsplit('/').next().unwrap_or_default();
        // Upstream understands no more than one slash.
        let is_version = !version.is_empty() && api_version.matches('/').count() < 2;
        for (is_good, field, complaint) in [
            (is_version, "apiVersion", "version must not be empty"),
            (!owner.get("kind").is_empty(), "kind", "must not be empty"),
            (!owner.get("name").is_empty(), "name", "must not be empty"),
            (!owner.get("uid").is_empty(), "uid", "must not be empty"),
        ] {
            if !is_good {
                let value = owner.get(field).str();
                errors.invalid_below(at, &format!(".{field}"), value, complaint);
            }
        }
        if (api_version, owner.get("kind").str()) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.invalid_value(at, owner.nearest().0, detail);
        }
        if owner.get("controller").flag() {
            let this = format!("{}/{}", owner.get("kind").str(), owner.get("name").str());
            match &controller {
                None => controller = Some(this),
                Some(first) => errors.invalid(
                    at,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in \
                         references for {first} and {this}"
                    ),
                ),
            }
        }
    }
}

fn finalizers(errors: &mut Errors, at: At<'_>, built_in: bool) {
    for finalizer in at.items() {
        for complaint in name::label_key(finalizer.str()) {
            errors.invalid_value(at, finalizer.str(), complaint);
        }
    }
    if at.contains(ORPHAN) && at.contains(FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.invalid(at, detail);
    }
    if !built_in {
        return;
    }
    for finalizer in at.items() {
        let text = finalizer.str();
        if !text.contains('/') && !["kubernetes", ORPHAN, FOREGROUND].contains(&text) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(finalizer, detail);
        }
    }
}

fn no_new_finalizers(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let mut extra: Vec<&str> = new
        .items()
        .map(At::str)
        .filter(|text| !old.contains(text))
        .collect();
    extra.sort_unstable();
    extra.dedup();
    if !extra.is_empty() {
        let listed = format!("{extra:?}");
        let listed = listed.trim_start_matches('[').trim_end_matches(']');
        errors.forbidden(
            new,
            format!(
                "no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{{{listed}}}"
            ),
        );
    }
}

fn managed_fields(errors: &mut Errors, at: At<'_>) {
    for entry in at.items() {
        if !["Apply", "Update"].contains(&entry.get("operation").str()) {
            errors.invalid(entry.get("operation"), "must be `Apply` or `Update`");
        }
        if !["", "FieldsV1"].contains(&entry.get("fieldsType").str()) {
            errors.invalid(entry.get("fieldsType"), "must be `FieldsV1`");
        }
        let manager = entry.get("manager");
        if let Some(error) = field_manager("manager", manager.str()).into_iter().next() {
            let field = errors.path(manager);
            errors.push(FieldError { field, ..error });
        }
        if entry.get("subresource").str().len() > SUBRESOURCE_BYTES_MAX {
            errors.too_long(entry.get("subresource"), SUBRESOURCE_BYTES_MAX);
        }
    }
}

/// What is wrong with a manager's name, in a field of this name: also that of a request's
/// `fieldManager`.
pub fn field_manager(field: &str, manager: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if manager.len() > MANAGER_BYTES_MAX {
        errors.push(FieldError::too_long(field, MANAGER_BYTES_MAX));
    }
    for (at, letter) in manager.char_indices() {
        if letter.is_control() || (letter.is_whitespace() && letter != ' ') {
            let code = u32::from(letter);
            errors.push(FieldError {
                kind: FieldErrorKind::Invalid,
                field: field.to_string(),
                value: Some(format!("{manager:?}")),
                detail: format!("invalid character U+{code:04X} (at position {at})"),
            });
        }
    }
    errors
}

#[cfg(test)]
mod tests;

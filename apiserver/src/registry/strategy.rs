//! What a kind adds to the generic path. Most kinds need only to prepare and to validate.

use api::doc::Doc;
use api::field::FieldError;
use api::name;

use crate::storage::{Along, Objects};
use crate::user::User;

/// The request on whose behalf a strategy is asked.
pub struct Cx<'a> {
    /// Who asks.
    pub user: &'a User,
    /// Empty for the object itself, else such as `status`.
    pub subresource: &'a str,
    /// The time of the request as metav1.Time writes it.
    pub now: &'a str,
    /// The objects that are stored, as fresh as the watch cache.
    pub objects: &'a dyn Objects,
}

/// What tells one kind from another on the generic path. Documents conform to their type, have
/// their defaults and are of the storage version. `metadata` is prepared and validated by the
/// generic path, but for what [`Self::name_errors`] says.
///
/// With a subresource of the object's own kind (`status`, `resize`, `ephemeralcontainers`,
/// `approval`, …) the update functions are called as well: `cx.subresource` says which it is.
pub trait Strategy: Send + Sync {
    /// What is wrong with a name; with `is_prefix` it is a `generateName`.
    fn name_errors(&self, name: &str, is_prefix: bool) -> Vec<String> {
        dns_subdomain(name, is_prefix)
    }

    /// PUT of what does not exist creates it.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// PUT needs no resourceVersion.
    fn updates_unconditionally(&self) -> bool {
        true
    }

    /// What a decoder of the kind does beyond its type: folds fields that are only written.
    fn decoded(&self, _new: &mut Doc) {}

    /// Sets what clients may not: status, generation, whatever starts in a fixed state.
    fn prepare_create(&self, _cx: &Cx<'_>, _new: &mut Doc) {}

    /// Puts back what this endpoint may not change, and counts generations.
    fn prepare_update(&self, _cx: &Cx<'_>, _new: &mut Doc, _old: &Doc) {}

    /// What is wrong with a new object.
    fn validate_create(&self, _cx: &Cx<'_>, _new: &Doc) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with a changed object.
    fn validate_update(&self, _cx: &Cx<'_>, _new: &Doc, _old: &Doc) -> Vec<FieldError> {
        Vec::new()
    }

    /// What clients should know about a new or changed object (`old` is none when it is new).
    fn warnings(&self, _cx: &Cx<'_>, _new: &Doc, _old: Option<&Doc>) -> Vec<String> {
        Vec::new()
    }

    /// Paths that an endpoint resets, which nobody comes to own through it in server-side apply.
    fn reset_fields(&self, _subresource: &str) -> &'static [&'static [&'static str]] {
        &[]
    }

    /// Deletion of this kind leaves it a time to end. Given the seconds that the client asks for, the
    /// seconds that it gets: 0 deletes at once. None: the kind knows no graceful deletion.
    fn grace_seconds(&self, _object: &Doc, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Something besides `metadata.finalizers` keeps an object that is being deleted.
    fn holds(&self, _object: &Doc) -> bool {
        false
    }

    /// An object that is held begins its end: what else changes with its deletionTimestamp.
    fn mark_deleted(&self, _object: &mut Doc) {}

    /// What else the transaction does that writes the object: `old` is none when it is new, `new` when it
    /// goes.
    fn accompany(&self, _new: Option<&Doc>, _old: Option<&Doc>, _along: &mut Along) {}
}

/// Names of most kinds.
pub fn dns_subdomain(value: &str, is_prefix: bool) -> Vec<String> {
    name::dns_1123_subdomain(&masked(value, is_prefix))
}

/// Names of services, namespaces and the like.
pub fn dns_label(value: &str, is_prefix: bool) -> Vec<String> {
    name::dns_1123_label(&masked(value, is_prefix))
}

/// A prefix may end in a dash, since something follows it.
pub fn masked(value: &str, is_prefix: bool) -> String {
    match value.strip_suffix('-') {
        Some(start) if is_prefix && value.len() > 1 => format!("{start}a"),
        _ => value.to_string(),
    }
}

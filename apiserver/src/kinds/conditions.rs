//! metav1.Condition, which many statuses have a list of.

use std::collections::HashSet;

use api::doc::{Doc, Id, New, Node};
use api::name;

use crate::validation::{At, Errors};

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;
const REASON: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";

/// The condition of a type in an object's status; made if there is none.
pub fn of_type(doc: &mut Doc, kind: &str) -> Id {
    let top = doc.top();
    let status = doc.object(top, "status");
    let list = doc.list(status, "conditions");
    let mut known = doc.node(list).children();
    let found = known.find(|one| one.text(&["type"]) == kind).map(Node::id);
    found.unwrap_or_else(|| {
        let condition = doc.push(list, New::Object);
        doc.set(condition, "type", kind);
        condition
    })
}

/// A list of conditions.
pub fn validate(errors: &mut Errors, list: At<'_>) {
    let mut seen = HashSet::new();
    for condition in list.items() {
        if !seen.insert(condition.get("type").str()) {
            errors.duplicate(condition.get("type"));
        }
        errors.names(condition.get("type"), name::label_key);
        errors.one_of(condition.get("status"), &["False", "True", "Unknown"]);
        if condition.get("observedGeneration").int() < 0 {
            errors.invalid(
                condition.get("observedGeneration"),
                "must be greater than or equal to zero",
            );
        }
        if !condition.has("lastTransitionTime") {
            errors.required(condition.get("lastTransitionTime"), "");
        }
        let reason = condition.get("reason");
        if errors.need(reason, "") {
            if !is_reason(reason.str()) {
                errors.invalid(
                    reason,
                    format!(
                        "a condition reason must start with alphabetic character, optionally \
                         followed by a string of alphanumeric characters or '_,:', and must end \
                         with an alphanumeric character or '_' (e.g. 'my_name', or 'MY_NAME', or \
                         'MyName', or 'ReasonA,ReasonB', or 'ReasonA:ReasonB', regex used for \
                         validation is '{REASON}')"
                    ),
                );
            }
            if reason.str().len() > REASON_BYTES_MAX {
                errors.too_long(reason, REASON_BYTES_MAX);
            }
        }
        if condition.get("message").str().len() > MESSAGE_BYTES_MAX {
            errors.too_long(condition.get("message"), MESSAGE_BYTES_MAX);
        }
    }
}

fn is_reason(reason: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte);
    reason.starts_with(|first: char| first.is_ascii_alphabetic())
        && reason.bytes().all(is_inner)
        && !reason.ends_with([',', ':'])
}

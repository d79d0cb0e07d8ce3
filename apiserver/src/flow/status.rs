//! Tells in the status of FlowSchemas whether their priority level exists.

use std::sync::Arc;

use api::doc::{Doc, Node};

use super::{GROUP, SCHEMAS};
use crate::instance::Api;
use crate::kinds::conditions;
use crate::registry::change::Replace;
use crate::registry::{Outcome, Own};

/// A status that is to be written, if it is not as it should be.
pub(super) fn wanted(doc: &Doc, level_exists: bool, now: &str) -> Option<Doc> {
    let level = doc
        .root()
        .text(&["spec", "priorityLevelConfiguration", "name"]);
    let start = "This FlowSchema references the PriorityLevelConfiguration object named";
    let (status, reason, message) = match level_exists {
        true => ("False", "Found", format!("{start} {level:?} and it exists")),
        false => (
            "True",
            "NotFound",
            format!("{start} {level:?} but there is no such object"),
        ),
    };
    let want = [
        ("status", status),
        ("reason", reason),
        ("message", &*message),
    ];
    let conditions = doc.root().path(&["status", "conditions"]);
    let mut conditions = conditions.into_iter().flat_map(Node::children);
    let found = conditions.find(|one| one.text(&["type"]) == "Dangling");
    if found.is_some_and(|one| want.iter().all(|(key, text)| one.text(&[key]) == *text)) {
        return None;
    }
    let mut doc = doc.clone();
    let condition = conditions::of_type(&mut doc, "Dangling");
    for (key, text) in want {
        doc.set(condition, key, text);
    }
    doc.set(condition, "lastTransitionTime", now);
    Some(doc)
}

/// Writes the status of a schema. That somebody else was faster is fine: what is left to do shows
/// when the schema is looked at again.
pub(super) async fn write(api: &Arc<Api>, doc: Doc) -> Outcome<()> {
    let name = doc.root().text(&["metadata", "name"]);
    let own = Own::new(api, "update", (GROUP, "v1", SCHEMAS), ("", name))?.part("status");
    match own.call(api)?.update(&Replace(doc)).await {
        Err(status) if !matches!(status.reason, "Conflict" | "NotFound") => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_when_it_is_wrong() {
        let schema = Doc::literal(
            r#"{"metadata":{"name":"a"},"spec":{"priorityLevelConfiguration":{"name":"l"}}}"#,
        );
        let found = wanted(&schema, true, "2026-01-01T00:00:00Z").unwrap();
        assert!(wanted(&found, true, "2026-02-01T00:00:00Z").is_none());
        let gone = wanted(&found, false, "2026-02-01T00:00:00Z").unwrap();
        let want = r#""conditions":[{"type":"Dangling","status":"True","reason":"NotFound","message":"This FlowSchema references the PriorityLevelConfiguration object named \"l\" but there is no such object","lastTransitionTime":"2026-02-01T00:00:00Z"}]"#;
        assert!(gone.to_string().contains(want), "{gone}");
    }
}

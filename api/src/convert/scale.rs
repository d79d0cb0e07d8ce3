//! The scale of deployments, replica sets, stateful sets and replication controllers.

use super::settle;
use crate::doc::{Doc, New, Node};
use crate::schema;
use crate::selector::LabelSelector;

/// What of an object's metadata its scale has as well.
const METADATA: [&str; 5] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
];

/// The scale of an object: an `autoscaling/v1` Scale.
///
/// # Errors
///
/// If the object's selector is none, in upstream's words.
pub fn to_scale(doc: &Doc) -> Result<Doc, String> {
    let object = doc.root();
    let selector = match object.path(&["spec", "selector"]) {
        None => String::new(),
        Some(labels) if object.text(&["kind"]) == "ReplicationController" => set_text(labels),
        Some(selector) if selector.is_null() => String::new(),
        Some(selector) => LabelSelector::from_node(selector)?.to_string(),
    };
    let mut scale = Doc::new();
    scale.set_path(&["kind"], "Scale");
    scale.set_path(&["apiVersion"], "autoscaling/v1");
    for field in METADATA {
        if let Some(value) = object.path(&["metadata", field]).and_then(Node::as_str) {
            scale.set_path(&["metadata", field], value);
        }
    }
    for part in ["spec", "status"] {
        let replicas = object.path(&[part, "replicas"]).and_then(Node::as_i64);
        scale.set_path(&[part, "replicas"], replicas.unwrap_or_default());
    }
    scale.set_path(&["status", "selector"], &selector);
    if let Some(schema) = schema::kind("autoscaling", "v1", "Scale") {
        settle(&mut scale, schema);
    }
    Ok(scale)
}

/// Gives an object, which conforms to its version, the replicas that a scale asks for. The scale's
/// resourceVersion becomes the object's: it is what the client has seen.
pub fn from_scale(doc: &mut Doc, scale: &Doc) {
    let asked = scale.root();
    let replicas = asked.path(&["spec", "replicas"]).and_then(Node::as_i64);
    doc.set_path(&["spec", "replicas"], replicas.unwrap_or_default());
    let version = asked.text(&["metadata", "resourceVersion"]);
    doc.set_path(&["metadata", "resourceVersion"], New::Str(version));
    let object = doc.root();
    let api_version = object.text(&["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(schema) = schema::kind(group, version, object.text(&["kind"])) {
        settle(doc, schema);
    }
}

/// Labels as a selector.
fn set_text(labels: Node<'_>) -> String {
    let pair = |label: Node<'_>| format!("{}={}", label.key(), label.as_str().unwrap_or_default());
    labels.children().map(pair).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_a_scale() {
        let meta = r#""metadata":{"name":"x","namespace":"n","uid":"u","resourceVersion":"7","creationTimestamp":"2026-03-01T11:00:00Z""#;
        let scale = |spec: &str, selector: &str| {
            format!(
                r#"{{"kind":"Scale","apiVersion":"autoscaling/v1",{meta}}},"spec":{spec},"status":{{"replicas":2{selector}}}}}"#
            )
        };
        for (kind, spec, want) in [
            (
                r#""kind":"Deployment","apiVersion":"apps/v1""#,
                r#"{"replicas":3,"selector":{"matchLabels":{"b":"2"},"matchExpressions":[{"key":"a","operator":"In","values":["y","x"]}]}}"#,
                scale(r#"{"replicas":3}"#, r#","selector":"a in (x,y),b=2""#),
            ),
            (
                r#""kind":"StatefulSet","apiVersion":"apps/v1""#,
                r#"{"replicas":0,"selector":null}"#,
                scale("{}", ""),
            ),
            (
                r#""kind":"ReplicationController","apiVersion":"v1""#,
                r#"{"replicas":1,"selector":{"a":"1","b":"2"}}"#,
                scale(r#"{"replicas":1}"#, r#","selector":"a=1,b=2""#),
            ),
        ] {
            let text = format!(
                r#"{{{kind},{meta},"labels":{{"l":"v"}},"generation":3}},"spec":{spec},"status":{{"replicas":2}}}}"#
            );
            assert_eq!(to_scale(&Doc::literal(&text)).unwrap().to_string(), want);
        }
    }

    #[test]
    fn a_scale_changes_replicas_and_nothing_else() {
        let object = |version: &str, replicas: &str| {
            Doc::literal(&format!(
                r#"{{"kind":"ReplicaSet","apiVersion":"apps/v1","metadata":{{"name":"x"{version},"labels":{{"a":"b"}}}},"spec":{{{replicas}"selector":null,"template":{{"metadata":{{}},"spec":{{"containers":null}}}}}},"status":{{"replicas":0}}}}"#
            ))
        };
        for (scale, version, replicas) in [
            (
                r#"{"metadata":{"resourceVersion":"9"},"spec":{"replicas":5}}"#,
                r#","resourceVersion":"9""#,
                r#""replicas":5,"#,
            ),
            (r#"{"metadata":{},"spec":{}}"#, "", r#""replicas":0,"#),
        ] {
            for before in [
                object(r#","resourceVersion":"7""#, ""),
                object("", r#""replicas":1,"#),
            ] {
                let mut doc = before;
                from_scale(&mut doc, &Doc::literal(scale));
                let want = object(version, replicas);
                assert_eq!(doc.to_string(), want.to_string(), "{scale}");
            }
        }
    }
}

//! Scales: another view of an object, with owners of its own.

use api::doc::{Doc, Node};

use crate::testing::Server;

const WEB: &str = "/apis/apps/v1/namespaces/n/deployments/web";
const DEPLOYMENT: &str = r#"{"metadata":{"name":"web"},"spec":{"replicas":2,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;

fn replicas(doc: &Doc) -> Option<i64> {
    doc.root()
        .path(&["spec", "replicas"])
        .and_then(Node::as_i64)
}

/// Managers with the subresources through which they own something.
fn owners(doc: &Doc) -> Vec<String> {
    let entries = doc.root().path(&["metadata", "managedFields"]);
    let entries = entries.into_iter().flat_map(Node::children);
    let mut owners: Vec<String> = entries
        .map(|entry| {
            format!(
                "{} {}",
                entry.text(&["manager"]),
                entry.text(&["subresource"])
            )
        })
        .collect();
    owners.sort();
    owners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_scales_owns_the_replicas() {
    let server = Server::start().await;
    server.namespace("n").await;
    let all = "/apis/apps/v1/namespaces/n/deployments?fieldManager=maker";
    server.create(all, DEPLOYMENT).await.ok();
    let scale = server.ask("GET", &format!("{WEB}/scale"), "").await.ok();
    assert_eq!(
        (replicas(&scale), scale.root().text(&["status", "selector"])),
        (Some(2), "a=b")
    );
    assert_eq!(owners(&scale), ["maker "]);
    let path = format!("{WEB}/scale?fieldManager=scaler");
    let scaled = server
        .ask("PATCH", &path, r#"{"spec":{"replicas":5}}"#)
        .await
        .ok();
    assert_eq!(
        (replicas(&scaled), owners(&scaled)),
        (Some(5), vec!["scaler scale".to_string()])
    );
    let object = server.ask("GET", WEB, "").await.ok();
    assert_eq!(replicas(&object), Some(5));
    assert_eq!(owners(&object), ["maker ", "scaler scale"]);
    // A scale that was read before the last change is stale.
    let stale = server.ask("PUT", &path, &scale.to_string()).await;
    assert_eq!(stale.refusal().0, 409);
    let wrong = server
        .ask("PATCH", &path, r#"{"spec":{"replicas":-1}}"#)
        .await;
    let (code, message) = wrong.refusal();
    assert!(
        code == 422 && message.contains("must be greater than or equal to 0"),
        "{message}"
    );
}

//! A node among others, and what it must not do.

use crate::testing::{Answer, Server};
use crate::user::{NODES, User};

fn refused(answer: &Answer, want: &str) {
    let (code, message) = answer.refusal();
    let (_, why) = message
        .split_once(" is forbidden: ")
        .unwrap_or(("", message));
    assert_eq!((code, why), (403, want));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_write_about_themselves() {
    let server = Server::start().await;
    server.namespace("a").await;
    server.namespace("kube-node-lease").await;
    let node = User::new("system:node:n", &[NODES]);
    let ask = |method: &'static str, path: &'static str, body: &'static str| {
        let (server, node) = (&server, &node);
        async move { server.ask_as(node, method, path, body).await }
    };
    let nodes = "/api/v1/nodes";
    refused(
        &ask("POST", nodes, r#"{"metadata":{"name":"m"}}"#).await,
        r#"node "n" is not allowed to modify node "m""#,
    );
    refused(
        &ask(
            "POST",
            nodes,
            r#"{"metadata":{"name":"n","labels":{"k8s.io/x":"y"}}}"#,
        )
        .await,
        r#"node "n" is not allowed to set the following labels: k8s.io/x"#,
    );
    ask(
        "POST",
        nodes,
        r#"{"metadata":{"name":"n","labels":{"x":"y"}}}"#,
    )
    .await
    .ok();
    refused(
        &ask("PATCH", "/api/v1/nodes/n", r#"{"spec":{"taints":null}}"#).await,
        r#"node "n" is not allowed to modify taints"#,
    );
    refused(
        &ask(
            "PATCH",
            "/api/v1/nodes/n",
            r#"{"metadata":{"labels":{"kubernetes.io/x":"y"}}}"#,
        )
        .await,
        "is not allowed to modify labels: kubernetes.io/x",
    );
    let pods = "/api/v1/namespaces/a/pods";
    refused(
        &ask(
            "POST",
            pods,
            r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
        )
        .await,
        r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n" can only create mirror pods"#,
    );
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"m","containers":[{"name":"c","image":"i"}]}}"#;
    server.create(pods, pod).await.ok();
    refused(
        &ask("DELETE", "/api/v1/namespaces/a/pods/p", "").await,
        r#"node "n" can only delete pods with spec.nodeName set to itself"#,
    );
    refused(
        &ask(
            "PATCH",
            "/api/v1/namespaces/a/pods/p/status",
            r#"{"status":{"phase":"Running"}}"#,
        )
        .await,
        r#"node "n" can only update pod status for pods with spec.nodeName set to itself"#,
    );
    let lease = r#"{"metadata":{"name":"m"},"spec":{}}"#;
    refused(
        &ask(
            "POST",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            lease,
        )
        .await,
        "can only access node lease with the same name as the requesting node",
    );
    refused(
        &ask(
            "POST",
            "/apis/coordination.k8s.io/v1/namespaces/a/leases",
            lease,
        )
        .await,
        r#"can only access leases in the "kube-node-lease" system namespace"#,
    );
    let other = User::new("alice", &["devs"]);
    let taken = server
        .ask_as(&other, "POST", nodes, r#"{"metadata":{"name":"m"}}"#)
        .await;
    taken.ok();
}

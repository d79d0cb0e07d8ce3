//! Quotas on a whole server, with many writers at once.

use crate::testing::{Server, until};
use crate::validation::At;

/// A quota as its controller leaves it: limits and what is used now, all in its status.
async fn quota(server: &Server, name: &str, spec: &str, used: &str) {
    let path = "/api/v1/namespaces/a/resourcequotas";
    let body = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#);
    server.create(path, &body).await.ok();
    let spec = api::doc::Doc::literal(spec);
    let hard = spec.root().get("hard").unwrap();
    let status = format!(r#"{{"status":{{"hard":{hard},"used":{used}}}}}"#);
    server
        .ask("PATCH", &format!("{path}/{name}/status"), &status)
        .await
        .ok();
}

async fn used(server: &Server, name: &str) -> String {
    let path = format!("/api/v1/namespaces/a/resourcequotas/{name}");
    let doc = server.ask("GET", &path, "").await.ok();
    At::root(&doc)
        .path(&["status", "used"])
        .node()
        .unwrap()
        .to_string()
}

fn pod(name: &str, resources: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"name":"c","image":"i","resources":{resources}}}]}}}}"#
    )
}

const PODS: &str = "/api/v1/namespaces/a/pods";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_uses_what_it_may() {
    let server = Server::start().await;
    server.namespace("a").await;
    let spec = r#"{"hard":{"pods":"1","requests.cpu":"1"}}"#;
    quota(&server, "q", spec, r#"{"pods":"0","requests.cpu":"0"}"#).await;
    let refused = server.create(PODS, &pod("p", "{}")).await;
    let want = "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c";
    assert_eq!(refused.refusal(), (403, want));
    let small = r#"{"requests":{"cpu":"300m"}}"#;
    server
        .create(&format!("{PODS}?dryRun=All"), &pod("p", small))
        .await
        .ok();
    assert_eq!(
        used(&server, "q").await,
        r#"{"pods":"0","requests.cpu":"0"}"#
    );
    server.create(PODS, &pod("p", small)).await.ok();
    assert_eq!(
        used(&server, "q").await,
        r#"{"pods":"1","requests.cpu":"300m"}"#
    );
    let refused = server.create(PODS, &pod("p2", small)).await;
    let want = "pods \"p2\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: \
                pods=1";
    assert_eq!(refused.refusal(), (403, want));
    let again = server.create(PODS, &pod("p", small)).await;
    assert!(matches!(again.code, 403 | 409), "{}", again.doc);
    assert_eq!(
        used(&server, "q").await,
        r#"{"pods":"1","requests.cpu":"300m"}"#
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_counted_as_its_quotas_say() {
    let server = Server::start().await;
    server.namespace("a").await;
    let spec = r#"{"hard":{"count/deployments.apps":"1","secrets":"1","services.nodeports":"1",
        "gold.storageclass.storage.k8s.io/requests.storage":"5Gi"}}"#;
    let zero = r#"{"count/deployments.apps":"0","secrets":"0","services.nodeports":"0",
        "gold.storageclass.storage.k8s.io/requests.storage":"0"}"#;
    quota(&server, "q", spec, zero).await;
    quota(
        &server,
        "best",
        r#"{"hard":{"pods":"1"},"scopes":["BestEffort"]}"#,
        r#"{"pods":"0"}"#,
    )
    .await;
    let of = |name: &str| format!("/api/v1/namespaces/a/{name}");
    let secret = |name: &str| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
    server.create(&of("secrets"), &secret("a")).await.ok();
    let refused = server.create(&of("secrets"), &secret("b")).await;
    let want = "secrets \"b\" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=1, \
                limited: secrets=1";
    assert_eq!(refused.refusal(), (403, want));
    let claim = r#"{"metadata":{"name":"c"},"spec":{"storageClassName":"gold","accessModes":["ReadWriteOnce"],
        "resources":{"requests":{"storage":"9Gi"}}}}"#;
    let refused = server.create(&of("persistentvolumeclaims"), claim).await;
    let want = "persistentvolumeclaims \"c\" is forbidden: exceeded quota: q, requested: \
        gold.storageclass.storage.k8s.io/requests.storage=9Gi, used: \
        gold.storageclass.storage.k8s.io/requests.storage=0, limited: \
        gold.storageclass.storage.k8s.io/requests.storage=5Gi";
    assert_eq!(refused.refusal(), (403, want));
    server.create(PODS, &pod("best", "{}")).await.ok();
    server
        .create(PODS, &pod("other", r#"{"requests":{"cpu":"1"}}"#))
        .await
        .ok();
    assert_eq!(used(&server, "best").await, r#"{"pods":"1"}"#);
}

/// Many at once, on two servers: as many come through as may, and none is refused for another reason
/// than the quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_neither_overshoot_nor_starve() {
    const MOST: usize = 40;
    let one = Server::start().await;
    one.namespace("a").await;
    quota(
        &one,
        "q",
        r#"{"hard":{"count/configmaps":"40"}}"#,
        r#"{"count/configmaps":"0"}"#,
    )
    .await;
    let two = one.another("two").await;
    until("both servers know the quota", || async {
        let found = two.api.objects().get("", "resourcequotas", "a", "q");
        found.is_some_and(|quota| At::root(&quota.doc()).path(&["status", "used"]).is_set())
    })
    .await;
    let path = "/api/v1/namespaces/a/configmaps";
    let writes = (0..60).map(|at| {
        let server = if at % 2 == 0 { &one } else { &two };
        async move {
            let body = format!(r#"{{"metadata":{{"name":"m{at}"}}}}"#);
            let answer = server.create(path, &body).await;
            let message = answer.doc.root().text(&["message"]).to_string();
            assert!(
                answer.code == 201 || message.contains("exceeded quota: q"),
                "{message}"
            );
            answer.code == 201
        }
    });
    let done = futures::future::join_all(writes).await;
    assert_eq!(done.iter().filter(|made| **made).count(), MOST);
    assert_eq!(used(&one, "q").await, r#"{"count/configmaps":"40"}"#);
}

//! The two controllers against a real API server.

use client::bootstrap_token::{CLUSTER_INFO, CLUSTER_INFO_NAMESPACE, SECRET_NAMESPACE, Token};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::json;

use crate::manager::CONTROLLERS;
use crate::testing::{Cluster, eventually, gone};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_sign_until_they_end_and_are_deleted_then() {
    let cluster = Cluster::start().await;
    let rows: Vec<_> = CONTROLLERS
        .iter()
        .filter(|row| ["bootstrap-signer", "token-cleaner"].contains(&row.identity))
        .copied()
        .collect();
    cluster.run(&rows);
    let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
    let create = async |id: &str, expiration: &str| {
        let secret = json!({
            "metadata": {"name": format!("bootstrap-token-{id}")},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": id,
                "token-secret": token.secret,
                "expiration": expiration,
                "usage-bootstrap-signing": "true",
            },
        });
        let path = "/api/v1/namespaces/kube-system/secrets";
        cluster.server.create(path, &secret.to_string()).await.ok();
    };
    create("abcdef", "").await;
    create("zzzzzz", "2020-01-01T00:00:00Z").await;
    let map = json!({
        "metadata": {"name": CLUSTER_INFO},
        "data": {"kubeconfig": "the cluster", "jws-kubeconfig-zzzzzz": "old"},
    });
    let path = format!("/api/v1/namespaces/{CLUSTER_INFO_NAMESPACE}/configmaps");
    cluster.server.create(&path, &map.to_string()).await.ok();

    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin.clone(), CLUSTER_INFO_NAMESPACE);
    let data = eventually("the config map is signed", async || {
        let data = maps.get(CLUSTER_INFO).await.unwrap().data.unwrap();
        data.contains_key("jws-kubeconfig-abcdef").then_some(data)
    })
    .await;
    assert!(token.has_signed("the cluster", &data["jws-kubeconfig-abcdef"]));
    assert!(!data.contains_key("jws-kubeconfig-zzzzzz"));
    let secrets: Api<Secret> = Api::namespaced(cluster.admin.clone(), SECRET_NAMESPACE);
    gone(&secrets, "bootstrap-token-zzzzzz").await;
    assert!(
        secrets
            .get_opt("bootstrap-token-abcdef")
            .await
            .unwrap()
            .is_some()
    );
}

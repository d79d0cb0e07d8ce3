//! Quotas on a real API server.

use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, PostParams};
use serde_json::Value;

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually};

const ROW: Row = Row::of::<ResourceQuotas>("resourcequota-controller", "resourcequota-controller");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_learns_what_is_used_and_what_is_gone() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("a").await;
    let maps = Api::<core::ConfigMap>::namespaced(cluster.admin.clone(), "a");
    let pods = Api::<core::Pod>::namespaced(cluster.admin.clone(), "a");
    let quotas = Api::<ResourceQuota>::namespaced(cluster.admin.clone(), "a");
    for name in ["m", "n"] {
        let map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "300m"}}}]}});
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(pod).unwrap(),
    )
    .await
    .unwrap();
    cluster.run(&[ROW]);
    let hard = json!({"configmaps": "5", "count/configmaps": "5", "pods": "5", "requests.cpu": "1", "services": "1"});
    let quota =
        serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    let until_used = async |want: Value| {
        eventually(&format!("{want} is used"), || async {
            let status = quotas.get("q").await.unwrap().status.unwrap_or_default();
            (json!(status.used) == want).then_some(())
        })
        .await;
    };
    until_used(json!({"configmaps": "2", "count/configmaps": "2", "pods": "1", "requests.cpu": "300m", "services": "0"})).await;
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("p", &PatchParams::default(), &ended)
        .await
        .unwrap();
    until_used(json!({"configmaps": "1", "count/configmaps": "1", "pods": "0", "requests.cpu": "0", "services": "0"})).await;
}

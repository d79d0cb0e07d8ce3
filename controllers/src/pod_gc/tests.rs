//! Pods that are removed on a real API server.

use k8s_openapi::api::core::v1 as core;
use kube::api::PostParams;

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, gone};

const ROW: Row = Row::of::<PodGc>("pod-garbage-collector-controller", "pod-garbage-collector");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_nodes_that_are_off_are_removed() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("a").await;
    let nodes = Api::<core::Node>::all(cluster.admin.clone());
    let node = json!({"metadata": {"name": "off"}, "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}});
    nodes
        .create(
            &PostParams::default(),
            &serde_json::from_value(node).unwrap(),
        )
        .await
        .unwrap();
    let pods = Api::<core::Pod>::namespaced(cluster.admin.clone(), "a");
    for (name, node) in [("off", json!("off")), ("on", json!("off"))] {
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        pods.create(
            &PostParams::default(),
            &serde_json::from_value(pod).unwrap(),
        )
        .await
        .unwrap();
    }
    // Nobody ends it: its node is off.
    pods.delete("off", &DeleteParams::default()).await.unwrap();
    assert!(
        pods.get("off")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    cluster.run(&[ROW]);
    gone(&pods, "off").await;
    assert!(pods.get_opt("on").await.unwrap().is_some());
}

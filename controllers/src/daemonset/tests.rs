//! DaemonSets against a real API server; the tests are the nodes and the scheduler.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use kube::api::{ListParams, PostParams};

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually, make_ready, pods_of};

const ROWS: &[Row] = &[Row::of::<DaemonSets>(
    "daemonset-controller",
    "daemon-set-controller",
)];

async fn add_node(nodes: &Api<core::Node>, name: &str) {
    let node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    // A new node is tainted until it is ready.
    let patch = json!({"spec": {"taints": null}});
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

async fn settle(sets: &Api<apps::DaemonSet>, pods: &Api<core::Pod>, count: i32) {
    eventually("the set is settled", || async {
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        make_ready(pods, &all).await;
        let set = sets.get("ds").await.unwrap();
        let status = set.status.unwrap_or_default();
        let is_done = status.observed_generation == set.metadata.generation
            && status.desired_number_scheduled == count
            && status.updated_number_scheduled == Some(count)
            && status.number_available == Some(count);
        is_done.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_nodes_and_its_template() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("ns").await;
    cluster.run(ROWS);
    let nodes: Api<core::Node> = Api::all(cluster.admin.clone());
    let sets: Api<apps::DaemonSet> = Api::namespaced(cluster.admin.clone(), "ns");
    let pods: Api<core::Pod> = Api::namespaced(cluster.admin.clone(), "ns");
    add_node(&nodes, "a").await;
    let set = json!({"metadata": {"name": "ds"}, "spec": {
        "selector": {"matchLabels": {"app": "ds"}},
        "template": {"metadata": {"labels": {"app": "ds"}},
                     "spec": {"containers": [{"name": "c", "image": "v1"}]}}}});
    let set: apps::DaemonSet = serde_json::from_value(set).unwrap();
    sets.create(&PostParams::default(), &set).await.unwrap();
    settle(&sets, &pods, 1).await;
    add_node(&nodes, "b").await;
    settle(&sets, &pods, 2).await;
    let patch =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    sets.patch("ds", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    settle(&sets, &pods, 2).await;
    let all = pods_of(&pods, "app=ds", 2).await;
    let image = |pod: &core::Pod| pod.spec.as_ref().unwrap().containers[0].image.clone();
    assert!(all.iter().all(|pod| image(pod).as_deref() == Some("v2")));
    let patch = json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}});
    nodes
        .patch("b", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    pods_of(&pods, "app=ds", 1).await;
}

//! ReplicaSets and ReplicationControllers against a real API server; the tests are the nodes.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually, make_ready, pods_of};

const ROWS: &[Row] = &[
    Row::of::<Replication<ReplicaSet>>("replicaset-controller", "replicaset-controller"),
    Row::of::<Replication<ReplicationController>>(
        "replicationcontroller-controller",
        "replication-controller",
    ),
];

fn object(kind: &str, selector: serde_json::Value, replicas: i32) -> serde_json::Value {
    let api = if kind == "ReplicaSet" {
        "apps/v1"
    } else {
        "v1"
    };
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": selector, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "x"}]}}}})
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.server.namespace("ns").await;
    cluster.run(ROWS);
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_set_keeps_its_pods() {
    let cluster = cluster().await;
    let sets: Api<apps::ReplicaSet> = Api::namespaced(cluster.admin.clone(), "ns");
    let pods: Api<core::Pod> = Api::namespaced(cluster.admin.clone(), "ns");
    // An orphan that it selects is taken, not made again.
    let orphan = json!({"metadata": {"name": "orphan", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let orphan: core::Pod = serde_json::from_value(orphan).unwrap();
    pods.create(&PostParams::default(), &orphan).await.unwrap();
    let set = object("ReplicaSet", json!({"matchLabels": {"app": "web"}}), 3);
    let set: apps::ReplicaSet = serde_json::from_value(set).unwrap();
    sets.create(&PostParams::default(), &set).await.unwrap();
    let all = pods_of(&pods, "app=web", 3).await;
    assert!(
        all.iter()
            .any(|pod| pod.metadata.name.as_deref() == Some("orphan"))
    );
    assert!(all.iter().all(|pod| {
        pod.metadata
            .owner_references
            .as_ref()
            .is_some_and(|all| all.len() == 1)
    }));
    make_ready(&pods, &all).await;
    eventually("all are available", || async {
        let status = sets.get("web").await.unwrap().status.unwrap();
        (status.available_replicas == Some(3) && status.replicas == 3).then_some(())
    })
    .await;
    let events: Api<core::Event> = Api::namespaced(cluster.admin.clone(), "ns");
    eventually("two creations are told", || async {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let created = events
            .iter()
            .filter(|event| event.reason.as_deref() == Some("SuccessfulCreate"));
        (created.count() == 2).then_some(())
    })
    .await;
    // What it selects no more it lets go of, and replaces.
    let patch = json!({"metadata": {"labels": {"app": "other"}}});
    pods.patch("orphan", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    eventually("the pod is free", || async {
        let pod = pods.get("orphan").await.unwrap();
        pod.metadata
            .owner_references
            .unwrap_or_default()
            .is_empty()
            .then_some(())
    })
    .await;
    pods_of(&pods, "app=web", 3).await;
    let patch = json!({"spec": {"replicas": 1}});
    sets.patch("web", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    pods_of(&pods, "app=web", 1).await;
    sets.delete("web", &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_a_failure_that_is_told() {
    let cluster = cluster().await;
    let quota = r#"{"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}}"#;
    cluster
        .server
        .ask("POST", "/api/v1/namespaces/ns/resourcequotas", quota)
        .await
        .ok();
    let status = r#"{"status": {"hard": {"pods": "1"}, "used": {"pods": "0"}}}"#;
    cluster
        .server
        .ask(
            "PATCH",
            "/api/v1/namespaces/ns/resourcequotas/q/status",
            status,
        )
        .await
        .ok();
    let rcs: Api<core::ReplicationController> = Api::namespaced(cluster.admin.clone(), "ns");
    let rc = object("ReplicationController", json!({"app": "web"}), 2);
    let rc: core::ReplicationController = serde_json::from_value(rc).unwrap();
    rcs.create(&PostParams::default(), &rc).await.unwrap();
    let condition = eventually("the failure is told", || async {
        let status = rcs.get("web").await.unwrap().status?;
        status
            .conditions?
            .into_iter()
            .find(|one| one.type_ == "ReplicaFailure")
    })
    .await;
    assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    assert!(condition.message.unwrap().contains("exceeded quota: q"));
    let patch = json!({"spec": {"replicas": 1}});
    rcs.patch("web", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    eventually("the failure is over", || async {
        let status = rcs.get("web").await.unwrap().status?;
        status
            .conditions
            .unwrap_or_default()
            .is_empty()
            .then_some(())
    })
    .await;
}

//! Garbage on a real API server.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually, gone};

const ROW: Row =
    Row::of::<GarbageCollector>("garbage-collector-controller", "generic-garbage-collector");

async fn cluster() -> (Cluster, Api<ConfigMap>) {
    let cluster = Cluster::start().await;
    cluster.server.namespace("a").await;
    cluster.run(&[ROW]);
    let maps = Api::namespaced(cluster.admin.clone(), "a");
    (cluster, maps)
}

async fn make(maps: &Api<ConfigMap>, name: &str, owners: &[&ConfigMap]) -> ConfigMap {
    let owners = owners.iter().map(|owner| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid,
            "blockOwnerDeletion": true})
    });
    make_owned(maps, name, owners.collect()).await
}

async fn make_owned(maps: &Api<ConfigMap>, name: &str, owners: Vec<Value>) -> ConfigMap {
    let map = json!({"metadata": {"name": name, "ownerReferences": owners}});
    maps.create(
        &PostParams::default(),
        &serde_json::from_value(map).unwrap(),
    )
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_go_with_their_owner_or_stay_as_orphans() {
    let (_cluster, maps) = cluster().await;
    let owner = make(&maps, "owner", &[]).await;
    let child = make(&maps, "child", &[&owner]).await;
    make(&maps, "grandchild", &[&child]).await;
    maps.delete("owner", &DeleteParams::background())
        .await
        .unwrap();
    gone(&maps, "grandchild").await;
    gone(&maps, "child").await;

    let owner = make(&maps, "owner", &[]).await;
    make(&maps, "child", &[&owner]).await;
    maps.delete("owner", &DeleteParams::orphan()).await.unwrap();
    gone(&maps, "owner").await;
    let child = maps.get("child").await.unwrap();
    assert!(child.metadata.owner_references.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_foreground_the_owner_goes_last_and_cycles_end() {
    let (_cluster, maps) = cluster().await;
    let owner = make(&maps, "owner", &[]).await;
    make(&maps, "child", &[&owner]).await;
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    let patch = |patch: Value| kube::api::Patch::Merge(patch);
    maps.patch("child", &Default::default(), &patch(held))
        .await
        .unwrap();
    maps.delete("owner", &DeleteParams::foreground())
        .await
        .unwrap();
    eventually("the child is deleted", || async {
        maps.get("child").await.unwrap().metadata.deletion_timestamp
    })
    .await;
    assert!(
        maps.get_opt("owner").await.unwrap().is_some(),
        "it waits for the child"
    );
    maps.patch(
        "child",
        &Default::default(),
        &patch(json!({"metadata": {"finalizers": null}})),
    )
    .await
    .unwrap();
    gone(&maps, "owner").await;

    let one = make(&maps, "one", &[]).await;
    let two = make(&maps, "two", &[&one]).await;
    let three = make(&maps, "three", &[&two]).await;
    let circle = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "three",
        "uid": three.metadata.uid, "blockOwnerDeletion": true}]}});
    maps.patch("one", &Default::default(), &patch(circle))
        .await
        .unwrap();
    maps.delete("one", &DeleteParams::foreground())
        .await
        .unwrap();
    for name in ["one", "two", "three"] {
        gone(&maps, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_are_who_they_are_and_not_who_has_their_name() {
    let (cluster, maps) = cluster().await;
    let owner = make(&maps, "owner", &[]).await;
    make_owned(
        &maps,
        "lost",
        vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "another"})],
    )
    .await;
    gone(&maps, "lost").await;
    make_owned(&maps, "half", vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "nobody"}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}),
    ])
    .await;
    eventually("the owner that is none is removed", || async {
        let owners = maps
            .get("half")
            .await
            .unwrap()
            .metadata
            .owner_references
            .unwrap();
        (owners.len() == 1).then_some(())
    })
    .await;
    // An unknown kind holds an object: it may be served later.
    make_owned(
        &maps,
        "unknown",
        vec![json!({"apiVersion": "x.example/v1", "kind": "X", "name": "x", "uid": "x"})],
    )
    .await;
    // The cluster's own objects may own what is in a namespace.
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(cluster.admin.clone());
    let node: k8s_openapi::api::core::v1::Node =
        serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    let node = nodes.create(&PostParams::default(), &node).await.unwrap();
    make_owned(
        &maps,
        "of-node",
        vec![json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": node.metadata.uid})],
    )
    .await;
    nodes.delete("n", &DeleteParams::default()).await.unwrap();
    gone(&maps, "of-node").await;
    assert!(maps.get_opt("unknown").await.unwrap().is_some());
}

//! StatefulSets against a real API server; the tests are the nodes.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use kube::api::ListParams;

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually, make_ready};

const ROWS: &[Row] = &[Row::of::<StatefulSets>(
    "statefulset-controller",
    "statefulset-controller",
)];

/// Makes pods ready until the set is as wanted; pods come and go one by one.
async fn settle(sets: &Api<apps::StatefulSet>, pods: &Api<core::Pod>, replicas: i32) {
    eventually("the set is settled", || async {
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        make_ready(pods, &all).await;
        let set = sets.get("db").await.unwrap();
        let status = set.status.unwrap_or_default();
        let is_done = status.observed_generation == set.metadata.generation
            && status.replicas == replicas
            && status.available_replicas == Some(replicas)
            && status.updated_replicas.unwrap_or(0) == replicas
            && status.current_revision == status.update_revision
            && all.len() == usize::try_from(replicas).unwrap();
        is_done.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_grows_renews_and_shrinks() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("ns").await;
    cluster.run(ROWS);
    let sets: Api<apps::StatefulSet> = Api::namespaced(cluster.admin.clone(), "ns");
    let pods: Api<core::Pod> = Api::namespaced(cluster.admin.clone(), "ns");
    let claims: Api<core::PersistentVolumeClaim> = Api::namespaced(cluster.admin.clone(), "ns");
    let set = json!({"metadata": {"name": "db"}, "spec": {
        "replicas": 2, "serviceName": "svc", "selector": {"matchLabels": {"app": "db"}},
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Retain"},
        "template": {"metadata": {"labels": {"app": "db"}},
                     "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}});
    let set: apps::StatefulSet = serde_json::from_value(set).unwrap();
    sets.create(&PostParams::default(), &set).await.unwrap();
    settle(&sets, &pods, 2).await;
    let first = pods.get("db-0").await.unwrap();
    assert_eq!(first.spec.unwrap().hostname.as_deref(), Some("db-0"));
    assert_eq!(
        claims
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    let patch =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    sets.patch("db", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    settle(&sets, &pods, 2).await;
    let renewed = pods.get("db-0").await.unwrap();
    assert_ne!(renewed.metadata.uid, first.metadata.uid);
    assert_eq!(
        renewed.spec.unwrap().containers[0].image.as_deref(),
        Some("v2")
    );
    let patch = json!({"spec": {"replicas": 1}});
    sets.patch("db", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    settle(&sets, &pods, 1).await;
    let claim = claims.get("data-db-1").await.unwrap();
    let owners = claim.metadata.owner_references.unwrap();
    assert_eq!(
        (owners[0].kind.as_str(), owners[0].name.as_str()),
        ("Pod", "db-1")
    );
    let revisions: Api<apps::ControllerRevision> = Api::namespaced(cluster.admin.clone(), "ns");
    assert_eq!(
        revisions
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
}

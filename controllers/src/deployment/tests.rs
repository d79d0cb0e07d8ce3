//! Deployments and ReplicaSets together against a real API server; the tests are the nodes.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use kube::api::ListParams;

use super::*;
use crate::controller::Row;
use crate::replicaset::Replication;
use crate::testing::{Cluster, eventually, make_ready, pods_of};

const ROWS: &[Row] = &[
    Row::of::<Deployments>("deployment-controller", "deployment-controller"),
    Row::of::<Replication<ReplicaSet>>("replicaset-controller", "replicaset-controller"),
];

struct Story {
    _cluster: Cluster,
    deployments: Api<apps::Deployment>,
    sets: Api<apps::ReplicaSet>,
    pods: Api<core::Pod>,
}

impl Story {
    async fn new(strategy: Value) -> Self {
        let cluster = Cluster::start().await;
        cluster.server.namespace("ns").await;
        cluster.run(ROWS);
        let client = || cluster.admin.clone();
        let story = Self {
            deployments: Api::namespaced(client(), "ns"),
            sets: Api::namespaced(client(), "ns"),
            pods: Api::namespaced(client(), "ns"),
            _cluster: cluster,
        };
        let web = json!({"metadata": {"name": "web", "annotations": {"note": "1"}}, "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "template": {"metadata": {"labels": {"app": "web"}},
                         "spec": {"containers": [{"name": "c", "image": "v1"}]}}}});
        let web: apps::Deployment = serde_json::from_value(web).unwrap();
        story
            .deployments
            .create(&PostParams::default(), &web)
            .await
            .unwrap();
        story
    }

    async fn patch(&self, patch: Value) {
        let patch = Patch::Strategic(patch);
        self.deployments
            .patch("web", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn image(&self, image: &str) {
        let containers = json!([{"name": "c", "image": image}]);
        self.patch(json!({"spec": {"template": {"spec": {"containers": containers}}}}))
            .await;
    }

    /// Makes pods ready until the rollout is done; never are there more than `most` pods.
    async fn roll(&self, revision: &str, most: usize) {
        let which = ListParams::default().labels("app=web");
        eventually("the rollout is done", || async {
            let all = self.pods.list(&which).await.unwrap().items;
            assert!(all.len() <= most, "{} pods", all.len());
            make_ready(&self.pods, &all).await;
            let web = self.deployments.get("web").await.unwrap();
            let number = web
                .metadata
                .annotations
                .unwrap_or_default()
                .get(plan::REVISION)
                .cloned();
            let status = web.status.unwrap_or_default();
            let is_done = status.observed_generation == web.metadata.generation
                && [
                    status.replicas,
                    status.updated_replicas,
                    status.available_replicas,
                ] == [Some(3); 3];
            (is_done && number.as_deref() == Some(revision)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_and_back() {
    let limits =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let story = Story::new(limits).await;
    story.roll("1", 4).await;
    story.image("v2").await;
    story.roll("2", 4).await;
    let sets = story.sets.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2);
    let note = |set: &apps::ReplicaSet| set.metadata.annotations.as_ref().unwrap()["note"] == "1";
    assert!(sets.iter().all(note));
    story
        .patch(json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": "1"}}}))
        .await;
    story.roll("3", 4).await;
    let web = story.deployments.get("web").await.unwrap();
    let template = web.spec.unwrap().template.spec.unwrap();
    assert_eq!(template.containers[0].image.as_deref(), Some("v1"));
    assert_eq!(
        story
            .sets
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    let conditions = web.status.unwrap().conditions.unwrap();
    let progressing = conditions
        .iter()
        .find(|one| one.type_ == "Progressing")
        .unwrap();
    assert_eq!(
        progressing.reason.as_deref(),
        Some("NewReplicaSetAvailable")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_recreates_never_mixes_templates() {
    let story = Story::new(json!({"type": "Recreate"})).await;
    story.roll("1", 3).await;
    story.image("v2").await;
    story.roll("2", 3).await;
    story.patch(json!({"spec": {"replicas": 0}})).await;
    pods_of(&story.pods, "app=web", 0).await;
}

//! Budgets against a real API server.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Disruption;
use crate::controller::Row;
use crate::testing::{Cluster, eventually};

const ROWS: &[Row] = &[Row::of::<Disruption>(
    "disruption-controller",
    "disruption-controller",
)];

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_counts_its_ready_pods() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("default").await;
    cluster.run(ROWS);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(cluster.admin.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(cluster.admin.clone(), "default");
    let params = PostParams::default();
    budgets
        .create(
            &params,
            &from(
                json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1,
        "selector": {"matchLabels": {"app": "web"}}}}),
            ),
        )
        .await
        .unwrap();
    for name in ["p1", "p2"] {
        pods.create(
            &params,
            &from(json!({"metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "x"}]}})),
        )
        .await
        .unwrap();
        pods.patch_status(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}})),
        )
        .await
        .unwrap();
    }
    let status = eventually("one may be disrupted", || async {
        let status = budgets.get("b").await.unwrap().status?;
        (status.disruptions_allowed == Some(1)).then_some(status)
    })
    .await;
    assert_eq!(
        (
            status.expected_pods,
            status.current_healthy,
            status.desired_healthy
        ),
        (Some(2), Some(2), Some(1))
    );
    let condition = &status.conditions.unwrap()[0];
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_str()),
        ("DisruptionAllowed", "SufficientPods")
    );
}

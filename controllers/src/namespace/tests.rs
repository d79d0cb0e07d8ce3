//! Namespaces that are deleted on a real API server.

use k8s_openapi::api::core::v1 as core;
use kube::api::PostParams;

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually, gone};

const ROW: Row = Row::of::<Namespaces>("namespace-controller", "namespace-controller");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_before_everything_else() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("a").await;
    let pods = Api::<core::Pod>::namespaced(cluster.admin.clone(), "a");
    let maps = Api::<core::ConfigMap>::namespaced(cluster.admin.clone(), "a");
    let namespaces = Api::<Namespace>::all(cluster.admin.clone());
    let pod = json!({"metadata": {"name": "p", "finalizers": ["example.com/held"]},
        "spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 0}});
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(pod).unwrap(),
    )
    .await
    .unwrap();
    let map = json!({"metadata": {"name": "m"}});
    maps.create(
        &PostParams::default(),
        &serde_json::from_value(map).unwrap(),
    )
    .await
    .unwrap();
    cluster.run(&[ROW]);
    namespaces
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    let message = |status: &core::NamespaceStatus, which: &str| {
        let mut conditions = status.conditions.iter().flatten();
        let found = conditions.find(|found| found.type_ == which && found.status == "True");
        found.and_then(|found| found.message.clone())
    };
    let status = eventually("what is left is told", || async {
        let status = namespaces.get("a").await.unwrap().status.unwrap();
        message(&status, "NamespaceContentRemaining")
            .is_some()
            .then_some(status)
    });
    let status = status.await;
    assert_eq!(
        message(&status, "NamespaceContentRemaining").unwrap(),
        "Some resources are remaining: pods. has 1 resource instances"
    );
    assert_eq!(
        message(&status, "NamespaceFinalizersRemaining").unwrap(),
        "Some content in the namespace has finalizers remaining: example.com/held in 1 resource instances"
    );
    assert!(
        maps.get_opt("m").await.unwrap().is_some(),
        "pods come first"
    );
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pods.patch("p", &PatchParams::default(), &free)
        .await
        .unwrap();
    gone(&namespaces, "a").await;
    assert!(maps.get_opt("m").await.unwrap().is_none());
}

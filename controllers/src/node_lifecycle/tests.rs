//! Nodes and their pods, against a real API server.

use k8s_openapi::api::core::v1::{Event, Node as WholeNode, Pod as WholePod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::NodeLifecycle;
use crate::controller::Row;
use crate::node::Node;
use crate::node_ipam::{self, NodeIpam};
use crate::settings::Settings;
use crate::taint::{NO_EXECUTE, NO_SCHEDULE, NOT_READY};
use crate::taint_eviction::TaintEviction;
use crate::testing::{Cluster, eventually};
use crate::ttl::Ttl;

const ROWS: &[Row] = &[
    Row::of::<NodeLifecycle>("node-lifecycle-controller", "node-controller"),
    Row::of::<TaintEviction>("taint-eviction-controller", "node-controller"),
    Row::of::<NodeIpam>("node-ipam-controller", "node-controller"),
    Row::of::<Ttl>("ttl-controller", "ttl-controller"),
];

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_ready_is_tainted_and_left() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("default").await;
    let block = |text| api::values::ip::Cidr::parse(text).unwrap();
    let node_ipam = node_ipam::Settings {
        cluster: vec![(block("10.8.0.0/16"), 24), (block("fd00:8::/48"), 64)],
        services: Vec::new(),
    };
    cluster.run_with(
        ROWS,
        Settings {
            node_ipam,
            ..Settings::default()
        },
    );
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let whole: Api<WholeNode> = Api::all(cluster.admin.clone());
    let pods: Api<WholePod> = Api::namespaced(cluster.admin.clone(), "default");
    let params = PostParams::default();
    for name in ["n1", "n2"] {
        whole
            .create(&params, &from(json!({"metadata": {"name": name}})))
            .await
            .unwrap();
    }
    eventually("they have addresses and a ttl", || async {
        let all = nodes.list(&ListParams::default()).await.unwrap().items;
        let mut blocks: Vec<_> = all
            .iter()
            .flat_map(|node| node.spec.pod_cidrs.clone())
            .collect();
        blocks.sort();
        let have_ttl = all
            .iter()
            .all(|node| node.annotation("node.alpha.kubernetes.io/ttl") == Some("0"));
        (have_ttl
            && blocks
                == [
                    "10.8.0.0/24",
                    "10.8.1.0/24",
                    "fd00:8:0:1::/64",
                    "fd00:8::/64",
                ])
        .then_some(())
    })
    .await;
    let ready = |status: &str| {
        Patch::Merge(
            json!({"status": {"conditions": [{"type": "Ready", "status": status,
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
        )
    };
    for name in ["n1", "n2"] {
        whole
            .patch_status(name, &PatchParams::default(), &ready("True"))
            .await
            .unwrap();
    }
    pods.create(&params, &from(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 0,
        "tolerations": [{"key": NOT_READY, "operator": "Exists", "effect": NO_EXECUTE, "tolerationSeconds": 1}],
        "containers": [{"name": "c", "image": "x"}]}}))).await.unwrap();
    pods.patch_status(
        "p",
        &PatchParams::default(),
        &Patch::Merge(json!({"status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}]}})),
    )
    .await
    .unwrap();
    whole
        .patch_status("n1", &PatchParams::default(), &ready("False"))
        .await
        .unwrap();
    eventually("n1 is tainted", || async {
        let node = nodes.get("n1").await.unwrap();
        (node.has_taint(NOT_READY, NO_SCHEDULE) && node.has_taint(NOT_READY, NO_EXECUTE))
            .then_some(())
    })
    .await;
    eventually("its pod is evicted", || async {
        pods.get_opt("p")
            .await
            .unwrap()
            .is_none_or(|p| p.metadata.deletion_timestamp.is_some())
            .then_some(())
    })
    .await;
    let events: Api<Event> = Api::default_namespaced(cluster.admin.clone());
    eventually("there is an event", || async {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        all.into_iter()
            .find(|e| e.message.as_deref() == Some("Marking for deletion Pod default/p"))
    })
    .await;
    whole
        .patch_status("n1", &PatchParams::default(), &ready("True"))
        .await
        .unwrap();
    eventually("n1 is untainted", || async {
        nodes
            .get("n1")
            .await
            .unwrap()
            .spec
            .taints
            .is_empty()
            .then_some(())
    })
    .await;
}

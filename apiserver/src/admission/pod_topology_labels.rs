//! PodTopologyLabels: pods carry the zone and the region of their node.

use api::doc::Doc;
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::validation::At;

const LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub(super) struct PodTopologyLabels;

#[async_trait]
impl Plugin for PodTopologyLabels {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        _old: Option<&Doc>,
    ) -> Outcome<()> {
        // A binding reaches us as the pod that it changes.
        let is_it = match (attempt.operation, attempt.subresource()) {
            (Operation::Create, "") => true,
            (_, part) => part == "binding",
        };
        let Some(pod) = new.filter(|_| is_it && attempt.resource() == ("", "pods")) else {
            return Ok(());
        };
        let node = At::root(pod).path(&["spec", "nodeName"]).str();
        let Some(node) = attempt.objects().get("", "nodes", "", node) else {
            return Ok(());
        };
        let node = node.doc();
        let labels = At::root(&node).path(&["metadata", "labels"]);
        for key in LABELS {
            if let Some(label) = labels.entry(key) {
                pod.set_path(&["metadata", "labels", key], label.str());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bound_pod_says_where_it_is() {
        let server = Server::start().await;
        server.namespace("a").await;
        let node =
            r#"{"metadata":{"name":"n","labels":{"topology.kubernetes.io/zone":"z","x":"y"}}}"#;
        server.create("/api/v1/nodes", node).await.ok();
        let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
        server.create("/api/v1/namespaces/a/pods", pod).await.ok();
        let binding = r#"{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}"#;
        server
            .create("/api/v1/namespaces/a/pods/p/binding", binding)
            .await
            .ok();
        let pod = server
            .ask("GET", "/api/v1/namespaces/a/pods/p", "")
            .await
            .ok();
        let labels = At::root(&pod).path(&["metadata", "labels"]);
        assert_eq!(
            (labels.len(), labels.entry(LABELS[0]).unwrap().str()),
            (1, "z")
        );
    }
}

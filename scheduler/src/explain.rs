//! Why a pod is pending: what each plugin says of each node, and the scores of those that would
//! do. The same plugins as in a cycle, on what the API holds right now; the reader needs no access
//! to the scheduler's process.

use std::fmt;
use std::sync::Arc;

use kube::api::ListParams;
use kube::{Api, Client};

use crate::cache::Cache;
use crate::config::Config;
use crate::cycle::{Refusal, WhatIf, look};
use crate::filters::{self, dynamic_resources, scheduling_gates};
use crate::framework::{Failure, Plugin};
use crate::profile::Profile;
use crate::scores;
use crate::views::{Node, Pod};

/// What is said of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVerdict {
    /// The node.
    pub node: String,
    /// Which plugins say no, and why.
    pub rejections: Vec<(Plugin, String)>,
    /// What each plugin adds to the node's score, if none says no.
    pub scores: Vec<(Plugin, i64)>,
}

impl NodeVerdict {
    /// The sum of the scores.
    pub fn total(&self) -> i64 {
        self.scores.iter().map(|(_, score)| score).sum()
    }
}

/// Why a pod is where it is, or nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Namespace and name.
    pub pod: String,
    /// What holds for all nodes, if something does.
    pub overall: Option<String>,
    /// Nodes, those that would do first, best first.
    pub nodes: Vec<NodeVerdict>,
}

/// What the plugins of a profile say of a pod.
pub fn explain(cache: &mut Cache, pod: &Arc<Pod>, profile: &Profile) -> Explanation {
    let mut explanation = Explanation {
        pod: format!("{}/{}", pod.namespace(), pod.name()),
        overall: None,
        nodes: Vec::new(),
    };
    let info = cache.prepare(pod, &profile.defaults);
    let snapshot = cache.snapshot();
    let gated = scheduling_gates::gate(pod).filter(|_| profile.has_gates);
    let gated = gated.or_else(|| dynamic_resources::gate(snapshot, pod));
    if gated.is_some() {
        explanation.overall = gated;
        return explanation;
    }
    let state = match look(snapshot, &info, profile) {
        Ok(state) => state,
        Err(Refusal::Rejected(rejection)) => {
            explanation.overall = Some(rejection.message());
            return explanation;
        }
        Err(Refusal::Error(error)) => {
            explanation.overall = Some(error);
            return explanation;
        }
    };
    let mut feasible = Vec::new();
    for id in snapshot.order() {
        let node = snapshot.node(*id);
        let mut rejections = Vec::new();
        for plugin in state.filters() {
            match filters::filter(*plugin, &state, node, &WhatIf::default()) {
                Ok(()) => {}
                Err(Failure::Rejected(no)) => {
                    rejections.extend(
                        no.reasons
                            .iter()
                            .map(|reason| (*plugin, reason.to_string())),
                    );
                }
                Err(Failure::Error(error)) => rejections.push((*plugin, error)),
            }
        }
        if rejections.is_empty() {
            feasible.push(*id);
        } else {
            explanation.nodes.push(NodeVerdict {
                node: node.node.name().to_string(),
                rejections,
                scores: Vec::new(),
            });
        }
    }
    let mut best: Vec<_> = feasible
        .iter()
        .map(|id| NodeVerdict {
            node: snapshot.node(*id).node.name().to_string(),
            rejections: Vec::new(),
            scores: Vec::new(),
        })
        .collect();
    let rated = scores::rated(&state, &feasible);
    for (plugin, weight) in &profile.scores {
        for (verdict, score) in best
            .iter_mut()
            .zip(scores::score(*plugin, &rated).into_iter().flatten())
        {
            verdict.scores.push((*plugin, score * weight));
        }
    }
    best.sort_by_key(|verdict| std::cmp::Reverse(verdict.total()));
    best.append(&mut explanation.nodes);
    explanation.nodes = best;
    explanation
}

/// What would be said of a pod right now. None if there is no such pod, or no profile for it.
///
/// # Errors
///
/// If the API server does not answer.
pub async fn live(
    client: &Client,
    config: &Config,
    namespace: &str,
    name: &str,
) -> Result<Option<Explanation>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Some(pod) = pods.get_opt(name).await? else {
        return Ok(None);
    };
    let Some(profile) = config.profile(&pod.scheduler_name) else {
        return Ok(None);
    };
    let mut cache = Cache::default();
    fill(client, &mut cache).await?;
    let mut pod = pod;
    if pod.is_assigned() {
        cache.remove_pod(pod.uid());
        pod.node_name.clear();
    }
    Ok(Some(explain(&mut cache, &Arc::new(pod), profile)))
}

/// Everything a cycle looks at, as the API holds it.
async fn fill(client: &Client, cache: &mut Cache) -> Result<(), kube::Error> {
    macro_rules! list {
        ($view:ty, $fields:expr) => {{
            let all: Api<$view> = Api::all(client.clone());
            all.list(&ListParams::default().fields($fields))
                .await?
                .items
        }};
        ($view:ty) => {
            list!($view, "")
        };
    }
    for node in list!(Node) {
        cache.set_node(&Arc::new(node));
    }
    let snapshot = cache.snapshot_mut();
    list!(crate::views::Namespace)
        .iter()
        .for_each(|one| snapshot.set_namespace(one));
    let workloads = &mut snapshot.workloads;
    list!(crate::views::Service)
        .iter()
        .for_each(|one| workloads.set_service(one));
    for owner in list!(crate::views::ReplicationController) {
        workloads.set_replication_controller(&owner);
    }
    list!(crate::views::ReplicaSet)
        .iter()
        .for_each(|one| workloads.set_replica_set(one));
    list!(crate::views::StatefulSet)
        .iter()
        .for_each(|one| workloads.set_stateful_set(one));
    let volumes = &mut snapshot.volumes;
    for one in list!(crate::views::PersistentVolumeClaim) {
        volumes.set_claim(&Arc::new(one));
    }
    for one in list!(crate::views::PersistentVolume) {
        volumes.set_volume(&Arc::new(one));
    }
    list!(crate::views::StorageClass)
        .into_iter()
        .for_each(|one| volumes.set_class(&Arc::new(one)));
    list!(crate::views::CsiNode)
        .into_iter()
        .for_each(|one| volumes.set_node(&Arc::new(one)));
    list!(crate::views::CsiDriver)
        .into_iter()
        .for_each(|one| volumes.set_driver(&Arc::new(one)));
    for one in list!(crate::views::CsiStorageCapacity) {
        volumes.set_capacity(&Arc::new(one));
    }
    for one in list!(crate::views::VolumeAttachment) {
        volumes.set_attachment(&Arc::new(one));
    }
    let devices = &mut snapshot.devices;
    for one in list!(k8s_openapi::api::resource::v1::ResourceClaim) {
        devices.set_claim(&Arc::new(one));
    }
    for one in list!(k8s_openapi::api::resource::v1::ResourceSlice) {
        devices.set_slice(&Arc::new(one));
    }
    for one in list!(k8s_openapi::api::resource::v1::DeviceClass) {
        devices.set_class(&Arc::new(one));
    }
    for pod in list!(Pod, "status.phase!=Succeeded,status.phase!=Failed") {
        if pod.is_assigned() {
            cache.set_pod(&Arc::new(pod));
        }
    }
    Ok(())
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.pod)?;
        if let Some(overall) = &self.overall {
            return writeln!(out, "  {overall}");
        }
        for verdict in &self.nodes {
            if verdict.rejections.is_empty() {
                writeln!(
                    out,
                    "  {}: would do, score {}",
                    verdict.node,
                    verdict.total()
                )?;
                for (plugin, score) in &verdict.scores {
                    writeln!(out, "    {plugin}: {score}")?;
                }
                continue;
            }
            writeln!(out, "  {}:", verdict.node)?;
            for (plugin, reason) in &verdict.rejections {
                writeln!(out, "    {plugin}: {reason}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Cluster, merged, node, pod_of};
    use serde_json::json;

    #[test]
    fn every_plugin_has_its_say() {
        let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let small = json!({"status": {"allocatable": {"cpu": "1"}}});
        let mut cluster = Cluster::new([node("a", merged(taint, small)), node("b", json!({}))]);
        let pod = pod_of("p", "2", json!({}));
        let explanation = explain(&mut cluster.cache, &pod, &cluster.profile);
        assert_eq!(explanation.nodes[0].node, "b");
        assert!(explanation.nodes[0].total() > 0);
        let text = explanation.to_string();
        assert!(text.contains("  a:\n    TaintToleration: node(s) had untolerated taint(s)\n    NodeResourcesFit: Insufficient cpu\n"), "{text}");
    }

    #[test]
    fn gates_are_an_answer() {
        let mut cluster = Cluster::new([node("a", json!({}))]);
        let pod = pod_of(
            "p",
            "2",
            json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
        );
        let explanation = explain(&mut cluster.cache, &pod, &cluster.profile);
        assert_eq!(
            explanation.overall.as_deref(),
            Some("waiting for scheduling gates: [g]")
        );
    }
}

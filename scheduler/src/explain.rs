//! Why a pod is pending: what each plugin says of each node, and the scores of those that would
//! do. The same plugins as in a cycle, on what the API holds right now; the reader needs no access
//! to the scheduler's process.

use std::fmt;
use std::sync::Arc;

use client::errors;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cache::Cache;
use crate::config::Config;
use crate::cycle::{Decision, Diagnosis, Nominated, Refusal, WhatIf, look, schedule};
use crate::filters::{self, dynamic_resources, scheduling_gates};
use crate::framework::{Failure, Plugin};
use crate::preemption::{Circumstances, post_filter};
use crate::profile::Profile;
use crate::scores;
use crate::snapshot::PodInfo;
use crate::views::{Node, Pod, PodDisruptionBudget};

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
    /// Which scheduler it asks for.
    pub scheduler: String,
    /// The node that it is bound to already.
    pub bound_to: Option<String>,
    /// What the pod's own condition said last.
    pub told: Option<String>,
    /// What holds for all nodes, if something does.
    pub overall: Option<String>,
    /// Nodes, those that would do first, best first.
    pub nodes: Vec<NodeVerdict>,
    /// What a cycle would come to now; if that is nothing, in the words of FailedScheduling.
    pub summary: String,
}

/// What counts besides nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Disruption budgets.
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    /// Pods that are nominated for nodes.
    pub nominated: Vec<Arc<Pod>>,
    /// Now.
    pub now: Timestamp,
}

impl Explanation {
    fn of(pod: &Pod) -> Self {
        Explanation {
            pod: format!("{}/{}", pod.namespace(), pod.name()),
            scheduler: pod.scheduler_name.clone(),
            bound_to: None,
            told: pod.scheduled.as_ref().map(|one| one.message.clone()),
            overall: None,
            nodes: Vec::new(),
            summary: String::new(),
        }
    }

    /// The same answer for all nodes.
    fn at_once(mut self, why: String) -> Self {
        self.summary.clone_from(&why);
        self.overall = Some(why);
        self
    }
}

/// What the plugins of a profile say of a pod that is on no node.
pub fn explain(
    cache: &mut Cache,
    pod: &Arc<Pod>,
    profile: &Profile,
    surroundings: &Surroundings,
) -> Explanation {
    let mut explanation = Explanation::of(pod);
    let info = cache.prepare(pod, &profile.defaults);
    let gated = scheduling_gates::gate(pod).filter(|_| profile.has_gates);
    if let Some(why) = gated.or_else(|| dynamic_resources::gate(cache.snapshot(), pod)) {
        return explanation.at_once(why);
    }
    explanation.summary = summary(cache, &info, profile, surroundings);
    match verdicts(cache, &info, profile) {
        Ok(nodes) => explanation.nodes = nodes,
        Err(Refusal::Rejected(rejection)) => explanation.overall = Some(rejection.message()),
        Err(Refusal::Error(error)) => explanation.overall = Some(error),
    }
    explanation
}

/// What a cycle comes to, preemption included.
fn summary(
    cache: &mut Cache,
    info: &PodInfo,
    profile: &Profile,
    surroundings: &Surroundings,
) -> String {
    let nominations = surroundings.nominated.iter();
    let nominations = nominations.map(|pod| (&*pod.nominated_node, pod));
    let nominated = Nominated::new(cache.snapshot_mut(), nominations);
    let snapshot = cache.snapshot();
    let mut diagnosis: Diagnosis =
        match schedule(snapshot, info, profile, &nominated, 0, 0).decision {
            Decision::Error(error) => return error,
            Decision::Place(placement) => {
                let (feasible, all) = (placement.feasible, snapshot.order().len());
                return format!(
                    "{feasible}/{all} nodes are available: it would go to {}",
                    placement.node
                );
            }
            Decision::Unfit(diagnosis) => diagnosis,
        };
    if profile.post_filters.is_empty() {
        return diagnosis.message();
    }
    let circumstances = Circumstances {
        budgets: &surroundings.budgets,
        nominated: &nominated,
        now: surroundings.now,
        seed: 0,
    };
    let outcome = post_filter(snapshot, info, profile, &diagnosis, &circumstances);
    diagnosis.post_filter = match &outcome.eviction {
        None => outcome.message,
        Some(eviction) => {
            let victims = eviction.victims.iter();
            let victims = victims.map(|pod| format!("{}/{}", pod.namespace(), pod.name()));
            let victims = victims.collect::<Vec<_>>().join(", ");
            format!("preemption: {victims} would make way on {}", eviction.node)
        }
    };
    diagnosis.message()
}

/// What every filter says of every node, and the scores of those that would do: these first, best first.
fn verdicts(cache: &Cache, info: &PodInfo, profile: &Profile) -> Result<Vec<NodeVerdict>, Refusal> {
    let snapshot = cache.snapshot();
    let state = look(snapshot, info, profile)?;
    let (mut feasible, mut others) = (Vec::new(), Vec::new());
    for id in snapshot.order() {
        let node = snapshot.node(*id);
        let mut rejections = Vec::new();
        for plugin in state.filters() {
            match filters::filter(*plugin, &state, node, &WhatIf::default()) {
                Ok(()) => {}
                Err(Failure::Rejected(no)) => {
                    let reasons = no.reasons.iter();
                    rejections.extend(reasons.map(|reason| (*plugin, reason.to_string())));
                }
                Err(Failure::Error(error)) => rejections.push((*plugin, error)),
            }
        }
        if rejections.is_empty() {
            feasible.push(*id);
        } else {
            others.push(NodeVerdict {
                node: node.node.name().to_string(),
                rejections,
                scores: Vec::new(),
            });
        }
    }
    let bare = |id: &u32| NodeVerdict {
        node: snapshot.node(*id).node.name().to_string(),
        rejections: Vec::new(),
        scores: Vec::new(),
    };
    let mut best: Vec<_> = feasible.iter().map(bare).collect();
    let rated = scores::rated(&state, &feasible);
    for (plugin, weight) in &profile.scores {
        let scores = scores::score(*plugin, &rated).into_iter().flatten();
        for (verdict, score) in best.iter_mut().zip(scores) {
            verdict.scores.push((*plugin, score * weight));
        }
    }
    best.sort_by_key(|verdict| std::cmp::Reverse(verdict.total()));
    best.append(&mut others);
    Ok(best)
}

/// What would be said of a pod right now; of one that is bound, were it not. None if there is no such
/// pod.
///
/// # Errors
///
/// If the API server does not answer, or refuses to.
pub async fn live(
    client: &Client,
    config: &Config,
    namespace: &str,
    name: &str,
    now: Timestamp,
) -> Result<Option<Explanation>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Some(mut pod) = pods.get_opt(name).await? else {
        return Ok(None);
    };
    let Some(profile) = config.profile(&pod.scheduler_name) else {
        let why = format!(
            "no profile is named {}: another scheduler's pod",
            pod.scheduler_name
        );
        return Ok(Some(Explanation::of(&pod).at_once(why)));
    };
    let mut cache = Cache::default();
    let surroundings = Surroundings {
        now,
        ..fill(client, &mut cache, pod.uid()).await?
    };
    let bound_to = pod
        .is_assigned()
        .then(|| std::mem::take(&mut pod.node_name));
    let explained = explain(&mut cache, &Arc::new(pod), profile, &surroundings);
    Ok(Some(Explanation {
        bound_to,
        ..explained
    }))
}

/// Everything a cycle looks at, as the API holds it, but for the pod itself. Kinds that a server does not
/// have are empty.
async fn fill(
    client: &Client,
    cache: &mut Cache,
    subject: &str,
) -> Result<Surroundings, kube::Error> {
    macro_rules! list {
        ($view:ty, $fields:expr) => {{
            let all: Api<$view> = Api::all(client.clone());
            match all.list(&ListParams::default().fields($fields)).await {
                Ok(list) => list.items,
                Err(error) if errors::status(&error).is_some_and(|status| status.code == 404) => {
                    Vec::new()
                }
                Err(error) => return Err(error),
            }
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
    let mut surroundings = Surroundings::default();
    for budget in list!(PodDisruptionBudget) {
        surroundings.budgets.push(Arc::new(budget));
    }
    let pods = list!(Pod, "status.phase!=Succeeded,status.phase!=Failed");
    for pod in pods.into_iter().filter(|pod| pod.uid() != subject) {
        let pod = Arc::new(pod);
        if pod.is_assigned() {
            cache.set_pod(&pod);
        } else if pod.occupies_node() {
            surroundings.nominated.push(pod);
        }
    }
    Ok(surroundings)
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
    use crate::testing::{Cluster, merged, node, on, pod_of};
    use serde_json::json;

    #[test]
    fn every_plugin_has_its_say() {
        let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let small = json!({"status": {"allocatable": {"cpu": "1"}}});
        let mut cluster = Cluster::new([node("a", merged(taint, small)), node("b", json!({}))]);
        let pod = pod_of("p", "2", json!({}));
        let explanation = explain(
            &mut cluster.cache,
            &pod,
            &cluster.profile,
            &Surroundings::default(),
        );
        assert_eq!(explanation.nodes[0].node, "b");
        assert!(explanation.nodes[0].total() > 0);
        let text = explanation.to_string();
        assert!(text.contains("  a:\n    TaintToleration: node(s) had untolerated taint(s)\n    NodeResourcesFit: Insufficient cpu\n"), "{text}");
        assert_eq!(
            explanation.summary,
            "1/2 nodes are available: it would go to b"
        );
    }

    #[test]
    fn the_summary_is_what_the_event_would_say() {
        let small = json!({"status": {"allocatable": {"cpu": "1"}}});
        let mut cluster = Cluster::new([node("a", small)]);
        let nowhere = Surroundings::default();
        let pod = pod_of("p", "2", json!({}));
        let explanation = explain(&mut cluster.cache, &pod, &cluster.profile, &nowhere);
        let told = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
                    preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        assert_eq!(explanation.summary, told);
        // Whoever holds the place and counts for less would go.
        let small = json!({"status": {"allocatable": {"cpu": "2"}}});
        let holder = pod_of("low", "2", on("a", json!({"spec": {"priority": -1}})));
        let mut cluster = Cluster::new([node("a", small)]).with([holder]);
        let explanation = explain(&mut cluster.cache, &pod, &cluster.profile, &nowhere);
        let preemption = "preemption: default/low would make way on a";
        assert!(
            explanation.summary.ends_with(preemption),
            "{}",
            explanation.summary
        );
    }

    #[test]
    fn gates_are_an_answer() {
        let mut cluster = Cluster::new([node("a", json!({}))]);
        let pod = pod_of(
            "p",
            "2",
            json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
        );
        let explanation = explain(
            &mut cluster.cache,
            &pod,
            &cluster.profile,
            &Surroundings::default(),
        );
        assert_eq!(
            explanation.overall.as_deref(),
            Some("waiting for scheduling gates: [g]")
        );
    }
}

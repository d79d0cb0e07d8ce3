//! Which pods nobody else will ever remove.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::View as _;
use jiff::{SignedDuration, Timestamp};

use crate::node::Node;
use crate::pod::{Phase, Pod};

/// A node that is gone may come back for so long.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
/// An operator says by this taint that a node is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A node is off, and an operator has said so.
fn is_out_of_service(node: &Node) -> bool {
    let mut conditions = node.status.conditions.iter();
    let is_ready = conditions.any(|found| found.type_ == "Ready" && found.status == "True");
    !is_ready
        && node
            .spec
            .taints
            .iter()
            .any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Why a pod goes; metrics have these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There are too many that have ended.
    Terminated,
    /// Its node is off.
    OutOfService,
    /// Its node is gone.
    Orphaned,
    /// It was deleted before it got a node.
    Unscheduled,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::OutOfService => "out-of-service",
            Self::Orphaned => "orphaned",
            Self::Unscheduled => "unscheduled",
        }
    }
}

/// Since when nodes that pods name have not been seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quarantine(BTreeMap<String, Timestamp>);

impl Quarantine {
    /// Takes in which nodes pods name and which there are. Gives those that have been missing for
    /// long enough to ask the server about them.
    pub(crate) fn look(
        &mut self,
        pods: &[Arc<Pod>],
        nodes: &[Arc<Node>],
        now: Timestamp,
    ) -> BTreeSet<String> {
        let there: BTreeSet<&str> = nodes.iter().map(|node| node.name()).collect();
        let named = pods.iter().map(|pod| pod.spec.node_name.as_str());
        let missing: BTreeSet<&str> = named
            .filter(|name| !name.is_empty() && !there.contains(name))
            .collect();
        self.0.retain(|name, _| missing.contains(name.as_str()));
        for name in missing {
            self.0.entry(name.to_string()).or_insert(now);
        }
        let ripe = self
            .0
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= QUARANTINE);
        ripe.map(|(name, _)| name.clone()).collect()
    }
}

/// The pods to remove; `gone` are nodes that the server does not know. A threshold of 0 keeps all
/// pods that have ended.
pub(crate) fn removals(
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    gone: &BTreeSet<String>,
    threshold: usize,
) -> Vec<(Arc<Pod>, Reason)> {
    let nodes: HashMap<&str, &Node> = nodes.iter().map(|node| (node.name(), &**node)).collect();
    let mut removals: Vec<(Arc<Pod>, Reason)> = too_many(pods, threshold);
    for pod in pods {
        let node = pod.spec.node_name.as_str();
        let reason = if gone.contains(node) {
            Reason::Orphaned
        } else if pod.is_deleted() && node.is_empty() {
            Reason::Unscheduled
        } else if pod.is_deleted() && nodes.get(node).is_some_and(|node| is_out_of_service(node)) {
            Reason::OutOfService
        } else {
            continue;
        };
        if removals.iter().all(|(known, _)| known.uid() != pod.uid()) {
            removals.push((pod.clone(), reason));
        }
    }
    removals
}

/// Pods that have ended, beyond a threshold: those that were evicted first, then the oldest.
fn too_many(pods: &[Arc<Pod>], threshold: usize) -> Vec<(Arc<Pod>, Reason)> {
    if threshold == 0 {
        return Vec::new();
    }
    let has_ended = |pod: &&Arc<Pod>| matches!(pod.status.phase, Phase::Succeeded | Phase::Failed);
    let mut ended: Vec<Arc<Pod>> = pods.iter().filter(has_ended).cloned().collect();
    let surplus = ended.len().saturating_sub(threshold);
    if surplus == 0 {
        return Vec::new();
    }
    ended.sort_by(|one, two| {
        is_evicted(two)
            .cmp(&is_evicted(one))
            .then_with(|| one.by_age(two))
    });
    ended.truncate(surplus);
    ended
        .into_iter()
        .map(|pod| (pod, Reason::Terminated))
        .collect()
}

fn is_evicted(pod: &Pod) -> bool {
    pod.status.phase == Phase::Failed && pod.status.reason.as_deref() == Some("Evicted")
}

/// Whether a pod's status is to say first that it has failed.
pub(crate) fn is_to_fail(pod: &Pod) -> bool {
    !matches!(pod.status.phase, Phase::Succeeded | Phase::Failed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// `name node phase`, with `!` behind the name of one that is being deleted and `-` for no node.
    fn pods(texts: &[&str]) -> Vec<Arc<Pod>> {
        let pods = texts.iter().enumerate().map(|(age, text)| {
            let parts: Vec<&str> = text.split(' ').collect();
            let deleted = parts[0].ends_with('!').then(|| at(0).to_string());
            let node = parts[1].trim_matches('-');
            let (phase, reason) = parts[2].split_once('/').unwrap_or((parts[2], ""));
            Arc::new(serde_json::from_value(json!({
                "metadata": {"name": parts[0].trim_matches('!'), "uid": text, "deletionTimestamp": deleted,
                    "creationTimestamp": at(i64::try_from(age).unwrap()).to_string()},
                "spec": {"nodeName": node},
                "status": {"phase": phase, "reason": reason},
            })).unwrap())
        });
        pods.collect()
    }

    /// `name ready taint`.
    fn nodes(texts: &[&str]) -> Vec<Arc<Node>> {
        let nodes = texts.iter().map(|text| {
            let parts: Vec<&str> = text.split(' ').collect();
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": {"name": parts[0]},
                    "spec": {"taints": [{"key": parts[2], "effect": "NoExecute"}]},
                    "status": {"conditions": [{"type": "Ready", "status": parts[1]}]},
                }))
                .unwrap(),
            )
        });
        nodes.collect()
    }

    fn removed(
        pod_texts: &[&str],
        node_texts: &[&str],
        gone: &[&str],
        threshold: usize,
    ) -> Vec<String> {
        let gone = gone.iter().map(ToString::to_string).collect();
        let removed = removals(&pods(pod_texts), &nodes(node_texts), &gone, threshold);
        removed
            .iter()
            .map(|(pod, reason)| format!("{} {}", pod.name(), reason.as_str()))
            .collect()
    }

    #[test]
    fn ended_pods_go_beyond_a_threshold() {
        let texts = [
            "a n Succeeded",
            "b n Failed",
            "c n Running",
            "d n Failed/Evicted",
        ];
        for (threshold, want) in [
            (0, &[][..]),
            (1, &["d terminated", "a terminated"]),
            (2, &["d terminated"]),
            (3, &[]),
            (5, &[]),
        ] {
            assert_eq!(
                removed(&texts, &["n True -"], &[], threshold),
                want,
                "{threshold}"
            );
        }
    }

    #[test]
    fn pods_that_nobody_ends_are_removed() {
        let texts = [
            "a gone Running",
            "b! - Pending",
            "c - Pending",
            "d! off Running",
            "e off Running",
            "f! sick Running",
            "g! on Running",
        ];
        let node_texts = [
            "off False node.kubernetes.io/out-of-service",
            "on True node.kubernetes.io/out-of-service",
            "sick False -",
        ];
        assert_eq!(
            removed(&texts, &node_texts, &["gone"], 0),
            ["a orphaned", "b unscheduled", "d out-of-service"]
        );
    }

    #[test]
    fn a_node_that_is_gone_may_come_back_for_a_while() {
        let pods = pods(&["a one Running", "b two Running", "c - Pending"]);
        let both = nodes(&["one True -", "two True -"]);
        let mut quarantine = Quarantine::default();
        assert!(quarantine.look(&pods, &both[..1], at(0)).is_empty());
        assert!(quarantine.look(&pods, &both[..1], at(39)).is_empty());
        assert_eq!(
            quarantine.look(&pods, &both[..1], at(40)),
            BTreeSet::from(["two".to_string()])
        );
        assert!(quarantine.look(&pods, &both, at(60)).is_empty());
        assert!(
            quarantine.look(&pods, &both[..1], at(61)).is_empty(),
            "it starts anew"
        );
    }
}

//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use client::View;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::{Phase, Pod};

/// The `count` pods to delete among `pods`; `related` are all that do the same work, so that nodes
/// with many of them lose theirs first.
pub fn to_delete(
    mut pods: Vec<Arc<Pod>>,
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|pod| pod.is_active()) {
            *on_node.entry(&pod.spec.node_name).or_default() += 1;
        }
        let rank = |pod: &Pod| {
            on_node
                .get(pod.spec.node_name.as_str())
                .copied()
                .unwrap_or(0)
        };
        pods.sort_by_cached_key(|pod| Rank::new(pod, rank(pod), now));
    }
    pods.truncate(count);
    pods
}

/// How soon a pod is to go; the least goes first.
///
/// Upstream's comparison is no order (pods that became ready in the same second are compared by
/// restarts, others of similar age by uid, so that there may be circles). This one is: within one
/// step of age, restarts decide before the uid does.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_bound: bool,
    phase: u8,
    is_ready: bool,
    deletion_cost: i32,
    neighbours: Reverse<usize>,
    ready_for: Option<i32>,
    restarts: Reverse<(i32, i32)>,
    age: Option<i32>,
    uid: Box<str>,
}

impl Rank {
    fn new(pod: &Pod, neighbours: usize, now: Timestamp) -> Self {
        let created = pod.metadata.creation_timestamp.as_ref();
        Self {
            is_bound: !pod.spec.node_name.is_empty(),
            phase: match pod.status.phase {
                Phase::Unknown => 1,
                Phase::Running => 2,
                _ => 0,
            },
            is_ready: pod.is_ready(),
            deletion_cost: pod.deletion_cost(),
            neighbours: Reverse(neighbours),
            ready_for: pod.ready_since().map(|since| magnitude(since, now)),
            restarts: Reverse(pod.most_restarts()),
            age: created.map(|Time(created)| magnitude(*created, now)),
            uid: pod.uid().into(),
        }
    }
}

/// The logarithm of an age: pods of one magnitude count as equally old, so that scaling down does
/// not always hit the youngest.
fn magnitude(since: Timestamp, now: Timestamp) -> i32 {
    let age = now.duration_since(since).as_nanos();
    match age.cmp(&0) {
        Ordering::Greater => age.ilog2() as i32,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-02T00:00:00Z";

    fn pod(name: &str, spec: Value, status: Value, metadata: Value) -> Arc<Pod> {
        let mut all = json!({"metadata": metadata, "spec": spec, "status": status});
        all["metadata"]["name"] = name.into();
        if all["metadata"]["uid"].is_null() {
            all["metadata"]["uid"] = name.into();
        }
        Arc::new(serde_json::from_value(all).unwrap())
    }

    fn ready(since: &str, restarts: i32) -> Value {
        json!({"phase": "Running",
               "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
               "containerStatuses": [{"name": "c", "restartCount": restarts}]})
    }

    fn order(pods: Vec<Arc<Pod>>, related: &[Arc<Pod>]) -> Vec<String> {
        let now = NOW.parse().unwrap();
        let mut left = pods;
        let mut names = Vec::new();
        while !left.is_empty() {
            let count = if left.len() > 1 { 1 } else { left.len() };
            let next = to_delete(left.clone(), related, count, now).remove(0);
            left.retain(|pod| pod.uid() != next.uid());
            names.push(next.name().to_string());
        }
        names
    }

    /// Upstream's TestSortingActivePodsWithRanks, retold.
    #[test]
    fn what_serves_least_goes_first() {
        let bound = || json!({"nodeName": "n"});
        let born = |at: &str| json!({"creationTimestamp": at});
        let (day_ago, hour_ago, minute_ago) = (
            "2026-01-01T00:00:00Z",
            "2026-01-01T23:00:00Z",
            "2026-01-01T23:59:00Z",
        );
        let running = || json!({"phase": "Running"});
        let cost = json!({"creationTimestamp": day_ago,
                          "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}});
        let pods = vec![
            pod(
                "unbound",
                json!({}),
                json!({"phase": "Pending"}),
                born(day_ago),
            ),
            pod(
                "pending",
                bound(),
                json!({"phase": "Pending"}),
                born(day_ago),
            ),
            pod("unknown", bound(), json!({"phase": "Gone"}), born(day_ago)),
            pod("unready", bound(), running(), born(day_ago)),
            pod("cheap", bound(), ready(day_ago, 0), cost),
            pod("young", bound(), ready(minute_ago, 0), born(minute_ago)),
            pod("older", bound(), ready(hour_ago, 0), born(hour_ago)),
            pod("restarted", bound(), ready(day_ago, 5), born(day_ago)),
            pod("steady", bound(), ready(day_ago, 0), born(day_ago)),
        ];
        let names: Vec<_> = pods.iter().map(|pod| pod.name().to_string()).collect();
        let mut mixed = pods.clone();
        mixed.reverse();
        mixed.swap(1, 4);
        assert_eq!(order(mixed, &pods), names);
    }

    #[test]
    fn crowded_nodes_lose_first_and_similar_ages_are_told_apart_by_uid() {
        let at = |second| format!("2026-01-01T00:00:{second}Z");
        let on = |name: &str, node: &str, uid: &str, second: i32| {
            let metadata = json!({"uid": uid, "creationTimestamp": at(second)});
            pod(
                name,
                json!({"nodeName": node}),
                ready(&at(second), 0),
                metadata,
            )
        };
        let pods = vec![
            on("a", "one", "9", 10),
            on("b", "two", "2", 20),
            on("c", "two", "1", 30),
        ];
        assert_eq!(order(pods.clone(), &pods), ["c", "b", "a"]);
        assert_eq!(order(pods, &[]), ["c", "b", "a"]);
    }
}

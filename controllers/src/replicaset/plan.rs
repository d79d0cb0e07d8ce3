//! What a ReplicaSet, or a ReplicationController, needs: pods made or deleted, and its status.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};

use crate::apps::ReplicaSetSpec;
use crate::pod::Pod;
use crate::ranking;
use crate::status::time;

/// How many pods are made or deleted before the set is looked at again.
const BURST: usize = 500;
/// The condition that says that pods could not be made or deleted.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What to do about the number of pods.
#[derive(Debug)]
pub(super) enum Scale {
    /// It is right.
    Keep,
    /// Make so many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// What to do about the number of pods. `related` tells the pods of all sets that do the same work,
/// and is asked only if some of `active` must go.
pub(super) fn scale(
    spec: &ReplicaSetSpec,
    active: &[Arc<Pod>],
    related: impl FnOnce() -> Vec<Arc<Pod>>,
    now: Timestamp,
) -> Scale {
    let wanted = usize::try_from(spec.replicas).unwrap_or(0);
    match active.len().checked_sub(wanted) {
        None => Scale::Create((wanted - active.len()).min(BURST)),
        Some(0) => Scale::Keep,
        Some(surplus) => {
            let surplus = surplus.min(BURST);
            Scale::Delete(ranking::to_delete(
                active.to_vec(),
                &related(),
                surplus,
                now,
            ))
        }
    }
}

/// What a set says of itself. `terminating` is none for kinds that do not tell; `failure` is why the
/// number of pods could not be put right.
pub(super) fn status(
    spec: &ReplicaSetSpec,
    last: &ReplicaSetStatus,
    generation: i64,
    active: &[Arc<Pod>],
    terminating: Option<usize>,
    failure: Option<String>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let labels = spec.template.labels();
    let is_labelled = |pod: &Pod| {
        labels
            .iter()
            .all(|(key, value)| pod.label(key) == Some(value))
    };
    let count = |is: &dyn Fn(&Pod) -> bool| number(active.iter().filter(|pod| is(pod)).count());
    ReplicaSetStatus {
        replicas: number(active.len()).unwrap_or(0),
        fully_labeled_replicas: count(&is_labelled),
        ready_replicas: count(&Pod::is_ready),
        available_replicas: count(&|pod| pod.is_available(spec.min_ready_seconds, now)),
        terminating_replicas: terminating.and_then(|count| i32::try_from(count).ok()),
        observed_generation: Some(generation),
        conditions: conditions(spec, last, active.len(), failure, now),
    }
}

/// When the next pod becomes available by mere time.
pub(super) fn next_check(
    spec: &ReplicaSetSpec,
    status: &ReplicaSetStatus,
    active: &[Arc<Pod>],
    now: Timestamp,
) -> Option<SignedDuration> {
    let seconds = spec.min_ready_seconds;
    if seconds <= 0 || status.ready_replicas == status.available_replicas {
        return None;
    }
    let next = active
        .iter()
        .filter_map(|pod| pod.available_in(seconds, now))
        .min();
    Some(next.unwrap_or(SignedDuration::from_secs(seconds.into())))
}

/// A count as statuses have it: zero is not written.
fn number(count: usize) -> Option<i32> {
    i32::try_from(count).ok().filter(|count| *count != 0)
}

fn conditions(
    spec: &ReplicaSetSpec,
    last: &ReplicaSetStatus,
    active: usize,
    failure: Option<String>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = last.conditions.clone().unwrap_or_default();
    let is_known = conditions.iter().any(|one| one.type_ == REPLICA_FAILURE);
    match failure {
        None => conditions.retain(|one| one.type_ != REPLICA_FAILURE),
        Some(message) if !is_known => {
            let missing = i64::from(spec.replicas) - i64::try_from(active).unwrap_or(i64::MAX);
            let reason = match missing {
                0 => None,
                1.. => Some("FailedCreate".to_string()),
                _ => Some("FailedDelete".to_string()),
            };
            conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.into(),
                status: "True".into(),
                reason,
                message: Some(message),
                last_transition_time: Some(time(now)),
            });
        }
        Some(_) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    fn spec(replicas: i32) -> ReplicaSetSpec {
        serde_json::from_value(
            json!({"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b", "c": "d"}}}}),
        )
        .unwrap()
    }

    fn pods(count: usize, labels: Value, ready: &str) -> Vec<Arc<Pod>> {
        let condition = json!({"type": "Ready", "status": ready,
                               "lastTransitionTime": "2026-01-01T00:00:50Z"});
        let pod = |at: usize| {
            let value = json!({"metadata": {"name": format!("p{at}"), "uid": at.to_string(), "labels": labels},
                "spec": {"nodeName": "n"}, "status": {"phase": "Running", "conditions": [condition]}});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        (0..count).map(pod).collect()
    }

    #[test]
    fn too_few_are_made_and_too_many_deleted_in_bursts() {
        let plan = |wanted, there| {
            let pods = pods(there, json!({"a": "b"}), "True");
            scale(&spec(wanted), &pods, Vec::new, now())
        };
        assert!(matches!(plan(2, 2), Scale::Keep));
        assert!(matches!(plan(3, 1), Scale::Create(2)));
        assert!(matches!(plan(1_000, 0), Scale::Create(500)));
        assert!(matches!(plan(1, 3), Scale::Delete(pods) if pods.len() == 2));
        assert!(matches!(plan(0, 3), Scale::Delete(pods) if pods.len() == 3));
        assert!(matches!(plan(0, 600), Scale::Delete(pods) if pods.len() == 500));
    }

    /// Upstream's TestCalculateStatus, retold.
    #[test]
    fn a_status_counts_labelled_ready_and_available_pods() {
        let mut all = pods(1, json!({"a": "b", "c": "d"}), "True");
        all.extend(pods(1, json!({"a": "b"}), "True"));
        all.extend(pods(1, json!({"a": "b"}), "False"));
        let mut spec = spec(3);
        let last = ReplicaSetStatus::default();
        let said = status(&spec, &last, 4, &all, Some(2), None, now());
        assert_eq!((said.replicas, said.fully_labeled_replicas), (3, Some(1)));
        assert_eq!(
            (said.ready_replicas, said.available_replicas),
            (Some(2), Some(2))
        );
        assert_eq!(
            (said.terminating_replicas, said.observed_generation),
            (Some(2), Some(4))
        );
        spec.min_ready_seconds = 20;
        let said = status(&spec, &last, 4, &all, None, None, now());
        assert_eq!(
            (said.ready_replicas, said.available_replicas),
            (Some(2), None)
        );
        assert_eq!(said.terminating_replicas, None);
    }

    /// Upstream's TestCalculateStatusConditions, retold.
    #[test]
    fn a_failure_is_said_once_and_taken_back() {
        let said = |wanted, there, last: &ReplicaSetStatus, failure: Option<&str>| {
            let pods = pods(there, json!({"a": "b"}), "True");
            status(
                &spec(wanted),
                last,
                1,
                &pods,
                None,
                failure.map(str::to_string),
                now(),
            )
        };
        let empty = ReplicaSetStatus::default();
        let short = said(3, 1, &empty, Some("quota"));
        let condition = &short.conditions.as_ref().unwrap()[0];
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
        assert_eq!(condition.message.as_deref(), Some("quota"));
        assert_eq!(
            said(3, 1, &short, Some("other")).conditions,
            short.conditions
        );
        assert_eq!(said(3, 3, &short, None).conditions, None);
        let over = said(1, 3, &empty, Some("no"));
        assert_eq!(
            over.conditions.unwrap()[0].reason.as_deref(),
            Some("FailedDelete")
        );
    }
}

//! How long a job waits before it replaces failed pods.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::pod::{ConditionStatus, ConditionType, ContainerStatus, Pod};

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(10 * 60);

/// The failures of a job since its last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) failures: u32,
    pub(crate) last: Option<Timestamp>,
}

impl Backoff {
    /// What it is after pods have ended that were not counted before.
    pub(crate) fn after(self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let success = succeeded.iter().map(|pod| ended_at(pod)).max();
        let before = if success.is_some() {
            Self::default()
        } else {
            self
        };
        let failed = failed.iter().map(|pod| ended_at(pod));
        let failed = failed.filter(|at| success.is_none_or(|success| *at > success));
        failed.fold(before, |sum, at| Self {
            failures: sum.failures + 1,
            // What failed this time counts even if it ended before what was known.
            last: if sum.failures == before.failures {
                Some(at)
            } else {
                sum.last.max(Some(at))
            },
        })
    }

    /// How long it still waits.
    pub(crate) fn rest(self, now: Timestamp) -> Duration {
        rest(self.failures, self.last, now)
    }
}

/// How long the successor of a failed pod waits, which is the so many-th of its index.
pub(crate) fn rest_of_index(failures_before: u32, pod: &Pod, now: Timestamp) -> Duration {
    rest(failures_before.saturating_add(1), Some(ended_at(pod)), now)
}

fn rest(failures: u32, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let (Some(last), Some(doublings)) = (last, failures.checked_sub(1)) else {
        return Duration::ZERO;
    };
    let whole = FIRST.saturating_mul(1 << doublings.min(20)).min(MOST);
    let since = now.duration_since(last);
    let whole = SignedDuration::try_from(whole).unwrap_or_default();
    Duration::try_from(whole.saturating_sub(since)).unwrap_or_default()
}

/// When a pod ended, as far as it says so.
pub(crate) fn ended_at(pod: &Pod) -> Timestamp {
    let meta = &pod.metadata;
    let unready = || {
        let ready = pod.condition(&ConditionType::Ready)?;
        let is_unready = ready.status == ConditionStatus::False;
        ready
            .last_transition_time
            .as_ref()
            .filter(|_| is_unready)
            .map(|at| at.0)
    };
    let deleted = || {
        let at = meta.deletion_timestamp.as_ref()?.0;
        let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(0));
        at.checked_sub(grace).ok()
    };
    let created = || meta.creation_timestamp.as_ref().map(|at| at.0);
    let ended = containers_ended_at(pod)
        .or_else(unready)
        .or_else(deleted)
        .or_else(created);
    ended.unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When the last of the containers and sidecars ended; none if one has not.
fn containers_ended_at(pod: &Pod) -> Option<Timestamp> {
    let ended = |found: &ContainerStatus| {
        let terminated = found.state.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(|at| at.0)
    };
    let is_sidecar = |found: &&ContainerStatus| {
        let mut inits = pod.spec.init_containers.iter();
        inits
            .any(|init| init.name == found.name && init.restart_policy.as_deref() == Some("Always"))
    };
    let status = &pod.status;
    let sidecars = status.init_container_statuses.iter().filter(is_sidecar);
    let all: Option<Vec<_>> = status
        .container_statuses
        .iter()
        .chain(sidecars)
        .map(ended)
        .collect();
    all?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn pod(ended: i64) -> Arc<Pod> {
        let state = json!({"terminated": {"exitCode": 1, "finishedAt": at(ended).to_string()}});
        let pod = json!({"status": {"containerStatuses": [{"name": "c", "state": state}]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn failures_count_since_the_last_success() {
        let known = |failures, last: i64| Backoff {
            failures,
            last: Some(at(last)),
        };
        let none = Backoff::default();
        for (before, succeeded, failed, want) in [
            (none, &[][..], &[][..], none),
            (none, &[], &[-60], known(1, -60)),
            (none, &[], &[-60, -62, -61], known(3, -60)),
            (known(2, -90), &[], &[-60], known(3, -60)),
            (known(2, -30), &[], &[-60], known(3, -60)),
            (known(2, -30), &[], &[], known(2, -30)),
            (known(2, -30), &[-60], &[], none),
            (known(2, -30), &[-60, -50], &[-55, -45, -40], known(2, -40)),
            (known(2, -30), &[-10], &[-55], none),
        ] {
            let pods = |ends: &[i64]| ends.iter().map(|end| pod(*end)).collect::<Vec<_>>();
            assert_eq!(
                before.after(&pods(succeeded), &pods(failed)),
                want,
                "{succeeded:?} {failed:?}"
            );
        }
    }

    #[test]
    fn every_failure_doubles_the_wait() {
        for (failures, ago, want) in [
            (0, 0, 0),
            (1, 0, 10),
            (1, 4, 6),
            (2, 0, 20),
            (2, 20, 0),
            (5, 0, 160),
            (7, 0, 600),
            (40, 1, 599),
            (1, -5, 15),
        ] {
            let backoff = Backoff {
                failures,
                last: Some(at(-ago)),
            };
            assert_eq!(backoff.rest(at(0)).as_secs(), want, "{failures} {ago}");
        }
    }

    #[test]
    fn a_pod_ends_with_the_last_container_or_sidecar() {
        let state =
            |end: i64| json!({"terminated": {"exitCode": 0, "finishedAt": at(end).to_string()}});
        let base = json!({"creationTimestamp": at(1).to_string()});
        for (name, meta, spec, status, want) in [
            ("created", base.clone(), json!({}), json!({}), 1),
            (
                "deleted",
                json!({"creationTimestamp": at(1).to_string(), "deletionTimestamp": at(40).to_string(), "deletionGracePeriodSeconds": 30}),
                json!({}),
                json!({"containerStatuses": [{"name": "c", "state": {}}]}),
                10,
            ),
            (
                "not ready",
                base.clone(),
                json!({}),
                json!({"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": at(7).to_string()}],
                       "containerStatuses": [{"name": "c", "state": {}}]}),
                7,
            ),
            (
                "sidecars count, init containers do not",
                base,
                json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]}),
                json!({"containerStatuses": [{"name": "c", "state": state(5)}],
                       "initContainerStatuses": [{"name": "s", "state": state(6)}, {"name": "i", "state": state(9)}]}),
                6,
            ),
        ] {
            let pod = json!({"metadata": meta, "spec": spec, "status": status});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(ended_at(&pod), at(want), "{name}");
        }
    }
}

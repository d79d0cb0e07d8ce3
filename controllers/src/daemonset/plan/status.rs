//! What a DaemonSet says of itself.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSetStatus;

use super::placement::Fit;
use super::{Observed, bound_and_old_first, by_node, is_updated};

/// What a DaemonSet says of itself. `observed_generation` is the generation that was acted upon.
pub(crate) fn status(
    observed: &Observed<'_>,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> DaemonSetStatus {
    let set = observed.set;
    let on_node = by_node(observed.pods);
    let mut status = DaemonSetStatus::default();
    let (mut updated, mut available) = (0, 0);
    for node in observed.nodes {
        let pods = on_node.get(node.name());
        if observed.placement.fit(node) != Fit::Run {
            status.number_misscheduled += i32::from(pods.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let first = pods.and_then(|pods| pods.iter().min_by(|a, b| bound_and_old_first(a, b)));
        let Some(pod) = first else {
            continue;
        };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod.is_ready());
        available += i32::from(pod.is_available(set.spec.min_ready_seconds, now));
        updated += i32::from(is_updated(set, pod, observed.hash));
    }
    status.updated_number_scheduled = number(updated);
    status.number_available = number(available);
    status.number_unavailable = number(status.desired_number_scheduled - available);
    status.observed_generation = observed_generation;
    status.collision_count = set.status.collision_count;
    status.conditions = set.status.conditions.clone();
    status
}

/// A count as statuses have it: zero is not written.
fn number(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

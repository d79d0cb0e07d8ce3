//! When a pod has to leave its node because of the node's taints.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::taint::{NO_EXECUTE, tolerates};

/// The taints that evict.
pub fn evicting(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    taints.iter().filter(|taint| taint.effect == NO_EXECUTE)
}

/// When a pod has to leave; none if it may stay for ever.
///
/// Time runs from when a taint was added, if it says so, else from when it was seen first; but not
/// from before the pod was there. So it goes on where it was under another leader.
pub fn leaves_at(
    tolerations: &[Toleration],
    taints: &[Taint],
    arrived: Option<Timestamp>,
    first_seen: Timestamp,
) -> Option<Timestamp> {
    let deadlines = evicting(taints).filter_map(|taint| {
        let Some(toleration) = tolerations.iter().find(|one| tolerates(one, taint)) else {
            return Some(first_seen);
        };
        let seconds = toleration.toleration_seconds?.max(0);
        if seconds == 0 {
            return Some(first_seen);
        }
        let added = taint.time_added.as_ref().map(|time| time.0);
        let since = match (added, arrived) {
            (Some(added), Some(arrived)) => added.max(arrived).min(first_seen),
            _ => first_seen,
        };
        Some(
            since
                .saturating_add(SignedDuration::from_secs(seconds))
                .unwrap_or(Timestamp::MAX),
        )
    });
    deadlines.min()
}

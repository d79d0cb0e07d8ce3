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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taint::{NO_SCHEDULE, taint, taint_since};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn bears(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            toleration_seconds: seconds,
            ..Toleration::default()
        }
    }

    #[test]
    fn a_pod_leaves_when_its_patience_ends() {
        let (plain, other) = (taint("a", NO_EXECUTE), taint("b", NO_EXECUTE));
        let harmless = taint("a", NO_SCHEDULE);
        type Case<'a> = (&'a str, &'a [Toleration], &'a [Taint], Option<Timestamp>);
        let cases: [Case<'_>; 9] = [
            ("no taints", &[], &[], None),
            ("a taint that does not evict", &[], &[harmless], None),
            (
                "not tolerated",
                &[],
                std::slice::from_ref(&plain),
                Some(at(100)),
            ),
            (
                "tolerated",
                &[bears("a", None)],
                std::slice::from_ref(&plain),
                None,
            ),
            (
                "for a while",
                &[bears("a", Some(60))],
                std::slice::from_ref(&plain),
                Some(at(160)),
            ),
            (
                "for no time",
                &[bears("a", Some(-1))],
                std::slice::from_ref(&plain),
                Some(at(100)),
            ),
            (
                "only one of two",
                &[bears("a", None)],
                &[plain.clone(), other.clone()],
                Some(at(100)),
            ),
            (
                "the shorter of two",
                &[bears("a", Some(60)), bears("b", Some(30))],
                &[plain.clone(), other],
                Some(at(130)),
            ),
            (
                "the first that matches",
                &[bears("a", None), bears("a", Some(30))],
                std::slice::from_ref(&plain),
                None,
            ),
        ];
        for (name, tolerations, taints, leaves) in cases {
            assert_eq!(
                leaves_at(tolerations, taints, Some(at(0)), at(100)),
                leaves,
                "{name}"
            );
        }
    }

    #[test]
    fn time_goes_on_under_another_leader() {
        let taints = [taint_since("a", NO_EXECUTE, at(50))];
        let tolerations = [bears("a", Some(60))];
        let leaves = |arrived| leaves_at(&tolerations, &taints, arrived, at(100));
        assert_eq!(leaves(Some(at(0))), Some(at(110)), "counted from the taint");
        assert_eq!(
            leaves(Some(at(80))),
            Some(at(140)),
            "but not before the pod came"
        );
        assert_eq!(
            leaves(None),
            Some(at(160)),
            "or from now, if it did not say when"
        );
        let odd = [taint_since("a", NO_EXECUTE, at(500))];
        let leaves = leaves_at(&tolerations, &odd, Some(at(0)), at(100));
        assert_eq!(
            leaves,
            Some(at(160)),
            "a clock that is ahead does not delay"
        );
    }
}

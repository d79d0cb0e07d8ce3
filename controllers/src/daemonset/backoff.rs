//! How long a failed pod is left on its node before it is replaced: twice as long each time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(15 * 60);
/// A node without failures for so long starts anew.
const MEMORY: Duration = Duration::from_secs(2 * 15 * 60);

/// Set, generation and node.
type Place = (Box<str>, i64, Box<str>);

/// The failures of all sets' pods.
#[derive(Debug, Default)]
pub(super) struct FailedPods {
    places: Mutex<HashMap<Place, (Duration, Instant)>>,
}

impl FailedPods {
    /// How long a failed pod is left still; none: it may go.
    pub(super) fn left(
        &self,
        set: &str,
        generation: i64,
        node: &str,
        now: Instant,
    ) -> Option<Duration> {
        let places = self.lock();
        let (wait, since) = places.get(&(set.into(), generation, node.into()))?;
        let left = wait.checked_sub(now.duration_since(*since))?;
        (!left.is_zero()).then_some(left)
    }

    /// A failed pod goes: the next one is left longer.
    pub(super) fn next(&self, set: &str, generation: i64, node: &str, now: Instant) {
        let mut places = self.lock();
        places.retain(|_, (_, since)| now.duration_since(*since) <= MEMORY);
        let place = (set.into(), generation, node.into());
        let wait = places
            .get(&place)
            .map_or(FIRST, |(wait, _)| (*wait * 2).min(MAX));
        places.insert(place, (wait, now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, (Duration, Instant)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_failure_is_left_twice_as_long() {
        let (failed, start) = (FailedPods::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let left = |seconds| {
            failed
                .left("s", 1, "n", at(seconds))
                .map(|left| left.as_secs())
        };
        assert_eq!(left(0), None);
        failed.next("s", 1, "n", at(0));
        assert_eq!((left(0), left(1)), (Some(1), None));
        failed.next("s", 1, "n", at(2));
        assert_eq!((left(2), left(4)), (Some(2), None));
        assert_eq!(failed.left("s", 2, "n", at(2)), None);
        for _ in 0..20 {
            failed.next("s", 1, "n", at(5));
        }
        assert_eq!(left(5), Some(15 * 60));
        failed.next("s", 1, "n", at(5 + 31 * 60));
        assert_eq!(left(5 + 31 * 60), Some(1));
    }
}

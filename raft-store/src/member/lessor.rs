//! The leader's clock over leases: who expires when.
//!
//! Which leases exist, with which keys, is replicated state. When they expire is known to the
//! leader alone, in memory: renewing a lease costs no log entry. A new leader gives every lease
//! its whole remaining time again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Expiry times of the leases under one leadership.
#[derive(Default)]
pub struct Lessor {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The term for which the times hold; other terms start afresh.
    term: u64,
    expiry: BTreeMap<i64, Instant>,
    queue: BTreeSet<(Instant, i64)>,
    /// Whose revocation was proposed: it may be carried out at any time, so they cannot be renewed.
    revoking: BTreeSet<i64>,
    /// Whether remaining times were proposed for the record, and nobody knows yet whether they are
    /// in it.
    record_pending: bool,
}

/// A lease of the replicated state: ID and the seconds it has to live when nothing else is known.
pub type Granted = (i64, i64);

impl Lessor {
    /// Takes over the leases as they are now. Known ones keep their time within a term; a new
    /// term starts all of them afresh.
    pub fn sync(&self, term: u64, leases: &[Granted], now: Instant) {
        let mut state = self.lock();
        state.enter(term);
        let known: BTreeSet<i64> = leases.iter().map(|(id, _)| *id).collect();
        let gone: Vec<i64> = state
            .expiry
            .keys()
            .filter(|id| !known.contains(id))
            .copied()
            .collect();
        for id in gone {
            state.forget(id);
        }
        for (id, ttl) in leases {
            if !state.expiry.contains_key(id) {
                state.set(*id, now + seconds(*ttl));
            }
        }
    }

    /// Gives a lease its full time again under the leadership of `term`; not when its revocation
    /// is under way, which is what `false` says.
    #[must_use]
    pub fn renew(&self, term: u64, id: i64, ttl: i64, now: Instant) -> bool {
        let mut state = self.lock();
        state.enter(term);
        let alive = !state.revoking.contains(&id);
        if alive {
            state.set(id, now + seconds(ttl));
        }
        alive
    }

    /// As [`expired`](Self::expired), for revocation under the leadership of `term`: what is
    /// returned can no longer be renewed in this term.
    pub fn revoke_expired(&self, term: u64, now: Instant, limit: usize) -> Vec<i64> {
        let mut state = self.lock();
        if state.term != term {
            return Vec::new();
        }
        let ids = state.expired(now, limit);
        state.revoking.extend(&ids);
        ids
    }

    /// How long a lease has left; `None` when it is not known here.
    pub fn remaining(&self, id: i64, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let at = state.expiry.get(&id)?;
        Some(at.saturating_duration_since(now))
    }

    /// Up to `limit` leases that have expired, the longest expired first.
    pub fn expired(&self, now: Instant, limit: usize) -> Vec<i64> {
        self.lock().expired(now, limit)
    }

    /// What the leases have left, for the record of the leadership of `term`, of those that have
    /// more than `interval` left: in seconds, rounded up, for a new leader ends no lease early. The
    /// others are over, or renewed, before it would matter.
    pub fn checkpoint(&self, term: u64, now: Instant, interval: Duration) -> Vec<Granted> {
        let mut state = self.lock();
        if state.term != term {
            return Vec::new();
        }
        let long = state.queue.iter().rev();
        let long = long.take_while(|(at, _)| at.saturating_duration_since(now) > interval);
        let left = |at: &Instant| {
            let left = at.saturating_duration_since(now);
            (left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)
        };
        let leases: Vec<Granted> = long
            .map(|(at, id)| (*id, i64::try_from(left(at)).unwrap_or(i64::MAX)))
            .collect();
        state.record_pending |= !leases.is_empty();
        leases
    }

    /// What [`checkpoint`](Self::checkpoint) told is in the replicated state, with everything
    /// that was proposed before.
    pub fn recorded(&self, term: u64) {
        let mut state = self.lock();
        if state.term == term {
            state.record_pending = false;
        }
    }

    /// Whether times told by [`checkpoint`](Self::checkpoint) may yet come into the replicated
    /// state: a renewal has to see to it that they do not count.
    pub fn is_record_pending(&self, term: u64) -> bool {
        let state = self.lock();
        state.term == term && state.record_pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins afresh unless `term` goes on.
    fn enter(&mut self, term: u64) {
        if self.term != term {
            *self = State {
                term,
                ..State::default()
            };
        }
    }

    fn expired(&self, now: Instant, limit: usize) -> Vec<i64> {
        let due = self.queue.iter().take_while(|(at, _)| *at <= now);
        due.take(limit).map(|(_, id)| *id).collect()
    }

    fn set(&mut self, id: i64, at: Instant) {
        self.remove(id);
        self.expiry.insert(id, at);
        self.queue.insert((at, id));
    }

    fn remove(&mut self, id: i64) {
        if let Some(at) = self.expiry.remove(&id) {
            self.queue.remove(&(at, id));
        }
    }

    fn forget(&mut self, id: i64) {
        self.remove(id);
        self.revoking.remove(&id);
    }
}

/// A TTL as a duration; a century stands for longer ones, which an `Instant` could not hold.
fn seconds(ttl: i64) -> Duration {
    const CENTURY: u64 = 100 * 365 * 24 * 3600;
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0).min(CENTURY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_expires_unless_renewed() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[(7, 10), (8, 20)], start);
        let later = start + Duration::from_secs(11);
        assert_eq!(lessor.expired(later, 10), [7]);
        assert!(lessor.renew(1, 7, 10, later));
        assert!(lessor.expired(later, 10).is_empty());
        assert_eq!(lessor.remaining(7, later), Some(Duration::from_secs(10)));
    }

    #[test]
    fn syncing_keeps_times_within_a_term_and_starts_afresh_in_the_next() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[(7, 10)], start);
        let later = start + Duration::from_secs(9);
        lessor.sync(1, &[(7, 10), (8, 10)], later);
        assert_eq!(lessor.remaining(7, later), Some(Duration::from_secs(1)));
        lessor.sync(2, &[(7, 10)], later);
        assert_eq!(lessor.remaining(7, later), Some(Duration::from_secs(10)));
        assert_eq!(lessor.remaining(8, later), None);
    }

    #[test]
    fn what_is_being_revoked_is_not_renewed_in_that_term() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[(7, 10)], start);
        let later = start + Duration::from_secs(10);
        assert!(
            lessor.revoke_expired(2, later, 10).is_empty(),
            "another term"
        );
        assert_eq!(lessor.revoke_expired(1, later, 10), [7]);
        assert!(!lessor.renew(1, 7, 10, later));
        assert_eq!(lessor.revoke_expired(1, later, 10), [7], "tried again");
        // The next leader has all earlier revocations behind it when it renews.
        assert!(lessor.renew(2, 7, 10, later));
    }

    #[test]
    fn a_renewal_before_the_first_look_at_the_leases_counts() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[(7, 10)], start);
        assert!(lessor.renew(2, 7, 10, start));
        lessor.sync(2, &[(7, 1)], start);
        assert_eq!(lessor.remaining(7, start), Some(Duration::from_secs(10)));
    }

    #[test]
    fn only_leases_that_outlive_the_interval_are_checkpointed() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[(7, 10), (8, 300), (9, 301), (10, 900)], start);
        let interval = Duration::from_secs(300);
        assert_eq!(lessor.checkpoint(1, start, interval), [(10, 900), (9, 301)]);
        let later = start + Duration::from_secs(590);
        assert_eq!(lessor.checkpoint(1, later, interval), [(10, 310)]);
    }

    #[test]
    fn an_endless_lease_does_not_overflow() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[(7, i64::MAX)], start);
        assert!(lessor.expired(start, 10).is_empty());
        assert!(lessor.checkpoint(1, start, Duration::ZERO)[0].1 > 0);
    }

    #[test]
    fn what_is_recorded_is_never_less_than_what_is_left() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[(7, 10), (8, 1)], start);
        assert_eq!(
            lessor.checkpoint(1, start, Duration::ZERO),
            [(7, 10), (8, 1)]
        );
        let later = start + Duration::from_millis(1200);
        assert_eq!(lessor.checkpoint(1, later, Duration::ZERO), [(7, 9)]);
        assert!(
            lessor.checkpoint(2, later, Duration::ZERO).is_empty(),
            "another term"
        );
    }

    #[test]
    fn a_record_is_pending_until_it_is_known_to_be_there() {
        let lessor = Lessor::default();
        let start = Instant::now();
        lessor.sync(1, &[], start);
        assert!(lessor.checkpoint(1, start, Duration::ZERO).is_empty());
        assert!(!lessor.is_record_pending(1), "nothing to record");
        lessor.sync(1, &[(7, 10)], start);
        assert!(!lessor.checkpoint(1, start, Duration::ZERO).is_empty());
        assert!(lessor.is_record_pending(1));
        lessor.recorded(2);
        assert!(lessor.is_record_pending(1), "another term's");
        lessor.recorded(1);
        assert!(!lessor.is_record_pending(1));
        assert!(!lessor.checkpoint(1, start, Duration::ZERO).is_empty());
        lessor.sync(2, &[(7, 10)], start);
        assert!(
            !lessor.is_record_pending(2),
            "the next leader's log is whole"
        );
    }
}

//! Reading one's own writes: a controller does nothing for an object before its cache shows what it
//! wrote for that object the last time.
//!
//! Informers never go back, and resource versions are one sequence; therefore a write has been seen
//! once the informer has shown an object at its version. A deletion has been seen once the cache has
//! the object no more, or knows that it is being deleted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::View;
use tokio::time::Instant;

/// When a write counts as seen although the cache never showed it: an object that was gone again
/// when the informer had to list anew is not shown at all.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What was written of one kind for each owner, by the owner's uid, and perhaps not yet seen.
#[derive(Debug, Default)]
pub struct Expectations {
    /// The highest version that the informer has shown.
    seen: AtomicU64,
    of_owner: Mutex<HashMap<Box<str>, Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    since: Option<Instant>,
    /// The highest version of a write.
    written: u64,
    /// Names and uids of what was deleted.
    deleted: Vec<(Box<str>, Box<str>)>,
}

impl Expectations {
    /// The informer shows an object: new, changed, or how it was last. To be called before anybody
    /// is woken for it.
    pub fn saw<V: View>(&self, object: &V) {
        self.seen.fetch_max(
            version(object.meta().resource_version.as_deref()),
            Ordering::AcqRel,
        );
    }

    /// Something of an owner was written, at this version.
    pub fn wrote(&self, owner: &str, resource_version: Option<&str>, now: Instant) {
        let mut all = self.lock();
        let pending = all.entry(owner.into()).or_default();
        pending.since = Some(now);
        pending.written = pending.written.max(version(resource_version));
    }

    /// Something of an owner was deleted.
    pub fn deleted(&self, owner: &str, name: &str, uid: &str, now: Instant) {
        let mut all = self.lock();
        let pending = all.entry(owner.into()).or_default();
        pending.since = Some(now);
        pending.deleted.push((name.into(), uid.into()));
    }

    /// Whether all writes for an owner have been seen. `is_live` tells whether the cache has an
    /// object of a name and uid that is not being deleted.
    pub fn are_met(&self, owner: &str, now: Instant, is_live: impl Fn(&str, &str) -> bool) -> bool {
        let mut all = self.lock();
        let Some(pending) = all.get_mut(owner) else {
            return true;
        };
        pending.deleted.retain(|(name, uid)| is_live(name, uid));
        let seen = self.seen.load(Ordering::Acquire);
        let is_seen = pending.deleted.is_empty() && pending.written <= seen;
        let is_old = |since| now.duration_since(since) > PATIENCE;
        let are_met = is_seen || pending.since.is_none_or(is_old);
        if are_met {
            all.remove(owner);
        }
        are_met
    }

    /// An owner is gone.
    pub fn forget(&self, owner: &str) {
        self.lock().remove(owner);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Pending>> {
        self.of_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Pod;

    fn at(version: &str) -> Pod {
        let value = serde_json::json!({"metadata": {"resourceVersion": version}});
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn an_owner_waits_for_what_was_written_for_it() {
        let (all, now) = (Expectations::default(), Instant::now());
        let gone = |_: &str, _: &str| false;
        assert!(all.are_met("a", now, gone));
        all.wrote("a", Some("7"), now);
        all.wrote("a", Some("5"), now);
        all.saw(&at("6"));
        assert!(!all.are_met("a", now, gone) && all.are_met("b", now, gone));
        all.saw(&at("7"));
        all.saw(&at("3"));
        assert!(all.are_met("a", now, gone));
        all.wrote("a", Some("99"), now);
        assert!(!all.are_met("a", now + PATIENCE, gone));
        assert!(all.are_met("a", now + PATIENCE * 2, gone));
    }

    #[tokio::test]
    async fn a_deletion_is_seen_when_the_object_is_not_live_any_more() {
        let (all, now) = (Expectations::default(), Instant::now());
        all.deleted("a", "pod", "uid", now);
        assert!(!all.are_met("a", now, |name, uid| (name, uid) == ("pod", "uid")));
        assert!(all.are_met("a", now, |_, uid| uid == "uid of its successor"));
        all.deleted("a", "pod", "uid", now);
        all.forget("a");
        assert!(all.are_met("a", now, |_, _| true));
    }
}

//! A stream's position in the sequence of revisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::Revision;
use super::hub::Membership;
use super::range::KeyRange;
use super::ring::RingRead;

/// The next revision that a stream has to look at. Everything below has been looked at, or does
/// not concern the ranges that the stream registered.
///
/// A cursor sleeps while nothing concerns it: then its position follows the dispatcher without
/// reading. A mark on the bell wakes it; it reads from the mark until it meets the end of the
/// ring, and sleeps again.
pub struct Cursor {
    membership: Membership,
    /// The registered ranges, with the number of watchers of each.
    ranges: BTreeMap<KeyRange, usize>,
    next: i64,
    awake: bool,
}

/// What a cursor met.
#[derive(Debug)]
pub enum Step {
    /// Consecutive revisions; the cursor stands after them.
    Revisions(Vec<Arc<Revision>>),
    /// The ring has moved past the cursor. Read the history from [`Cursor::position`] on
    /// ([`super::WatchHub::catch_up`]), then [`Cursor::advance`].
    Behind,
    /// Nothing that concerns the stream up to the position. The bell rings when that changes.
    Asleep,
}

impl Cursor {
    /// A cursor behind everything that has happened so far, concerned with nothing.
    pub fn new(membership: Membership) -> Cursor {
        let next = membership.hub().dispatched() + 1;
        Cursor {
            membership,
            ranges: BTreeMap::new(),
            next,
            awake: false,
        }
    }

    /// The stream's place in the hub.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The next revision to look at: all before it are done with.
    pub fn position(&self) -> i64 {
        self.next
    }

    /// Adds a watcher's range: its changes from `from` on concern the stream. Returns where they
    /// will be seen from: what lies between `from` and there is up to the caller, as a cursor
    /// never turns back.
    pub fn watch(&mut self, range: &KeyRange, from: i64) -> i64 {
        let from = from.max(self.next);
        *self.ranges.entry(range.clone()).or_default() += 1;
        self.membership.register(range, from);
        from
    }

    /// Like [`Cursor::watch`] for a stream's only watcher: starts at `from`, however long ago.
    pub fn start(&mut self, range: &KeyRange, from: i64) {
        self.next = from;
        self.watch(range, from);
    }

    /// Removes a watcher's range.
    pub fn unwatch(&mut self, range: &KeyRange) {
        if let Some(watchers) = self.ranges.get_mut(range) {
            *watchers -= 1;
            if *watchers == 0 {
                self.ranges.remove(range);
                self.membership.unregister(range);
            }
        }
    }

    /// Whether the cursor is concerned with nothing.
    pub fn is_idle(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Takes the next revisions, about `max_bytes` of them by weight, at least one.
    pub fn step(&mut self, max_bytes: usize) -> Step {
        loop {
            if !self.awake {
                // In this order: a mark for any revision up to `dispatched` is there by now.
                let dispatched = self.membership.hub().dispatched();
                let Some(mark) = self.membership.bell().take_mark() else {
                    self.next = self.next.max(dispatched + 1);
                    return Step::Asleep;
                };
                self.next = self.next.max(mark);
                self.awake = true;
            }
            let ring = self.membership.hub().ring();
            match ring.read(self.next, i64::MAX, max_bytes) {
                RingRead::Revisions(revisions) => {
                    self.next += revisions.len() as i64;
                    return Step::Revisions(revisions);
                }
                RingRead::CaughtUp => self.awake = false,
                RingRead::Behind => return Step::Behind,
            }
        }
    }

    /// Moves on to `next`, up to which the history was read. Never moves back.
    pub fn advance(&mut self, next: i64) {
        self.next = self.next.max(next);
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        for range in self.ranges.keys() {
            self.membership.unregister(range);
        }
    }
}

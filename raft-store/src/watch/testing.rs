//! A small multi-version store for tests of watches: the naive model and the [`History`] at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use proptest::prelude::*;

use super::event::{Change, History, Revision};
use super::range::KeyRange;
use super::ring::EventRing;
use crate::error::{Error, Result};
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};

/// The store. Every write is published into the ring, unless it came with a snapshot.
pub(crate) struct TestStore {
    state: Mutex<State>,
    ring: Arc<EventRing>,
}

#[derive(Default)]
struct State {
    /// All events ever, with their previous versions. The first revision is 2, as in etcd.
    events: BTreeMap<i64, Vec<Event>>,
    latest: BTreeMap<Bytes, KeyValue>,
    /// Earlier versions, by key and revision, with the revision that replaced them.
    replaced: BTreeMap<(Bytes, i64), (KeyValue, i64)>,
    compact_revision: i64,
    /// Applied and readable, but not published yet.
    hidden: Vec<i64>,
}

/// One operation: a key with its new value, or `None` to delete it.
pub(crate) type Op = (&'static str, Option<Vec<u8>>);

/// One random step of the store.
#[derive(Debug, Clone)]
pub(crate) enum StoreStep {
    Write(Vec<Op>),
    /// Readers see it before it is published, with the next write.
    Apply(Vec<Op>),
    Install(Vec<Vec<Op>>),
    /// Compacts so many revisions below the current one.
    Compact(i64),
}

/// Ranges over the keys of [`store_step`]: single keys, prefixes, open ends.
pub(crate) const RANGES: [(&str, &str); 6] = [
    ("a", ""),
    ("b", ""),
    ("b/", "b0"),
    ("b", "\0"),
    ("\0", "\0"),
    ("", "b/2"),
];

/// Operations on distinct keys.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = prop::sample::select(vec!["a", "b", "b/1", "b/2", "c"]);
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..60));
    prop::collection::btree_map(key, value, 1..4).prop_map(|ops| ops.into_iter().collect())
}

/// Steps of the store, mostly writes.
pub(crate) fn store_step() -> impl Strategy<Value = StoreStep> {
    prop_oneof![
        8 => ops().prop_map(StoreStep::Write),
        2 => ops().prop_map(StoreStep::Apply),
        1 => prop::collection::vec(ops(), 0..6).prop_map(StoreStep::Install),
        1 => (0i64..20).prop_map(StoreStep::Compact),
    ]
}

impl TestStore {
    /// Takes a step.
    pub(crate) fn take(&self, step: &StoreStep) {
        match step {
            StoreStep::Write(ops) => drop(self.write(ops)),
            StoreStep::Apply(ops) => drop(self.apply(ops)),
            StoreStep::Install(writes) => self.install(writes),
            StoreStep::Compact(back) => self.compact((self.current_revision() - back).max(1)),
        }
    }

    pub(crate) fn new(ring_bytes: usize) -> Arc<TestStore> {
        let ring = Arc::new(EventRing::new(ring_bytes));
        ring.reset(1);
        let state = Mutex::default();
        Arc::new(TestStore { state, ring })
    }

    pub(crate) fn ring(&self) -> Arc<EventRing> {
        self.ring.clone()
    }

    pub(crate) fn put(&self, key: &'static str, value: &str) -> i64 {
        self.write(&[(key, Some(value.into()))])
    }

    pub(crate) fn delete(&self, key: &'static str) -> i64 {
        self.write(&[(key, None)])
    }

    /// Applies the operations in one revision and publishes it; returns the current revision.
    pub(crate) fn write(&self, ops: &[Op]) -> i64 {
        let revision = self.apply(ops);
        self.publish();
        revision
    }

    /// Publishes what has been applied.
    pub(crate) fn publish(&self) {
        let mut state = self.state();
        let hidden = std::mem::take(&mut state.hidden);
        let found = hidden.into_iter().filter_map(|r| state.revision(r));
        let found = found.collect();
        drop(state);
        self.ring.publish(found);
    }

    /// Applies operations that watchers can only find in the history, as a snapshot brings them.
    pub(crate) fn install(&self, writes: &[Vec<Op>]) {
        self.publish();
        for ops in writes {
            self.apply(ops);
        }
        self.state().hidden.clear();
        self.ring.reset(self.current_revision());
    }

    pub(crate) fn compact(&self, revision: i64) {
        let mut state = self.state();
        assert!(revision <= state.current());
        state.compact_revision = revision.max(state.compact_revision);
    }

    /// What a watch should see, per revision, with previous versions.
    pub(crate) fn events(&self, range: &KeyRange, from: i64) -> Vec<Event> {
        let state = self.state();
        let events = state.events.range(from..).flat_map(|(_, events)| events);
        let wanted = |e: &&Event| e.kv.as_ref().is_some_and(|kv| range.contains(&kv.key));
        events.filter(wanted).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside")
    }

    /// Applies the operations in one revision, which readers see before it is published.
    pub(crate) fn apply(&self, ops: &[Op]) -> i64 {
        let mut state = self.state();
        let revision = state.current() + 1;
        let mut events = Vec::new();
        for (key, value) in ops {
            events.extend(state.change(key, value.as_deref(), revision));
        }
        if events.is_empty() {
            return state.current();
        }
        state.events.insert(revision, events);
        state.hidden.push(revision);
        revision
    }
}

impl State {
    fn current(&self) -> i64 {
        self.events.last_key_value().map_or(1, |(last, _)| *last)
    }

    fn change(&mut self, key: &'static str, value: Option<&[u8]>, revision: i64) -> Option<Event> {
        let key = Bytes::from_static(key.as_bytes());
        let prev_kv = self.latest.remove(&key);
        if let Some(prev) = prev_kv.clone() {
            let version = (prev.key.clone(), prev.mod_revision);
            self.replaced.insert(version, (prev, revision));
        }
        let kv = match value {
            None => {
                prev_kv.as_ref()?;
                KeyValue {
                    key,
                    mod_revision: revision,
                    ..KeyValue::default()
                }
            }
            Some(value) => KeyValue {
                create_revision: prev_kv.as_ref().map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: prev_kv.as_ref().map_or(1, |kv| kv.version + 1),
                value: Bytes::copy_from_slice(value),
                lease: 0,
                key,
            },
        };
        let kind = match value {
            None => EventType::Delete,
            Some(_) => {
                self.latest.insert(kv.key.clone(), kv.clone());
                EventType::Put
            }
        };
        Some(Event {
            r#type: kind as i32,
            kv: Some(kv),
            prev_kv,
        })
    }

    /// A fresh copy, sharing no caches with earlier ones, as if read from disk.
    fn revision(&self, revision: i64) -> Option<Arc<Revision>> {
        let events = self.events.get(&revision)?;
        let changes = events.iter().map(|event| {
            let prev_revision = event.prev_kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let event = Event {
                prev_kv: None,
                ..event.clone()
            };
            Change::new(event, prev_revision)
        });
        Some(Arc::new(Revision::new(revision, changes.collect())))
    }
}

impl History for TestStore {
    fn current_revision(&self) -> i64 {
        self.state().current()
    }

    fn compact_revision(&self) -> i64 {
        self.state().compact_revision
    }

    fn revisions(&self, from: i64, max_bytes: usize) -> Result<Vec<Arc<Revision>>> {
        let state = self.state();
        let compact_revision = state.compact_revision;
        if from < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        let mut bytes = 0;
        let mut found = Vec::new();
        for (number, _) in state.events.range(from..) {
            found.extend(state.revision(*number));
            bytes += found.last().map_or(0, |r| r.weight());
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(found)
    }

    /// A version is gone once a compaction reached the change that replaced it.
    fn version_at(&self, key: &[u8], mod_revision: i64) -> Result<Option<KeyValue>> {
        let state = self.state();
        let version = (Bytes::copy_from_slice(key), mod_revision);
        let (kv, replaced_at) = match state.replaced.get(&version) {
            Some(found) => found,
            None => {
                let latest = state.latest.get(key).cloned();
                return Ok(latest.filter(|kv| kv.mod_revision == mod_revision));
            }
        };
        let kept = *replaced_at > state.compact_revision;
        Ok(kept.then(|| kv.clone()))
    }
}

//! Collects the history that compaction gave up.
//!
//! `Compact` only moves a watermark. Behind it, step by step, every revision below the watermark
//! is taken from the Revisions space: the versions that it superseded go, its tombstones go, then
//! its own record. What is left is exactly what a reader at the watermark or above needs, and what
//! a watch that starts at the watermark delivers: the revision at the watermark is not touched, so
//! that its deletions are still there (etcd#18089, #19179).
//!
//! The work follows the churn, not the size of the store. A step's writes and its progress are one
//! batch, so that a crash repeats or loses whole steps. Members collect at their own pace.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::keys::{self, GcRecord, RevisionRecord};
use super::state::{Published, Source};
use super::write::version_bytes;
use crate::engine::{Batch, Engine, EngineError, Space};

/// How far the history of one engine is collected.
pub(super) struct Progress {
    record: Mutex<GcRecord>,
    collected: AtomicU64,
    /// Versions collected since the engine was opened.
    versions: AtomicU64,
}

impl Progress {
    pub(super) fn load(engine: &dyn Engine) -> Result<Progress, EngineError> {
        let record = match engine.get(Space::Meta, keys::GC)? {
            Some(record) => GcRecord::decode(&record)?,
            None => GcRecord::default(),
        };
        Ok(Progress {
            collected: AtomicU64::new(record.collected),
            record: Mutex::new(record),
            versions: AtomicU64::new(0),
        })
    }

    /// Bytes of all versions ever collected.
    pub(super) fn collected(&self) -> u64 {
        self.collected.load(Ordering::Relaxed)
    }

    /// Versions collected since the engine was opened.
    pub(super) fn versions(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    /// Every revision below this one is collected.
    pub(super) fn next(&self) -> i64 {
        self.lock().next
    }

    fn lock(&self) -> MutexGuard<'_, GcRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The revisions that readers are at; nothing they may need is collected.
#[derive(Default)]
pub(super) struct Pins {
    /// How many readers are at each revision.
    readers: Mutex<BTreeMap<i64, usize>>,
}

/// A reader's hold on one revision, until it is dropped.
pub(super) struct Pin {
    pins: Arc<Pins>,
    revision: i64,
}

impl Pins {
    /// Holds a revision. The caller checks after this that it is not compacted: a step that began
    /// before the pin respects only the watermark.
    pub(super) fn pin(self: &Arc<Pins>, revision: i64) -> Pin {
        *self.lock().entry(revision).or_default() += 1;
        Pin {
            pins: self.clone(),
            revision,
        }
    }

    pub(super) fn lowest(&self) -> Option<i64> {
        self.lock().keys().next().copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, usize>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pin {
    /// The revision that is held.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut readers = self.pins.lock();
        if let Some(count) = readers.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.revision);
            }
        }
    }
}

/// Collects about `budget` changes; says whether there is more to collect now.
pub(super) fn step(state: &Published, pins: &Pins, budget: usize) -> Result<bool, EngineError> {
    // Held for the whole step: steps do not overlap.
    let mut progress = state.progress.lock();
    // The watermark was loaded before the pins are looked at; a pin that is set after this look
    // sees a watermark at least as high and gives up if it is below.
    let below = state.compact_revision();
    let below = pins.lowest().map_or(below, |lowest| lowest.min(below));
    if progress.next >= below {
        return Ok(false);
    }
    let mut next = *progress;
    let mut batch = Batch::default();
    let more = collect(&*state.engine, below, budget.max(1), &mut next, &mut batch)?;
    let removed = batch.len() as u64;
    batch.put(Space::Meta, keys::GC, &next.encode());
    state.engine.write(&batch)?;
    state
        .progress
        .versions
        .fetch_add(removed, Ordering::Relaxed);
    state
        .progress
        .collected
        .store(next.collected, Ordering::Relaxed);
    *progress = next;
    Ok(more)
}

fn collect(
    engine: &dyn Engine,
    below: i64,
    mut budget: usize,
    progress: &mut GcRecord,
    batch: &mut Batch,
) -> Result<bool, EngineError> {
    let mut cursor = engine.cursor(Space::Revisions);
    cursor.seek(&keys::revision_key(progress.next));
    while let Some((key, record)) = cursor.entry()? {
        let revision = keys::revision_of_key(key)?;
        if revision >= below {
            break;
        }
        if budget == 0 {
            return Ok(true);
        }
        if revision != progress.next {
            progress.next = revision;
            progress.change = 0;
        }
        let record = RevisionRecord::decode(key, Bytes::copy_from_slice(record))?;
        let done = usize::try_from(progress.change).unwrap_or(usize::MAX);
        for change in record.changes.iter().skip(done).take(budget) {
            budget -= 1;
            progress.change += 1;
            if change.previous != 0 {
                batch.delete_once(Space::Kv, &keys::version_key(&change.key, change.previous));
                let bytes = change.key.len() + change.previous_len as usize;
                progress.collected += version_bytes(bytes);
            }
            if change.delete {
                batch.delete_once(Space::Kv, &keys::version_key(&change.key, revision));
                progress.collected += version_bytes(change.key.len());
            }
        }
        if progress.change < record.changes.len() as u64 {
            return Ok(true);
        }
        batch.delete_once(Space::Revisions, key);
        progress.next = revision + 1;
        progress.change = 0;
        cursor.next();
    }
    progress.next = below;
    progress.change = 0;
    Ok(false)
}

//! The state that apply is building: the changes of one revision after another, gathered into one
//! batch for the engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::gc::Progress;
use super::history::{deleted, walk, written};
use super::index::Index;
use super::keys::{self, KeyMeta, RevisionRecord, StateRecord, VersionRecord};
use super::leases::{LeaseEvent, Leases};
use super::span::Span;
use super::state::{Failure, Published, Row, Source, read_version};
use crate::engine::{Batch, Engine, EngineError, Space};
use crate::pb::mvccpb::KeyValue;
use crate::position::LogPosition;
use crate::watch::{Change, Revision};

/// What a version takes besides its key and value: its share of the records around it.
const VERSION_OVERHEAD: u64 = 64;

/// The one writer of the state. What it changes becomes visible when it is published.
pub(super) struct Writer {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) record: StateRecord,
    pub(super) index: Index,
    pub(super) leases: Leases,
    pub(super) alarms: Arc<BTreeSet<(i32, u64)>>,
    pub(super) membership: Option<(LogPosition, Bytes)>,
    /// An error has left the state half changed.
    pub(super) failed: bool,
    progress: Arc<Progress>,
    batch: Batch,
    /// The changes of the revision under way, and the value length of the version before each.
    open: Vec<Change>,
    open_previous_len: Vec<u32>,
    /// Finished revisions that are not published yet, without gaps.
    finished: Vec<Arc<Revision>>,
    lease_events: Vec<LeaseEvent>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Writer {
    /// A writer that continues a state.
    pub(super) fn new(state: &Published) -> Writer {
        Writer {
            engine: state.engine.clone(),
            record: state.record,
            index: state.index.clone(),
            leases: state.leases.clone(),
            alarms: state.alarms.clone(),
            membership: state.membership.clone(),
            failed: false,
            progress: state.progress.clone(),
            batch: Batch::default(),
            open: Vec::new(),
            open_previous_len: Vec::new(),
            finished: Vec::new(),
            lease_events: Vec::new(),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// The state as readers shall see it.
    pub(super) fn published(&self) -> Published {
        Published {
            engine: self.engine.clone(),
            record: self.record,
            index: self.index.clone(),
            leases: self.leases.clone(),
            alarms: self.alarms.clone(),
            membership: self.membership.clone(),
            progress: self.progress.clone(),
        }
    }

    /// The revisions and lease events since the last call.
    pub(super) fn take_events(&mut self) -> (Vec<Arc<Revision>>, Vec<LeaseEvent>) {
        let revisions = std::mem::take(&mut self.finished);
        (revisions, std::mem::take(&mut self.lease_events))
    }

    /// Puts a key in the revision under way.
    pub(super) fn put(&mut self, key: Bytes, value: Bytes, lease: i64) {
        let revision = self.record.revision + 1;
        let mut meta = KeyMeta {
            create: revision,
            modified: revision,
            version: 1,
            lease,
            value_len: value.len() as u32,
        };
        let old = self.index.update(&key, |old| {
            if let Some(old) = old {
                meta.create = old.create;
                meta.version = old.version + 1;
            }
            meta
        });
        self.move_lease(&key, old.map_or(0, |old| old.lease), lease);

        keys::version_key_into(&key, revision, &mut self.key);
        VersionRecord::encode_put(&self.key, &meta, &value, &mut self.value);
        self.add_version(key.len() + value.len());
        meta.encode(&mut self.value);
        self.batch.put(Space::Index, &key, &self.value);
        let event = written(KeyValue {
            key,
            create_revision: meta.create,
            mod_revision: revision,
            version: meta.version,
            value,
            lease,
        });
        self.add_change(Change::new(event, old.map_or(0, |old| old.modified)), old);
    }

    /// Deletes a key, which must exist, in the revision under way.
    pub(super) fn delete(&mut self, key: Bytes) {
        let Some(old) = self.index.remove(&key) else {
            return;
        };
        let revision = self.record.revision + 1;
        self.move_lease(&key, old.lease, 0);
        keys::version_key_into(&key, revision, &mut self.key);
        VersionRecord::encode_tombstone(&self.key, &mut self.value);
        self.add_version(key.len());
        self.batch.delete(Space::Index, &key);
        let change = Change::new(deleted(key, revision), old.modified);
        self.add_change(change, Some(old));
    }

    /// How many changes the revision under way has.
    pub(super) fn open_changes(&self) -> usize {
        self.open.len()
    }

    /// Closes the revision under way, if anything changed.
    pub(super) fn finish_revision(&mut self) {
        if self.open.is_empty() {
            return;
        }
        self.record.revision += 1;
        let number = self.record.revision;
        RevisionRecord::begin(self.record.hash, self.open.len(), &mut self.value);
        for (change, previous_len) in self.open.iter().zip(&self.open_previous_len) {
            let (delete, previous) = (change.is_delete(), change.prev_revision);
            RevisionRecord::push(
                delete,
                change.key(),
                previous,
                *previous_len,
                &mut self.value,
            );
        }
        let place = keys::revision_key(number);
        RevisionRecord::finish(&place, &mut self.value);
        self.batch.put(Space::Revisions, &place, &self.value);
        self.open_previous_len.clear();
        let changes = std::mem::take(&mut self.open);
        self.finished.push(Arc::new(Revision::new(number, changes)));
    }

    /// Grants or changes a lease.
    pub(super) fn set_lease(&mut self, id: i64, lease: keys::LeaseRecord, event: LeaseEvent) {
        self.leases.set(id, lease);
        let place = keys::lease_key(id);
        self.batch.put(Space::Leases, &place, &lease.encode());
        self.lease_events.push(event);
    }

    /// Removes a lease; its keys must be gone already.
    pub(super) fn remove_lease(&mut self, id: i64) {
        self.leases.remove(id);
        self.batch.delete(Space::Leases, &keys::lease_key(id));
        self.lease_events.push(LeaseEvent::Revoked { id });
    }

    pub(super) fn set_alarms(&mut self, alarms: BTreeSet<(i32, u64)>) {
        let record = keys::AlarmsRecord::encode(alarms.iter().copied());
        self.batch.put(Space::Meta, keys::ALARMS, &record);
        self.alarms = Arc::new(alarms);
    }

    pub(super) fn set_membership(&mut self, position: LogPosition, membership: Bytes) {
        let record = keys::encode_membership(position, &membership);
        self.batch.put(Space::Meta, keys::MEMBERSHIP, &record);
        self.membership = Some((position, membership));
    }

    /// Hands everything so far to the engine, with the position up to which it was applied.
    pub(super) fn commit(&mut self) -> Result<(), EngineError> {
        let state = self.record.encode();
        self.batch.put(Space::Meta, keys::STATE, &state);
        self.engine.write(&self.batch)?;
        self.batch.clear();
        Ok(())
    }

    /// Adds the version in the buffers to the batch and to the hash.
    fn add_version(&mut self, bytes: usize) {
        let hash = xxh3_64_with_seed(&self.key, self.record.hash);
        self.record.hash = xxh3_64_with_seed(&self.value, hash);
        self.record.written += version_bytes(bytes);
        self.batch.put(Space::Kv, &self.key, &self.value);
    }

    fn add_change(&mut self, change: Change, old: Option<KeyMeta>) {
        if self.open.capacity() == 0 {
            // Most revisions have one change, and watchers keep them: no spare room.
            self.open.reserve_exact(1);
        }
        self.open.push(change);
        self.open_previous_len
            .push(old.map_or(0, |old| old.value_len));
    }

    fn move_lease(&mut self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        if from != 0 {
            self.leases.detach(from, key);
        }
        if to != 0 {
            self.leases.attach(to, key);
        }
    }

    /// The change that wrote a version which the engine may not have yet.
    fn recent(&self, key: &[u8], revision: i64) -> Option<&Change> {
        if revision > self.record.revision {
            return self.open.iter().rev().find(|change| change.key() == key);
        }
        let first = self.finished.first()?.revision;
        let at = usize::try_from(revision - first).ok()?;
        let changes = &self.finished.get(at)?.changes;
        changes.iter().find(|change| change.key() == key)
    }
}

/// What a version counts towards the quota: its key and value, of `bytes` together, and overhead.
pub(super) fn version_bytes(bytes: usize) -> u64 {
    bytes as u64 + VERSION_OVERHEAD
}

impl Source for Writer {
    /// Inside a revision, that revision: a transaction reads its own writes.
    fn revision(&self) -> i64 {
        self.record.revision + i64::from(!self.open.is_empty())
    }

    fn compact_revision(&self) -> i64 {
        self.record.compact
    }

    fn index(&self) -> &Index {
        &self.index
    }

    fn leases(&self) -> &Leases {
        &self.leases
    }

    fn version(&self, key: &[u8], revision: i64) -> Result<VersionRecord, Failure> {
        let Some(change) = self.recent(key, revision) else {
            return read_version(&*self.engine, key, revision);
        };
        match (&change.event.kv, change.is_delete()) {
            (Some(kv), false) => Ok(VersionRecord::Put {
                create: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
                value: kv.value.clone(),
            }),
            _ => Ok(VersionRecord::Tombstone),
        }
    }

    /// Reads from the engine: what is to be found there must have been committed before.
    fn past_rows(
        &self,
        span: &Span<'_>,
        at: i64,
        limit: usize,
        want_count: bool,
    ) -> Result<(Vec<Row>, usize), Failure> {
        walk(&*self.engine, span, at, limit, want_count)
    }
}

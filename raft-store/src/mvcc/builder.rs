//! Writes a fresh store from the outside: a restored backup, an imported etcd snapshot.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::keys::{
    self, GcRecord, KeyMeta, LeaseRecord, RevisionRecord, StateRecord, VersionRecord,
};
use super::leases::LeaseInfo;
use super::write::version_bytes;
use crate::engine::{Batch, Engine, EngineError, Space};
use crate::pb::mvccpb::KeyValue;
use crate::position::LogPosition;

/// A batch is written once it has this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Where the built store stands.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The current revision: at least the `mod_revision` of every key.
    pub revision: i64,
    /// The lowest readable revision: the store has only the latest version of each key, so at
    /// least the `mod_revision` of every key too. 0 for a store without keys.
    pub compact_revision: i64,
    /// The log entry up to which the store counts as applied.
    pub applied: Option<LogPosition>,
    /// The membership and the entry that set it.
    pub membership: Option<(LogPosition, Bytes)>,
    /// Makes the member IDs that this cluster will allocate differ from those of the cluster
    /// that the data comes from.
    pub seed: u64,
    /// The chained hash to continue; `None` takes one over the keys, in the order they were put.
    /// All members of a cluster must be given the same.
    pub hash: Option<u64>,
}

/// Fills an empty engine. Keys keep their create revision, mod revision, version and lease.
pub struct Builder {
    engine: Arc<dyn Engine>,
    batch: Batch,
    hash: u64,
    written: u64,
    highest: i64,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Builder {
    /// Starts with an engine, which must be empty.
    pub fn new(engine: Arc<dyn Engine>) -> Result<Builder, EngineError> {
        for space in Space::ALL {
            let mut cursor = engine.cursor(space);
            cursor.seek(&[]);
            if cursor.entry()?.is_some() {
                return Err(EngineError::Invalid("the engine is not empty".into()));
            }
        }
        Ok(Builder {
            engine,
            batch: Batch::default(),
            hash: 0,
            written: 0,
            highest: 0,
            key: Vec::new(),
            value: Vec::new(),
        })
    }

    /// Adds a lease. Leases come before the keys attached to them.
    pub fn lease(&mut self, id: i64, lease: LeaseInfo) -> Result<(), EngineError> {
        let record = LeaseRecord {
            granted_ttl: lease.granted_ttl,
            remaining_ttl: lease.remaining_ttl,
        };
        let place = keys::lease_key(id);
        // Written at once, so that the keys that follow find it.
        self.batch.put(Space::Leases, &place, &record.encode());
        self.write()
    }

    /// Adds a key's latest version. No key twice; any order.
    pub fn put(&mut self, kv: &KeyValue) -> Result<(), EngineError> {
        let sound = kv.create_revision >= 1
            && kv.create_revision <= kv.mod_revision
            && kv.version >= 1
            && !kv.key.is_empty();
        if !sound {
            let key = kv.key.escape_ascii();
            return Err(EngineError::Invalid(format!(
                "key {key} has no valid revisions"
            )));
        }
        if kv.lease != 0 && self.lease_missing(kv.lease)? {
            let key = kv.key.escape_ascii();
            return Err(EngineError::Invalid(format!(
                "the lease of key {key} is missing"
            )));
        }
        let meta = KeyMeta {
            create: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
            value_len: kv.value.len() as u32,
        };
        keys::version_key_into(&kv.key, kv.mod_revision, &mut self.key);
        VersionRecord::encode_put(&self.key, &meta, &kv.value, &mut self.value);
        self.hash = xxh3_64_with_seed(&self.value, xxh3_64_with_seed(&self.key, self.hash));
        self.batch.put(Space::Kv, &self.key, &self.value);
        meta.encode(&mut self.value);
        self.batch.put(Space::Index, &kv.key, &self.value);
        self.written += version_bytes(kv.key.len() + kv.value.len());
        self.highest = self.highest.max(kv.mod_revision);
        if self.batch.bytes() >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Sets where the store stands and makes everything durable. The engine can be opened after
    /// this.
    pub fn finish(mut self, origin: Origin) -> Result<(), EngineError> {
        let (revision, compact) = (origin.revision, origin.compact_revision);
        if revision < 1 || compact > revision || compact < self.highest {
            return Err(EngineError::Invalid(format!(
                "revision {revision}, compacted at {compact}, with a key changed at {}",
                self.highest
            )));
        }
        let state = StateRecord {
            applied: origin.applied,
            revision,
            hash: origin.hash.unwrap_or(self.hash),
            compact,
            written: self.written,
            seed: origin.seed,
        };
        self.batch.put(Space::Meta, keys::STATE, &state.encode());
        // No changes, but the hash that later ones continue.
        let place = keys::revision_key(revision);
        RevisionRecord::begin(state.hash, 0, &mut self.value);
        RevisionRecord::finish(&place, &mut self.value);
        self.batch.put(Space::Revisions, &place, &self.value);
        let collected = GcRecord {
            next: compact,
            ..GcRecord::default()
        };
        self.batch.put(Space::Meta, keys::GC, &collected.encode());
        if let Some((position, membership)) = origin.membership {
            let record = keys::encode_membership(position, &membership);
            self.batch.put(Space::Meta, keys::MEMBERSHIP, &record);
        }
        self.write()?;
        self.engine.flush()
    }

    fn lease_missing(&self, id: i64) -> Result<bool, EngineError> {
        let found = self.engine.get(Space::Leases, &keys::lease_key(id))?;
        Ok(found.is_none())
    }

    fn write(&mut self) -> Result<(), EngineError> {
        self.engine.write(&self.batch)?;
        self.batch.clear();
        Ok(())
    }
}

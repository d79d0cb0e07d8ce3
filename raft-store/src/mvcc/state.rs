//! What a request reads from: the published state, or the state that apply is building.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::gc::Progress;
use super::history::Past;
use super::index::{self, Index};
use super::keys::{self, KeyMeta, StateRecord, VersionRecord};
use super::leases::Leases;
use super::span::Span;
use crate::engine::{Cursor, Engine, EngineError, Space};
use crate::error::Error;
use crate::pb::mvccpb::KeyValue;
use crate::position::LogPosition;

/// Up to this many values are read one by one; more, in one pass with a cursor.
const POINT_READS: usize = 16;
/// How many steps a cursor takes towards an entry before it is sought: a step costs about a tenth
/// of a seek.
const STEPS: usize = 6;

/// Why a request was not answered.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request is at fault, or the time: the client is told.
    Refused(Error),
    /// The engine failed.
    Engine(EngineError),
    /// A version that should be readable is gone: it was compacted and collected after the state
    /// was loaded. Load it anew.
    Gone,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Refused(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::Engine(error)
    }
}

/// One key at one revision; the value may not have been read yet.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Bytes,
    pub(super) meta: KeyMeta,
    pub(super) value: Option<Bytes>,
}

impl Row {
    /// Takes the value of the version that the row stands for.
    fn set_value(&mut self, version: VersionRecord) -> Result<(), Failure> {
        match version {
            VersionRecord::Put { value, .. } => self.value = Some(value),
            VersionRecord::Tombstone => return Err(Failure::Gone),
        }
        Ok(())
    }

    pub(super) fn into_key_value(self) -> KeyValue {
        KeyValue {
            key: self.key,
            create_revision: self.meta.create,
            mod_revision: self.meta.modified,
            version: self.meta.version,
            value: self.value.unwrap_or_default(),
            lease: self.meta.lease,
        }
    }
}

/// A consistent state that requests are answered from.
pub(super) trait Source {
    /// The current revision, as this state has it.
    fn revision(&self) -> i64;

    /// The lowest readable revision.
    fn compact_revision(&self) -> i64;

    /// The latest version of every living key.
    fn index(&self) -> &Index;

    /// The granted leases.
    fn leases(&self) -> &Leases;

    /// The version of `key` that was written at exactly `revision`; fails with `Gone` if there is
    /// none.
    fn version(&self, key: &[u8], revision: i64) -> Result<VersionRecord, Failure>;

    /// Reads the values that are missing in `rows`, which ascend by key.
    fn fill(&self, rows: &mut [Row]) -> Result<(), Failure> {
        for row in rows.iter_mut().filter(|row| row.value.is_none()) {
            row.set_value(self.version(&row.key, row.meta.modified)?)?;
        }
        Ok(())
    }

    /// The first `limit` keys in the span as they were at an older revision, and with
    /// `want_count`, how many there were in all.
    fn past_rows(
        &self,
        span: &Span<'_>,
        at: i64,
        limit: usize,
        want_count: bool,
    ) -> Result<(Vec<Row>, usize), Failure>;

    /// The row of a key, without its value.
    fn row(&self, key: &[u8]) -> Option<Row> {
        let meta = *self.index().get(key)?;
        Some(Row {
            key: Bytes::copy_from_slice(key),
            meta,
            value: None,
        })
    }
}

/// Everything that readers see, as of one applied entry. Never changes; the next one replaces it.
pub(super) struct Published {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) record: StateRecord,
    pub(super) index: Index,
    pub(super) leases: Leases,
    /// `(alarm, member)`.
    pub(super) alarms: Arc<BTreeSet<(i32, u64)>>,
    pub(super) membership: Option<(LogPosition, Bytes)>,
    /// How far this engine's history is collected.
    pub(super) progress: Arc<Progress>,
}

impl Published {
    /// Reads the state of an engine, rebuilding what is kept in memory.
    pub(super) fn load(engine: Arc<dyn Engine>) -> Result<Published, EngineError> {
        let meta = |key| engine.get(Space::Meta, key);
        let record = match meta(keys::STATE)? {
            Some(record) => StateRecord::decode(&record)?,
            None => StateRecord::default(),
        };
        let alarms = match meta(keys::ALARMS)? {
            Some(record) => keys::AlarmsRecord::decode(&record)?,
            None => Vec::new(),
        };
        let membership = meta(keys::MEMBERSHIP)?
            .map(keys::decode_membership)
            .transpose()?;
        let progress = Progress::load(&*engine)?;
        let mut leases = Leases::load(&*engine)?;
        let index = index::load(&*engine, &mut leases)?;
        Ok(Published {
            record,
            index,
            leases,
            alarms: Arc::new(alarms.into_iter().collect()),
            membership,
            progress: Arc::new(progress),
            engine,
        })
    }
}

impl Source for Published {
    fn revision(&self) -> i64 {
        self.record.revision
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
        read_version(&*self.engine, key, revision)
    }

    fn fill(&self, rows: &mut [Row]) -> Result<(), Failure> {
        let few = rows.len() <= POINT_READS;
        let missing = rows.iter_mut().filter(|row| row.value.is_none());
        if few {
            for row in missing {
                row.set_value(self.version(&row.key, row.meta.modified)?)?;
            }
            return Ok(());
        }
        let mut cursor = self.engine.cursor(Space::Kv);
        let mut placed = false;
        let mut wanted = Vec::new();
        for row in missing {
            keys::version_key_into(&row.key, row.meta.modified, &mut wanted);
            if !std::mem::replace(&mut placed, true) {
                cursor.seek(&wanted);
            }
            forward(&mut *cursor, &wanted)?;
            let record = match cursor.entry()? {
                Some((key, record)) if key == wanted => Bytes::copy_from_slice(record),
                _ => return Err(Failure::Gone),
            };
            row.set_value(VersionRecord::decode(&wanted, record)?)?;
        }
        Ok(())
    }

    fn past_rows(
        &self,
        span: &Span<'_>,
        at: i64,
        limit: usize,
        want_count: bool,
    ) -> Result<(Vec<Row>, usize), Failure> {
        Past::plan(self, span, at)?.rows(self, span, limit, want_count)
    }
}

/// Reads one version from an engine.
pub(super) fn read_version(
    engine: &dyn Engine,
    key: &[u8],
    revision: i64,
) -> Result<VersionRecord, Failure> {
    let place = keys::version_key(key, revision);
    match engine.get(Space::Kv, &place)? {
        Some(record) => Ok(VersionRecord::decode(&place, record)?),
        None => Err(Failure::Gone),
    }
}

/// Moves a placed cursor forward to the first entry at or after `target`.
pub(super) fn forward(cursor: &mut dyn Cursor, target: &[u8]) -> Result<(), EngineError> {
    for _ in 0..STEPS {
        match cursor.entry()? {
            Some((key, _)) if key < target => cursor.next(),
            _ => return Ok(()),
        }
    }
    if matches!(cursor.entry()?, Some((key, _)) if key < target) {
        cursor.seek(target);
    }
    Ok(())
}

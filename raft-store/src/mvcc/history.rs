//! The past: keys as they were at an older revision, and what each revision changed.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use super::Mvcc;
use super::keys::{self, ChangeRecord, KeyMeta, RevisionRecord, VersionRecord};
use super::span::{End, Span};
use super::state::{Failure, Published, Row, Source, forward, read_version};
use crate::engine::{Engine, EngineError, Space};
use crate::error::{Error, Result};
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};
use crate::watch::{Change, History, Revision};

/// Undoing this many revisions is cheaper than any scan.
const CHEAP_REVISIONS: usize = 256;

/// How to read at one older revision.
pub(super) struct Past {
    at: i64,
    /// What to undo in the index: the keys that changed since, each with the `mod_revision` it
    /// had at the time, 0 if it did not exist. `None`: so much has changed that reading the
    /// versions of every key is cheaper.
    changed: Option<BTreeMap<Bytes, i64>>,
}

/// A key at an older revision: unchanged since, or to be read.
enum Found {
    Unchanged(Bytes, KeyMeta),
    Changed(Bytes, i64),
}

impl Past {
    /// Decides by cost: a revision to undo costs about as much as a key to scan.
    pub(super) fn plan(state: &Published, span: &Span<'_>, at: i64) -> Result<Past, Failure> {
        let revisions = usize::try_from(state.revision() - at).unwrap_or(0);
        let keys = span.count(&state.index);
        let undo = !span.is_point() && revisions <= CHEAP_REVISIONS + keys;
        Ok(Past {
            at,
            changed: undo.then(|| changes_since(state, span, at)).transpose()?,
        })
    }

    /// The first `limit` keys in the span, which lies in the one planned for, and with
    /// `want_count`, how many there were.
    pub(super) fn rows(
        &self,
        state: &Published,
        span: &Span<'_>,
        limit: usize,
        want_count: bool,
    ) -> Result<(Vec<Row>, usize), Failure> {
        let Some(changed) = &self.changed else {
            return walk(&*state.engine, span, self.at, limit, want_count);
        };
        let changed = || changed.iter().filter(|(key, _)| span.contains(key));
        let count = if want_count {
            let gone = changed().filter(|(key, _)| state.index.get(key).is_some());
            let had = changed().filter(|(_, then)| **then != 0);
            span.count(&state.index) - gone.count() + had.count()
        } else {
            0
        };
        let rows = merge(state, span, changed())
            .take(limit)
            .map(|found| match found {
                Found::Unchanged(key, meta) => Ok(Row {
                    key,
                    meta,
                    value: None,
                }),
                Found::Changed(key, then) => {
                    let version = read_version(&*state.engine, &key, then)?;
                    row_of(key, then, version).ok_or(Failure::Gone)
                }
            });
        Ok((rows.collect::<Result<_, Failure>>()?, count))
    }
}

/// The keys at the older revision, ascending: those of the index that did not change, and those
/// that changed and existed.
fn merge<'a>(
    state: &'a Published,
    span: &Span<'a>,
    changed: impl Iterator<Item = (&'a Bytes, &'a i64)> + 'a,
) -> impl Iterator<Item = Found> + 'a {
    let mut latest = span.entries(&state.index).peekable();
    let mut changed = changed.peekable();
    std::iter::from_fn(move || next_found(&mut latest, &mut changed))
}

fn next_found<'a>(
    latest: &mut Peekable<impl Iterator<Item = (&'a [u8], &'a KeyMeta)>>,
    changed: &mut Peekable<impl Iterator<Item = (&'a Bytes, &'a i64)>>,
) -> Option<Found> {
    loop {
        let Some((key, then)) = changed.peek() else {
            let (key, meta) = latest.next()?;
            return Some(Found::Unchanged(Bytes::copy_from_slice(key), *meta));
        };
        if let Some((unchanged, meta)) = latest.next_if(|(latest, _)| *latest < &key[..]) {
            let unchanged = Bytes::copy_from_slice(unchanged);
            return Some(Found::Unchanged(unchanged, *meta));
        }
        // The index holds the key as it is now, if at all.
        latest.next_if(|(latest, _)| *latest == &key[..]);
        let found = (**then != 0).then(|| Found::Changed((*key).clone(), **then));
        changed.next();
        if found.is_some() {
            return found;
        }
    }
}

/// The keys in the span that changed after `at`, with their `mod_revision` at that time.
fn changes_since(
    state: &Published,
    span: &Span<'_>,
    at: i64,
) -> Result<BTreeMap<Bytes, i64>, Failure> {
    let mut changed = BTreeMap::new();
    for_revisions(&*state.engine, at + 1, state.revision(), |_, record| {
        for change in record.changes {
            if span.contains(&change.key) {
                // The first change after `at` knows the version before it.
                changed.entry(change.key).or_insert(change.previous);
            }
        }
        Ok(true)
    })?;
    Ok(changed)
}

/// Visits the records of the revisions `from..=to` until the visitor says no.
fn for_revisions(
    engine: &dyn Engine,
    from: i64,
    to: i64,
    mut visit: impl FnMut(i64, RevisionRecord) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut cursor = engine.cursor(Space::Revisions);
    cursor.seek(&keys::revision_key(from));
    while let Some((key, record)) = cursor.entry()? {
        let revision = keys::revision_of_key(key)?;
        if revision > to {
            break;
        }
        let record = RevisionRecord::decode(key, Bytes::copy_from_slice(record))?;
        if !visit(revision, record)? {
            break;
        }
        cursor.next();
    }
    Ok(())
}

/// Reads the span at a revision from the versions themselves.
pub(super) fn walk(
    engine: &dyn Engine,
    span: &Span<'_>,
    at: i64,
    limit: usize,
    want_count: bool,
) -> Result<(Vec<Row>, usize), Failure> {
    let mut cursor = engine.cursor(Space::Kv);
    let end = match span.end {
        // One key: only the version that was current matters.
        End::Point => {
            cursor.seek(&keys::version_key(span.start, at));
            Some(keys::after_versions(&keys::before_versions(span.start)))
        }
        End::Before(end) => {
            cursor.seek(&keys::before_versions(span.start));
            Some(keys::before_versions(end))
        }
        End::Unbounded => {
            cursor.seek(&keys::before_versions(span.start));
            None
        }
    };
    let mut rows = Vec::new();
    let mut count = 0;
    while let Some((key, record)) = cursor.entry()? {
        if end.as_ref().is_some_and(|end| key >= &end[..]) {
            break;
        }
        let (escaped, revision) = keys::split_version_key(key)?;
        let target = if revision > at {
            [escaped, &(!(at as u64)).to_be_bytes()].concat()
        } else {
            if !VersionRecord::is_tombstone(record) {
                count += 1;
                if rows.len() < limit {
                    let version = VersionRecord::decode(key, Bytes::copy_from_slice(record))?;
                    rows.extend(row_of(keys::unescape(escaped), revision, version));
                } else if !want_count {
                    break;
                }
            }
            keys::after_versions(escaped)
        };
        forward(&mut *cursor, &target)?;
    }
    Ok((rows, count))
}

fn row_of(key: Bytes, modified: i64, version: VersionRecord) -> Option<Row> {
    let VersionRecord::Put {
        create,
        version,
        lease,
        value,
    } = version
    else {
        return None;
    };
    let meta = KeyMeta {
        create,
        modified,
        version,
        lease,
        value_len: value.len() as u32,
    };
    Some(Row {
        key,
        meta,
        value: Some(value),
    })
}

/// The chained hash at a revision that has not been compacted.
pub(super) fn hash_at(state: &Published, revision: i64) -> Result<u64, Failure> {
    if revision == state.revision() {
        return Ok(state.record.hash);
    }
    let key = keys::revision_key(revision);
    match state.engine.get(Space::Revisions, &key)? {
        Some(record) => Ok(RevisionRecord::decode(&key, record)?.hash),
        // A fresh store.
        None if revision <= 1 => Ok(0),
        // A restored store has no records for the revisions that it skipped.
        None => Err(Failure::Gone),
    }
}

impl History for Mvcc {
    fn current_revision(&self) -> i64 {
        self.revision()
    }

    fn compact_revision(&self) -> i64 {
        Mvcc::compact_revision(self)
    }

    fn revisions(&self, from: i64, max_bytes: usize) -> Result<Vec<Arc<Revision>>> {
        if from > self.revision() {
            return Ok(Vec::new());
        }
        let compact_revision = Mvcc::compact_revision(self);
        if from < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        let (state, _pin) = self.pinned(from.max(1))?;
        let mut found = Vec::new();
        let mut bytes = 0;
        for_revisions(&*state.engine, from, state.revision(), |number, record| {
            if record.changes.is_empty() {
                // Where a restored store begins.
                return Ok(true);
            }
            let revision = revision_of(&state, number, record)?;
            bytes += revision.weight();
            found.push(Arc::new(revision));
            Ok(bytes < max_bytes)
        })
        .map_err(fatal)?;
        Ok(found)
    }

    fn version_at(&self, key: &[u8], mod_revision: i64) -> Result<Option<KeyValue>> {
        let state = self.load();
        match read_version(&*state.engine, key, mod_revision) {
            Ok(version) => {
                let row = row_of(Bytes::copy_from_slice(key), mod_revision, version);
                Ok(row.map(Row::into_key_value))
            }
            Err(Failure::Gone) => Ok(None),
            Err(failure) => Err(fatal(failure)),
        }
    }
}

/// Turns the record of a revision back into what watchers get.
fn revision_of(
    state: &Published,
    number: i64,
    record: RevisionRecord,
) -> Result<Revision, Failure> {
    let change = |change: ChangeRecord| {
        let previous = change.previous;
        if change.delete {
            return Ok(Change::new(deleted(change.key, number), previous));
        }
        let version = read_version(&*state.engine, &change.key, number)?;
        let row = row_of(change.key, number, version).ok_or(Failure::Gone)?;
        Ok(Change::new(written(row.into_key_value()), previous))
    };
    let changes = record.changes.into_iter().map(change);
    let changes = changes.collect::<Result<_, Failure>>()?;
    Ok(Revision::new(number, changes))
}

/// The event of a put.
pub(super) fn written(kv: KeyValue) -> Event {
    Event {
        r#type: EventType::Put as i32,
        kv: Some(kv),
        prev_kv: None,
    }
}

/// The event of a deletion, which knows only the key and the revision.
pub(super) fn deleted(key: Bytes, revision: i64) -> Event {
    Event {
        r#type: EventType::Delete as i32,
        kv: Some(KeyValue {
            key,
            mod_revision: revision,
            ..KeyValue::default()
        }),
        prev_kv: None,
    }
}

/// The error of a read whose revision is pinned: nothing it needs can be gone.
pub(super) fn fatal(failure: Failure) -> Error {
    match failure {
        Failure::Refused(error) => error,
        Failure::Engine(error) => error.into(),
        Failure::Gone => EngineError::corrupt(Space::Kv, "a version is missing").into(),
    }
}

//! Long reads in chunks, all at one revision.

use std::sync::Arc;

use bytes::Bytes;

use super::Mvcc;
use super::check::check_range_stream;
use super::gc::Pin;
use super::history::{Past, fatal};
use super::leases::LeaseInfo;
use super::range::{header, range};
use super::span::Span;
use super::state::{Published, Row, Source};
use crate::error::Result;
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::pb::mvccpb::KeyValue;

/// What a row takes in a response besides key and value.
const ROW_OVERHEAD: usize = 48;

/// A range that is read chunk by chunk, each of about so many bytes.
///
/// All chunks show the same revision: it cannot be collected while this lives, even if it is
/// compacted meanwhile. So do not keep one for a client that does not read.
pub struct RangeChunks {
    state: Arc<Published>,
    pin: Pin,
    request: RangeRequest,
    past: Option<Past>,
    /// The next key to read; `None` when the last chunk has been handed out.
    next: Option<Bytes>,
    sent: usize,
    chunk_bytes: usize,
}

impl RangeChunks {
    pub(super) fn new(mvcc: &Mvcc, request: RangeRequest, chunk_bytes: usize) -> Result<Self> {
        check_range_stream(&request)?;
        let (state, pin) = mvcc.pinned(request.revision)?;
        Self::open(state, pin, request, chunk_bytes)
    }

    fn open(
        state: Arc<Published>,
        pin: Pin,
        request: RangeRequest,
        chunk_bytes: usize,
    ) -> Result<Self> {
        let span = Span::new(&request.key, &request.range_end);
        let at = pin.revision();
        let past = (at != state.revision())
            .then(|| Past::plan(&state, &span, at))
            .transpose()
            .map_err(fatal)?;
        Ok(RangeChunks {
            next: Some(request.key.clone()),
            state,
            pin,
            request,
            past,
            sent: 0,
            chunk_bytes,
        })
    }

    /// The revision that is read, and that of the state when the read began.
    pub fn revisions(&self) -> (i64, i64) {
        (self.pin.revision(), self.state.revision())
    }

    /// The next chunk; `None` after the last. Only the last one carries header, `more` and
    /// `count`.
    #[allow(clippy::should_implement_trait, reason = "it is fallible")]
    pub fn next(&mut self) -> Result<Option<RangeResponse>> {
        let Some(key) = self.next.take() else {
            return Ok(None);
        };
        if self.request.count_only {
            return Ok(Some(range(&*self.state, &self.request).map_err(fatal)?));
        }
        let (rows, next) = self.rows(&key)?;
        self.sent += rows.len();
        let limit_left = self.limit_left();
        let mut response = RangeResponse {
            kvs: rows.into_iter().map(Row::into_key_value).collect(),
            ..RangeResponse::default()
        };
        if next.is_none() || limit_left == 0 {
            response.header = header(self.state.revision());
            response.more = next.is_some();
            response.count = self.count(next)? as i64;
        } else {
            self.next = next;
        }
        Ok(Some(response))
    }

    fn limit_left(&self) -> usize {
        match usize::try_from(self.request.limit) {
            Ok(limit) if limit > 0 => limit.saturating_sub(self.sent),
            _ => usize::MAX,
        }
    }

    /// One chunk from `key` on, and the key after it, if there is one.
    fn rows(&self, key: &[u8]) -> Result<(Vec<Row>, Option<Bytes>)> {
        let span = Span::new(key, &self.request.range_end);
        let limit = self.limit_left();
        let mut rows = Vec::new();
        let max_bytes = self.chunk_bytes;
        let next = if let Some(past) = &self.past {
            // The sizes are known only afterwards: one chunk may hold up to a thousand keys.
            let limit = limit.min(1000);
            let found = past.rows(&self.state, &span, limit + 1, false);
            take_chunk(found.map_err(fatal)?.0, limit, max_bytes, &mut rows)
        } else {
            let found = span.entries(&self.state.index).map(|(key, meta)| Row {
                key: Bytes::copy_from_slice(key),
                meta: *meta,
                value: None,
            });
            take_chunk(found, limit, max_bytes, &mut rows)
        };
        if self.request.keys_only {
            rows.iter_mut().for_each(|row| row.value = None);
        } else {
            self.state.fill(&mut rows).map_err(fatal)?;
        }
        Ok((rows, next))
    }

    /// How many keys the whole range has: those sent, and those from `next` on.
    fn count(&self, next: Option<Bytes>) -> Result<usize> {
        let Some(next) = next else {
            return Ok(self.sent);
        };
        let span = Span::new(&next, &self.request.range_end);
        let rest = match &self.past {
            Some(past) => past.rows(&self.state, &span, 0, true).map_err(fatal)?.1,
            None => span.count(&self.state.index),
        };
        Ok(self.sent + rest)
    }
}

/// Moves rows up to the limits into `chunk`, at least one; returns the key of the first that is
/// left.
fn take_chunk(
    found: impl IntoIterator<Item = Row>,
    limit: usize,
    max_bytes: usize,
    chunk: &mut Vec<Row>,
) -> Option<Bytes> {
    let mut bytes = 0;
    for row in found {
        if chunk.len() >= limit || (bytes >= max_bytes && !chunk.is_empty()) {
            return Some(row.key);
        }
        bytes += row.key.len() + row.meta.value_len as usize + ROW_OVERHEAD;
        chunk.push(row);
    }
    None
}

/// Everything that a backup takes from a store, at one revision.
pub struct Export {
    chunks: RangeChunks,
    /// The revision of the export.
    pub revision: i64,
    /// The lowest revision that the store could still read.
    pub compact_revision: i64,
    /// The chained hash at the revision, if it is known.
    pub hash: Option<u64>,
    /// All leases, in the state the export began with, ascending.
    pub leases: Vec<(i64, LeaseInfo)>,
}

impl Export {
    pub(super) fn new(mvcc: &Mvcc, revision: i64, chunk_bytes: usize) -> Result<Export> {
        let (state, pin) = mvcc.pinned(revision)?;
        let all = RangeRequest {
            range_end: Bytes::from_static(&[0]),
            ..RangeRequest::default()
        };
        let leases = state.leases.iter();
        let leases = leases.map(|(id, lease)| (id, LeaseInfo::from(lease)));
        Ok(Export {
            revision: pin.revision(),
            compact_revision: state.compact_revision(),
            hash: super::history::hash_at(&state, pin.revision()).ok(),
            leases: leases.collect(),
            chunks: RangeChunks::open(state, pin, all, chunk_bytes)?,
        })
    }

    /// The next keys, ascending; `None` after the last.
    #[allow(clippy::should_implement_trait, reason = "it is fallible")]
    pub fn next(&mut self) -> Result<Option<Vec<KeyValue>>> {
        Ok(self.chunks.next()?.map(|chunk| chunk.kvs))
    }
}

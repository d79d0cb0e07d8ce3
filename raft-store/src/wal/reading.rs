//! Reading older entries back from the segments.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::LogRecord;
use super::record::{self, Record};
use super::segment::Segment;
use crate::position::LogPosition;

/// Entries closer together than this are read in one go, other records between them included.
const GAP: u32 = 4096;

/// No single read is larger, for it pins its buffer until the last of its entries is dropped.
const SPAN: u32 = 1 << 20;

/// What to fetch for a read: first from disk, then from the cache.
#[derive(Default)]
pub(super) struct Plan {
    spans: Vec<Span>,
    pub(super) cached: Vec<LogRecord>,
}

/// Neighbouring entries of one segment.
struct Span {
    segment: Arc<Segment>,
    begin: u32,
    end: u32,
    /// Index, offset and length of each.
    entries: Vec<(u64, u32, u32)>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.cached.is_empty()
    }

    /// Adds an entry that is on disk; in the order of the log.
    pub(super) fn fetch(&mut self, segment: &Arc<Segment>, index: u64, at: u32, len: u32) {
        if let Some(span) = self.spans.last_mut()
            && span.segment.header.sequence == segment.header.sequence
            && at.saturating_sub(span.end) <= GAP
            && at + len - span.begin <= SPAN
        {
            span.end = at + len;
            span.entries.push((index, at, len));
            return;
        }
        self.spans.push(Span {
            segment: Arc::clone(segment),
            begin: at,
            end: at + len,
            entries: vec![(index, at, len)],
        });
    }

    /// Reads, and checks every entry again.
    pub(super) fn run(self) -> io::Result<Vec<LogRecord>> {
        let count = self.spans.iter().map(|span| span.entries.len()).sum();
        let mut records = Vec::with_capacity(count);
        for span in self.spans {
            span.read(&mut records)?;
        }
        if records.is_empty() {
            return Ok(self.cached);
        }
        records.extend(self.cached);
        Ok(records)
    }
}

impl Span {
    fn read(&self, records: &mut Vec<LogRecord>) -> io::Result<()> {
        let mut bytes = vec![0; (self.end - self.begin) as usize];
        let segment = &self.segment;
        segment
            .file
            .read_exact_at(&mut bytes, u64::from(self.begin))?;
        let bytes = Bytes::from(bytes);
        for &(index, at, len) in &self.entries {
            let start = (at - self.begin) as usize;
            let frame = &bytes[start..start + len as usize];
            match record::decode(frame, segment.header.salt, at).map(|frame| frame.record) {
                Ok(Record::Entry {
                    position,
                    kind,
                    payload,
                }) if position.index == index => records.push(LogRecord {
                    position,
                    kind,
                    payload: bytes.slice_ref(payload),
                }),
                _ => return Err(self.damaged(index, at)),
            }
        }
        Ok(())
    }

    fn damaged(&self, index: u64, at: u32) -> io::Error {
        let file = self.segment.path.display();
        let message = format!("log entry {index} is damaged: {file} at byte {at}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}

/// An entry as callers hold it, from one that was read.
pub(super) fn to_record(position: LogPosition, kind: u8, payload: &[u8]) -> LogRecord {
    LogRecord {
        position,
        kind,
        payload: Bytes::copy_from_slice(payload),
    }
}

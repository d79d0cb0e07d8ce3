//! The records of the log: their layout, encoding and checks.
//!
//! A record starts at a multiple of 8 bytes in its segment (little-endian):
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..4 | checksum | CRC-32C of everything below, zeros included, seeded with the upper half of the segment's salt |
//! | 4..8 | previous | checksum of the record before (of the segment header for the first) |
//! | 8..12 | tag | the record's offset in the segment, XOR the lower half of the salt |
//! | 12..16 | length | of the body, in bytes |
//! | 16..20 | durable | offset below which the segment was durable when this record was written |
//! | 20 | kind | see [`Record`] |
//! | 21 | sub-kind | of an entry; whether an optional field is present |
//! | 22..24 | zero | |
//! | 24.. | body | then zeros up to a multiple of 8 |
//!
//! Salt and tag make what an earlier use of the file left behind invalid. `durable` tells a torn
//! tail from damage: a valid record that claims an earlier offset was durable proves that what is
//! unreadable there was once synced.

use crate::position::LogPosition;
use crate::wal::Vote;

/// Bytes before the body.
pub(super) const HEADER: usize = 24;

/// Bytes of an entry's body before its payload: term and index.
pub(super) const ENTRY_PREFIX: usize = 16;

/// Bytes that a [`Record::Seal`] takes; every segment keeps them free.
pub(super) const SEAL_BYTES: usize = HEADER;

/// Every record starts at a multiple of this.
pub(super) const ALIGN: usize = 8;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A log entry.
    Entry {
        position: LogPosition,
        kind: u8,
        payload: &'a [u8],
    },
    /// The vote is now this.
    Vote(Vote),
    /// Entries with a larger index are gone; all of them for `None`.
    Truncate(Option<u64>),
    /// Entries up to here are gone.
    Purge(LogPosition),
    /// Entries up to here were known to be committed.
    Commit(LogPosition),
    /// The segment ends here; the next one continues.
    Seal,
}

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const COMMIT: u8 = 5;
const SEAL: u8 = 6;

impl Record<'_> {
    /// Bytes of the body.
    fn body_len(&self) -> usize {
        match self {
            Record::Entry { payload, .. } => ENTRY_PREFIX + payload.len(),
            Record::Vote(_) | Record::Purge(_) | Record::Commit(_) => 16,
            Record::Truncate(_) => 8,
            Record::Seal => 0,
        }
    }

    /// Bytes in the segment, padding included.
    pub(super) fn frame_len(&self) -> usize {
        frame_len(self.body_len())
    }

    fn kind(&self) -> (u8, u8) {
        match self {
            Record::Entry { kind, .. } => (ENTRY, *kind),
            Record::Vote(vote) => (VOTE, u8::from(vote.committed)),
            Record::Truncate(after) => (TRUNCATE, u8::from(after.is_some())),
            Record::Purge(_) => (PURGE, 0),
            Record::Commit(_) => (COMMIT, 0),
            Record::Seal => (SEAL, 0),
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        let mut pair = |a: u64, b: u64| {
            out.extend_from_slice(&a.to_le_bytes());
            out.extend_from_slice(&b.to_le_bytes());
        };
        match self {
            Record::Entry {
                position, payload, ..
            } => {
                pair(position.term, position.index);
                out.extend_from_slice(payload);
            }
            Record::Vote(vote) => pair(vote.term, vote.node),
            Record::Purge(position) | Record::Commit(position) => {
                pair(position.term, position.index);
            }
            Record::Truncate(after) => {
                out.extend_from_slice(&after.unwrap_or_default().to_le_bytes());
            }
            Record::Seal => {}
        }
    }
}

fn frame_len(body: usize) -> usize {
    (HEADER + body).next_multiple_of(ALIGN)
}

/// Where the next record of a segment goes, and what it is chained to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// The segment's salt.
    pub(super) salt: u64,
    /// The offset of the next record.
    pub(super) at: u32,
    /// The checksum of the record before it.
    pub(super) previous: u32,
    /// The offset below which the segment is durable.
    pub(super) durable: u32,
}

impl Chain {
    /// Appends a record to `out` and moves behind it.
    pub(super) fn encode(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let (kind, sub) = record.kind();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&tag(self.salt, self.at).to_le_bytes());
        out.extend_from_slice(&(record.body_len() as u32).to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(&[kind, sub, 0, 0]);
        record.write_body(out);
        out.resize(start + record.frame_len(), 0);
        self.previous = checksum(self.salt, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&self.previous.to_le_bytes());
        self.at += record.frame_len() as u32;
    }
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) record: Record<'a>,
    pub(super) checksum: u32,
    pub(super) previous: u32,
    pub(super) durable: u32,
    /// Bytes it takes in the segment, padding included.
    pub(super) len: usize,
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No record was ever written here in this use of the file, or its start is unreadable.
    Absent,
    /// A record starts here but its length or checksum is wrong.
    Damaged,
    /// The checksum is right but this program does not know what the record says.
    Unknown(u8),
}

/// Reads the record at offset `at` of a segment; `bytes` begin there.
pub(super) fn decode(bytes: &[u8], salt: u64, at: u32) -> Result<Frame<'_>, Fault> {
    decode_checked(bytes, salt, at, true)
}

/// Like [`decode`], but the checksum counts only if `check`: a planted bug does not look at it.
pub(super) fn decode_checked(
    bytes: &[u8],
    salt: u64,
    at: u32,
    check: bool,
) -> Result<Frame<'_>, Fault> {
    let header = bytes.get(..HEADER).ok_or(Fault::Absent)?;
    if u32_at(header, 8) != tag(salt, at) {
        return Err(Fault::Absent);
    }
    let body_len = u32_at(header, 12) as usize;
    let frame = bytes.get(..frame_len(body_len)).ok_or(Fault::Damaged)?;
    let stored = u32_at(header, 0);
    if check && checksum(salt, &frame[4..]) != stored {
        return Err(Fault::Damaged);
    }
    Ok(Frame {
        record: parse(header[20], header[21], &frame[HEADER..HEADER + body_len])?,
        checksum: stored,
        previous: u32_at(header, 4),
        durable: u32_at(header, 16),
        len: frame.len(),
    })
}

fn parse(kind: u8, sub: u8, body: &[u8]) -> Result<Record<'_>, Fault> {
    let pair = || -> Result<(u64, u64), Fault> { Ok((u64_at(body, 0)?, u64_at(body, 8)?)) };
    let position = || pair().map(|(term, index)| LogPosition { term, index });
    Ok(match kind {
        ENTRY => Record::Entry {
            position: position()?,
            kind: sub,
            payload: &body[ENTRY_PREFIX..],
        },
        VOTE => {
            let (term, node) = pair()?;
            let committed = sub != 0;
            Record::Vote(Vote {
                term,
                node,
                committed,
            })
        }
        TRUNCATE => {
            let after = u64_at(body, 0)?;
            Record::Truncate((sub != 0).then_some(after))
        }
        PURGE => Record::Purge(position()?),
        COMMIT => Record::Commit(position()?),
        SEAL => Record::Seal,
        unknown => return Err(Fault::Unknown(unknown)),
    })
}

/// Whether a record of this segment could start at `at`: a cheap test for scans.
pub(super) fn may_start(bytes: &[u8], salt: u64, at: u32) -> bool {
    bytes.len() >= HEADER && u32_at(bytes, 8) == tag(salt, at)
}

fn tag(salt: u64, at: u32) -> u32 {
    salt as u32 ^ at
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append((salt >> 32) as u32, bytes)
}

/// A little-endian number at a place that is known to exist.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Fault> {
    let mut number = [0; 8];
    number.copy_from_slice(bytes.get(at..at + 8).ok_or(Fault::Damaged)?);
    Ok(u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position() -> impl Strategy<Value = LogPosition> {
        any::<(u64, u64)>().prop_map(|(term, index)| LogPosition { term, index })
    }

    /// A record without its payload, and the payload that goes with an entry.
    fn record() -> impl Strategy<Value = (Record<'static>, Vec<u8>)> {
        let entry = (position(), any::<u8>()).prop_map(|(position, kind)| Record::Entry {
            position,
            kind,
            payload: &[],
        });
        let vote = any::<(u64, u64, bool)>().prop_map(|(term, node, committed)| {
            Record::Vote(Vote {
                term,
                node,
                committed,
            })
        });
        let kind = prop_oneof![
            4 => entry,
            1 => vote,
            1 => any::<Option<u64>>().prop_map(Record::Truncate),
            1 => position().prop_map(Record::Purge),
            1 => position().prop_map(Record::Commit),
            1 => Just(Record::Seal),
        ];
        (kind, proptest::collection::vec(any::<u8>(), 0..200))
    }

    fn with_payload<'a>(record: Record<'a>, payload: &'a [u8]) -> Record<'a> {
        match record {
            Record::Entry { position, kind, .. } => Record::Entry {
                position,
                kind,
                payload,
            },
            other => other,
        }
    }

    proptest! {
        #[test]
        fn records_read_back_as_a_chain(
            records in proptest::collection::vec(record(), 1..8),
            salt: u64,
            start in 64_u32..10_000,
        ) {
            let start = start * ALIGN as u32;
            let mut chain = Chain { salt, at: start, previous: 7, durable: start };
            let mut bytes = Vec::new();
            for (record, payload) in &records {
                chain.encode(&with_payload(*record, payload), &mut bytes);
            }
            prop_assert_eq!(chain.at as usize, start as usize + bytes.len());
            let (mut at, mut previous) = (0, 7);
            for (record, payload) in &records {
                let frame = decode(&bytes[at..], salt, start + at as u32);
                let frame = frame.map_err(|fault| TestCaseError::fail(format!("{fault:?}")))?;
                prop_assert_eq!(frame.record, with_payload(*record, payload));
                prop_assert_eq!(frame.previous, previous);
                prop_assert_eq!(frame.durable, start);
                prop_assert_eq!(frame.len, frame.record.frame_len());
                at += frame.len;
                previous = frame.checksum;
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn any_flipped_bit_is_noticed((record, payload) in record(), salt: u64, flip: u32) {
            let mut chain = Chain { salt, at: 512, previous: 0, durable: 512 };
            let mut bytes = Vec::new();
            let record = with_payload(record, &payload);
            chain.encode(&record, &mut bytes);
            let bit = flip as usize % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(matches!(decode(&bytes, salt, 512), Err(Fault::Absent | Fault::Damaged)));
        }

        #[test]
        fn stale_and_moved_records_are_absent(salt: u64, other: u32, at in 1_u32..1000) {
            let mut chain = Chain { salt, at: 512, previous: 0, durable: 512 };
            let mut bytes = Vec::new();
            chain.encode(&Record::Truncate(Some(3)), &mut bytes);
            let stale = salt ^ u64::from(other.max(1));
            prop_assert_eq!(decode(&bytes, stale, 512), Err(Fault::Absent));
            let stale = salt ^ (u64::from(other.max(1)) << 32);
            prop_assert_eq!(decode(&bytes, stale, 512), Err(Fault::Damaged));
            prop_assert_eq!(decode(&bytes, salt, 512 + at), Err(Fault::Absent));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), salt: u64) {
            let mut bytes = bytes;
            let _ = decode(&bytes, salt, 512);
            if bytes.len() >= HEADER {
                bytes[8..12].copy_from_slice(&tag(salt, 512).to_le_bytes());
                bytes[13..16].fill(0);
                let _ = decode_checked(&bytes, salt, 512, false);
            }
        }
    }
}

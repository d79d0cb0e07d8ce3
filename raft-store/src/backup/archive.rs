//! The backup file: one consistent revision of a store, independent of the engine, hash-checked.
//!
//! # Format 1
//!
//! Integers are little-endian. Messages are protobuf: [`Header`], [`Lease`], `mvccpb.KeyValue`,
//! [`Trailer`]; fields are only ever added. A change that an older reader would misread takes a
//! new format number.
//!
//! ```text
//! file    = magic format frame* padding sha256
//! magic   = "trireme backup\r\n"          16 bytes; the line end shows a text-mode transfer
//! format  = u32                           1
//! frame   = kind length crc payload
//!   kind    = u32                         1 header, 2 leases, 3 keys, 4 trailer
//!   length  = u32                         of the payload, at most 64 MiB
//!   crc     = u32                         CRC32C of frame number (u64, from 0), kind, length, payload
//! padding = zeros                         until the length so far is a multiple of 512
//! sha256  = 32 bytes                      of everything before it
//! ```
//!
//! Frames come in this order: one header; leases, ascending by ID; keys, strictly ascending; one
//! trailer with the counts. The payload of a leases or keys frame is a run of messages, each
//! behind its length as a varint; a frame is closed when it passes 1 MiB.
//!
//! The frame CRCs say *where* a file is damaged and let a restore stop early; the hash at the end
//! proves the whole. The length is 32 above a multiple of 512, which is how `etcdctl snapshot
//! save` recognises a complete stream.

use bytes::Bytes;

use crate::backup::{Header, Lease};

mod reader;
mod writer;

pub use reader::{Reader, Summary, verify};
pub use writer::{Download, Writer, stream, write};

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 16] = *b"trireme backup\r\n";
/// Magic and format number.
const PROLOGUE_LEN: usize = 20;
const FRAME_HEAD_LEN: usize = 12;
/// Frames are closed at this size: large enough that heads cost nothing, small enough for a gRPC
/// message and for the memory of a reader.
const FRAME_TARGET: usize = 1 << 20;
/// A frame holds at least one key; the store refuses requests far below this.
const FRAME_LIMIT: usize = 64 << 20;
const BLOCK: u64 = 512;
const HASH_LEN: u64 = 32;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header = 1,
    Leases = 2,
    Keys = 3,
    Trailer = 4,
}

impl Kind {
    fn from_number(number: u32) -> Option<Kind> {
        [Kind::Header, Kind::Leases, Kind::Keys, Kind::Trailer]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// The last frame: what the file must hold.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Trailer {
    /// Number of leases.
    #[prost(uint64, tag = "1")]
    pub leases: u64,
    /// Number of keys.
    #[prost(uint64, tag = "2")]
    pub keys: u64,
    /// Bytes of all keys and values together.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
}

/// The checksum in a frame's head.
fn frame_crc(number: u64, kind: u32, payload: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&number.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &kind.to_le_bytes());
    // Payloads are at most FRAME_LIMIT long.
    crc = crc32c::crc32c_append(crc, &(payload.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

/// Rules that hold for the content of an archive wherever it comes from, checked by the writer
/// and again by the reader.
#[derive(Default)]
struct Order {
    revision: i64,
    last_lease: u64,
    last_key: Option<Bytes>,
    counts: Trailer,
}

impl Order {
    fn new(header: &Header) -> Result<Order, String> {
        let (revision, compacted) = (header.revision, header.compact_revision);
        if revision < 1 || compacted > revision {
            return Err(format!(
                "revision {revision} with compaction at {compacted}"
            ));
        }
        Ok(Order {
            revision,
            ..Order::default()
        })
    }

    fn lease(&mut self, lease: &Lease) -> Result<(), String> {
        // As unsigned numbers, which is how they sort on disk; clients may choose any but 0.
        if lease.id as u64 <= self.last_lease || lease.ttl <= 0 {
            return Err(format!(
                "lease {:x} with a TTL of {} s follows lease {:x}",
                lease.id, lease.ttl, self.last_lease
            ));
        }
        self.last_lease = lease.id as u64;
        self.counts.leases += 1;
        Ok(())
    }

    fn key(&mut self, kv: &crate::pb::mvccpb::KeyValue) -> Result<(), String> {
        let name = || String::from_utf8_lossy(&kv.key).into_owned();
        if self.last_key.as_ref().is_some_and(|last| *last >= kv.key) || kv.key.is_empty() {
            return Err(format!("key {:?} is out of order", name()));
        }
        let (create, modified) = (kv.create_revision, kv.mod_revision);
        if create < 1 || create > modified || modified > self.revision || kv.version < 1 {
            return Err(format!(
                "key {:?} was created at revision {create} and changed at {modified} (version \
                 {}), in a state of revision {}",
                name(),
                kv.version,
                self.revision
            ));
        }
        self.last_key = Some(kv.key.clone());
        self.counts.keys += 1;
        self.counts.bytes += (kv.key.len() + kv.value.len()) as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

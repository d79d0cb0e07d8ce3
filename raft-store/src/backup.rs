//! Backup, restore, import from etcd, and recovery from quorum loss.
//!
//! Everything here is a flow of the same three things: one [`Header`] (where and when), the
//! [`Lease`]s, and the latest version of every key at one revision. Whatever can tell them is a
//! [`Source`]; whatever takes them to make a fresh engine directory is a [`Sink`].
//!
//! ```text
//! live member  ─┐                                    ┌─> archive file (`trireme backup save`)
//! archive file ─┼─> Source ─> [`archive`] writer ────┤
//! etcd db file ─┤                                    └─> Maintenance.Snapshot stream
//! stopped dir  ─┘      └────> [`restore`] ─> Sink ─────> data directories of a new cluster
//! ```
//!
//! - [`archive`]: the file format, its writer and its checking reader.
//! - [`live`]: the state of a member, running or stopped, as a source.
//! - [`bbolt`], [`import`]: etcd's database file, read by our own small reader.
//! - [`restore`]: a source becomes the data directories of a new cluster.
//! - [`recover`]: a member that lost its quorum for good becomes a new cluster.
//! - [`boundary`]: the few facts of other modules that these need, in one place.
//!
//! Invariants: nothing here writes into a directory that holds a member's only copy of anything;
//! a file or directory appears under its final name only when it is complete, checked and synced;
//! a restored or recovered cluster always has a new cluster ID and starts above every revision
//! that its past can have issued.

pub mod archive;
pub mod bbolt;
pub mod boundary;
pub mod error;
pub mod import;
pub mod live;
pub mod recover;
pub mod restore;

#[cfg(test)]
mod fixtures;

pub use error::{BackupError, Result};

use crate::pb::mvccpb::KeyValue;

/// Where and when the state was taken. Also the first record of an archive, hence a message:
/// fields are only ever added.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Header {
    /// The cluster's ID; 0 where it is not known (an import from etcd).
    #[prost(fixed64, tag = "1")]
    pub cluster_id: u64,
    /// The member whose state it was; 0 where it is not known.
    #[prost(fixed64, tag = "2")]
    pub member_id: u64,
    /// The revision of the state: every write up to it is in, none after it.
    #[prost(int64, tag = "3")]
    pub revision: i64,
    /// The compaction watermark at that revision.
    #[prost(int64, tag = "4")]
    pub compact_revision: i64,
    /// The term of the last applied log entry.
    #[prost(uint64, tag = "5")]
    pub term: u64,
    /// The index of the last applied log entry.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// Wall clock, milliseconds since 1970.
    #[prost(int64, tag = "7")]
    pub taken_at_ms: i64,
    /// The version of the program that held the state, such as `0.1.0` or `etcd`.
    #[prost(string, tag = "8")]
    pub store_version: String,
}

/// A lease as backups keep it. Keys name their lease themselves.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Lease {
    /// The lease's ID, not 0.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// The granted time to live in seconds.
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    /// The last checkpointed remaining time in seconds; 0 when there was none.
    #[prost(int64, tag = "3")]
    pub remaining_ttl: i64,
}

/// One consistent revision of a store, read once from beginning to end.
///
/// Contract: leases first, ascending by ID as an unsigned number, until `None`; then keys, strictly ascending, until
/// `None`. Every key's `mod_revision` is at most the header's revision, and its lease, if it has
/// one, was among the leases. Memory does not grow with the number of keys beyond an index.
pub trait Source: Send {
    /// Where and when.
    fn header(&self) -> Header;
    /// The next lease.
    fn next_lease(&mut self) -> Result<Option<Lease>>;
    /// The next key at its latest version.
    fn next_key(&mut self) -> Result<Option<KeyValue>>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn header(&self) -> Header {
        (**self).header()
    }

    fn next_lease(&mut self) -> Result<Option<Lease>> {
        (**self).next_lease()
    }

    fn next_key(&mut self) -> Result<Option<KeyValue>> {
        (**self).next_key()
    }
}

/// A fresh engine directory under construction. Receives leases and then keys in a source's
/// order; nothing of it is valid before `finish` returned.
pub trait Sink: Send {
    /// Adds a lease, to start with its whole granted time.
    fn lease(&mut self, lease: Lease) -> Result<()>;
    /// Adds a key with the revisions, version and lease it has.
    fn key(&mut self, key: KeyValue) -> Result<()>;
    /// Makes everything durable and closes the engine.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// How far a long operation has come, for a progress line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, such as `checking the backup`.
    pub stage: &'static str,
    /// Keys dealt with in this stage.
    pub keys: u64,
    /// Bytes of keys and values dealt with in this stage.
    pub bytes: u64,
}

/// Called now and then (every few megabytes), never with a lock held.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Counts towards progress reports, one every [`Meter::STEP`] bytes.
struct Meter<'a> {
    report: OnProgress<'a>,
    now: Progress,
    next_at: u64,
}

impl<'a> Meter<'a> {
    /// Often enough for a line that moves, seldom enough to cost nothing.
    const STEP: u64 = 8 << 20;

    fn new(stage: &'static str, report: OnProgress<'a>) -> Meter<'a> {
        let now = Progress {
            stage,
            keys: 0,
            bytes: 0,
        };
        Meter {
            report,
            now,
            next_at: Self::STEP,
        }
    }

    fn key(&mut self, key: &KeyValue) {
        self.now.keys += 1;
        self.now.bytes += (key.key.len() + key.value.len()) as u64;
        if self.now.bytes >= self.next_at {
            self.next_at = self.now.bytes + Self::STEP;
            (self.report)(self.now);
        }
    }

    fn done(self) -> Progress {
        (self.report)(self.now);
        self.now
    }
}

/// A hash in lowercase hex.
fn hex32(hash: &[u8; 32]) -> String {
    use std::fmt::Write;
    hash.iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

//! The ordered key-value engine under the applied state.
//!
//! An [`Engine`] holds a few ordered [`Space`]s of bytes. A [`Batch`] is applied to all of them or
//! to none, and nothing is durable before [`Engine::flush`]: there is no log here, because the Raft
//! log is one. After a crash the engine is as some whole batch left it, at or after the last flush.
//!
//! - [`batch`]: the writes of one batch, in one buffer.
//! - [`rocks`]: on RocksDB, for production; [`memory`]: in memory, dumped through a
//!   [`seams::Disk`], for simulation and tests.
//! - [`tree`]: the copy-on-write B-tree of the memory engine, and of the index above.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

pub mod batch;
pub mod memory;
pub mod rocks;
pub mod tree;

pub use batch::{Batch, Op};
pub use memory::MemoryEngine;
pub use rocks::{RocksConfig, RocksEngine};

use crate::position::LogPosition;

/// Opens (or creates) the engine in a directory. One member opens one directory at a time.
pub type OpenEngine = Arc<dyn Fn(&Path) -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>;

/// The ordered spaces of an engine. `mvcc::keys` says what lies in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Every retained version of every key.
    Kv,
    /// The latest version's metadata of every living key.
    Index,
    /// What each revision changed.
    Revisions,
    /// Single records: applied position, membership, watermarks, alarms.
    Meta,
    /// The granted leases.
    Leases,
}

impl Space {
    /// All spaces, in the order of their numbers.
    pub const ALL: [Space; 5] = [
        Space::Kv,
        Space::Index,
        Space::Revisions,
        Space::Meta,
        Space::Leases,
    ];

    /// The space's name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Space::Kv => "kv",
            Space::Index => "index",
            Space::Revisions => "revisions",
            Space::Meta => "meta",
            Space::Leases => "leases",
        }
    }
}

/// An ordered key-value engine.
///
/// Reads and writes may run at the same time from any thread. A read sees whole batches only; a
/// [`Cursor`] sees its space as it was when the cursor was made.
pub trait Engine: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Applies a batch: visible on return, durable after the next flush.
    fn write(&self, batch: &Batch) -> Result<(), EngineError>;

    /// A consistent view of one space, before its first entry is sought.
    fn cursor(&self, space: Space) -> Box<dyn Cursor + '_>;

    /// Makes everything written so far durable, atomically over all spaces. Writes that arrive
    /// meanwhile are not held up.
    fn flush(&self) -> Result<(), EngineError>;

    /// Writes a durable copy of the engine into a directory that does not exist yet, and returns
    /// the values that `keys` have in that copy. Writes that arrive meanwhile may or may not be
    /// part of it, but only as whole batches.
    fn checkpoint(
        &self,
        dir: &Path,
        keys: &[(Space, &[u8])],
    ) -> Result<Vec<Option<Bytes>>, EngineError>;

    /// Whether writes are held up now because the disk does not keep up.
    fn is_congested(&self) -> bool;

    /// Bytes on disk, and those in memory that become files with the next flush.
    fn disk_bytes(&self) -> u64;
}

/// A key and its value.
pub type Item<'a> = (&'a [u8], &'a [u8]);

/// A position in a consistent view of one space.
pub trait Cursor {
    /// Moves to the first entry whose key is at or after `key`.
    fn seek(&mut self, key: &[u8]);

    /// Moves to the next entry.
    fn next(&mut self);

    /// The entry here; `None` past the end. A failure to read surfaces here.
    fn entry(&self) -> Result<Option<Item<'_>>, EngineError>;
}

/// Why the applied state cannot go on. Every variant is fatal for the member: what it holds is no
/// longer known to be what the log says.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A file operation of the memory engine failed.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        path: String,
        /// How it failed.
        source: std::io::Error,
    },
    /// RocksDB failed.
    #[error("RocksDB failed to {operation}: {message}")]
    Rocks {
        /// What was tried.
        operation: &'static str,
        /// RocksDB's status text.
        message: String,
    },
    /// A record does not decode or its checksum is wrong.
    #[error("the {space} space is corrupt: {detail}")]
    Corrupt {
        /// Where.
        space: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The directory was written in another format.
    #[error("the store has format {found}, this program reads format {supported}")]
    Format {
        /// The format on disk.
        found: u8,
        /// The format of this program.
        supported: u8,
    },
    /// An entry does not follow the applied one.
    #[error("log entry {found} does not follow the applied entry {applied}")]
    OutOfOrder {
        /// The last applied entry.
        applied: LogPosition,
        /// The entry that came.
        found: LogPosition,
    },
    /// A committed entry holds a command that this program does not know: a newer member wrote it.
    /// Skipping it would diverge from the other members.
    #[error("log entry {position} holds an unknown command: {detail}")]
    UnknownCommand {
        /// Which entry.
        position: LogPosition,
        /// What was not understood.
        detail: String,
    },
    /// What a new store is to be built from contradicts itself.
    #[error("the store cannot be built: {0}")]
    Invalid(String),
    /// An earlier error has stopped this state machine.
    #[error("the applied state has failed earlier")]
    Failed,
}

impl EngineError {
    pub(crate) fn corrupt(space: Space, detail: impl Into<String>) -> EngineError {
        EngineError::Corrupt {
            space: space.name(),
            detail: detail.into(),
        }
    }
}

impl From<EngineError> for crate::error::Error {
    fn from(error: EngineError) -> Self {
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text = format!("{text}: {source}");
        }
        crate::error::Error::Internal(text)
    }
}

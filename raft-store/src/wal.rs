//! The Raft log on disk: entries, votes, truncations and marks in checksummed segments.
//!
//! [`Wal::append`] and its kin put a request into a queue and return; one writer drains the queue,
//! encodes all it found into one buffer, writes that once, syncs once and then calls every `done`
//! (group commit). Entries can be read as soon as `append` returned.
//!
//! What holds after a crash at any point:
//!
//! - Everything whose `done` was called with `Ok` is there, in order, the newest vote included.
//! - Nothing is there that was not appended, and no entry without all those before it.
//! - A tail that was being written is dropped at the first record that is not whole. What was once
//!   durable and cannot be read is damage: [`Wal::open`] refuses with [`WalError::Corrupt`].
//!
//! The one exception: damage within the very last synced batch looks like a torn tail, as in every
//! log of this kind.
//!
//! After an IO error nothing is tried again (a second fsync may succeed without the data of the
//! first): every pending and later request fails with the same error, and the member must stop.
//! A full disk is `io::ErrorKind::StorageFull`; segments are written with zeros ahead, so that it
//! shows when a segment is created rather than in the middle of one.
//!
//! - [`record`]: what is in a segment; [`segment`]: the files.
//! - [`memory`]: positions and recent entries in memory; [`reading`]: the rest from disk.
//! - [`writer`]: the queue, group commit, rotation, recycling; [`recovery`]: opening.

mod memory;
mod reading;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use seams::{Seams, Tasks};
use thiserror::Error;

use crate::position::LogPosition;
use memory::Memory;
use writer::{Request, Shared};

/// An entry of the log. Cloning shares the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it stands.
    pub position: LogPosition,
    /// What the payload is: 0 blank, 1 command, 2 membership. The log does not look at it.
    pub kind: u8,
    /// The entry itself; at most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

/// The largest payload of an entry: far above what the store accepts (2 MiB).
pub const MAX_PAYLOAD: usize = 256 << 20;

/// Whom this member voted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The candidate or leader.
    pub node: u64,
    /// Whether a quorum granted it, so that `node` leads.
    pub committed: bool,
}

/// What a sync cost; see [`WalConfig::on_sync`].
#[derive(Debug, Clone, Copy)]
pub struct SyncReport {
    /// How long the write took.
    pub write: Duration,
    /// How long the fdatasync took.
    pub sync: Duration,
    /// Bytes of the batch.
    pub bytes: usize,
    /// Requests (appends, votes, truncations, purges) that were waiting for it.
    pub requests: usize,
}

/// Called by the writer after every sync; must not block.
pub type OnSync = Arc<dyn Fn(&SyncReport) + Send + Sync>;

/// Sizes and hooks.
#[derive(Clone)]
pub struct WalConfig {
    /// Bytes of a segment's file; between 4 KiB and 1 GiB. The first segment of a new log is
    /// smaller, one for a larger entry is larger.
    pub segment_bytes: u64,
    /// Bytes of recent entries kept in memory. Entries that are not on disk yet come on top.
    pub cache_bytes: usize,
    /// How many purged segments are kept to be used again.
    pub recycle: usize,
    /// For metrics.
    pub on_sync: Option<OnSync>,
    /// Bugs to run with.
    #[cfg(feature = "mutants")]
    pub mutants: WalMutants,
}

impl Default for WalConfig {
    fn default() -> WalConfig {
        WalConfig {
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            recycle: 2,
            on_sync: None,
            #[cfg(feature = "mutants")]
            mutants: WalMutants::default(),
        }
    }
}

/// Planted bugs, to show that the checks notice them.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalMutants {
    /// Call `done` for entries and truncations before they are durable.
    pub skip_entry_sync: bool,
    /// Call `done` for votes before they are durable.
    pub skip_vote_sync: bool,
    /// Take a record at the end of the log as whole though its checksum is wrong.
    pub accept_torn_tail: bool,
}

/// What the log held when it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry that was purged.
    pub purged: Option<LogPosition>,
    /// The last entry; the last purged one if there are no entries.
    pub last: Option<LogPosition>,
    /// The newest commit mark. It may lag behind the last one saved.
    pub committed: Option<LogPosition>,
    /// Whether an unfinished batch was dropped at the end.
    pub dropped_tail: bool,
}

/// Called once when a request is durable, or has failed. Runs on the writer: must not block.
pub type Durable = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Why a log cannot be opened.
#[derive(Debug, Error)]
pub enum WalError {
    /// Bytes that were durable cannot be read.
    #[error(
        "the Raft log is damaged: {} at byte {offset}: {reason}. Nothing was changed. \
         The member must not go on with this log, for it may have lost votes and acknowledged \
         writes. Remove this member from the cluster, delete its data directory and add it again \
         as a new member; if there is no other member, restore a backup.",
        file.display()
    )]
    Corrupt {
        /// The segment, or the directory if a segment is missing.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote this log.
    #[error(
        "the Raft log has format {found}, but this program knows formats up to {supported}: {}. \
         Start the newer version that wrote it.",
        file.display()
    )]
    Newer {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program reads.
        supported: u32,
    },
    /// The disk refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The log. Clones share it.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
}

impl Wal {
    /// Opens the log in `dir`, or starts one there. Nobody else may have it open.
    ///
    /// Blocks while it reads the segments. The writer runs in `tasks`, writes what is queued when
    /// they are cancelled, and then fails later requests.
    pub fn open(
        dir: &Path,
        seams: &Seams,
        tasks: &Tasks,
        config: WalConfig,
    ) -> Result<(Wal, Recovered), WalError> {
        let opened = recovery::open(dir, seams, config)?;
        let shared = Arc::clone(&opened.writer.shared);
        tasks.worker(
            "wal-prepare",
            writer::prepare(Arc::clone(&shared), tasks.token()),
        );
        tasks.worker("wal", opened.writer.run(tasks.token()));
        Ok((Wal { shared }, opened.recovered))
    }

    /// Opens the log of a stopped member to look at it: nothing runs, so no request is ever
    /// carried out.
    pub fn open_to_read(
        dir: &Path,
        seams: &Seams,
        config: WalConfig,
    ) -> Result<(Wal, Recovered), WalError> {
        let opened = recovery::open(dir, seams, config)?;
        let shared = Arc::clone(&opened.writer.shared);
        Ok((Wal { shared }, opened.recovered))
    }

    /// Adds entries, which must continue the log. They can be read when this returns and are
    /// durable when `done` is called.
    ///
    /// The queue has no bound of its own: every entry in it is one that the caller has not been
    /// told to be durable, so the caller's bound on those is the queue's.
    pub fn append(&self, records: Vec<LogRecord>, done: Durable) {
        if records
            .iter()
            .any(|record| record.payload.len() > MAX_PAYLOAD)
        {
            let message = format!("a log entry is larger than {MAX_PAYLOAD} bytes");
            return done(Err(io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
        self.submit(done, |memory, done| {
            if let Err(error) = memory.append(&records) {
                return Err((done, error));
            }
            let epoch = memory.epoch();
            Ok(Request::Append {
                records,
                epoch,
                done,
            })
        });
    }

    /// Replaces the vote; in order with appends.
    pub fn save_vote(&self, vote: Vote, done: Durable) {
        self.submit(done, |memory, done| {
            memory.marks.vote = Some(vote);
            Ok(Request::Vote { vote, done })
        });
    }

    /// Drops the entries with a larger index than `index`, or all for `None`.
    pub fn truncate_after(&self, index: Option<u64>, done: Durable) {
        self.submit(done, |memory, done| {
            memory.truncate(index);
            let epoch = memory.epoch();
            Ok(Request::Truncate {
                after: index,
                epoch,
                done,
            })
        });
    }

    /// Drops the entries up to `upto`, which may lie behind the last one. Their segments are used
    /// again once that is durable.
    pub fn purge(&self, upto: LogPosition) {
        let ignore: Durable = Box::new(|_| {});
        self.submit(ignore, |memory, done| {
            memory.purge(upto);
            Ok(Request::Purge { upto, done })
        });
    }

    /// Notes that entries up to here are committed. Written with the next batch, or at the end.
    pub fn save_committed(&self, position: LogPosition) {
        self.memory_mut().marks.committed = Some(position);
        self.shared.queue().committed = Some(position);
    }

    /// The entries `from..to_exclusive` that exist, up to `max_bytes` of payload but at least one.
    ///
    /// Starts later than `from` if that was purged. May block on the disk for older entries.
    pub fn read(
        &self,
        from: u64,
        to_exclusive: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<LogRecord>> {
        let plan = || {
            let memory = self.memory();
            let plan = memory.plan(from, to_exclusive, max_bytes);
            ((memory.epoch(), memory.first()), plan)
        };
        let (before, planned) = plan();
        planned.run().or_else(|error| {
            // Entries may have been purged or replaced under the read, and their segment recycled.
            let (now, planned) = plan();
            if now == before {
                Err(error)
            } else {
                planned.run()
            }
        })
    }

    /// The position of an entry, or of the last purged one.
    pub fn position_of(&self, index: u64) -> Option<LogPosition> {
        self.memory().position_of(index)
    }

    /// The index of the oldest entry, if there are entries.
    pub fn first_index(&self) -> Option<u64> {
        self.memory().first()
    }

    /// The last entry (durable or not); the last purged one if there are no entries.
    pub fn last(&self) -> Option<LogPosition> {
        self.memory().last()
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Option<LogPosition> {
        self.memory().marks.purged
    }

    /// The latest vote, durable or not.
    pub fn vote(&self) -> Option<Vote> {
        self.memory().marks.vote
    }

    /// The newest commit mark.
    pub fn committed(&self) -> Option<LogPosition> {
        self.memory().marks.committed
    }

    /// Why the log takes no more requests: an IO error, or it was closed.
    pub fn failed(&self) -> Option<io::Error> {
        self.shared.failed()
    }

    /// Bytes of the log's files, spares included.
    pub fn disk_bytes(&self) -> u64 {
        self.memory().disk_bytes() + self.shared.spare_bytes()
    }

    /// Bytes of payload that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queue().bytes
    }

    /// Changes memory and queues the request in one step, so that both have the same order.
    fn submit<F>(&self, done: Durable, request: F)
    where
        F: FnOnce(&mut Memory, Durable) -> Result<Request, (Durable, io::Error)>,
    {
        let mut memory = self.memory_mut();
        let refused = match self.shared.failed() {
            Some(error) => Some((done, error)),
            None => match request(&mut memory, done) {
                Ok(request) => self.shared.submit(request),
                Err(refused) => Some(refused),
            },
        };
        drop(memory);
        if let Some((done, error)) = refused {
            done(Err(error));
        }
    }

    fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        let memory = self.shared.memory.read();
        memory.unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        let memory = self.shared.memory.write();
        memory.unwrap_or_else(PoisonError::into_inner)
    }
}

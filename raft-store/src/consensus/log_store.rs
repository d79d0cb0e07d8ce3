//! The Raft log as openraft sees it, on our write-ahead log.
//!
//! Appends return as soon as the records are readable; the WAL's own worker makes them durable,
//! many at a time, and reports back. Votes and truncations are awaited. Purges and commit marks
//! are only enqueued: losing them costs a replay, never a record.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures::{Stream, stream};
use openraft::alias::VoteOf;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::types::{
    Entry, LogId, TypeConfig, Vote, entry_from_record, entry_to_record, log_id, position,
    vote_from_wal, vote_to_wal,
};
use crate::wal::{Durable, LogRecord, Wal};

/// Bytes of entries in one append to a follower: enough to fill a link, small enough to be
/// encoded, written and acknowledged well within a heartbeat.
const APPEND_BYTES_MAX: usize = 1 << 20;

/// A shared handle to the log.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
}

impl LogStore {
    /// Wraps an open WAL.
    pub fn new(wal: Wal) -> Self {
        Self { wal }
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let records = self.wal.read(from, to, max_bytes)?;
        records.into_iter().map(entry_from_record).collect()
    }

    /// The half-open index range that a range of openraft's means.
    fn indexes(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        (from, to)
    }
}

/// A completion for the WAL, and the future that waits for it.
fn completion() -> (Durable, impl Future<Output = io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    let done: Durable = Box::new(move |result| {
        // The waiter is gone only when the member stops.
        let _ = sender.send(result);
    });
    let wait = async move {
        receiver
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the write-ahead log has stopped")))
    };
    (done, wait)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (mut from, to) = self.indexes(&range);
        let mut entries = Vec::new();
        loop {
            let batch = self.read(from, to, usize::MAX)?;
            let Some(last) = batch.last() else {
                return Ok(entries);
            };
            from = last.log_id.index + 1;
            entries.extend(batch);
        }
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<TypeConfig>>, io::Error> {
        Ok(self.wal.vote().map(vote_from_wal))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, APPEND_BYTES_MAX)
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: openraft::alias::LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.indexes(&range);
        let store = self.clone();
        // The vote is checked after each read: records read while the vote still stands were not
        // truncated by a later leader.
        in_batches(from, move |from| store.bounded_batch(leader, from, to))
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.indexes(&range);
        let store = self.clone();
        in_batches(from, move |from| {
            let entries = store.read(from, to, APPEND_BYTES_MAX)?;
            // What is to be applied is there, unless the log has failed meanwhile: to end early
            // would count as having applied it.
            if entries.is_empty() && from < to && to != u64::MAX {
                let text = format!("entry {from} is not in the log");
                return Err(io::Error::other(text));
            }
            Ok(entries)
        })
    }
}

/// The entries from `from` on as `read` gives them, one batch per poll, until a batch is empty or
/// a read fails.
fn in_batches<E: Send + 'static>(
    from: u64,
    read: impl Fn(u64) -> Result<Vec<Entry>, E> + Send + 'static,
) -> impl Stream<Item = Result<Entry, E>> + Send + Unpin {
    let batches = stream::unfold(Some(from), move |from| {
        let batch = from.map(&read);
        async move {
            let batch = batch?;
            let next = match &batch {
                Ok(entries) => entries.last().map(|last| last.log_id.index + 1),
                Err(_) => None,
            };
            Some((batch, next))
        }
    });
    let entries = futures::StreamExt::flat_map(batches, |batch| {
        let items: Vec<_> = match batch {
            Ok(entries) => entries.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(items)
    });
    Box::pin(entries)
}

impl LogStore {
    fn bounded_batch(
        &self,
        leader: openraft::alias::LeaderIdOf<TypeConfig>,
        from: u64,
        to: u64,
    ) -> Result<Vec<Entry>, LeaderBoundedStreamError<TypeConfig>> {
        let entries = self.read(from, to, APPEND_BYTES_MAX)?;
        let vote = self.wal.vote().map(vote_from_wal);
        let stands = vote
            .as_ref()
            .is_some_and(|vote| *vote.leader_id() == leader && vote.is_committed());
        if stands {
            Ok(entries)
        } else {
            Err(openraft::errors::LeaderChanged::new(leader, vote).into())
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.wal.purged();
        Ok(LogState {
            last_purged_log_id: purged.map(log_id),
            last_log_id: self.wal.last().or(purged).map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, wait) = completion();
        self.wal.save_vote(vote_to_wal(vote), done);
        wait.await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.wal.save_committed(position(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.wal.committed().map(log_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Vec<LogRecord> = entries
            .into_iter()
            .map(|entry| entry_to_record(&entry))
            .collect();
        self.wal.append(
            records,
            Box::new(move |result| callback.io_completed(result)),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let (done, wait) = completion();
        self.wal
            .truncate_after(last_log_id.map(|id| id.index), done);
        wait.await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.wal.purge(position(&log_id));
        Ok(())
    }
}

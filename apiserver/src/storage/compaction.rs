//! Compaction: the past ends some minutes ago, in the store and in the memory of every API server.
//!
//! API servers take turns as upstream's do, also beside a stock one: who first raises the version of one
//! agreed key compacts to where the store was one interval ago. What a server still has in memory of a past
//! that old it no longer tells, so that a page token lives equally long everywhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use raft_store::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use raft_store::pb::etcdserverpb::request_op::Request as Op;
use raft_store::pb::etcdserverpb::response_op::Response as Done;
use raft_store::pb::etcdserverpb::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use raft_store::{Error, Store};
use seams::Tasks;
use tokio::time::{Instant, sleep, timeout};

use super::Cache;

/// How far the past reaches, as upstream's `--etcd-compaction-interval` has it by default.
pub const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The key that API servers agree by, those of upstream too.
const KEY: Bytes = Bytes::from_static(b"compact_rev_key");
/// How often in an interval a server notes where the store is.
const NOTES: u32 = 10;
/// The store answers within this or is asked again an interval later.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far the past reaches that is told.
#[derive(Debug)]
pub struct Horizon {
    interval: Duration,
    /// Whatever the store had passed by an interval ago.
    oldest: AtomicU64,
    /// Where the store was when, since then.
    notes: Mutex<VecDeque<(Instant, u64)>>,
}

impl Horizon {
    /// A past that reaches back for an interval; none: for ever.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            oldest: AtomicU64::new(0),
            notes: Mutex::default(),
        }
    }

    /// Whether a revision had been passed already when the past begins.
    pub fn is_beyond(&self, revision: u64) -> bool {
        revision < self.oldest.load(Ordering::Acquire)
    }

    /// Takes in where the store is now.
    fn note(&self, now: Instant, revision: u64) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_back((now, revision));
        while let Some((at, revision)) = notes.front().copied()
            && now.duration_since(at) >= self.interval
        {
            self.oldest.store(revision, Ordering::Release);
            notes.pop_front();
        }
    }
}

/// Compacts in turn with other API servers, until the tasks end.
pub(super) fn keep(cache: &Arc<Cache>, store: Arc<dyn Store>, tasks: &Tasks) {
    let interval = cache.horizon.interval;
    if interval.is_zero() {
        return;
    }
    let (cache, ends) = (cache.clone(), tasks.token());
    tasks.spawn("compaction", async move {
        let mut turn = Turn::default();
        for round in 1_u32.. {
            tokio::select! {
                () = sleep(interval / NOTES) => {}
                () = ends.cancelled() => return,
            }
            cache.horizon.note(Instant::now(), cache.applied());
            if round % NOTES != 0 {
                continue;
            }
            match timeout(PATIENCE, turn.take(&*store)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the store was not compacted"),
                Err(_) => tracing::warn!("the store did not compact in time"),
            }
        }
    });
}

/// What a server knows of the key when its turn comes.
#[derive(Debug, Default)]
struct Turn {
    version: i64,
    /// Where the store was at the last turn.
    revision: i64,
}

impl Turn {
    /// Compacts to where the store was at the last turn, unless another server was faster.
    async fn take(&mut self, store: &dyn Store) -> Result<(), Error> {
        let agreed = store.txn(self.request(), Bytes::new()).await?;
        let revision = agreed.header.map_or(0, |header| header.revision);
        let compacted = std::mem::replace(&mut self.revision, revision);
        if !agreed.succeeded {
            let found = agreed.responses.into_iter().next();
            self.version = match found.and_then(|found| found.response) {
                Some(Done::ResponseRange(range)) => range.kvs.first().map_or(0, |kv| kv.version),
                _ => 0,
            };
            return Ok(());
        }
        self.version += 1;
        if compacted == 0 {
            return Ok(());
        }
        let request = CompactionRequest {
            revision: compacted,
            ..CompactionRequest::default()
        };
        match store.compact(request).await {
            Ok(_) | Err(Error::Compacted { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn request(&self) -> TxnRequest {
        let is_unchanged = Compare {
            key: KEY,
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            target_union: Some(TargetUnion::Version(self.version)),
            ..Compare::default()
        };
        let put = PutRequest {
            key: KEY,
            value: self.revision.to_string().into(),
            ..PutRequest::default()
        };
        let read = RangeRequest {
            key: KEY,
            ..RangeRequest::default()
        };
        let operation = |request| RequestOp {
            request: Some(request),
        };
        TxnRequest {
            compare: vec![is_unchanged],
            success: vec![operation(Op::RequestPut(put))],
            failure: vec![operation(Op::RequestRange(read))],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    #[tokio::test]
    async fn the_past_reaches_back_for_an_interval() {
        let horizon = Horizon::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        horizon.note(at(0), 5);
        horizon.note(at(9), 7);
        assert!(!horizon.is_beyond(4), "nothing is known of an interval ago");
        horizon.note(at(10), 8);
        assert!(horizon.is_beyond(4));
        assert!(!horizon.is_beyond(5));
        horizon.note(at(30), 9);
        assert!(horizon.is_beyond(7));
        assert!(!horizon.is_beyond(8));
    }

    #[tokio::test]
    async fn of_two_servers_one_compacts_and_the_other_takes_over() {
        let server = Server::start().await;
        let store = server.store();
        let compacted = async || {
            let request = RangeRequest {
                key: KEY,
                revision: 1,
                ..RangeRequest::default()
            };
            match store.range(request).await {
                Err(Error::Compacted { compact_revision }) => compact_revision,
                other => other.map(|_| 0).unwrap(),
            }
        };
        let (mut one, mut other) = (Turn::default(), Turn::default());
        one.take(store).await.unwrap();
        other.take(store).await.unwrap();
        assert_eq!(
            compacted().await,
            0,
            "nothing is compacted at the first turn"
        );
        let first = one.revision;
        one.take(store).await.unwrap();
        assert_eq!(compacted().await, first);
        // One has died: the other sees no change at its second turn since.
        other.take(store).await.unwrap();
        let second = other.revision;
        assert_eq!(compacted().await, first);
        other.take(store).await.unwrap();
        assert_eq!(compacted().await, second);
    }
}

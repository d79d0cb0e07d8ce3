//! Writes: one object and what belongs to it, in one transaction of the store.
//!
//! A write names the revision that it expects, so that it can be tried again after an answer was
//! lost: what was written by the first attempt is recognized by the second.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_store::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use raft_store::pb::etcdserverpb::request_op::Request as Op;
use raft_store::pb::etcdserverpb::response_op::Response as Done;
use raft_store::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use raft_store::pb::mvccpb::KeyValue;
use raft_store::{Error, Store};
use seams::Seams;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two attempts.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// What else a write needs or does.
#[derive(Debug, Clone, Default)]
pub struct Along {
    /// What must hold, besides the object being as expected.
    pub compares: Vec<Compare>,
    /// What is written with it.
    pub operations: Vec<RequestOp>,
    /// The lease that the object ends with; 0 is none.
    pub lease: i64,
    /// Who writes, for audits.
    pub stamp: Bytes,
}

impl Along {
    /// Needs a key to have a revision; 0 means that it must not exist.
    pub fn needs(&mut self, key: impl Into<Bytes>, mod_revision: i64) {
        self.compares.push(has_revision(key.into(), mod_revision));
    }

    /// Writes another key.
    pub fn puts(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.operations.push(put(key.into(), value.into(), 0));
    }

    /// Deletes another key.
    pub fn deletes(&mut self, key: impl Into<Bytes>) {
        self.operations.push(delete(key.into()));
    }
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteError {
    /// The object is not as expected; this is how it is, none if it is not.
    Changed(Option<KeyValue>),
    /// Something else that was needed does not hold.
    Needs,
    /// The store failed. Whether the write happened is unknown if it timed out.
    Store(Error),
}

/// What becomes of a key.
enum Write {
    Put(Bytes),
    Delete,
}

/// Writes to a store, with retries.
pub struct Writer {
    store: Arc<dyn Store>,
    seams: Seams,
}

impl Writer {
    pub(super) fn new(store: Arc<dyn Store>, seams: Seams) -> Self {
        Self { store, seams }
    }

    /// Writes a key that has a revision; 0 means that it must not exist. Yields the revision of the
    /// write.
    ///
    /// # Errors
    ///
    /// If something is not as expected, or the store fails until the deadline.
    pub async fn put(
        &self,
        key: &str,
        expected: u64,
        value: Vec<u8>,
        along: &Along,
        deadline: Instant,
    ) -> Result<u64, WriteError> {
        let write = Write::Put(value.into());
        self.commit(key, expected, &write, along, deadline).await
    }

    /// Deletes a key that has a revision. Yields the revision of the deletion.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    pub async fn delete(
        &self,
        key: &str,
        expected: u64,
        along: &Along,
        deadline: Instant,
    ) -> Result<u64, WriteError> {
        self.commit(key, expected, &Write::Delete, along, deadline)
            .await
    }

    /// Reads a key from the store itself.
    ///
    /// # Errors
    ///
    /// If the store fails until the deadline.
    pub async fn read(&self, key: &str, deadline: Instant) -> Result<Option<KeyValue>, Error> {
        let request = RangeRequest {
            key: key.as_bytes().to_vec().into(),
            ..RangeRequest::default()
        };
        let response = timeout_at(deadline, self.store.range(request)).await;
        let response = response.map_err(|_| Error::Timeout)??;
        Ok(response.kvs.into_iter().next())
    }

    async fn commit(
        &self,
        key: &str,
        expected: u64,
        write: &Write,
        along: &Along,
        deadline: Instant,
    ) -> Result<u64, WriteError> {
        let request = transaction(key, expected, write, along);
        let mut pause = RETRY_MIN;
        let mut is_retry = false;
        loop {
            let sent = self.store.txn(request.clone(), along.stamp.clone());
            let error = match timeout_at(deadline, sent).await {
                Err(_) => return Err(WriteError::Store(Error::Timeout)),
                Ok(Ok(response)) => return judge(response, expected, write, is_retry),
                Ok(Err(error)) => error,
            };
            let Some(attempt) = retries(&error) else {
                return Err(WriteError::Store(error));
            };
            // A write that was surely refused leaves nothing to be recognized.
            is_retry |= attempt == Attempt::Unknown;
            let jitter = u32::try_from(self.seams.rng.next_u64() % 1000).unwrap_or_default();
            let next = Instant::now() + pause + pause * jitter / 1000;
            if next >= deadline {
                return Err(WriteError::Store(error));
            }
            sleep(next - Instant::now()).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Attempt {
    Refused,
    Unknown,
}

/// Whether a failed write may be tried again, and what is known of the attempt.
fn retries(error: &Error) -> Option<Attempt> {
    match error {
        Error::NoLeader | Error::NotLeader | Error::TooManyRequests | Error::Unhealthy => {
            Some(Attempt::Refused)
        }
        Error::LeaderChanged
        | Error::Timeout
        | Error::TimeoutLeaderFail
        | Error::TimeoutConnectionLost
        | Error::TimeoutWaitAppliedIndex => Some(Attempt::Unknown),
        // gRPC's Unavailable.
        Error::Remote { code: 14, .. } => Some(Attempt::Unknown),
        _ => None,
    }
}

fn transaction(key: &str, expected: u64, write: &Write, along: &Along) -> TxnRequest {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let mut compare = vec![has_revision(
        key.clone(),
        i64::try_from(expected).unwrap_or(i64::MAX),
    )];
    compare.extend(along.compares.iter().cloned());
    let mut success = vec![match write {
        Write::Put(value) => put(key.clone(), value.clone(), along.lease),
        Write::Delete => delete(key.clone()),
    }];
    success.extend(along.operations.iter().cloned());
    let read = RangeRequest {
        key,
        ..RangeRequest::default()
    };
    TxnRequest {
        compare,
        success,
        failure: vec![RequestOp {
            request: Some(Op::RequestRange(read)),
        }],
    }
}

fn judge(
    response: TxnResponse,
    expected: u64,
    write: &Write,
    is_retry: bool,
) -> Result<u64, WriteError> {
    let revision = response.header.map_or(0, |header| header.revision);
    if response.succeeded {
        return Ok(u64::try_from(revision).unwrap_or_default());
    }
    let found = response.responses.into_iter().next();
    let current = match found.and_then(|one| one.response) {
        Some(Done::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    };
    let mod_revision = current.as_ref().map_or(0, |pair| pair.mod_revision);
    if u64::try_from(mod_revision).unwrap_or_default() == expected {
        return Err(WriteError::Needs);
    }
    if is_retry {
        match (write, &current) {
            (Write::Put(value), Some(pair)) if pair.value == *value => {
                return Ok(u64::try_from(pair.mod_revision).unwrap_or_default());
            }
            (Write::Delete, None) => return Ok(u64::try_from(revision).unwrap_or_default()),
            _ => {}
        }
    }
    Err(WriteError::Changed(current))
}

fn has_revision(key: Bytes, mod_revision: i64) -> Compare {
    Compare {
        key,
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..Compare::default()
    }
}

fn put(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    let request = PutRequest {
        key,
        value,
        lease,
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Op::RequestPut(request)),
    }
}

fn delete(key: Bytes) -> RequestOp {
    let request = DeleteRangeRequest {
        key,
        ..DeleteRangeRequest::default()
    };
    RequestOp {
        request: Some(Op::RequestDeleteRange(request)),
    }
}

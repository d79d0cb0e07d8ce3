//! The `Store` trait: what the API server and every other user of the store programs against.
//!
//! Two implementations: [`crate::member::Member`] in process (no gRPC, no copy of values) and
//! [`crate::remote::RemoteStore`] for any etcd v3 endpoint. One contract suite runs against both
//! and against etcd itself (`tests/contract.rs`).

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, StatusResponse, TxnRequest, TxnResponse, WatchCreateRequest,
};
use crate::pb::mvccpb::Event;

/// A linearizable, revisioned key-value store with etcd v3 semantics.
///
/// Requests and responses are etcd's messages, and mean exactly what they mean in etcd 3.6.
/// `metadata` is opaque to the store: it travels in the log entry of the write, for audits.
/// A remote etcd has no place for it and drops it.
///
/// Writes are never retried by the store: after [`crate::error::Error::Timeout`] and the other
/// `Timeout…` errors the outcome is unknown.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads keys at one revision; linearizable unless `serializable` is set.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse>;

    /// Writes one key.
    async fn put(&self, request: PutRequest, metadata: Bytes) -> Result<PutResponse>;

    /// Deletes keys.
    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
        metadata: Bytes,
    ) -> Result<DeleteRangeResponse>;

    /// Compares, then runs one of two lists of operations, atomically at one revision.
    async fn txn(&self, request: TxnRequest, metadata: Bytes) -> Result<TxnResponse>;

    /// Forgets the history below a revision.
    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse>;

    /// Opens a watch over one key or range. `watch_id` and `fragment` of the request are ignored.
    /// Fails with `Compacted` when the start revision is gone.
    async fn watch(&self, request: WatchCreateRequest) -> Result<Box<dyn WatchStream>>;

    /// Grants a lease; ID 0 lets the store choose one.
    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse>;

    /// Revokes a lease and deletes its keys in one revision.
    async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse>;

    /// Renews a lease once. The response's TTL is 0 when the lease does not exist.
    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse>;

    /// Tells how long a lease has to live; TTL is -1 when it does not exist.
    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse>;

    /// Lists all leases.
    async fn leases(&self) -> Result<LeaseLeasesResponse>;

    /// The store's current revision, linearizable: at least that of every write acknowledged
    /// before the call.
    async fn progress(&self) -> Result<i64>;

    /// The serving member's own view: version, leader, sizes, indexes. Not linearizable.
    async fn status(&self) -> Result<StatusResponse>;
}

/// What a watch yields.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchItem {
    /// All matching events of one or several whole revisions, in order, up to and including
    /// `revision`. A revision is never split over two items.
    Events {
        /// The revision of the last event.
        revision: i64,
        /// At least one event, ascending by revision.
        events: Vec<Event>,
    },
    /// Every matching event up to and including this revision has been delivered. Sent on the
    /// store's own initiative when `progress_notify` is set, and on `request_progress`.
    Progress {
        /// The revision up to which the watch is complete.
        revision: i64,
    },
}

/// One open watch. Dropping it cancels it.
///
/// Guarantees (etcd's): ordered by revision, each event once, none left out, atomic per revision,
/// resumable at `last revision + 1`, bookmarkable by `Progress`.
#[async_trait]
pub trait WatchStream: Send {
    /// Waits for the next item. After an error the watch is over: `Compacted` when its cursor
    /// fell behind a compaction, `NoLeader` or `Stopped` when the member gave up; it can be
    /// opened again elsewhere at the next revision.
    ///
    /// Cancel safe: a call dropped before it completes loses nothing.
    async fn next(&mut self) -> Result<WatchItem>;

    /// Asks for a `Progress` item as soon as the watch has caught up with the revision that the
    /// store has now.
    async fn request_progress(&mut self) -> Result<()>;
}

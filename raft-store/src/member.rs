//! Stub of a member in front of another store, until the lead brings the member.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use seams::Tasks;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::mvcc::Mvcc;
use crate::pb::etcdserverpb::*;
use crate::store::{Store, WatchStream};
use crate::watch::{EventRing, History, Revision, WatchHub};

/// Stub.
#[derive(Clone)]
pub struct Member {
    store: Arc<dyn Store>,
    mvcc: Mvcc,
    leader: watch::Sender<Option<u64>>,
    tasks: Tasks,
    hub: WatchHub,
}

struct NoHistory;

impl History for NoHistory {
    fn current_revision(&self) -> i64 {
        1
    }
    fn compact_revision(&self) -> i64 {
        0
    }
    fn revisions(&self, _: i64, _: usize) -> Result<Vec<Arc<Revision>>> {
        Ok(Vec::new())
    }
    fn version_at(&self, _: &[u8], _: i64) -> Result<Option<crate::pb::mvccpb::KeyValue>> {
        Ok(None)
    }
}

#[allow(missing_docs)]
impl Member {
    pub fn over(store: Arc<dyn Store>, tasks: Tasks) -> Member {
        let hub = WatchHub::new(Arc::new(EventRing::new(1 << 20)), Arc::new(NoHistory), &tasks);
        Member { store, mvcc: Mvcc::default(), leader: watch::Sender::new(Some(1)), tasks, hub }
    }
    pub fn id(&self) -> u64 {
        1
    }
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader { cluster_id: 2, member_id: 1, revision: 1, raft_term: 1 }
    }
    pub fn mvcc(&self) -> &Mvcc {
        &self.mvcc
    }
    pub fn watch_hub(&self) -> &WatchHub {
        &self.hub
    }
    pub fn leader(&self) -> Option<u64> {
        *self.leader.borrow()
    }
    pub fn leader_watch(&self) -> watch::Receiver<Option<u64>> {
        self.leader.subscribe()
    }
    pub fn is_learner(&self) -> bool {
        false
    }
    pub fn term(&self) -> u64 {
        1
    }
    pub fn committed_index(&self) -> u64 {
        1
    }
    pub fn applied_index(&self) -> u64 {
        1
    }
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }
    pub async fn read_barrier(&self) -> Result<()> {
        Ok(())
    }
    pub async fn members(&self, _: bool) -> Result<Vec<crate::pb::etcdserverpb::Member>> {
        Ok(Vec::new())
    }
    pub async fn member_add(
        &self,
        _: Vec<String>,
        _: bool,
    ) -> Result<(crate::pb::etcdserverpb::Member, Vec<crate::pb::etcdserverpb::Member>)> {
        Err(Error::Unimplemented("stub"))
    }
    pub async fn member_remove(&self, _: u64) -> Result<Vec<crate::pb::etcdserverpb::Member>> {
        Err(Error::MemberNotFound)
    }
    pub async fn member_update(
        &self,
        _: u64,
        _: Vec<String>,
    ) -> Result<Vec<crate::pb::etcdserverpb::Member>> {
        Err(Error::MemberNotFound)
    }
    pub async fn member_promote(&self, _: u64) -> Result<Vec<crate::pb::etcdserverpb::Member>> {
        Err(Error::MemberNotFound)
    }
    pub async fn alarm(&self, _: AlarmRequest) -> Result<AlarmResponse> {
        Ok(AlarmResponse::default())
    }
    pub async fn move_leader(&self, _: u64) -> Result<()> {
        Err(Error::BadLeaderTransferee)
    }
    pub async fn hash_kv(&self, _: i64) -> Result<HashKvResponse> {
        Ok(HashKvResponse::default())
    }
}

#[async_trait]
impl Store for Member {
    async fn range(&self, r: RangeRequest) -> Result<RangeResponse> {
        self.store.range(r).await
    }
    async fn put(&self, r: PutRequest, m: Bytes) -> Result<PutResponse> {
        self.store.put(r, m).await
    }
    async fn delete_range(&self, r: DeleteRangeRequest, m: Bytes) -> Result<DeleteRangeResponse> {
        self.store.delete_range(r, m).await
    }
    async fn txn(&self, r: TxnRequest, m: Bytes) -> Result<TxnResponse> {
        self.store.txn(r, m).await
    }
    async fn compact(&self, r: CompactionRequest) -> Result<CompactionResponse> {
        self.store.compact(r).await
    }
    async fn watch(&self, r: WatchCreateRequest) -> Result<Box<dyn WatchStream>> {
        self.store.watch(r).await
    }
    async fn lease_grant(&self, r: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.store.lease_grant(r).await
    }
    async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse> {
        self.store.lease_revoke(id).await
    }
    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        self.store.lease_keep_alive(id).await
    }
    async fn lease_time_to_live(
        &self,
        r: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.store.lease_time_to_live(r).await
    }
    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        self.store.leases().await
    }
    async fn progress(&self) -> Result<i64> {
        self.store.progress().await
    }
    async fn status(&self) -> Result<StatusResponse> {
        Ok(crate::server::status_response(self))
    }
}

//! A store whose answers can be lost.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use raft_store::member::Member;
use raft_store::pb::etcdserverpb::request_op::Request as Op;
use raft_store::pb::etcdserverpb::*;
use raft_store::{Error, Result, Store, WatchStream};

/// A store that carries out what it is asked to, and once says that it does not know.
pub struct Lossy {
    member: Member,
    plan: Mutex<Option<Plan>>,
}

struct Plan {
    key: String,
    /// A text of the value and what somebody makes of it before the client asks again.
    change: (String, String),
}

impl Lossy {
    pub(super) fn new(member: Member) -> Self {
        let plan = Mutex::default();
        Self { member, plan }
    }

    /// Loses the answer to the next write of a key with this text in it. Before the client asks
    /// again, somebody else replaces a text in the value.
    pub fn lose(&self, key: &str, change: (&str, &str)) {
        let plan = Plan {
            key: key.to_string(),
            change: (change.0.to_string(), change.1.to_string()),
        };
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    /// The plan, if it is about this write.
    fn plan_for(&self, request: &TxnRequest) -> Option<(Plan, PutRequest)> {
        let mut planned = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = planned.as_ref()?;
        let puts = request.success.iter().filter_map(|op| match &op.request {
            Some(Op::RequestPut(put)) => Some(put),
            _ => None,
        });
        let mut puts = puts.filter(|put| text(&put.key).contains(&plan.key));
        let put = puts.next()?.clone();
        planned.take().map(|plan| (plan, put))
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[async_trait]
impl Store for Lossy {
    async fn txn(&self, request: TxnRequest, metadata: Bytes) -> Result<TxnResponse> {
        let Some((plan, put)) = self.plan_for(&request) else {
            return self.member.txn(request, metadata).await;
        };
        self.member.txn(request, metadata.clone()).await?;
        let changed = text(&put.value).replace(&plan.change.0, &plan.change.1);
        let value = changed.into_bytes().into();
        self.member
            .put(PutRequest { value, ..put }, metadata)
            .await?;
        Err(Error::Timeout)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.member.range(request).await
    }

    async fn put(&self, request: PutRequest, metadata: Bytes) -> Result<PutResponse> {
        self.member.put(request, metadata).await
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
        metadata: Bytes,
    ) -> Result<DeleteRangeResponse> {
        self.member.delete_range(request, metadata).await
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse> {
        self.member.compact(request).await
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Box<dyn WatchStream>> {
        self.member.watch(request).await
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.member.lease_grant(request).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse> {
        self.member.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        self.member.lease_keep_alive(id).await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.member.lease_time_to_live(request).await
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        self.member.leases().await
    }

    async fn progress(&self) -> Result<i64> {
        self.member.progress().await
    }

    async fn status(&self) -> Result<StatusResponse> {
        self.member.status().await
    }
}

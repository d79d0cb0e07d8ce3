//! The cluster and maintenance calls, for operators and tools.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::timeout;
use tonic::Status;

use super::call::{Failure, Retry};
use super::endpoint::Connection;
use super::{Inner, RemoteStore};
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::cluster_client::ClusterClient;
use crate::pb::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, HashKvRequest, HashKvResponse, Member,
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest,
    SnapshotRequest,
};
use crate::store::Store;

/// The pieces of a backup archive.
pub type SnapshotStream = BoxStream<'static, Result<Bytes>>;

/// How long the next piece of a snapshot may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

impl Connection {
    fn cluster(&self) -> ClusterClient<Connection> {
        ClusterClient::with_origin(self.clone(), self.origin())
    }
}

impl RemoteStore {
    /// The members of the cluster.
    pub async fn members(&self, linearizable: bool) -> Result<MemberListResponse> {
        let request = MemberListRequest { linearizable };
        self.inner
            .call(Retry::Read, |c| async move {
                c.cluster().member_list(request).await
            })
            .await
    }

    /// Adds a member with these peer URLs.
    pub async fn member_add(&self, urls: Vec<String>, learner: bool) -> Result<MemberAddResponse> {
        let request = MemberAddRequest {
            peer_ur_ls: urls,
            is_learner: learner,
        };
        self.inner
            .call(Retry::Write, |c| {
                let request = request.clone();
                async move { c.cluster().member_add(request).await }
            })
            .await
    }

    /// Removes a member; yields those that are left.
    pub async fn member_remove(&self, id: u64) -> Result<Vec<Member>> {
        let request = MemberRemoveRequest { id };
        let call = |c: Connection| async move { c.cluster().member_remove(request).await };
        Ok(self.inner.call(Retry::Write, call).await?.members)
    }

    /// Gives a member other peer URLs.
    pub async fn member_update(&self, id: u64, urls: Vec<String>) -> Result<Vec<Member>> {
        let request = MemberUpdateRequest {
            id,
            peer_ur_ls: urls,
        };
        let call = |c: Connection| {
            let request = request.clone();
            async move { c.cluster().member_update(request).await }
        };
        Ok(self.inner.call(Retry::Write, call).await?.members)
    }

    /// Makes a learner a voter.
    pub async fn member_promote(&self, id: u64) -> Result<Vec<Member>> {
        let request = MemberPromoteRequest { id };
        let call = |c: Connection| async move { c.cluster().member_promote(request).await };
        Ok(self.inner.call(Retry::Write, call).await?.members)
    }

    /// Lists, raises or clears alarms.
    pub async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse> {
        let call = |c: Connection| async move { c.maintenance().alarm(request).await };
        self.inner.call(Retry::Write, call).await
    }

    /// The hash of one member's history up to a revision (0 for all).
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse> {
        let request = HashKvRequest { revision };
        let call = |c: Connection| async move { c.maintenance().hash_kv(request).await };
        self.inner.call(Retry::Read, call).await
    }

    /// Defragments one member, where that means anything.
    pub async fn defragment(&self) -> Result<()> {
        let call =
            |c: Connection| async move { c.maintenance().defragment(DefragmentRequest {}).await };
        self.inner.call(Retry::Write, call).await.map(|_| ())
    }

    /// Hands leadership to a member. Only the leader can do that, so that it is looked for among
    /// the endpoints.
    pub async fn move_leader(&self, target: u64) -> Result<()> {
        let request = MoveLeaderRequest { target_id: target };
        let mut outcome = Err(Error::NotLeader);
        for index in 0..self.inner.endpoints.len() {
            let only = self.at(index);
            let Ok(status) = only.status().await else {
                continue;
            };
            if status
                .header
                .is_some_and(|header| header.member_id == status.leader)
            {
                let call =
                    |c: Connection| async move { c.maintenance().move_leader(request).await };
                outcome = only.inner.call(Retry::Write, call).await.map(|_| ());
                break;
            }
        }
        outcome
    }

    /// A backup archive of one member's state.
    pub async fn snapshot(&self) -> Result<SnapshotStream> {
        let call =
            |c: Connection| async move { c.maintenance().snapshot(SnapshotRequest {}).await };
        let pieces = self.inner.call(Retry::Read, call).await?;
        Ok(stream::unfold(Some(pieces), |pieces| async move {
            let mut pieces = pieces?;
            match timeout(PIECE_TIMEOUT, pieces.message()).await {
                Ok(Ok(Some(piece))) => Some((Ok(piece.blob), Some(pieces))),
                Ok(Ok(None)) => None,
                Ok(Err(status)) => Some((Err(Failure::of(status).into_error()), None)),
                Err(_) => Some((Err(Error::Timeout), None)),
            }
        })
        .boxed())
    }
}

impl Inner {
    /// Runs a call at one endpoint, without a retry.
    pub(super) async fn call_at<T, F, Fut>(&self, index: usize, call: F) -> Result<T>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let once = self.call_once(index, &call);
        let result = timeout(self.config.request_timeout, once).await;
        let result = result.map_err(|_| Error::Timeout)?;
        result
            .map(tonic::Response::into_inner)
            .map_err(Failure::into_error)
    }
}

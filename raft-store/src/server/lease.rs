//! The Lease service.

use std::future;

use futures::stream::{self, Stream};
use seams::Tasks;
use tonic::{Status, Streaming};

use super::{Inner, status};
use crate::error::{Error, Result};
use crate::member::Member;
use crate::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::store::Store;
use crate::watch::LeaderWatch;
use crate::watch::leader::LEADER_GRACE;

pub(super) async fn grant(
    server: &Inner,
    request: LeaseGrantRequest,
) -> Result<LeaseGrantResponse> {
    server.member.lease_grant(request).await
}

pub(super) async fn revoke(
    server: &Inner,
    request: LeaseRevokeRequest,
) -> Result<LeaseRevokeResponse> {
    server.member.lease_revoke(request.id).await
}

pub(super) async fn time_to_live(
    server: &Inner,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse> {
    server.member.lease_time_to_live(request).await
}

pub(super) async fn leases(server: &Inner, _: LeaseLeasesRequest) -> Result<LeaseLeasesResponse> {
    server.member.leases().await
}

/// Renews a lease for each request of the stream, in order.
pub(super) fn keep_alive(
    member: Member,
    tasks: Tasks,
    requests: Streaming<LeaseKeepAliveRequest>,
    requires_leader: bool,
) -> impl Stream<Item = Result<LeaseKeepAliveResponse, Status>> {
    let leader = requires_leader.then(|| LeaderWatch::new(member.leader_watch(), LEADER_GRACE));
    let renewals = Renewals {
        member,
        tasks,
        requests,
        leader,
    };
    stream::unfold(Some(renewals), |renewals| async move {
        let mut renewals = renewals?;
        match renewals.next().await {
            Ok(None) => None,
            Ok(Some(response)) => Some((Ok(response), Some(renewals))),
            Err(status) => Some((Err(status), None)),
        }
    })
}

struct Renewals {
    member: Member,
    tasks: Tasks,
    requests: Streaming<LeaseKeepAliveRequest>,
    /// Set when the client wants to be told that there is no leader.
    leader: Option<LeaderWatch>,
}

impl Renewals {
    async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Status> {
        let request = tokio::select! {
            request = self.requests.message() => request?,
            () = self.tasks.cancelled() => return Err(status::status(&Error::Stopped)),
            () = lost(self.leader.as_mut()) => return Err(status::status(&Error::NoLeader)),
        };
        let Some(LeaseKeepAliveRequest { id }) = request else {
            return Ok(None);
        };
        // Taken before the renewal: a client must not see a renewal succeed at a revision at
        // which the lease was gone already.
        let header = self.member.header();
        let renewed = self.member.lease_keep_alive(id).await;
        let mut response = renewed.map_err(|error| status::status(&error))?;
        response.header = Some(header);
        Ok(Some(response))
    }
}

async fn lost(leader: Option<&mut LeaderWatch>) {
    match leader {
        Some(leader) => leader.lost().await,
        None => future::pending().await,
    }
}

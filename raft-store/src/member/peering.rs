//! What a member asks of the leader, and answers as the leader, beyond Raft.

use std::sync::{Arc, OnceLock};

use openraft::LogIdOptionExt;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::Member;
use super::identity::Retired;
use crate::consensus::peer_server::Local;
use crate::consensus::peers::Client;
use crate::consensus::raft::Pause;
use crate::consensus::types::members_of;
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::{
    LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Member as PbMember,
};
use crate::pb::peer;
use crate::server::status;

impl Member {
    /// Runs an operation that is harmless to repeat where the leader is: `here` on this member,
    /// or `there` through the leader's peer service. Follows the leader until the deadline.
    pub(super) async fn on_leader<T, H, T2>(
        &self,
        here: impl Fn() -> H,
        there: impl Fn(Client) -> T2,
    ) -> Result<T>
    where
        H: Future<Output = Result<T>>,
        T2: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.check_serving()?;
        let consensus = self.consensus();
        let deadline = consensus.deadline();
        let mut pause = Pause::default();
        loop {
            let error = if consensus.is_leader() {
                match here().await {
                    Ok(done) => return Ok(done),
                    Err(error) => error,
                }
            } else if let Some(leader) = consensus.leader_client() {
                // The leader may die while it is asked: leave time to ask the next.
                let patience = Instant::now() + consensus.timings.request_timeout / 4;
                match timeout_at(patience.min(deadline), there(leader)).await {
                    Ok(Ok(response)) => return Ok(response.into_inner()),
                    Ok(Err(answer)) => status::error(&answer),
                    Err(_) => Error::Timeout,
                }
            } else {
                Error::NoLeader
            };
            if !passing(&error) {
                return Err(error);
            }
            pause.or_give_up(deadline, error).await?;
        }
    }
}

/// Whether an error may be gone when the next leader is asked.
fn passing(error: &Error) -> bool {
    matches!(
        status::code(error),
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown
    ) || matches!(error, Error::NotLeader)
}

#[tonic::async_trait]
impl Local for Member {
    async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        self.must_lead()?;
        self.keep_alive_here(id).await
    }

    async fn time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.must_lead()?;
        self.time_to_live_here(request).await
    }

    async fn change_members(&self, change: peer::MemberChange) -> Result<peer::MemberChangeReply> {
        self.change_membership(change).await
    }

    async fn confirmed_members(&self) -> Result<Vec<PbMember>> {
        self.read_barrier().await?;
        let (members, at) = self.consensus().view(|metrics| {
            let membership = &metrics.membership_config;
            let at = membership.log_id().index();
            (members_of(membership.membership()), at)
        });
        // What the log says after that may yet be taken back.
        if at > self.0.mvcc.applied().map(|at| at.index) {
            return Err(Error::Unhealthy);
        }
        Ok(members)
    }

    fn lost_log(&self, entry: u64) {
        self.retire(Retired::LostLog { entry });
    }
}

impl Member {
    fn must_lead(&self) -> Result<()> {
        if self.consensus().is_leader() {
            Ok(())
        } else {
            Err(Error::LeaderChanged)
        }
    }
}

/// The member as its peer service sees it while it is still being put together.
pub(super) struct Late(pub(super) Arc<OnceLock<Member>>);

impl Late {
    fn member(&self) -> Result<&Member> {
        self.0.get().ok_or(Error::NoLeader)
    }
}

#[tonic::async_trait]
impl Local for Late {
    async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        self.member()?.keep_alive(id).await
    }

    async fn time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.member()?.time_to_live(request).await
    }

    async fn change_members(&self, change: peer::MemberChange) -> Result<peer::MemberChangeReply> {
        self.member()?.change_members(change).await
    }

    async fn confirmed_members(&self) -> Result<Vec<PbMember>> {
        self.member()?.confirmed_members().await
    }

    fn lost_log(&self, entry: u64) {
        // Heartbeats go on: it will be found again.
        if let Ok(member) = self.member() {
            member.lost_log(entry);
        }
    }
}

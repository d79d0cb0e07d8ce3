//! Changes of the membership, one at a time, each checked before it can cost the quorum.
//!
//! A new member joins as a learner: it has no vote until it holds the log. One that was asked for
//! as a voter is promoted by the leader once it has caught up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::Member;
use crate::consensus::raft::Metrics;
use crate::consensus::types::{Membership, Node, TypeConfig, members_of};
use crate::error::{Error, Result};
use crate::mvcc::Response;
use crate::pb::etcdserverpb::{
    Member as PbMember, MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest,
};
use crate::pb::log::{AllocateMemberId, command::Op};
use crate::pb::peer::{DescribeRequest, MemberChange, MemberChangeReply, member_change::Change};

/// A member that answered a heartbeat within this time may still be there.
const HEARD: Duration = Duration::from_secs(5);
/// A member that is there answers a question within this time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A learner may be promoted once it holds this share of the leader's log.
const PROMOTE_AT_PERCENT: u64 = 90;
/// A transfer of leadership goes to a voter at most this many entries behind.
const TRANSFER_LAG_MAX: u64 = 1024;
/// A transfer of leadership takes an election; more than this means that it failed.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(1);

impl Member {
    /// The members of the cluster.
    pub async fn members(&self, linearizable: bool) -> Result<Vec<PbMember>> {
        if linearizable {
            self.read_barrier().await?;
        }
        Ok(self.members_now())
    }

    pub(super) fn members_now(&self) -> Vec<PbMember> {
        members_of(&self.membership())
    }

    /// Adds a member. It is a learner until it has caught up; with `learner` it stays one.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<(PbMember, Vec<PbMember>)> {
        let reply = self
            .request_change(Change::Add(MemberAddRequest {
                peer_ur_ls: peer_urls,
                is_learner: learner,
            }))
            .await?;
        let added = reply.members.iter().find(|member| member.id == reply.id);
        let added = added.cloned().ok_or(Error::MemberNotFound)?;
        Ok((added, reply.members))
    }

    /// Removes a member. Refuses what would leave the cluster without a quorum.
    pub async fn member_remove(&self, id: u64) -> Result<Vec<PbMember>> {
        let change = Change::Remove(MemberRemoveRequest { id });
        Ok(self.request_change(change).await?.members)
    }

    /// Changes the URLs under which peers reach a member.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<PbMember>> {
        let change = Change::Update(MemberUpdateRequest {
            id,
            peer_ur_ls: peer_urls,
        });
        Ok(self.request_change(change).await?.members)
    }

    /// Gives a learner that has caught up a vote.
    pub async fn member_promote(&self, id: u64) -> Result<Vec<PbMember>> {
        let change = Change::Promote(MemberPromoteRequest { id });
        Ok(self.request_change(change).await?.members)
    }

    /// Hands leadership to another voter. Only the leader does this, as in etcd.
    pub async fn move_leader(&self, target: u64) -> Result<()> {
        if !self.is_leader() {
            return Err(Error::NotLeader);
        }
        self.transfer_to(target).await
    }

    /// Has the leader carry out a change. Each of them is harmless to ask for twice; for `Add` its
    /// number sees to that.
    async fn request_change(&self, change: Change) -> Result<MemberChangeReply> {
        let change = MemberChange {
            change: Some(change),
            request: self.seams().rng.next_u64().max(1),
        };
        self.on_leader(
            || self.change_membership(change.clone()),
            |mut leader| {
                let change = change.clone();
                async move { leader.change_members(change).await }
            },
        )
        .await
    }

    /// Tells the cluster this member's name and URLs, when they are not known yet. Its peer URLs
    /// are told once: an operator may change them while it runs.
    pub(super) async fn publish(&self) -> Result<()> {
        let peer_urls_told = self.0.peer_urls_told.load(Ordering::Acquire);
        let wanted = PbMember {
            id: self.id(),
            name: self.0.config.name.clone(),
            peer_ur_ls: match peer_urls_told {
                true => Vec::new(),
                false => self.0.config.advertise_peer.clone(),
            },
            client_ur_ls: self.0.config.advertise_client.clone(),
            is_learner: false,
        };
        let published = self.members_now().into_iter().any(|member| {
            member.id == wanted.id
                && member.name == wanted.name
                && member.client_ur_ls == wanted.client_ur_ls
                && (peer_urls_told || member.peer_ur_ls == wanted.peer_ur_ls)
        });
        if !published {
            self.request_change(Change::Publish(wanted)).await?;
        } else if !*self.0.recovered.borrow() {
            // What the log says here may not be committed.
            return Ok(());
        }
        self.0.peer_urls_told.store(true, Ordering::Release);
        Ok(())
    }

    /// Carries out a change on the leader.
    pub(super) async fn change_membership(
        &self,
        change: MemberChange,
    ) -> Result<MemberChangeReply> {
        let _one_at_a_time = self.0.membership_gate.lock().await;
        if !self.is_leader() {
            return Err(Error::LeaderChanged);
        }
        let request = change.request;
        let change = change
            .change
            .ok_or_else(|| Error::InvalidArgument("an empty membership change".to_owned()))?;
        let id = match change {
            Change::Add(add) => self.add(add, request).await?,
            Change::Remove(remove) => self.remove(remove.id).await?,
            Change::Update(update) => self.update(update).await?,
            Change::Promote(promote) => self.promote(promote.id, true).await?,
            Change::Publish(member) => self.accept_publication(member).await?,
            Change::MoveLeader(MoveLeaderRequest { target_id }) => {
                self.transfer_to(target_id).await?;
                target_id
            }
        };
        Ok(MemberChangeReply {
            id,
            members: self.members_now(),
        })
    }

    async fn add(&self, add: MemberAddRequest, request: u64) -> Result<u64> {
        check_urls(&add.peer_ur_ls)?;
        // An earlier attempt was carried out, although its answer was lost.
        let membership = self.membership();
        let mut added = membership
            .nodes()
            .filter(|(_, node)| node.added_by == request);
        if let Some((id, _)) = added.next().filter(|_| request != 0) {
            return Ok(*id);
        }
        check_urls_free(&membership, None, &add.peer_ur_ls)?;
        let id = match self
            .propose(
                Op::AllocateMemberId(AllocateMemberId {}),
                bytes::Bytes::new(),
            )
            .await?
        {
            Response::MemberId(id) => id,
            other => return Err(Error::Internal(format!("unexpected answer: {other:?}"))),
        };
        let node = Node {
            peer_urls: add.peer_ur_ls,
            promote: !add.is_learner,
            added_by: request,
            ..Node::default()
        };
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, node)])), true)
            .await?;
        tracing::info!(member = %format_args!("{id:x}"), "added a member as a learner");
        Ok(id)
    }

    async fn remove(&self, id: u64) -> Result<u64> {
        let membership = self.membership();
        if membership.get_node(&id).is_none() {
            return Err(Error::MemberNotFound);
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        if !voters.contains(&id) {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false)
                .await?;
            return Ok(id);
        }
        let left: BTreeSet<u64> = voters
            .iter()
            .copied()
            .filter(|voter| *voter != id)
            .collect();
        self.check_quorum(&left).await?;
        if id == self.id() {
            // A leader that removes itself hands over first; the next leader removes it.
            self.transfer_to_best().await?;
            return Err(Error::LeaderChanged);
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false)
            .await?;
        tracing::info!(member = %format_args!("{id:x}"), "removed a member");
        Ok(id)
    }

    async fn update(&self, update: MemberUpdateRequest) -> Result<u64> {
        check_urls(&update.peer_ur_ls)?;
        let membership = self.membership();
        let node = membership
            .get_node(&update.id)
            .ok_or(Error::MemberNotFound)?;
        check_urls_free(&membership, Some(update.id), &update.peer_ur_ls)?;
        let node = Node {
            peer_urls: update.peer_ur_ls,
            ..node.clone()
        };
        self.set_node(update.id, node).await
    }

    async fn accept_publication(&self, member: PbMember) -> Result<u64> {
        let membership = self.membership();
        let node = membership
            .get_node(&member.id)
            .ok_or(Error::MemberNotFound)?;
        let peer_urls = if member.peer_ur_ls.is_empty() {
            node.peer_urls.clone()
        } else {
            member.peer_ur_ls
        };
        check_urls_free(&membership, Some(member.id), &peer_urls)?;
        let node = Node {
            name: member.name,
            client_urls: member.client_ur_ls,
            peer_urls,
            promote: node.promote,
            added_by: node.added_by,
        };
        self.set_node(member.id, node).await
    }

    async fn set_node(&self, id: u64, node: Node) -> Result<u64> {
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, node)])), true)
            .await?;
        Ok(id)
    }

    /// Promotes a learner. Without `strict`, one that is a voter already is left alone.
    async fn promote(&self, id: u64, strict: bool) -> Result<u64> {
        let membership = self.membership();
        if membership.get_node(&id).is_none() {
            return Err(Error::MemberNotFound);
        }
        if membership.voter_ids().any(|voter| voter == id) {
            return if strict {
                Err(Error::MemberNotLearner)
            } else {
                Ok(id)
            };
        }
        if !self.caught_up(id) {
            return Err(Error::LearnerNotReady);
        }
        let voters: BTreeSet<u64> = membership.voter_ids().chain([id]).collect();
        if !self.check_quorum(&voters).await?.contains(&id) {
            return Err(Error::LearnerNotReady);
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
            .await?;
        self.0.metrics.learner_promote_successes.inc();
        tracing::info!(member = %format_args!("{id:x}"), "promoted a learner to a voter");
        Ok(id)
    }

    /// Promotes the learners that wait for it, and completes a change that a former leader left
    /// half done.
    pub(super) async fn tend_membership(&self) -> Result<()> {
        let _one_at_a_time = self.0.membership_gate.lock().await;
        if !self.is_leader() {
            return Ok(());
        }
        let membership = self.membership();
        if membership.get_joint_config().len() > 1 {
            self.change(ChangeMembers::AddVoterIds(BTreeSet::new()), true)
                .await?;
        }
        let waiting: Vec<u64> = membership
            .learner_ids()
            .filter(|id| membership.get_node(id).is_some_and(|node| node.promote))
            .collect();
        for id in waiting {
            if self.caught_up(id) {
                self.promote(id, false).await?;
            }
        }
        Ok(())
    }

    /// Hands leadership over before a graceful stop, when somebody can take it.
    pub(super) async fn hand_over(&self) {
        if !self.is_leader() {
            return;
        }
        match self.transfer_to_best().await {
            Ok(next) => tracing::info!(to = %format_args!("{next:x}"), "handed leadership over"),
            // Nobody to hand it to: this member is alone.
            Err(Error::Unhealthy) => {}
            Err(error) => tracing::warn!(%error, "could not hand leadership over"),
        }
    }

    /// Hands leadership to the voter that holds most of the log, of those that answer.
    async fn transfer_to_best(&self) -> Result<u64> {
        for next in self.successors() {
            match self.transfer_to(next).await {
                Ok(()) => return Ok(next),
                Err(Error::BadLeaderTransferee) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unhealthy)
    }

    async fn transfer_to(&self, target: u64) -> Result<()> {
        let membership = self.membership();
        if target == self.id() {
            return Ok(());
        }
        let able = membership.voter_ids().any(|voter| voter == target)
            && self
                .lag_of(target)
                .is_some_and(|lag| lag <= TRANSFER_LAG_MAX)
            && !self.answering(&BTreeSet::from([target])).await.is_empty();
        // A transfer blocks reads and writes until the target leads: only one that can.
        if !able {
            return Err(Error::BadLeaderTransferee);
        }
        let deadline = Instant::now() + TRANSFER_TIMEOUT;
        let raft = &self.consensus().raft;
        raft.trigger()
            .transfer_leader(target)
            .await
            .map_err(|_| Error::Stopped)?;
        let own = self.id();
        let mut leader = self.leader_watch();
        let moved = leader.wait_for(|leader| leader.is_some_and(|leader| leader != own));
        match timeout_at(deadline, moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    fn membership(&self) -> Membership {
        self.consensus()
            .view(|metrics| metrics.membership_config.membership().clone())
    }

    async fn change(&self, change: ChangeMembers<u64, Node>, retain: bool) -> Result<()> {
        let deadline = self.consensus().deadline();
        let raft = self.consensus().raft.clone();
        // The change has two steps; a caller that goes away must not stop it between them.
        let task = self.tasks().spawn("membership change", async move {
            let done = raft.change_membership(change, retain).await?;
            // The answer comes before Raft shows the membership that the next change starts from.
            let shown =
                |metrics: &Metrics| *metrics.membership_config.log_id() >= Some(done.log_id);
            let _ = raft
                .wait(Some(deadline.saturating_duration_since(Instant::now())))
                .metrics(shown, "the membership is shown")
                .await;
            Ok::<_, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>(())
        });
        match timeout_at(deadline, task).await {
            Err(_) => Err(Error::Timeout),
            Ok(Err(_)) => Err(Error::Stopped),
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(error))) => Err(change_error(error)),
        }
    }

    /// Those of `voters` that answer now. Fails where they are no majority: what such voters decide
    /// together would wait for one that is gone.
    async fn check_quorum(&self, voters: &BTreeSet<u64>) -> Result<BTreeSet<u64>> {
        let answering = self.answering(voters).await;
        if answering.len() < voters.len() / 2 + 1 {
            return Err(Error::NotEnoughStartedMembers);
        }
        Ok(answering)
    }

    /// Those of `ids` that answer when asked now, this member included. That they were heard of
    /// lately is not enough: they may have died since.
    async fn answering(&self, ids: &BTreeSet<u64>) -> BTreeSet<u64> {
        let membership = self.membership();
        let asked = ids.iter().map(|id| async {
            if *id != self.id() {
                let node = membership.get_node(id)?;
                let mut client = self.consensus().peers.client(*id, node);
                let answer =
                    timeout(PROBE_TIMEOUT, client.describe(DescribeRequest::default())).await;
                let there = answer.ok()?.ok()?.into_inner();
                // The address may have passed to another member, even of another cluster.
                if (there.cluster_id, there.member_id) != (self.cluster_id(), *id) {
                    return None;
                }
            }
            Some(*id)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Whether this leader heard of a member of the cluster lately.
    pub(super) fn is_around(&self, id: u64) -> bool {
        let heard = self.consensus().view(|metrics| heard_of(metrics, id));
        heard && self.membership().get_node(&id).is_some()
    }

    /// Entries that a member lacks, as far as the leader knows.
    fn lag_of(&self, id: u64) -> Option<u64> {
        self.consensus().view(|metrics| {
            let matched = (*metrics.replication.as_ref()?.get(&id)?)?;
            let last = metrics.last_log_index?;
            Some(last.saturating_sub(matched.index))
        })
    }

    fn caught_up(&self, id: u64) -> bool {
        let last = self.consensus().view(|metrics| metrics.last_log_index);
        match (self.lag_of(id), last) {
            (Some(lag), Some(last)) => {
                (last - lag.min(last)) * 100 >= last * PROMOTE_AT_PERCENT && lag <= TRANSFER_LAG_MAX
            }
            _ => false,
        }
    }

    /// The names of the other voters that were not heard of for so long, as the leader sees it; nobody
    /// else knows, and none are named then. One that has just begun to lead may not have heard of anybody.
    pub fn silent(&self, patience: Duration) -> Vec<String> {
        self.consensus().view(|metrics| {
            let Some(heartbeat) = &metrics.heartbeat else {
                return Vec::new();
            };
            let is_silent = |id: &u64| {
                let last = heartbeat.get(id).and_then(|at| at.as_ref());
                *id != self.id() && last.is_none_or(|at| at.elapsed() >= patience)
            };
            let membership = metrics.membership_config.membership();
            let voters = membership.voter_ids().filter(is_silent);
            let names = voters.filter_map(|id| Some(membership.get_node(&id)?.name.clone()));
            names.filter(|name| !name.is_empty()).collect()
        })
    }

    /// The other voters that were heard of lately, those that hold most of the log first.
    fn successors(&self) -> Vec<u64> {
        let membership = self.membership();
        let heard = |id: &u64| self.consensus().view(|metrics| heard_of(metrics, *id));
        let others = membership.voter_ids().filter(|id| *id != self.id());
        let mut by_lag: Vec<_> = others
            .filter(heard)
            .filter_map(|id| Some((self.lag_of(id)?, id)))
            .collect();
        by_lag.sort_unstable();
        by_lag.into_iter().map(|(_, id)| id).collect()
    }
}

fn heard_of(metrics: &Metrics, id: u64) -> bool {
    let Some(heartbeat) = &metrics.heartbeat else {
        return false;
    };
    heartbeat
        .get(&id)
        .and_then(|at| at.as_ref())
        .is_some_and(|at| at.elapsed() < HEARD)
}

fn change_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::Fatal(_) => Error::Stopped,
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Error::LeaderChanged,
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Error::TimeoutLeaderFail,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => Error::Unhealthy,
        RaftError::APIError(error) => Error::Internal(error.to_string()),
    }
}

fn check_urls(urls: &[String]) -> Result<()> {
    let well_formed = |url: &String| {
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        rest.and_then(|rest| rest.rsplit_once(':'))
            .is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
            })
    };
    if urls.is_empty() || !urls.iter().all(well_formed) {
        return Err(Error::MemberBadUrls);
    }
    Ok(())
}

fn check_urls_free(membership: &Membership, own: Option<u64>, urls: &[String]) -> Result<()> {
    let taken = membership
        .nodes()
        .filter(|(id, _)| Some(**id) != own)
        .any(|(_, node)| node.peer_urls.iter().any(|url| urls.contains(url)));
    if taken {
        return Err(Error::PeerUrlExists);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_checked() {
        for good in [
            "http://127.0.0.1:2380",
            "https://[::1]:2380",
            "https://a.b:1",
        ] {
            assert_eq!(check_urls(&[good.to_owned()]), Ok(()), "{good}");
        }
        for bad in [
            "127.0.0.1:2380",
            "http://a",
            "http://a:b",
            "http://a/x:1",
            "ftp://a:1",
        ] {
            assert_eq!(
                check_urls(&[bad.to_owned()]),
                Err(Error::MemberBadUrls),
                "{bad}"
            );
        }
        assert_eq!(check_urls(&[]), Err(Error::MemberBadUrls));
    }
}

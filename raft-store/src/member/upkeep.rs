//! What a member does by itself, beside serving requests.

use std::time::Duration;

use bytes::Bytes;
use seams::Tasks;
use tokio::time::{Instant, sleep, timeout};

use super::Member;
use super::config::AutoCompaction;
use crate::error::Error;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::{AlarmRequest, AlarmType, CompactionRequest};
use crate::pb::log::{LeaseCheckpoint, LeaseRevoke, command::Op, lease_checkpoint::Remaining};
use crate::pb::peer::HashQuery;
use crate::store::Store;

/// How often leases are looked at: expiry is late by at most this and the revocation itself.
const LEASE_TICK: Duration = Duration::from_millis(200);
/// Leases revoked by one log entry.
const REVOKE_MAX: usize = 256;
/// How often the remaining times of leases are recorded.
const LEASE_CHECKPOINT: Duration = Duration::from_secs(300);
/// How often the leader looks for learners to promote and changes to complete.
const MEMBERSHIP_TICK: Duration = Duration::from_millis(200);
/// How often the sizes of log and database are looked at.
const SIZE_TICK: Duration = Duration::from_secs(1);
/// Above this share of the quota a warning is logged.
const QUOTA_WARNING_PERCENT: i64 = 90;
/// Below this share of the quota the NOSPACE alarm is cleared.
const QUOTA_CLEAR_PERCENT: i64 = 85;
/// Between two looks for garbage when there is none, and between two steps when there is: the
/// pause keeps collection from taking the disk from writes.
const GARBAGE_IDLE: Duration = Duration::from_millis(500);
const GARBAGE_PAUSE: Duration = Duration::from_millis(2);
/// Versions that one step of collection removes.
const GARBAGE_STEP: usize = 1024;
/// Limit for one comparison of hashes with one peer.
const HASH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often automatic compaction looks at the revision.
const COMPACTION_TICKS: u32 = 10;

/// Starts the member's own work.
pub(super) fn start(member: &Member) {
    let tasks = member.tasks();
    every(tasks, "leases", LEASE_TICK, member, Member::tend_leases);
    every(tasks, "lease checkpoints", LEASE_CHECKPOINT, member, Member::checkpoint_leases);
    every(tasks, "membership", MEMBERSHIP_TICK, member, async |member: &Member| {
        if let Err(error) = member.tend_membership().await {
            tracing::debug!(%error, "membership work is put off");
        }
    });
    every(tasks, "publication", SIZE_TICK, member, async |member: &Member| {
        if let Err(error) = member.publish().await {
            tracing::debug!(%error, "this member is not published yet");
        }
    });
    every(tasks, "sizes", SIZE_TICK, member, Member::watch_sizes);
    let hashes = member.config().hash_check_interval;
    every(tasks, "hashes", hashes, member, Member::compare_hashes);
    tasks.spawn("auto compaction", member.clone().compact_by_itself());
    tasks.worker("garbage", member.clone().collect_garbage());
}

/// Runs `work` after each `period` until the member stops.
fn every<F>(tasks: &Tasks, name: &'static str, period: Duration, member: &Member, work: F)
where
    F: AsyncFn(&Member) + Send + 'static,
    for<'a> F::CallRefFuture<'a>: Send,
{
    let member = member.clone();
    let cancelled = tasks.clone();
    tasks.spawn(name, async move {
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = sleep(period) => {}
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = work(&member) => {}
            }
        }
    });
}

impl Member {
    /// Revokes the leases that have expired, on a leader that has proved to be one.
    async fn tend_leases(&self) {
        if !self.is_leader() {
            return;
        }
        let now = self.0.seams.clock.now();
        let leases: Vec<_> = self
            .0
            .mvcc
            .leases()
            .into_iter()
            .filter_map(|id| Some((id, self.0.mvcc.lease(id)?.remaining_ttl)))
            .collect();
        self.0.lessor.sync(self.term(), &leases, now);
        let expired = self.0.lessor.expired(now, REVOKE_MAX);
        if expired.is_empty() || self.consensus().read_index_here().await.is_err() {
            return;
        }
        // A lease renewed while the leadership was proved lives on.
        let ids = self.0.lessor.expired(now, REVOKE_MAX);
        tracing::debug!(count = ids.len(), "revoking expired leases");
        let revoke = Op::LeaseRevoke(LeaseRevoke { ids });
        if let Err(error) = self.propose(revoke, Bytes::new()).await {
            tracing::debug!(%error, "could not revoke expired leases");
        }
    }

    async fn checkpoint_leases(&self) {
        if !self.is_leader() {
            return;
        }
        let now = self.0.seams.clock.now();
        let leases: Vec<Remaining> = self
            .0
            .lessor
            .checkpoint(now)
            .into_iter()
            .map(|(id, remaining_ttl)| Remaining { id, remaining_ttl })
            .collect();
        if leases.is_empty() {
            return;
        }
        let checkpoint = Op::LeaseCheckpoint(LeaseCheckpoint { leases });
        if let Err(error) = self.propose(checkpoint, Bytes::new()).await {
            tracing::debug!(%error, "could not record the remaining times of leases");
        }
    }

    /// Keeps log and database within their bounds.
    async fn watch_sizes(&self) {
        self.checkpoint_when_due().await;
        if self.is_leader() {
            self.tend_quota().await;
        }
    }

    async fn checkpoint_when_due(&self) {
        let covered = {
            let metrics = self.consensus().metrics();
            let snapshot = metrics.borrow().snapshot;
            snapshot.map(|id| id.index)
        };
        let pending = self.0.wal.bytes_after(covered);
        if pending < self.0.config.limits.checkpoint_log_bytes {
            return;
        }
        tracing::debug!(pending, "making a checkpoint");
        if self.consensus().raft.trigger().snapshot().await.is_err() {
            tracing::debug!("raft has stopped: no checkpoint");
        }
    }

    async fn tend_quota(&self) {
        let sizes = self.0.mvcc.sizes();
        if sizes.quota_bytes <= 0 {
            return;
        }
        let percent = sizes.live_bytes.saturating_mul(100) / sizes.quota_bytes;
        let raised = self
            .0
            .mvcc
            .alarms()
            .iter()
            .any(|alarm| alarm.alarm == AlarmType::Nospace as i32);
        let action = if !raised && percent >= 100 {
            tracing::error!(
                live = sizes.live_bytes,
                quota = sizes.quota_bytes,
                "the quota is used up: only deletes and compactions are accepted until there is room"
            );
            AlarmAction::Activate
        } else if raised && percent < QUOTA_CLEAR_PERCENT {
            tracing::info!("there is room again: writes are accepted");
            AlarmAction::Deactivate
        } else {
            if percent >= QUOTA_WARNING_PERCENT {
                tracing::warn!(percent, "the quota is nearly used up");
            }
            return;
        };
        let raised_by = self.0.mvcc.alarms();
        let members: Vec<u64> = match action {
            AlarmAction::Activate => vec![self.id()],
            _ => raised_by
                .iter()
                .filter(|alarm| alarm.alarm == AlarmType::Nospace as i32)
                .map(|alarm| alarm.member_id)
                .collect(),
        };
        for member_id in members {
            let request = AlarmRequest {
                action: action as i32,
                member_id,
                alarm: AlarmType::Nospace as i32,
            };
            if let Err(error) = self.alarm(request).await {
                tracing::debug!(%error, "could not change the NOSPACE alarm");
            }
        }
    }

    /// Compares this member's hash with its peers' at the same revision.
    async fn compare_hashes(&self) {
        if self.check_serving().is_err() {
            return;
        }
        let own = match self.0.mvcc.hash(0) {
            Ok(own) => own,
            Err(_) => return,
        };
        let (mut agree, mut differ) = (1, 0);
        let membership = self.members_now();
        for peer in membership.iter().filter(|member| member.id != self.id()) {
            let mut client = self
                .consensus()
                .peers
                .client_of_urls(Some(peer.id), &peer.peer_ur_ls);
            let query = HashQuery {
                revision: own.revision,
            };
            // A peer that is behind or has compacted further has no answer: that says nothing.
            let Ok(Ok(reply)) = timeout(HASH_TIMEOUT, client.hash(query)).await else {
                continue;
            };
            if reply.into_inner().hash == own.hash {
                agree += 1;
            } else {
                differ += 1;
                tracing::error!(
                    revision = own.revision,
                    peer = %format_args!("{:x}", peer.id),
                    "the data of two members differs"
                );
            }
        }
        if differ > 0 && differ >= agree {
            self.quarantine(own.revision).await;
        }
    }

    /// Stops serving: the others agree that this member's data is wrong.
    async fn quarantine(&self, revision: i64) {
        tracing::error!(
            revision,
            "this member's data differs from the others': it stops serving and fetches theirs when \
             it is started again"
        );
        self.0
            .quarantined
            .store(true, std::sync::atomic::Ordering::Release);
        self.hand_over().await;
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: self.id(),
            alarm: AlarmType::Corrupt as i32,
        };
        if let Err(error) = self.propose_alarm(alarm).await {
            tracing::debug!(%error, "could not raise the CORRUPT alarm");
        }
    }

    async fn compact_by_itself(self) {
        let (period, retained) = match self.config().auto_compaction {
            AutoCompaction::Off => return,
            AutoCompaction::Periodic(period) => (period, None),
            AutoCompaction::Revisions(kept) => (Duration::from_secs(300), Some(kept)),
        };
        let mut seen: std::collections::VecDeque<(Instant, i64)> = Default::default();
        loop {
            tokio::select! {
                () = self.tasks().cancelled() => return,
                () = sleep(period / COMPACTION_TICKS) => {}
            }
            let (now, revision) = (self.0.seams.clock.now(), self.0.mvcc.revision());
            seen.push_back((now, revision));
            let target = match retained {
                Some(kept) => revision - kept,
                None => match seen.front() {
                    Some((at, revision)) if now - *at >= period => *revision,
                    _ => continue,
                },
            };
            seen.pop_front_if(|(at, _)| now - *at >= period);
            if !self.is_leader() || target <= self.0.mvcc.compact_revision() {
                continue;
            }
            let request = CompactionRequest {
                revision: target,
                physical: false,
            };
            match self.compact(request).await {
                Ok(_) => tracing::info!(revision = target, "compacted"),
                Err(Error::Compacted { .. }) => {}
                Err(error) => tracing::warn!(%error, "automatic compaction failed"),
            }
        }
    }

    /// Removes versions that compaction has given up, a little at a time.
    async fn collect_garbage(self) {
        loop {
            let pause = match self.0.mvcc.gc_step(GARBAGE_STEP) {
                Ok(true) => GARBAGE_PAUSE,
                Ok(false) => GARBAGE_IDLE,
                Err(error) => {
                    tracing::error!(%error, "garbage collection failed");
                    GARBAGE_IDLE
                }
            };
            tokio::select! {
                () = self.tasks().cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }
}

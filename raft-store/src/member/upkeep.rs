//! What a member does by itself, beside serving requests.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::config::AutoCompaction;
use super::{Member, belonging, space};
use crate::consensus::snapshot::{Incoming, meta_of};
use crate::error::Error;
use crate::pb::etcdserverpb::{CompactionRequest, Member as PbMember};
use crate::pb::log::{LeaseCheckpoint, LeaseRevoke, command::Op, lease_checkpoint::Remaining};
use crate::pb::peer::{HashQuery, SnapshotFetch};
use crate::store::Store;

/// How often leases are looked at: expiry is late by at most this and the revocation itself.
const LEASE_TICK: Duration = Duration::from_millis(500);
/// Leases revoked by one log entry.
const REVOKE_MAX: usize = 256;
/// How often the leader looks for learners to promote and changes to complete.
const MEMBERSHIP_TICK: Duration = Duration::from_millis(500);
/// Between two attempts to tell the cluster this member's name and URLs, and between two looks
/// whether it still knows them.
const PUBLISH_RETRY: Duration = Duration::from_millis(100);
const PUBLISH_TICK: Duration = Duration::from_secs(3);
/// How often the size of the log is looked at.
const SIZE_TICK: Duration = Duration::from_secs(1);
/// Between two looks for garbage when there is none, and between two steps when there is: the
/// pause keeps collection from taking the disk from writes.
const GARBAGE_IDLE: Duration = Duration::from_secs(1);
const GARBAGE_PAUSE: Duration = Duration::from_millis(2);
/// Versions that one step of collection removes.
const GARBAGE_STEP: usize = 1024;
/// Limit for one comparison of hashes with one peer.
const HASH_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that sends nothing of its data for this long is given up. Nothing is applied meanwhile.
const RESYNC_STALL: Duration = Duration::from_secs(30);
/// How often automatic compaction looks at the revision.
const COMPACTION_TICKS: u32 = 10;

/// Starts the member's own work.
pub(super) fn start(member: &Member) {
    every("leases", LEASE_TICK, member, |member| async move {
        member.tend_leases().await;
    });
    let checkpoints = member.config().lease_checkpoint_interval;
    every(
        "lease checkpoints",
        checkpoints,
        member,
        |member| async move {
            member.checkpoint_leases().await;
        },
    );
    every("membership", MEMBERSHIP_TICK, member, |member| async move {
        if let Err(error) = member.tend_membership().await {
            tracing::debug!(%error, "membership work is put off");
        }
    });
    member
        .tasks()
        .core("publication", member.clone().keep_published());
    every("checkpoints", SIZE_TICK, member, |member| async move {
        member.checkpoint_when_due().await;
    });
    let hashes = member.config().hash_check_interval;
    every("hashes", hashes, member, |member| async move {
        member.compare_hashes().await;
    });
    let tasks = member.tasks();
    tasks.core("auto compaction", member.clone().compact_by_itself());
    tasks.core("garbage", member.clone().collect_garbage());
    tasks.core("room", space::watch(member.clone()));
    tasks.core("belonging", belonging::watch(member.clone()));
}

/// Runs `work` after each `period` until the member stops.
fn every<F>(
    name: &'static str,
    period: Duration,
    member: &Member,
    work: impl Fn(Member) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let member = member.clone();
    member.tasks().clone().core(name, async move {
        loop {
            tokio::select! {
                () = member.tasks().cancelled() => return,
                () = sleep(period) => {}
            }
            tokio::select! {
                () = member.tasks().cancelled() => return,
                () = work(member.clone()) => {}
            }
        }
    });
}

/// Waits for a step of a transfer.
async fn within<T>(step: impl Future<Output = Result<T, tonic::Status>>) -> io::Result<T> {
    timeout(RESYNC_STALL, step)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        .map_err(io::Error::other)
}

impl Member {
    /// Tells the cluster who this member is: at once, since clients look for endpoints there.
    async fn keep_published(self) {
        loop {
            let published = tokio::select! {
                () = self.tasks().cancelled() => return,
                published = self.publish() => published,
            };
            let pause = match published {
                Ok(()) => PUBLISH_TICK,
                Err(error) => {
                    tracing::debug!(%error, "this member is not published yet");
                    PUBLISH_RETRY
                }
            };
            tokio::select! {
                () = self.tasks().cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Revokes the leases that have expired, on a leader that has proved to be one.
    async fn tend_leases(&self) {
        if !self.is_leader() {
            return;
        }
        let term = self.term();
        // A new leader knows the leases once it has applied an entry of its own term.
        if self.0.mvcc.applied().is_none_or(|at| at.term != term) {
            return;
        }
        let now = self.0.seams.clock.now();
        let leases: Vec<_> = self
            .0
            .mvcc
            .leases()
            .into_iter()
            .filter_map(|id| Some((id, self.0.mvcc.lease(id)?.left())))
            .collect();
        self.0.lessor.sync(term, &leases, now);
        let expired = self.0.lessor.expired(now, REVOKE_MAX);
        if expired.is_empty() || self.consensus().read_index_here().await.is_err() {
            return;
        }
        // A lease renewed while the leadership was proved lives on.
        let ids = self.0.lessor.revoke_expired(term, now, REVOKE_MAX);
        if ids.is_empty() {
            return;
        }
        let count = ids.len() as u64;
        tracing::debug!(count, "revoking expired leases");
        let revoke = Op::LeaseRevoke(LeaseRevoke { ids });
        // Never through another leader: leases may have been renewed there.
        match self.propose_as_leader(revoke).await {
            Ok(_) => {
                self.0.metrics.leases_expired.inc_by(count);
            }
            Err(error) => tracing::debug!(%error, "could not revoke expired leases"),
        }
    }

    async fn checkpoint_leases(&self) {
        if !self.is_leader() {
            return;
        }
        let _nothing_is_renewed = self.0.lease_gate.write().await;
        let (term, now) = (self.term(), self.0.seams.clock.now());
        let leases: Vec<Remaining> = self
            .0
            .lessor
            .checkpoint(term, now, self.0.config.lease_checkpoint_interval)
            .into_iter()
            .map(|(id, remaining_ttl)| Remaining { id, remaining_ttl })
            .collect();
        if leases.is_empty() {
            return;
        }
        let checkpoint = Op::LeaseCheckpoint(LeaseCheckpoint { leases });
        // Never through another leader, who may know of later renewals.
        match self.propose_as_leader(checkpoint).await {
            Ok(_) => self.0.lessor.recorded(term),
            Err(error) => {
                tracing::debug!(%error, "could not record the remaining times of leases");
            }
        }
    }

    /// Keeps the log within its bounds.
    async fn checkpoint_when_due(&self) {
        let pending = self.0.log_bytes.load(Ordering::Relaxed);
        if pending < self.0.config.limits.checkpoint_log_bytes {
            return;
        }
        self.0.log_bytes.store(0, Ordering::Relaxed);
        tracing::debug!(pending, "making a checkpoint");
        if self.consensus().raft.trigger().snapshot().await.is_err() {
            tracing::debug!("raft has stopped: no checkpoint");
        }
    }

    /// Compares this member's hash with its peers' at the same revision.
    async fn compare_hashes(&self) {
        let own = match self.0.mvcc.hash(0) {
            Ok(own) => own,
            Err(_) => return,
        };
        let mut others: BTreeMap<u64, usize> = BTreeMap::new();
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
            let hash = reply.into_inner().hash;
            if hash != own.hash {
                *others.entry(hash).or_default() += 1;
                tracing::error!(
                    revision = own.revision,
                    peer = %format_args!("{:x}", peer.id),
                    "the data of two members differs"
                );
            }
        }
        // Only a majority that agrees among itself can tell who is wrong.
        let majority = membership.len() / 2 + 1;
        if others.values().any(|count| *count >= majority) {
            self.quarantine(own.revision).await;
        }
    }

    /// Stops serving, because the others agree that this member's data is wrong, and fetches
    /// theirs. The log and the vote are kept: they were not derived from the data.
    async fn quarantine(&self, revision: i64) {
        tracing::error!(
            revision,
            "this member's data differs from the others': it serves nothing until it has theirs"
        );
        self.0.quarantined.store(true, Ordering::Release);
        self.0.hub.suspend();
        self.hand_over().await;
        let peers = self.members_now();
        for peer in peers.iter().filter(|member| member.id != self.id()) {
            match self.resync_from(peer).await {
                Ok(()) => {
                    tracing::info!(peer = %format_args!("{:x}", peer.id), "fetched the data anew");
                    self.0.quarantined.store(false, Ordering::Release);
                    self.0.hub.resume();
                    return;
                }
                Err(error) => {
                    tracing::warn!(peer = %format_args!("{:x}", peer.id), %error, "could not fetch the data");
                }
            }
        }
    }

    async fn resync_from(&self, peer: &PbMember) -> io::Result<()> {
        let mut client = self
            .consensus()
            .peers
            .client_of_urls(Some(peer.id), &peer.peer_ur_ls);
        let disk = self.0.seams.disk.clone();
        let path = self.config().data_dir.join("snapshots").join("resync");
        let fetch = |at_least| async move {
            let fetch = client.fetch_snapshot(SnapshotFetch { at_least });
            let mut chunks = within(fetch).await?.into_inner();
            let first = within(chunks.message()).await?;
            let offer = first.and_then(|chunk| chunk.offer);
            let offer = offer.ok_or(io::ErrorKind::UnexpectedEof)?;
            let meta = meta_of(&offer)?;
            let incoming = Incoming::open(disk, path, offer)?;
            while let Some(chunk) = within(chunks.message()).await? {
                incoming.write(chunk.file, chunk.offset, &chunk.data)?;
            }
            Ok((meta, incoming.finish()?))
        };
        self.consensus().state_machine.resync(fetch).await
    }

    async fn compact_by_itself(self) {
        let (period, retained) = match self.config().auto_compaction {
            AutoCompaction::Off => return,
            AutoCompaction::Periodic(period) => (period, None),
            AutoCompaction::Revisions(kept) => (Duration::from_secs(300), Some(kept)),
        };
        let mut seen: VecDeque<(Instant, i64)> = VecDeque::new();
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
            let mvcc = self.0.mvcc.clone();
            let step = self.tasks().blocking(move || mvcc.gc_step(GARBAGE_STEP));
            let pause = match step.await {
                Ok(true) => GARBAGE_PAUSE,
                Ok(false) => GARBAGE_IDLE,
                // What the engine holds is unknown after a failed write.
                Err(error) => {
                    let dir = self.config().data_dir.display();
                    return self.tasks().fail(format!(
                        "the database under {dir} failed: {error}. Nothing that was acknowledged \
                         is lost. Look for a full or broken disk (`df -h`, `dmesg`) and start the \
                         member again"
                    ));
                }
            };
            tokio::select! {
                () = self.tasks().cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }
}

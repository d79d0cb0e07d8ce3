//! One member of a cluster: disk, consensus, applied state and services, composed.
//!
//! - [`config`]: what it is started with; [`identity`]: who it is; [`format`]: both as backups
//!   see them.
//! - [`start`]: opening the directory, listening; [`joining`] and [`founding`] a cluster.
//! - [`store`]: the in-process [`crate::Store`].
//! - [`lessor`]: the leader's clock over leases; [`membership`]: changes of the membership.
//! - [`upkeep`]: what a member does by itself: expiry, compaction, garbage, checkpoints, hashes;
//!   [`space`]: room on the disk and within the quota; [`probe`]: the speed of the disk.
//! - [`fatal`]: why a member stops by itself; [`belonging`]: whether it is still a member;
//!   [`measured`]: what it takes and counts.

mod belonging;
pub mod config;
mod fatal;
pub mod format;
mod founding;
pub mod identity;
mod joining;
pub mod lessor;
mod measured;
pub mod membership;
mod peering;
mod probe;
pub mod space;
pub mod start;
mod store;
mod upkeep;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seams::{Seams, Tasks};
use thiserror::Error;
use tokio::sync::{Mutex, RwLock, Semaphore, watch};

pub use config::Config;
pub use fatal::FailureKind;
pub use identity::Identity;

use crate::consensus::raft::Consensus;
use crate::consensus::types::{position, vote_to_wal};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::mvcc::Mvcc;
use crate::pb::etcdserverpb::{AlarmRequest, AlarmResponse, HashKvResponse, ResponseHeader};
use crate::position::LogPosition;
use crate::wal::Wal;
use crate::watch::WatchHub;
use lessor::Lessor;

/// Linearizable reads that take longer are counted as slow.
const SLOW_READ: std::time::Duration = std::time::Duration::from_secs(1);

/// A running member. Clones share it.
#[derive(Clone)]
pub struct Member(Arc<Inner>);

struct Inner {
    identity: Identity,
    config: Config,
    seams: Seams,
    tasks: Tasks,
    /// The tasks that serve clients: they end before the others.
    serving: Tasks,
    /// The owner of the log's tasks. Raft needs the log until it has ended itself.
    log_tasks: Tasks,
    consensus: Consensus,
    mvcc: Mvcc,
    wal: Wal,
    /// Bytes of a segment of the log.
    segment_bytes: u64,
    /// Bytes written to the log since the last checkpoint.
    log_bytes: Arc<AtomicU64>,
    hub: WatchHub,
    lessor: Lessor,
    metrics: Arc<Metrics>,
    /// Set once the cluster knows the peer URLs that this member was started with.
    peer_urls_told: AtomicBool,
    /// One change of the membership at a time.
    membership_gate: Mutex<()>,
    /// Held for writing while the remaining times of leases are recorded, for reading while a
    /// lease is renewed: what is recorded must not be older than a renewal.
    lease_gate: RwLock<()>,
    /// Set once the state covers everything that this member served before it was last stopped.
    recovered: watch::Receiver<bool>,
    leader: watch::Receiver<Option<u64>>,
    /// Set when this member's data was found to differ from the others'.
    quarantined: AtomicBool,
    /// Why the member stopped by itself, where that is known to be more than a passing trouble.
    failure_kind: std::sync::OnceLock<FailureKind>,
    /// Set while the disk has so little room that writes are refused.
    disk_short: AtomicBool,
    /// What bounds the memory that long ranges take together.
    long_ranges: Semaphore,
    peer_addresses: Vec<SocketAddr>,
    client_addresses: std::sync::OnceLock<Vec<SocketAddr>>,
    /// Held for as long as the member lives.
    _lock: Box<dyn Send + Sync>,
}

/// Why a member did not start. The message says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// A file or directory could not be used.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path or address.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The write-ahead log cannot be used.
    #[error(transparent)]
    Wal(#[from] crate::wal::WalError),
    /// The database cannot be used.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] crate::server::tls::TlsError),
    /// The cluster refused the member or could not be reached.
    #[error("{0}")]
    Cluster(String),
    /// Another process uses the data directory.
    #[error("{0}")]
    InUse(String),
    /// The data directory cannot be used as it is.
    #[error("{0}")]
    Directory(String),
    /// The member was removed from its cluster.
    #[error("{0}")]
    Removed(String),
}

impl StartError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.display().to_string(),
            source,
        }
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> FailureKind {
        use crate::engine::EngineError;
        use crate::wal::WalError;
        match self {
            Self::Config(_) | Self::Tls(_) => FailureKind::Settings,
            Self::Io { .. } | Self::Cluster(_) | Self::InUse(_) => FailureKind::Passing,
            Self::Wal(WalError::Corrupt { .. } | WalError::Newer { .. }) => FailureKind::Directory,
            Self::Wal(_) => FailureKind::Passing,
            Self::Engine(EngineError::Corrupt { .. }) | Self::Directory(_) => {
                FailureKind::Directory
            }
            Self::Engine(EngineError::Rocks { message, .. })
                if message.starts_with("Corruption") =>
            {
                FailureKind::Directory
            }
            Self::Engine(_) => FailureKind::Passing,
            Self::Removed(_) => FailureKind::Removed,
        }
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Cluster(error.to_string())
    }
}

/// Where a member stands in consensus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The highest term it knows.
    pub term: u64,
    /// Whom it voted for, or follows, in that term.
    pub voted_for: u64,
    /// Whether a quorum made it the leader of that term.
    pub leads: bool,
    /// The last entry of its log, durable or not.
    pub last_log: Option<u64>,
    /// What it knows to be committed of its own log.
    pub committed: Option<LogPosition>,
    /// What it has applied.
    pub applied: Option<LogPosition>,
    /// Whether it is between two memberships: as long as that lasts, majorities of both decide.
    pub is_joint: bool,
    /// Why Raft has stopped, if it has.
    pub failure: Option<String>,
}

/// One line of a health report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What was checked.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// Why not.
    pub message: String,
}

impl Member {
    /// This member's ID.
    pub fn id(&self) -> u64 {
        self.0.identity.member_id
    }

    /// The cluster's ID.
    pub fn cluster_id(&self) -> u64 {
        self.0.identity.cluster_id
    }

    /// This member's name.
    pub fn name(&self) -> &str {
        &self.0.config.name
    }

    /// What the member was started with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The outside world as the member sees it.
    pub fn seams(&self) -> &Seams {
        &self.0.seams
    }

    /// The owner of the member's tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// The applied state.
    pub fn mvcc(&self) -> &Mvcc {
        &self.0.mvcc
    }

    /// The watch side.
    pub fn watch_hub(&self) -> &WatchHub {
        &self.0.hub
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The consensus part.
    pub(crate) fn consensus(&self) -> &Consensus {
        &self.0.consensus
    }

    /// Where the member listens for peers.
    pub fn peer_addresses(&self) -> &[SocketAddr] {
        &self.0.peer_addresses
    }

    /// Where the member listens for clients.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        self.0.client_addresses.get().map_or(&[], Vec::as_slice)
    }

    /// The leader, as far as this member knows.
    pub fn leader(&self) -> Option<u64> {
        *self.0.leader.borrow()
    }

    /// The leader, followed.
    pub fn leader_watch(&self) -> watch::Receiver<Option<u64>> {
        self.0.leader.clone()
    }

    /// Whether this member believes itself to be the leader.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.id())
    }

    /// Whether this member has no vote.
    pub fn is_learner(&self) -> bool {
        let id = self.id();
        self.consensus().view(|metrics| {
            let membership = metrics.membership_config.membership();
            !membership.voter_ids().any(|voter| voter == id)
        })
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.consensus().term()
    }

    /// What consensus says of itself, all of one instant.
    pub fn standing(&self) -> Standing {
        self.consensus().view(|metrics| Standing {
            term: metrics.current_term,
            voted_for: vote_to_wal(&metrics.vote).node,
            leads: metrics.state.is_leader(),
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(position),
            applied: metrics.last_applied.as_ref().map(position),
            is_joint: metrics
                .membership_config
                .membership()
                .get_joint_config()
                .len()
                > 1,
            failure: metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string),
        })
    }

    /// The index up to which the log is known to be committed.
    pub fn committed_index(&self) -> u64 {
        let committed = self.consensus().view(|metrics| metrics.local_committed);
        committed.map_or(0, |id| id.index)
    }

    /// The index up to which the log is applied.
    pub fn applied_index(&self) -> u64 {
        self.0.mvcc.applied().map_or(0, |at| at.index)
    }

    /// The index of the oldest entry that the log still holds; the next index when it is empty.
    pub fn log_start(&self) -> u64 {
        let first = self.0.wal.first_index();
        first.unwrap_or_else(|| self.0.wal.last().map_or(0, |last| last.index + 1))
    }

    /// The header of an answer given now.
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id(),
            member_id: self.id(),
            revision: self.0.mvcc.revision(),
            raft_term: self.term(),
        }
    }

    /// Completes the header of an answer that knows its revision.
    pub fn fill(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(ResponseHeader {
            revision: if revision == 0 {
                self.0.mvcc.revision()
            } else {
                revision
            },
            ..self.header()
        });
    }

    /// Waits until the state covers every write acknowledged anywhere before the call.
    pub async fn read_barrier(&self) -> Result<()> {
        self.check_serving()?;
        let metrics = &self.0.metrics;
        let begun = self.0.seams.clock.now();
        let read = self.consensus().read_barrier().await;
        if read.is_err() {
            metrics.read_indexes_failed.inc();
        }
        if self.0.seams.clock.now() - begun > SLOW_READ {
            metrics.slow_read_indexes.inc();
        }
        read
    }

    /// Waits until the state covers what this member served before it was last stopped.
    pub async fn recovered(&self) -> Result<()> {
        self.check_serving()?;
        let mut recovered = self.0.recovered.clone();
        if *recovered.borrow() {
            return Ok(());
        }
        let deadline = self.consensus().deadline();
        match tokio::time::timeout_at(deadline, recovered.wait_for(|done| *done)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::NoLeader),
        }
    }

    /// Waits, for as long as it takes, until the member serves what it had: its state covers
    /// everything that it served before it was last stopped. Yields whether that came to be.
    pub async fn wait_recovered(&self) -> bool {
        let mut recovered = self.0.recovered.clone();
        recovered.wait_for(|done| *done).await.is_ok()
    }

    /// Why the member stopped by itself, with what to do about it. It has ended its tasks then:
    /// whoever runs it waits for their end and exits.
    pub fn failure(&self) -> Option<&str> {
        self.0.tasks.failure()
    }

    /// Whether this member's data was found to differ from the others': it serves nothing until
    /// it has theirs.
    pub fn is_quarantined(&self) -> bool {
        self.0.quarantined.load(Ordering::Acquire)
    }

    /// A quarantined member serves nothing: its data is wrong.
    fn check_serving(&self) -> Result<()> {
        if self.is_quarantined() {
            return Err(Error::Corrupt);
        }
        Ok(())
    }

    /// Raises, clears or lists alarms.
    pub async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse> {
        let mut response = self.propose_alarm(request).await?;
        self.fill(&mut response.header);
        Ok(response)
    }

    /// The hash of the state at a revision, 0 for the current one.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKvResponse> {
        let at = self.0.mvcc.hash(revision)?;
        Ok(HashKvResponse {
            header: Some(self.header()),
            // The low half: the message has 32 bits.
            hash: (at.hash & u64::from(u32::MAX)) as u32,
            compact_revision: at.compact_revision,
            hash_revision: at.revision,
        })
    }

    /// What is well and what is not, from this member's own view.
    pub fn health(&self) -> Vec<HealthCheck> {
        let check = |name, ok: bool, message: &str| HealthCheck {
            name,
            ok,
            message: if ok {
                String::new()
            } else {
                message.to_owned()
            },
        };
        let alarms = self.0.mvcc.alarms();
        let quarantined = self.check_serving().is_err();
        vec![
            check(
                "data_corruption",
                !quarantined && !alarms.iter().any(|alarm| alarm.alarm == 2),
                "alarm activated: CORRUPT",
            ),
            check(
                "space",
                !alarms.iter().any(|alarm| alarm.alarm == 1),
                "alarm activated: NOSPACE",
            ),
            check(
                "serializable_read",
                *self.0.recovered.borrow(),
                "the member is still catching up after its start",
            ),
            check("leader", self.leader().is_some(), "etcdserver: no leader"),
        ]
    }

    /// Hands leadership over, answers what is under way, and stops. Nothing is lost without it.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        // Clients first, while what they wait for can still be finished; the log last.
        self.0.serving.shutdown().await;
        if let Err(error) = self.consensus().raft.shutdown().await {
            tracing::warn!(%error, "raft did not end cleanly");
        }
        self.0.tasks.shutdown().await;
        self.0.log_tasks.shutdown().await;
        let mvcc = self.0.mvcc.clone();
        // What is flushed need not be replayed at the next start.
        if let Err(error) = mvcc.flush() {
            tracing::warn!(%error, "could not flush the database");
        }
        tracing::info!(name = self.name(), "stopped");
    }
}

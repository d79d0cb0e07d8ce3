//! The handle to Raft that the member uses.
//!
//! Whatever needs the leader is sent there from here, whichever member it was asked of:
//! proposals travel in batches and are never sent twice once they may have arrived; read
//! barriers share one round of heartbeats.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::{Config as RaftConfig, Raft, RaftMetrics, ReadPolicy, SnapshotPolicy};
use seams::Tasks;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::log_store::LogStore;
use super::network::Network;
use super::peers::{Client, Peers};
use super::state_machine::StateMachine;
use super::types::{Command, Node, TypeConfig};
use super::{forward, pace, read_index};
use crate::error::{Error, Result};
use crate::metrics::Metrics as Figures;
use crate::mvcc::{Mvcc, Outcome};

/// How often Raft acts, chosen for one data centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// How often the leader tells its followers that it is alive.
    pub heartbeat: Duration,
    /// The shortest wait before another election when one came to nothing; the longest is `election_max`.
    pub election_min: Duration,
    /// The leader's lease: for how long it may be silent before others stand for election. It must be the
    /// same on all members.
    pub election_max: Duration,
    /// A request that did not finish by then is given up; the outcome of a write is unknown.
    pub request_timeout: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            request_timeout: Duration::from_secs(7),
        }
    }
}

/// First pause before a request without a leader is tried again.
const RETRY: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(50);

pub(crate) type Handle = Raft<TypeConfig, StateMachine>;
pub(crate) type Metrics = RaftMetrics<TypeConfig>;

/// The consensus part of a member.
#[derive(Clone)]
pub struct Consensus {
    pub(crate) raft: Handle,
    pub(crate) id: u64,
    pub(crate) mvcc: Mvcc,
    pub(crate) state_machine: StateMachine,
    pub(crate) peers: Peers,
    pub(crate) timings: Timings,
    proposals: mpsc::Sender<forward::Proposal>,
    barriers: mpsc::Sender<oneshot::Sender<Result<u64>>>,
    /// When a leader was last heard.
    heard: Arc<Mutex<Instant>>,
    #[cfg(feature = "mutants")]
    pub(crate) mutants: crate::mutants::Mutants,
    /// The connection to the leader, with whom it leads to.
    link: Arc<Mutex<Option<(u64, Node, Client)>>>,
}

/// What a proposal came to: the index of its entry and the state machine's answer.
#[derive(Debug)]
pub struct Applied {
    /// The index of the log entry.
    pub index: u64,
    /// The answer.
    pub outcome: Outcome,
}

/// Everything that a [`Consensus`] is made of.
pub struct Parts {
    /// This member's ID.
    pub id: u64,
    /// The cluster's ID, as the name of its Raft group.
    pub cluster_id: u64,
    /// The log.
    pub log: LogStore,
    /// The applied state, as Raft applies to it.
    pub state_machine: StateMachine,
    /// The applied state, as readers see it.
    pub mvcc: Mvcc,
    /// The other members.
    pub peers: Peers,
    /// How often Raft acts.
    pub timings: Timings,
    /// What is counted.
    pub metrics: Arc<Figures>,
    /// Entries kept in the log behind a snapshot.
    pub log_entries_kept: u64,
    /// The owner of all tasks.
    pub tasks: Tasks,
    /// Bugs to run with.
    #[cfg(feature = "mutants")]
    pub mutants: crate::mutants::Mutants,
}

impl Consensus {
    /// Starts Raft.
    pub async fn start(parts: Parts) -> Result<Self> {
        let config = raft_config(&parts)?;
        let state_machine = parts.state_machine.clone();
        let network = Network::new(parts.peers.clone(), parts.id, parts.metrics);
        let raft = Raft::new(
            parts.id,
            Arc::new(config),
            network,
            parts.log,
            parts.state_machine,
        )
        .await
        .map_err(|error| Error::Internal(error.to_string()))?;
        let (proposals, queue) = mpsc::channel(forward::QUEUE_MAX);
        let (barriers, waiting) = mpsc::channel(read_index::QUEUE_MAX);
        let this = Self {
            raft,
            id: parts.id,
            mvcc: parts.mvcc,
            state_machine,
            peers: parts.peers,
            timings: parts.timings,
            proposals,
            barriers,
            heard: Arc::new(Mutex::new(Instant::now())),
            #[cfg(feature = "mutants")]
            mutants: parts.mutants,
            link: Arc::default(),
        };
        parts.tasks.core(
            "forward proposals",
            forward::run(this.clone(), queue, parts.tasks.clone()),
        );
        parts
            .tasks
            .core("pace", pace::run(this.clone(), parts.tasks.clone()));
        parts.tasks.core(
            "read index",
            read_index::run(this.clone(), waiting, parts.tasks.clone()),
        );
        Ok(this)
    }

    /// Looks at Raft's state as it is now.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&Metrics) -> T) -> T {
        look(&self.raft.metrics().borrow_watched())
    }

    /// The leader, as far as this member knows.
    pub fn leader(&self) -> Option<u64> {
        self.view(|metrics| metrics.current_leader)
    }

    /// Whether this member believes itself to be the leader.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.id)
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.view(|metrics| metrics.current_term)
    }

    /// Notes that a leader was heard.
    pub(crate) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long no leader was heard; counted from the start at first.
    pub(crate) fn silence(&self) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.elapsed()
    }

    /// The deadline of a request that begins now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timings.request_timeout
    }

    /// A client of the leader, when that is another member. The connection is kept.
    pub(crate) fn leader_client(&self) -> Option<Client> {
        let (leader, node) = self.view(|metrics| {
            let leader = metrics.current_leader.filter(|leader| *leader != self.id)?;
            let node = metrics.membership_config.membership().get_node(&leader)?;
            Some((leader, node.clone()))
        })?;
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        match link.as_ref() {
            Some((to, at, client)) if *to == leader && at.peer_urls == node.peer_urls => {
                Some(client.clone())
            }
            _ => {
                let client = self.peers.client(leader, &node);
                *link = Some((leader, node, client.clone()));
                Some(client)
            }
        }
    }

    /// Proposes an encoded command, wherever the leader is, and waits until it is applied.
    ///
    /// After one of the `Timeout…` errors the command may or may not have been applied.
    pub async fn propose(&self, command: Bytes) -> Result<Applied> {
        let deadline = self.deadline();
        let mut pause = Pause::default();
        loop {
            let attempt = if self.is_leader() {
                self.propose_here(command.clone(), deadline).await
            } else if self.leader().is_some() {
                self.propose_there(command.clone(), deadline).await
            } else {
                Err(Attempt::Retry(Error::NoLeader))
            };
            match attempt {
                Ok(applied) => return Ok(applied),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Retry(error)) => pause.or_give_up(deadline, error).await?,
            }
        }
    }

    /// Proposes to this member's own Raft.
    pub(crate) async fn propose_here(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Applied, Attempt> {
        #[cfg(feature = "mutants")]
        if self.mutants.ack_before_quorum {
            return self.propose_unsafely(command, deadline).await;
        }
        let write = self.raft.client_write(Command(command));
        let written = timeout_at(deadline, write)
            .await
            .map_err(|_| Attempt::Final(Error::Timeout))?;
        match written {
            Ok(response) => Ok(Applied {
                index: response.log_id.index,
                outcome: response.data,
            }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(Attempt::Retry(not_leader(&forward)))
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                Err(Attempt::Final(Error::TimeoutLeaderFail))
            }
            Err(RaftError::APIError(error)) => {
                Err(Attempt::Final(Error::Internal(error.to_string())))
            }
            Err(RaftError::Fatal(_)) => Err(Attempt::Final(Error::Stopped)),
        }
    }

    /// The bug: a put is answered before anybody but this member holds it.
    #[cfg(feature = "mutants")]
    async fn propose_unsafely(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Applied, Attempt> {
        use crate::mvcc::Response;
        use crate::pb::etcdserverpb::{PutResponse, ResponseHeader};
        use prost::Message;
        let is_put = crate::pb::log::Command::decode(command.clone())
            .is_ok_and(|command| matches!(command.op, Some(crate::pb::log::command::Op::Put(_))));
        let raft = self.raft.clone();
        let mut write = Box::pin(async move { raft.client_write(Command(command)).await });
        // Until the entry is in the log here.
        let patience = if is_put {
            Instant::now() + self.timings.heartbeat * 2
        } else {
            deadline
        };
        match timeout_at(patience, &mut write).await {
            Ok(Ok(response)) => Ok(Applied {
                index: response.log_id.index,
                outcome: response.data,
            }),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(Attempt::Retry(not_leader(&forward)))
            }
            Err(_) if is_put => Ok(Applied {
                index: 0,
                outcome: Ok(Response::Put(PutResponse {
                    header: Some(ResponseHeader {
                        revision: self.mvcc.revision() + 1,
                        ..Default::default()
                    }),
                    prev_kv: None,
                })),
            }),
            _ => Err(Attempt::Final(Error::Timeout)),
        }
    }

    /// Sends a command to the leader with others that are under way.
    async fn propose_there(&self, command: Bytes, deadline: Instant) -> Result<Applied, Attempt> {
        let (reply, answer) = oneshot::channel();
        let proposal = forward::Proposal {
            command,
            deadline,
            reply,
        };
        self.proposals
            .try_send(proposal)
            .map_err(|_| Attempt::Final(Error::TooManyRequests))?;
        let applied = timeout_at(deadline, answer)
            .await
            .map_err(|_| Attempt::Final(Error::Timeout))?
            .map_err(|_| Attempt::Final(Error::Stopped))??;
        // A client reads its own writes here, even serializably.
        self.wait_applied(applied.index, deadline)
            .await
            .map_err(Attempt::Final)?;
        Ok(applied)
    }

    /// Waits until this member's state covers every write that was acknowledged anywhere before
    /// the call.
    pub async fn read_barrier(&self) -> Result<()> {
        #[cfg(feature = "mutants")]
        if self.mutants.local_follower_reads && !self.is_leader() {
            return Ok(());
        }
        let deadline = self.deadline();
        let (reply, answer) = oneshot::channel();
        self.barriers
            .try_send(reply)
            .map_err(|_| Error::TooManyRequests)?;
        let index = timeout_at(deadline, answer)
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|_| Error::Stopped)??;
        self.wait_applied(index, deadline).await
    }

    /// One ReadIndex round on this member, which must be the leader.
    pub(crate) async fn read_index_here(&self) -> Result<u64, Attempt> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(Attempt::Retry(not_leader(&forward)))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Attempt::Retry(Error::Timeout))
            }
            Err(RaftError::Fatal(_)) => Err(Attempt::Final(Error::Stopped)),
        }
    }

    /// Waits until the entry at `index` is applied here.
    pub(crate) async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<()> {
        let mut applied = self.mvcc.applied_watch();
        let reached = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TimeoutWaitAppliedIndex),
        }
    }
}

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The request had no effect and may be tried again.
    Retry(Error),
    /// The request is over; a write may have happened.
    Final(Error),
}

/// Growing pauses between attempts.
#[derive(Default)]
pub(crate) struct Pause(Option<Duration>);

impl Pause {
    /// Sleeps, or fails with `error` when the deadline would pass.
    pub(crate) async fn or_give_up(&mut self, deadline: Instant, error: Error) -> Result<()> {
        let pause = self.0.map_or(RETRY, |pause| (pause * 2).min(RETRY_MAX));
        self.0 = Some(pause);
        if Instant::now() + pause >= deadline {
            return Err(error);
        }
        sleep(pause).await;
        Ok(())
    }
}

fn not_leader(forward: &ForwardToLeader<TypeConfig>) -> Error {
    match forward.reason {
        // The lease ran out under a slow quorum, or leadership is moving: hold on.
        ForwardReason::LeaseExpired | ForwardReason::LeadershipTransfer => Error::LeaderChanged,
        ForwardReason::NotLeader if forward.leader_id.is_none() => Error::NoLeader,
        ForwardReason::NotLeader => Error::LeaderChanged,
    }
}

fn raft_config(parts: &Parts) -> Result<RaftConfig> {
    let timings = &parts.timings;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = RaftConfig {
        cluster_name: format!("{:016x}", parts.cluster_id),
        heartbeat_interval: millis(timings.heartbeat),
        election_timeout_min: millis(timings.election_min),
        election_timeout_max: millis(timings.election_max),
        enable_pre_vote: Some(true),
        // Followers are sent entries while the leader's own disk is still writing them.
        broadcast_submitted_on_append: Some(true),
        // Snapshots follow the size of the log, not the number of entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: parts.log_entries_kept,
        purge_batch_size: parts.log_entries_kept.clamp(1, 1024),
        // Ours is a whole transfer with its own deadlines.
        install_snapshot_timeout: millis(Duration::from_secs(600)),
        max_payload_entries: 1024,
        replication_lag_threshold: parts.log_entries_kept.max(1),
        // The least that openraft allows: a lease and an election.
        quorum_loss_probe_interval: Some(millis(timings.election_max * 2)),
        backoff: "50ms".to_owned(),
        // A leader that comes back in its old term would take the term's first entry for proof
        // that it knows every commit: after all members were killed it served stale reads.
        enable_leader_restore: Some(false),
        ..Default::default()
    };
    config
        .validate()
        .map_err(|error| Error::InvalidArgument(error.to_string()))
}

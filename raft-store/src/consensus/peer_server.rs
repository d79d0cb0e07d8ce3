//! What a member answers to its peers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use seams::Disk;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::forward;
use super::peers::{CLUSTER_KEY, TARGET_KEY};
use super::raft::{Attempt, Consensus};
use super::snapshot::{Incoming, SnapshotDir, chunks, meta_of, offer};
use super::state_machine::StateMachine;
use super::types::{
    TypeConfig, entry_from_pb, log_id_from_pb, log_id_to_pb, members_of, vote_from_pb, vote_to_pb,
};
use crate::error::Error;
use crate::pb::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    Member as PbMember,
};
use crate::pb::peer::peer_server::Peer;
use crate::pb::peer::{self, append_reply, transfer_leader_reply};
use crate::server::status::status;

/// The newest log and disk format that this program reads.
pub const FORMAT: u32 = 1;

/// How long a member that is asked for a hash waits until it has applied that revision.
const HASH_PATIENCE: Duration = Duration::from_secs(2);

/// What the member answers beyond Raft.
#[tonic::async_trait]
pub trait Local: Send + Sync + 'static {
    /// Renews a lease, on the leader.
    async fn keep_alive(&self, id: i64) -> crate::Result<LeaseKeepAliveResponse>;
    /// Tells a lease's time to live, on the leader.
    async fn time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> crate::Result<LeaseTimeToLiveResponse>;
    /// Changes the membership, on the leader.
    async fn change_members(
        &self,
        change: peer::MemberChange,
    ) -> crate::Result<peer::MemberChangeReply>;
    /// The members as a quorum has agreed on them.
    async fn confirmed_members(&self) -> crate::Result<Vec<PbMember>>;
    /// This member's log lacks an entry that it had acknowledged: it must not go on.
    fn lost_log(&self, entry: u64);
}

/// The peer service of one member.
#[derive(Clone)]
pub struct PeerService {
    consensus: Consensus,
    cluster_id: u64,
    local: Arc<dyn Local>,
    disk: Arc<dyn Disk>,
    incoming: PathBuf,
    state_machine: StateMachine,
    /// Whether this member may take part: not before it is sure that it is no former member
    /// without its disk.
    admitted: Arc<AtomicBool>,
    /// One snapshot is received at a time.
    receiving: Arc<Mutex<()>>,
}

impl PeerService {
    /// `incoming` is the directory for partial snapshots.
    pub fn new(
        consensus: Consensus,
        cluster_id: u64,
        local: Arc<dyn Local>,
        disk: Arc<dyn Disk>,
        incoming: PathBuf,
        state_machine: StateMachine,
        admitted: Arc<AtomicBool>,
    ) -> Self {
        Self {
            consensus,
            cluster_id,
            local,
            disk,
            incoming,
            state_machine,
            admitted,
            receiving: Arc::default(),
        }
    }

    /// Refuses calls meant for another cluster or member: an address may have passed to another
    /// process, and Raft messages in the wrong hands lose data.
    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let named = |key| {
            let value = request.metadata().get(key)?.to_str().ok()?;
            u64::from_str_radix(value, 16).ok()
        };
        if !self.admitted.load(Ordering::Acquire) {
            return Err(status(&Error::NoLeader));
        }
        if named(CLUSTER_KEY) != Some(self.cluster_id) {
            return Err(status(&Error::ClusterIdMismatch));
        }
        if named(TARGET_KEY) != Some(self.consensus.id) {
            return Err(Status::failed_precondition(
                "trireme: this is another member",
            ));
        }
        Ok(())
    }

    async fn heartbeat(&self, message: peer::AppendRequest) -> Result<peer::AppendReply, Status> {
        let request = append_from_pb(message)?;
        let (prev, last) = (
            request.prev_log_id,
            request.entries.last().map(|entry| entry.log_id),
        );
        let answered = self.consensus.raft.append_entries(request).await;
        let result = answered
            .map_err(stopped)?
            .into_stream_result(prev, last.or(prev));
        match &result {
            Ok(_) => self.consensus.hear(),
            // A heartbeat names the last entry that this member has acknowledged to that leader,
            // which must have been on its disk.
            Err(StreamAppendError::Conflict(at)) => {
                self.local.lost_log(at.index);
                return Err(Status::data_loss(format!(
                    "entry {} of the log, which was acknowledged, is lost",
                    at.index
                )));
            }
            Err(StreamAppendError::HigherVote(_)) => {}
        }
        Ok(append_to_pb(result))
    }

    async fn vote_with<F>(
        &self,
        request: Request<peer::VoteRequest>,
        answer: impl FnOnce(VoteRequest<TypeConfig>) -> F,
    ) -> Result<Response<peer::VoteReply>, Status>
    where
        F: Future<
            Output = Result<VoteResponse<TypeConfig>, openraft::errors::RaftError<TypeConfig>>,
        >,
    {
        self.check(&request)?;
        let request = request.into_inner();
        let mut wanted = VoteRequest::new(
            vote_from_pb(request.vote),
            request.last.as_ref().map(log_id_from_pb),
        );
        wanted.leadership_transfer = request.leadership_transfer;
        let response = answer(wanted).await.map_err(stopped)?;
        Ok(Response::new(peer::VoteReply {
            vote: Some(vote_to_pb(&response.vote)),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(log_id_to_pb),
        }))
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    tracing::debug!(%error, "raft has stopped");
    status(&Error::Stopped)
}

fn io_status(error: std::io::Error) -> Status {
    // The peer tries again; what is wrong here is for this member's operator to know.
    tracing::warn!(%error, "cannot take or give a snapshot");
    Status::internal(error.to_string())
}

#[allow(clippy::result_large_err, reason = "tonic's error type")]
fn append_from_pb(
    request: peer::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let entries: std::io::Result<Vec<_>> = request.entries.into_iter().map(entry_from_pb).collect();
    Ok(AppendEntriesRequest {
        vote: vote_from_pb(request.vote),
        prev_log_id: request.prev.as_ref().map(log_id_from_pb),
        entries: entries.map_err(|error| Status::invalid_argument(error.to_string()))?,
        leader_commit: request.committed.as_ref().map(log_id_from_pb),
    })
}

fn append_to_pb(result: StreamAppendResult<TypeConfig>) -> peer::AppendReply {
    use append_reply::Result as Reply;
    let result = match result {
        Ok(last) => Reply::Matching(peer::Matching {
            last: last.as_ref().map(log_id_to_pb),
        }),
        Err(StreamAppendError::Conflict(id)) => Reply::Conflict(log_id_to_pb(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Reply::HigherVote(vote_to_pb(&vote)),
    };
    peer::AppendReply {
        result: Some(result),
    }
}

type ReplyStream = std::pin::Pin<Box<dyn Stream<Item = Result<peer::AppendReply, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = ReplyStream;
    type HeartbeatsStream = ReplyStream;
    type FetchSnapshotStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<peer::SnapshotChunk, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<peer::AppendRequest>>,
    ) -> Result<Response<ReplyStream>, Status> {
        self.check(&request)?;
        // A broken stream or request ends the input; what arrived before is answered.
        let input = request
            .into_inner()
            .map(|message| message.and_then(append_from_pb).ok())
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready);
        let replies = self
            .consensus
            .raft
            .stream_append(input)
            .map(|result| result.map(append_to_pb).map_err(stopped));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn heartbeats(
        &self,
        request: Request<Streaming<peer::AppendRequest>>,
    ) -> Result<Response<ReplyStream>, Status> {
        self.check(&request)?;
        let this = self.clone();
        let replies = request.into_inner().then(move |message| {
            let this = this.clone();
            async move { this.heartbeat(message?).await }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn vote(
        &self,
        request: Request<peer::VoteRequest>,
    ) -> Result<Response<peer::VoteReply>, Status> {
        let raft = self.consensus.raft.clone();
        let answered = self
            .vote_with(request, |wanted| async move { raft.vote(wanted).await })
            .await?;
        let reply = answered.get_ref();
        if let Some(vote) = reply.vote.as_ref().filter(|_| reply.granted) {
            // Simulations watch this: a vote that was given is never given to another.
            tracing::trace!(
                target: "raft_store::votes",
                voter = self.consensus.id,
                term = vote.term,
                candidate = vote.node,
                "voted"
            );
        }
        Ok(answered)
    }

    async fn pre_vote(
        &self,
        request: Request<peer::VoteRequest>,
    ) -> Result<Response<peer::VoteReply>, Status> {
        let raft = self.consensus.raft.clone();
        self.vote_with(request, |wanted| async move { raft.pre_vote(wanted).await })
            .await
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Result<Response<peer::TransferLeaderReply>, Status> {
        use transfer_leader_reply::Refusal;
        self.check(&request)?;
        let request = request.into_inner();
        let transfer = TransferLeaderRequest::new(
            vote_from_pb(request.from_leader),
            request.to,
            request.last.as_ref().map(log_id_from_pb),
        );
        let answer = self
            .consensus
            .raft
            .handle_transfer_leader(transfer)
            .await
            .map_err(stopped)?;
        let refusal = answer.err().map(|error| match error {
            TransferLeaderError::VoteChanged { expected, actual } => {
                Refusal::VoteChanged(peer::VoteChanged {
                    expected: Some(vote_to_pb(&expected)),
                    actual: Some(vote_to_pb(&actual)),
                })
            }
            TransferLeaderError::LogNotFlushed { expected, actual } => {
                Refusal::NotFlushed(peer::NotFlushed {
                    expected: expected.as_ref().map(log_id_to_pb),
                    actual: actual.as_ref().map(log_id_to_pb),
                })
            }
        });
        Ok(Response::new(peer::TransferLeaderReply { refusal }))
    }

    async fn offer_snapshot(
        &self,
        request: Request<peer::SnapshotOffer>,
    ) -> Result<Response<peer::SnapshotProgress>, Status> {
        self.check(&request)?;
        let _one = self.receiving.lock().await;
        let incoming = Incoming::open(
            self.disk.clone(),
            self.incoming.clone(),
            request.into_inner(),
        )
        .map_err(io_status)?;
        let held = incoming.held().map_err(io_status)?;
        Ok(Response::new(peer::SnapshotProgress { held }))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotChunk>>,
    ) -> Result<Response<peer::SnapshotReply>, Status> {
        self.check(&request)?;
        let _one = self.receiving.lock().await;
        let mut chunks = request.into_inner();
        let first = chunks.message().await?;
        let offer = first
            .and_then(|chunk| chunk.offer)
            .ok_or_else(|| Status::invalid_argument("a snapshot begins with its offer"))?;
        let vote = vote_from_pb(offer.vote);
        let meta = meta_of(&offer).map_err(io_status)?;
        let incoming =
            Incoming::open(self.disk.clone(), self.incoming.clone(), offer).map_err(io_status)?;
        while let Some(chunk) = chunks.message().await? {
            incoming
                .write(chunk.file, chunk.offset, &chunk.data)
                .map_err(io_status)?;
        }
        let path = incoming.finish().map_err(io_status)?;
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotDir::new(path, self.disk.clone()),
        };
        let response = self
            .consensus
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(stopped)?;
        Ok(Response::new(peer::SnapshotReply {
            vote: Some(vote_to_pb(&response.vote)),
        }))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<peer::SnapshotFetch>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        self.check(&request)?;
        let at_least = request.into_inner().at_least;
        let deadline = self.consensus.deadline();
        self.consensus
            .wait_applied(at_least, deadline)
            .await
            .map_err(|error| status(&error))?;
        let snapshot = self.state_machine.checkpoint().map_err(io_status)?;
        let files = snapshot.snapshot.manifest().map_err(io_status)?;
        let vote = self.consensus.view(|metrics| metrics.vote);
        let offer = offer(&vote, &snapshot.meta, files);
        let chunks = chunks(snapshot.snapshot, offer, Vec::new()).map(Ok);
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn propose(
        &self,
        request: Request<peer::ProposeRequest>,
    ) -> Result<Response<peer::ProposeReply>, Status> {
        self.check(&request)?;
        let reply = forward::answer(&self.consensus, request.into_inner()).await;
        tracing::trace!(
            proposals = reply.results.len(),
            "proposed for another member"
        );
        Ok(Response::new(reply))
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexReply>, Status> {
        self.check(&request)?;
        match self.consensus.read_index_here().await {
            Ok(index) => {
                tracing::trace!(index, "read index for another member");
                Ok(Response::new(peer::ReadIndexReply { index }))
            }
            Err(Attempt::Retry(error) | Attempt::Final(error)) => Err(status(&error)),
        }
    }

    async fn lease_keep_alive(
        &self,
        request: Request<LeaseKeepAliveRequest>,
    ) -> Result<Response<LeaseKeepAliveResponse>, Status> {
        self.check(&request)?;
        let renewed = self.local.keep_alive(request.into_inner().id).await;
        renewed.map(Response::new).map_err(|error| status(&error))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.check(&request)?;
        let told = self.local.time_to_live(request.into_inner()).await;
        told.map(Response::new).map_err(|error| status(&error))
    }

    async fn change_members(
        &self,
        request: Request<peer::MemberChange>,
    ) -> Result<Response<peer::MemberChangeReply>, Status> {
        // Not checked against the target: a joining member does not know whom it asks.
        let changed = self.local.change_members(request.into_inner()).await;
        changed.map(Response::new).map_err(|error| status(&error))
    }

    async fn hash(
        &self,
        request: Request<peer::HashQuery>,
    ) -> Result<Response<peer::HashReply>, Status> {
        self.check(&request)?;
        let revision = request.into_inner().revision;
        let mvcc = &self.consensus.mvcc;
        // The leader is always a little ahead under load: without waiting it would never learn
        // whether it is right.
        let mut applied = mvcc.applied_watch();
        let reached = applied.wait_for(|_| mvcc.revision() >= revision);
        let _ = timeout(HASH_PATIENCE, reached).await;
        let hash = mvcc.hash(revision).map_err(|error| status(&error))?;
        Ok(Response::new(peer::HashReply {
            hash: hash.hash,
            revision: hash.revision,
            compact_revision: hash.compact_revision,
        }))
    }

    async fn describe(
        &self,
        request: Request<peer::DescribeRequest>,
    ) -> Result<Response<peer::DescribeReply>, Status> {
        let confirmed = if request.get_ref().confirmed_for == self.cluster_id {
            let members = self.local.confirmed_members().await;
            Some(members.map_err(|error| status(&error))?)
        } else {
            None
        };
        let reply = self.consensus.view(|metrics| peer::DescribeReply {
            cluster_id: self.cluster_id,
            member_id: self.consensus.id,
            members: confirmed
                .unwrap_or_else(|| members_of(metrics.membership_config.membership())),
            leader: metrics.current_leader.unwrap_or(0),
            format: FORMAT,
        });
        Ok(Response::new(reply))
    }
}

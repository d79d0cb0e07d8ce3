//! What a member sends to its peers on behalf of Raft.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt, stream};
use openraft::alias::SnapshotOf;
use openraft::base::BoxStream;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout as RaftTimeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use super::heartbeats::Heartbeats;
use super::peers::{Client, Peers};
use super::reach::{self, Reach};
use super::snapshot::{SnapshotDir, chunks, offer};
use super::types::{
    LogId, Node, TypeConfig, Vote, entry_to_pb, log_id_from_pb, log_id_to_pb, vote_from_pb,
    vote_to_pb,
};
use crate::metrics::{Histogram, Metrics, To};
use crate::pb::peer;

/// A stream with requests under way and no answer for this long is given up. Longer than a slow
/// fsync, so that a slow disk is not mistaken for a dead link.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Setting up a stream.
const SETUP_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two chunks of a snapshot, and for the installation after the last.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);
/// First and longest pause before an unreachable peer is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Makes network clients for openraft.
#[derive(Clone)]
pub struct Network {
    peers: Peers,
    from: u64,
    metrics: Arc<Metrics>,
    reach: Arc<Reach>,
    acknowledged: Arc<Acknowledged>,
}

/// What each peer has acknowledged to this leadership, as its vote and the index.
///
/// A peer that denies it later has lost log entries that a majority may have been counted with.
/// openraft would take its answer for a bug and panic: it is told that the peer is unreachable,
/// and the peer, which finds out by itself, stops.
#[derive(Default)]
struct Acknowledged(Mutex<BTreeMap<u64, (Vote, u64)>>);

impl Acknowledged {
    fn note(&self, target: u64, vote: Vote, last: Option<&LogId>) {
        let Some(last) = last else { return };
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.entry(target).or_insert((vote, last.index));
        if peer.0 == vote {
            peer.1 = peer.1.max(last.index);
        } else {
            *peer = (vote, last.index);
        }
    }

    /// Passes an answer on, unless the peer denies what it had acknowledged.
    fn check(
        &self,
        target: u64,
        vote: Vote,
        answer: StreamAppendResult<TypeConfig>,
    ) -> Rpc<StreamAppendResult<TypeConfig>> {
        match &answer {
            Ok(last) => self.note(target, vote, last.as_ref()),
            Err(StreamAppendError::Conflict(at)) => {
                let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let had = peers.get(&target).filter(|(to, _)| *to == vote);
                if let Some((_, had)) = had.filter(|(_, had)| *had >= at.index) {
                    let text = format!(
                        "it denies entry {} of the log, although it acknowledged all up to {had}",
                        at.index
                    );
                    return Err(RPCError::Unreachable(Unreachable::from_string(text)));
                }
            }
            Err(StreamAppendError::HigherVote(_)) => {}
        }
        Ok(answer)
    }
}

impl Network {
    /// The network as seen from member `from`.
    pub fn new(peers: Peers, from: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            peers,
            from,
            metrics,
            reach: Arc::default(),
            acknowledged: Arc::default(),
        }
    }

    fn link(&self, target: u64, node: &Node, heartbeat: bool) -> Link {
        Link {
            from: self.from,
            target,
            name: reach::name_of(target, node),
            heartbeat,
            heartbeats: Heartbeats::default(),
            client: self.peers.client(target, node),
            reach: self.reach.clone(),
            acknowledged: self.acknowledged.clone(),
            figures: Figures::new(&self.metrics, target, heartbeat),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Node) -> Link {
        self.link(target, node, false)
    }

    // Heartbeats have a connection of their own: a large append must not delay them.
    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Link {
        self.link(target, node, true)
    }
}

/// A link to one peer.
pub struct Link {
    from: u64,
    target: u64,
    name: String,
    heartbeat: bool,
    heartbeats: Heartbeats,
    client: Client,
    figures: Figures,
    reach: Arc<Reach>,
    acknowledged: Arc<Acknowledged>,
}

/// What is counted about one link.
struct Figures {
    failures: Counter,
    /// On the link for heartbeats.
    heartbeats: Option<(Counter, Histogram)>,
    snapshots: [Gauge; 2],
    snapshot_time: Histogram,
}

impl Figures {
    fn new(metrics: &Metrics, target: u64, heartbeat: bool) -> Figures {
        let to = To {
            To: format!("{target:x}"),
        };
        let round_trip = || metrics.peer_round_trip.get_or_create(&to).clone();
        Figures {
            failures: metrics.peer_send_failures.get_or_create(&to).clone(),
            heartbeats: heartbeat.then(|| (metrics.heartbeat_send_failures.clone(), round_trip())),
            snapshots: [
                metrics.snapshot_send_failures.get_or_create(&to).clone(),
                metrics.snapshots_sent.get_or_create(&to).clone(),
            ],
            snapshot_time: metrics.backend_snapshot.clone(),
        }
    }

    fn called(&self, ok: bool, took: Duration) {
        if !ok {
            self.failures.inc();
        }
        match &self.heartbeats {
            Some((_, round_trip)) if ok => round_trip.observe_duration(took),
            Some((failures, _)) => {
                failures.inc();
            }
            None => {}
        }
    }
}

impl Link {
    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        RPCError::Timeout(RaftTimeout {
            action,
            id: self.from,
            target: self.target,
            timeout,
        })
    }

    async fn within<T>(
        &self,
        action: RPCTypes,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Rpc<T> {
        let begun = Instant::now();
        // Heartbeats alone go to a peer all the time.
        let noted = self
            .heartbeat
            .then(|| self.reach.call(self.target, &self.name));
        let answer = timeout(limit, call).await;
        match (noted, &answer) {
            (Some(call), Ok(Ok(_))) => call.answered(),
            (Some(call), Ok(Err(status))) => call.failed(status),
            (_, _) => {}
        }
        self.figures
            .called(matches!(answer, Ok(Ok(_))), begun.elapsed());
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(rpc_error(&status)),
            Err(_) => Err(self.timed_out(action, limit)),
        }
    }
}

/// A peer that cannot be reached is left alone for a while; other failures are tried again.
fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented => {
            RPCError::Unreachable(Unreachable::from_string(text))
        }
        _ => RPCError::Network(NetworkError::from_string(text)),
    }
}

fn append_to_pb(request: AppendEntriesRequest<TypeConfig>) -> peer::AppendRequest {
    peer::AppendRequest {
        vote: Some(vote_to_pb(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_to_pb),
        entries: request.entries.into_iter().map(entry_to_pb).collect(),
        committed: request.leader_commit.as_ref().map(log_id_to_pb),
    }
}

fn append_result(reply: peer::AppendReply) -> Rpc<StreamAppendResult<TypeConfig>> {
    use peer::append_reply::Result as Reply;
    match reply.result {
        Some(Reply::Matching(matching)) => Ok(Ok(matching.last.as_ref().map(log_id_from_pb))),
        Some(Reply::Conflict(id)) => Ok(Err(StreamAppendError::Conflict(log_id_from_pb(&id)))),
        Some(Reply::HigherVote(vote)) => {
            Ok(Err(StreamAppendError::HigherVote(vote_from_pb(Some(vote)))))
        }
        None => Err(RPCError::Network(NetworkError::from_string(
            "an append was answered with nothing",
        ))),
    }
}

fn vote_request_to_pb(request: &VoteRequest<TypeConfig>) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(vote_to_pb(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_pb),
        leadership_transfer: request.leadership_transfer,
    }
}

fn vote_response(reply: peer::VoteReply) -> VoteResponse<TypeConfig> {
    VoteResponse {
        vote: vote_from_pb(reply.vote),
        vote_granted: reply.granted,
        last_log_id: reply.last.as_ref().map(log_id_from_pb),
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotDir;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let (mut client, mut heartbeats) = (self.client.clone(), mem::take(&mut self.heartbeats));
        let vote = request.vote;
        let call = async {
            let reply = heartbeats.call(&mut client, append_to_pb(request)).await;
            reply.map(tonic::Response::new)
        };
        let reply = self
            .within(RPCTypes::AppendEntries, option.hard_ttl(), call)
            .await?;
        self.heartbeats = heartbeats;
        let result = append_result(reply)?;
        Ok(match self.acknowledged.check(self.target, vote, result)? {
            Ok(last) => AppendEntriesResponse::PartialSuccess(last),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft pauses after a failure only where it makes the next request. A stream that
            // fails before it has asked for one, because the peer refuses connections, would be
            // tried again at once and for ever: ask first, then connect.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(stream::empty()) as BoxStream<'s, _>);
            };
            let vote = first.vote;
            let input = stream::iter([first]).chain(input);
            let sent = Arc::new(AtomicU64::new(0));
            let counter = sent.clone();
            let requests = input.map(move |request| {
                counter.fetch_add(1, Ordering::Relaxed);
                append_to_pb(request)
            });
            let mut client = self.client.clone();
            let replies = self
                .within(
                    RPCTypes::AppendEntries,
                    SETUP_TIMEOUT,
                    client.append(requests),
                )
                .await?;
            let (target, acknowledged) = (self.target, self.acknowledged.clone());
            let answers = stream::unfold(Some((replies, 0)), move |state| {
                let (sent, acknowledged) = (sent.clone(), acknowledged.clone());
                async move {
                    let (mut replies, received) = state?;
                    let answer = next_reply(&mut replies, &sent, received).await?;
                    let answer = answer.and_then(|result| acknowledged.check(target, vote, result));
                    let next = match &answer {
                        Ok(Ok(_)) => Some((replies, received + 1)),
                        _ => None,
                    };
                    Some((answer, next))
                }
            });
            Ok(Box::pin(answers) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let mut client = self.client.clone();
        let call = client.vote(vote_request_to_pb(&request));
        let reply = self.within(RPCTypes::Vote, option.hard_ttl(), call).await?;
        Ok(vote_response(reply))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let mut client = self.client.clone();
        let call = client.pre_vote(vote_request_to_pb(&request));
        let reply = self.within(RPCTypes::Vote, option.hard_ttl(), call).await?;
        Ok(vote_response(reply))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotDir>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client.clone();
        let last = snapshot.meta.last_log_id;
        let sending = send_snapshot(client, vote, snapshot);
        let begun = Instant::now();
        tokio::select! {
            sent = sending => {
                self.figures.snapshots[usize::from(sent.is_ok())].inc();
                self.figures.snapshot_time.observe_duration(begun.elapsed());
                match sent {
                    Ok(reply) => {
                        let granted = vote_from_pb(reply.vote);
                        if granted == vote {
                            self.acknowledged.note(self.target, vote, last.as_ref());
                        }
                        Ok(SnapshotResponse::new(granted))
                    }
                    Err(status) => Err(match failed_snapshot(&status) {
                        RPCError::Unreachable(error) => StreamingError::Unreachable(error),
                        _ => StreamingError::Network(NetworkError::new(&status)),
                    }),
                }
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        use peer::transfer_leader_reply::Refusal;
        let mut client = self.client.clone();
        let call = client.transfer_leader(peer::TransferLeaderRequest {
            from_leader: Some(vote_to_pb(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(log_id_to_pb),
        });
        let reply = self
            .within(RPCTypes::TransferLeader, option.hard_ttl(), call)
            .await?;
        Ok(match reply.refusal {
            None => Ok(()),
            Some(Refusal::VoteChanged(changed)) => Err(TransferLeaderError::VoteChanged {
                expected: vote_from_pb(changed.expected),
                actual: vote_from_pb(changed.actual),
            }),
            Some(Refusal::NotFlushed(behind)) => Err(TransferLeaderError::LogNotFlushed {
                expected: behind.expected.as_ref().map(log_id_from_pb),
                actual: behind.actual.as_ref().map(log_id_from_pb),
            }),
        })
    }

    fn backoff(&self) -> Option<Backoff> {
        let (first, longest) = BACKOFF;
        let pauses =
            std::iter::successors(Some(first), move |pause| Some((*pause * 2).min(longest)));
        Some(Backoff::new(pauses))
    }
}

fn failed_snapshot(status: &Status) -> RPCError<TypeConfig> {
    tracing::warn!(code = ?status.code(), reason = status.message(), "a snapshot was not sent");
    rpc_error(status)
}

/// The next answer of an append stream; `None` when the peer ended it.
async fn next_reply(
    replies: &mut tonic::Streaming<peer::AppendReply>,
    sent: &AtomicU64,
    received: u64,
) -> Option<Rpc<StreamAppendResult<TypeConfig>>> {
    loop {
        match timeout(SILENCE_MAX, replies.message()).await {
            Ok(Ok(Some(reply))) => return Some(append_result(reply)),
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some(Err(rpc_error(&status))),
            Err(_) if sent.load(Ordering::Relaxed) > received => {
                let text = format!("no answer to an append for {SILENCE_MAX:?}");
                return Some(Err(RPCError::Network(NetworkError::from_string(text))));
            }
            Err(_) => {}
        }
    }
}

/// Offers the snapshot and streams what the peer does not hold yet.
async fn send_snapshot(
    mut client: Client,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotDir>,
) -> Result<peer::SnapshotReply, Status> {
    let dir = snapshot.snapshot.clone();
    let files = dir
        .manifest()
        .map_err(|error| Status::internal(error.to_string()))?;
    let offer = offer(&vote, &snapshot.meta, files);
    let held = timeout(SNAPSHOT_TIMEOUT, client.offer_snapshot(offer.clone()))
        .await
        .map_err(|_| Status::deadline_exceeded("offering a snapshot"))??
        .into_inner()
        .held;
    tracing::info!(
        last = ?snapshot.meta.last_log_id.map(|id: LogId| id.index),
        files = offer.files.len(),
        bytes = offer.files.iter().map(|file| file.size).sum::<u64>(),
        held = held.iter().sum::<u64>(),
        "sending a snapshot"
    );
    let chunks = chunks(dir, offer, held);
    timeout(SNAPSHOT_TIMEOUT, client.send_snapshot(chunks))
        .await
        .map_err(|_| Status::deadline_exceeded("sending a snapshot"))?
        .map(tonic::Response::into_inner)
}

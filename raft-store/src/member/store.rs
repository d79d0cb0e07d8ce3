//! The in-process store: no gRPC, no copy of values.

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tokio::time::timeout_at;

use super::Member;
use crate::consensus::raft::Attempt;
use crate::error::{Error, Result};
use crate::mvcc::{MAX_LEASE_TTL, Response, check};
use crate::pb::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, StatusResponse, TxnRequest, TxnResponse, WatchCreateRequest,
};
use crate::pb::log;
use crate::pb::log::command::Op;
use crate::store::{Store, WatchStream};
use crate::watch::LocalOptions;

impl Member {
    /// Proposes one operation and returns the state machine's answer to it.
    pub(crate) async fn propose(&self, op: Op, metadata: Bytes) -> Result<Response> {
        self.check_serving()?;
        let command = self.encode(op, metadata)?;
        self.0.metrics.proposals_pending.inc();
        let applied = self.consensus().propose(command).await;
        self.0.metrics.proposals_pending.dec();
        if applied.is_err() {
            self.0.metrics.proposals_failed.inc();
        }
        applied?.outcome
    }

    /// As `propose`, but only while this member leads.
    pub(super) async fn propose_as_leader(&self, op: Op) -> Result<Response> {
        let command = self.encode(op, Bytes::new())?;
        let deadline = self.consensus().deadline();
        match self.consensus().propose_here(command, deadline).await {
            Ok(applied) => applied.outcome,
            Err(Attempt::Retry(error) | Attempt::Final(error)) => Err(error),
        }
    }

    fn encode(&self, op: Op, metadata: Bytes) -> Result<Bytes> {
        let wall = self.0.seams.clock.wall();
        let since = wall
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let command = log::Command {
            metadata,
            proposed_at_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            op: Some(op),
        };
        let size = command.encoded_len();
        if size > self.0.config.limits.request_bytes + COMMAND_OVERHEAD {
            return Err(Error::RequestTooLarge);
        }
        let mut encoded = Vec::with_capacity(size);
        command
            .encode(&mut encoded)
            .map_err(|error| Error::Internal(error.to_string()))?;
        Ok(encoded.into())
    }

    pub(super) async fn propose_alarm(&self, request: AlarmRequest) -> Result<AlarmResponse> {
        match self.propose(Op::Alarm(request), Bytes::new()).await? {
            Response::Alarm(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// A read is answered from the state as it is once it is recent enough.
    async fn ready_to_read(&self, serializable: bool) -> Result<()> {
        if serializable {
            self.recovered().await
        } else {
            self.read_barrier().await
        }
    }

    /// Reads many keys away from the threads that serve, a few such reads at a time.
    async fn long_range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let deadline = self.consensus().deadline();
        let turn = timeout_at(deadline, self.0.long_ranges.acquire()).await;
        let _turn = turn
            .map_err(|_| Error::TooManyRequests)?
            .map_err(|_| Error::Stopped)?;
        let mvcc = self.0.mvcc.clone();
        self.0.tasks.blocking(move || mvcc.range(&request)).await
    }

    /// Renews a lease here: this member must be the leader.
    pub(super) async fn keep_alive_here(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        // The header is taken before the renewal, so that its revision never covers a deletion
        // of the lease that follows.
        let header = self.header();
        // Proves the leadership, and that the lease is looked for in the newest state.
        self.read_barrier().await?;
        if !self.is_leader() {
            return Err(Error::LeaderChanged);
        }
        let ttl = self.renew(id).await?;
        Ok(LeaseKeepAliveResponse {
            header: Some(header),
            id,
            ttl,
        })
    }

    /// Gives a lease its time again, and returns it: 0 when there is no such lease.
    async fn renew(&self, id: i64) -> Result<i64> {
        let deadline = self.consensus().deadline();
        loop {
            let gate = self.0.lease_gate.read().await;
            let term = self.term();
            let mut applied = self.0.mvcc.applied_watch();
            applied.mark_unchanged();
            let Some(lease) = self.0.mvcc.lease(id) else {
                return Ok(0);
            };
            if lease.remaining_ttl > 0 || self.0.lessor.is_record_pending(term) {
                // A new leader would go by what was recorded before this renewal.
                let forget = log::LeaseCheckpoint {
                    leases: vec![log::lease_checkpoint::Remaining {
                        id,
                        remaining_ttl: 0,
                    }],
                };
                self.propose_as_leader(Op::LeaseCheckpoint(forget)).await?;
                // With this entry every earlier one of this leader is in the log.
                self.0.lessor.recorded(term);
            }
            let now = self.0.seams.clock.now();
            if self.0.lessor.renew(term, id, lease.granted_ttl, now) {
                self.0.metrics.leases_renewed.inc();
                return Ok(lease.granted_ttl);
            }
            drop(gate);
            // It is being revoked: the answer is what comes of that.
            match timeout_at(deadline, applied.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) => return Err(Error::Timeout),
            }
        }
    }

    /// Tells a lease's time to live: this member must be the leader.
    pub(super) async fn time_to_live_here(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.read_barrier().await?;
        if !self.is_leader() {
            return Err(Error::LeaderChanged);
        }
        let mut response = LeaseTimeToLiveResponse {
            header: Some(self.header()),
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        if let Some(lease) = self.0.mvcc.lease(request.id) {
            let now = self.0.seams.clock.now();
            let left = self.0.lessor.remaining(request.id, now);
            response.granted_ttl = lease.granted_ttl;
            response.ttl = left.map_or(lease.granted_ttl, |left| {
                i64::try_from(left.as_secs()).unwrap_or(i64::MAX)
            });
            if request.keys {
                response.keys = self.0.mvcc.lease_keys(request.id);
            }
        }
        Ok(response)
    }
}

/// Long ranges that are read at once: 16 of 10 000 keys of 1 KiB take 160 MB.
pub(super) const LONG_RANGES_MAX: usize = 16;

/// Room for the envelope around a request of the largest size.
const COMMAND_OVERHEAD: usize = 4096;

fn unexpected(response: &Response) -> Error {
    Error::Internal(format!(
        "unexpected answer of the state machine: {response:?}"
    ))
}

#[async_trait]
impl Store for Member {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        check::check_range(&request)?;
        self.0.metrics.ranges.inc();
        self.ready_to_read(request.serializable).await?;
        let mut response = if self.0.mvcc.is_long_range(&request) {
            self.long_range(request).await?
        } else {
            self.0.mvcc.range(&request)?
        };
        self.fill(&mut response.header);
        Ok(response)
    }

    async fn put(&self, request: PutRequest, metadata: Bytes) -> Result<PutResponse> {
        check::check_put(&request)?;
        match self.propose(Op::Put(request), metadata).await? {
            Response::Put(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
        metadata: Bytes,
    ) -> Result<DeleteRangeResponse> {
        check::check_delete_range(&request)?;
        match self.propose(Op::DeleteRange(request), metadata).await? {
            Response::DeleteRange(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn txn(&self, request: TxnRequest, metadata: Bytes) -> Result<TxnResponse> {
        let read_only = check::check_txn(&request)?;
        self.0.metrics.txns.inc();
        let mut response = if read_only {
            self.ready_to_read(false).await?;
            self.0.mvcc.read_txn(&request)?
        } else {
            match self.propose(Op::Txn(request), metadata).await? {
                Response::Txn(response) => response,
                other => return Err(unexpected(&other)),
            }
        };
        self.fill(&mut response.header);
        Ok(response)
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse> {
        match self.propose(Op::Compact(request), Bytes::new()).await? {
            Response::Compact(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Box<dyn WatchStream>> {
        self.recovered().await?;
        let options = LocalOptions {
            progress_interval: self.0.config.watch_progress_interval,
            leader: None,
        };
        Ok(Box::new(self.0.hub.watch(&request, options)?))
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        if request.ttl > MAX_LEASE_TTL {
            return Err(Error::LeaseTtlTooLarge);
        }
        // A lease shorter than an election could expire before a new leader can renew it.
        let election = self.0.config.timings.election_max.as_secs_f64();
        let ttl_min = (election * 1.5).ceil().max(2.0) as i64;
        let mut id = request.id;
        while id == 0 {
            id = (self.0.seams.rng.next_u64() >> 1) as i64;
        }
        let grant = log::LeaseGrant {
            id,
            ttl: request.ttl.max(ttl_min),
        };
        match self.propose(Op::LeaseGrant(grant), Bytes::new()).await? {
            Response::LeaseGrant(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse> {
        let revoke = log::LeaseRevoke { ids: vec![id] };
        match self.propose(Op::LeaseRevoke(revoke), Bytes::new()).await? {
            Response::LeaseRevoke(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let mut response = self
            .on_leader(
                || self.keep_alive_here(id),
                |mut leader| async move {
                    leader.lease_keep_alive(LeaseKeepAliveRequest { id }).await
                },
            )
            .await?;
        self.fill(&mut response.header);
        Ok(response)
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        let mut response = self
            .on_leader(
                || self.time_to_live_here(request),
                |mut leader| async move { leader.lease_time_to_live(request).await },
            )
            .await?;
        self.fill(&mut response.header);
        Ok(response)
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        self.read_barrier().await?;
        let leases = self.0.mvcc.leases();
        Ok(LeaseLeasesResponse {
            header: Some(self.header()),
            leases: leases.into_iter().map(|id| LeaseStatus { id }).collect(),
        })
    }

    async fn progress(&self) -> Result<i64> {
        self.read_barrier().await?;
        Ok(self.0.mvcc.revision())
    }

    async fn status(&self) -> Result<StatusResponse> {
        Ok(crate::server::status_response(self))
    }
}

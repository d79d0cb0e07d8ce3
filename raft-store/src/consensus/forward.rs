//! Proposals on their way to the leader.
//!
//! Those that wait together travel together: one call carries many commands, and the answer
//! carries what each came to.

use std::sync::Arc;

use bytes::Bytes;
use seams::Tasks;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::peers::Client;
use super::raft::{Applied, Attempt, Consensus};
use crate::error::Error;
use crate::mvcc::{Outcome, Response};
use crate::pb::peer::{self, propose_result};
use crate::server::status;

/// Proposals that may wait; more are refused.
pub(crate) const QUEUE_MAX: usize = 16 << 10;
/// Commands in one call, and calls under way: together at least `QUEUE_MAX` / 4.
const BATCH_MAX: usize = 512;
const CALLS_MAX: usize = 8;

/// One command on its way.
pub(crate) struct Proposal {
    pub(crate) command: Bytes,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<Applied, Attempt>>,
}

/// Forwards what arrives until the member stops.
pub(crate) async fn run(consensus: Consensus, mut queue: mpsc::Receiver<Proposal>, tasks: Tasks) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            () = tasks.cancelled() => return,
            received = queue.recv_many(&mut batch, BATCH_MAX) => if received == 0 { return },
        }
        let Ok(permit) = calls.clone().acquire_owned().await else {
            return;
        };
        // While the permit was awaited, more may have arrived.
        while batch.len() < BATCH_MAX
            && let Ok(proposal) = queue.try_recv()
        {
            batch.push(proposal);
        }
        let Some(client) = consensus.leader_client() else {
            fail(batch, || Attempt::Retry(Error::NoLeader));
            continue;
        };
        tasks.spawn("forwarded batch", async move {
            send(client, batch).await;
            drop(permit);
        });
    }
}

fn fail(batch: Vec<Proposal>, attempt: impl Fn() -> Attempt) {
    for proposal in batch {
        // A caller that gave up does not care.
        let _ = proposal.reply.send(Err(attempt()));
    }
}

async fn send(mut client: Client, batch: Vec<Proposal>) {
    let Some(deadline) = batch.iter().map(|proposal| proposal.deadline).max() else {
        return;
    };
    let request = peer::ProposeRequest {
        commands: batch
            .iter()
            .map(|proposal| proposal.command.clone())
            .collect(),
    };
    let results = match timeout_at(deadline, client.propose(request)).await {
        Ok(Ok(reply)) => reply.into_inner().results,
        Ok(Err(status)) => {
            tracing::debug!(code = ?status.code(), reason = status.message(), "forwarding failed");
            // Only while there is no connection is it certain that nothing was sent.
            return if never_sent(&status) {
                fail(batch, || Attempt::Retry(Error::LeaderChanged))
            } else {
                fail(batch, || Attempt::Final(Error::TimeoutConnectionLost))
            };
        }
        Err(_) => return fail(batch, || Attempt::Final(Error::Timeout)),
    };
    let mut results = results.into_iter();
    for proposal in batch {
        let result = match results.next() {
            Some(result) => from_pb(result),
            None => Err(Attempt::Final(Error::TimeoutConnectionLost)),
        };
        let _ = proposal.reply.send(result);
    }
}

/// Whether a call failed because no connection could be made.
fn never_sent(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Answers a forwarded batch on the leader.
pub(crate) async fn answer(
    consensus: &Consensus,
    request: peer::ProposeRequest,
) -> peer::ProposeReply {
    let deadline = consensus.deadline();
    let writes = request
        .commands
        .into_iter()
        .map(|command| consensus.propose_here(command, deadline));
    let results = futures::future::join_all(writes).await;
    peer::ProposeReply {
        results: results.into_iter().map(to_pb).collect(),
    }
}

/// The index in the answer to a command that had no effect and may be tried again.
const NOT_PROPOSED: u64 = u64::MAX;

fn to_pb(result: Result<Applied, Attempt>) -> peer::ProposeResult {
    use propose_result::Outcome as Pb;
    let failure = |error: &Error| {
        let status = status::status(error);
        Pb::Failure(peer::Failure {
            code: status.code() as i32,
            message: status.message().to_owned(),
        })
    };
    let (index, outcome) = match result {
        Err(Attempt::Retry(error)) => (NOT_PROPOSED, failure(&error)),
        Err(Attempt::Final(error)) => (0, failure(&error)),
        Ok(applied) => {
            let outcome = match applied.outcome {
                Err(error) => failure(&error),
                Ok(Response::None) => Pb::Nothing(peer::Nothing {}),
                Ok(Response::Put(response)) => Pb::Put(response),
                Ok(Response::DeleteRange(response)) => Pb::DeleteRange(response),
                Ok(Response::Txn(response)) => Pb::Txn(response),
                Ok(Response::Compact(response)) => Pb::Compact(response),
                Ok(Response::LeaseGrant(response)) => Pb::LeaseGrant(response),
                Ok(Response::LeaseRevoke(response)) => Pb::LeaseRevoke(response),
                Ok(Response::Alarm(response)) => Pb::Alarm(response),
                Ok(Response::MemberId(id)) => Pb::MemberId(id),
            };
            (applied.index, outcome)
        }
    };
    peer::ProposeResult {
        index,
        outcome: Some(outcome),
    }
}

fn from_pb(result: peer::ProposeResult) -> Result<Applied, Attempt> {
    use propose_result::Outcome as Pb;
    let outcome: Outcome = match result.outcome {
        Some(Pb::Failure(failure)) => {
            let error = status::parse(failure.code.into(), &failure.message);
            if result.index == NOT_PROPOSED {
                return Err(Attempt::Retry(error));
            }
            Err(error)
        }
        Some(Pb::Nothing(_)) => Ok(Response::None),
        Some(Pb::Put(response)) => Ok(Response::Put(response)),
        Some(Pb::DeleteRange(response)) => Ok(Response::DeleteRange(response)),
        Some(Pb::Txn(response)) => Ok(Response::Txn(response)),
        Some(Pb::Compact(response)) => Ok(Response::Compact(response)),
        Some(Pb::LeaseGrant(response)) => Ok(Response::LeaseGrant(response)),
        Some(Pb::LeaseRevoke(response)) => Ok(Response::LeaseRevoke(response)),
        Some(Pb::Alarm(response)) => Ok(Response::Alarm(response)),
        Some(Pb::MemberId(id)) => Ok(Response::MemberId(id)),
        None => return Err(Attempt::Final(Error::TimeoutConnectionLost)),
    };
    Ok(Applied {
        index: result.index,
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::peers::Peers;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_come_about_sent_nothing() {
        let dial = Arc::new(|_| Box::pin(std::future::pending()) as _);
        let mut client = Peers::new(1, dial).client_of_urls(Some(2), &["http://a:1".to_owned()]);
        let status = client
            .propose(peer::ProposeRequest::default())
            .await
            .unwrap_err();
        assert!(never_sent(&status), "{status:?}");
    }
}

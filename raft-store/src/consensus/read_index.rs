//! Linearizable reads: one round of heartbeats at a time serves every read that waited for it.
//!
//! A round confirms the leadership *after* the reads of its batch arrived. A round under way
//! never serves a read that arrived later: reusing its index is how stale reads happen.

use seams::Tasks;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::raft::{Attempt, Consensus, Pause};
use crate::error::{Error, Result};
use crate::pb::peer::ReadIndexRequest;

/// Reads that may wait; more are refused.
pub(crate) const QUEUE_MAX: usize = 64 << 10;

/// Serves read barriers until the member stops.
pub(crate) async fn run(
    consensus: Consensus,
    mut waiting: mpsc::Receiver<oneshot::Sender<Result<u64>>>,
    tasks: Tasks,
) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            () = tasks.cancelled() => return,
            received = waiting.recv_many(&mut batch, QUEUE_MAX) => if received == 0 { return },
        }
        let deadline = consensus.deadline();
        let index = tokio::select! {
            () = tasks.cancelled() => return,
            index = round(&consensus, deadline) => index,
        };
        // The bug: those that came while the round was under way are answered by it as well.
        #[cfg(feature = "mutants")]
        if consensus.mutants.reused_read_index {
            while let Ok(late) = waiting.try_recv() {
                batch.push(late);
            }
        }
        for reply in batch {
            // A reader that gave up does not care.
            let _ = reply.send(index.clone());
        }
    }
}

/// One index that covers every write acknowledged before the call.
async fn round(consensus: &Consensus, deadline: Instant) -> Result<u64> {
    let mut pause = Pause::default();
    loop {
        let attempt = if consensus.is_leader() {
            consensus.read_index_here().await
        } else {
            ask_leader(consensus, deadline).await
        };
        match attempt {
            Ok(index) => return Ok(index),
            Err(Attempt::Final(error)) => return Err(error),
            // Reads have no effect: they are tried again as long as there is time.
            Err(Attempt::Retry(error)) => pause.or_give_up(deadline, error).await?,
        }
    }
}

async fn ask_leader(consensus: &Consensus, deadline: Instant) -> Result<u64, Attempt> {
    let Some(mut client) = consensus.leader_client() else {
        return Err(Attempt::Retry(Error::NoLeader));
    };
    // The leader may die while it is asked: ask again before the whole deadline is used up.
    let patience = Instant::now() + consensus.timings.election_max * 2;
    match timeout_at(
        deadline.min(patience),
        client.read_index(ReadIndexRequest {}),
    )
    .await
    {
        Ok(Ok(reply)) => Ok(reply.into_inner().index),
        Ok(Err(_)) => Err(Attempt::Retry(Error::LeaderChanged)),
        Err(_) => Err(Attempt::Retry(Error::Timeout)),
    }
}

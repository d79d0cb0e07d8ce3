//! The end of a run: everybody is asked for everything.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep, timeout};

use super::Load;
use crate::checkers::certificate::EventLog;
use crate::client::{Client, Target};
use crate::cluster::Cluster;
use crate::evidence::save_log;
use crate::history::{Event, Frame, Kind, Process, Recorder, WatchSpec};
use crate::ops::{Call, Reply};
use crate::plants::Plant;
use crate::scenarios::Scenario;
use crate::workloads::{Shared, Workload};

/// Time for one question at the end, when everything is whole again.
const FINAL_TIME: Duration = Duration::from_secs(10);
/// Streams must have caught up within this time at the end.
const CONVERGE_TIME: Duration = Duration::from_secs(20);
/// Leases must have ended this long after their last renewal; see the lease checker.
const LEASE_TIME: Duration = Duration::from_secs(15);

/// Waits until all is well and asks everybody for everything.
pub(super) async fn finish(
    cluster: &mut Cluster,
    scenario: &Scenario,
    recorder: &Recorder,
    shared: &Shared,
    mut load: Load,
    dir: &Path,
) -> Result<()> {
    cluster.wait_serving().await?;
    // Work goes on for a moment: recovery means that writes succeed again.
    sleep(Duration::from_secs(1)).await;
    load.stop_clients().await;
    if scenario.workload == Workload::Lease {
        sleep(LEASE_TIME).await;
    }
    let targets = cluster.targets();
    load.go_to(targets.clone());
    let first = targets.first().context("a cluster without members")?;
    let from = if scenario.compacts {
        compact_all(first, recorder, &mut load).await?
    } else {
        1
    };
    let last = converge(&targets, recorder, &mut load).await?;
    drop(load);
    for (target, at) in targets.iter().zip(0..) {
        // Planted faults are in the second member: the first one's word is what others are
        // compared with.
        let planted = |plant| at == 1 && shared.is_planted(plant);
        final_reads(target, recorder, last).await?;
        if planted(Plant::OldHash) {
            tell_hash(target, recorder, last - 1, last).await?;
        }
        let log = event_log(target, from, last).await;
        let mut log = log.with_context(|| format!("history of member {}", target.node))?;
        if planted(Plant::Amnesia) {
            log.events.pop_first();
        }
        save_log(dir, target.node, &log)?;
    }
    Ok(())
}

/// Compacts everything that was written, and returns the revision: the first one that members
/// still know.
async fn compact_all(target: &Target, recorder: &Recorder, load: &mut Load) -> Result<i64> {
    let mut client = Client::new(target.clone(), FINAL_TIME);
    let key = "~compacted".to_owned();
    let (_, revision) = final_call(&mut client, recorder, &Call::Delete { key }).await?;
    // The first stream must have seen what the members are about to forget.
    let (first, _) = load.watchers.first_mut().context("a run without streams")?;
    let seen = first.reached.wait_for(|reached| *reached >= revision);
    timeout(CONVERGE_TIME, seen)
        .await
        .context("the stream that sees everything lags")??;
    final_call(&mut client, recorder, &Call::Compact { revision }).await?;
    Ok(revision)
}

/// Marks the end of every watched prefix, waits until every stream has seen it, and returns
/// the last revision.
///
/// # Errors
///
/// When the first member does not serve.
pub async fn converge(targets: &[Target], recorder: &Recorder, load: &mut Load) -> Result<i64> {
    let first = targets.first().context("a cluster without members")?;
    let mut client = Client::new(first.clone(), FINAL_TIME);
    let mut last = 0;
    let mut goals = Vec::new();
    for (watching, _) in &load.watchers {
        let key = format!("{}~end", watching.spec.prefix);
        let value = format!("end-{}", watching.stream);
        let put = Call::Put {
            key: key.clone(),
            value,
            lease: 0,
        };
        let put = final_call(&mut client, recorder, &put).await?;
        let delete = final_call(&mut client, recorder, &Call::Delete { key }).await?;
        last = delete.1;
        goals.push(if watching.spec.no_delete {
            put.1
        } else {
            delete.1
        });
    }
    let end = Instant::now() + CONVERGE_TIME;
    for ((watching, _), goal) in load.watchers.iter_mut().zip(goals) {
        let left = end.saturating_duration_since(Instant::now());
        let reached = watching.reached.wait_for(|reached| *reached >= goal);
        let converged = timeout(left, reached)
            .await
            .is_ok_and(|reached| reached.is_ok());
        recorder.frame(watching.stream, 0, Frame::Converged(goal, converged));
    }
    Ok(last)
}

async fn final_call(client: &mut Client, recorder: &Recorder, call: &Call) -> Result<(Reply, i64)> {
    let process = Process::Named(format!("final-{}", client.node()));
    let node = Some(client.node());
    recorder.invoke(&process, node, call);
    match client.call(call).await {
        Ok(answer) => {
            recorder.ok(&process, call, node, &answer.reply, answer.rev);
            Ok((answer.reply, answer.rev.unwrap_or(0)))
        }
        Err(failure) => {
            let reason = format!("{failure:?}");
            let kind = if call.has_effect() {
                Kind::Info
            } else {
                Kind::Fail
            };
            recorder.failed(kind, &process, call, node, &reason);
            anyhow::bail!("{call:?} on member {}: {reason}", client.node())
        }
    }
}

/// Asks one member for all pairs, from its own state, and for its hash.
///
/// # Errors
///
/// When it does not answer.
pub async fn final_reads(target: &Target, recorder: &Recorder, last: i64) -> Result<()> {
    let mut client = Client::new(target.clone(), FINAL_TIME);
    // A linearizable read first: the member's own state then covers everything.
    let probe = Call::Get {
        key: "~end".into(),
        serializable: false,
        revision: 0,
    };
    final_call(&mut client, recorder, &probe).await?;
    let list = Call::List {
        prefix: String::new(),
        serializable: true,
        revision: 0,
    };
    final_call(&mut client, recorder, &list).await?;
    final_call(&mut client, recorder, &Call::Hash { revision: last }).await?;
    Ok(())
}

/// Records the hash of one revision as that of another: a planted fault.
async fn tell_hash(target: &Target, recorder: &Recorder, of: i64, told: i64) -> Result<()> {
    let mut client = Client::new(target.clone(), FINAL_TIME);
    let node = Some(target.node);
    let process = Process::Named(format!("final-{}", target.node));
    let call = Call::Hash { revision: told };
    recorder.invoke(&process, node, &call);
    let answer = client.call(&Call::Hash { revision: of }).await;
    let answer = answer.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
    recorder.ok(&process, &call, node, &answer.reply, answer.rev);
    Ok(())
}

/// Everything a member has to tell, from one revision up to another.
async fn event_log(target: &Target, from: i64, last: i64) -> Result<EventLog> {
    let spec = WatchSpec {
        prefix: String::new(),
        start: from,
        prev_kv: true,
        no_put: false,
        no_delete: false,
        progress: false,
    };
    let mut client = Client::new(target.clone(), FINAL_TIME);
    let (_requests, mut stream) = client.watch(&spec).await.map_err(anyhow::Error::msg)?;
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.revision() < last) {
        let response = timeout(FINAL_TIME, stream.message())
            .await
            .context("it stopped")??;
        let response = response.context("the stream ended")?;
        anyhow::ensure!(!response.canceled, "canceled: {}", response.cancel_reason);
        events.extend(
            response
                .events
                .into_iter()
                .map(crate::client::event_from_wire),
        );
    }
    Ok(EventLog {
        from,
        ..EventLog::new(last, events)
    })
}

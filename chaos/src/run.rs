//! One run: load and faults, then healing, then everything is asked for what it knows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::checkers::certificate::EventLog;
use crate::client::{Client, Target};
use crate::cluster::{Cluster, Plan};
use crate::dice::Dice;
use crate::evidence::{RunInfo, Trouble, save_log};
use crate::faults::{self, Fault};
use crate::history::{Event, Frame, Kind, Process, Recorder, WatchSpec};
use crate::ops::{Call, Reply};
use crate::plants::Plant;
use crate::scenarios::Scenario;
use crate::workloads::watcher::Watcher;
use crate::workloads::{Actor, Shared, Workload, compact, drive};

/// Clients of a run.
const CLIENTS: u64 = 8;
/// Number of the client that compacts: no other ever gets it.
const COMPACTOR: u64 = 1_000_000;
/// Calls per second of all clients together, when nothing fails.
const CALLS_PER_SECOND: u32 = 160;
/// Time a client gives a call.
const CALL_TIME: Duration = Duration::from_millis(1500);
/// Time for one question at the end, when everything is whole again.
const FINAL_TIME: Duration = Duration::from_secs(10);
/// Streams must have caught up within this time at the end.
const CONVERGE_TIME: Duration = Duration::from_secs(20);
/// Leases must have ended this long after their last renewal; see the lease checker.
const LEASE_TIME: Duration = Duration::from_secs(15);

/// How to run a scenario.
pub struct Settings {
    /// What to run.
    pub scenario: Scenario,
    /// The cluster to run it on.
    pub plan: Plan,
    /// Seed of all choices.
    pub seed: u64,
    /// Time of load and faults.
    pub time: Duration,
    /// How many times as fast as is usual faults follow each other; at least 1.
    pub pace: u32,
    /// Faults to plant.
    pub plants: Vec<Plant>,
}

/// Runs a scenario and leaves the evidence in `dir`.
///
/// # Errors
///
/// When the harness fails. What the store does wrong is evidence, not an error.
pub async fn run(settings: Settings, dir: &Path) -> Result<()> {
    let Settings {
        scenario,
        plan,
        seed,
        time,
        pace,
        plants,
    } = settings;
    let recorder = Recorder::create(dir)?;
    let dice = Dice::new(seed);
    let mut info = RunInfo {
        scenario: scenario.name.clone(),
        seed,
        seconds: time.as_secs(),
        system: plan.system.name().into(),
        binary: plan.system.identity(),
        members: plan.members,
        checks: scenario.checks.clone(),
        faults: scenario
            .faults
            .iter()
            .map(|fault| fault.name().into())
            .collect(),
        writes_min: writes_min(scenario.workload, time),
        lease_early_ms: plan.system.lease_early_ms(),
        plants: plants.clone(),
        troubles: Vec::new(),
    };
    let save = |info: &RunInfo| -> Result<()> {
        Ok(std::fs::write(
            dir.join("run.json"),
            serde_json::to_string_pretty(info)?,
        )?)
    };
    // Written now too, so that a run that breaks off can be looked at.
    save(&info)?;
    let mut cluster = Cluster::start(plan).await?;
    let shared = Shared::new(scenario.value_bytes, plants);
    let pause = Duration::from_secs(1) * u32::try_from(CLIENTS).unwrap_or(1) / CALLS_PER_SECOND;
    let mut load = Load::start(
        &cluster.possible_targets(),
        scenario.workload,
        (CLIENTS, pause),
        &recorder,
        &shared,
        &dice,
    );
    if scenario.compacts {
        load.compact(&recorder, &shared, &dice);
    }
    let end = Instant::now() + time;
    let mut fate = dice.fork(0xFA7E);
    let faults: &[Fault] = if shared.is_planted(Plant::IdleNemesis) {
        &[]
    } else {
        &scenario.faults
    };
    let torment = faults::torment(&mut cluster, faults, &mut fate, &recorder, pace, end).await;
    faults::heal(&mut cluster).await?;
    recorder.nemesis("end", serde_json::Value::Null);
    if let Err(error) = torment {
        info.troubles.push(Trouble {
            of_store: false,
            message: format!("{error:#}"),
        });
    }
    if let Err(error) = finish(&mut cluster, &scenario, &recorder, &shared, load, dir).await {
        info.troubles.push(Trouble {
            of_store: true,
            message: format!("after healing: {error:#}"),
        });
    }
    if shared.is_planted(Plant::SuddenDeath) {
        cluster.murder(0)?;
    }
    for member in cluster.members() {
        cluster.is_up(member);
    }
    cluster.read_logs();
    info.troubles.append(&mut cluster.troubles);
    cluster.destroy();
    recorder.flush()?;
    save(&info)
}

/// Acknowledged writes that a run must have: a tenth of what an unhurt one makes.
fn writes_min(workload: Workload, time: Duration) -> i64 {
    let per_second = match workload {
        Workload::Lease => 1,
        _ => i64::from(CALLS_PER_SECOND) / 20,
    };
    per_second * i64::try_from(time.as_secs()).unwrap_or(0)
}

/// Clients and watchers at work.
pub struct Load {
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<(Watching, JoinHandle<()>)>,
    targets: watch::Sender<Vec<Target>>,
    stop_clients: watch::Sender<bool>,
    stop_watchers: watch::Sender<bool>,
}

/// A stream as the end of a run sees it.
struct Watching {
    stream: u64,
    spec: WatchSpec,
    reached: watch::Receiver<i64>,
}

impl Load {
    /// Starts `count` clients of the workload that pause for `pause` between calls, and the
    /// workload's watchers.
    pub fn start(
        targets: &[Target],
        workload: Workload,
        (count, pause): (u64, Duration),
        recorder: &Recorder,
        shared: &Arc<Shared>,
        dice: &Dice,
    ) -> Load {
        let (stop_clients, stopped) = watch::channel(false);
        let (all, targets) = watch::channel(targets.to_vec());
        let clients = (0..count)
            .map(|number| {
                let actor = Actor::new(
                    number,
                    count,
                    targets.clone(),
                    CALL_TIME,
                    recorder.clone(),
                    shared.clone(),
                    dice.fork(number),
                );
                let (shared, stopped) = (shared.clone(), stopped.clone());
                tokio::spawn(drive(workload, actor, shared, pause, stopped))
            })
            .collect();
        let (stop_watchers, stopped) = watch::channel(false);
        let watchers = specs(workload)
            .into_iter()
            .zip(0..)
            .map(|(spec, stream)| {
                let (sender, reached) = watch::channel(0);
                let watcher = Watcher {
                    stream,
                    spec: spec.clone(),
                    targets: targets.clone(),
                    dice: dice.fork(1000 + stream),
                    recorder: recorder.clone(),
                    reached: sender,
                    late: shared.is_planted(Plant::LateResume),
                };
                let watching = Watching {
                    stream,
                    spec,
                    reached,
                };
                (watching, tokio::spawn(watcher.run(stopped.clone())))
            })
            .collect();
        Load {
            clients,
            watchers,
            targets: all,
            stop_clients,
            stop_watchers,
        }
    }

    /// Sends clients and watchers to these members from now on, wherever they go next.
    pub fn go_to(&self, targets: Vec<Target>) {
        self.targets.send_replace(targets);
    }

    /// Has history compacted meanwhile, behind what the first stream has seen.
    fn compact(&mut self, recorder: &Recorder, shared: &Arc<Shared>, dice: &Dice) {
        let Some((first, _)) = self.watchers.first() else {
            return;
        };
        let actor = Actor::new(
            COMPACTOR,
            CLIENTS,
            self.targets.subscribe(),
            CALL_TIME,
            recorder.clone(),
            shared.clone(),
            dice.fork(COMPACTOR),
        );
        let (seen, stop) = (first.reached.clone(), self.stop_clients.subscribe());
        self.clients.push(tokio::spawn(compact(actor, seen, stop)));
    }

    /// Stops the clients and waits for the calls they are in.
    pub async fn stop_clients(&mut self) {
        let _ = self.stop_clients.send(true);
        for client in self.clients.drain(..) {
            // A client is never longer in a call than its deadlines.
            let _ = timeout(CALL_TIME * 4, client).await;
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = (self.stop_clients.send(true), self.stop_watchers.send(true));
        self.clients.iter().for_each(JoinHandle::abort);
        self.watchers
            .iter()
            .for_each(|(_, watcher)| watcher.abort());
    }
}

/// What the streams of a run ask for. The first sees everything.
fn specs(workload: Workload) -> Vec<WatchSpec> {
    let spec = |prefix: &str, start| WatchSpec {
        prefix: prefix.into(),
        start,
        prev_kv: true,
        no_put: false,
        no_delete: false,
        progress: true,
    };
    let mut specs = vec![spec("", 1), spec("", 0)];
    match workload {
        Workload::Register => specs.push(spec("reg/", 1)),
        Workload::Append => specs.push(spec("list/", 2)),
        Workload::Watch => {
            specs.extend([
                spec("w/0/", 1),
                spec("w/1/", 0),
                spec("w/", 30),
                spec("w/2/1", 1),
            ]);
            specs.push(WatchSpec {
                no_put: true,
                ..spec("w/", 1)
            });
            specs.push(WatchSpec {
                no_delete: true,
                prev_kv: false,
                ..spec("w/", 1)
            });
        }
        Workload::Set | Workload::Lease => {}
    }
    specs
}

/// Waits until all is well and asks everybody for everything.
async fn finish(
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

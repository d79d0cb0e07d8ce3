//! How long a cluster does less than it should when its leading master goes away.
//!
//! The master that goes leads the store and holds the Leases of controllers and scheduler. Meanwhile
//! writes, new pods and changes of a Deployment are sent at a steady beat to every master that is
//! connected, whether or not earlier ones were answered, so that a gap is the cluster's and not that of a
//! client waiting for its time-out. What counts is the longest time between two successes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench::masters::{Cluster, Target};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::Options;
use crate::drive::{Masters, Setting, insist};
use crate::http::{Connection, Request};
use crate::objects::{self, DEPLOYMENTS, Kind, PODS};
use crate::report::{Results, Wanted};

/// Between two writes, two pods, two changes of the Deployment: gaps are known as exactly, and a machine
/// of two cores has most of its time left.
const WRITES: Duration = Duration::from_millis(10);
const CREATIONS: Duration = Duration::from_millis(50);
const CHANGES: Duration = Duration::from_millis(100);
/// All run this long before the master goes, and after they go on.
const CALM: Duration = Duration::from_secs(1);
/// Steady enough to count as going on.
const STEADY: Duration = Duration::from_millis(400);
/// The round has failed when there is a gap of this length.
const GAP_MAX: Duration = Duration::from_secs(60);
/// Requests unanswered for this long are given up.
const REQUEST_TIME: Duration = Duration::from_secs(5);
const IN_FLIGHT_MAX: usize = 500;
const RECONNECT: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(50);

const COUNTERS: &str = "/api/v1/namespaces/default/configmaps";
/// So many objects are written in turn, so that writes under way at several masters do not conflict.
const COUNTERS_COUNT: u64 = 100;
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// Runs the rounds: `kill-leader` by SIGKILL, `stop-leader` by SIGTERM.
pub(crate) async fn measure(
    options: &Options,
    name: &str,
    signal: Signal,
    results: &mut Results,
) -> Result<()> {
    ensure!(
        options.masters >= 3,
        "a master can only be missed where there are three"
    );
    let setting = Setting {
        // Room for the pods of a round that is slow to settle.
        hollow: 20,
        ..Setting::default()
    };
    let masters = Masters::start(options, &setting).await?;
    let counters = (0..COUNTERS_COUNT).map(|at| {
        let body = format!(r#"{{"metadata":{{"name":"beat-{at}"}}}}"#);
        Request::post(COUNTERS, body)
    });
    let deployment = Request::post(DEPLOYMENTS, objects::deployment("beat", 1));
    masters.send_all(counters.chain([deployment])).await?;
    let mut gaps = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        let leader = gather(&masters.cluster).await?;
        let found = one(&masters.cluster, leader, signal, round).await?;
        eprintln!("  {name} {}: {found:.0?}", round + 1);
        for (gaps, gap) in gaps.iter_mut().zip(found) {
            gaps.push(gap);
        }
        recover(&masters.cluster, leader).await?;
    }
    let [writes, scheduled, reconciled] = gaps;
    let most = |kill, stop| match signal {
        Signal::SIGKILL => Wanted::AtMost(kill),
        _ => Wanted::AtMost(stop),
    };
    results.times(name, "writes resume", writes, most(1000.0, 100.0));
    // What a graceful stop may cost is said of writes alone.
    let later = match signal {
        Signal::SIGKILL => Wanted::AtMost(1500.0),
        _ => Wanted::Nothing,
    };
    results.times(name, "a pod is scheduled", scheduled, later);
    results.times(name, "a Deployment is reconciled", reconciled, later);
    Ok(())
}

// === the master that goes ===

/// Makes the master that holds the scheduler's Lease lead everything; yields its number.
async fn gather(cluster: &Cluster) -> Result<u16> {
    let began = Instant::now();
    loop {
        match try_gather(cluster).await {
            Ok(Some(leader)) => return Ok(leader),
            Err(error) if began.elapsed() > GAP_MAX => return Err(error),
            _ if began.elapsed() > GAP_MAX => bail!("no master comes to lead everything"),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// One step towards one leader; its number once it leads everything.
async fn try_gather(cluster: &Cluster) -> Result<Option<u16>> {
    let connection = any(cluster).await?;
    let leader = holder(&connection, "kube-scheduler").await?.0;
    let (controllers, transitions) = holder(&connection, "kube-controller-manager").await?;
    if controllers != leader {
        // To find itself the holder is to a candidate as if its term were over: it takes the Lease anew.
        let body = format!(
            r#"{{"spec":{{"holderIdentity":"master-{leader}_bench","leaseTransitions":{}}}}}"#,
            transitions + 1
        );
        let path = format!("{LEASES}/kube-controller-manager");
        insist(&connection, &Request::patch(&path, body)).await?;
        return Ok(None);
    }
    if store_leader(cluster)? != leader {
        let name = format!("master-{leader}");
        let _ = cluster
            .command(&["member", "move-leader", &name])
            .output()?;
        return Ok(None);
    }
    Ok(Some(leader))
}

/// The master that holds a Lease by a term of its own, and how often the Lease changed hands.
async fn holder(connection: &Connection, lease: &str) -> Result<(u16, u64)> {
    let request = Request::get(&format!("{LEASES}/{lease}"));
    let lease: Value = serde_json::from_slice(&connection.call(&request).await?.success()?)?;
    let identity = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let (process, term) = identity.split_once('_').context("nobody holds the Lease")?;
    ensure!(term != "bench", "the Lease was not taken yet");
    let number = process
        .strip_prefix("master-")
        .context("another holds the Lease")?;
    let transitions = lease["spec"]["leaseTransitions"].as_u64();
    Ok((number.parse()?, transitions.unwrap_or(0)))
}

fn store_leader(cluster: &Cluster) -> Result<u16> {
    let output = cluster.command(&["status", "-o", "json"]).output()?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let members = status["members"].as_array().context("no members")?;
    let leader = members.iter().find(|member| member["role"] == "leader");
    let endpoint = leader.and_then(|leader| leader["endpoint"].as_str());
    let endpoint = endpoint.context("no member leads")?;
    let is_there = |master: &u16| endpoint.ends_with(&format!(":{}", cluster.store_port(*master)));
    cluster
        .masters()
        .find(is_there)
        .context("an unknown member leads")
}

async fn any(cluster: &Cluster) -> Result<Connection> {
    for target in cluster.targets()? {
        if let Ok(connection) = Connection::open(&target).await {
            return Ok(connection);
        }
    }
    bail!("no master can be reached")
}

/// Brings a master back and waits until all are well.
async fn recover(cluster: &Cluster, master: u16) -> Result<()> {
    cluster.wait_down(master)?;
    cluster.start_master(master)?;
    let began = Instant::now();
    for target in cluster.targets()? {
        while !is_ready(&target).await {
            ensure!(began.elapsed() < GAP_MAX, "{} is not ready", target.address);
            tokio::time::sleep(LOOK).await;
        }
    }
    let connection = any(cluster).await?;
    insist(
        &connection,
        &Request::delete(&format!("{PODS}?labelSelector=color%3Dcolor-0")),
    )
    .await?;
    // Candidates of the new master become warm.
    tokio::time::sleep(3 * CALM).await;
    Ok(())
}

async fn is_ready(target: &Target) -> bool {
    let asked = async {
        let connection = Connection::open(target).await?;
        connection.call(&Request::get("/readyz")).await?.success()
    };
    let asked = tokio::time::timeout(REQUEST_TIME, asked).await;
    asked.is_ok_and(|answer| answer.is_ok())
}

// === a round ===

/// Successes as they come.
type Successes = Rc<RefCell<Vec<Instant>>>;

/// Writes, pods that are scheduled, changes that are reconciled.
async fn one(cluster: &Cluster, leader: u16, signal: Signal, round: u16) -> Result<[Duration; 3]> {
    let targets = cluster.targets()?;
    let survivor = targets
        .iter()
        .enumerate()
        .find(|(at, _)| at + 1 != usize::from(leader));
    let watching = Connection::open(survivor.context("nobody survives")?.1).await?;
    let all: [Successes; 3] = Default::default();
    let [writes, scheduled, reconciled] = &all;
    let slots: Vec<Slot> = targets.iter().map(|_| Rc::default()).collect();
    let mut tasks = Vec::new();
    for (target, slot) in targets.iter().zip(&slots) {
        tasks.push(spawn(keep(target.clone(), slot.clone())));
    }
    let prefix = format!("beat-{round}-");
    let write = |n| {
        let path = format!("{COUNTERS}/beat-{}", n % COUNTERS_COUNT);
        Request::patch(&path, format!(r#"{{"data":{{"n":"{n}"}}}}"#))
    };
    tasks.push(spawn(beat(
        WRITES,
        slots.clone(),
        write,
        Some(writes.clone()),
    )));
    let create = move |n| {
        let name = format!("{prefix}{n}");
        Request::post(PODS, objects::pod(&name, 0, Kind::Basic, 1))
    };
    tasks.push(spawn(beat(CREATIONS, slots.clone(), create, None)));
    let change = |n| {
        let body = format!(r#"{{"spec":{{"replicas":{}}}}}"#, 1 + n % 2);
        Request::patch(&format!("{DEPLOYMENTS}/beat"), body)
    };
    tasks.push(spawn(beat(CHANGES, slots, change, None)));
    let is_bound = |event: &[u8]| objects::is(event, "ADDED");
    let selector = "labelSelector=color%3Dcolor-0&fieldSelector=spec.nodeName!%3D";
    tasks.push(spawn(notice(
        watching.clone(),
        PODS,
        selector,
        is_bound,
        scheduled.clone(),
    )));
    let mut newest = 0;
    let is_news = move |event: &[u8]| {
        let observed = objects::field(event, "observedGeneration").unwrap_or(0);
        let is_newer = observed > newest;
        newest = newest.max(observed);
        is_newer
    };
    tasks.push(spawn(notice(
        watching,
        DEPLOYMENTS,
        "",
        is_news,
        reconciled.clone(),
    )));
    tokio::time::sleep(CALM).await;
    wait_steady(&all, Instant::now()).await?;
    let struck = Instant::now();
    cluster.signal(leader, signal)?;
    tokio::time::sleep(2 * CALM).await;
    wait_steady(&all, struck).await?;
    Ok(all.map(|successes| longest(&successes.borrow(), struck)))
}

/// Waits until everything goes on, after some moment.
async fn wait_steady(all: &[Successes; 3], since: Instant) -> Result<()> {
    loop {
        tokio::time::sleep(LOOK).await;
        let waiting = all
            .iter()
            .filter(|one| !is_steady(&one.borrow(), since))
            .count();
        if waiting == 0 {
            return Ok(());
        }
        let counts: Vec<usize> = all.iter().map(|one| one.borrow().len()).collect();
        ensure!(
            since.elapsed() < GAP_MAX,
            "{waiting} of writes, pods and Deployment do not go on; there were {counts:?}"
        );
    }
}

/// Whether there were successes without a gap for a while, all of it after some moment.
fn is_steady(successes: &[Instant], since: Instant) -> bool {
    let now = Instant::now();
    let Some(begin) = now.checked_sub(CALM / 2).filter(|begin| *begin > since) else {
        return false;
    };
    let first = successes.partition_point(|success| *success < begin);
    let mut last = begin;
    for success in successes[first..].iter().chain([&now]) {
        if success.saturating_duration_since(last) > STEADY {
            return false;
        }
        last = *success;
    }
    first < successes.len()
}

/// The longest time between two successes that ends after the strike.
fn longest(successes: &[Instant], struck: Instant) -> Duration {
    let gaps = successes.windows(2).filter(|pair| pair[1] > struck);
    gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

type Slot = Rc<RefCell<Option<Connection>>>;

/// Aborts its task when dropped.
struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn spawn(work: impl Future<Output = ()> + 'static) -> Guard {
    Guard(tokio::task::spawn_local(work))
}

/// Sends requests at a beat, in turn to every master that is connected.
async fn beat(
    period: Duration,
    slots: Vec<Slot>,
    request: impl Fn(u64) -> Request,
    successes: Option<Successes>,
) {
    let flying = Rc::new(());
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for number in 0_u64.. {
        ticks.tick().await;
        let up: Vec<&Slot> = slots
            .iter()
            .filter(|slot| slot.borrow().is_some())
            .collect();
        if up.is_empty() || Rc::strong_count(&flying) > IN_FLIGHT_MAX {
            continue;
        }
        let slot = up[number as usize % up.len()].clone();
        let Some(connection) = slot.borrow().clone() else {
            continue;
        };
        let (request, successes, flying) = (request(number), successes.clone(), flying.clone());
        tokio::task::spawn_local(async move {
            let _flying = flying;
            match tokio::time::timeout(REQUEST_TIME, connection.call(&request)).await {
                Ok(Ok(answer)) => {
                    if let Some(successes) = successes.filter(|_| answer.status.is_success()) {
                        successes.borrow_mut().push(Instant::now());
                    }
                }
                // A broken connection is replaced; a slow answer is not its end.
                Ok(Err(_)) => drop(slot.borrow_mut().take()),
                Err(_) => {}
            }
        });
    }
}

/// Keeps a master connected.
async fn keep(target: Target, slot: Slot) {
    loop {
        if slot.borrow().is_none()
            && let Ok(connection) = Connection::open(&target).await
        {
            *slot.borrow_mut() = Some(connection);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Notes when a watch shows what counts; it goes on at the same master, which stays.
async fn notice(
    connection: Connection,
    path: &'static str,
    selector: &'static str,
    mut counts: impl FnMut(&[u8]) -> bool,
    successes: Successes,
) {
    let Ok(mut events) = connection.watch(path, selector).await else {
        return;
    };
    while let Ok(true) = events
        .next(|event| {
            if counts(event) {
                successes.borrow_mut().push(Instant::now());
            }
        })
        .await
    {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_that_end_after_the_strike_count() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let successes = [at(0), at(300), at(310), at(400), at(410)];
        assert_eq!(longest(&successes, at(305)), Duration::from_millis(90));
        assert!(!is_steady(&successes, begin), "not long enough");
        let now = Instant::now();
        let steady: Vec<_> = (0..10)
            .filter_map(|n| now.checked_sub(Duration::from_millis(1000 - n * 100)))
            .collect();
        assert!(is_steady(&steady, now - Duration::from_secs(2)));
        assert!(
            !is_steady(&steady[..3], now - Duration::from_secs(2)),
            "they ended"
        );
    }
}

//! The longest time without a successful write when the leader goes away.
//!
//! Writes are sent at a steady beat to every member that is connected, whether or not earlier
//! ones were answered, so that the gap between two successes is the store's and not that of a
//! client waiting for its time-out.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::sys::signal::Signal;
use prost::Message;
use raft_store::pb::etcdserverpb::StatusResponse;

use crate::Options;
use crate::cluster::Cluster;
use crate::encode::{Encoder, key};
use crate::load::block_on;
use crate::report::{Better, Results};
use crate::wire::{Connection, Rpc};

/// Between two writes.
const BEAT: Duration = Duration::from_millis(2);
/// Writes run this long before the leader goes, and after the first success without it.
const CALM: Duration = Duration::from_secs(1);
/// Without a success for this long the round has failed.
const GAP_MAX: Duration = Duration::from_secs(30);
/// Writes unanswered for this long are given up.
const WRITE_TIME: Duration = Duration::from_secs(5);
const WRITES_IN_FLIGHT_MAX: usize = 4000;
const RECONNECT: Duration = Duration::from_millis(20);

/// The member that leads.
pub(crate) fn leader(cluster: &Cluster) -> Result<usize> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        for (member, endpoint) in cluster.endpoints.iter().enumerate() {
            if let Ok(true) = leads(endpoint) {
                return Ok(member);
            }
        }
        if Instant::now() > end {
            bail!("no member leads");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn leads(endpoint: &str) -> Result<bool> {
    block_on(async {
        let asked = async {
            let connection = Connection::open(endpoint).await?;
            connection
                .fetch(Rpc::Status, Encoder::default().empty())
                .await
        };
        let status = tokio::time::timeout(Duration::from_secs(2), asked).await??;
        let status = StatusResponse::decode(status)?;
        let id = status.header.map_or(0, |header| header.member_id);
        Ok(id != 0 && status.leader == id)
    })?
}

/// Runs the rounds of `kill-leader` or `stop-leader`.
pub(crate) fn measure(
    cluster: &mut Cluster,
    options: &Options,
    name: &str,
    results: &mut Results,
) -> Result<()> {
    let signal = if name == "kill-leader" {
        Signal::SIGKILL
    } else {
        Signal::SIGTERM
    };
    let mut gaps_ms = Vec::new();
    for round in 0..options.failovers {
        let leader = leader(cluster)?;
        let gap = one(cluster, leader, signal)?;
        eprintln!("  {name} {}: {:.0} ms", round + 1, gap.as_secs_f64() * 1e3);
        gaps_ms.push(gap.as_secs_f64() * 1e3);
        cluster.bring_up(leader)?;
        cluster.wait_serving(&[0, 1, 2])?;
        // Followers settle: a new leader must have heard of the member that came back.
        std::thread::sleep(CALM);
    }
    gaps_ms.sort_by(f64::total_cmp);
    let at = |share: f64| gaps_ms[((gaps_ms.len() - 1) as f64 * share).round() as usize];
    if gaps_ms.is_empty() {
        return Ok(());
    }
    let system = cluster.system.name();
    results.add(system, name, "gap p50", "ms", Better::Lower, at(0.5));
    results.add(system, name, "gap p99", "ms", Better::Lower, at(0.99));
    results.add(system, name, "gap max", "ms", Better::Lower, at(1.0));
    Ok(())
}

/// Successes as they come.
type Successes = Rc<RefCell<Vec<Instant>>>;

fn one(cluster: &mut Cluster, leader: usize, signal: Signal) -> Result<Duration> {
    block_on(async {
        let successes: Successes = Rc::default();
        let endpoints = cluster.endpoints.clone();
        let writer = tokio::task::spawn_local(beat(endpoints, successes.clone()));
        tokio::time::sleep(CALM).await;
        let struck = Instant::now();
        cluster.signal(leader, signal)?;
        let gap = loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let successes = successes.borrow();
            let after = successes
                .iter()
                .filter(|success| **success > struck)
                .count();
            let last = successes.last().copied();
            let calm = last.is_some_and(|last| last.elapsed() < CALM / 2);
            if struck.elapsed() > CALM * 3 && after > 0 && calm && !in_gap(&successes, struck) {
                break longest(&successes, struck);
            }
            if struck.elapsed() > GAP_MAX {
                writer.abort();
                return Err(anyhow!("no success for {GAP_MAX:?} after the leader went"));
            }
        };
        writer.abort();
        Ok(gap)
    })?
    .and_then(|gap| cluster.reap(leader).map(|()| gap))
}

/// Whether writes have not yet succeeded steadily for a while.
fn in_gap(successes: &[Instant], struck: Instant) -> bool {
    let Some(last) = successes.last() else {
        return true;
    };
    let from = successes.partition_point(|success| *success < struck.max(*last - CALM));
    successes[from..]
        .windows(2)
        .any(|pair| pair[1] - pair[0] > CALM / 2)
}

/// The longest time between two successes that ends after the strike.
fn longest(successes: &[Instant], struck: Instant) -> Duration {
    let gaps = successes.windows(2).filter(|pair| pair[1] > struck);
    gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

async fn beat(endpoints: Vec<String>, successes: Successes) {
    let slots: Vec<Slot> = endpoints.iter().map(|_| Rc::default()).collect();
    let keepers: Vec<Guard> = endpoints
        .into_iter()
        .zip(&slots)
        .map(|(endpoint, slot)| Guard(tokio::task::spawn_local(keep(endpoint, slot.clone()))))
        .collect();
    let flying = Rc::new(());
    let mut encoder = Encoder::default();
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for number in 0_u64.. {
        ticks.tick().await;
        if Rc::strong_count(&flying) > WRITES_IN_FLIGHT_MAX {
            continue;
        }
        let up: Vec<&Slot> = slots
            .iter()
            .filter(|slot| slot.borrow().is_some())
            .collect();
        if up.is_empty() {
            continue;
        }
        let slot = up[number as usize % up.len()].clone();
        let Some(connection) = slot.borrow().clone() else {
            continue;
        };
        let put = encoder.put(&key(b'f', number % 1000), b"beat");
        let (successes, flying) = (successes.clone(), flying.clone());
        tokio::task::spawn_local(async move {
            let _flying = flying;
            match tokio::time::timeout(WRITE_TIME, connection.call(Rpc::Put, put)).await {
                Ok(Ok(_)) => successes.borrow_mut().push(Instant::now()),
                // A broken connection is replaced; a refusal by a live member is not its end.
                Ok(Err(error)) if error.downcast_ref::<h2::Error>().is_some() => {
                    slot.borrow_mut().take();
                }
                _ => {}
            }
        });
    }
    drop(keepers);
}

type Slot = Rc<RefCell<Option<Connection>>>;

/// Aborts its task when dropped.
struct Guard(tokio::task::JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a member connected.
async fn keep(endpoint: String, slot: Slot) {
    loop {
        if slot.borrow().is_none()
            && let Ok(connection) = Connection::open(&endpoint).await
        {
            *slot.borrow_mut() = Some(connection);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

//! Ways to hurt a cluster, each with its healing.

mod disk;
mod partition;
mod process;

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{Cluster, System};
use crate::dice::Dice;
use crate::history::Recorder;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of one member, whichever.
    KillOne,
    /// `kill -9` of the leader.
    KillLeader,
    /// `kill -9` of all members at once.
    KillAll,
    /// SIGSTOP of one member, whichever.
    PauseOne,
    /// SIGSTOP of the leader.
    PauseLeader,
    /// SIGSTOP of all members but one.
    PauseMajority,
    /// The leader alone on its side; clients still reach everyone.
    IsolateLeader,
    /// One member alone on its side, whichever.
    IsolateOne,
    /// The leader with a minority, if there is one, else alone: everybody hears only their side.
    SplitHalves,
    /// One member is not heard by the others, but hears them.
    OneWay,
    /// The leader's links go and come many times a second.
    Flapping,
    /// One member's disk is full.
    DiskFull,
    /// One member is killed and its log ends in a half-written record.
    TornTail,
}

/// All faults.
pub const FAULTS: &[Fault] = &[
    Fault::KillOne,
    Fault::KillLeader,
    Fault::KillAll,
    Fault::PauseOne,
    Fault::PauseLeader,
    Fault::PauseMajority,
    Fault::IsolateLeader,
    Fault::IsolateOne,
    Fault::SplitHalves,
    Fault::OneWay,
    Fault::Flapping,
    Fault::DiskFull,
    Fault::TornTail,
];

impl Fault {
    /// Its name in scenarios and histories.
    pub fn name(self) -> &'static str {
        match self {
            Fault::KillOne => "kill-one",
            Fault::KillLeader => "kill-leader",
            Fault::KillAll => "kill-all",
            Fault::PauseOne => "pause-one",
            Fault::PauseLeader => "pause-leader",
            Fault::PauseMajority => "pause-majority",
            Fault::IsolateLeader => "isolate-leader",
            Fault::IsolateOne => "isolate-one",
            Fault::SplitHalves => "split-halves",
            Fault::OneWay => "one-way",
            Fault::Flapping => "flapping",
            Fault::DiskFull => "disk-full",
            Fault::TornTail => "torn-tail",
        }
    }

    /// Whether members need networks of their own.
    pub fn needs_networks(self) -> bool {
        matches!(
            self,
            Fault::IsolateLeader
                | Fault::IsolateOne
                | Fault::SplitHalves
                | Fault::OneWay
                | Fault::Flapping
        )
    }

    /// Whether members need small disks of their own.
    pub fn needs_disks(self) -> bool {
        self == Fault::DiskFull
    }

    /// Strikes and says whom.
    async fn strike(self, cluster: &mut Cluster, dice: &mut Dice) -> Result<Value> {
        let any = dice.below(cluster.size());
        let leader = cluster.leader().await.unwrap_or(any);
        match self {
            Fault::KillOne => process::kill(cluster, &[any])?,
            Fault::KillLeader => process::kill(cluster, &[leader])?,
            Fault::KillAll => {
                let all: Vec<usize> = (0..cluster.size()).collect();
                process::kill(cluster, &all)?;
            }
            Fault::PauseOne => cluster.pause(any)?,
            Fault::PauseLeader => cluster.pause(leader)?,
            Fault::PauseMajority => process::pause_all_but(cluster, any)?,
            Fault::IsolateLeader | Fault::Flapping => partition::isolate(cluster, leader)?,
            Fault::IsolateOne => partition::isolate(cluster, any)?,
            Fault::SplitHalves => partition::split(cluster, leader)?,
            Fault::OneWay => partition::silence(cluster, any)?,
            Fault::DiskFull => disk::fill(cluster, any)?,
            Fault::TornTail => disk::tear(cluster, any, dice)?,
        }
        Ok(json!({ "any": any, "leader": leader }))
    }

    /// Lets the fault last until `end`.
    async fn hold(self, cluster: &mut Cluster, dice: &mut Dice, end: Instant) -> Result<()> {
        if self != Fault::Flapping {
            sleep_until(end).await;
            return Ok(());
        }
        let mut cut = true;
        while Instant::now() < end {
            sleep(dice.exponential(Duration::from_millis(250))).await;
            if cut {
                cluster.network().heal()?;
            } else {
                let any = dice.below(cluster.size());
                let leader = cluster.leader().await.unwrap_or(any);
                partition::isolate(cluster, leader)?;
            }
            cut = !cut;
        }
        Ok(())
    }
}

/// Undoes every fault there may be.
///
/// # Errors
///
/// When a member cannot be started or a rule cannot be removed.
pub async fn heal(cluster: &mut Cluster) -> Result<()> {
    cluster.resume_all()?;
    cluster.network().heal()?;
    for member in 0..cluster.size() {
        disk::free(cluster, member)?;
        cluster.is_up(member);
    }
    cluster.start_all()?;
    Ok(())
}

/// Strikes with faults in turn until `end`; healed when it returns.
///
/// # Errors
///
/// When a fault could not be made or healed: a fault of the harness.
pub async fn torment(
    cluster: &mut Cluster,
    faults: &[Fault],
    dice: &mut Dice,
    recorder: &Recorder,
    end: Instant,
) -> Result<()> {
    const CALM: Duration = Duration::from_millis(1500);
    const FAULT: Duration = Duration::from_millis(2500);
    // Each strikes once, in an order of the seed's, before any strikes again.
    let mut order = faults.to_vec();
    for at in (1..order.len()).rev() {
        order.swap(at, dice.below(at + 1));
    }
    let mut turn = 0;
    loop {
        sleep(dice.exponential(CALM).max(CALM / 3)).await;
        let Some(fault) = order.get(turn).or_else(|| dice.pick(faults)).copied() else {
            sleep_until(end).await;
            break;
        };
        if Instant::now() >= end {
            break;
        }
        turn += 1;
        let whom = fault.strike(cluster, dice).await?;
        recorder.nemesis(fault.name(), whom);
        let lasts = dice.exponential(FAULT).max(FAULT / 3);
        let until = (Instant::now() + lasts).min(end);
        fault.hold(cluster, dice, until).await?;
        heal(cluster).await?;
        // Trireme clears its alarm itself.
        if fault.needs_disks() && matches!(cluster.system(), System::Etcd(_)) {
            disk::clear_alarms(cluster).await;
        }
        recorder.nemesis("heal", json!({ "fault": fault.name() }));
    }
    Ok(())
}

//! Ways to hurt a cluster, each with its healing.

mod disk;
pub mod membership;
mod partition;
mod process;

use std::time::Duration;

use anyhow::{Context, Result};
use membership::Leaving;
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
    /// The leader is not heard by the others, but hears them.
    MuteLeader,
    /// One member is not heard by the others, but hears them.
    MuteOne,
    /// The leader does not hear the others, but they hear it.
    DeafLeader,
    /// One member does not hear the others, but they hear it.
    DeafOne,
    /// The leader's links go and come many times a second.
    Flapping,
    /// One member's disk is full.
    DiskFull,
    /// One member is killed and its log ends in a half-written record.
    TornTail,
    /// One member loses its power, and with it whatever it did not sync.
    PowerOne,
    /// All members lose their power at once.
    PowerAll,
    /// The leader hands over to another member.
    MoveLeader,
    /// A member that works is replaced by a new one.
    ReplaceOne,
    /// The leader, which works, is replaced by a new member.
    ReplaceLeader,
    /// A member that is dead is replaced by a new one.
    ReplaceDead,
    /// A member that works is replaced by a new one, and the leader is killed meanwhile.
    ReplaceAmidCrash,
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
    Fault::MuteLeader,
    Fault::MuteOne,
    Fault::DeafLeader,
    Fault::DeafOne,
    Fault::Flapping,
    Fault::DiskFull,
    Fault::TornTail,
    Fault::PowerOne,
    Fault::PowerAll,
    Fault::MoveLeader,
    Fault::ReplaceOne,
    Fault::ReplaceLeader,
    Fault::ReplaceDead,
    Fault::ReplaceAmidCrash,
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
            Fault::MuteLeader => "mute-leader",
            Fault::MuteOne => "mute-one",
            Fault::DeafLeader => "deaf-leader",
            Fault::DeafOne => "deaf-one",
            Fault::Flapping => "flapping",
            Fault::DiskFull => "disk-full",
            Fault::TornTail => "torn-tail",
            Fault::PowerOne => "power-one",
            Fault::PowerAll => "power-all",
            Fault::MoveLeader => "move-leader",
            Fault::ReplaceOne => "replace-one",
            Fault::ReplaceLeader => "replace-leader",
            Fault::ReplaceDead => "replace-dead",
            Fault::ReplaceAmidCrash => "replace-amid-crash",
        }
    }

    /// Whether members need networks of their own.
    pub fn needs_networks(self) -> bool {
        matches!(
            self,
            Fault::IsolateLeader
                | Fault::IsolateOne
                | Fault::SplitHalves
                | Fault::MuteLeader
                | Fault::MuteOne
                | Fault::DeafLeader
                | Fault::DeafOne
                | Fault::Flapping
        )
    }

    /// Whether members need small disks of their own.
    pub fn needs_small_disks(self) -> bool {
        self == Fault::DiskFull
    }

    /// Whether members need disks of their own that can lose their power.
    pub fn needs_mortal_disks(self) -> bool {
        matches!(self, Fault::PowerOne | Fault::PowerAll)
    }

    /// Whether a place is needed where a new member can join.
    pub fn needs_spare(self) -> bool {
        matches!(
            self,
            Fault::ReplaceOne | Fault::ReplaceLeader | Fault::ReplaceDead | Fault::ReplaceAmidCrash
        )
    }

    /// Strikes and says whom.
    async fn strike(self, cluster: &mut Cluster, dice: &mut Dice) -> Result<Value> {
        let all = cluster.members();
        let any = *dice.pick(&all).context("a cluster without members")?;
        let leader = cluster.leader().await.unwrap_or(any);
        match self {
            Fault::KillOne => process::kill(cluster, &[any])?,
            Fault::KillLeader => process::kill(cluster, &[leader])?,
            Fault::KillAll => process::kill(cluster, &all)?,
            Fault::PauseOne => cluster.pause(any)?,
            Fault::PauseLeader => cluster.pause(leader)?,
            Fault::PauseMajority => process::pause_all_but(cluster, any)?,
            Fault::IsolateLeader | Fault::Flapping => partition::isolate(cluster, leader)?,
            Fault::IsolateOne => partition::isolate(cluster, any)?,
            Fault::SplitHalves => partition::split(cluster, leader)?,
            Fault::MuteLeader => partition::mute(cluster, leader)?,
            Fault::MuteOne => partition::mute(cluster, any)?,
            Fault::DeafLeader => partition::deafen(cluster, leader)?,
            Fault::DeafOne => partition::deafen(cluster, any)?,
            Fault::DiskFull => disk::fill(cluster, any)?,
            Fault::TornTail => disk::tear(cluster, any, dice)?,
            Fault::PowerOne => cluster.power_off(&[any])?,
            Fault::PowerAll => cluster.power_off(&all)?,
            Fault::MoveLeader => membership::hand_over(cluster, any).await?,
            Fault::ReplaceOne => membership::replace(cluster, any, Leaving::Alive).await?,
            Fault::ReplaceLeader => membership::replace(cluster, leader, Leaving::Alive).await?,
            Fault::ReplaceDead => membership::replace(cluster, any, Leaving::Dead).await?,
            Fault::ReplaceAmidCrash => membership::replace_amid_crash(cluster, any).await?,
        }
        Ok(json!({ "any": any, "leader": leader }))
    }

    /// Whether it is over as soon as it has struck: nothing has to be healed.
    fn is_over(self) -> bool {
        self.needs_spare() || self == Fault::MoveLeader
    }

    /// Lets the fault last until `end`.
    async fn hold(self, cluster: &mut Cluster, dice: &mut Dice, end: Instant) -> Result<()> {
        if self.is_over() {
            return Ok(());
        }
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
                let all = cluster.members();
                let any = dice.pick(&all).copied().unwrap_or_default();
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
    for member in cluster.members() {
        disk::free(cluster, member)?;
        cluster.is_up(member);
    }
    cluster.start_all()?;
    Ok(())
}

/// Strikes with faults in turn until `end`, `pace` times as fast as is usual; healed when it
/// returns.
///
/// # Errors
///
/// When a fault could not be made or healed: a fault of the harness.
pub async fn torment(
    cluster: &mut Cluster,
    faults: &[Fault],
    dice: &mut Dice,
    recorder: &Recorder,
    pace: u32,
    end: Instant,
) -> Result<()> {
    let mean_calm = Duration::from_millis(1500) / pace;
    let mean_fault = Duration::from_millis(2500) / pace;
    // Each strikes once, in an order of the seed's, before any strikes again.
    let mut order = faults.to_vec();
    for at in (1..order.len()).rev() {
        order.swap(at, dice.below(at + 1));
    }
    let mut turn = 0;
    loop {
        let mut calm = dice.exponential(mean_calm).max(mean_calm / 3);
        if turn == 0 {
            // A short run too must be hurt.
            calm = calm.min((end - Instant::now()) / 4);
        }
        sleep_until((Instant::now() + calm).min(end)).await;
        let Some(fault) = order.get(turn).or_else(|| dice.pick(faults)).copied() else {
            sleep_until(end).await;
            break;
        };
        // Changes that take their time on a slow machine are all made.
        let owed = turn < order.len() && fault.is_over();
        if Instant::now() >= end && !owed {
            break;
        }
        turn += 1;
        let whom = fault.strike(cluster, dice).await?;
        recorder.nemesis(fault.name(), whom);
        let lasts = dice.exponential(mean_fault).max(mean_fault / 3);
        let until = (Instant::now() + lasts).min(end);
        fault.hold(cluster, dice, until).await?;
        heal(cluster).await?;
        // Trireme clears its alarm itself.
        if fault.needs_small_disks() && matches!(cluster.system(), System::Etcd(_)) {
            disk::clear_alarms(cluster).await;
        }
        recorder.nemesis("heal", json!({ "fault": fault.name() }));
    }
    Ok(())
}

//! Every planted bug of the store is caught, by a checker that is named here, within a bounded
//! number of seeds: what says that green simulations mean something.

use std::time::Duration;

use chaos::workloads::Workload;
use raft_store::mutants::Mutants;

use crate::plan::{Fault, Plan};
use crate::trace::Detail;
use crate::world;

/// A bug, and what must notice it.
struct Mutant {
    plant: fn(&mut Mutants),
    /// The conditions under which it shows: a workload and faults.
    workload: Workload,
    faults: &'static [Fault],
    /// Mean time between two faults, in milliseconds.
    between_ms: u64,
    /// How many clients, and their mean pause in milliseconds.
    clients: (u64, u64),
    /// Beginnings of the problems that count as caught.
    caught_by: &'static [&'static str],
}

/// Faults leave room for the load between them.
const SELDOM: u64 = 500;

/// The load under which most bugs show.
const FEW: (u64, u64) = (5, 20);

/// Seeds that a bug may need.
const SEEDS_MAX: u64 = 60;

impl Mutant {
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::new(seed, 3);
        plan.workload = self.workload;
        plan.faults = self.faults.to_vec();
        plan.between = Duration::from_millis(self.between_ms);
        plan.span = Duration::from_secs(4);
        plan.clients = self.clients.0;
        plan.pause = Duration::from_millis(self.clients.1);
        plan.checkpoint_log_bytes = 1 << 10;
        plan.log_entries_kept = 3;
        plan
    }

    /// The first seed that catches the bug, with what was said.
    fn hunt(&self) -> Option<(u64, String)> {
        (1..=SEEDS_MAX).find_map(|seed| {
            let mut plan = self.plan(seed);
            (self.plant)(&mut plan.mutants);
            let found = world::run(&plan, Detail::Votes);
            let caught = |problem: &&String| {
                let mut by = self.caught_by.iter();
                by.any(|by| problem.starts_with(by))
            };
            let caught = found.problems.iter().find(caught)?;
            Some((seed, caught.clone()))
        })
    }

    fn is_caught(&self) {
        let caught = self.hunt();
        let (seed, problem) = caught.unwrap_or_else(|| {
            panic!(
                "not caught by {:?} within {SEEDS_MAX} seeds",
                self.caught_by
            )
        });
        let problem: String = problem.chars().take(200).collect();
        println!("caught with seed {seed} by {problem}");
        let sound = world::run(&self.plan(seed), Detail::Votes);
        assert!(
            sound.problems.is_empty(),
            "seed {seed} without the bug: {:?}",
            sound.problems
        );
    }
}

#[test]
fn simulation_mutants_are_caught_stale_read_on_a_follower() {
    Mutant {
        plant: |mutants| mutants.local_follower_reads = true,
        workload: Workload::Register,
        faults: &[Fault::IsolateLeader, Fault::Split, Fault::Delay],
        between_ms: SELDOM,
        clients: FEW,
        caught_by: &["certificate", "wgl"],
    }
    .is_caught();
}

#[test]
fn simulation_mutants_are_caught_reused_read_index() {
    Mutant {
        plant: |mutants| mutants.reused_read_index = true,
        workload: Workload::Register,
        faults: &[Fault::Delay, Fault::SlowDisk, Fault::Stall],
        // A read must begin in the moment between a write's answer and the end of a round that
        // began before that write, on a member that has not heard of it yet.
        between_ms: SELDOM,
        clients: (30, 1),
        caught_by: &["certificate", "wgl"],
    }
    .is_caught();
}

#[test]
fn simulation_mutants_are_caught_entries_not_synced() {
    Mutant {
        plant: |mutants| mutants.wal.skip_entry_sync = true,
        workload: Workload::Set,
        faults: &[Fault::CrashAll],
        between_ms: SELDOM,
        clients: FEW,
        caught_by: &["certificate", "set", "invariant"],
    }
    .is_caught();
}

#[test]
fn simulation_mutants_are_caught_votes_not_synced() {
    Mutant {
        plant: |mutants| mutants.wal.skip_vote_sync = true,
        workload: Workload::Set,
        faults: &[Fault::CrashAll, Fault::CrashLeader, Fault::CrashOne],
        // Crashes in the midst of elections.
        between_ms: 150,
        clients: FEW,
        caught_by: &[
            "invariant vote",
            "invariant two-leaders",
            "invariant log-matching",
        ],
    }
    .is_caught();
}

#[test]
fn simulation_mutants_are_caught_acknowledged_before_a_quorum_has_it() {
    Mutant {
        plant: |mutants| mutants.ack_before_quorum = true,
        workload: Workload::Set,
        faults: &[Fault::IsolateLeader, Fault::CrashLeader],
        between_ms: SELDOM,
        clients: FEW,
        caught_by: &["certificate", "set"],
    }
    .is_caught();
}

#[test]
fn simulation_mutants_are_caught_log_purged_before_the_database_is_flushed() {
    Mutant {
        plant: |mutants| mutants.purge_before_flush = true,
        workload: Workload::Set,
        faults: &[Fault::CrashOne, Fault::CrashAll],
        between_ms: SELDOM,
        clients: FEW,
        caught_by: &[
            "invariant",
            "start",
            "liveness",
            "panic",
            "certificate",
            "set",
        ],
    }
    .is_caught();
}

#[test]
fn simulation_mutants_are_caught_event_dropped_on_resume() {
    Mutant {
        plant: |mutants| mutants.watch.drop_on_resume = true,
        workload: Workload::Watch,
        faults: &[Fault::CutClients],
        between_ms: SELDOM,
        clients: FEW,
        caught_by: &["watch"],
    }
    .is_caught();
}

#[test]
fn simulation_mutants_are_caught_wiped_member_keeps_its_identity() {
    Mutant {
        plant: |mutants| mutants.wiped_member_keeps_identity = true,
        workload: Workload::Set,
        faults: &[Fault::Replace, Fault::CrashLeader, Fault::Split],
        between_ms: SELDOM,
        clients: FEW,
        caught_by: &["invariant", "certificate", "set", "panic"],
    }
    .is_caught();
}

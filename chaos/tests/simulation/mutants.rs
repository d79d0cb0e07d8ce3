//! Every planted bug of the store is caught, by a checker that is named here, within a bounded
//! number of seeds: what says that green simulations mean something.
//!
//! `cargo nextest run -p chaos --features mutants mutants_are_caught`

use std::time::Duration;

use chaos::workloads::Workload;
use raft_store::mutants::Mutants;

use crate::plan::{Fault, Plan};
use crate::trace::Detail;
use crate::world;

/// A bug, the seeds that may be needed, and what must notice it.
struct Row {
    name: &'static str,
    plant: fn(&mut Mutants),
    /// The conditions under which it shows: a workload and faults.
    workload: Workload,
    faults: &'static [Fault],
    /// Beginnings of the problems that count as caught.
    caught_by: &'static [&'static str],
}

const SEEDS_MAX: u64 = 30;

const TABLE: &[Row] = &[
    Row {
        name: "local stale read on a follower",
        plant: |mutants| mutants.local_follower_reads = true,
        workload: Workload::Register,
        faults: &[Fault::IsolateLeader, Fault::Split, Fault::Delay],
        caught_by: &["certificate", "wgl"],
    },
    Row {
        name: "reused read index",
        plant: |mutants| mutants.reused_read_index = true,
        workload: Workload::Register,
        faults: &[Fault::Delay],
        caught_by: &["certificate", "wgl"],
    },
    Row {
        name: "no fsync of entries",
        plant: |mutants| mutants.wal.skip_entry_sync = true,
        workload: Workload::Set,
        faults: &[Fault::CrashAll],
        caught_by: &["certificate", "set", "invariant"],
    },
    Row {
        name: "no fsync of votes",
        plant: |mutants| mutants.wal.skip_vote_sync = true,
        workload: Workload::Set,
        faults: &[Fault::CrashAll, Fault::CrashLeader, Fault::CrashOne],
        caught_by: &[
            "invariant vote",
            "invariant two-leaders",
            "invariant log-matching",
        ],
    },
    Row {
        name: "acknowledged before a quorum has it",
        plant: |mutants| mutants.ack_before_quorum = true,
        workload: Workload::Set,
        faults: &[Fault::IsolateLeader, Fault::CrashLeader],
        caught_by: &["certificate", "set"],
    },
    Row {
        name: "log purged before the database is flushed",
        plant: |mutants| mutants.purge_before_flush = true,
        workload: Workload::Set,
        faults: &[Fault::CrashOne, Fault::CrashAll],
        caught_by: &[
            "invariant",
            "start",
            "liveness",
            "panic",
            "certificate",
            "set",
        ],
    },
    Row {
        name: "watch that drops an event on resume",
        plant: |mutants| mutants.watch.drop_on_resume = true,
        workload: Workload::Watch,
        faults: &[Fault::CutClients],
        caught_by: &["watch"],
    },
    Row {
        name: "wiped member that keeps its identity",
        plant: |mutants| mutants.wiped_member_keeps_identity = true,
        workload: Workload::Set,
        faults: &[Fault::Replace, Fault::CrashLeader, Fault::Split],
        caught_by: &["invariant", "certificate", "set", "panic"],
    },
];

/// The first seed that catches a bug, with what was said.
fn hunt(row: &Row) -> Option<(u64, String)> {
    (1..=SEEDS_MAX).find_map(|seed| {
        let mut plan = Plan::new(seed, 3);
        plan.workload = row.workload;
        plan.faults = row.faults.to_vec();
        plan.between = Duration::from_millis(500);
        plan.span = Duration::from_secs(4);
        plan.pause = Duration::from_millis(20);
        plan.clients = 5;
        plan.checkpoint_log_bytes = 1 << 10;
        plan.log_entries_kept = 3;
        (row.plant)(&mut plan.mutants);
        let found = world::run(&plan, Detail::Votes);
        let caught = |problem: &&String| row.caught_by.iter().any(|by| problem.starts_with(by));
        let caught = found.problems.iter().find(caught)?;
        Some((seed, caught.clone()))
    })
}

#[test]
fn simulation_mutants_are_caught() {
    let only = std::env::var("SIM_MUTANT").unwrap_or_default();
    let mut survivors = Vec::new();
    for row in TABLE.iter().filter(|row| row.name.contains(&only)) {
        match hunt(row) {
            Some((seed, problem)) => {
                let problem: String = problem.chars().take(200).collect();
                println!("{}: caught with seed {seed} by {problem}", row.name);
            }
            None => survivors.push(row.name),
        }
    }
    assert!(
        survivors.is_empty(),
        "not caught within {SEEDS_MAX} seeds: {survivors:?}"
    );
}

//! The store in a simulated world: members, network, disks and clients of one process, hurt by
//! seed, with Raft's invariants looked at after every step and the clients' histories checked.
//!
//! `SIM_SEED=7` runs one seed with its log; `SIM_SEEDS=100..200` runs others than usual.
#![allow(
    clippy::disallowed_methods,
    reason = "the harness is outside of the simulation"
)]
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a test, not a library"
)]

mod cluster;
mod invariants;
#[cfg(feature = "mutants")]
mod mutants;
mod nemesis;
mod plan;
mod trace;
mod verdict;
mod world;

use std::ops::Range;

use plan::Plan;

/// The seeds of one test: `count` from `first` on, unless the environment names others.
fn seeds(first: u64, count: u64) -> Range<u64> {
    let read = |name| std::env::var(name).ok();
    if let Some(seed) = read("SIM_SEED").and_then(|seed| seed.parse().ok()) {
        return seed..seed + 1;
    }
    let named = read("SIM_SEEDS").and_then(|named| {
        let (from, to) = named.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    named.unwrap_or(first..first + count)
}

/// Runs seeds; panics with all that failed.
fn run(members: usize, seeds: Range<u64>) {
    let alone = seeds.end - seeds.start == 1;
    let mut failures = String::new();
    for seed in seeds {
        let plan = Plan::new(seed, members);
        let found = world::run(
            &plan,
            if alone {
                trace::Detail::Shown
            } else {
                trace::Detail::Votes
            },
        );
        if alone || !found.problems.is_empty() || std::env::var_os("SIM_VERBOSE").is_some() {
            println!("{found}");
        }
        if !found.problems.is_empty() {
            let problem = &found.problems[0];
            failures.push_str(&format!("\nSIM_SEED={seed} ({members} members): {problem}"));
        }
    }
    assert!(failures.is_empty(), "seeds that failed:{failures}");
}

const PER_TEST: u64 = 10;

#[test]
fn simulation_of_three_members_a() {
    run(3, seeds(0, PER_TEST));
}

#[test]
fn simulation_of_three_members_b() {
    run(3, seeds(1000, PER_TEST));
}

#[test]
fn simulation_of_three_members_c() {
    run(3, seeds(2000, PER_TEST));
}

#[test]
fn simulation_of_five_members_a() {
    run(5, seeds(5000, PER_TEST / 2));
}

#[test]
fn simulation_of_five_members_b() {
    run(5, seeds(6000, PER_TEST / 2));
}

#[test]
fn simulation_replays_from_its_seed_byte_for_byte() {
    for seed in seeds(7, 2) {
        let mut plan = Plan::new(seed, 3);
        plan.span = std::time::Duration::from_secs(3);
        let first = world::run(&plan, trace::Detail::Full);
        let second = world::run(&plan, trace::Detail::Full);
        assert!(first.trace.len() > 2_000, "{} lines", first.trace.len());
        trace::assert_same(&first.trace, &second.trace);
    }
}

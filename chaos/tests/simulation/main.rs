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
mod mutants;
mod nemesis;
mod plan;
mod situations;
mod trace;
mod verdict;
mod world;

use std::ops::Range;

use plan::{FAULTS, Fault, Plan};
use situations::Situations;

/// The seeds that the environment names instead of a test's own.
fn named_seeds() -> Option<Range<u64>> {
    let read = |name| std::env::var(name).ok();
    if let Some(seed) = read("SIM_SEED").and_then(|seed| seed.parse().ok()) {
        return Some(seed..seed + 1);
    }
    let named = read("SIM_SEEDS")?;
    let (from, to) = named.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// Runs seeds; panics with all that failed, or when they did not meet every situation.
fn run(members: usize, seeds: Range<u64>) {
    let named = named_seeds();
    let alone = named
        .as_ref()
        .is_some_and(|seeds| seeds.end - seeds.start == 1);
    let (detail, verbose) = match alone {
        true => (trace::Detail::Shown, true),
        false => (
            trace::Detail::Votes,
            std::env::var_os("SIM_VERBOSE").is_some(),
        ),
    };
    let mut failures = String::new();
    let mut situations = Situations::default();
    for seed in named.clone().unwrap_or(seeds) {
        let found = world::run(&Plan::new(seed, members), detail);
        if verbose || !found.problems.is_empty() {
            println!("{found}");
        }
        if let Some(problem) = found.problems.first() {
            failures.push_str(&format!("\nSIM_SEED={seed} ({members} members): {problem}"));
        }
        situations.merge(&found.situations);
    }
    println!("situations:\n{situations}");
    assert!(failures.is_empty(), "seeds that failed:{failures}");
    let missing = situations.missing(FAULTS.iter().copied().map(Fault::name));
    assert!(
        missing.is_empty() || named.is_some(),
        "no seed met: {missing:?}"
    );
}

const PER_TEST: u64 = 60;

#[test]
fn simulation_of_three_members_a() {
    run(3, 0..PER_TEST);
}

#[test]
fn simulation_of_three_members_b() {
    run(3, 1000..1000 + PER_TEST);
}

#[test]
fn simulation_of_three_members_c() {
    run(3, 2000..2000 + PER_TEST);
}

#[test]
fn simulation_of_five_members_a() {
    run(5, 5000..5000 + PER_TEST);
}

#[test]
fn simulation_of_five_members_b() {
    run(5, 6000..6000 + PER_TEST);
}

#[test]
fn simulation_replays_from_its_seed_byte_for_byte() {
    for seed in named_seeds().unwrap_or(7..13) {
        let mut plan = Plan::new(seed, 3);
        plan.span = std::time::Duration::from_secs(3);
        let first = world::run(&plan, trace::Detail::Full);
        let second = world::run(&plan, trace::Detail::Full);
        assert!(first.trace.len() > 2_000, "{} lines", first.trace.len());
        trace::assert_same(&first.trace, &second.trace);
    }
}

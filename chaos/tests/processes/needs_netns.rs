//! Partitions: every member in a network namespace of its own, links cut by packet filters.
//! Clients reach everybody, so that members that know less than others are asked.
//!
//! The namespaces belong to a process that is in a namespace of its own; with it they go,
//! whatever ends it.

use crate::harness::run;

#[test]
fn cluster_split_into_majority_and_minority() {
    run("register-split-halves", 5, 1)
        .with(&["--members", "5"])
        .must_be_valid();
}

#[test]
fn cluster_with_an_isolated_leader() {
    run("append-isolate-leader", 5, 2).must_be_valid();
}

#[test]
fn cluster_with_a_leader_that_is_not_heard() {
    run("watch-mute-leader", 5, 3).must_be_valid();
}

#[test]
fn cluster_with_a_leader_that_does_not_hear() {
    run("register-deaf-leader", 5, 4).must_be_valid();
}

#[test]
fn cluster_with_flapping_links() {
    run("watch-flapping", 5, 5).must_be_valid();
}

#[test]
fn cluster_that_compacts_while_members_are_cut_off() {
    run("compaction-isolate-one", 5, 6).must_be_valid();
}

#[test]
#[ignore = "forty minutes: make soak"]
fn soak_partitions() {
    for seed in 0..3 {
        for workload in ["register", "append", "set", "watch", "lease", "compaction"] {
            run(&format!("{workload}-partitions"), 60, seed).must_be_valid();
            run(&format!("{workload}-partitions"), 60, seed)
                .with(&["--members", "5"])
                .must_be_valid();
        }
    }
}

#[test]
#[ignore = "twenty minutes: make soak"]
fn soak_needs_loops_everything() {
    for seed in 0..3 {
        for workload in ["register", "append", "set", "watch", "lease", "compaction"] {
            run(&format!("{workload}-mixed"), 60, seed).must_be_valid();
        }
    }
}

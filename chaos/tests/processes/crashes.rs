//! Members killed one by one and all at once, logs with a torn tail, full disks, power cuts. Every
//! acknowledged write must be there afterwards, no revision may go back, and the members' hashes
//! must agree.

use crate::harness::run;

/// A short run in which the fault strikes several times.
#[track_caller]
fn repeatedly(scenario: &str, seed: u64) {
    run(scenario, 5, seed)
        .with(&["--pace", "3"])
        .must_be_valid();
}

#[test]
fn a_cluster_survives_kills_of_single_members() {
    repeatedly("set-kill-one", 1);
}

#[test]
fn a_cluster_survives_kills_of_its_leaders() {
    repeatedly("append-kill-leader", 2);
}

#[test]
fn a_cluster_survives_kills_of_all_members() {
    repeatedly("watch-kill-all", 3);
}

#[test]
fn a_cluster_survives_torn_logs() {
    repeatedly("set-torn-tail", 4);
}

#[test]
fn needs_loops_cluster_survives_power_cuts_of_all_members() {
    repeatedly("set-power-all", 5);
}

#[test]
fn needs_netns_cluster_survives_full_disks() {
    run("set-disk-full", 10, 5).must_be_valid();
}

#[test]
#[ignore = "half an hour: make soak"]
fn soak_crashes() {
    for seed in 0..5 {
        for workload in ["set", "append", "register", "watch", "lease", "compaction"] {
            run(&format!("{workload}-crashes"), 60, seed).must_be_valid();
        }
    }
}

#[test]
#[ignore = "ten minutes: make soak"]
fn soak_needs_loops_power_cuts() {
    for seed in 0..5 {
        run("set-power-all", 60, seed).must_be_valid();
        run("append-power-one", 60, seed).must_be_valid();
    }
}

#[test]
#[ignore = "ten minutes: make soak"]
fn soak_needs_netns_full_disks() {
    for seed in 0..5 {
        run("set-disk-full", 60, seed).must_be_valid();
        run("append-disk-full", 60, seed).must_be_valid();
    }
}

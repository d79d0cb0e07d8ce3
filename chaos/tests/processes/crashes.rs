//! Members killed one by one and all at once, logs with a torn tail, full disks, power cuts. Every
//! acknowledged write must be there afterwards, no revision may go back, and the members' hashes
//! must agree.

use crate::harness::run;

#[test]
fn a_cluster_survives_kills_of_single_members() {
    run("set-kill-one", 5, 1).must_be_valid();
}

#[test]
fn a_cluster_survives_kills_of_its_leaders() {
    run("append-kill-leader", 5, 2).must_be_valid();
}

#[test]
fn a_cluster_survives_kills_of_all_members() {
    run("watch-kill-all", 5, 3).must_be_valid();
}

#[test]
fn a_cluster_survives_torn_logs() {
    run("set-torn-tail", 5, 4).must_be_valid();
}

#[test]
fn needs_loops_cluster_survives_power_cuts_of_all_members() {
    run("set-power-all", 5, 5).must_be_valid();
}

#[test]
fn needs_netns_cluster_survives_full_disks() {
    run("set-disk-full", 12, 5).must_be_valid();
}

#[test]
#[ignore = "an hour: make soak"]
fn soak_crashes() {
    for seed in 0..10 {
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

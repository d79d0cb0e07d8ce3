//! Members join as learners, get a vote, leave and are replaced, and leaders hand over, while
//! clients write.

use crate::harness::run;

#[test]
fn a_cluster_keeps_its_promises_while_members_come_and_go() {
    let changes = [
        "move-leader",
        "replace-one",
        "replace-leader",
        "replace-dead",
        "replace-amid-crash",
    ];
    run("append-churn", 8, 1)
        .with(&["--pace", "3"])
        .must_be_valid()
        .must_have_met(&changes);
}

#[test]
#[ignore = "twenty minutes: make soak"]
fn soak_churn() {
    for seed in 0..3 {
        for workload in ["register", "append", "set", "watch", "lease", "compaction"] {
            run(&format!("{workload}-churn"), 60, seed).must_be_valid();
        }
    }
}

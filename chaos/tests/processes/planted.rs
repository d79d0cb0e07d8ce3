//! Every checker finds a fault that was planted into a run of real processes. CONTRIBUTING.md
//! has the table.

use chaos::checkers::Verdict::{Invalid, Unknown};

use crate::harness::run;

#[test]
fn needs_netns_cluster_with_stale_reads_false_refusals_and_one_hash_of_the_past() {
    run("register-isolate-one", 5, 2)
        .with(&["--plant", "stale-reads,false-refusal,old-hash"])
        .outcome()
        .must_say("certificate", Invalid, "stale-read")
        .must_say("certificate", Invalid, "refused-write-happened")
        .must_say("wgl", Invalid, "not-linearizable")
        .must_say("agreement", Invalid, "hashes-differ");
}

#[test]
fn needs_loops_cluster_that_syncs_nothing() {
    run("set-power-all", 5, 1)
        .with(&["--plant", "no-sync"])
        .outcome()
        .must_say("set", Invalid, "lost-element")
        .must_say("certificate", Invalid, "lost-write");
}

#[test]
fn cluster_with_blind_retries_late_watchers_a_forgetful_and_a_dying_member() {
    let plants = "blind-retry,late-resume,amnesia,sudden-death,idle-nemesis";
    run("append-kill-one", 5, 1)
        .with(&["--plant", plants])
        .outcome()
        .must_say("append", Invalid, "duplicate-element")
        .must_say("certificate", Invalid, "phantom-write")
        .must_say("watch", Invalid, "lost-on-resume")
        .must_say("agreement", Invalid, "members-disagree")
        .must_say("process", Invalid, "crash")
        .must_say("coverage", Unknown, "");
}

#[test]
fn cluster_with_leases_that_end_early_and_late() {
    run("lease-none", 5, 1)
        .with(&["--plant", "deaf-lessor,long-leases"])
        .outcome()
        .must_say("lease", Invalid, "early-expiry")
        .must_say("lease", Invalid, "late-expiry");
}

//! Whatever runs pods: its stories, told beside each other on one cluster of three masters.

mod autoscalers;
mod cronjobs;
mod daemonsets;
mod deployments;
mod jobs;
mod nodes;
mod statefulsets;

use crate::support::Dev;
use crate::support::stories::tell;

#[test]
fn workloads_are_run_as_users_ask() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::with_nodes(dir.path(), 10);
    let kubectl = dev.kubectl();
    nodes::set_apart(&kubectl, "drained", &["node-4", "node-5"]);
    nodes::set_apart(&kubectl, "failing", &["node-6", "node-7"]);
    nodes::set_apart(&kubectl, "full", &["node-8"]);
    tell(
        &kubectl,
        &[
            ("failures", nodes::fail_and_their_pods_move),
            ("cronjobs", cronjobs::make_jobs_when_they_are_due),
            ("autoscalers", autoscalers::keep_within_their_limits),
            ("backoff", jobs::give_up_after_enough_failures),
            ("drains", nodes::are_drained_within_budgets),
            ("priorities", nodes::make_room_for_what_matters),
            ("rollouts", deployments::roll_out_and_back),
            ("pauses", deployments::pause_and_scale),
            ("stuck", deployments::say_when_they_are_stuck),
            ("ordered", statefulsets::come_and_go_in_order),
            ("partitions", statefulsets::update_from_the_last_one_on),
            ("claims", statefulsets::keep_a_claim_for_each_replica),
            ("daemons", daemonsets::follow_the_nodes),
            ("completions", jobs::complete_as_often_as_asked),
            ("indexes", jobs::number_their_pods),
            ("policies", jobs::end_as_their_policies_say),
            ("suspension", jobs::wait_while_they_are_suspended),
        ],
    );
    dev.stop();
}

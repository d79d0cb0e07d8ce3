//! What the control plane keeps in order around the workloads: its stories, told beside each other on
//! one cluster of three masters.

mod applying;
mod garbage;
mod namespaces;
mod quotas;
mod services;

use std::time::Duration;

use crate::support::stories::tell;
use crate::support::{Dev, LoadBalancers};

/// How long what ends slowly may take.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn the_cluster_is_kept_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::with_nodes(dir.path(), 3);
    // Addresses that nobody has.
    let _balancers = LoadBalancers::start(&dev, "192.0.2.8-192.0.2.9");
    tell(
        &dev.kubectl(),
        &[
            ("background", garbage::goes_after_its_owner),
            ("foreground", garbage::goes_before_its_owner),
            ("orphans", garbage::is_left_behind_if_asked),
            ("endings", namespaces::end_with_all_that_is_in_them),
            ("quotas", quotas::are_kept_and_counted),
            ("limits", quotas::fill_in_what_is_not_said),
            ("endpoints", services::know_where_their_pods_are),
            ("balancers", services::get_addresses_from_the_pool),
            ("applying", applying::compares_and_changes),
            ("events", applying::is_told_of_in_events),
        ],
    );
    dev.stop();
}

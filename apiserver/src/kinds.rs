//! The strategies of the built-in kinds: a file each, or one for a few that are alike.

pub(crate) mod apps;
pub(crate) mod batch;
pub mod facts;
pub mod ip;
pub(crate) mod pod;

use crate::registry::Strategy;
use crate::registry::strategy::dns_label;

/// Nothing of its own.
struct Plain;

impl Strategy for Plain {}

struct Namespace;

impl Strategy for Namespace {
    fn name_errors(&self, name: &str, is_prefix: bool) -> Vec<String> {
        dns_label(name, is_prefix)
    }
}

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    match (group, resource) {
        ("", "namespaces") => &Namespace,
        ("", "pods") => &pod::Pod,
        ("", "podtemplates") => &apps::POD_TEMPLATE,
        ("", "replicationcontrollers") => &apps::REPLICATION_CONTROLLER,
        ("apps", "controllerrevisions") => &apps::CONTROLLER_REVISION,
        ("apps", "daemonsets") => &apps::DAEMON_SET,
        ("apps", "deployments") => &apps::DEPLOYMENT,
        ("apps", "replicasets") => &apps::REPLICA_SET,
        ("apps", "statefulsets") => &apps::STATEFUL_SET,
        ("batch", "cronjobs") => &batch::CRON_JOB,
        ("batch", "jobs") => &batch::JOB,
        _ => &Plain,
    }
}

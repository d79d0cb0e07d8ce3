//! Which taints a node shall carry for its conditions, what its health is, and how fast a zone's
//! nodes may be given up.

pub mod health;
pub mod zones;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;

use crate::node::{Node, REGION_LABEL, ZONE_LABEL};
use crate::taint::{self, NO_SCHEDULE};

/// Labels that were renamed once: the old ones follow the new ones.
const RENAMED: [(&str, &str); 2] = [
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
];

/// The taint that a condition means.
fn of_condition(kind: &str, status: &str) -> Option<&'static str> {
    match (kind, status) {
        ("Ready", "False") => Some(taint::NOT_READY),
        ("Ready", "Unknown") => Some(taint::UNREACHABLE),
        ("MemoryPressure", "True") => Some(taint::MEMORY_PRESSURE),
        ("DiskPressure", "True") => Some(taint::DISK_PRESSURE),
        ("NetworkUnavailable", "True") => Some(taint::NETWORK_UNAVAILABLE),
        ("PIDPressure", "True") => Some(taint::PID_PRESSURE),
        _ => None,
    }
}

/// The taints that follow from conditions and cordons, all of which are ours to remove.
const OURS: [&str; 7] = [
    taint::NOT_READY,
    taint::UNREACHABLE,
    taint::MEMORY_PRESSURE,
    taint::DISK_PRESSURE,
    taint::NETWORK_UNAVAILABLE,
    taint::PID_PRESSURE,
    taint::UNSCHEDULABLE,
];

/// The taints to add to a node and to remove from it, so that new pods go where they can run.
pub fn no_schedule(node: &Node) -> (Vec<Taint>, Vec<Taint>) {
    let conditions = node.status.conditions.iter();
    let mut wanted: Vec<_> = conditions
        .filter_map(|c| of_condition(&c.type_, &c.status))
        .collect();
    if node.spec.unschedulable {
        wanted.push(taint::UNSCHEDULABLE);
    }
    let missing = wanted
        .iter()
        .filter(|key| !node.has_taint(key, NO_SCHEDULE));
    let wrong = OURS
        .iter()
        .filter(|key| !wanted.contains(key) && node.has_taint(key, NO_SCHEDULE));
    let of = |key: &&str| taint::taint(key, NO_SCHEDULE);
    (missing.map(of).collect(), wrong.map(of).collect())
}

/// The labels of a node that lag behind.
pub fn stale_labels(node: &Node) -> BTreeMap<&'static str, &str> {
    let labels = node.metadata.labels.as_ref();
    let value = |key: &str| {
        labels
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let stale = RENAMED.iter().filter_map(|(new, old)| {
        let wanted = value(new)?;
        (value(old) != Some(wanted)).then_some((*old, wanted))
    });
    stale.collect()
}

/// The zone of a node, region included; empty if it tells neither.
pub fn zone_of(node: &Node) -> String {
    let label = |new: &str, old: &str| {
        let value = node.label(new).or_else(|| node.label(old));
        value.unwrap_or_default().to_owned()
    };
    let zone = label(ZONE_LABEL, "failure-domain.beta.kubernetes.io/zone");
    let region = label(REGION_LABEL, "failure-domain.beta.kubernetes.io/region");
    if zone.is_empty() && region.is_empty() {
        return String::new();
    }
    format!("{region}:\0:{zone}")
}

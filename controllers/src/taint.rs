//! Taints of nodes and the tolerations of pods: who bears what, and how taints are changed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::node::Node;
use client::errors;

/// Evicts pods that do not tolerate it.
pub const NO_EXECUTE: &str = "NoExecute";
/// Keeps new pods away.
pub const NO_SCHEDULE: &str = "NoSchedule";

/// The node says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Nothing is heard of the node.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The node is cordoned.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The node lacks memory.
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
/// The node lacks disk space.
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
/// The node lacks process identifiers.
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
/// The node has no network.
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
/// The cloud has not told about the node yet.
pub const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// The cloud says that the machine is off.
pub const SHUTDOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";

/// How often a change of taints is tried again if others changed the node meanwhile.
const ATTEMPTS: usize = 5;

/// A taint without a value.
pub fn taint(key: &str, effect: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        ..Taint::default()
    }
}

/// A taint without a value that says since when it is there.
pub fn taint_since(key: &str, effect: &str, since: Timestamp) -> Taint {
    Taint {
        time_added: Some(Time(since)),
        ..taint(key, effect)
    }
}

/// Whether a toleration bears a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    let (value, tainted) = (text(&toleration.value), text(&taint.value));
    let numbers = || value.parse::<i64>().ok().zip(tainted.parse::<i64>().ok());
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => value == tainted,
        "Exists" => true,
        "Gt" => numbers().is_some_and(|(value, tainted)| tainted > value),
        "Lt" => numbers().is_some_and(|(value, tainted)| tainted < value),
        _ => false,
    }
}

/// Whether two taints are the same one.
fn is_same(a: &Taint, b: &Taint) -> bool {
    a.key == b.key && a.effect == b.effect
}

/// The taints of a node after a change; none if they are already so.
pub fn changed(current: &[Taint], add: &[Taint], remove: &[Taint]) -> Option<Vec<Taint>> {
    let is_missing = |taint: &Taint| {
        let same = current.iter().find(|one| is_same(one, taint));
        same.is_none_or(|same| same.value != taint.value)
    };
    let goes = |taint: &Taint| remove.iter().any(|one| is_same(one, taint));
    let added: Vec<_> = add
        .iter()
        .filter(|taint| is_missing(taint))
        .cloned()
        .collect();
    if added.is_empty() && !current.iter().any(goes) {
        return None;
    }
    let stays = |taint: &&Taint| !goes(taint) && !added.iter().any(|one| is_same(one, taint));
    let kept: Vec<_> = current.iter().filter(stays).cloned().collect();
    Some(added.iter().cloned().chain(kept).collect())
}

/// Adds and removes taints of a node, in one write; nothing is written if they are already so.
///
/// `known` saves a read where the cache is up to date; the write refers to its version.
pub async fn change(
    nodes: &Api<Node>,
    known: &Node,
    add: &[Taint],
    remove: &[Taint],
) -> Result<(), kube::Error> {
    let mut fresh = None;
    for attempt in 1.. {
        let node = fresh.as_ref().unwrap_or(known);
        let Some(taints) = changed(&node.spec.taints, add, remove) else {
            return Ok(());
        };
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        match nodes
            .patch(known.name(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Err(error) if errors::is_conflict(&error) && attempt < ATTEMPTS => {
                fresh = Some(nodes.get(known.name()).await?);
            }
            Err(error) if errors::is_not_found(&error) => return Ok(()),
            done => return done.map(|_| ()),
        }
    }
    Ok(())
}

//! NodeResourcesFit: a node must have enough left of everything that a pod asks for.

use std::borrow::Cow;

use crate::cycle::State;
use crate::framework::{Action, Change, Event, Object, Plugin, Reasons, Rejection, Verdict};
use crate::snapshot::NodeInfo;
use crate::views::{Node, Pod};

const TOO_MANY: &str = "Too many pods";
const CPU: &str = "Insufficient cpu";
const MEMORY: &str = "Insufficient memory";
const EPHEMERAL: &str = "Insufficient ephemeral-storage";

/// What is missing, collected only on nodes where something is.
#[derive(Default)]
struct Missing {
    reasons: Vec<Cow<'static, str>>,
    /// More is asked for than the whole node has.
    is_final: bool,
}

impl Missing {
    fn check(&mut self, wanted: i64, used: i64, has: i64, reason: &'static str) {
        if wanted > 0 && wanted > has - used {
            self.reasons.push(Cow::Borrowed(reason));
            self.is_final |= wanted > has;
        }
    }
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    let requests = &state.pod.pod.requests;
    let (has, used) = (&node.allocatable, &node.requested);
    let is_full = node.pods.len() as i64 + 1 > node.pods_max;
    // The common case by far, and the hottest test of the scheduler.
    if !is_full
        && requests.cpu <= has.cpu - used.cpu
        && requests.memory <= has.memory - used.memory
        && requests.ephemeral <= has.ephemeral - used.ephemeral
        && requests.scalars.is_empty()
    {
        return Ok(());
    }
    let mut missing = Missing::default();
    if is_full {
        missing.reasons.push(Cow::Borrowed(TOO_MANY));
    }
    missing.check(requests.cpu, used.cpu, has.cpu, CPU);
    missing.check(requests.memory, used.memory, has.memory, MEMORY);
    missing.check(requests.ephemeral, used.ephemeral, has.ephemeral, EPHEMERAL);
    scalars(state, node, &mut missing);
    match missing.reasons.len() {
        0 => Ok(()),
        1 => Err(rejection(
            missing.is_final,
            Reasons::One(missing.reasons.remove(0)),
        )),
        _ => Err(rejection(missing.is_final, Reasons::Many(missing.reasons))),
    }
}

fn rejection(is_final: bool, reasons: Reasons) -> crate::framework::Failure {
    Rejection {
        plugin: Plugin::NodeResourcesFit,
        is_final,
        reasons,
    }
    .into()
}

fn scalars(state: &State<'_>, node: &NodeInfo, missing: &mut Missing) {
    let fit = &state.profile.fit;
    for (name, wanted) in &state.pod.placed.scalars {
        let text = state.snapshot.interner.text(*name);
        if *wanted == 0 || (is_extended(text) && fit.ignores(text)) {
            continue;
        }
        let (has, used) = node
            .find_scalar(*name)
            .map_or((0, 0), |one| (one.allocatable, one.requested));
        if *wanted > has - used {
            missing.reasons.push(format!("Insufficient {text}").into());
            missing.is_final |= *wanted > has;
        }
    }
}

/// A resource of somebody's own: not Kubernetes', and no quota's name.
pub(crate) fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// Whether a node without any pods would do.
fn would_fit(pod: &Pod, node: &Node) -> bool {
    node.pods >= 1
        && pod
            .requests
            .each()
            .all(|(name, wanted)| wanted <= node.allocatable.get(name))
}

fn has_more(pod: &Pod, old: &Node, new: &Node) -> bool {
    new.pods > old.pods
        || pod.requests.each().any(|(name, wanted)| {
            wanted > 0 && new.allocatable.get(name) > old.allocatable.get(name)
        })
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    match event.object {
        Object::Pod(change) if event.action.is_in(Action::DELETE) => {
            change.old.is_some_and(Pod::occupies_node)
        }
        Object::Pod(change) if event.action.is_in(Action::POD_SCALE_DOWN) => scaled(pod, change),
        Object::Node(change) if event.action.is_in(Action::ADD.or(Action::NODE_ALLOCATABLE)) => {
            let Some(new) = change.new else {
                return false;
            };
            would_fit(pod, new) && change.old.is_none_or(|old| has_more(pod, old, new))
        }
        _ => false,
    }
}

fn scaled(pod: &Pod, change: Change<'_, Pod>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else {
        return false;
    };
    if new.uid() == pod.uid() {
        return true;
    }
    let is_wanted =
        |(name, wanted): (&str, i64)| wanted > 0 && old.requests.get(name) > new.requests.get(name);
    new.is_assigned() && pod.requests.each().any(is_wanted)
}

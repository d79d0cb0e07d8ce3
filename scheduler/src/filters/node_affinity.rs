//! NodeAffinity: a pod's node selector and required node affinity, and what its profile adds.

use crate::cycle::State;
use crate::framework::{Action, Event, Object, Plugin, Rejection, Verdict};
use crate::intern::{Interner, Symbol};
use crate::selector::NodeRequirement;
use crate::snapshot::NodeInfo;
use crate::views::{Node, Pod};

const MISMATCH: &str = "node(s) didn't match Pod's node affinity/selector";
const NOT_ENFORCED: &str = "node(s) didn't match scheduler-enforced node affinity";
const CONFLICT: &str = "pod affinity terms conflict";

/// The only nodes that can match, if the terms name them; a rejection if they conflict.
pub(crate) fn only_nodes(state: &State<'_>) -> Result<Option<Vec<Symbol>>, Rejection> {
    match state.pod.node.only_nodes() {
        Some(names) if names.is_empty() => Err(Rejection::last(Plugin::NodeAffinity, CONFLICT)),
        names => Ok(names),
    }
}

pub(crate) fn is_skipped(state: &State<'_>) -> bool {
    state.pod.node.is_empty() && state.pod.enforced.is_none()
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    let interner = &state.snapshot.interner;
    let fulfils =
        |requirement: &NodeRequirement| requirement.matches(node.name, &node.labels, interner);
    if !state.pod.enforced.as_ref().is_none_or(fulfils) {
        return Err(Rejection::last(Plugin::NodeAffinity, NOT_ENFORCED).into());
    }
    if !fulfils(&state.pod.node) {
        return Err(Rejection::last(Plugin::NodeAffinity, MISMATCH).into());
    }
    Ok(())
}

/// Whether a node matches, outside a cycle: changes are rare enough to compile for each.
fn matches(pod: &Pod, node: &Node) -> bool {
    let mut interner = Interner::default();
    let affinity = pod
        .affinity
        .as_ref()
        .and_then(|one| one.node_affinity.as_ref());
    let required = affinity.and_then(|one| {
        one.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let wanted = NodeRequirement::new(&pod.node_selector, required, &mut interner);
    let labels = interner.labels(node.labels());
    let name = interner.intern(node.name());
    wanted.matches(name, &labels, &interner)
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    match event.object {
        Object::Node(change) if event.action.is_in(Action::ADD.or(Action::NODE_LABEL)) => {
            change.new.is_some_and(|new| matches(pod, new))
                && !change.old.is_some_and(|old| matches(pod, old))
        }
        _ => false,
    }
}

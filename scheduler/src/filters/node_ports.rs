//! NodePorts: ports of the host that pods want must be free.

use crate::cycle::State;
use crate::framework::{Action, Event, Object, Plugin, Rejection, Verdict};
use crate::snapshot::NodeInfo;
use crate::views::Pod;
use crate::views::pod::HostPort;

const TAKEN: &str = "node(s) didn't have free ports for the requested pod ports";

fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted
        .iter()
        .any(|one| taken.iter().any(|other| one.conflicts(other)))
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    if conflict(&state.pod.pod.ports, &node.ports) {
        return Err(Rejection::new(Plugin::NodePorts, TAKEN).into());
    }
    Ok(())
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    match event.object {
        Object::Pod(change) if event.action.is_in(Action::DELETE) => change
            .old
            .is_some_and(|old| old.occupies_node() && conflict(&pod.ports, &old.ports)),
        Object::Node(_) => event.action.is_in(Action::ADD),
        _ => false,
    }
}

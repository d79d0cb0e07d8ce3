//! NodeName: a pod that names its node goes there or nowhere.

use crate::cycle::State;
use crate::framework::{Action, Event, Object, Plugin, Rejection, Verdict};
use crate::snapshot::NodeInfo;

const MISMATCH: &str = "node(s) didn't match the requested node name";

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    let wanted = &*state.pod.pod.node_name;
    if wanted.is_empty() || wanted == node.node.name() {
        return Ok(());
    }
    Err(Rejection::last(Plugin::NodeName, MISMATCH).into())
}

pub(crate) fn hint(event: &Event<'_>) -> bool {
    matches!(event.object, Object::Node(_)) && event.action.is_in(Action::ADD)
}

//! NodeUnschedulable: cordoned nodes are for pods that tolerate being there.

use crate::cycle::State;
use crate::framework::{Action, Event, Object, Plugin, Rejection, Verdict};
use crate::snapshot::NodeInfo;
use crate::views::Pod;

use super::taint_toleration::tolerates;

const UNSCHEDULABLE: &str = "node(s) were unschedulable";

fn tolerates_cordon(pod: &Pod) -> bool {
    let taint = k8s_openapi::api::core::v1::Taint {
        key: "node.kubernetes.io/unschedulable".to_string(),
        effect: "NoSchedule".to_string(),
        ..Default::default()
    };
    tolerates(&pod.tolerations, &taint)
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    if !node.unschedulable || tolerates_cordon(&state.pod.pod) {
        return Ok(());
    }
    Err(Rejection::last(Plugin::NodeUnschedulable, UNSCHEDULABLE).into())
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    match event.object {
        Object::Node(change) if event.action.is_in(Action::ADD.or(Action::NODE_TAINT)) => {
            change.old.is_none_or(|old| old.unschedulable)
                && change.new.is_some_and(|new| !new.unschedulable)
        }
        Object::Pod(change) if event.action.is_in(Action::POD_TOLERATION) => change
            .new
            .is_some_and(|new| new.uid() == pod.uid() && tolerates_cordon(new)),
        _ => false,
    }
}

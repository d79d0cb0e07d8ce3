//! SchedulingGates: pods wait, out of every queue, until nothing gates them.

use crate::framework::{Action, Event, Object};
use crate::views::Pod;

/// Why a pod has to wait.
pub(crate) fn gate(pod: &Pod) -> Option<String> {
    (!pod.gates.is_empty())
        .then(|| format!("waiting for scheduling gates: [{}]", pod.gates.join(" ")))
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    match event.object {
        Object::Pod(change) => {
            event.action.is_in(Action::POD_GATES)
                && change.new.is_some_and(|new| new.uid() == pod.uid())
        }
        _ => false,
    }
}

//! TaintToleration: nodes keep off pods that do not tolerate their taints.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::cycle::State;
use crate::framework::{Action, Event, Object, Plugin, Rejection, Verdict};
use crate::snapshot::NodeInfo;
use crate::views::{Node, Pod};

const UNTOLERATED: &str = "node(s) had untolerated taint(s)";

/// Whether one of the tolerations covers a taint.
pub(crate) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|one| {
        let (effect, key) = (one.effect.as_deref(), one.key.as_deref());
        let value = one.value.as_deref().unwrap_or_default();
        effect.is_none_or(|effect| effect.is_empty() || effect == taint.effect)
            && key.is_none_or(|key| key.is_empty() || key == taint.key)
            && match one.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => value == taint.value.as_deref().unwrap_or_default(),
                "Exists" => true,
                _ => false,
            }
    })
}

/// Whether all taints of a node that keep pods off are covered.
pub(crate) fn tolerates_all(tolerations: &[Toleration], taints: &[Taint]) -> bool {
    let repelling = |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    taints
        .iter()
        .filter(repelling)
        .all(|taint| tolerates(tolerations, taint))
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    if !node.repels || tolerates_all(&state.pod.pod.tolerations, &node.node.taints) {
        return Ok(());
    }
    Err(Rejection::last(Plugin::TaintToleration, UNTOLERATED).into())
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    let is_fine = |node: &Node| tolerates_all(&pod.tolerations, &node.taints);
    match event.object {
        Object::Node(change) if event.action.is_in(Action::ADD.or(Action::NODE_TAINT)) => {
            !change.old.is_some_and(is_fine) && change.new.is_some_and(is_fine)
        }
        Object::Pod(change) if event.action.is_in(Action::POD_TOLERATION) => {
            change.new.is_some_and(|new| new.uid() == pod.uid())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn tolerations_cover_taints() {
        let taint: Taint =
            from_value(json!({"key": "dedicated", "value": "user1", "effect": "NoSchedule"}))
                .unwrap();
        for (toleration, want) in [
            (
                json!({"key": "dedicated", "value": "user1", "effect": "NoSchedule"}),
                true,
            ),
            (
                json!({"key": "dedicated", "operator": "Equal", "value": "user2", "effect": "NoSchedule"}),
                false,
            ),
            (json!({"key": "dedicated", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (
                json!({"key": "foo", "operator": "Exists", "effect": "NoSchedule"}),
                false,
            ),
            (
                json!({"key": "dedicated", "value": "user1", "effect": "NoExecute"}),
                false,
            ),
        ] {
            let toleration: Toleration = from_value(toleration.clone()).unwrap();
            assert_eq!(
                tolerates(std::slice::from_ref(&toleration), &taint),
                want,
                "{toleration:?}"
            );
        }
    }
}

//! TaintToleration: the fewer taints that discourage the pod, the better.

use crate::filters::taint_toleration::tolerates;

use super::{Rated, normalise};

pub(crate) fn score(rated: &Rated<'_>) -> Option<Vec<i64>> {
    // Without such taints every node gets the same.
    if !rated.nodes.iter().any(|node| node.discourages) {
        return None;
    }
    let tolerations = rated.state.pod.pod.tolerations.iter();
    let applies = |effect: &str| effect.is_empty() || effect == "PreferNoSchedule";
    let tolerations: Vec<_> = tolerations
        .filter(|one| one.effect.as_deref().is_none_or(applies))
        .cloned()
        .collect();
    let discouraging = |node: &&crate::snapshot::NodeInfo| {
        let taints = node.node.taints.iter();
        taints
            .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(&tolerations, taint))
            .count() as i64
    };
    let mut scores: Vec<_> = rated.nodes.iter().map(discouraging).collect();
    normalise(&mut scores, true);
    Some(scores)
}

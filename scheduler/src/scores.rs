//! How good a node is for a pod: a file per plugin.
//!
//! Each rates all feasible nodes at once and normalises, so that a plugin without an opinion
//! costs nothing and the loop over nodes is the innermost.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod pod_topology_spread;
mod taint_toleration;

use crate::cycle::State;
use crate::framework::{MAX_SCORE, Plugin};
use crate::snapshot::NodeInfo;

/// The nodes to rate.
pub(crate) struct Rated<'s> {
    pub(crate) state: &'s State<'s>,
    pub(crate) nodes: Vec<&'s NodeInfo>,
}

/// What a plugin says of the nodes, in their order: 0 to 100, or nothing.
pub(crate) fn score(plugin: Plugin, rated: &Rated<'_>) -> Option<Vec<i64>> {
    match plugin {
        Plugin::TaintToleration => taint_toleration::score(rated),
        Plugin::NodeAffinity => node_affinity::score(rated),
        Plugin::NodeResourcesFit => node_resources_fit::score(rated),
        Plugin::PodTopologySpread => pod_topology_spread::score(rated),
        Plugin::InterPodAffinity => inter_pod_affinity::score(rated),
        Plugin::NodeResourcesBalancedAllocation => node_resources_balanced_allocation::score(rated),
        Plugin::ImageLocality => image_locality::score(rated),
        // Upstream's VolumeBinding and DynamicResources rate only behind gates that are off.
        _ => None,
    }
}

/// The nodes to rate, looked up once.
pub(crate) fn rated<'s>(state: &'s State<'s>, feasible: &[u32]) -> Rated<'s> {
    Rated {
        state,
        nodes: feasible.iter().map(|id| state.snapshot.node(*id)).collect(),
    }
}

/// The weighted sum of all plugins' scores by node.
pub(crate) fn totals(state: &State<'_>, feasible: &[u32]) -> Vec<i64> {
    let rated = rated(state, feasible);
    let mut totals = vec![0; feasible.len()];
    for (plugin, weight) in &state.profile.scores {
        let Some(scores) = score(*plugin, &rated) else {
            continue;
        };
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * weight;
        }
    }
    totals
}

/// Stretches scores so that the largest becomes 100, or 0 if less is better.
fn normalise(scores: &mut [i64], less_is_better: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let stretched = if most == 0 {
            0
        } else {
            MAX_SCORE * *score / most
        };
        *score = if less_is_better {
            MAX_SCORE - stretched
        } else {
            stretched
        };
    }
}

/// The value of a broken line through points.
pub(crate) fn broken_line(points: &[(i64, i64)], x: i64) -> i64 {
    let Some(at) = points.iter().position(|(known, _)| x <= *known) else {
        return points.last().map_or(0, |(_, score)| *score);
    };
    if at == 0 {
        return points[0].1;
    }
    let ((x0, y0), (x1, y1)) = (points[at - 1], points[at]);
    y0 + (y1 - y0) * (x - x0) / (x1 - x0)
}

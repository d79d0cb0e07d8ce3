//! NodeResourcesFit: nodes that are emptier, fuller, or filled just so.

use crate::framework::MAX_SCORE;
use crate::intern::Symbol;
use crate::profile::Strategy;
use crate::snapshot::NodeInfo;
use crate::views::Pod;
use crate::views::is_scalar;

use super::{Rated, broken_line};

/// A resource as rated: what the pod asks for, and where a node keeps it.
pub(super) struct Rating {
    place: Place,
    wanted: i64,
    pub(super) weight: i64,
}

enum Place {
    Cpu,
    Memory,
    Ephemeral,
    Scalar(Symbol),
}

impl Rating {
    /// A resource to rate nodes by; None if no node can have it or the pod does not ask for it.
    pub(super) fn new(
        name: &str,
        weight: i64,
        rated: &Rated<'_>,
        amount: impl Fn(&Pod, &str) -> i64,
    ) -> Option<Self> {
        let wanted = amount(&rated.state.pod.pod, name);
        let place = match name {
            "cpu" => Place::Cpu,
            "memory" => Place::Memory,
            "ephemeral-storage" => Place::Ephemeral,
            _ if is_scalar(name) && wanted == 0 => return None,
            _ => Place::Scalar(rated.state.snapshot.interner.find(name)?),
        };
        Some(Rating {
            place,
            wanted,
            weight,
        })
    }

    /// What a node has, and what would be taken with the pod on it. `assumes` counts what
    /// containers leave unsaid.
    pub(super) fn of(&self, node: &NodeInfo, assumes: bool) -> (i64, i64) {
        let (has, used) = match self.place {
            Place::Cpu if assumes => (node.allocatable.cpu, node.assumed.0),
            Place::Memory if assumes => (node.allocatable.memory, node.assumed.1),
            Place::Cpu => (node.allocatable.cpu, node.requested.cpu),
            Place::Memory => (node.allocatable.memory, node.requested.memory),
            Place::Ephemeral => (node.allocatable.ephemeral, node.requested.ephemeral),
            Place::Scalar(name) => {
                let scalar = node.find_scalar(name).filter(|one| one.is_offered);
                scalar.map_or((0, 0), |one| (one.allocatable, one.requested))
            }
        };
        (has, used + self.wanted)
    }

    pub(super) fn wanted(&self) -> i64 {
        self.wanted
    }
}

pub(crate) fn score(rated: &Rated<'_>) -> Option<Vec<i64>> {
    let fit = &rated.state.profile.fit;
    let assumed = |pod: &Pod, name: &str| match name {
        "cpu" => pod.assumed.0,
        "memory" => pod.assumed.1,
        _ => pod.requests.get(name),
    };
    let ratings: Vec<_> = fit
        .resources
        .iter()
        .filter_map(|(name, weight)| Rating::new(name, *weight, rated, assumed))
        .collect();
    let nodes = rated.nodes.iter();
    Some(
        nodes
            .map(|node| rate(node, &ratings, &fit.strategy))
            .collect(),
    )
}

fn rate(node: &NodeInfo, ratings: &[Rating], strategy: &Strategy) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for rating in ratings {
        let (has, taken) = rating.of(node, true);
        if has == 0 {
            continue;
        }
        let score = match strategy {
            Strategy::LeastAllocated => (has - taken).max(0) * MAX_SCORE / has,
            Strategy::MostAllocated => taken.min(has) * MAX_SCORE / has,
            Strategy::RequestedToCapacityRatio(shape) => {
                let used = if taken > has { 100 } else { taken * 100 / has };
                match broken_line(shape, used) {
                    ..=0 => continue,
                    score => score,
                }
            }
        };
        sum += score * rating.weight;
        weights += rating.weight;
    }
    if weights == 0 {
        return 0;
    }
    match strategy {
        Strategy::RequestedToCapacityRatio(_) => (sum as f64 / weights as f64).round() as i64,
        _ => sum / weights,
    }
}

//! InterPodAffinity: near to pods that it likes or that like it, far from the others.

use crate::framework::MAX_SCORE;
use crate::snapshot::NONE;
use crate::snapshot::counts::{Counts, Hold};

use super::Rated;

pub(crate) fn score(rated: &Rated<'_>) -> Option<Vec<i64>> {
    let (snapshot, pod, profile) = (rated.state.snapshot, rated.state.pod, rated.state.profile);
    if profile.ignores_existing_preferences && pod.preferred.is_empty() {
        return None;
    }
    // Topology, weight, counts by domain.
    let mut terms: Vec<(u32, i64, &Counts)> = Vec::new();
    for (matcher, topology, weight) in &pod.preferred {
        terms.push((*topology, *weight, snapshot.counts(*matcher, *topology)));
    }
    for matcher in &snapshot.class(pod.placed.class).matchers {
        for id in &snapshot.matcher(*matcher).holders {
            let holder = snapshot.holder(*id);
            let weight = match holder.key.hold {
                Hold::Repels => continue,
                Hold::Needs => profile.hard_affinity_weight,
                Hold::Prefers => 1,
            };
            terms.push((holder.key.topology, weight, &holder.counts));
        }
    }
    terms.retain(|(_, weight, counts)| *weight != 0 && !counts.is_empty());
    if terms.is_empty() {
        return None;
    }
    let of = |node: &&crate::snapshot::NodeInfo| {
        let known = terms.iter().map(|(topology, weight, counts)| {
            let domain = node.domains[*topology as usize];
            if domain == NONE {
                0
            } else {
                weight * counts.get(domain)
            }
        });
        known.sum()
    };
    let mut scores: Vec<i64> = rated.nodes.iter().map(of).collect();
    let least = scores.iter().copied().min().unwrap_or(0);
    let range = scores.iter().copied().max().unwrap_or(0) - least;
    for score in &mut scores {
        *score = match range {
            0 => 0,
            _ => (MAX_SCORE as f64 * ((*score - least) as f64 / range as f64)) as i64,
        };
    }
    Some(scores)
}

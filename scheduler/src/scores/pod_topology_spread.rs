//! PodTopologySpread, soft constraints: the fewer siblings in a node's domains, the better.

use crate::filters::pod_topology_spread::{has_all_labels, sum};
use crate::framework::MAX_SCORE;
use crate::snapshot::counts::Counts;
use crate::snapshot::{NONE, NodeInfo, Spread};

use super::Rated;

/// Siblings by domain, or by node.
enum Tally<'s> {
    Nobody,
    Kept(&'s Counts),
    Summed(Vec<Option<i64>>),
    PerNode(&'s Counts),
}

impl Tally<'_> {
    fn get(&self, node: &NodeInfo, domain: u32) -> i64 {
        match self {
            Tally::Nobody => 0,
            Tally::Kept(counts) => counts.get(domain),
            Tally::Summed(sums) => sums[domain as usize].unwrap_or(0),
            Tally::PerNode(counts) => counts.get(node.id),
        }
    }
}

pub(crate) fn score(rated: &Rated<'_>) -> Option<Vec<i64>> {
    let spreads = &rated.state.pod.soft_spread;
    if spreads.is_empty() {
        return None;
    }
    let needs_all = rated.state.pod.needs_all_topologies;
    let is_scored = |node: &NodeInfo| !needs_all || has_all_labels(spreads, node);
    let scored: Vec<_> = rated.nodes.iter().map(|node| is_scored(node)).collect();
    let tallies: Vec<_> = spreads
        .iter()
        .map(|spread| (spread, tally(rated, spread), weight(rated, spread, &scored)))
        .collect();
    let of = |(node, is_scored): (&&NodeInfo, &bool)| {
        if !is_scored {
            return 0;
        }
        let mut score = 0.0;
        for (spread, tally, weight) in &tallies {
            let domain = node.domains[spread.topology as usize];
            if domain != NONE {
                let count = tally.get(node, domain) as f64;
                score += count * weight + (spread.max_skew - 1) as f64;
            }
        }
        score.round() as i64
    };
    let mut scores: Vec<i64> = rated.nodes.iter().zip(&scored).map(of).collect();
    invert(&mut scores, &scored);
    Some(scores)
}

/// The emptiest domain gets the most; nodes that do not count get nothing.
fn invert(scores: &mut [i64], scored: &[bool]) {
    let known = || {
        scores
            .iter()
            .zip(scored)
            .filter(|(_, is_scored)| **is_scored)
    };
    let least = known().map(|(score, _)| *score).min().unwrap_or(0);
    let most = known().map(|(score, _)| *score).max().unwrap_or(0);
    for (score, is_scored) in scores.iter_mut().zip(scored) {
        *score = match (is_scored, most) {
            (false, _) => 0,
            (true, 0) => MAX_SCORE,
            (true, most) => MAX_SCORE * (most + least - *score) / most,
        };
    }
}

fn tally<'s>(rated: &Rated<'s>, spread: &Spread) -> Tally<'s> {
    let (snapshot, pod) = (rated.state.snapshot, rated.state.pod);
    let Some(matcher) = spread.matcher else {
        return Tally::Nobody;
    };
    if spread.is_hostname {
        return Tally::PerNode(&snapshot.matcher(matcher).per_node);
    }
    let spreads = &pod.soft_spread;
    let counts_all = !spread.honors_taints
        && (!spread.honors_affinity || pod.node.is_empty())
        && (!pod.needs_all_topologies
            || spreads
                .iter()
                .all(|one| snapshot.topology(one.topology).labelled() == snapshot.node_count()));
    if counts_all {
        Tally::Kept(snapshot.counts(matcher, spread.topology))
    } else {
        Tally::Summed(sum(
            spread,
            spreads,
            snapshot,
            pod,
            pod.needs_all_topologies,
        ))
    }
}

/// The more domains there are, the less each sibling weighs on the scale; this evens it out.
fn weight(rated: &Rated<'_>, spread: &Spread, scored: &[bool]) -> f64 {
    let nodes = rated
        .nodes
        .iter()
        .zip(scored)
        .filter(|(_, is_scored)| **is_scored);
    let size = if spread.is_hostname {
        nodes.count()
    } else {
        let mut seen: Vec<_> = nodes
            .map(|(node, _)| node.domains[spread.topology as usize])
            .collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    };
    ((size + 2) as f64).ln()
}

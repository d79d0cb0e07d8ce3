//! NodeAffinity: the more weight the preferred terms that a node matches have, the better.

use super::{Rated, normalise};

pub(crate) fn score(rated: &Rated<'_>) -> Option<Vec<i64>> {
    let terms = &rated.state.pod.preferred_nodes;
    if terms.is_empty() {
        return None;
    }
    let interner = &rated.state.snapshot.interner;
    let of = |node: &&crate::snapshot::NodeInfo| {
        let matching = terms
            .iter()
            .filter(|(term, _)| term.matches(node.name, &node.labels, interner));
        matching.map(|(_, weight)| weight).sum()
    };
    let mut scores: Vec<i64> = rated.nodes.iter().map(of).collect();
    normalise(&mut scores, false);
    Some(scores)
}

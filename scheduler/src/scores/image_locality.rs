//! ImageLocality: nodes that have the pod's images already, the larger the better.

use crate::framework::MAX_SCORE;

use super::Rated;

const MB: i64 = 1 << 20;
/// Less than this is as good as nothing.
const LEAST: i64 = 23 * MB;
/// More than this per container is as good as this.
const MOST: i64 = 1000 * MB;

pub(crate) fn score(rated: &Rated<'_>) -> Option<Vec<i64>> {
    let (snapshot, pod) = (rated.state.snapshot, rated.state.pod);
    let nodes = snapshot.node_count() as f64;
    // An image on few nodes counts little, or all pods would crowd there.
    let spread: Vec<_> = pod
        .images
        .iter()
        .map(|image| (*image, snapshot.nodes_with_image(*image) as f64 / nodes))
        .filter(|(_, spread)| *spread > 0.0)
        .collect();
    if spread.is_empty() {
        return None;
    }
    let most = (MOST * pod.pod.containers as i64).max(LEAST + 1);
    let of = |node: &&crate::snapshot::NodeInfo| {
        let sizes = spread.iter().filter_map(|(image, spread)| {
            let size = *node.images.get(image)?;
            Some((size as f64 * spread) as i64)
        });
        let sum: i64 = sizes.sum();
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    };
    Some(rated.nodes.iter().map(of).collect())
}

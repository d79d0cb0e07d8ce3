//! How long nodes of a cluster of some size may keep the Secrets and ConfigMaps of their pods.

/// The annotation of nodes that says so, in seconds.
pub const TTL_ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// A size of clusters; sizes overlap, so that a node that comes and goes does not change all others.
struct Step {
    nodes_min: usize,
    nodes_max: usize,
    ttl_s: u32,
}

const STEPS: [Step; 5] = [
    step(0, 100, 0),
    step(90, 500, 15),
    step(450, 1000, 30),
    step(900, 2000, 60),
    step(1800, usize::MAX, 300),
];

const fn step(nodes_min: usize, nodes_max: usize, ttl_s: u32) -> Step {
    Step {
        nodes_min,
        nodes_max,
        ttl_s,
    }
}

/// Which size a cluster has, given the one it had.
pub fn next_step(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].nodes_max {
        step += 1;
    }
    while nodes < STEPS[step].nodes_min {
        step -= 1;
    }
    step
}

/// What the annotation of a node shall be; none if it is.
pub fn plan(step: usize, annotation: Option<&str>) -> Option<u32> {
    let wanted = STEPS[step].ttl_s;
    (annotation.and_then(|value| value.parse().ok()) != Some(wanted)).then_some(wanted)
}

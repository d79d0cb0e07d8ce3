//! The ways through a pod's spec that several checks take.

use crate::validation::At;

pub(crate) use api::quota::walk::{CPU_AND_MEMORY, is_sidecar, plain_containers, quantity};

/// The lists of containers, in the order in which they are visited.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a spec.
pub(crate) fn all_containers<'d>(spec: At<'d>) -> impl Iterator<Item = At<'d>> + Clone {
    CONTAINER_LISTS
        .into_iter()
        .flat_map(move |list| spec.get(list).items())
}

/// Windows or Linux, or empty if the pod does not say.
pub(crate) fn os(spec: At<'_>) -> &str {
    spec.path(&["os", "name"]).str()
}

//! The ways through a pod's spec that several checks take.

use api::values::quantity::Quantity;

use crate::validation::At;

/// The lists of containers, in the order in which they are visited.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a spec.
pub(crate) fn all_containers<'d>(spec: At<'d>) -> impl Iterator<Item = At<'d>> + Clone {
    CONTAINER_LISTS
        .into_iter()
        .flat_map(move |list| spec.get(list).items())
}

/// The containers that run while the pod starts, and those that run on.
pub(crate) fn plain_containers<'d>(spec: At<'d>) -> impl Iterator<Item = At<'d>> + Clone {
    CONTAINER_LISTS[..2]
        .iter()
        .flat_map(move |list| spec.get(list).items())
}

/// An init container that keeps running: a sidecar.
pub(crate) fn is_sidecar(container: At<'_>) -> bool {
    container.get("restartPolicy").str() == "Always"
}

/// Windows or Linux, or empty if the pod does not say.
pub(crate) fn os(spec: At<'_>) -> &str {
    spec.path(&["os", "name"]).str()
}

/// A quantity of a conformed document; 0 if there is none.
pub(crate) fn quantity(at: At<'_>) -> Quantity {
    Quantity::parse(at.str()).unwrap_or_else(|_| Quantity::from_units(0))
}

/// The two resources that decide a pod's class and that can be resized.
pub(crate) const CPU_AND_MEMORY: [&str; 2] = ["cpu", "memory"];

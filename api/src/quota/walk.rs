//! The ways through a pod's spec that counting takes.

use crate::at::At;
use crate::values::quantity::Quantity;

/// The containers that run while the pod starts, and those that run on.
pub fn plain_containers<'d>(spec: At<'d>) -> impl Iterator<Item = At<'d>> + Clone {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(move |list| spec.get(list).items())
}

/// An init container that keeps running: a sidecar.
pub fn is_sidecar(container: At<'_>) -> bool {
    container.get("restartPolicy").str() == "Always"
}

/// A quantity of a conformed document; 0 if there is none.
pub fn quantity(at: At<'_>) -> Quantity {
    Quantity::parse(at.str()).unwrap_or_else(|_| Quantity::from_units(0))
}

/// The two resources that decide a pod's class and that can be resized.
pub const CPU_AND_MEMORY: [&str; 2] = ["cpu", "memory"];

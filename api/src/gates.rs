//! Feature gates: what upstream's minor switches on by default. Nothing here can be switched, so that
//! a gate is a fact about the minor; it is named where upstream would ask it.

include!(concat!(env!("OUT_DIR"), "/gates.rs"));

/// Whether a gate is on; one that does not exist is off.
pub fn is_on(name: &str) -> bool {
    let found = GATES.binary_search_by(|(known, _)| (*known).cmp(name));
    found.is_ok_and(|at| GATES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_have_upstreams_defaults() {
        assert!(is_on("PodLevelResources") && is_on("ImageVolume"));
        assert!(!is_on("MaxUnavailableStatefulSet") && !is_on("PodLogsQuerySplitStreams"));
        assert!(!is_on("NoSuchGate"));
        assert!(GATES.len() > 200 && GATES.is_sorted());
    }
}

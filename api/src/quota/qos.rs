//! The class of a pod by what it requests: whom the node evicts first.

use std::collections::BTreeMap;

use crate::values::quantity::Quantity;

use super::walk::{CPU_AND_MEMORY, plain_containers, quantity};
use crate::at::At;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: At<'_>) -> &'static str {
    let spec = pod.get("spec");
    let mut sums = Sums::default();
    if spec.has("resources") {
        sums.add(spec.get("resources"), true);
    } else {
        for container in plain_containers(spec) {
            sums.add(container.get("resources"), false);
        }
    }
    sums.class()
}

#[derive(Default)]
struct Sums {
    requests: BTreeMap<&'static str, Quantity>,
    limits: BTreeMap<&'static str, Quantity>,
    /// Somebody has no limits.
    unlimited: bool,
}

impl Sums {
    fn add(&mut self, resources: At<'_>, of_pod: bool) {
        add_positive(&mut self.requests, resources.get("requests"));
        let found = add_positive(&mut self.limits, resources.get("limits"));
        // A pod's own resources say nothing of limits unless it has some.
        if found < CPU_AND_MEMORY.len() && !(of_pod && resources.get("limits").is_empty()) {
            self.unlimited = true;
        }
    }

    fn class(&self) -> &'static str {
        if self.requests.is_empty() && self.limits.is_empty() {
            return "BestEffort";
        }
        if !self.unlimited && self.requests == self.limits {
            return "Guaranteed";
        }
        "Burstable"
    }
}

fn add_positive(sums: &mut BTreeMap<&'static str, Quantity>, list: At<'_>) -> usize {
    let mut found = 0;
    for name in CPU_AND_MEMORY {
        let amount = quantity(list.get(name));
        if amount.signum() <= 0 {
            continue;
        }
        found += 1;
        let sum = sums.remove(name).unwrap_or_else(|| Quantity::from_units(0));
        sums.insert(name, sum + &amount);
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::doc::Doc;

    use super::*;

    #[test]
    fn classes_follow_requests_and_limits() {
        for (spec, want) in [
            (r#"{"containers":[{}]}"#, "BestEffort"),
            (
                r#"{"containers":[{"resources":{"requests":{"cpu":"0"}}}]}"#,
                "BestEffort",
            ),
            (
                r#"{"containers":[{"resources":{"requests":{"cpu":"1"}}}]}"#,
                "Burstable",
            ),
            (
                r#"{"containers":[{"resources":{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1","memory":"1Gi"}}}]}"#,
                "Guaranteed",
            ),
            (
                r#"{"containers":[{"resources":{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1","memory":"1Gi"}}},{}]}"#,
                "Burstable",
            ),
            (
                r#"{"containers":[{"resources":{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"2","memory":"1Gi"}}}]}"#,
                "Burstable",
            ),
            (
                r#"{"resources":{"requests":{"cpu":"1","memory":"1"},"limits":{"cpu":"1","memory":"1"}},"containers":[{}]}"#,
                "Guaranteed",
            ),
            (
                r#"{"resources":{"requests":{"cpu":"1"}},"containers":[{}]}"#,
                "Burstable",
            ),
        ] {
            let doc = Doc::literal(&format!(r#"{{"spec":{spec}}}"#));
            assert_eq!(qos_class(At::root(&doc)), want, "{spec}");
        }
    }
}

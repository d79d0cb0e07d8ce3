//! Which labels a node may give itself: not those by which others steer pods.

use std::collections::{BTreeMap, BTreeSet};

use crate::validation::At;

/// Labels that the kubelet sets.
const KUBELET: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
/// Domains whose labels are its own, with those below.
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESERVED_DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

pub(super) type Labels = BTreeMap<String, String>;

pub(super) fn read(labels: At<'_>) -> Labels {
    let entries = labels.items();
    entries
        .map(|at| (at.key().to_string(), at.str().to_string()))
        .collect()
}

/// The labels that differ and may not, sorted.
pub(super) fn forbidden(new: &Labels, old: &Labels) -> Vec<String> {
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| is_forbidden(key)).cloned().collect()
}

fn is_forbidden(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let is_in = |known: &&str| {
        let rest = domain.strip_suffix(*known);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if is_in(&RESTRICTED_DOMAIN) {
        return true;
    }
    let is_reserved = RESERVED_DOMAINS.iter().any(is_in);
    is_reserved && !KUBELET.contains(&key) && !KUBELET_DOMAINS.iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_that_steer_are_forbidden() {
        for (key, want) in [
            ("example.com/x", false),
            ("x", false),
            ("kubernetes.io/hostname", false),
            ("sub.node.kubernetes.io/x", false),
            ("node-restriction.kubernetes.io/x", true),
            ("a.node-restriction.kubernetes.io/x", true),
            ("kubernetes.io/x", true),
            ("a.k8s.io/x", true),
            ("notk8s.io/x", false),
        ] {
            assert_eq!(is_forbidden(key), want, "{key}");
        }
        let labels = |text: &[(&str, &str)]| -> Labels {
            text.iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        };
        let old = labels(&[("k8s.io/a", "1"), ("k8s.io/b", "1"), ("k8s.io/c", "1")]);
        let new = labels(&[("k8s.io/a", "1"), ("k8s.io/b", "2"), ("k8s.io/d", "1")]);
        assert_eq!(forbidden(&new, &old), ["k8s.io/b", "k8s.io/c", "k8s.io/d"]);
    }
}

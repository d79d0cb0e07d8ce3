//! Which group and which version clients should prefer. The numbers are also those of the
//! APIService that stands for a version.

use std::cmp::Ordering;

/// The greater, the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority {
    /// Among groups.
    pub group: i32,
    /// Among the versions of a group.
    pub version: i32,
}

/// That of custom resources.
pub const CUSTOM: Priority = Priority {
    group: 1000,
    version: 100,
};

/// Versions with their priorities.
type Versions = &'static [(&'static str, i32)];

/// Groups with their priority and that of their versions.
const BUILTIN: &[(&str, i32, Versions)] = &[
    ("apiregistration.k8s.io", 20000, &[("v1", 20000)]),
    ("", 18000, &[("v1", 1)]),
    ("apps", 17800, &[("v1", 15)]),
    ("events.k8s.io", 17750, &[("v1", 15), ("v1beta1", 5)]),
    ("authentication.k8s.io", 17700, &[("v1", 15)]),
    ("authorization.k8s.io", 17600, &[("v1", 15)]),
    ("autoscaling", 17500, &[("v1", 15), ("v2", 30)]),
    ("batch", 17400, &[("v1", 15), ("v1beta1", 9)]),
    (
        "certificates.k8s.io",
        17300,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("networking.k8s.io", 17200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17100, &[("v1", 15), ("v1beta1", 9)]),
    ("rbac.authorization.k8s.io", 17000, &[("v1", 15)]),
    ("storage.k8s.io", 16800, &[("v1", 15), ("v1beta1", 9)]),
    ("apiextensions.k8s.io", 16700, &[("v1", 15)]),
    (
        "admissionregistration.k8s.io",
        16700,
        &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)],
    ),
    ("scheduling.k8s.io", 16600, &[("v1", 15), ("v1alpha2", 2)]),
    (
        "coordination.k8s.io",
        16500,
        &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)],
    ),
    ("node.k8s.io", 16300, &[("v1", 15)]),
    ("discovery.k8s.io", 16200, &[("v1", 15)]),
    (
        "resource.k8s.io",
        16200,
        &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)],
    ),
    ("flowcontrol.apiserver.k8s.io", 16100, &[("v1", 21)]),
    ("internal.apiserver.k8s.io", 16000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15800, &[("v1beta1", 9)]),
];

/// The priority of a version.
pub fn priority(group: &str, version: &str) -> Priority {
    let found = BUILTIN.iter().find(|known| known.0 == group);
    let found = found.and_then(|known| {
        let version = known.2.iter().find(|entry| entry.0 == version)?;
        Some(Priority {
            group: known.1,
            version: version.1,
        })
    });
    found.unwrap_or(CUSTOM)
}

/// The greater one is preferred: stable before beta before alpha, then by number; what is not named
/// like a version of Kubernetes comes last, by name.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (None, None) => b.cmp(a),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Stability, major, minor.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = number(major)?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let beta = rest.strip_prefix("beta").map(|minor| (1, minor));
    let (stability, minor) = beta.or_else(|| rest.strip_prefix("alpha").map(|minor| (0, minor)))?;
    Some((stability, major, number(minor)?))
}

fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_upstream_sorts_them() {
        let mut versions = vec![
            "v1",
            "v1beta1",
            "foo1",
            "v10",
            "v11alpha2",
            "foo10",
            "v3beta1",
            "v12alpha1",
            "v11beta2",
            "v2",
            "v1beta",
            "v+1",
        ];
        versions.sort_by(|a, b| compare_versions(b, a));
        let want = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v3beta1",
            "v1beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10",
            "v+1",
            "v1beta",
        ];
        assert_eq!(versions, want);
    }

    #[test]
    fn what_is_not_built_in_has_the_priority_of_custom_resources() {
        assert_eq!(priority("example.com", "v1"), CUSTOM);
        let apps = Priority {
            group: 17800,
            version: 15,
        };
        assert_eq!(priority("apps", "v1"), apps);
    }
}

//! Where objects stand in the store: upstream's layout, so that a cluster's data can move over from
//! etcd and back.

/// What every key of an object starts with.
pub const ROOT: &str = "/registry/";

/// Resources whose keys do not follow from their names.
const SPECIAL: [(&str, &str, &str); 5] = [
    ("", "replicationcontrollers", "controllers"),
    ("", "endpoints", "services/endpoints"),
    ("", "services", "services/specs"),
    ("", "nodes", "minions"),
    ("networking.k8s.io", "ingresses", "ingress"),
];

/// Groups that upstream keeps under their own name, as it does with custom resources.
const NAMED_GROUPS: [&str; 2] = ["apiextensions.k8s.io", "apiregistration.k8s.io"];

/// The prefix of a resource's keys, with a slash at the end. `is_custom` for custom resources.
pub fn prefix(group: &str, resource: &str, is_custom: bool) -> String {
    let special = SPECIAL
        .iter()
        .find(|known| (known.0, known.1) == (group, resource));
    match special {
        Some((_, _, path)) => format!("{ROOT}{path}/"),
        None if is_custom || NAMED_GROUPS.contains(&group) => format!("{ROOT}{group}/{resource}/"),
        None => format!("{ROOT}{resource}/"),
    }
}

/// The part of a key below its prefix: `namespace/name`, or `name` for objects of the cluster.
pub fn local(namespace: &str, name: &str) -> String {
    match namespace {
        "" => name.to_string(),
        namespace => format!("{namespace}/{name}"),
    }
}

/// The first key after all that start with a prefix.
pub fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // etcd's notation for "no end".
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_upstreams() {
        for (group, resource, want) in [
            ("", "pods", "/registry/pods/"),
            ("", "services", "/registry/services/specs/"),
            ("", "nodes", "/registry/minions/"),
            ("apps", "deployments", "/registry/deployments/"),
            ("networking.k8s.io", "ingresses", "/registry/ingress/"),
            (
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "/registry/apiextensions.k8s.io/customresourcedefinitions/",
            ),
        ] {
            assert_eq!(prefix(group, resource, false), want);
        }
        assert_eq!(prefix("a.io", "things", true), "/registry/a.io/things/");
        assert_eq!(end(b"/a/"), b"/a0");
        assert_eq!(end(b"a\xff"), b"b");
        assert_eq!(end(b"\xff"), [0]);
    }
}

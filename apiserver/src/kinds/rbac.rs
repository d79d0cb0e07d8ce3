//! rbac.authorization.k8s.io: roles, and who has them.

use api::field::FieldError;
use api::name;

use super::facts::{Facts, Raw, path_segment, subdomain};
use crate::validation::{At, Errors, labels};

const GROUP: &str = "rbac.authorization.k8s.io";

const NAMED: Facts = Facts {
    name: path_segment,
    creates_on_update: true,
    ..Facts::PLAIN
};

/// What is particular about roles.
pub const ROLE: Facts = Facts {
    create: |_, new, errors| rules(errors, new, true),
    update: |_, new, _, errors| rules(errors, new, true),
    ..NAMED
};

/// What is particular about cluster roles.
pub const CLUSTER_ROLE: Facts = Facts {
    create: |_, new, errors| cluster_role(errors, new, None),
    update: |_, new, old, errors| cluster_role(errors, new, Some(old)),
    ..NAMED
};

/// What is particular about role bindings.
pub const ROLE_BINDING: Facts = Facts {
    create: |_, new, errors| binding(errors, new, &["Role", "ClusterRole"]),
    update: |_, new, old, errors| {
        binding(errors, new, &["Role", "ClusterRole"]);
        same_role(errors, new, old);
    },
    ..NAMED
};

/// What is particular about cluster role bindings.
pub const CLUSTER_ROLE_BINDING: Facts = Facts {
    create: |_, new, errors| binding(errors, new, &["ClusterRole"]),
    update: |_, new, old, errors| {
        binding(errors, new, &["ClusterRole"]);
        same_role(errors, new, old);
    },
    ..NAMED
};

fn rules(errors: &mut Errors, new: At<'_>, is_namespaced: bool) {
    for rule in new.get("rules").items() {
        errors.need(rule.get("verbs"), "verbs must contain at least one value");
        let urls = rule.get("nonResourceURLs");
        let fields = ["apiGroups", "resources", "resourceNames"];
        if !urls.is_empty() {
            if is_namespaced {
                errors.invalid(urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if fields.iter().any(|field| !rule.get(field).is_empty()) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(urls, detail);
            }
            continue;
        }
        for (field, detail) in [
            (
                "apiGroups",
                "resource rules must supply at least one api group",
            ),
            (
                "resources",
                "resource rules must supply at least one resource",
            ),
        ] {
            errors.need(rule.get(field), detail);
        }
    }
}

fn cluster_role(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    rules(errors, new, false);
    let aggregation = new.get("aggregationRule");
    if !aggregation.is_set() {
        return;
    }
    let selectors = aggregation.get("clusterRoleSelectors");
    errors.need(
        selectors,
        "at least one clusterRoleSelector required if aggregationRule is non-nil",
    );
    let any_value = old.is_some_and(|old| {
        let selectors = old.path(&["aggregationRule", "clusterRoleSelectors"]);
        selectors.items().any(labels::has_bad_value)
    });
    for selector in selectors.items() {
        labels::selector(errors, selector, any_value);
        let is_selector = selector
            .node()
            .is_none_or(|node| api::selector::LabelSelector::from_node(node).is_ok());
        if !is_selector {
            errors.invalid_value(selector, Raw("null".to_string()), "invalid label selector.");
        }
    }
}

fn binding(errors: &mut Errors, new: At<'_>, kinds: &[&str]) {
    let role = new.get("roleRef");
    errors.one_of(role.get("apiGroup"), &[GROUP]);
    errors.one_of(role.get("kind"), kinds);
    if errors.need(role.get("name"), "") {
        errors.names(role.get("name"), name::path_segment);
    }
    let is_namespaced = kinds.contains(&"Role");
    for subject in new.get("subjects").items() {
        let (group, name) = (subject.get("apiGroup"), subject.get("name"));
        errors.need(name, "");
        match subject.get("kind").str() {
            "ServiceAccount" => {
                if !name.is_empty() {
                    errors.names(name, subdomain);
                }
                if !group.is_empty() {
                    errors.not_supported(group, &[""]);
                }
                if !is_namespaced {
                    errors.need(subject.get("namespace"), "");
                }
            }
            "User" | "Group" => errors.one_of(group, &[GROUP]),
            _ => errors.not_supported(subject.get("kind"), &["ServiceAccount", "User", "Group"]),
        }
    }
}

fn same_role(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (role, was) = (new.get("roleRef"), old.get("roleRef"));
    let parts = |role: At<'_>| {
        let part = |field| role.get(field).str().to_string();
        [part("apiGroup"), part("kind"), part("name")]
    };
    let [group, kind, name] = parts(role);
    if parts(was) != [group.as_str(), kind.as_str(), name.as_str()] {
        let shown = format!(r#"{{"APIGroup":{group:?},"Kind":{kind:?},"Name":{name:?}}}"#);
        let error = FieldError::invalid("roleRef", Raw(shown), "cannot change roleRef");
        errors.push(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    #[test]
    fn wrong_roles_are_told() {
        let role = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"a:b"},
            "rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}"#;
        cases(
            &ROLE,
            role,
            &[
                Case::create(
                    "rules 0 verbs",
                    "[]",
                    &["rules[0].verbs: Required value: verbs must contain at least one value"],
                ),
                Case::create(
                    "rules 0 apiGroups",
                    "-",
                    &[
                        "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    ],
                ),
                Case::create(
                    "rules 0 resources",
                    "-",
                    &[
                        "rules[0].resources: Required value: resource rules must supply at least one resource",
                    ],
                ),
                Case::create(
                    "rules 0 nonResourceURLs",
                    r#"["/x"]"#,
                    &[
                        r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs"#,
                        r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs"#,
                    ],
                ),
            ],
        );
        let role = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"a"},
            "rules":null,"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}"#;
        cases(
            &CLUSTER_ROLE,
            role,
            &[Case::create(
                "aggregationRule clusterRoleSelectors",
                "[]",
                &[
                    "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
                ],
            )],
        );
        assert_eq!((ROLE.name)("a/b", false), ["may not contain '/'"]);
    }

    #[test]
    fn wrong_bindings_are_told() {
        let binding = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"a"},
            "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"x"},
            "subjects":[{"kind":"ServiceAccount","name":"s","namespace":"n"},{"kind":"User","name":"u","apiGroup":"rbac.authorization.k8s.io"}]}"#;
        cases(
            &CLUSTER_ROLE_BINDING,
            binding,
            &[
                Case::create(
                    "roleRef kind",
                    r#""Role""#,
                    &[
                        r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
                    ],
                ),
                Case::create("roleRef name", r#""""#, &["roleRef.name: Required value"]),
                Case::create(
                    "subjects 0 namespace",
                    "-",
                    &["subjects[0].namespace: Required value"],
                ),
                Case::create(
                    "subjects 0 apiGroup",
                    r#""x""#,
                    &[r#"subjects[0].apiGroup: Unsupported value: "x": supported values: """#],
                ),
                Case::create(
                    "subjects 1 apiGroup",
                    r#""x""#,
                    &[
                        r#"subjects[1].apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io""#,
                    ],
                ),
                Case::create(
                    "subjects 1 kind",
                    r#""x""#,
                    &[
                        r#"subjects[1].kind: Unsupported value: "x": supported values: "ServiceAccount", "User", "Group""#,
                    ],
                ),
                Case::update(
                    "roleRef name",
                    r#""y""#,
                    &[
                        r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"y"}: cannot change roleRef"#,
                    ],
                ),
            ],
        );
    }
}

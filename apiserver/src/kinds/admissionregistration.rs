//! admissionregistration.k8s.io: webhooks and policies. Expressions are only judged for being there:
//! they are compiled elsewhere.

mod policies;

use std::collections::HashSet;

use api::name;

pub use policies::{MUTATING_BINDING, MUTATING_POLICY, VALIDATING_BINDING, VALIDATING_POLICY};

use super::facts::{Facts, Generation};
use super::lists::texts;
use super::webhook;
use crate::validation::{At, Errors, labels, same};

const CONDITIONS_MAX: usize = 64;
pub(crate) const STATIC_SUFFIX: &str = ".static.k8s.io";

/// What is particular about a resource of this group.
pub fn facts(resource: &str) -> &'static Facts {
    match resource {
        "mutatingadmissionpolicies" => &MUTATING_POLICY,
        "mutatingadmissionpolicybindings" => &MUTATING_BINDING,
        "mutatingwebhookconfigurations" => &MUTATING_WEBHOOKS,
        "validatingadmissionpolicies" => &VALIDATING_POLICY,
        "validatingadmissionpolicybindings" => &VALIDATING_BINDING,
        "validatingwebhookconfigurations" => &VALIDATING_WEBHOOKS,
        _ => &Facts::PLAIN,
    }
}

/// What is particular about webhooks that validate.
pub const VALIDATING_WEBHOOKS: Facts = Facts {
    unconditional: false,
    generation: Generation::Of(&["webhooks"]),
    create: |_, new, errors| webhooks(errors, new, None),
    update: |_, new, old, errors| webhooks(errors, new, Some(old)),
    warnings: |_, new, _, told| warn_static(new, told),
    ..Facts::PLAIN
};

/// What is particular about webhooks that mutate: they may be called again.
pub const MUTATING_WEBHOOKS: Facts = VALIDATING_WEBHOOKS;

pub(crate) fn warn_static(new: At<'_>, told: &mut Vec<String>) {
    if new
        .path(&["metadata", "name"])
        .str()
        .ends_with(STATIC_SUFFIX)
    {
        told.push(format!(
            "metadata.name: names ending with {STATIC_SUFFIX:?} are reserved for static \
             manifest-based configurations and cannot be managed via the API"
        ));
    }
}

/// What webhooks may have because their old ones have it.
#[derive(Clone, Copy, Default)]
struct Leave {
    conditions: bool,
    side_effects: bool,
    versions: bool,
    names: bool,
    selector_values: bool,
}

const HARMLESS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

impl Leave {
    fn of_old(new: At<'_>, old: At<'_>) -> Self {
        let (now, before) = (new.get("webhooks"), old.get("webhooks"));
        let mut names = HashSet::new();
        let same_conditions = |(now, before): (At<'_>, At<'_>)| {
            same(now.get("matchConditions"), before.get("matchConditions"))
        };
        let selectors = ["namespaceSelector", "objectSelector"];
        Self {
            conditions: now.len() == before.len()
                && now.items().zip(before.items()).all(same_conditions),
            side_effects: before
                .items()
                .any(|hook| !HARMLESS.contains(&hook.get("sideEffects").str())),
            versions: before.items().any(|hook| {
                let versions = hook.get("admissionReviewVersions");
                !versions.is_empty() && !webhook::has_known_version(versions)
            }),
            names: !before
                .items()
                .all(|hook| names.insert(hook.get("name").str())),
            selector_values: before.items().any(|hook| {
                selectors
                    .iter()
                    .any(|field| labels::has_bad_value(hook.get(field)))
            }),
        }
    }
}

fn webhooks(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let leave = old.map_or_else(Leave::default, |old| Leave::of_old(new, old));
    let mut names = HashSet::new();
    for hook in new.get("webhooks").items() {
        one_webhook(errors, hook, leave);
        let versions = hook.get("admissionReviewVersions");
        if errors.need(versions, "must specify one of v1, v1beta1") {
            webhook::review_versions(errors, versions, !leave.versions);
        }
        let hook_name = hook.get("name");
        if !leave.names && !hook_name.is_empty() && !names.insert(hook_name.str()) {
            errors.duplicate(hook_name);
        }
    }
}

fn one_webhook(errors: &mut Errors, hook: At<'_>, leave: Leave) {
    qualified_name(errors, hook.get("name"));
    for rule in hook.get("rules").items() {
        rule_with_operations(errors, rule);
    }
    for (field, known) in [
        ("failurePolicy", &["Fail", "Ignore"]),
        ("matchPolicy", &["Equivalent", "Exact"]),
    ] {
        if hook.has(field) {
            errors.one_of(hook.get(field), known);
        }
    }
    let effects = hook.get("sideEffects");
    let known: &[&str] = match leave.side_effects {
        true => &SIDE_EFFECTS,
        false => &HARMLESS,
    };
    if effects.is_set() {
        errors.one_of(effects, known);
    } else {
        errors.required(effects, format!("must specify one of {}", known.join(", ")));
    }
    let timeout = hook.get("timeoutSeconds");
    if timeout
        .opt_int()
        .is_some_and(|seconds| !(1..=30).contains(&seconds))
    {
        errors.invalid(
            timeout,
            "the timeout value must be between 1 and 30 seconds",
        );
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        if hook.has(selector) {
            labels::selector(errors, hook.get(selector), leave.selector_values);
        }
    }
    if hook.has("reinvocationPolicy") {
        errors.one_of(hook.get("reinvocationPolicy"), &["IfNeeded", "Never"]);
    }
    webhook::client_config(errors, hook.get("clientConfig"));
    if !leave.conditions {
        match_conditions(errors, hook.get("matchConditions"));
    }
}

/// A domain of at least three segments.
fn qualified_name(errors: &mut Errors, at: At<'_>) {
    if !errors.need(at, "") {
        return;
    }
    let complaints = name::dns_1123_subdomain(at.str());
    if !complaints.is_empty() {
        errors.invalid(at, complaints.join(","));
    } else if at.str().split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid(at, detail);
    }
}

pub(crate) fn rule_with_operations(errors: &mut Errors, rule: At<'_>) {
    let operations = rule.get("operations");
    errors.need(operations, "");
    if operations.len() > 1 && operations.contains("*") {
        let detail = "if '*' is present, must not specify other operations";
        errors.invalid(operations, detail);
    }
    for operation in operations.items() {
        let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
        errors.one_of(operation, &known);
    }
    for (field, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = rule.get(field);
        errors.need(list, "");
        if list.len() > 1 && list.contains("*") {
            let detail = format!("if '*' is present, must not specify other {what}");
            errors.invalid(list, detail);
        }
    }
    for version in rule.get("apiVersions").items() {
        errors.need(version, "");
    }
    resources(errors, rule.get("resources"));
    if rule.has("scope") {
        errors.one_of(rule.get("scope"), &["*", "Cluster", "Namespaced"]);
    }
}

fn resources(errors: &mut Errors, list: At<'_>) {
    errors.need(list, "");
    let (mut any_sub, mut any_resource) = (HashSet::new(), HashSet::new());
    let mut has_plain = false;
    for item in list.items() {
        let text = item.str();
        if !errors.need(item, "") {
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            has_plain = text != "*";
            continue;
        };
        if any_sub.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(item, detail);
        }
        if any_resource.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.invalid(item, detail);
        }
        if sub == "*" {
            any_sub.insert(resource);
        }
        if resource == "*" {
            any_resource.insert(sub);
        }
    }
    let names = texts(list);
    if names.len() > 1 && names.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(list, detail);
    }
    if names.contains(&"*") && has_plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(list, detail);
    }
}

pub(crate) fn match_conditions(errors: &mut Errors, list: At<'_>) {
    if list.len() > CONDITIONS_MAX {
        errors.too_many(list, CONDITIONS_MAX);
    }
    let mut names = HashSet::new();
    for condition in list.items() {
        if condition.get("expression").str().trim().is_empty() {
            errors.required(condition.get("expression"), "");
        }
        let condition_name = condition.get("name");
        if errors.need(condition_name, "") {
            errors.names(condition_name, name::label_key);
            if !names.insert(condition_name.str()) {
                errors.duplicate(condition_name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, warnings};

    #[test]
    fn wrong_webhooks_are_told() {
        let good = r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":"a"},"webhooks":[{
            "name":"a.b.c","clientConfig":{"url":"https://a"},"failurePolicy":"Fail","matchPolicy":"Equivalent","sideEffects":"None","timeoutSeconds":10,
            "namespaceSelector":{},"objectSelector":{},"reinvocationPolicy":"Never","admissionReviewVersions":["v1"],
            "rules":[{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods","pods/status"],"scope":"*"}],
            "matchConditions":[{"name":"x","expression":"true"}]}]}"#;
        cases(
            &MUTATING_WEBHOOKS,
            good,
            &[
                Case::create(
                    "webhooks 0 name",
                    r#""a.b""#,
                    &[
                        r#"webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots"#,
                    ],
                ),
                Case::create(
                    "webhooks 0 sideEffects",
                    "-",
                    &[
                        "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                    ],
                ),
                Case::create(
                    "webhooks 0 sideEffects",
                    r#""Some""#,
                    &[
                        r#"webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun""#,
                    ],
                ),
                Case::create(
                    "webhooks 0 timeoutSeconds",
                    "31",
                    &[
                        "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                    ],
                ),
                Case::create(
                    "webhooks 0 admissionReviewVersions",
                    "[]",
                    &[
                        "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
                    ],
                ),
                Case::create(
                    "webhooks 0 admissionReviewVersions 0",
                    r#""v2""#,
                    &[
                        r#"webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1"#,
                    ],
                ),
                Case::create(
                    "webhooks 0 rules 0 operations 0",
                    r#""x""#,
                    &[
                        r#"webhooks[0].rules[0].operations[0]: Unsupported value: "x": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE""#,
                    ],
                ),
                Case::create(
                    "webhooks 0 rules 0 apiGroups 1",
                    r#""*""#,
                    &[
                        r#"webhooks[0].rules[0].apiGroups: Invalid value: ["","*"]: if '*' is present, must not specify other API groups"#,
                    ],
                ),
                Case::create(
                    "webhooks 0 rules 0 resources 0",
                    r#""pods/*""#,
                    &[
                        r#"webhooks[0].rules[0].resources[1]: Invalid value: "pods/status": if 'pods/*' is present, must not specify pods/status"#,
                    ],
                ),
                Case::create(
                    "webhooks 0 rules 0 resources 0",
                    r#""*/*""#,
                    &[
                        r#"webhooks[0].rules[0].resources: Invalid value: ["*/*","pods/status"]: if '*/*' is present, must not specify other resources"#,
                    ],
                ),
                Case::create(
                    "webhooks 0 matchConditions 0 expression",
                    r#"" ""#,
                    &["webhooks[0].matchConditions[0].expression: Required value"],
                ),
                Case::create(
                    "webhooks 0 failurePolicy",
                    r#""x""#,
                    &[
                        r#"webhooks[0].failurePolicy: Unsupported value: "x": supported values: "Fail", "Ignore""#,
                    ],
                ),
                Case::create(
                    "webhooks 0 clientConfig",
                    "{}",
                    &[
                        "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                    ],
                ),
            ],
        );
        let named = r#"{"metadata":{"name":"a.static.k8s.io"}}"#;
        assert_eq!(warnings(&VALIDATING_WEBHOOKS, named, None).len(), 1);
    }
}

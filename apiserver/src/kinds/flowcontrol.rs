//! flowcontrol.apiserver.k8s.io: which requests share which part of the server. Some objects are
//! mandatory: what they say is fixed.

use std::collections::HashSet;

use api::doc::Doc;
use api::field::FieldError;
use api::name;

use super::facts::{Facts, Generation, Status, label, subdomain};
use super::lists::texts;
use crate::validation::{At, Errors, same};

const EXEMPT: &str = "exempt";
const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
const HASH_BITS_MAX: u32 = 60;
const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// Schemas that every cluster has, with their specs.
pub const MANDATORY_SCHEMAS: [(&str, &str); 2] = [
    (
        EXEMPT,
        r#"{"priorityLevelConfiguration":{"name":"exempt"},"matchingPrecedence":1,"rules":[{"subjects":[
            {"kind":"Group","group":{"name":"system:masters"}}],"resourceRules":[{"verbs":["*"],"apiGroups":["*"],
            "resources":["*"],"clusterScope":true,"namespaces":["*"]}],
            "nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}"#,
    ),
    (
        "catch-all",
        r#"{"priorityLevelConfiguration":{"name":"catch-all"},"matchingPrecedence":10000,
            "distinguisherMethod":{"type":"ByUser"},"rules":[{"subjects":[
            {"kind":"Group","group":{"name":"system:unauthenticated"}},
            {"kind":"Group","group":{"name":"system:authenticated"}}],
            "resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":["*"]}],
            "nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}"#,
    ),
];

/// Levels that every cluster has, with their specs.
pub const MANDATORY_LEVELS: [(&str, &str); 2] = [
    (
        EXEMPT,
        r#"{"type":"Exempt","exempt":{"nominalConcurrencyShares":0,"lendablePercent":0}}"#,
    ),
    (
        "catch-all",
        r#"{"type":"Limited","limited":{"nominalConcurrencyShares":5,"limitResponse":{"type":"Reject"},"lendablePercent":0}}"#,
    ),
];

/// What is particular about flow schemas.
pub const FLOW_SCHEMA: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    status: Status::Own("{}"),
    status_keeps_metadata: true,
    create: |_, new, errors| schema(errors, new),
    update: |_, new, _, errors| schema(errors, new),
    sub_update: |_, new, _, errors| conditions(errors, new),
    ..Facts::PLAIN
};

/// What is particular about priority levels.
pub const PRIORITY_LEVEL: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    status: Status::Own("{}"),
    status_keeps_metadata: true,
    create: |_, new, errors| level(errors, new),
    update: |_, new, _, errors| level(errors, new),
    sub_update: |_, new, _, errors| conditions(errors, new),
    ..Facts::PLAIN
};

fn object_name(new: At<'_>) -> &str {
    new.path(&["metadata", "name"]).str()
}

fn mandatory(known: &[(&str, &str)], name: &str) -> Option<Doc> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, spec)| Doc::literal(spec))
}

fn conditions(errors: &mut Errors, new: At<'_>) {
    let mut seen = HashSet::new();
    for condition in new.path(&["status", "conditions"]).items() {
        let kind = condition.get("type");
        if !seen.insert(kind.str()) {
            errors.duplicate(kind);
        }
        errors.need(kind, "");
    }
}

fn schema(errors: &mut Errors, new: At<'_>) {
    let (name, spec) = (object_name(new), new.get("spec"));
    let precedence = spec.get("matchingPrecedence");
    if precedence.int() <= 0 {
        errors.invalid(precedence, "must be a positive value");
    }
    if precedence.int() > PRECEDENCE_MAX {
        errors.invalid(
            precedence,
            format!("must not be greater than {PRECEDENCE_MAX}"),
        );
    }
    if precedence.int() == 1 && name != EXEMPT {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(precedence, detail);
    }
    let method = spec.get("distinguisherMethod");
    let known = ["ByNamespace", "ByUser"];
    if let Some(node) = method.node()
        && !known.contains(&method.get("type").str())
    {
        let path = errors.path(method.get("type"));
        errors.push(FieldError::not_supported(path, node, &known));
    }
    let level = spec.path(&["priorityLevelConfiguration", "name"]);
    if errors.need(level, "must reference a priority level") {
        errors.names(level, subdomain);
    }
    for rule in spec.get("rules").items() {
        rules(errors, rule);
    }
    if let Some(fixed) = mandatory(&MANDATORY_SCHEMAS, name)
        && !same(spec, At::root(&fixed))
    {
        errors.invalid(spec, format!("spec of '{name}' must equal the fixed value"));
    }
    conditions(errors, new);
}

fn rules(errors: &mut Errors, rule: At<'_>) {
    errors.need(
        rule.get("subjects"),
        "subjects must contain at least one value",
    );
    for one in rule.get("subjects").items() {
        subject(errors, one);
    }
    let (resources, others) = (rule.get("resourceRules"), rule.get("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(rule, detail);
    }
    for one in resources.items() {
        resource_rule(errors, one);
    }
    for one in others.items() {
        url_rule(errors, one);
    }
}

const SUBJECTS: [(&str, &str); 3] = [
    ("ServiceAccount", "serviceAccount"),
    ("User", "user"),
    ("Group", "group"),
];

fn subject(errors: &mut Errors, at: At<'_>) {
    let kind = at.get("kind").str();
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        return errors.not_supported(at.get("kind"), &["Group", "ServiceAccount", "User"]);
    };
    let who = at.get(own);
    if !who.is_set() {
        let detail = format!("{own} is required when subject kind is '{kind}'");
        errors.required(who, detail);
    } else if errors.need(who.get("name"), "")
        && kind == "ServiceAccount"
        && who.get("name").str() != "*"
    {
        errors.names(who.get("name"), subdomain);
    }
    if who.is_set() && kind == "ServiceAccount" {
        let detail = "must specify namespace for service account";
        if errors.need(who.get("namespace"), detail) {
            errors.names(who.get("namespace"), label);
        }
    }
    // Upstream tells the service account first, then the user, then the group.
    for (other, field) in SUBJECTS.iter().filter(|(_, field)| field != own) {
        if at.has(field) {
            let detail = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.forbidden(at.get(field), detail);
        }
    }
}

/// A list of texts in which `*` must stand alone; says whether its elements should be judged.
fn alone(errors: &mut Errors, list: At<'_>, what: &str) -> bool {
    if !list.contains("*") {
        return true;
    }
    if list.len() > 1 {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.invalid(list, detail);
    }
    false
}

fn verbs(errors: &mut Errors, list: At<'_>) {
    if errors.need(list, "verbs must contain at least one value")
        && alone(errors, list, "verbs")
        && !texts(list).iter().all(|verb| VERBS.contains(verb))
    {
        errors.not_supported(list, &VERBS);
    }
}

fn resource_rule(errors: &mut Errors, rule: At<'_>) {
    verbs(errors, rule.get("verbs"));
    for (field, detail, what) in [
        (
            "apiGroups",
            "resource rules must supply at least one api group",
            "api groups",
        ),
        (
            "resources",
            "resource rules must supply at least one resource",
            "resources",
        ),
    ] {
        if errors.need(rule.get(field), detail) {
            alone(errors, rule.get(field), what);
        }
    }
    let namespaces = rule.get("namespaces");
    if namespaces.is_empty() && !rule.get("clusterScope").flag() {
        let detail =
            "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(namespaces, detail);
    } else if alone(errors, namespaces, "namespaces") {
        for namespace in namespaces.items() {
            for complaint in label(namespace.str()) {
                let detail = format!(
                    "each member of this list must be '*' or a DNS-1123 label; {complaint}"
                );
                errors.invalid(namespace, detail);
            }
        }
    }
}

fn url_rule(errors: &mut Errors, rule: At<'_>) {
    verbs(errors, rule.get("verbs"));
    let urls = rule.get("nonResourceURLs");
    if errors.need(urls, "nonResourceURLs must contain at least one value")
        && alone(errors, urls, "non-resource URLs")
    {
        for url in urls.items() {
            if let Some(complaint) = url_complaint(url.str()) {
                errors.invalid(url, complaint);
            }
        }
    }
}

fn url_complaint(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        path if !path.starts_with('/') => Some("must start with slash"),
        path if path.contains(' ') => Some("must not contain white-space"),
        path if path.contains("//") => Some("must not contain double slash"),
        path if stars > 1 || (stars == 1 && !path.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn level(errors: &mut Errors, new: At<'_>) {
    let (name, spec) = (object_name(new), new.get("spec"));
    let annotations = new.path(&["metadata", "annotations"]);
    if annotations.entry(ZERO_SHARES).is_some() {
        let detail = format!("annotation '{ZERO_SHARES}' is forbidden");
        errors.forbidden(annotations, detail);
    }
    let kind = spec.get("type");
    if (name == EXEMPT) != (kind.str() == "Exempt") {
        errors.invalid(kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (limited, exempt) = (spec.get("limited"), spec.get("exempt"));
    match kind.str() {
        "Exempt" => {
            if limited.is_set() {
                errors.forbidden(limited, "must be nil if the type is not Limited");
            }
            shares(errors, exempt);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.forbidden(exempt, "must be nil if the type is Limited");
            }
            if limited.is_set() {
                limits(errors, limited);
            } else {
                errors.required(limited, "must not be empty when type is Limited");
            }
        }
        _ => errors.not_supported(kind, &["Exempt", "Limited"]),
    }
    fixed_level(errors, spec, name);
    conditions(errors, new);
}

fn fixed_level(errors: &mut Errors, spec: At<'_>, name: &str) {
    let Some(fixed) = mandatory(&MANDATORY_LEVELS, name) else {
        return;
    };
    let fixed = At::root(&fixed);
    if name == EXEMPT {
        let is_fixed = spec.get("type").str() == "Exempt" && !spec.has("limited");
        if !is_fixed {
            let detail = format!(
                "spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
            );
            errors.invalid(spec, detail);
        }
    } else if !same(spec, fixed) {
        errors.invalid(spec, format!("spec of '{name}' must equal the fixed value"));
    }
}

fn shares(errors: &mut Errors, at: At<'_>) {
    if at.get("nominalConcurrencyShares").int() < 0 {
        let detail = "must be a non-negative integer";
        errors.invalid(at.get("nominalConcurrencyShares"), detail);
    }
    lendable(errors, at.get("lendablePercent"));
}

fn lendable(errors: &mut Errors, percent: At<'_>) {
    if percent.is_set() {
        errors.names(percent, |_| name::in_range(percent.int(), 0, 100));
    }
}

fn limits(errors: &mut Errors, at: At<'_>) {
    if at.get("nominalConcurrencyShares").int() < 0 {
        let detail = "must be a non-negative integer";
        errors.invalid(at.get("nominalConcurrencyShares"), detail);
    }
    let response = at.get("limitResponse");
    let queuing = response.get("queuing");
    match response.get("type").str() {
        "Reject" if queuing.is_set() => errors.forbidden(
            queuing,
            "must be nil if limited.limitResponse.type is not Limited",
        ),
        "Reject" => {}
        "Queue" if queuing.is_set() => queues(errors, queuing),
        "Queue" => errors.required(
            queuing,
            "must not be empty if limited.limitResponse.type is Limited",
        ),
        _ => errors.not_supported(response.get("type"), &["Queue", "Reject"]),
    }
    lendable(errors, at.get("lendablePercent"));
    if at.get("borrowingLimitPercent").int() < 0 {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(at.get("borrowingLimitPercent"), detail);
    }
}

fn queues(errors: &mut Errors, at: At<'_>) {
    let (length, queues, hand) = (
        at.get("queueLengthLimit"),
        at.get("queues"),
        at.get("handSize"),
    );
    if length.int() <= 0 {
        errors.invalid(length, "must be positive");
    }
    if queues.int() <= 0 {
        errors.invalid(queues, "must be positive");
    } else if queues.int() > QUEUES_MAX {
        errors.invalid(queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand.int() <= 0 {
        errors.invalid(hand, "must be positive");
    } else if hand.int() > queues.int() {
        let detail = format!("should not be greater than queues ({})", queues.int());
        errors.invalid(hand, detail);
    } else if entropy_bits(queues.int(), hand.int()) > f64::from(HASH_BITS_MAX) {
        let detail = format!(
            "required entropy bits of deckSize {} and handSize {} should not be greater than \
             {HASH_BITS_MAX}",
            queues.int(),
            hand.int()
        );
        errors.invalid(hand, detail);
    }
}

/// The bits that dealing a hand from a deck takes, as upstream estimates them.
#[expect(clippy::cast_precision_loss, reason = "an estimate in bits")]
fn entropy_bits(deck: i64, hand: i64) -> f64 {
    ((deck as f64).log2() * hand as f64).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    const SCHEMA: &str = r#"{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"FlowSchema","metadata":{"name":"a"},"spec":{
        "priorityLevelConfiguration":{"name":"p"},"matchingPrecedence":100,"distinguisherMethod":{"type":"ByUser"},"rules":[{
        "subjects":[{"kind":"User","user":{"name":"u"}},{"kind":"ServiceAccount","serviceAccount":{"name":"*","namespace":"n"}}],
        "resourceRules":[{"verbs":["get"],"apiGroups":["*"],"resources":["pods"],"namespaces":["n"]}],
        "nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["/a/*"]}]}]}}"#;

    #[test]
    fn wrong_schemas_are_told() {
        cases(
            &FLOW_SCHEMA,
            SCHEMA,
            &[
                Case::create(
                    "spec matchingPrecedence",
                    "1",
                    &[
                        "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                    ],
                ),
                Case::create(
                    "spec matchingPrecedence",
                    "10001",
                    &[
                        "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
                    ],
                ),
                Case::create(
                    "spec priorityLevelConfiguration name",
                    r#""""#,
                    &[
                        "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                    ],
                ),
                Case::create(
                    "spec rules 0 subjects",
                    "[]",
                    &[
                        "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                    ],
                ),
                Case::create(
                    "spec rules 0 subjects 0 group",
                    r#"{"name":"g"}"#,
                    &[
                        "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                    ],
                ),
                Case::create(
                    "spec rules 0 subjects 0 kind",
                    r#""x""#,
                    &[
                        r#"spec.rules[0].subjects[0].kind: Unsupported value: "x": supported values: "Group", "ServiceAccount", "User""#,
                    ],
                ),
                Case::create(
                    "spec rules 0 subjects 1 serviceAccount namespace",
                    r#""""#,
                    &[
                        "spec.rules[0].subjects[1].serviceAccount.namespace: Required value: must specify namespace for service account",
                    ],
                ),
                Case::create(
                    "spec rules 0 resourceRules 0 verbs 0",
                    r#""x""#,
                    &[
                        r#"spec.rules[0].resourceRules[0].verbs: Unsupported value: ["x"]: supported values: "create",…"#,
                    ],
                ),
                Case::create(
                    "spec rules 0 resourceRules 0 namespaces",
                    "[]",
                    &[
                        "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                    ],
                ),
                Case::create(
                    "spec rules 0 nonResourceRules 0 nonResourceURLs 0",
                    r#""a""#,
                    &[
                        r#"spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "a": must start with slash"#,
                    ],
                ),
                Case::create(
                    "metadata name",
                    r#""catch-all""#,
                    &["spec: Invalid value: …"],
                ),
            ],
        );
        for (name, spec) in MANDATORY_SCHEMAS {
            let fixed = format!(
                r#"{{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"FlowSchema","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
            );
            cases(&FLOW_SCHEMA, &fixed, &[]);
        }
    }

    #[test]
    fn wrong_levels_are_told() {
        let good = r#"{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"PriorityLevelConfiguration","metadata":{"name":"a"},"spec":{
            "type":"Limited","limited":{"nominalConcurrencyShares":5,"lendablePercent":50,"limitResponse":{"type":"Queue","queuing":{"queues":64,"handSize":6,"queueLengthLimit":50}}}}}"#;
        cases(
            &PRIORITY_LEVEL,
            good,
            &[
                Case::create(
                    "spec type",
                    r#""Exempt""#,
                    &[
                        r#"spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'"#,
                        "spec.limited: Forbidden: must be nil if the type is not Limited",
                    ],
                ),
                Case::create(
                    "spec limited",
                    "-",
                    &["spec.limited: Required value: must not be empty when type is Limited"],
                ),
                Case::create(
                    "spec limited lendablePercent",
                    "101",
                    &[
                        "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                    ],
                ),
                Case::create(
                    "spec limited limitResponse queuing handSize",
                    "65",
                    &[
                        "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
                    ],
                ),
                Case::create(
                    "spec limited limitResponse queuing handSize",
                    "11",
                    &[
                        "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be greater than 60",
                    ],
                ),
                Case::create(
                    "spec limited limitResponse queuing",
                    "-",
                    &[
                        "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited",
                    ],
                ),
                Case::create(
                    "spec limited limitResponse type",
                    r#""Reject""#,
                    &[
                        "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
                    ],
                ),
                Case::create(
                    "metadata name",
                    r#""catch-all""#,
                    &["spec: Invalid value: …"],
                ),
            ],
        );
        for (name, spec) in MANDATORY_LEVELS {
            let fixed = format!(
                r#"{{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"PriorityLevelConfiguration","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
            );
            cases(&PRIORITY_LEVEL, &fixed, &[]);
        }
    }
}

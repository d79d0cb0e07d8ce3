//! What decides on which node a pod may run. PersistentVolumes, nodes and RuntimeClasses have parts
//! of it too.

use std::collections::HashSet;

use api::field::FieldError;
use api::name;

use super::options::Options;
use crate::registry::strategy::{dns_label, dns_subdomain};
use crate::validation::{At, Errors, labels};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `spec.affinity`.
pub(crate) fn affinity(errors: &mut Errors, at: At<'_>, options: &Options) {
    let nodes = at.get("nodeAffinity");
    if nodes.has(REQUIRED) {
        node_selector(errors, nodes.get(REQUIRED), options.any_affinity_value);
    }
    for term in nodes.get(PREFERRED).items() {
        weight(errors, term);
        // Preferences are worth nothing if they are wrong, and harm nobody.
        node_selector_term(errors, term.get("preference"), true);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for term in at.get(kind).get(REQUIRED).items() {
            pod_affinity_term(errors, term, options.any_selector_value);
        }
        for term in at.get(kind).get(PREFERRED).items() {
            weight(errors, term);
            let own = term.get("podAffinityTerm");
            pod_affinity_term(errors, own, options.any_selector_value);
        }
    }
}

fn weight(errors: &mut Errors, term: At<'_>) {
    if !(1..=100).contains(&term.get("weight").int()) {
        errors.invalid(term.get("weight"), "must be in the range 1-100");
    }
}

/// A NodeSelector.
pub(crate) fn node_selector(errors: &mut Errors, at: At<'_>, any_value: bool) {
    let terms = at.get("nodeSelectorTerms");
    if errors.need(terms, "must have at least one node selector term") {
        for term in terms.items() {
            node_selector_term(errors, term, any_value);
        }
    }
}

/// A NodeSelectorTerm.
pub(crate) fn node_selector_term(errors: &mut Errors, term: At<'_>, any_value: bool) {
    for expression in term.get("matchExpressions").items() {
        node_expression(errors, expression, any_value);
    }
    for field in term.get("matchFields").items() {
        let (key, values) = (field.get("key"), field.get("values"));
        if !["In", "NotIn"].contains(&field.get("operator").str()) {
            errors.invalid(field.get("operator"), "not a valid selector operator");
        } else if values.len() != 1 {
            let detail =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(values, detail);
        }
        if key.str() != "metadata.name" {
            errors.invalid(key, "not a valid field selector key");
            continue;
        }
        for value in values.items() {
            errors.names(value, |text| dns_subdomain(text, false));
        }
    }
}

fn node_expression(errors: &mut Errors, at: At<'_>, any_value: bool) {
    let values = at.get("values");
    match at.get("operator").str() {
        "In" | "NotIn" => {
            errors.need(
                values,
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" => errors.deny(
            values,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" => {
            if values.len() != 1 {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(values, detail);
            }
        }
        _ => errors.invalid(at.get("operator"), "not a valid selector operator"),
    }
    errors.names(at.get("key"), name::label_key);
    if !any_value {
        for value in values.items() {
            errors.names(value, name::label_value);
        }
    }
}

fn pod_affinity_term(errors: &mut Errors, term: At<'_>, any_value: bool) {
    term_selectors(errors, term, any_value);
    for namespace in term.get("namespaces").items() {
        for complaint in dns_label(namespace.str(), false) {
            errors.invalid_below(term, ".namespace", namespace.str(), complaint);
        }
    }
    label_keys(errors, term);
    errors.need(term.get("topologyKey"), "can not be empty");
    errors.names(term.get("topologyKey"), name::label_key);
}

/// Both selectors of a term.
pub(crate) fn term_selectors(errors: &mut Errors, term: At<'_>, any_value: bool) {
    labels::selector(errors, term.get("labelSelector"), any_value);
    labels::selector(errors, term.get("namespaceSelector"), any_value);
}

/// All terms about pods, for looking at what an old object has.
pub(crate) fn pod_affinity_terms<'d>(spec: At<'d>) -> impl Iterator<Item = At<'d>> {
    let kinds = ["podAffinity", "podAntiAffinity"].into_iter();
    kinds.flat_map(move |kind| {
        let at = spec.get("affinity").get(kind);
        let preferred = at
            .get(PREFERRED)
            .items()
            .map(|term| term.get("podAffinityTerm"));
        at.get(REQUIRED).items().chain(preferred)
    })
}

/// Required terms about nodes, likewise.
pub(crate) fn required_node_terms<'d>(spec: At<'d>) -> impl Iterator<Item = At<'d>> {
    let affinity = spec.path(&["affinity", "nodeAffinity", REQUIRED]);
    affinity.get("nodeSelectorTerms").items()
}

/// `matchLabelKeys` and `mismatchLabelKeys`, which became expressions of the selector when the pod
/// was made: whoever also writes such an expression contradicts itself.
pub(crate) fn label_keys(errors: &mut Errors, term: At<'_>) {
    let selector = term.get("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.get(field);
        if keys.is_empty() {
            continue;
        }
        if !selector.is_set() {
            errors.forbidden(keys, "must not be specified when labelSelector is not set");
            continue;
        }
        for key in keys.items() {
            errors.names(key, name::label_key);
        }
    }
    let (keys, others) = (term.get("matchLabelKeys"), term.get("mismatchLabelKeys"));
    let labels = selector.get("matchLabels").items();
    let mut seen: HashSet<&str> = labels.map(At::key).collect();
    for expression in selector.get("matchExpressions").items() {
        let key = expression.get("key").str();
        let index = keys
            .items()
            .collect::<Vec<_>>()
            .iter()
            .rposition(|at| at.str() == key);
        if let Some(index) = index.filter(|_| seen.contains(key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.invalid_below(term, &format!("[{index}]"), key, detail);
        }
        seen.insert(key);
    }
    for key in keys.items().filter(|key| others.contains(key.str())) {
        errors.invalid(key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

/// The same as before 1.34, when the keys did not become expressions.
fn old_label_keys(errors: &mut Errors, term: At<'_>) {
    let (keys, selector) = (term.get("matchLabelKeys"), term.get("labelSelector"));
    if keys.is_empty() {
        return;
    }
    if !selector.is_set() {
        errors.forbidden(keys, "must not be specified when labelSelector is not set");
    }
    for key in keys.items() {
        errors.names(key, name::label_key);
        let mut expressions = selector.get("matchExpressions").items();
        if selector.get("matchLabels").entry(key.str()).is_some()
            || expressions.any(|at| at.get("key").str() == key.str())
        {
            errors.invalid(key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

/// `spec.topologySpreadConstraints`.
pub(crate) fn spreads(errors: &mut Errors, list: At<'_>, options: &Options) {
    let all: Vec<At<'_>> = list.items().collect();
    for (index, at) in all.iter().copied().enumerate() {
        let (key, action) = (at.get("topologyKey"), at.get("whenUnsatisfiable"));
        errors.positive(at.get("maxSkew"));
        errors.need(key, "can not be empty");
        errors.one_of(action, &["DoNotSchedule", "ScheduleAnyway"]);
        let is_repeated = all[index + 1..].iter().any(|other| {
            other.get("topologyKey").str() == key.str()
                && other.get("whenUnsatisfiable").str() == action.str()
        });
        if is_repeated {
            let path = format!("{}.{{topologyKey, whenUnsatisfiable}}", errors.path(at));
            let pair = format!("{{{}, {}}}", key.str(), action.str());
            errors.push(FieldError::duplicate(path, pair.as_str()));
        }
        min_domains(errors, at);
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if at.has(policy) {
                errors.one_of(at.get(policy), &["Honor", "Ignore"]);
            }
        }
        match options.old_spread_keys {
            true => old_label_keys(errors, at),
            false => label_keys(errors, at),
        }
        if !options.any_spread_selector {
            labels::selector(errors, at.get("labelSelector"), false);
        }
    }
}

fn min_domains(errors: &mut Errors, at: At<'_>) {
    let (domains, action) = (at.get("minDomains"), at.get("whenUnsatisfiable").str());
    if !domains.is_set() {
        return;
    }
    errors.positive(domains);
    if action != "DoNotSchedule" {
        let detail =
            format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.invalid(domains, detail);
    }
}

/// Tolerations.
pub(crate) fn tolerations(errors: &mut Errors, list: At<'_>, options: &Options) {
    for at in list.items() {
        let (key, operator, effect) = (at.get("key"), at.get("operator"), at.get("effect"));
        if !key.is_empty() {
            errors.names(key, name::label_key);
        } else if operator.str() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all \
                          values and all keys\"";
            errors.invalid_value(operator, operator.str(), detail);
        }
        if at.has("tolerationSeconds") && effect.str() != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid_value(effect, effect.str(), detail);
        }
        toleration_value(errors, at, options);
        if !effect.is_empty() {
            errors.one_of(effect, &EFFECTS);
        }
    }
}

fn toleration_value(errors: &mut Errors, at: At<'_>, options: &Options) {
    let (operator, value) = (at.get("operator"), at.get("value"));
    match operator.str() {
        "" | "Equal" => {
            let complaints = name::label_value(value.str());
            if !complaints.is_empty() {
                errors.invalid_value(operator, value.str(), complaints.join(";"));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.invalid_value(operator, value.str(), detail);
            }
        }
        "Lt" | "Gt" if !options.comparing_tolerations => {
            errors.not_supported(operator, &["Equal", "Exists", "Lt", "Gt"]);
        }
        "Lt" | "Gt" => number(errors, value),
        _ => errors.not_supported(operator, &["Equal", "Exists"]),
    }
}

fn number(errors: &mut Errors, at: At<'_>) {
    let digits = at.str().strip_prefix('-').unwrap_or(at.str());
    let is_canonical = at.str() == "0"
        || (!digits.is_empty()
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if at.is_empty() {
        errors.invalid(at, "must be non-empty");
    } else if !is_canonical {
        errors.invalid(at, "must be a valid decimal integer in canonical form");
    }
    if at.str().parse::<i64>().is_err() {
        let why = match is_canonical {
            true => "value out of range",
            false => "invalid syntax",
        };
        errors.invalid(
            at,
            format!("strconv.ParseInt: parsing {:?}: {why}", at.str()),
        );
    }
}

//! A JobSpec, of a Job or in a CronJob.

use std::collections::HashSet;

use api::field::FieldError;
use api::name;

use super::indexes;
use crate::validation::pod::{PodOptions, validate_template, walk, warnings as pod_warnings};
use crate::validation::{At, Errors};

const MANY: i64 = 100_000;
const MANY_IF_TRACKED: i64 = 10_000;
const MANAGER_BYTES_MAX: usize = 63;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
const INDEXES_BYTES_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// Whether its pods have numbers.
pub(super) fn is_indexed(spec: At<'_>) -> bool {
    spec.get("completionMode").str() == "Indexed"
}

/// A spec, but for its selector.
pub(super) fn validate(errors: &mut Errors, spec: At<'_>, options: &PodOptions) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.non_negative(spec.get(field));
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let detail = "when maxFailedIndexes is specified";
        errors.required(spec.get("backoffLimitPerIndex"), detail);
    }
    if spec.has("managedBy") {
        manager(errors, spec.get("managedBy"));
    }
    if spec.has("completionMode") {
        errors.one_of(spec.get("completionMode"), &["NonIndexed", "Indexed"]);
    }
    if is_indexed(spec) {
        indexed(errors, spec);
    } else if ["", "NonIndexed"].contains(&spec.get("completionMode").str()) {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.has(field) {
                errors.invalid(spec.get(field), "requires indexed completion mode");
            }
        }
    }
    failure_policy(errors, spec);
    if spec.has("successPolicy") {
        success_policy(errors, spec);
    }
    replacement_policy(errors, spec);
    validate_template(errors, spec.get("template"), options);
    restart_policy(errors, spec);
}

fn manager(errors: &mut Errors, at: At<'_>) {
    if !errors.need(at, "") {
        return;
    }
    match at.str().split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            for complaint in name::dns_1123_subdomain(host) {
                errors.invalid_value(at, host, complaint);
            }
            let is_letter =
                |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
            if !path.bytes().all(is_letter) {
                let detail = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                errors.invalid_value(at, path, detail);
            }
        }
        _ => errors.invalid(
            at,
            r#"must be a domain-prefixed path (such as "acme.io/foo")"#,
        ),
    }
    if at.str().len() > MANAGER_BYTES_MAX {
        errors.too_long(at, MANAGER_BYTES_MAX);
    }
}

fn indexed(errors: &mut Errors, spec: At<'_>) {
    let (completions, parallelism, failed) = (
        spec.get("completions"),
        spec.get("parallelism"),
        spec.get("maxFailedIndexes"),
    );
    if !completions.is_set() {
        errors.required(completions, "when completion mode is Indexed");
    }
    if parallelism.int() > MANY {
        let detail =
            format!("must be less than or equal to {MANY} when completion mode is Indexed");
        errors.invalid(parallelism, detail);
    }
    if completions.is_set() && failed.int() > completions.int() {
        errors.invalid(failed, "must be less than or equal to completions");
    }
    if failed.int() > MANY {
        errors.invalid(failed, format!("must be less than or equal to {MANY}"));
    }
    if completions.int() <= MANY || !spec.has("backoffLimitPerIndex") {
        return;
    }
    if !failed.is_set() {
        let detail = format!("must be specified when completions is above {MANY}");
        errors.required(failed, detail);
    }
    for at in [parallelism, failed] {
        if at.int() > MANY_IF_TRACKED {
            let detail = format!(
                "must be less than or equal to {MANY_IF_TRACKED} when completions are above {MANY} and \
                 used with backoff limit per index"
            );
            errors.invalid(at, detail);
        }
    }
}

fn failure_policy(errors: &mut Errors, spec: At<'_>) {
    let rules = spec.path(&["podFailurePolicy", "rules"]);
    if rules.len() > RULES_MAX {
        errors.too_many(rules, RULES_MAX);
    }
    for rule in rules.items() {
        let (action, codes) = (rule.get("action"), rule.get("onExitCodes"));
        let conditions = rule.get("onPodConditions");
        if action.is_empty() {
            errors.required(action, valid_values(&ACTIONS));
        } else if action.str() == "FailIndex" {
            if !spec.has("backoffLimitPerIndex") {
                errors.invalid(action, "requires the backoffLimitPerIndex to be set");
            }
        } else {
            errors.one_of(action, &ACTIONS);
        }
        if codes.is_set() {
            exit_codes(errors, codes, spec);
        }
        pod_conditions(errors, conditions);
        let detail = match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.invalid_omitted(rule, detail);
    }
}

fn valid_values(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn exit_codes(errors: &mut Errors, at: At<'_>, spec: At<'_>) {
    const OPERATORS: [&str; 2] = ["In", "NotIn"];
    let (operator, container, values) = (
        at.get("operator"),
        at.get("containerName"),
        at.get("values"),
    );
    if errors.need(operator, &valid_values(&OPERATORS)) {
        errors.one_of(operator, &OPERATORS);
    }
    let mut containers = walk::plain_containers(spec.path(&["template", "spec"]));
    if container.is_set() && !containers.any(|at| at.get("name").str() == container.str()) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(container, detail);
    }
    if values.is_empty() {
        errors.invalid(values, "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        errors.too_many(values, EXIT_CODES_MAX);
    }
    let mut seen = HashSet::new();
    for value in values.items() {
        if operator.str() == "In" && value.int() == 0 {
            errors.invalid(value, "must not be 0 for the In operator");
        }
        if !seen.insert(value.int()) {
            errors.duplicate(value);
        }
    }
    let codes: Vec<i64> = values.items().map(At::int).collect();
    if !codes.is_sorted() {
        errors.invalid(values, "must be ordered");
    }
}

fn pod_conditions(errors: &mut Errors, list: At<'_>) {
    const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
    if list.len() > PATTERNS_MAX {
        errors.too_many(list, PATTERNS_MAX);
    }
    for pattern in list.items() {
        errors.names(pattern.get("type"), name::label_key);
        let status = pattern.get("status");
        if errors.need(status, &valid_values(&STATUSES)) {
            errors.one_of(status, &STATUSES);
        }
    }
}

fn success_policy(errors: &mut Errors, spec: At<'_>) {
    let policy = spec.get("successPolicy");
    if !is_indexed(spec) {
        return errors.invalid(policy, "requires indexed completion mode");
    }
    let rules = policy.get("rules");
    let detail = "at least one rules must be specified when the successPolicy is specified";
    errors.need(rules, detail);
    if rules.len() > RULES_MAX {
        errors.too_many(rules, RULES_MAX);
    }
    for rule in rules.items() {
        success_rule(errors, rule, spec.get("completions").int());
    }
}

fn success_rule(errors: &mut Errors, rule: At<'_>, completions: i64) {
    let (succeeded, count) = (rule.get("succeededIndexes"), rule.get("succeededCount"));
    if !succeeded.is_set() && !count.is_set() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(rule, detail);
    }
    let mut total = 0;
    if succeeded.is_set() {
        if succeeded.str().len() > INDEXES_BYTES_MAX {
            errors.too_long(succeeded, INDEXES_BYTES_MAX);
        }
        match indexes::count(succeeded.str(), completions) {
            Ok(count) => total = count,
            Err(error) => {
                errors.invalid(
                    succeeded,
                    format!("error parsing succeededIndexes: {error}"),
                );
            }
        }
    }
    if !count.is_set() {
        return;
    }
    errors.non_negative(count);
    for (is_checked, most, of) in [
        (true, completions, "specified completions"),
        (
            succeeded.is_set(),
            total,
            "indexes in the specified succeededIndexes field",
        ),
    ] {
        if is_checked && count.int() > most {
            let detail = format!("must be less than or equal to {most} (the number of {of})");
            errors.invalid(count, detail);
        }
    }
}

fn replacement_policy(errors: &mut Errors, spec: At<'_>) {
    let policy = spec.get("podReplacementPolicy");
    if !policy.is_set() {
        return;
    }
    match spec.has("podFailurePolicy") {
        true => errors.one_of(policy, &["Failed"]),
        false => errors.one_of(policy, &["Failed", "TerminatingOrFailed"]),
    }
}

fn restart_policy(errors: &mut Errors, spec: At<'_>) {
    let at = spec.path(&["template", "spec", "restartPolicy"]);
    match at.str() {
        "" | "Always" => errors.required(at, r#"valid values: "OnFailure", "Never""#),
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = r#"only "Never" is supported when podFailurePolicy is specified"#;
            errors.invalid(at, detail);
        }
        "OnFailure" | "Never" => {}
        other => {
            let path = errors.path(at);
            errors.push(FieldError::not_supported(
                path,
                other,
                &["OnFailure", "Never"],
            ));
        }
    }
}

/// What clients should know about a spec at a path of an object.
pub(super) fn warnings(path: &str, spec: At<'_>, new: At<'_>, old: Option<At<'_>>) -> Vec<String> {
    let generation = |at: At<'_>| at.path(&["metadata", "generation"]).int();
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let is_large =
        spec.get("completions").int() > MANY && spec.get("parallelism").int() > MANY_IF_TRACKED;
    if is_indexed(spec) && is_large {
        warnings.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism \
             higher than 10^4, Kubernetes might not be able to track completedIndexes when a big \
             number of indexes fail"
        ));
    }
    warnings.extend(pod_warnings::of_template(spec.get("template")));
    warnings
}

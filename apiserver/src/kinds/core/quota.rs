//! Limits in a namespace: of each object (LimitRange), and of all together (ResourceQuota).

use std::collections::{BTreeSet, HashSet};

use api::field::FieldError;
use api::name;
use api::values::Quantity;

use crate::kinds::facts::{Facts, Status};
use crate::kinds::lists::texts;
use crate::registry::strategy::Cx;
use crate::validation::pod::resources::{self, is_huge_page, is_overcommitted};
use crate::validation::pod::walk::quantity;
use crate::validation::{At, Errors};

/// What is particular about limit ranges.
pub const LIMIT_RANGE: Facts = Facts {
    creates_on_update: true,
    create: |_, new, errors| limit_range(errors, new),
    update: |_, new, _, errors| limit_range(errors, new),
    ..Facts::PLAIN
};

/// What is particular about resource quotas.
pub const RESOURCE_QUOTA: Facts = Facts {
    status: Status::Own("{}"),
    create: |_, new, errors| {
        quota_spec(errors, new.get("spec"));
        quota_status(errors, new.get("status"));
    },
    update: |_, new, old, errors| {
        quota_spec(errors, new.get("spec"));
        let scopes = new.path(&["spec", "scopes"]);
        let set = |at: At<'_>| {
            texts(at)
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>()
        };
        if set(scopes) != set(old.path(&["spec", "scopes"])) {
            errors.invalid(scopes, "field is immutable");
        }
    },
    sub_update: |_, new, _, errors| quota_status(errors, new.get("status")),
    warnings: quota_warnings,
    ..Facts::PLAIN
};

fn limit_range(errors: &mut Errors, new: At<'_>) {
    let mut seen = HashSet::new();
    for limit in new.path(&["spec", "limits"]).items() {
        let kind = limit.get("type");
        limit_type(errors, kind);
        if !seen.insert(kind.str()) {
            errors.duplicate(kind);
        }
        names_of_limit(errors, limit);
        let keys: BTreeSet<&str> = BAGS
            .iter()
            .filter(|bag| kind.str() != "Pod" || !bag.starts_with("default"))
            .flat_map(|bag| limit.get(bag).items().map(At::key))
            .collect();
        for key in keys {
            amounts_of_limit(errors, limit, key);
        }
    }
}

const BAGS: [&str; 5] = [
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];

fn limit_type(errors: &mut Errors, kind: At<'_>) {
    let before = errors.len();
    errors.names(kind, name::label_key);
    let known = ["Container", "PersistentVolumeClaim", "Pod"];
    if errors.len() == before && !kind.str().contains('/') && !known.contains(&kind.str()) {
        let detail = "must be a standard limit type or fully qualified";
        errors.invalid(kind, detail);
    }
}

fn names_of_limit(errors: &mut Errors, limit: At<'_>) {
    let kind = limit.get("type").str();
    for bag in BAGS {
        if kind == "Pod" && bag.starts_with("default") {
            let detail = "may not be specified when `type` is 'Pod'";
            errors.deny(limit.get(bag), detail);
            continue;
        }
        if bag == "maxLimitRequestRatio"
            && kind == "PersistentVolumeClaim"
            && limit.get("min").entry("storage").is_none()
            && limit.get("max").entry("storage").is_none()
        {
            let path = format!("{}.limits", errors.path(limit));
            let detail =
                "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(path, detail));
        }
        for amount in limit.get(bag).items() {
            match kind {
                "Pod" | "Container" => resources::container_resource_name(errors, amount),
                _ => {
                    resources::resource_name(errors, amount);
                }
            }
        }
    }
}

/// How the bounds of one resource go together: where it is told, what is compared, and how upstream
/// calls them.
fn amounts_of_limit(errors: &mut Errors, limit: At<'_>, key: &str) {
    let get = |bag: &'static str| limit.get(bag).entry(key).map(|at| (at, quantity(at)));
    let defaults_count = limit.get("type").str() != "Pod";
    let (min, max) = (get("min"), get("max"));
    let default = get("default").filter(|_| defaults_count);
    let request = get("defaultRequest").filter(|_| defaults_count);
    let mut above = |bag: &'static str,
                     shown: &Option<(At<'_>, Quantity)>,
                     low: (&Option<(At<'_>, Quantity)>, &str),
                     high: (&Option<(At<'_>, Quantity)>, &str)| {
        if let (Some((low_at, low_q)), Some((high_at, high_q)), Some((shown, _))) =
            (low.0, high.0, shown)
            && low_q > high_q
        {
            let path = format!("{}[{key}]", errors.path(limit.get(bag)));
            let detail = format!(
                "{} value {} is greater than {} value {}",
                low.1,
                low_at.str(),
                high.1,
                high_at.str()
            );
            errors.push(FieldError::invalid(path, shown.str(), detail));
        }
    };
    above("min", &min, (&min, "min"), (&max, "max"));
    above(
        "defaultRequest",
        &request,
        (&min, "min"),
        (&request, "default request"),
    );
    above(
        "defaultRequest",
        &request,
        (&request, "default request"),
        (&max, "max"),
    );
    above(
        "defaultRequest",
        &request,
        (&request, "default request"),
        (&default, "default limit"),
    );
    above("default", &min, (&min, "min"), (&default, "default"));
    above("default", &max, (&default, "default"), (&max, "max"));
    if let Some((at, ratio)) = get("maxLimitRequestRatio") {
        ratio_of_limit(errors, at, &ratio, min.as_ref(), max.as_ref());
    }
    if let (Some((default, d)), Some((request, r))) = (default, request)
        && !is_overcommitted(key)
        && d != r
    {
        let detail = format!(
            "default value {} must equal to defaultRequest value {} in {key}",
            default.str(),
            request.str()
        );
        errors.invalid(request, detail);
    }
}

#[expect(clippy::cast_precision_loss, reason = "as upstream compares")]
fn ratio_of_limit(
    errors: &mut Errors,
    at: At<'_>,
    ratio: &Quantity,
    min: Option<&(At<'_>, Quantity)>,
    max: Option<&(At<'_>, Quantity)>,
) {
    const MILLIS_MAX: i64 = i64::MAX / 1000;
    if *ratio < Quantity::from_units(1) {
        errors.invalid(at, format!("ratio {} is less than 1", at.str()));
    }
    let (Some((_, min)), Some((_, max))) = (min, max) else {
        return;
    };
    let is_small = [ratio, min, max].iter().all(|q| q.units() < MILLIS_MAX);
    let (value, bound) = match is_small {
        true => (
            ratio.millis() as f64 / 1000.0,
            max.millis() as f64 / min.millis() as f64,
        ),
        false => (
            ratio.units() as f64,
            max.units() as f64 / min.units() as f64,
        ),
    };
    if value > bound {
        let detail = format!("ratio {} is greater than max/min = {bound:.6}", at.str());
        errors.invalid(at, detail);
    }
}

const QUOTA_NAMES: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const POD_NAMES: [&str; 7] = [
    "pods",
    "cpu",
    "memory",
    "limits.cpu",
    "limits.memory",
    "requests.cpu",
    "requests.memory",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

fn is_quota_name(resource: &str) -> bool {
    QUOTA_NAMES.contains(&resource)
        || is_huge_page(resource)
        || resource.starts_with("requests.hugepages-")
}

fn quota_amounts(errors: &mut Errors, bag: At<'_>) {
    for amount in bag.items() {
        resources::resource_name(errors, amount);
        if !amount.key().contains('/') && !is_quota_name(amount.key()) {
            errors.invalid_value(
                amount,
                amount.key(),
                "must be a standard resource for quota",
            );
        }
        resources::amount(errors, amount);
    }
}

fn quota_status(errors: &mut Errors, status: At<'_>) {
    quota_amounts(errors, status.get("hard"));
    quota_amounts(errors, status.get("used"));
}

fn quota_spec(errors: &mut Errors, spec: At<'_>) {
    quota_amounts(errors, spec.get("hard"));
    let scopes = spec.get("scopes");
    let names = texts(scopes);
    for scope in &names {
        if !SCOPES.contains(scope) {
            errors.invalid(scopes, "unsupported scope");
        }
        for _ in unfit(spec, scope) {
            errors.invalid(scopes, "unsupported scope applied to resource");
        }
    }
    conflicts(errors, scopes, scopes, &names);
    if spec.has("scopeSelector") {
        scope_selector(errors, spec);
    }
}

/// The resources that a scope does not apply to.
fn unfit<'d>(spec: At<'d>, scope: &str) -> Vec<&'d str> {
    let fits = |resource: &str| match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            ["persistentvolumeclaims", "requests.storage"].contains(&resource)
        }
        scope if SCOPES.contains(&scope) => POD_NAMES.contains(&resource),
        _ => true,
    };
    let names = spec.get("hard").items().map(At::key);
    names
        .filter(|name| is_quota_name(name) && !fits(name))
        .collect()
}

fn conflicts(errors: &mut Errors, at: At<'_>, shown: At<'_>, scopes: &[&str]) {
    for pair in [
        ["BestEffort", "NotBestEffort"],
        ["Terminating", "NotTerminating"],
    ] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            let path = errors.path(at);
            let error = match shown.node() {
                Some(node) => FieldError::invalid(path, node, "conflicting scopes"),
                None => {
                    let null = crate::kinds::facts::Raw("null".to_string());
                    FieldError::invalid(path, null, "conflicting scopes")
                }
            };
            errors.push(error);
        }
    }
}

/// Upstream tells neither which expression nor, in the paths, the selector's indexes.
fn scope_selector(errors: &mut Errors, spec: At<'_>) {
    let selector = spec.get("scopeSelector");
    let list = selector.get("matchExpressions");
    let base = errors.path(selector) + ".matchExpressions";
    let mut scopes = Vec::new();
    for expression in list.items() {
        let (scope, operator) = (
            expression.get("scopeName").str(),
            expression.get("operator").str(),
        );
        let values = expression.get("values");
        let mut invalid = |field: &str, value: &str, detail: &str| {
            errors.push(FieldError::invalid(format!("{base}{field}"), value, detail));
        };
        if !SCOPES.contains(&scope) {
            invalid(".scopeName", scope, "unsupported scope");
        }
        let is_plain =
            SCOPES.contains(&scope) && !["PriorityClass", "VolumeAttributesClass"].contains(&scope);
        let misfits = unfit(spec, scope).len();
        if is_plain && operator != "Exists" {
            invalid(
                ".operator",
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                 ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                 ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        for _ in 0..misfits {
            if let Some(node) = selector.node() {
                let detail = "unsupported scope applied to resource";
                errors.push(FieldError::invalid(base.as_str(), node, detail));
            }
        }
        let path = format!("{base}.values");
        match (operator, values.node()) {
            ("In" | "NotIn", _) if values.is_empty() => errors.push(FieldError::required(
                path,
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            ("In" | "NotIn", _) => {}
            ("Exists" | "DoesNotExist", Some(node)) if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(path, node, detail));
            }
            ("Exists" | "DoesNotExist", _) => {}
            _ => {
                let path = format!("{base}.operator");
                errors.push(FieldError::invalid(
                    path,
                    operator,
                    "not a valid selector operator",
                ));
            }
        }
        scopes.push(scope);
    }
    conflicts(errors, list, spec.get("scopes"), &scopes);
}

fn quota_warnings(_: &Cx<'_>, new: At<'_>, old: Option<At<'_>>, warnings: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    let hard = new.path(&["spec", "hard"]);
    for resource in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let mut request = format!("requests.{resource}");
        if hard.entry(&request).is_none() && ["cpu", "memory"].contains(&resource) {
            request = resource.to_string();
        }
        let limit = format!("limits.{resource}");
        if let (Some(asked), Some(most)) = (hard.entry(&request), hard.entry(&limit))
            && quantity(asked) > quantity(most)
        {
            warnings.push(format!(
                "ResourceQuota {request} ({}) should be less than {limit} ({})",
                asked.str(),
                most.str()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, warnings};

    #[test]
    fn wrong_limits_are_told() {
        let good = r#"{"apiVersion":"v1","kind":"LimitRange","metadata":{"name":"a"},"spec":{"limits":[
            {"type":"Container","max":{"cpu":"2"},"min":{"cpu":"1"},"default":{"cpu":"2"},"defaultRequest":{"cpu":"1"},"maxLimitRequestRatio":{"cpu":"2"}},
            {"type":"Pod","max":{"memory":"1Gi"}},{"type":"PersistentVolumeClaim","max":{"storage":"1Gi"}}]}}"#;
        cases(
            &LIMIT_RANGE,
            good,
            &[
                Case::create(
                    "spec limits 0 type",
                    r#""Pod""#,
                    &[
                        "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                        "spec.limits[0].defaultRequest: Forbidden: may not be specified when `type` is 'Pod'",
                        r#"spec.limits[1].type: Duplicate value: "Pod""#,
                    ],
                ),
                Case::create(
                    "spec limits 0 type",
                    r#""x""#,
                    &[
                        r#"spec.limits[0].type: Invalid value: "x": must be a standard limit type or fully qualified"#,
                    ],
                ),
                Case::create(
                    "spec limits 0 min cpu",
                    r#""3""#,
                    &[
                        r#"spec.limits[0].min[cpu]: Invalid value: "3": min value 3 is greater than max value 2"#,
                        r#"spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 3 is greater than default request value 1"#,
                        r#"spec.limits[0].default[cpu]: Invalid value: "3": min value 3 is greater than default value 2"#,
                        r#"spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "2": ratio 2 is greater than max/min = 0.666667"#,
                    ],
                ),
                Case::create(
                    "spec limits 0 maxLimitRequestRatio cpu",
                    r#""500m""#,
                    &[
                        r#"spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1"#,
                    ],
                ),
                Case::create(
                    "spec limits 0 max x",
                    r#""1""#,
                    &[
                        r#"spec.limits[0].max[x]: Invalid value: "x": must be a standard resource type or fully qualified"#,
                        r#"spec.limits[0].max[x]: Invalid value: "x": must be a standard resource for containers"#,
                    ],
                ),
                Case::create(
                    "spec limits 2 max",
                    "-",
                    &[
                        "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn wrong_quotas_are_told() {
        let good = r#"{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"a"},"spec":{"hard":{"pods":"1"},
            "scopes":["BestEffort"],"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In","values":["x"]}]}}}"#;
        cases(
            &RESOURCE_QUOTA,
            good,
            &[
                Case::create(
                    "spec hard x",
                    r#""1""#,
                    &[
                        r#"spec.hard[x]: Invalid value: "x": must be a standard resource type or fully qualified"#,
                        r#"spec.hard[x]: Invalid value: "x": must be a standard resource for quota"#,
                    ],
                ),
                Case::create(
                    "spec hard pods",
                    r#""100m""#,
                    &[r#"spec.hard[pods]: Invalid value: "100m": must be an integer"#],
                ),
                Case::create(
                    "spec scopes 0",
                    r#""x""#,
                    &[r#"spec.scopes: Invalid value: ["x"]: unsupported scope"#],
                ),
                Case::create(
                    "spec scopes 1",
                    r#""NotBestEffort""#,
                    &[
                        r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes"#,
                    ],
                ),
                Case::create(
                    "spec scopeSelector matchExpressions 0 values",
                    "[]",
                    &[
                        "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                    ],
                ),
                Case::create(
                    "spec scopeSelector matchExpressions 0 operator",
                    r#""x""#,
                    &[
                        r#"spec.scopeSelector.matchExpressions.operator: Invalid value: "x": not a valid selector operator"#,
                    ],
                ),
                Case::update(
                    "spec scopes",
                    "[]",
                    &["spec.scopes: Invalid value: []: field is immutable"],
                ),
                Case::sub(
                    "status",
                    "status used",
                    r#"{"pods":"-1"}"#,
                    &[
                        r#"status.used[pods]: Invalid value: "-1": must be greater than or equal to 0"#,
                    ],
                ),
            ],
        );
        let odd = r#"{"spec":{"hard":{"cpu":"2","limits.cpu":"1"}}}"#;
        assert_eq!(
            warnings(&RESOURCE_QUOTA, odd, None),
            ["ResourceQuota cpu (2) should be less than limits.cpu (1)"]
        );
    }
}

//! autoscaling: horizontal pod autoscalers.

use api::doc::Doc;
use api::name;
use api::values::Quantity;

use super::facts::{Facts, Status};
use crate::validation::pod::resources;
use crate::validation::pod::walk::quantity;
use crate::validation::{At, Errors};

const PERIOD_MAX: i64 = 1800;
const WINDOW_MAX: i64 = 3600;
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];
const TYPES: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// What is particular about autoscalers.
pub const AUTOSCALER: Facts = Facts {
    status: Status::Own(r#"{"desiredReplicas":0,"currentMetrics":null}"#),
    create: |_, new, errors| spec(errors, new.get("spec"), None),
    update: |_, new, old, errors| spec(errors, new.get("spec"), Some(old.get("spec"))),
    sub_update: |_, new, _, errors| {
        let status = new.get("status");
        errors.non_negative(status.get("currentReplicas"));
        errors.non_negative(status.get("desiredReplicas"));
    },
    ..Facts::PLAIN
};

/// How an `apiVersion` is judged.
#[derive(Clone, Copy)]
struct Version {
    is_any: bool,
    needs_group: bool,
}

fn spec(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let was_zero = old.is_some_and(|old| old.get("minReplicas").opt_int() == Some(0));
    let bound = i64::from(!was_zero);
    if least.opt_int().is_some_and(|least| least < bound) {
        errors.invalid(least, format!("must be greater than or equal to {bound}"));
    }
    match most.int() {
        0 => errors.required(most, "must be set and greater than 0"),
        most_int if most_int < 0 => errors.invalid(most, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.opt_int().is_some_and(|least| most.int() < least) {
        errors.invalid(most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef");
    let is_same = |field| old.map(|old| old.get("scaleTargetRef").get(field).str());
    reference(
        errors,
        target,
        Version {
            is_any: is_same("apiVersion") == Some(target.get("apiVersion").str())
                && is_same("kind") == Some(target.get("kind").str()),
            needs_group: target.get("kind").str() != "ReplicationController",
        },
    );
    metrics(errors, spec, old);
    for rules in ["scaleUp", "scaleDown"] {
        scaling(errors, spec.get("behavior").get(rules));
    }
}

fn reference(errors: &mut Errors, at: At<'_>, version: Version) {
    for field in ["kind", "name"] {
        if errors.need(at.get(field), "") {
            errors.names(at.get(field), name::path_segment);
        }
    }
    let api_version = at.get("apiVersion");
    if let Some(complaint) = version_complaint(api_version.str(), version) {
        errors.invalid(api_version, complaint);
    }
}

fn version_complaint(text: &str, version: Version) -> Option<String> {
    if version.is_any {
        return None;
    }
    match text.matches('/').count() {
        0 | 1 => {
            let has_group = text
                .split_once('/')
                .is_some_and(|(group, _)| !group.is_empty());
            (version.needs_group && !has_group)
                .then(|| "apiVersion must specify API group".to_string())
        }
        _ => Some(format!("unexpected GroupVersion string: {text}")),
    }
}

fn metrics(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    let list = spec.get("metrics");
    let plain = Version {
        is_any: false,
        needs_group: false,
    };
    let is_any = old.is_some_and(|old| {
        old.get("metrics").items().any(|metric| {
            let version = metric
                .path(&["object", "describedObject", "apiVersion"])
                .str();
            metric.get("type").str() == "Object" && version_complaint(version, plain).is_some()
        })
    });
    for metric in list.items() {
        one_metric(errors, metric, Version { is_any, ..plain });
    }
    let scales_from_outside =
        |metric: At<'_>| ["Object", "External"].contains(&metric.get("type").str());
    if spec.get("minReplicas").opt_int() == Some(0) && !list.items().any(scales_from_outside) {
        let detail = "must specify at least one Object or External metric to support scaling to \
                      zero replicas";
        errors.forbidden(list, detail);
    }
}

fn one_metric(errors: &mut Errors, metric: At<'_>, version: Version) {
    let kind = metric.get("type");
    errors.need(kind, "must specify a metric source type");
    errors.one_of(kind, &TYPES);
    let present: Vec<&'static str> = SOURCES
        .iter()
        .map(|(field, _)| *field)
        .filter(|field| metric.has(field))
        .collect();
    if let Some(first) = present.first() {
        source(errors, metric.get(first), first, version);
    }
    let expected = SOURCES.iter().find(|(_, of)| *of == kind.str());
    match expected {
        Some((field, _)) if !metric.has(field) => {
            let detail = "must populate information for the given metric source";
            errors.required(metric.get(field), detail);
        }
        Some(_) => {}
        None => errors.not_supported(kind, &TYPES),
    }
    if present.len() != 1 {
        let expected = expected.map_or("", |(field, _)| field);
        for field in present.into_iter().filter(|field| *field != expected) {
            let detail = "must populate the given metric source only";
            errors.forbidden(metric.get(field), detail);
        }
    }
}

fn source(errors: &mut Errors, at: At<'_>, field: &str, version: Version) {
    let target = at.get("target");
    let (value, average, utilization) = (
        target.get("value"),
        target.get("averageValue"),
        target.get("averageUtilization"),
    );
    match field {
        "object" => {
            reference(errors, at.get("describedObject"), version);
            metric_name(errors, at);
        }
        "external" | "pods" => metric_name(errors, at),
        _ => resource(errors, at, field),
    }
    metric_target(errors, target);
    let (none, both) = (!average.is_set(), average.is_set());
    match field {
        "object" if none && !value.is_set() => {
            errors.required(average, "must set either a target value or averageValue");
        }
        "external" => {
            if none && !value.is_set() {
                let detail = "must set either a target value for metric or a per-pod target";
                errors.required(average, detail);
            }
            if both && value.is_set() {
                let detail = "may not set both a target value for metric and a per-pod target";
                errors.forbidden(value, detail);
            }
        }
        "pods" if none => {
            errors.required(average, "must specify a positive target averageValue");
        }
        "resource" | "containerResource" => {
            if none && !utilization.is_set() {
                let detail = "must set either a target raw value or a target utilization";
                errors.required(utilization, detail);
            }
            if both && utilization.is_set() {
                let detail = "may not set both a target raw value and a target utilization";
                errors.forbidden(average, detail);
            }
        }
        _ => {}
    }
}

fn metric_name(errors: &mut Errors, at: At<'_>) {
    let metric = at.path(&["metric", "name"]);
    if errors.need(metric, "must specify a metric name") {
        errors.names(metric, name::path_segment);
    }
}

fn resource(errors: &mut Errors, at: At<'_>, field: &str) {
    let resource = at.get("name");
    let is_named = errors.need(resource, "must specify a resource name");
    if field != "containerResource" {
        return;
    }
    if is_named {
        for complaint in container_resource(resource.str()) {
            errors.invalid(resource, complaint);
        }
    }
    if errors.need(at.get("container"), "must specify a container") {
        errors.names(at.get("container"), name::dns_1123_label);
    }
}

/// What is wrong with the name of a resource that containers may ask for.
fn container_resource(name: &str) -> Vec<String> {
    let mut amounts = Doc::new();
    amounts.set(amounts.top(), name, "");
    let mut found = Errors::default();
    for amount in At::root(&amounts).items() {
        resources::container_resource_name(&mut found, amount);
    }
    let found = found.into_vec();
    found.into_iter().map(|error| error.detail).collect()
}

fn metric_target(errors: &mut Errors, target: At<'_>) {
    let kind = target.get("type");
    errors.need(kind, "must specify a metric target type");
    if !["Utilization", "Value", "AverageValue"].contains(&kind.str()) {
        errors.invalid(kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if target.has(field) && quantity(target.get(field)).signum() != 1 {
            errors.invalid(target.get(field), "must be positive");
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.opt_int().is_some_and(|percent| percent < 1) {
        errors.invalid(utilization, "must be greater than 0");
    }
}

fn scaling(errors: &mut Errors, rules: At<'_>) {
    if !rules.is_set() {
        return;
    }
    let window = rules.get("stabilizationWindowSeconds");
    if window.int() < 0 {
        errors.invalid(window, "must be greater than or equal to zero");
    }
    if window.int() > WINDOW_MAX {
        errors.invalid(
            window,
            format!("must be less than or equal to {WINDOW_MAX}"),
        );
    }
    if rules.has("selectPolicy") {
        errors.one_of(rules.get("selectPolicy"), &["Disabled", "Max", "Min"]);
    }
    errors.need(rules.get("policies"), "must specify at least one Policy");
    for policy in rules.get("policies").items() {
        errors.one_of(policy.get("type"), &["Percent", "Pods"]);
        errors.positive(policy.get("value"));
        let period = policy.get("periodSeconds");
        errors.positive(period);
        if period.int() > PERIOD_MAX {
            errors.invalid(
                period,
                format!("must be less than or equal to {PERIOD_MAX}"),
            );
        }
    }
    let tolerance = rules.get("tolerance");
    if tolerance.is_set() && quantity(tolerance) < Quantity::from_units(0) {
        errors.invalid(tolerance, crate::validation::errors::NOT_NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases};

    const GOOD: &str = r#"{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"a"},"spec":{
        "scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"minReplicas":1,"maxReplicas":3,
        "metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}},
            {"type":"ContainerResource","containerResource":{"name":"cpu","container":"c","target":{"type":"AverageValue","averageValue":"1"}}}],
        "behavior":{"scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[{"type":"Pods","value":1,"periodSeconds":15}]}}}}"#;

    #[test]
    fn wrong_autoscalers_are_told() {
        cases(
            &AUTOSCALER,
            GOOD,
            &[
                Case::create(
                    "spec minReplicas",
                    "0",
                    &[
                        "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                        "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
                    ],
                ),
                Case::create(
                    "spec minReplicas",
                    "4",
                    &[
                        "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
                    ],
                ),
                Case::create(
                    "spec maxReplicas",
                    "0",
                    &[
                        "spec.maxReplicas: Required value: must be set and greater than 0",
                        "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                    ],
                ),
                Case::create(
                    "spec scaleTargetRef kind",
                    r#""""#,
                    &["spec.scaleTargetRef.kind: Required value"],
                ),
                Case::create(
                    "spec scaleTargetRef apiVersion",
                    r#""v1""#,
                    &[
                        r#"spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group"#,
                    ],
                ),
                Case::create(
                    "spec metrics 0 resource target averageUtilization",
                    "0",
                    &[
                        "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                    ],
                ),
                Case::create(
                    "spec metrics 0 resource target averageValue",
                    r#""1""#,
                    &[
                        "spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
                    ],
                ),
                Case::create(
                    "spec metrics 0 pods",
                    r#"{"metric":{"name":"x"},"target":{"type":"AverageValue","averageValue":"1"}}"#,
                    &[
                        "spec.metrics[0].pods: Forbidden: must populate the given metric source only",
                    ],
                ),
                Case::create(
                    "spec metrics 0 type",
                    r#""Pods""#,
                    &[
                        "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                    ],
                ),
                Case::create(
                    "spec metrics 1 containerResource container",
                    r#""""#,
                    &[
                        "spec.metrics[1].containerResource.container: Required value: must specify a container",
                    ],
                ),
                Case::create(
                    "spec behavior scaleUp policies",
                    "[]",
                    &[
                        "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
                    ],
                ),
                Case::create(
                    "spec behavior scaleUp policies 0 periodSeconds",
                    "1801",
                    &[
                        "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
                    ],
                ),
                Case::create(
                    "spec behavior scaleUp selectPolicy",
                    r#""x""#,
                    &[
                        r#"spec.behavior.scaleUp.selectPolicy: Unsupported value: "x": supported values: "Disabled", "Max", "Min""#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status",
                    r#"{"currentReplicas":-1,"desiredReplicas":0,"currentMetrics":null}"#,
                    &[
                        "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0",
                    ],
                ),
            ],
        );
    }
}

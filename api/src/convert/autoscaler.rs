//! Autoscalers: `autoscaling/v1` says a target of CPU utilization only; all else that `v2` says is in
//! annotations, as JSON.

#[cfg(test)]
mod tests;

use super::{Moves, Way, elements, find, move_all, put, set, settle, take};
use crate::codec::json;
use crate::conform::{Unknown, conform};
use crate::doc::{Doc, Id, Kind, New, Node};
use crate::schema::{Field, Link, Shape, Type, type_named};
use crate::values::Quantity;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const STATUSES: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    BEHAVIOR,
    STATUSES,
    CONDITIONS,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// Fields of a metric in `v1` and in `v2`.
const SPEC: Moves = &[
    ("object.target", "object.describedObject"),
    ("object.metricName", "object.metric.name"),
    ("object.selector", "object.metric.selector"),
    ("object.targetValue", "object.target.value"),
    ("object.averageValue", "object.target.averageValue"),
    ("pods.metricName", "pods.metric.name"),
    ("pods.selector", "pods.metric.selector"),
    ("pods.targetAverageValue", "pods.target.averageValue"),
    (
        "resource.targetAverageUtilization",
        "resource.target.averageUtilization",
    ),
    (
        "resource.targetAverageValue",
        "resource.target.averageValue",
    ),
    (
        "containerResource.targetAverageUtilization",
        "containerResource.target.averageUtilization",
    ),
    (
        "containerResource.targetAverageValue",
        "containerResource.target.averageValue",
    ),
    ("external.metricName", "external.metric.name"),
    ("external.metricSelector", "external.metric.selector"),
    ("external.targetValue", "external.target.value"),
    (
        "external.targetAverageValue",
        "external.target.averageValue",
    ),
];

/// The same of a metric's status.
const STATUS: Moves = &[
    ("object.target", "object.describedObject"),
    ("object.metricName", "object.metric.name"),
    ("object.selector", "object.metric.selector"),
    ("object.currentValue", "object.current.value"),
    ("object.averageValue", "object.current.averageValue"),
    ("pods.metricName", "pods.metric.name"),
    ("pods.selector", "pods.metric.selector"),
    ("pods.currentAverageValue", "pods.current.averageValue"),
    (
        "resource.currentAverageUtilization",
        "resource.current.averageUtilization",
    ),
    (
        "resource.currentAverageValue",
        "resource.current.averageValue",
    ),
    (
        "containerResource.currentAverageUtilization",
        "containerResource.current.averageUtilization",
    ),
    (
        "containerResource.currentAverageValue",
        "containerResource.current.averageValue",
    ),
    ("external.metricName", "external.metric.name"),
    ("external.metricSelector", "external.metric.selector"),
    ("external.currentValue", "external.current.value"),
    (
        "external.currentAverageValue",
        "external.current.averageValue",
    ),
];

/// A metric's source, the field of its target that decides the target's type, and the type if the
/// field is there and if not.
const TARGETS: [(&str, &str, &str, &str); 5] = [
    ("object", "averageValue", "AverageValue", "Value"),
    ("pods", "averageValue", "AverageValue", "AverageValue"),
    (
        "resource",
        "averageUtilization",
        "Utilization",
        "AverageValue",
    ),
    (
        "containerResource",
        "averageUtilization",
        "Utilization",
        "AverageValue",
    ),
    ("external", "value", "Value", "AverageValue"),
];

/// The metric that an autoscaler has that names none.
const DEFAULT_UTILIZATION: i64 = 80;

pub(super) fn to_v2(doc: &mut Doc) {
    let top = doc.top();
    let mut metrics: Vec<Id> = Vec::new();
    if let Some(kept) = decoded(doc, METRICS, "autoscaling/v1.MetricSpec") {
        metrics.extend(kept.iter().map(|metric| metric_to_v2(doc, metric)));
    }
    let utilization = taken_int(doc, "spec.targetCPUUtilizationPercentage");
    let implied = metrics.is_empty().then_some(DEFAULT_UTILIZATION);
    if let Some(utilization) = utilization.or(implied) {
        metrics.push(cpu(doc, "target", Some("Utilization"), utilization));
    }
    put_list(doc, "spec.metrics", &metrics);
    if let Some(behavior) = behavior_from(annotation(doc, BEHAVIOR)) {
        let behavior = doc.graft(behavior.root());
        put(doc, top, "spec.behavior", behavior);
    }
    let utilization = taken_int(doc, "status.currentCPUUtilizationPercentage");
    let statuses = decoded(doc, STATUSES, "autoscaling/v1.MetricStatus");
    let statuses: Option<Vec<Id>> = match statuses {
        Some(kept) => Some(kept.iter().map(|one| status_to_v2(doc, one)).collect()),
        None => utilization.map(|utilization| vec![cpu(doc, "current", None, utilization)]),
    };
    if let Some(statuses) = statuses {
        put_list(doc, "status.currentMetrics", &statuses);
    }
    if let Some(kept) = decoded(
        doc,
        CONDITIONS,
        "autoscaling/v1.HorizontalPodAutoscalerCondition",
    ) {
        let conditions: Vec<Id> = kept.iter().map(|one| doc.graft(one.root())).collect();
        put_list(doc, "status.conditions", &conditions);
    }
    drop_annotations(doc);
}

pub(super) fn to_v1(doc: &mut Doc) {
    let top = doc.top();
    drop_annotations(doc);
    let is_cpu = |doc: &Doc, metric: Id| {
        let metric = doc.node(metric);
        metric.text(&["type"]) == "Resource" && metric.text(&["resource", "name"]) == "cpu"
    };
    let number = |doc: &Doc, metric: Id, path: &str| {
        let found = find(doc, metric, path).filter(|_| is_cpu(doc, metric))?;
        doc.node(found).as_i64()
    };
    let target = |doc: &Doc, metric| number(doc, metric, "resource.target.averageUtilization");
    let metrics = elements(doc, top, "spec.metrics");
    if let Some(utilization) = metrics.iter().find_map(|metric| target(doc, *metric)) {
        set(
            doc,
            top,
            "spec.targetCPUUtilizationPercentage",
            New::Int(utilization),
        );
    }
    let others = metrics
        .into_iter()
        .filter(|metric| target(doc, *metric).is_none());
    let others: Vec<Id> = others.collect();
    annotate(doc, METRICS, "autoscaling/v1.MetricSpec", &others, SPEC);
    let statuses = elements(doc, top, "status.currentMetrics");
    let current = |metric: &Id| number(doc, *metric, "resource.current.averageUtilization");
    if let Some(utilization) = statuses.iter().rev().find_map(current) {
        set(
            doc,
            top,
            "status.currentCPUUtilizationPercentage",
            New::Int(utilization),
        );
    }
    annotate(
        doc,
        STATUSES,
        "autoscaling/v1.MetricStatus",
        &statuses,
        STATUS,
    );
    let conditions = elements(doc, top, "status.conditions");
    let condition = "autoscaling/v1.HorizontalPodAutoscalerCondition";
    annotate(doc, CONDITIONS, condition, &conditions, &[]);
    if let Some(behavior) = take(doc, top, "spec.behavior") {
        let text = behavior_text(doc.node(behavior));
        set_annotation(doc, BEHAVIOR, &text);
    }
}

/// `v2` needs none of the annotations, whoever wrote them.
pub(super) fn drop_annotations(doc: &mut Doc) {
    let top = doc.top();
    let Some(annotations) = find(doc, top, "metadata.annotations") else {
        return;
    };
    for name in ANNOTATIONS {
        doc.remove(annotations, name);
    }
    if doc.node(annotations).is_empty() {
        take(doc, top, "metadata.annotations");
    }
}

fn annotation(doc: &Doc, name: &str) -> Option<String> {
    let text = doc
        .root()
        .path(&["metadata", "annotations", name])?
        .as_str()?;
    Some(text.to_string())
}

fn set_annotation(doc: &mut Doc, name: &str, text: &str) {
    doc.set_path(&["metadata", "annotations", name], text);
}

/// The objects in an annotation's list; none if it is no JSON of that type, which is no error.
fn decoded(doc: &Doc, name: &str, of: &str) -> Option<Vec<Doc>> {
    let text = annotation(doc, name)?;
    let list = json::parse(text.into_bytes()).ok()?;
    let root = list.root();
    if root.kind() != Kind::List && !root.is_null() {
        return None;
    }
    let schema = type_named(of)?;
    root.children().map(|one| typed(one, schema)).collect()
}

/// A value of a type that Go decoded: names of fields count whatever their case.
fn typed(value: Node<'_>, schema: &'static Type) -> Option<Doc> {
    let mut one = Doc::new();
    if !value.is_null() {
        let copy = one.graft(value);
        one.set_root(copy);
    }
    let top = one.top();
    fold_names(&mut one, top, &Shape::Struct(Link::Static(schema)));
    conform(&mut one, schema, Unknown::Drop).ok()?;
    Some(one)
}

/// Gives fields the case that the type has.
fn fold_names(doc: &mut Doc, id: Id, shape: &Shape) {
    let children: Vec<Id> = doc.node(id).children().map(Node::id).collect();
    match shape {
        Shape::Struct(schema) if doc.node(id).kind() == Kind::Object => {
            for child in children {
                let name = doc.node(child).key().to_string();
                let same = |field: &&Field| field.name.eq_ignore_ascii_case(&name);
                let exact = schema.field(&name);
                let Some(field) = exact.or_else(|| schema.fields.iter().find(same)) else {
                    continue;
                };
                fold_names(doc, child, &field.shape);
                if field.name != name {
                    doc.unlink(id, child);
                    doc.put(id, &field.name, child);
                }
            }
        }
        Shape::List(list) => {
            for child in children {
                fold_names(doc, child, &list.item);
            }
        }
        _ => {}
    }
}

/// Takes a number out.
fn taken_int(doc: &mut Doc, path: &str) -> Option<i64> {
    let top = doc.top();
    let found = take(doc, top, path)?;
    doc.node(found).as_i64()
}

fn put_list(doc: &mut Doc, path: &str, items: &[Id]) {
    let top = doc.top();
    let list = doc.make(New::List);
    for item in items {
        doc.push_id(list, *item);
    }
    put(doc, top, path, list);
}

/// A metric, or status, of CPU utilization.
fn cpu(doc: &mut Doc, part: &str, kind: Option<&str>, utilization: i64) -> Id {
    let metric = doc.make(New::Object);
    set(doc, metric, "type", "Resource");
    set(doc, metric, "resource.name", "cpu");
    if let Some(kind) = kind {
        set(doc, metric, &format!("resource.{part}.type"), kind);
    }
    set(
        doc,
        metric,
        &format!("resource.{part}.averageUtilization"),
        New::Int(utilization),
    );
    metric
}

fn metric_to_v2(doc: &mut Doc, metric: &Doc) -> Id {
    let metric = doc.graft(metric.root());
    move_all(doc, metric, SPEC, Way::There);
    // What v1 cannot leave out is not meant where it is zero.
    if find(doc, metric, "object.target.averageValue").is_some()
        && let Some(value) = find(doc, metric, "object.target.value")
        && doc.node(value).as_str().is_some_and(is_zero)
    {
        take(doc, metric, "object.target.value");
    }
    for (source, field, with, without) in TARGETS {
        if find(doc, metric, source).is_some() {
            let has = find(doc, metric, &format!("{source}.target.{field}")).is_some();
            let kind = if has { with } else { without };
            set(doc, metric, &format!("{source}.target.type"), kind);
        }
    }
    metric
}

fn is_zero(quantity: &str) -> bool {
    Quantity::parse(quantity).is_ok_and(|quantity| quantity.is_zero())
}

fn status_to_v2(doc: &mut Doc, status: &Doc) -> Id {
    let status = doc.graft(status.root());
    move_all(doc, status, STATUS, Way::There);
    status
}

/// Writes a list of `v2` objects as `v1` ones into an annotation, if there are any.
fn annotate(doc: &mut Doc, name: &str, of: &str, items: &[Id], moves: Moves) {
    let (Some(schema), false) = (type_named(of), items.is_empty()) else {
        return;
    };
    let mut text = Vec::from(*b"[");
    for item in items {
        let mut one = Doc::new();
        let copy = one.graft(doc.node(*item));
        one.set_root(copy);
        move_all(&mut one, copy, moves, Way::Back);
        settle(&mut one, schema);
        if text.len() > 1 {
            text.push(b',');
        }
        json::write(one.root(), &mut text);
    }
    text.push(b']');
    set_annotation(doc, name, &String::from_utf8_lossy(&text));
}

/// The behavior in an annotation, if it says anything.
fn behavior_from(text: Option<String>) -> Option<Doc> {
    let parsed = json::parse(text?.into_bytes()).ok()?;
    let schema = type_named("autoscaling/v2.HorizontalPodAutoscalerBehavior")?;
    let behavior = typed(parsed.root(), schema)?;
    (!behavior.root().is_empty()).then_some(behavior)
}

/// The behavior as Go writes a type without JSON names: all fields, in Go's names.
fn behavior_text(behavior: Node<'_>) -> String {
    let rules = |name: &str| {
        behavior
            .get(name)
            .map_or("null".to_string(), |rules| {
                let field = |name| rules.get(name).map_or("null".to_string(), |node| node.to_string());
                let policies = rules.get("policies").map_or("null".to_string(), policies_text);
                format!(
                    r#"{{"StabilizationWindowSeconds":{},"SelectPolicy":{},"Policies":{policies},"Tolerance":{}}}"#,
                    field("stabilizationWindowSeconds"),
                    field("selectPolicy"),
                    field("tolerance"),
                )
            })
    };
    let (up, down) = (rules("scaleUp"), rules("scaleDown"));
    format!(r#"{{"ScaleUp":{up},"ScaleDown":{down}}}"#)
}

fn policies_text(policies: Node<'_>) -> String {
    let policy = |policy: Node<'_>| {
        let field = |name, absent: &str| {
            policy
                .get(name)
                .map_or(absent.to_string(), |node| node.to_string())
        };
        format!(
            r#"{{"Type":{},"Value":{},"PeriodSeconds":{}}}"#,
            field("type", "\"\""),
            field("value", "0"),
            field("periodSeconds", "0"),
        )
    };
    format!(
        "[{}]",
        policies
            .children()
            .map(policy)
            .collect::<Vec<_>>()
            .join(",")
    )
}

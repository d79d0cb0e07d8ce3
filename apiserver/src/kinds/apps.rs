//! What keeps pods running: ReplicaSets, ReplicationControllers, Deployments, DaemonSets,
//! StatefulSets with their ControllerRevisions, and PodTemplates.

mod daemon_set;
mod deployment;
mod stateful_set;

use api::field::FieldError;
use api::name;

use super::facts::{Facts, Generation, Status};
use super::pod::prepare_template;
use crate::registry::strategy::Cx;
use crate::validation::errors::NOT_NEGATIVE;
use crate::validation::pod::{PodOptions, validate_template, warnings as pod_warnings};
use crate::validation::{At, Errors, labels, same};

use daemon_set::DAEMON_SET;
use deployment::DEPLOYMENT;
use stateful_set::STATEFUL_SET;

/// The facts of a resource.
pub(crate) fn facts(group: &str, resource: &str) -> Option<&'static Facts> {
    Some(match (group, resource) {
        ("", "podtemplates") => &POD_TEMPLATE,
        ("", "replicationcontrollers") => &REPLICATION_CONTROLLER,
        ("apps", "controllerrevisions") => &CONTROLLER_REVISION,
        ("apps", "daemonsets") => &DAEMON_SET,
        ("apps", "deployments") => &DEPLOYMENT,
        ("apps", "replicasets") => &REPLICA_SET,
        ("apps", "statefulsets") => &STATEFUL_SET,
        _ => return None,
    })
}

const TEMPLATE: [&str; 2] = ["spec", "template"];
const NO_MATCH: &str = "`selector` does not match template `labels`";

/// What these kinds have in common.
const WORKLOAD: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    prepare_create: |_, new| prepare_template(new, &TEMPLATE, None),
    prepare_update: |_, new, old| prepare_template(new, &TEMPLATE, Some(old)),
    warnings: |cx, new, old, told| {
        if cx.subresource.is_empty() {
            named_pods(new, old, told);
            template_warnings(new, old, told);
        }
    },
    ..Facts::PLAIN
};

/// ReplicaSets.
static REPLICA_SET: Facts = Facts {
    status: Status::Own(r#"{"replicas":0}"#),
    create: |_, new, errors| replica_set(errors, new, None),
    update: replica_set_update,
    sub_update: |cx, new, old, errors| match cx.subresource {
        "status" => replica_status(errors, new.get("status"), "readyReplicas"),
        _ => replica_set_update(cx, new, old, errors),
    },
    ..WORKLOAD
};

/// ReplicationControllers.
static REPLICATION_CONTROLLER: Facts = Facts {
    status: Status::Own(r#"{"replicas":0}"#),
    create: |_, new, errors| replication_controller(errors, new, None),
    update: |_, new, old, errors| replication_controller(errors, new, Some(old)),
    sub_update: |cx, new, old, errors| match cx.subresource {
        "status" => replica_status(errors, new.get("status"), "readyReplicas"),
        _ => replication_controller(errors, new, Some(old)),
    },
    ..WORKLOAD
};

/// PodTemplates.
static POD_TEMPLATE: Facts = Facts {
    generation: Generation::Of(&["template"]),
    prepare_create: |_, new| prepare_template(new, &["template"], None),
    prepare_update: |_, new, old| prepare_template(new, &["template"], Some(old)),
    create: |_, new, errors| {
        validate_template(errors, new.get("template"), &PodOptions::for_template(None));
    },
    update: |_, new, old, errors| {
        let options = PodOptions::for_template(Some(old.get("template")));
        validate_template(errors, new.get("template"), &options);
    },
    warnings: |_, new, old, told| {
        if counts(new, old) {
            told.extend(pod_warnings::of_template(new.get("template")));
        }
    },
    ..Facts::PLAIN
};

/// ControllerRevisions.
static CONTROLLER_REVISION: Facts = Facts {
    create: |_, new, errors| {
        errors.non_negative(new.get("revision"));
        match new.get("data").node() {
            None => errors.required(new.get("data"), "data is mandatory"),
            Some(node) if node.kind() != api::doc::Kind::Object => {
                errors.required(new.get("data"), "data must be a valid JSON object");
            }
            Some(_) => {}
        }
    },
    update: |_, new, old, errors| {
        errors.non_negative(new.get("revision"));
        errors.immutable(new.get("data"), old.get("data"));
    },
    ..Facts::PLAIN
};

/// Whether a change is one that upstream warns about: what counted the generation.
fn counts(new: At<'_>, old: Option<At<'_>>) -> bool {
    let generation = |at: At<'_>| at.path(&["metadata", "generation"]).int();
    old.is_none_or(|old| generation(old) != generation(new))
}

/// A new object's name that pods cannot have in theirs.
pub(super) fn named_pods(new: At<'_>, old: Option<At<'_>>, told: &mut Vec<String>) {
    let complaints = name::dns_1123_label(new.path(&["metadata", "name"]).str());
    if old.is_none() && !complaints.is_empty() {
        told.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising \
             behavior; a DNS label is recommended: [{}]",
            complaints.join(" ")
        ));
    }
}

fn template_warnings(new: At<'_>, old: Option<At<'_>>, told: &mut Vec<String>) {
    if counts(new, old) {
        told.extend(pod_warnings::of_template(new.path(&TEMPLATE)));
    }
}

fn options(old: Option<At<'_>>) -> PodOptions {
    PodOptions::for_template(old.map(|old| old.path(&TEMPLATE)))
}

fn replica_set(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec = new.get("spec");
    errors.non_negative(spec.get("replicas"));
    errors.non_negative(spec.get("minReadySeconds"));
    selector_and_template(errors, spec, &options(old));
}

fn replica_set_update(_: &Cx<'_>, new: At<'_>, old: At<'_>, errors: &mut Errors) {
    replica_set(errors, new, Some(old));
    errors.immutable(
        new.path(&["spec", "selector"]),
        old.path(&["spec", "selector"]),
    );
}

/// The selector and template of a Deployment or ReplicaSet; upstream calls both the same.
fn selector_and_template(errors: &mut Errors, spec: At<'_>, options: &PodOptions) {
    let selector = spec.get("selector");
    strict_selector(errors, selector, "deployment");
    match matches(spec) {
        None => return errors.invalid(selector, "invalid label selector"),
        Some(is_matching) => {
            if !is_matching && !is_empty(selector) {
                errors.invalid(spec.path(&["template", "metadata", "labels"]), NO_MATCH);
            }
        }
    }
    validate_template(errors, spec.get("template"), options);
    keeps_running(errors, spec.get("template"), "ReplicaSet");
}

/// A selector that is there and says nothing: that is told already. None at all selects nothing.
fn is_empty(selector: At<'_>) -> bool {
    selector.is_set() && labels::selects_all(selector)
}

/// A selector that must say something.
fn strict_selector(errors: &mut Errors, selector: At<'_>, kind: &str) {
    if !selector.is_set() {
        return errors.required(selector, "");
    }
    labels::selector(errors, selector, false);
    if labels::selects_all(selector) {
        errors.invalid(selector, format!("empty selector is invalid for {kind}"));
    }
}

/// Whether the selector selects what the template makes; none if it is no selector.
fn matches(spec: At<'_>) -> Option<bool> {
    let Some(selector) = spec.get("selector").node() else {
        return Some(false);
    };
    let selector = api::selector::LabelSelector::from_node(selector).ok()?;
    Some(selector.matches(spec.path(&["template", "metadata", "labels"]).node()))
}

/// Pods that are kept running start again and never have to end.
fn keeps_running(errors: &mut Errors, template: At<'_>, kind: &str) {
    let spec = template.get("spec");
    errors.one_of(spec.get("restartPolicy"), &["Always"]);
    if spec.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(spec.get("activeDeadlineSeconds"), detail);
    }
}

/// Counts of a status: not negative, and none greater than what it is a part of.
fn counters(errors: &mut Errors, status: At<'_>, fields: &[&'static str], parts: &[&'static str]) {
    for field in fields {
        if status.get(field).int() < 0 {
            errors.invalid(status.get(field), NOT_NEGATIVE);
        }
    }
    for part in parts {
        if status.get(part).int() > status.get("replicas").int() {
            errors.invalid(status.get(part), "cannot be greater than status.replicas");
        }
    }
}

fn available(errors: &mut Errors, status: At<'_>, ready: &str) {
    let field = status.get("availableReplicas");
    if field.int() > status.get("readyReplicas").int() {
        errors.invalid(field, format!("cannot be greater than {ready}"));
    }
}

fn replica_status(errors: &mut Errors, status: At<'_>, ready: &str) {
    counters(
        errors,
        status,
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    );
    available(errors, status, ready);
}

/// Counts collisions of names: never back.
fn collisions(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (now, before) = (new.get("collisionCount"), old.get("collisionCount"));
    if before.is_set() && now.int() < before.int() {
        errors.invalid_value(now, now.int(), "cannot be decremented");
    }
}

fn replication_controller(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec = new.get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    errors.non_negative(spec.get("minReadySeconds"));
    errors.need(selector, "");
    if spec.has("replicas") {
        errors.non_negative(spec.get("replicas"));
    } else {
        errors.required(spec.get("replicas"), "");
    }
    if !template.is_set() {
        return errors.required(template, "");
    }
    let labels = template.path(&["metadata", "labels"]);
    let is_matching = |want: At<'_>| labels.entry(want.key()).is_some_and(|has| same(has, want));
    if !selector.items().all(is_matching) {
        errors.invalid(labels, NO_MATCH);
    }
    validate_template(errors, template, &options(old));
    keeps_running(errors, template, "ReplicationController");
    if let Some(old) = old {
        non_convertible(errors, new, old);
    }
}

/// What could not be converted when the object was written as another kind stays.
fn non_convertible(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    const PREFIX: &str = "non-convertible.kubernetes.io/";
    for annotation in old.path(&["metadata", "annotations"]).items() {
        let Some(field) = annotation.key().strip_prefix(PREFIX) else {
            continue;
        };
        let path = ["spec", "selector"];
        if !field.contains("selector") {
            let mut error = FieldError::not_found(field, annotation.str());
            error.detail = "unknown non-convertible field".to_string();
            errors.push(error);
        } else if !same(new.path(&path), old.path(&path)) {
            errors.invalid(new.path(&path), "cannot update non-convertible selector");
        }
    }
}

/// An int that is not negative, or a percentage.
pub(crate) fn int_or_percent(errors: &mut Errors, at: At<'_>) {
    if at.node().is_some_and(|node| node.as_str().is_some()) {
        errors.names(at, name::percent);
    } else {
        errors.non_negative(at);
    }
}

/// The number of it, with or without a percent sign.
fn value_of(at: At<'_>) -> i64 {
    let digits = at.str().strip_suffix('%').unwrap_or(at.str());
    at.opt_int()
        .or_else(|| digits.parse().ok())
        .unwrap_or_default()
}

/// No more than everything.
pub(crate) fn at_most_all(errors: &mut Errors, at: At<'_>) {
    let is_percent = !at.str().is_empty() && name::percent(at.str()).is_empty();
    if is_percent && value_of(at) > 100 {
        errors.invalid(at, "must not be greater than 100%");
    }
}

#[cfg(test)]
mod tests;

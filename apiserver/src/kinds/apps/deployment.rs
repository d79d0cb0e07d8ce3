//! Deployments.

use api::doc::Doc;

use super::{
    TEMPLATE, WORKLOAD, at_most_all, available, collisions, counters, int_or_percent, options,
    selector_and_template, value_of,
};
use crate::kinds::facts::{Facts, Status, keep};
use crate::kinds::pod::prepare_template;
use crate::registry::strategy::Cx;
use crate::validation::{At, Errors, same};

/// Deployments.
pub(super) static DEPLOYMENT: Facts = Facts {
    status: Status::Own("{}"),
    prepare_update,
    create: |_, new, errors| deployment(errors, new, None),
    update,
    sub_update: |cx, new, old, errors| match cx.subresource {
        "status" => status(errors, new.get("status"), old.get("status")),
        _ => update(cx, new, old, errors),
    },
    reset_fields: Some(|subresource| match subresource {
        "status" => &[&["spec"], &["metadata", "labels"]],
        _ => &[&["status"]],
    }),
    ..WORKLOAD
};

/// Annotations count the generation too: ReplicaSets get them.
fn prepare_update(cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
    if cx.subresource == "status" {
        return keep(new, old, &["metadata", "labels"]);
    }
    prepare_template(new, &TEMPLATE, Some(old));
    let annotations = ["metadata", "annotations"];
    let (now, before) = (
        At::root(new).path(&annotations),
        At::root(old).path(&annotations),
    );
    let are_none = now.is_empty() && before.is_empty();
    if !are_none && !same(now, before) {
        let generation = At::root(old).path(&["metadata", "generation"]).int() + 1;
        new.set_path(&["metadata", "generation"], generation);
    }
}

fn update(_: &Cx<'_>, new: At<'_>, old: At<'_>, errors: &mut Errors) {
    deployment(errors, new, Some(old));
    errors.immutable(
        new.path(&["spec", "selector"]),
        old.path(&["spec", "selector"]),
    );
}

fn deployment(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec = new.get("spec");
    errors.non_negative(spec.get("replicas"));
    selector_and_template(errors, spec, &options(old));
    strategy(errors, spec.get("strategy"));
    errors.non_negative(spec.get("minReadySeconds"));
    errors.non_negative(spec.get("revisionHistoryLimit"));
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline.is_set() {
        errors.non_negative(deadline);
        if deadline.int() <= spec.get("minReadySeconds").int() {
            errors.invalid(deadline, "must be greater than minReadySeconds");
        }
    }
}

fn strategy(errors: &mut Errors, at: At<'_>) {
    let rolling = at.get("rollingUpdate");
    match at.get("type").str() {
        "Recreate" => {
            if rolling.is_set() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(rolling, detail);
            }
        }
        "RollingUpdate" if !rolling.is_set() => {
            errors.required(rolling, "this should be defaulted and never be nil");
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            int_or_percent(errors, unavailable);
            int_or_percent(errors, surge);
            if value_of(unavailable) == 0 && value_of(surge) == 0 {
                errors.invalid(unavailable, "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(errors, unavailable);
        }
        _ => errors.not_supported(at, &["Recreate", "RollingUpdate"]),
    }
}

fn status(errors: &mut Errors, status: At<'_>, old: At<'_>) {
    counters(
        errors,
        status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
    );
    available(errors, status, "readyReplicas");
    collisions(errors, status, old);
}

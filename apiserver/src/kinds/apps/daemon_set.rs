//! DaemonSets.

use api::doc::Doc;

use super::{
    NO_MATCH, TEMPLATE, WORKLOAD, at_most_all, collisions, counters, int_or_percent, keeps_running,
    matches, options, template_warnings, value_of,
};
use crate::kinds::facts::{Facts, Status};
use crate::kinds::pod::prepare_template;
use crate::registry::strategy::Cx;
use crate::validation::pod::validate_template;
use crate::validation::{At, Errors, labels, same};

/// How often the template changed. It was a field once and stays in this annotation.
const TEMPLATE_GENERATION: [&str; 3] = [
    "metadata",
    "annotations",
    "deprecated.daemonset.template.generation",
];

/// DaemonSets.
pub(super) static DAEMON_SET: Facts = Facts {
    status: Status::Own(
        r#"{"currentNumberScheduled":0,"numberMisscheduled":0,"desiredNumberScheduled":0,"numberReady":0}"#,
    ),
    prepare_create: |_, new| {
        prepare_template(new, &TEMPLATE, None);
        let asked = template_generation(new);
        new.set_path(&TEMPLATE_GENERATION, &asked.max(1).to_string());
    },
    prepare_update: |cx, new, old| {
        if cx.subresource == "status" {
            return;
        }
        prepare_template(new, &TEMPLATE, Some(old));
        let is_new = !same(At::root(new).path(&TEMPLATE), At::root(old).path(&TEMPLATE));
        let count = template_generation(old) + i64::from(is_new);
        new.set_path(&TEMPLATE_GENERATION, &count.to_string());
    },
    create: |_, new, errors| daemon_set(errors, new, None),
    update,
    sub_update: |cx, new, old, errors| match cx.subresource {
        "status" => status(errors, new.get("status"), old.get("status")),
        _ => update(cx, new, old, errors),
    },
    warnings: |cx, new, old, told| {
        if cx.subresource.is_empty() {
            template_warnings(new, old, told);
        }
    },
    ..WORKLOAD
};

fn template_generation(doc: &Doc) -> i64 {
    let count = At::root(doc).path(&TEMPLATE_GENERATION);
    count.str().parse().unwrap_or_default()
}

fn update(_: &Cx<'_>, new: At<'_>, old: At<'_>, errors: &mut Errors) {
    errors.immutable(
        new.path(&["spec", "selector"]),
        old.path(&["spec", "selector"]),
    );
    daemon_set(errors, new, Some(old));
}

fn daemon_set(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec = new.get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    let mut options = options(old);
    options.any_selector_value |=
        old.is_some_and(|old| labels::has_bad_value(old.path(&["spec", "selector"])));
    labels::selector(errors, selector, options.any_selector_value);
    if matches(spec) == Some(false) {
        errors.invalid(template.path(&["metadata", "labels"]), NO_MATCH);
    }
    if selector.is_set() && labels::selects_all(selector) {
        errors.invalid(selector, "empty selector is invalid for daemonset");
    }
    validate_template(errors, template, &options);
    keeps_running(errors, template, "DaemonSet");
    errors.non_negative(spec.get("minReadySeconds"));
    strategy(errors, spec.get("updateStrategy"));
    errors.non_negative(spec.get("revisionHistoryLimit"));
}

fn strategy(errors: &mut Errors, at: At<'_>) {
    let rolling = at.get("rollingUpdate");
    match at.get("type").str() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => errors.required(rolling, ""),
        "RollingUpdate" => {
            let fields = [rolling.get("maxUnavailable"), rolling.get("maxSurge")];
            fields.iter().for_each(|at| int_or_percent(errors, *at));
            fields.iter().for_each(|at| at_most_all(errors, *at));
            let [unavailable, surge] = fields;
            match (value_of(unavailable) != 0, value_of(surge) != 0) {
                (true, true) => {
                    errors.invalid(surge, "may not be set when maxUnavailable is non-zero");
                }
                (false, false) => {
                    errors.required(unavailable, "cannot be 0 when maxSurge is 0");
                }
                _ => {}
            }
        }
        _ => errors.not_supported(at, &["RollingUpdate", "OnDelete"]),
    }
}

fn status(errors: &mut Errors, status: At<'_>, old: At<'_>) {
    counters(
        errors,
        status,
        &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        &[],
    );
    collisions(errors, status, old);
}

//! What runs pods: workloads and jobs.

use api::doc::Node;

use super::Printer;
use super::view::{
    Cell, Col, View, at, condition, human_duration, moment, seconds_between, selector, text,
};

const TEMPLATE: &str = "spec.template.spec";

pub(super) const PRINTERS: &[Printer] = &[
    (
        "",
        "ReplicationController",
        &[
            Col::Name,
            Col::Int("spec.replicas"),
            Col::Int("status.replicas"),
            Col::Int("status.readyReplicas"),
            Col::Age,
            Col::Containers(TEMPLATE),
            Col::Images(TEMPLATE),
            Col::Labels("spec.selector"),
        ],
    ),
    (
        "apps",
        "ReplicaSet",
        &[
            Col::Name,
            Col::Int("spec.replicas"),
            Col::Int("status.replicas"),
            Col::Int("status.readyReplicas"),
            Col::Age,
            Col::Containers(TEMPLATE),
            Col::Images(TEMPLATE),
            Col::Selector("spec.selector"),
        ],
    ),
    (
        "apps",
        "Deployment",
        &[
            Col::Name,
            Col::Of(ready),
            Col::Int("status.updatedReplicas"),
            Col::Int("status.availableReplicas"),
            Col::Age,
            Col::Containers(TEMPLATE),
            Col::Images(TEMPLATE),
            Col::Of(|view| match selector(view.at("spec.selector")) {
                Some(text) => text.into(),
                None => "<invalid>".into(),
            }),
        ],
    ),
    (
        "apps",
        "StatefulSet",
        &[
            Col::Name,
            Col::Of(ready),
            Col::Age,
            Col::Containers(TEMPLATE),
            Col::Images(TEMPLATE),
        ],
    ),
    (
        "apps",
        "DaemonSet",
        &[
            Col::Name,
            Col::Int("status.desiredNumberScheduled"),
            Col::Int("status.currentNumberScheduled"),
            Col::Int("status.numberReady"),
            Col::Int("status.updatedNumberScheduled"),
            Col::Int("status.numberAvailable"),
            Col::Labels("spec.template.spec.nodeSelector"),
            Col::Age,
            Col::Containers(TEMPLATE),
            Col::Images(TEMPLATE),
            Col::Selector("spec.selector"),
        ],
    ),
    (
        "apps",
        "ControllerRevision",
        &[
            Col::Name,
            Col::Of(controller),
            Col::Int("revision"),
            Col::Age,
        ],
    ),
    (
        "batch",
        "Job",
        &[
            Col::Name,
            Col::Of(job_status),
            Col::Of(completions),
            Col::Of(job_duration),
            Col::Age,
            Col::Containers(TEMPLATE),
            Col::Images(TEMPLATE),
            Col::Selector("spec.selector"),
        ],
    ),
    (
        "batch",
        "CronJob",
        &[
            Col::Name,
            Col::Text("spec.schedule"),
            Col::Or("spec.timeZone", "<none>"),
            Col::Of(|view| match view.bool("spec.suspend") {
                Some(true) => "True".into(),
                Some(false) => "False".into(),
                None => "<unset>".into(),
            }),
            Col::Count("status.active"),
            Col::Of(|view| match view.at("status.lastScheduleTime") {
                Some(_) => view.since("status.lastScheduleTime").into(),
                None => "<none>".into(),
            }),
            Col::Age,
            Col::Containers("spec.jobTemplate.spec.template.spec"),
            Col::Images("spec.jobTemplate.spec.template.spec"),
            Col::Selector("spec.jobTemplate.spec.selector"),
        ],
    ),
    (
        "policy",
        "PodDisruptionBudget",
        &[
            Col::Name,
            Col::Of(|view| number_or_share(view.at("spec.minAvailable"))),
            Col::Of(|view| number_or_share(view.at("spec.maxUnavailable"))),
            Col::Int("status.disruptionsAllowed"),
            Col::Age,
        ],
    ),
];

fn ready(view: &View<'_>) -> Cell {
    let (ready, desired) = (view.int("status.readyReplicas"), view.int("spec.replicas"));
    format!("{ready}/{desired}").into()
}

fn number_or_share(value: Option<Node<'_>>) -> Cell {
    match value {
        None => "N/A".into(),
        Some(value) => match value.as_str() {
            Some(share) => share.into(),
            None => value.to_string().into(),
        },
    }
}

/// `replicaset.apps/x`, in lower case.
fn controller(view: &View<'_>) -> Cell {
    let is_controller =
        |owner: &Node<'_>| at(*owner, "controller").and_then(Node::as_bool) == Some(true);
    let Some(owner) = view.items("metadata.ownerReferences").find(is_controller) else {
        return "<none>".into();
    };
    let kind = match text(owner, "apiVersion").split_once('/') {
        Some((group, _)) if !group.is_empty() => format!("{}.{group}", text(owner, "kind")),
        _ => text(owner, "kind").to_string(),
    };
    let name = text(owner, "name");
    if kind.is_empty() {
        return name.into();
    }
    format!("{}/{name}", kind.to_lowercase()).into()
}

fn job_status(view: &View<'_>) -> Cell {
    let is_true = |kind: &str| {
        let found = condition(view.object, "status.conditions", kind);
        found.is_some_and(|found| text(found, "status") == "True")
    };
    let first = |kinds: &[(&str, &'static str)]| {
        kinds
            .iter()
            .find(|(kind, _)| is_true(kind))
            .map(|(_, shown)| *shown)
    };
    let ended = first(&[("Complete", "Complete"), ("Failed", "Failed")]);
    let deleted = view.is_deleted().then_some("Terminating");
    let going = || {
        first(&[
            ("Suspended", "Suspended"),
            ("FailureTarget", "FailureTarget"),
            ("SuccessCriteriaMet", "SuccessCriteriaMet"),
        ])
    };
    ended.or(deleted).or_else(going).unwrap_or("Running").into()
}

fn completions(view: &View<'_>) -> Cell {
    let done = view.int("status.succeeded");
    match (view.at("spec.completions"), view.int("spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}").into(),
        (None, parallelism) if parallelism > 1 => format!("{done}/1 of {parallelism}").into(),
        (None, _) => format!("{done}/1").into(),
    }
}

fn job_duration(view: &View<'_>) -> Cell {
    let Some(start) = moment(view.at("status.startTime")) else {
        return "".into();
    };
    let end = moment(view.at("status.completionTime")).unwrap_or(view.now);
    human_duration(seconds_between(start, end)).into()
}

//! PodResizeValidator: a pod grows only as far as its node goes.

use api::doc::Doc;
use api::status::{Cause, Status};
use async_trait::async_trait;

use super::{Attempt, Operation, Plugin};
use crate::registry::Outcome;
use crate::storage::Along;
use crate::validation::At;
use crate::validation::pod::walk::quantity;
use api::quota::amounts::{self, Amounts};

pub(super) struct PodResize;

#[async_trait]
impl Plugin for PodResize {
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let is_resize = attempt.operation == Operation::Update
            && attempt.resource() == ("", "pods")
            && attempt.subresource() == "resize";
        let (Some(new), Some(old), true) = (new, old, is_resize) else {
            return Ok(());
        };
        let generation = |doc| At::root(doc).path(&["metadata", "generation"]).int();
        let name = At::root(new).path(&["spec", "nodeName"]).str();
        if name.is_empty() || generation(new) == generation(old) {
            return Ok(());
        }
        let node = attempt.get("", "nodes", "", name).await;
        let node = node.ok_or_else(|| attempt.forbidden(format!("node {name:?} not found")))?;
        let node = node.doc();
        judge(attempt, At::root(new).get("spec"), At::root(&node))
    }
}

fn judge(attempt: &Attempt<'_>, spec: At<'_>, node: At<'_>) -> Outcome<()> {
    let system = node.path(&["metadata", "labels"]).entry("kubernetes.io/os");
    if let Some(system) = system.map(At::str).filter(|system| *system != "linux") {
        let name = node.path(&["metadata", "name"]).str();
        let why =
            format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
        return Err(refusal(attempt, &why, "UnsupportedPlatform"));
    }
    let allocatable = node.path(&["status", "allocatable"]);
    let mut wanted = amounts::of_pod(spec, "requests");
    wanted.add(&Amounts::read(spec.get("overhead")));
    let mut missing = Vec::new();
    for (name, in_millis) in [("cpu", true), ("memory", false)] {
        let (wanted, there) = (wanted.get(name).cloned(), quantity(allocatable.get(name)));
        let Some(wanted) = wanted.filter(|wanted| *wanted > there) else {
            continue;
        };
        let shown = |amount: &api::values::quantity::Quantity| match in_millis {
            true => amount.millis(),
            false => amount.units(),
        };
        missing.push(format!(
            "{name}, requested: {}, allocatable: {}",
            shown(&wanted),
            shown(&there)
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "node didn't have enough allocatable resources: {}",
        missing.join("; ")
    );
    Err(refusal(attempt, &why, "NodeCapacity"))
}

fn refusal(attempt: &Attempt<'_>, why: &str, kind: &str) -> Box<Status> {
    let mut status = attempt.forbidden(why);
    status.details.causes.push(Cause {
        kind: kind.to_string(),
        ..Cause::default()
    });
    status
}

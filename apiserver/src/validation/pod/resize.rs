//! What a resize may change: CPU and memory, of containers and of the pod as a whole.

use api::doc::{Doc, Id};
use api::field::FieldError;

use super::annotations::MIRROR;
use super::options::{Options, restarts_on_resize};
use super::walk::{self, CPU_AND_MEMORY};
use crate::kinds::facts::items_at;
use crate::kinds::pod::qos_class;
use crate::validation::{At, Errors, same};

const ONLY: &str = "only cpu and memory resources are mutable";

/// A change through `resize`.
pub(crate) fn validate(new: At<'_>, old: At<'_>) -> Errors {
    let mut errors = Errors::default();
    let (spec, before) = (new.get("spec"), old.get("spec"));
    for (is_fixed, what) in [
        (
            old.path(&["metadata", "annotations"])
                .entry(MIRROR)
                .is_some(),
            "static",
        ),
        (walk::os(before) == "windows", "windows"),
    ] {
        if is_fixed {
            errors.push(FieldError::forbidden(
                "",
                format!("{what} pods cannot be resized"),
            ));
            return errors;
        }
    }
    super::whole(&mut errors, new, &Options::for_pod(Some(old)));
    node_can(&mut errors, new, old);
    let pod_level = pod_resources(&mut errors, spec, before);
    if !old
        .path(&["status", "nodeAllocatableResourceClaimStatuses"])
        .is_empty()
    {
        let detail = "pods with node allocatable resource claims cannot be resized";
        errors.forbidden(spec, detail);
    }
    if !same_containers(&mut errors, spec, before) {
        return errors;
    }
    for list in ["initContainers", "containers"] {
        for (now, was) in spec.get(list).items().zip(before.get(list).items()) {
            nothing_removed(&mut errors, now, was);
        }
    }
    let copy = munged(new, old, pod_level);
    containers(&mut errors, &copy, spec, before);
    if errors.is_empty() && !same(At::root(&copy).get("spec"), before) {
        errors.forbidden(spec, ONLY);
    }
    errors
}

fn node_can(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let known = old.path(&["status", "qosClass"]);
    let class = if known.is_empty() {
        qos_class(old)
    } else {
        known.str()
    };
    let spec = new.get("spec");
    if class != qos_class(new) {
        let shown = new.path(&["status", "qosClass"]).str();
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.invalid_value(spec, shown, detail);
    }
    // Old nodes do not tell what running containers have.
    let mut statuses = old.path(&["status", "containerStatuses"]).items();
    let running = statuses.find(|at| at.get("state").has("running"));
    if running.is_some_and(|at| !at.has("resources")) {
        errors.forbidden(spec, "Pod running on node without support for resize");
    }
}

/// Whether the pod has resources as a whole, which then are judged.
fn pod_resources(errors: &mut Errors, spec: At<'_>, before: At<'_>) -> bool {
    let (now, was) = (spec.get("resources"), before.get("resources"));
    let has_some = |at: At<'_>| !at.get("requests").is_empty() || !at.get("limits").is_empty();
    if !has_some(now) && !has_some(was) {
        return false;
    }
    if was.is_set() && !now.is_set() {
        errors.forbidden(now, "pod-level resources cannot be removed");
        return true;
    }
    for list in ["requests", "limits"] {
        if lost(now.get(list), was.get(list)) {
            let detail = format!("pod-level resource {list} cannot be removed");
            errors.forbidden(now.get(list), detail);
        }
    }
    let others = |at: At<'_>, list: &'static str| -> Vec<(String, String)> {
        at.get(list)
            .items()
            .filter(|at| !CPU_AND_MEMORY.contains(&at.key()))
            .map(|at| (at.key().to_string(), at.str().to_string()))
            .collect()
    };
    if ["requests", "limits"]
        .iter()
        .any(|list| others(now, list) != others(was, list))
        || !same(now.get("claims"), was.get("claims"))
    {
        let detail = "only cpu and memory resources are mutable at pod-level";
        errors.forbidden(spec, detail);
    }
    true
}

fn lost(now: At<'_>, was: At<'_>) -> bool {
    was.len() > now.len() || was.items().any(|at| now.entry(at.key()).is_none())
}

fn same_containers(errors: &mut Errors, spec: At<'_>, before: At<'_>) -> bool {
    let found = errors.len();
    for list in ["containers", "initContainers"] {
        if spec.get(list).len() != before.get(list).len() {
            let detail = format!("{list} may not be added or removed on resize");
            errors.forbidden(spec.get(list), detail);
            continue;
        }
        for (now, was) in spec.get(list).items().zip(before.get(list).items()) {
            if now.get("name").str() != was.get("name").str() {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(now.get("name"), detail);
            }
        }
    }
    errors.len() == found
}

fn nothing_removed(errors: &mut Errors, now: At<'_>, was: At<'_>) {
    for list in ["requests", "limits"] {
        let (now, was) = (
            now.path(&["resources", list]),
            was.path(&["resources", list]),
        );
        if lost(now, was) {
            errors.forbidden(now, format!("resource {list} cannot be removed"));
        }
    }
}

/// The new pod with the old CPU and memory: the rest must be as it was.
fn munged(new: At<'_>, old: At<'_>, pod_level: bool) -> Doc {
    let mut copy = new.doc().clone();
    for list in ["containers", "initContainers"] {
        let places: Vec<Id> = items_at(&copy, &["spec", list]);
        for (place, was) in places.into_iter().zip(old.get("spec").get(list).items()) {
            old_amounts(&mut copy, place, was.get("resources"));
        }
    }
    if pod_level && let Some(spec) = copy.find_path(&["spec"]) {
        let was = old.path(&["spec", "resources"]);
        old_amounts(&mut copy, spec, was);
        let is_gone = At::root(&copy).path(&["spec", "resources"]).is_empty();
        if is_gone && !was.is_set() {
            copy.remove(spec, "resources");
        }
    }
    copy
}

fn old_amounts(copy: &mut Doc, owner: Id, was: At<'_>) {
    let resources = copy.object(owner, "resources");
    for list in ["limits", "requests"] {
        let amounts = copy.object(resources, list);
        for name in CPU_AND_MEMORY {
            match was.get(list).entry(name) {
                Some(at) => {
                    copy.set(amounts, name, at.str());
                }
                None => {
                    copy.remove(amounts, name);
                }
            }
        }
        if copy.node(amounts).is_empty() {
            copy.remove(resources, list);
        }
    }
}

fn containers(errors: &mut Errors, copy: &Doc, spec: At<'_>, before: At<'_>) {
    let munged = At::root(copy).get("spec");
    for (now, was) in munged
        .get("containers")
        .items()
        .zip(before.get("containers").items())
    {
        if !same(now, was) {
            errors.forbidden(spec, ONLY);
        }
    }
    let list = spec.get("initContainers").items();
    let all = list.zip(munged.get("initContainers").items());
    for ((sent, now), was) in all.zip(before.get("initContainers").items()) {
        if !same(now, was) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(sent, detail);
        }
        if !same(sent, was) && !walk::is_sidecar(sent) && restarts_on_resize(sent) {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot \
                          be resized";
            errors.forbidden(sent, detail);
        }
    }
}

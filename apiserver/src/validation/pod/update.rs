//! What may change of a pod.

use api::doc::{Doc, Id};
use api::field::FieldError;

use super::options::Options;
use super::{annotations, scheduling, unified_diff};
use crate::kinds::facts::{items_at, keep};
use crate::validation::{At, Errors, same};

const INT32_MAX: i64 = i32::MAX as i64;
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,\
                         `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
                         tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if \
                         it was previously negative)";
const AFFINITY: [&str; 3] = ["spec", "affinity", "nodeAffinity"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// A change of the pod itself.
pub(crate) fn validate(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let options = Options::for_pod(Some(old));
    super::whole(errors, new, &options);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    annotations::updates(
        errors,
        new.path(&["metadata", "annotations"]),
        old.path(&["metadata", "annotations"]),
        spec,
        &options,
    );
    for list in ["containers", "initContainers"] {
        if spec.get(list).len() != before.get(list).len() {
            let detail = "pod updates may not add or remove containers";
            return errors.forbidden(spec.get(list), detail);
        }
        for container in spec.get(list).items() {
            errors.need(container.get("image"), "");
            super::containers::image_is_trimmed(errors, container);
        }
    }
    if !deadline(
        errors,
        spec.get("activeDeadlineSeconds"),
        before.get("activeDeadlineSeconds"),
    ) {
        return;
    }
    let lists = (spec.get("tolerations"), before.get("tolerations"));
    only_added_tolerations(errors, lists.0, lists.1, &options);
    only_removed_gates(
        errors,
        spec.get("schedulingGates"),
        before.get("schedulingGates"),
    );
    if !same(spec, before) {
        rest(errors, new, old);
    }
}

/// A deadline may be set and come closer. Says whether to go on.
fn deadline(errors: &mut Errors, new: At<'_>, old: At<'_>) -> bool {
    let Some(seconds) = new.opt_int() else {
        if old.is_set() {
            errors.invalid(new, "must not update from a positive integer to nil value");
        }
        return true;
    };
    if !(0..=INT32_MAX).contains(&seconds) {
        errors.in_range(new, 0, INT32_MAX);
        return false;
    }
    if old.opt_int().is_some_and(|old| old < seconds) {
        errors.invalid(new, "must be less than or equal to previous value");
        return false;
    }
    true
}

fn only_added_tolerations(errors: &mut Errors, new: At<'_>, old: At<'_>, options: &Options) {
    let fields = ["key", "operator", "value", "effect"];
    let is_kept = |old: At<'_>| {
        new.items().any(|new| {
            fields
                .iter()
                .all(|field| new.get(field).str() == old.get(field).str())
        })
    };
    if !old.items().all(is_kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return errors.forbidden(new, detail);
    }
    scheduling::tolerations(errors, new, options);
}

fn only_removed_gates(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    for gate in new.items() {
        let name = gate.get("name");
        if old.find("name", name.str()).is_none() {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.str()
            );
            errors.forbidden(name, detail);
        }
    }
}

/// Everything else must stay: what may change is put back in a copy, which then is as it was.
fn rest(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (mut copy, before) = (new.doc().clone(), old.doc());
    let old_spec = old.get("spec");
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut copy, before, &["spec", field]);
    }
    for list in ["containers", "initContainers"] {
        let places: Vec<Id> = items_at(&copy, &["spec", list]);
        for (place, container) in places.into_iter().zip(old_spec.get(list).items()) {
            copy.set(place, "image", container.get("image").str());
        }
    }
    let grace = "terminationGracePeriodSeconds";
    if old_spec.get(grace).int() < 0 && new.get("spec").get(grace).int() == 1 {
        keep(&mut copy, before, &["spec", grace]);
    }
    if !old_spec.get("schedulingGates").is_empty() {
        gated(errors, &mut copy, new, old);
    }
    let munged = At::root(&copy).get("spec");
    if !same(munged, old_spec) {
        let diff = unified_diff::diff(old_spec, munged);
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{diff}");
        errors.forbidden(new.get("spec"), detail);
    }
}

/// While nobody schedules a pod, it may become choosier about nodes.
fn gated(errors: &mut Errors, copy: &mut Doc, new: At<'_>, old: At<'_>) {
    let before = old.doc();
    let selector = new.path(&["spec", "nodeSelector"]);
    let is_kept = |at: At<'_>| {
        let now = selector.entry(at.key());
        now.is_some_and(|now| now.str() == at.str())
    };
    if !old.path(&["spec", "nodeSelector"]).items().all(is_kept) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(selector, detail);
    }
    keep(copy, before, &["spec", "nodeSelector"]);
    let (affinity, old_affinity) = (new.path(&AFFINITY), old.path(&AFFINITY));
    if same(affinity, old_affinity) {
        return;
    }
    node_affinity(errors, affinity, old_affinity);
    if old_affinity.is_set() || old.path(&["spec", "affinity"]).is_set() {
        keep(copy, before, &AFFINITY);
    } else {
        crate::kinds::facts::remove_path(copy, &AFFINITY);
        if At::root(copy).path(&["spec", "affinity"]).is_empty() {
            crate::kinds::facts::remove_path(copy, &["spec", "affinity"]);
        }
    }
}

fn node_affinity(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (now, before) = (
        new.get(REQUIRED).get("nodeSelectorTerms"),
        old.get(REQUIRED).get("nodeSelectorTerms"),
    );
    if before.is_empty() {
        return;
    }
    if now.len() != before.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.invalid(now, detail);
    }
    for (new, old) in now.items().zip(before.items()) {
        if !only_adds(new, old) {
            errors.invalid(
                new,
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}

/// An empty term matches nothing, so that an addition would widen it.
fn only_adds(new: At<'_>, old: At<'_>) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    if lists.iter().all(|list| old.get(list).is_empty()) {
        return lists.iter().all(|list| new.get(list).is_empty());
    }
    lists.iter().all(|list| {
        let mut now = new.get(list).items();
        old.get(list)
            .items()
            .all(|old| now.next().is_some_and(|new| same(new, old)))
    })
}

/// A change of the ephemeral containers.
pub(crate) fn ephemeral_containers(new: At<'_>, old: At<'_>) -> Errors {
    let mut errors = Errors::default();
    let (meta, old_meta) = (
        new.path(&["metadata", "annotations"]),
        old.path(&["metadata", "annotations"]),
    );
    if old_meta.entry(annotations::MIRROR).is_some() {
        let detail = "static pods do not support ephemeral containers";
        errors.push(FieldError::forbidden("", detail));
        return errors;
    }
    let options = Options::for_pod(Some(old));
    super::whole(&mut errors, new, &options);
    annotations::updates(&mut errors, meta, old_meta, new.get("spec"), &options);
    let list = new.path(&["spec", "ephemeralContainers"]);
    for before in old.path(&["spec", "ephemeralContainers"]).items() {
        let name = before.get("name").str();
        match list.find("name", name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(list, detail);
            }
            Some(now) if !same(now, before) => {
                let diff = unified_diff::diff(before, now);
                let detail =
                    format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.forbidden(list, detail);
            }
            Some(_) => {}
        }
    }
    errors
}

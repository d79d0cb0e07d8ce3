//! Jobs.

use api::doc::{Doc, Id};
use api::name;
use api::selector::LabelSelector;

use super::job_spec::{self, is_indexed};
use super::job_status;
use crate::kinds::apps::named_pods;
use crate::kinds::facts::{Facts, Generation, Status, items_at, keep, remove_path};
use crate::kinds::pod::prepare_template;
use crate::registry::strategy::Cx;
use crate::validation::errors::IMMUTABLE;
use crate::validation::pod::PodOptions;
use crate::validation::{At, Errors, labels, same};

const TEMPLATE: [&str; 2] = ["spec", "template"];
const LABELS: [&str; 4] = ["spec", "template", "metadata", "labels"];
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const OLD_JOB_NAME: &str = "job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const NO_MATCH: &str = "`selector` does not match template `labels`";

/// Jobs.
pub(super) static JOB: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    status: Status::Own("{}"),
    prepare_create: |_, new| {
        generate_selector(new);
        prepare_template(new, &TEMPLATE, None);
    },
    prepare_update: |_, new, old| prepare_template(new, &TEMPLATE, Some(old)),
    create: |_, new, errors| job(errors, new, None),
    update,
    sub_update: |cx, new, old, errors| match cx.subresource {
        "status" => job_status::validate(errors, new, old),
        _ => update(cx, new, old, errors),
    },
    warnings: |cx, new, old, told| {
        if cx.subresource.is_empty() {
            named_pods(new, old, told);
            told.extend(job_spec::warnings("spec", new.get("spec"), new, old));
        }
    },
    ..Facts::PLAIN
};

/// A Job selects its pods by its own UID, unless who makes it selects by hand.
fn generate_selector(job: &mut Doc) {
    let root = At::root(job);
    if root.path(&["spec", "manualSelector"]).flag() {
        return;
    }
    let name = root.path(&["metadata", "name"]).str().to_string();
    let uid = root.path(&["metadata", "uid"]).str().to_string();
    for (key, value) in [
        (OLD_JOB_NAME, &name),
        (JOB_NAME, &name),
        (OLD_CONTROLLER_UID, &uid),
        (CONTROLLER_UID, &uid),
    ] {
        add(job, &LABELS, key, value);
    }
    add(
        job,
        &["spec", "selector", "matchLabels"],
        CONTROLLER_UID,
        &uid,
    );
}

/// What is there already stays: if it contradicts, validation tells.
fn add(job: &mut Doc, path: &[&'static str], key: &'static str, value: &str) {
    if At::root(job).path(path).entry(key).is_none() {
        job.set_path(&[path, &[key]].concat(), value);
    }
}

fn options(old: Option<At<'_>>) -> PodOptions {
    let mut options = PodOptions::for_template(old.map(|old| old.path(&TEMPLATE)));
    options.any_selector_value |=
        old.is_some_and(|old| labels::has_bad_value(old.path(&["spec", "selector"])));
    options
}

fn job(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec = new.get("spec");
    let options = options(old);
    // Old Jobs lack the labels with a domain.
    let is_prefixed = old.is_none_or(|old| {
        let labels = old.path(&LABELS);
        labels.entry(JOB_NAME).is_some() && labels.entry(CONTROLLER_UID).is_some()
    });
    generated_selector(errors, new, is_prefixed);
    job_spec::validate(errors, spec, &options);
    let selector = spec.get("selector");
    if selector.is_set() {
        labels::selector(errors, selector, options.any_selector_value);
    } else {
        errors.required(selector, "");
    }
    let labels = new.path(&LABELS);
    let parsed = selector.node().map(LabelSelector::from_node);
    let is_matching = match parsed {
        Some(Ok(parsed)) => parsed.matches(labels.node()),
        Some(Err(_)) => true,
        None => false,
    };
    if !is_matching {
        errors.invalid(labels, NO_MATCH);
    }
    hostnames(errors, new);
}

fn generated_selector(errors: &mut Errors, new: At<'_>, is_prefixed: bool) {
    let spec = new.get("spec");
    if spec.get("manualSelector").flag() || !spec.has("selector") {
        return;
    }
    let (name, uid) = (
        new.path(&["metadata", "name"]),
        new.path(&["metadata", "uid"]),
    );
    errors.need(uid, "");
    let labels = new.path(&LABELS);
    let mut wanted = vec![(OLD_CONTROLLER_UID, uid.str()), (OLD_JOB_NAME, name.str())];
    if is_prefixed {
        wanted.extend([(CONTROLLER_UID, uid.str()), (JOB_NAME, name.str())]);
    }
    for (key, value) in &wanted {
        let detail = format!("must be '{value}'");
        match labels.entry(key) {
            None => {
                let path = format!("{}[{key}]", errors.path(labels));
                errors.push(api::field::FieldError::required(path, detail));
            }
            Some(label) if label.str() != *value => {
                errors.invalid_value(label, labels, detail);
            }
            Some(_) => {}
        }
    }
    let lookup = |key: &str| {
        wanted
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, v)| *v)
    };
    let parsed = spec.get("selector").node().map(LabelSelector::from_node);
    if let Some(Ok(selector)) = parsed
        && !selector.matches_by(lookup)
    {
        errors.invalid(spec.get("selector"), "`selector` not auto-generated");
    }
}

/// Pods of an indexed Job are called after it and their index.
fn hostnames(errors: &mut Errors, new: At<'_>) {
    let (spec, job) = (new.get("spec"), new.path(&["metadata", "name"]));
    let completions = spec.get("completions").int();
    if !is_indexed(spec) || completions <= 0 {
        return;
    }
    let last = format!("{}-{}", job.str(), completions - 1);
    if !name::dns_1123_label(&last).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {last}");
        errors.invalid(job, detail);
    }
}

fn update(_: &Cx<'_>, new: At<'_>, old: At<'_>, errors: &mut Errors) {
    job(errors, new, Some(old));
    let (spec, before) = (new.get("spec"), old.get("spec"));
    completions(errors, spec, before);
    errors.immutable(spec.get("selector"), before.get("selector"));
    template(errors, new, old);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        errors.immutable(spec.get(field), before.get(field));
    }
}

/// Only an indexed Job can be scaled, as a whole.
fn completions(errors: &mut Errors, spec: At<'_>, before: At<'_>) {
    let at = spec.get("completions");
    if !is_indexed(spec) {
        return errors.immutable(at, before.get("completions"));
    }
    let is_changed = at.is_set() && !same(at, before.get("completions"));
    if is_changed && at.int() != spec.get("parallelism").int() {
        errors.invalid(at, "can only be modified in tandem with spec.parallelism");
    }
}

/// While a Job is suspended and nothing of it runs, its pods may be made differently: elsewhere, and
/// with other resources.
fn template(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (now, before) = (new.path(&TEMPLATE), old.path(&TEMPLATE));
    if same(now, before) {
        return;
    }
    let is_suspended = old.path(&["spec", "suspend"]).flag();
    let status = old.get("status");
    let was_suspended = job_status::is(status, "Suspended", "True");
    let is_idle = !status.has("startTime") || was_suspended;
    if !is_suspended || !is_idle || status.get("active").int() != 0 {
        return errors.invalid(now, IMMUTABLE);
    }
    let mut allowed = old.doc().clone();
    take_scheduling(&mut allowed, new.doc());
    take_resources(&mut allowed, new);
    if !same(
        now.get("spec"),
        At::root(&allowed).path(&TEMPLATE).get("spec"),
    ) {
        errors.invalid(now.get("spec"), IMMUTABLE);
    }
}

fn take_scheduling(allowed: &mut Doc, new: &Doc) {
    const AFFINITY: [&str; 4] = ["spec", "template", "spec", "affinity"];
    let node = [&AFFINITY[..], &["nodeAffinity"]].concat();
    match At::root(new).path(&AFFINITY).is_set() {
        true => keep(allowed, new, &node),
        false => {
            remove_path(allowed, &node);
            if At::root(allowed).path(&AFFINITY).is_empty() {
                remove_path(allowed, &AFFINITY);
            }
        }
    }
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        keep(allowed, new, &["spec", "template", "spec", field]);
    }
}

fn take_resources(allowed: &mut Doc, new: At<'_>) {
    for list in ["containers", "initContainers"] {
        let places: Vec<Id> = items_at(allowed, &["spec", "template", "spec", list]);
        let containers = new.path(&TEMPLATE).get("spec").get(list);
        if places.len() != containers.len() {
            continue;
        }
        for (place, container) in places.into_iter().zip(containers.items()) {
            if allowed.node(place).text(&["name"]) != container.get("name").str() {
                continue;
            }
            match container.get("resources").node() {
                Some(node) => {
                    let copy = allowed.graft(node);
                    allowed.put(place, "resources", copy);
                }
                None => {
                    allowed.remove(place, "resources");
                }
            }
        }
    }
}

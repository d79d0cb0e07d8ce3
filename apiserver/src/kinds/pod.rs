//! Pods, with their subresources `status`, `ephemeralcontainers` and `resize`.

pub(crate) mod aliases;
pub(crate) mod app_armor;

use api::doc::{Doc, Id, New};
use api::field::FieldError;
use api::{gates, name};

use super::facts::{items_at, keep, remove_path};
use crate::registry::strategy::{Cx, Strategy};
use crate::validation::pod::warnings as pod_warnings;
use crate::validation::pod::{self, walk};
use crate::validation::{At, same};

pub(crate) use api::quota::qos::qos_class;

/// What an update through a subresource may not change of an object's metadata.
const META_OF_STATUS: [&str; 6] = [
    "deletionTimestamp",
    "generation",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
];

/// The strategy.
pub(crate) struct Pod;

impl Strategy for Pod {
    fn prepare_create(&self, _cx: &Cx<'_>, new: &mut Doc) {
        new.set_path(&["metadata", "generation"], 1);
        unify(new);
        drop_disabled(new, None);
        let class = qos_class(At::root(new));
        let status = new.make(New::Object);
        let top = new.top();
        new.put(top, "status", status);
        new.set(status, "phase", "Pending");
        if !At::root(new).path(&["spec", "schedulingGates"]).is_empty() {
            let conditions = new.list(status, "conditions");
            let condition = new.push(conditions, New::Object);
            new.set(condition, "type", "PodScheduled");
            new.set(condition, "status", "False");
            new.set(condition, "lastProbeTime", New::Null);
            new.set(condition, "lastTransitionTime", New::Null);
            new.set(condition, "reason", "SchedulingGated");
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            new.set(condition, "message", message);
        }
        new.set(status, "qosClass", class);
        merge_label_keys(new);
        app_armor::annotations_to_fields(new);
    }

    fn prepare_update(&self, cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
        match cx.subresource {
            // Who binds says where a pod runs, and changes nothing else.
            "binding" => return remove_path(new, &["status", "nominatedNodeName"]),
            "status" => prepare_status(new, old),
            "ephemeralcontainers" => keep_all_but(new, old, keep_ephemeral_containers),
            "resize" if resizes(new, old) => keep_all_but(new, old, keep_resources),
            "resize" => {}
            _ => keep(new, old, &["status"]),
        }
        unify(new);
        drop_disabled(new, Some(old));
        if cx.subresource != "status" && !same(spec(new), spec(old)) {
            let generation = At::root(old).path(&["metadata", "generation"]).int() + 1;
            new.set_path(&["metadata", "generation"], generation);
        }
    }

    fn validate_create(&self, _cx: &Cx<'_>, new: &Doc) -> Vec<FieldError> {
        pod::validate_create(new)
    }

    fn validate_update(&self, cx: &Cx<'_>, new: &Doc, old: &Doc) -> Vec<FieldError> {
        match cx.subresource {
            "binding" => Vec::new(),
            "status" => pod::validate_status_update(new, old),
            "ephemeralcontainers" => pod::validate_ephemeral_containers_update(new, old),
            "resize" => pod::validate_resize(new, old),
            _ => pod::validate_update(new, old),
        }
    }

    fn warnings(&self, cx: &Cx<'_>, new: &Doc, old: Option<&Doc>) -> Vec<String> {
        let pod = At::root(new);
        if cx.subresource == "status" {
            return pod_warnings::of_status(pod);
        }
        if old.is_some() {
            return Vec::new();
        }
        let complaints = name::dns_1123_label(pod.path(&["metadata", "name"]).str());
        let mut warnings = Vec::new();
        if !complaints.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising \
                 behavior; a DNS label is recommended: [{}]",
                complaints.join(" ")
            ));
        }
        warnings.extend(pod_warnings::of_pod(pod));
        warnings
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ],
            _ => &[&["status"]],
        }
    }

    fn grace_seconds(&self, object: &Doc, asked: Option<i64>) -> Option<i64> {
        let pod = At::root(object);
        let own = pod.path(&["spec", "terminationGracePeriodSeconds"]);
        let is_over = ["Failed", "Succeeded"].contains(&pod.path(&["status", "phase"]).str());
        if is_over || pod.path(&["spec", "nodeName"]).is_empty() {
            return Some(0);
        }
        let seconds = asked.unwrap_or_else(|| own.int());
        // Negative ones of old objects mean as little as possible, yet gracefully.
        Some(if seconds < 0 { 1 } else { seconds })
    }
}

fn spec(pod: &Doc) -> At<'_> {
    At::root(pod).get("spec")
}

/// What old clients call something else, and times to end that make no sense.
fn unify(pod: &mut Doc) {
    const GRACE: [&str; 2] = ["spec", "terminationGracePeriodSeconds"];
    aliases::unify(pod, &[]);
    aliases::unify_addresses(pod);
    if At::root(pod).path(&GRACE).int() < 0 {
        pod.set_path(&GRACE, 1);
    }
}

fn prepare_status(new: &mut Doc, old: &Doc) {
    keep(new, old, &["spec"]);
    keep(new, old, &["metadata", "deletionTimestamp"]);
    // Old kubelets corrupt them.
    keep(new, old, &["metadata", "ownerReferences"]);
    if At::root(new).path(&["status", "qosClass"]).is_empty() {
        keep(new, old, &["status", "qosClass"]);
    }
    if At::root(new).path(&["status", "observedGeneration"]).int() == 0 {
        keep(new, old, &["status", "observedGeneration"]);
    }
    keep_observed_generations(new, old);
}

/// Conditions without an observed generation keep the one that they had. Types may repeat: the
/// first new one of a type takes from the first old one.
fn keep_observed_generations(new: &mut Doc, old: &Doc) {
    let path = ["status", "conditions"];
    let mut before: Vec<(&str, i64)> = At::root(old)
        .path(&path)
        .items()
        .map(|at| (at.get("type").str(), at.get("observedGeneration").int()))
        .collect();
    let mut kept: Vec<(Id, i64)> = Vec::new();
    for condition in At::root(new).path(&path).items() {
        let kind = condition.get("type").str();
        let Some(found) = before.iter().position(|(known, _)| *known == kind) else {
            continue;
        };
        let (_, generation) = before.remove(found);
        if condition.get("observedGeneration").int() == 0 && generation != 0 {
            kept.extend(condition.node().map(|node| (node.id(), generation)));
        }
    }
    for (condition, generation) in kept {
        new.set(condition, "observedGeneration", generation);
    }
}

/// Puts everything back but what `change` brings in: it gets the object as it becomes, and what the
/// client sent.
fn keep_all_but(new: &mut Doc, old: &Doc, change: fn(&mut Doc, &Doc)) {
    let sent = new.clone();
    keep(new, old, &["spec"]);
    keep(new, old, &["status"]);
    for field in META_OF_STATUS {
        keep(new, old, &["metadata", field]);
    }
    change(new, &sent);
}

fn keep_ephemeral_containers(new: &mut Doc, sent: &Doc) {
    keep(new, sent, &["spec", "ephemeralContainers"]);
}

/// Whether a change is no more than a resize: the same containers in the same order.
fn resizes(new: &Doc, old: &Doc) -> bool {
    ["containers", "initContainers"].iter().all(|list| {
        let names = |doc| {
            spec(doc)
                .get(list)
                .items()
                .map(|item| item.get("name").str())
        };
        names(new).eq(names(old))
    })
}

fn keep_resources(new: &mut Doc, sent: &Doc) {
    keep(new, sent, &["spec", "resources"]);
    for list in ["containers", "initContainers"] {
        let places: Vec<Id> = items_at(new, &["spec", list]);
        for (place, container) in places.into_iter().zip(spec(sent).get(list).items()) {
            for field in ["resources", "resizePolicy"] {
                match container.get(field).node() {
                    Some(node) => {
                        let copy = new.graft(node);
                        new.put(place, field, copy);
                    }
                    None => {
                        new.remove(place, field);
                    }
                }
            }
        }
    }
}

/// Drops fields of features that are off in 1.36, unless the old object has them.
fn drop_disabled(new: &mut Doc, old: Option<&Doc>) {
    drop_disabled_of(new, &["spec"], old);
}

/// What happens to the template at a path of whatever makes pods.
pub(crate) fn prepare_template(new: &mut Doc, path: &[&'static str], old: Option<&Doc>) {
    if At::root(new).path(path).is_set() {
        aliases::unify(new, path);
        drop_disabled_of(new, &[path, &["spec"]].concat(), old);
    }
}

/// The same for the spec at a path.
fn drop_disabled_of(new: &mut Doc, path: &[&'static str], old: Option<&Doc>) {
    let before = old.map(|old| At::root(old).path(path));
    let has = |check: &dyn Fn(At<'_>) -> bool| before.is_some_and(check);
    let mut gone: Vec<(Id, &'static str)> = Vec::new();
    let now = At::root(new).path(path);
    let mut drop = |at: At<'_>, field: &'static str| {
        if at.has(field) {
            gone.extend(at.node().map(|node| (node.id(), field)));
        }
    };
    let is_off = |gate| !gates::is_on(gate);
    if is_off("GenericWorkload") && !has(&|spec| spec.has("schedulingGroup")) {
        drop(now, "schedulingGroup");
    }
    let signals = |spec: At<'_>| walk::all_containers(spec).any(has_stop_signal);
    if is_off("ContainerStopSignals") && !has(&signals) {
        for container in walk::all_containers(now) {
            drop(container.get("lifecycle"), "stopSignal");
        }
    }
    for (gate, source) in [
        ("ClusterTrustBundleProjection", "clusterTrustBundle"),
        ("PodCertificateRequest", "podCertificate"),
    ] {
        if is_off(gate) && !has(&|spec| projections(spec).any(|at| at.has(source))) {
            for projection in projections(now) {
                drop(projection, source);
            }
        }
    }
    for (object, field) in gone {
        new.remove(object, field);
    }
    drop_empty_lifecycles(new, path);
}

fn has_stop_signal(container: At<'_>) -> bool {
    container.get("lifecycle").has("stopSignal")
}

fn projections<'d>(spec: At<'d>) -> impl Iterator<Item = At<'d>> {
    let volumes = spec.get("volumes").items();
    volumes.flat_map(|volume| volume.path(&["projected", "sources"]).items())
}

/// A lifecycle that held nothing but what was dropped goes too.
fn drop_empty_lifecycles(new: &mut Doc, path: &[&'static str]) {
    let spec = At::root(new).path(path);
    let empty: Vec<Id> = walk::all_containers(spec)
        .filter(|container| container.has("lifecycle") && container.get("lifecycle").is_empty())
        .filter_map(|container| container.node().map(|node| node.id()))
        .collect();
    for container in empty {
        new.remove(container, "lifecycle");
    }
}

/// `matchLabelKeys` become expressions of the selector beside them, with the pod's own labels.
fn merge_label_keys(new: &mut Doc) {
    const AFFINITIES: [&str; 2] = ["podAffinity", "podAntiAffinity"];
    let pod = At::root(new);
    let labels = pod.path(&["metadata", "labels"]);
    let mut added: Vec<(Id, String, &'static str, String)> = Vec::new();
    let mut add = |term: At<'_>, keys: &'static str, operator: &'static str| {
        let Some(selector) = term.get("labelSelector").node() else {
            return;
        };
        for key in term.get(keys).items() {
            if let Some(value) = labels.entry(key.str()) {
                let (key, value) = (key.str().to_string(), value.str().to_string());
                added.push((selector.id(), key, operator, value));
            }
        }
    };
    for kind in AFFINITIES {
        let affinity = pod.path(&["spec", "affinity", kind]);
        let preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution");
        let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = preferred.items().map(|term| term.get("podAffinityTerm"));
        for term in preferred.chain(required.items()) {
            add(term, "matchLabelKeys", "In");
            add(term, "mismatchLabelKeys", "NotIn");
        }
    }
    for term in pod.path(&["spec", "topologySpreadConstraints"]).items() {
        add(term, "matchLabelKeys", "In");
    }
    for (selector, key, operator, value) in added {
        let expressions = new.list(selector, "matchExpressions");
        let expression = new.push(expressions, New::Object);
        new.set(expression, "key", &key);
        new.set(expression, "operator", operator);
        let values = new.list(expression, "values");
        new.push(values, value.as_str());
    }
}

#[cfg(test)]
mod tests;

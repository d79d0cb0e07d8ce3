//! StatefulSets.

use api::doc::{Doc, Id};
use api::gates;

use super::{
    NO_MATCH, TEMPLATE, WORKLOAD, at_most_all, available, collisions, counters, int_or_percent,
    is_empty, keeps_running, matches, options, strict_selector, template_warnings, value_of,
};
use crate::kinds::facts::{Facts, Status, items_at, keep, remove_path};
use crate::kinds::pod::prepare_template;
use crate::registry::strategy::{Cx, dns_label};
use crate::validation::pod::options::fails;
use crate::validation::pod::template::metadata;
use crate::validation::pod::{PodOptions, validate_template};
use crate::validation::{At, Errors, claim, same};

const CLAIMS: [&str; 2] = ["spec", "volumeClaimTemplates"];
const MAX_UNAVAILABLE: [&str; 4] = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
/// What may change of a spec.
const MUTABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

/// StatefulSets.
pub(super) static STATEFUL_SET: Facts = Facts {
    name: dns_label,
    status: Status::Own(r#"{"replicas":0,"availableReplicas":0}"#),
    prepare_create: |_, new| prepare(new, None),
    prepare_update: |cx, new, old| {
        if cx.subresource != "status" {
            prepare(new, Some(old));
        }
    },
    create: |_, new, errors| {
        let leniency = Leniency::default();
        stateful_set(errors, new.get("spec"), &options(None), leniency);
    },
    update,
    sub_update: |cx, new, old, errors| match cx.subresource {
        "status" => status(errors, new.get("status"), old.get("status")),
        _ => update(cx, new, old, errors),
    },
    warnings,
    ..WORKLOAD
};

fn prepare(new: &mut Doc, old: Option<&Doc>) {
    prepare_template(new, &TEMPLATE, old);
    let has_it = |doc: &Doc| At::root(doc).path(&MAX_UNAVAILABLE).is_set();
    if !gates::is_on("MaxUnavailableStatefulSet") && !old.is_some_and(has_it) {
        remove_path(new, &MAX_UNAVAILABLE);
    }
    let claims: Vec<Id> = items_at(new, &CLAIMS);
    for claim in claims {
        new.set(claim, "kind", "PersistentVolumeClaim");
        new.set(claim, "apiVersion", "v1");
    }
}

/// What old objects may have.
#[derive(Clone, Copy, Default)]
struct Leniency {
    any_service: bool,
    any_template: bool,
    any_claims: bool,
}

fn update(_: &Cx<'_>, new: At<'_>, old: At<'_>, errors: &mut Errors) {
    let options = options(Some(old));
    let mut leniency = Leniency {
        any_service: true,
        any_template: false,
        any_claims: true,
    };
    let spec = old.get("spec");
    leniency.any_template = fails(|errors| stateful_set(errors, spec, &options, leniency));
    stateful_set(errors, new.get("spec"), &options, leniency);
    let mut copy = new.doc().clone();
    for field in MUTABLE {
        keep(&mut copy, old.doc(), &["spec", field]);
    }
    if !same(At::root(&copy).get("spec"), spec) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                      'template', 'updateStrategy', 'revisionHistoryLimit', \
                      'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.forbidden(new.get("spec"), detail);
    }
}

fn stateful_set(errors: &mut Errors, spec: At<'_>, options: &PodOptions, leniency: Leniency) {
    let management = spec.get("podManagementPolicy");
    if errors.need(management, "") && !["OrderedReady", "Parallel"].contains(&management.str()) {
        errors.invalid(management, "must be 'OrderedReady' or 'Parallel'");
    }
    strategy(errors, spec.get("updateStrategy"));
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    if retention.is_set() {
        for field in ["whenDeleted", "whenScaled"] {
            errors.one_of(retention.get(field), &["Retain", "Delete"]);
        }
    }
    if !leniency.any_claims {
        for template in spec.get("volumeClaimTemplates").items() {
            claim::spec(errors, template.get("spec"), claim::Options::default());
        }
    }
    errors.non_negative(spec.get("replicas"));
    errors.non_negative(spec.get("minReadySeconds"));
    errors.non_negative(spec.path(&["ordinals", "start"]));
    let service = spec.get("serviceName");
    if !leniency.any_service && !service.is_empty() {
        errors.names(service, |text| dns_label(text, false));
    }
    strict_selector(errors, spec.get("selector"), "statefulset");
    match matches(spec) {
        None => errors.invalid(spec.get("selector"), ""),
        Some(is_matching) => template(errors, spec, is_matching, options, leniency),
    }
    keeps_running(errors, spec.get("template"), "StatefulSet");
}

fn template(
    errors: &mut Errors,
    spec: At<'_>,
    is_matching: bool,
    options: &PodOptions,
    leniency: Leniency,
) {
    let at = spec.get("template");
    if !is_matching && !is_empty(spec.get("selector")) {
        errors.invalid(at.path(&["metadata", "labels"]), NO_MATCH);
    }
    if !leniency.any_template {
        // The controller gives each pod its name, its subdomain and its claims as volumes.
        let as_made = as_made(spec);
        let spec = as_made
            .as_ref()
            .map_or(spec, |doc| At::root(doc).get("spec"));
        validate_template(errors, spec.get("template"), options);
    }
    metadata(errors, at, options);
}

/// The object with the template as its pods will have it, where that differs.
fn as_made(spec: At<'_>) -> Option<Doc> {
    let pod = spec.path(&["template", "spec"]);
    let claims = spec.get("volumeClaimTemplates");
    if pod.get("subdomain").is_empty() && pod.get("hostname").is_empty() && claims.is_empty() {
        return None;
    }
    let mut copy = spec.doc().clone();
    for field in ["subdomain", "hostname"] {
        remove_path(&mut copy, &["spec", "template", "spec", field]);
    }
    let names: Vec<&str> = claims
        .items()
        .map(|at| at.path(&["metadata", "name"]).str())
        .collect();
    let pod = copy.find_path(&["spec", "template", "spec"])?;
    let volumes = copy.list(pod, "volumes");
    let replaced: Vec<Id> = copy
        .node(volumes)
        .children()
        .filter(|volume| names.contains(&volume.text(&["name"])))
        .map(|volume| volume.id())
        .collect();
    for volume in replaced {
        copy.unlink(volumes, volume);
    }
    let mut added: Vec<&str> = Vec::new();
    for name in names {
        if !added.contains(&name) {
            let volume = copy.push(volumes, api::doc::New::Object);
            copy.set(volume, "name", name);
            let source = copy.object(volume, "persistentVolumeClaim");
            copy.set(source, "claimName", name);
            added.push(name);
        }
    }
    Some(copy)
}

fn strategy(errors: &mut Errors, at: At<'_>) {
    let rolling = at.get("rollingUpdate");
    match at.get("type").str() {
        "" => errors.required(at, ""),
        "OnDelete" => {
            if rolling.is_set() {
                errors.invalid(rolling, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            errors.non_negative(rolling.get("partition"));
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                int_or_percent(errors, unavailable);
                if value_of(unavailable) == 0 {
                    errors.invalid(unavailable, "cannot be 0");
                }
                at_most_all(errors, unavailable);
            }
        }
        _ => errors.invalid(at, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn status(errors: &mut Errors, status: At<'_>, old: At<'_>) {
    counters(
        errors,
        status,
        &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        &[
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ],
    );
    available(errors, status, "status.readyReplicas");
    collisions(errors, status, old);
}

/// Upstream tells of claims at another path once the object exists.
fn warnings(cx: &Cx<'_>, new: At<'_>, old: Option<At<'_>>, told: &mut Vec<String>) {
    if !cx.subresource.is_empty() {
        return;
    }
    template_warnings(new, old, told);
    for (index, template) in new.path(&CLAIMS).items().enumerate() {
        let below = if old.is_some() { ".Spec" } else { "" };
        let path = format!("spec.volumeClaimTemplates[{index}]{below}");
        told.extend(claim::warnings(&path, template.get("spec")));
    }
    if new.path(&["spec", "revisionHistoryLimit"]).int() < 0 {
        told.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= \
             0 is recommended"
                .to_string(),
        );
    }
}

//! Annotations of pods that mean something to the server.

use api::codec::json;

use super::options::Options;
use super::{scheduling, walk};
use crate::kinds::pod::app_armor;
use crate::validation::{At, Errors, same};

/// What a mirror pod has: it shows one that a node runs by itself.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The pod's seccomp profile, when it stood in an annotation.
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// A container's; its name follows.
pub(crate) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// The annotations of a pod or template.
pub(crate) fn validate(errors: &mut Errors, at: At<'_>, spec: At<'_>, options: &Options) {
    if let Some(mirror) = at.entry(MIRROR)
        && spec.get("nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(mirror, detail);
    }
    if let Some(text) = at.entry(TOLERATIONS).filter(|text| !text.is_empty()) {
        tolerations(errors, at, text.str(), options);
    }
    if !options.any_deletion_cost && !is_cost_good(at) {
        let cost = at.entry(DELETION_COST).unwrap_or(at);
        errors.invalid(cost, "must be a 32bit integer");
    }
    for annotation in at.items() {
        let key = annotation.key();
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(errors, at, annotation);
        }
        if let Some(container) = key.strip_prefix(app_armor::PREFIX) {
            app_armor_annotation(errors, annotation, container, spec);
        }
    }
}

/// Whether the annotation of what deletion costs is right or absent.
pub(crate) fn is_cost_good(annotations: At<'_>) -> bool {
    let Some(text) = annotations.entry(DELETION_COST).map(At::str) else {
        return true;
    };
    let starts_well =
        text == "0" || text.starts_with(|c: char| c == '-' || ('1'..='9').contains(&c));
    starts_well && text.parse::<i32>().is_ok()
}

fn tolerations(errors: &mut Errors, at: At<'_>, text: &str, options: &Options) {
    match json::parse(text.as_bytes().to_vec()) {
        Ok(doc) => {
            let path = format!("{}.{TOLERATIONS}", errors.path(at));
            let mut found = Errors::default();
            scheduling::tolerations(&mut found, At::root(&doc), options);
            for mut error in found.into_vec() {
                error.field = format!("{path}{}", error.field);
                errors.push(error);
            }
        }
        Err(error) => errors.invalid_value(at, TOLERATIONS, error.to_string()),
    }
}

/// Upstream tells of the key as if it were a field.
fn seccomp(errors: &mut Errors, at: At<'_>, annotation: At<'_>) {
    let text = annotation.str();
    if ["runtime/default", "docker/default", "unconfined"].contains(&text) {
        return;
    }
    let below = format!(".{}", annotation.key());
    match text.strip_prefix("localhost/") {
        Some(path) => {
            for complaint in super::volumes::descending_path(path) {
                errors.invalid_below(at, &below, path, complaint);
            }
        }
        None => errors.invalid_below(at, &below, text, "must be a valid seccomp profile"),
    }
}

fn app_armor_annotation(errors: &mut Errors, at: At<'_>, container: &str, spec: At<'_>) {
    if !walk::all_containers(spec).any(|known| known.get("name").str() == container) {
        errors.invalid_value(at, container, "container not found");
    }
    let text = at.str();
    let is_known = ["", "runtime/default", "unconfined"].contains(&text);
    if !is_known && !text.starts_with("localhost/") {
        errors.invalid(at, format!("invalid AppArmor profile name: {text:?}"));
    }
}

/// Fields and the annotations that said the same must still say the same.
pub(crate) fn agree_with_fields(errors: &mut Errors, meta: At<'_>, spec: At<'_>) {
    let annotations = meta.get("annotations");
    let profile = spec.path(&["securityContext", "seccompProfile"]);
    if let Some(annotation) = annotations.entry(SECCOMP_POD) {
        agree(errors, annotation.str(), profile, &SECCOMP);
    }
    for container in walk::all_containers(spec) {
        let key = format!("{SECCOMP_CONTAINER}{}", container.get("name").str());
        let profile = container.path(&["securityContext", "seccompProfile"]);
        if let Some(annotation) = annotations.entry(&key) {
            agree(errors, annotation.str(), profile, &SECCOMP);
        }
    }
    if walk::os(spec) == "windows" {
        return;
    }
    let of_pod = spec.path(&["securityContext", "appArmorProfile"]);
    for container in walk::all_containers(spec) {
        let key = format!("{}{}", app_armor::PREFIX, container.get("name").str());
        let Some(annotation) = annotations.entry(&key) else {
            continue;
        };
        let own = container.path(&["securityContext", "appArmorProfile"]);
        if own.is_set() {
            agree(errors, annotation.str(), own, &APP_ARMOR);
        } else if !agrees(annotation.str(), of_pod, &APP_ARMOR).is_empty() {
            let wrong = agrees(annotation.str(), of_pod, &APP_ARMOR);
            let detail = format!(
                "apparmor {} in annotation and field must match",
                word(wrong)
            );
            errors.forbidden(own.get(wrong), detail);
        }
    }
}

struct Profiles {
    name: &'static str,
    defaults: &'static [&'static str],
}

const SECCOMP: Profiles = Profiles {
    name: "seccomp",
    defaults: &["runtime/default", "docker/default"],
};

const APP_ARMOR: Profiles = Profiles {
    name: "apparmor",
    defaults: &["runtime/default"],
};

fn agree(errors: &mut Errors, annotation: &str, field: At<'_>, profiles: &Profiles) {
    let wrong = agrees(annotation, field, profiles);
    if !wrong.is_empty() {
        let (name, word) = (profiles.name, word(wrong));
        let detail = format!("{name} {word} in annotation and field must match");
        errors.forbidden(field.get(wrong), detail);
    }
}

fn word(field: &str) -> &'static str {
    if field == "type" { "type" } else { "profile" }
}

/// The field that says something else than the annotation; empty if none does.
fn agrees(annotation: &str, field: At<'_>, profiles: &Profiles) -> &'static str {
    let is_same_type = match field.get("type").str() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => profiles.defaults.contains(&annotation),
        "Localhost" => annotation.starts_with("localhost/"),
        _ => true,
    };
    if !is_same_type {
        return "type";
    }
    let name = annotation.strip_prefix("localhost/");
    let profile = field.get("localhostProfile");
    match field.get("type").str() {
        "Localhost" if !profile.is_set() || name != Some(profile.str()) => "localhostProfile",
        _ => "",
    }
}

/// What may not be added, changed or removed later.
pub(crate) fn updates(
    errors: &mut Errors,
    new: At<'_>,
    old: At<'_>,
    spec: At<'_>,
    options: &Options,
) {
    let path_of = |errors: &mut Errors, key: &str| format!("{}[{key}]", errors.path(new));
    for before in old.items() {
        let key = before.key();
        if new.entry(key).is_some_and(|now| same(now, before)) {
            continue;
        }
        if let Some(what) = fixed(key) {
            let path = path_of(errors, key);
            let detail = format!("may not remove or update {what}");
            errors.push(api::field::FieldError::forbidden(path, detail));
        }
    }
    for now in new.items().filter(|now| old.entry(now.key()).is_none()) {
        if let Some(what) = fixed(now.key()) {
            errors.forbidden(now, format!("may not add {what}"));
        }
    }
    validate(errors, new, spec, options);
}

fn fixed(key: &str) -> Option<&'static str> {
    if key.starts_with(app_armor::PREFIX) {
        return Some("AppArmor annotations");
    }
    (key == MIRROR).then_some("mirror pod annotation")
}

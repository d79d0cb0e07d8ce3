//! resource.k8s.io: devices that drivers offer, and claims to them. Expressions are only judged for
//! their size: they are compiled elsewhere.

mod claim;
mod slice;

use std::collections::HashSet;

use api::field::FieldError;
use api::name;

pub use claim::{CLAIM, TEMPLATE};
pub use slice::SLICE;

use super::facts::{Facts, Generation, label, subdomain};
use crate::validation::pod::resources::is_extended;
use crate::validation::pod::volumes::csi_driver;
use crate::validation::{At, Errors};

pub(super) const ENTRIES_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;
const POOL_BYTES_MAX: usize = 253;
const ID_BYTES_MAX: usize = 32;

/// What is particular about device classes.
pub const DEVICE_CLASS: Facts = Facts {
    generation: Generation::Of(&["spec"]),
    create: |_, new, errors| device_class(errors, new.get("spec")),
    update: |_, new, _, errors| device_class(errors, new.get("spec")),
    ..Facts::PLAIN
};

fn device_class(errors: &mut Errors, spec: At<'_>) {
    selectors(errors, spec.get("selectors"));
    if at_most(errors, spec.get("config"), ENTRIES_MAX) {
        for config in spec.get("config").items() {
            configuration(errors, config);
        }
    }
    let extended = spec.get("extendedResourceName");
    if extended.is_set() && !is_extended(extended.str()) {
        errors.invalid(extended, "must be a valid extended resource name");
    }
}

/// Whether a list is short enough for its elements to be judged.
fn at_most(errors: &mut Errors, list: At<'_>, most: usize) -> bool {
    let is_short = list.len() <= most;
    if !is_short {
        errors.too_many(list, most);
    }
    is_short
}

/// Tells elements whose key came before, at the elements themselves.
fn distinct<'d>(errors: &mut Errors, list: At<'d>, key: impl Fn(At<'d>) -> String) {
    let mut seen = HashSet::new();
    for item in list.items() {
        let key = key(item);
        if !seen.insert(key.clone()) {
            let path = errors.path(item);
            errors.push(FieldError::duplicate(path, key.as_str()));
        }
    }
}

fn selectors(errors: &mut Errors, list: At<'_>) {
    if !at_most(errors, list, ENTRIES_MAX) {
        return;
    }
    for selector in list.items() {
        let cel = selector.get("cel");
        if !cel.is_set() {
            errors.required(cel, "");
        } else if cel.get("expression").str().len() > EXPRESSION_BYTES_MAX {
            errors.too_long(cel.get("expression"), EXPRESSION_BYTES_MAX);
        }
    }
}

/// What a driver is told about a device.
fn configuration(errors: &mut Errors, config: At<'_>) {
    let opaque = config.get("opaque");
    if !opaque.is_set() {
        return errors.required(opaque, "");
    }
    csi_driver(errors, opaque.get("driver"));
    raw_object(errors, opaque.get("parameters"), PARAMETERS_BYTES_MAX);
}

fn raw_object(errors: &mut Errors, at: At<'_>, most: usize) {
    let Some(node) = at.node() else {
        return errors.required(at, "");
    };
    if node.to_string().len() > most {
        errors.too_long(at, most);
    } else if node.kind() != api::doc::Kind::Object {
        errors.invalid_value(at, "<value omitted>", "must be a valid JSON object");
    }
}

fn pool_name(errors: &mut Errors, at: At<'_>) {
    if !errors.need(at, "") {
        return;
    }
    if at.str().len() > POOL_BYTES_MAX {
        errors.too_long(at, POOL_BYTES_MAX);
    }
    for part in at.str().split('/') {
        for complaint in subdomain(part) {
            errors.invalid_value(at, part, complaint);
        }
    }
}

fn device_name(errors: &mut Errors, at: At<'_>) {
    errors.names(at, label);
}

/// `domain/identifier`, or the identifier alone; told of `at`.
fn qualified_name(errors: &mut Errors, at: At<'_>, text: &str) {
    let (domain, id) = match text.split_once('/') {
        None => (None, text),
        Some((domain, id)) if !id.contains('/') => (Some(domain), id),
        Some(_) => return,
    };
    match domain {
        None => {}
        Some("") => errors.invalid_value(at, "", "the domain must not be empty"),
        Some(domain) => {
            for complaint in name::dns_1123_subdomain(&domain.to_lowercase()) {
                errors.invalid_value(at, domain, complaint);
            }
        }
    }
    if id.is_empty() && domain.is_some() {
        return errors.invalid_value(at, "", "the name must not be empty");
    }
    if id.len() > ID_BYTES_MAX {
        errors.too_long(at, ID_BYTES_MAX);
    }
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = !id.is_empty() && !id.starts_with(|first: char| first.is_ascii_digit());
    if !starts_well || !id.bytes().all(is_inner) {
        errors.invalid_value(
            at,
            id,
            "a valid C identifier must start with alphabetic character or '_', followed by a string \
             of alphanumeric characters or '_' (e.g. 'my_name', or 'MY_NAME', or 'MyName', regex \
             used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
        );
    }
}

/// Names of conditions under which a device is bound.
fn binding_conditions(errors: &mut Errors, at: At<'_>) {
    const CONDITIONS_MAX: usize = 4;
    let lists = ["bindingConditions", "bindingFailureConditions"];
    for list in lists {
        let list = at.get(list);
        if at_most(errors, list, CONDITIONS_MAX) {
            for condition in list.items() {
                errors.names(condition, name::label_key);
            }
        }
    }
    for list in lists {
        errors.unique(at.get(list), "");
    }
}

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

fn toleration(errors: &mut Errors, at: At<'_>) {
    let value = at.get("value");
    if !at.get("key").is_empty() {
        errors.names(at.get("key"), name::label_key);
    }
    match at.get("operator").str() {
        "Exists" if !value.is_empty() => {
            errors.invalid(value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => errors.names(value, name::label_value),
        "" => errors.required(at.get("operator"), ""),
        _ => errors.not_supported(at.get("operator"), &["Equal", "Exists"]),
    }
    if !at.get("effect").is_empty() {
        errors.one_of(at.get("effect"), &EFFECTS);
    }
}

fn taint(errors: &mut Errors, at: At<'_>) {
    errors.names(at.get("key"), name::label_key);
    if !at.get("value").is_empty() {
        errors.names(at.get("value"), name::label_value);
    }
    errors.need_one_of(at.get("effect"), &EFFECTS);
}

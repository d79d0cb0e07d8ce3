//! Structural schemas: the types of all fields stand in one skeleton, and what `allOf` and its like
//! say are conditions on values only.

use api::doc::Kind;
use api::field::FieldError;

use crate::validation::{At, Errors};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

const JUNCTORS: [&str; 3] = ["anyOf", "allOf", "oneOf"];
/// What conditions on values may not say, and how it should be.
const FORBIDDEN: [(&str, &str); 11] = [
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    (
        "x-kubernetes-preserve-unknown-fields",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-embedded-resource",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-int-or-string",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-list-map-keys",
        "must be empty to be structural",
    ),
    (
        "x-kubernetes-list-type",
        "must be undefined to be structural",
    ),
    (
        "x-kubernetes-map-type",
        "must be undefined to be structural",
    ),
];

/// Whether a schema is structural; errors come in the order of their texts.
pub(super) fn validate(errors: &mut Errors, schema: At<'_>) {
    let mut found = Errors::default();
    invariants(&mut found, schema, Level::Root);
    complete(&mut found, schema);
    let mut found = found.into_vec();
    found.sort_by_key(ToString::to_string);
    for error in found {
        errors.push(error);
    }
}

fn is_schema(at: At<'_>) -> bool {
    at.node().is_some_and(|node| node.kind() == Kind::Object)
}

fn invariants(errors: &mut Errors, at: At<'_>, level: Level) {
    let (kind, items) = (at.get("type"), at.get("items"));
    if kind.str() == "array" && !items.is_set() {
        errors.required(items, "must be specified");
    }
    if is_schema(items) {
        invariants(errors, items, Level::Item);
    }
    for property in at.get("properties").items() {
        invariants(errors, property, Level::Field);
    }
    let additional = at.get("additionalProperties");
    if additional.is_set() {
        if level == Level::Root {
            errors.forbidden(additional, "must not be used at the root");
        }
        if is_schema(additional) {
            invariants(errors, additional, Level::Field);
        }
    }
    extensions(errors, at);
    values(errors, at, is_int_or_string(at), level);
    types(errors, at, level);
    metadata(errors, at, level);
}

fn extensions(errors: &mut Errors, at: At<'_>) {
    if !at.get("x-kubernetes-int-or-string").flag() {
        return;
    }
    for other in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if at.get(other).flag() {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.invalid(at.get(other), detail);
        }
    }
}

fn types(errors: &mut Errors, at: At<'_>, level: Level) {
    let kind = at.get("type");
    let embedded = at.get("x-kubernetes-embedded-resource").flag();
    let preserves = at.get("x-kubernetes-preserve-unknown-fields").flag();
    if embedded && kind.str() != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match kind.is_empty() {
            true => errors.required(kind, detail),
            false => errors.invalid(kind, detail),
        }
    } else if kind.is_empty() && !at.get("x-kubernetes-int-or-string").flag() && !preserves {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(kind, detail);
    }
    if embedded && at.has("additionalProperties") {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(at.get("additionalProperties"), detail);
    }
    if level == Level::Root && !kind.is_empty() && kind.str() != "object" {
        errors.invalid(kind, "must be object at the root");
    }
    if embedded && !preserves && at.get("properties").is_empty() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.required(at.get("properties"), detail);
    }
}

fn metadata(errors: &mut Errors, at: At<'_>, level: Level) {
    let is_object = level == Level::Root || at.get("x-kubernetes-embedded-resource").flag();
    let properties = at.get("properties");
    for field in ["kind", "apiVersion"] {
        if let Some(property) = properties.entry(field)
            && is_object
            && property.get("type").str() != "string"
        {
            let kind = property.get("type");
            errors.invalid_value(kind, kind.str(), "must be string");
        }
    }
    let Some(meta) = properties.entry("metadata") else {
        return;
    };
    if is_object && meta.get("type").str() != "object" {
        let kind = meta.get("type");
        errors.invalid_value(kind, kind.str(), "must be object");
    }
    let is_known = |field: At<'_>| match field.key() {
        "type" | "default" => true,
        "properties" => field
            .items()
            .all(|one| ["name", "generateName"].contains(&one.key())),
        _ => false,
    };
    if level == Level::Root && !meta.items().all(is_known) {
        let detail = "must not specify anything other than name and generateName, but metadata is \
                      implicitly specified";
        errors.forbidden(meta, detail);
    }
}

/// The usual way to say that a value is an integer or a text, in `anyOf` or the first `allOf`.
fn is_int_or_string(at: At<'_>) -> bool {
    let kinds: Vec<&str> = at
        .get("anyOf")
        .items()
        .filter(|one| one.len() == 1)
        .map(|one| one.get("type").str())
        .collect();
    at.get("anyOf").len() == 2 && kinds == ["integer", "string"]
}

fn values(errors: &mut Errors, at: At<'_>, skips_any: bool, level: Level) {
    for junctor in JUNCTORS {
        if junctor == "anyOf" && skips_any {
            continue;
        }
        for (index, one) in at.get(junctor).items().enumerate() {
            let skips = junctor == "allOf" && index == 0 && is_int_or_string(one);
            nested(errors, one, skips, level);
        }
    }
    if at.has("not") {
        nested(errors, at.get("not"), false, level);
    }
}

fn nested(errors: &mut Errors, at: At<'_>, skips_any: bool, level: Level) {
    values(errors, at, skips_any, level);
    if is_schema(at.get("items")) {
        nested(errors, at.get("items"), false, level);
    }
    for property in at.get("properties").items() {
        nested(errors, property, false, Level::Field);
    }
    if at.has("additionalProperties") {
        let detail = "must be undefined to be structural";
        errors.forbidden(at.get("additionalProperties"), detail);
    }
    for (field, detail) in FORBIDDEN {
        let value = at.get(field);
        let is_said = match field {
            "default" => value.is_set(),
            _ => !value.is_empty() && value.opt_flag() != Some(false),
        };
        if is_said {
            errors.forbidden(value, detail);
        }
    }
    let rules = at.get("x-kubernetes-validations");
    errors.deny(rules, "must be empty to be structural");
    if let Some(meta) = at.get("properties").entry("metadata") {
        errors.forbidden(meta, "must not be specified in a nested context");
    }
}

/// Whatever conditions speak of must be in the skeleton.
fn complete(errors: &mut Errors, at: At<'_>) {
    conditions(errors, at, at);
    if is_schema(at.get("items")) {
        complete(errors, at.get("items"));
    }
    for property in at.get("properties").items() {
        complete(errors, property);
    }
    if is_schema(at.get("additionalProperties")) {
        complete(errors, at.get("additionalProperties"));
    }
}

fn conditions(errors: &mut Errors, values: At<'_>, skeleton: At<'_>) {
    let lists = JUNCTORS
        .iter()
        .flat_map(|junctor| values.get(junctor).items());
    let not = Some(values.get("not")).filter(|not| not.is_set());
    for one in lists.chain(not) {
        covered(errors, one, skeleton);
    }
}

fn covered(errors: &mut Errors, values: At<'_>, skeleton: At<'_>) {
    conditions(errors, values, skeleton);
    let items = values.get("items");
    if is_schema(items) {
        match is_schema(skeleton.get("items")) {
            true => covered(errors, items, skeleton.get("items")),
            false => {
                let path = format!("{}.items", errors.path(skeleton));
                missing(errors, path, items);
            }
        }
    }
    for property in values.get("properties").items() {
        match skeleton.get("properties").entry(property.key()) {
            Some(known) => covered(errors, property, known),
            None => {
                let path = format!("{}.properties[{}]", errors.path(skeleton), property.key());
                missing(errors, path, property);
            }
        }
    }
}

fn missing(errors: &mut Errors, path: String, values: At<'_>) {
    let because = format!("because it is defined in {}", errors.path(values));
    errors.push(FieldError::required(path, because));
}

//! Schemas of custom resources: what OpenAPI has and these may not, and how extensions go together.

use std::collections::HashSet;

use api::field::FieldError;

use super::structural;
use crate::kinds::facts::Raw;
use crate::validation::{At, Errors};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Fields that a schema may have at its root if there is a status endpoint.
const AT_ROOT: [&str; 27] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
    "x-kubernetes-map-type",
    "nullable",
    "additionalProperties",
    "default",
    "x-kubernetes-embedded-resource",
];
/// What OpenAPI has and the server does not know, in upstream's order.
const UNSUPPORTED: [&str; 6] = [
    "id",
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
    "$ref",
];

/// What schemas may have because those of the old definition have it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leave {
    /// Versions without schema.
    pub(super) no_schema: bool,
    not_structural: bool,
}

impl Leave {
    pub(super) fn of_old(old: At<'_>) -> Self {
        let schemas: Vec<At<'_>> = old
            .path(&["spec", "versions"])
            .items()
            .map(|version| version.path(&["schema", "openAPIV3Schema"]))
            .collect();
        let is_structural = |schema: &At<'_>| {
            let mut errors = Errors::default();
            structural::validate(&mut errors, *schema);
            errors.is_empty()
        };
        Self {
            no_schema: !schemas.iter().all(|schema| schema.is_set()),
            not_structural: !schemas
                .iter()
                .filter(|schema| schema.is_set())
                .all(is_structural),
        }
    }
}

/// The schema of a version.
pub(super) fn validate(errors: &mut Errors, at: At<'_>, has_status: bool, leave: Leave) {
    if has_status {
        for field in at.items() {
            if field.key() == "type" {
                if field.str() != "object" {
                    errors.invalid(
                        field,
                        "only \"object\" is allowed as the type at the root of the schema if the \
                         status subresource is enabled",
                    );
                    break;
                }
            } else if !AT_ROOT.contains(&field.key()) {
                let detail = format!(
                    "only [{}] fields are allowed at the root of the schema if the status \
                     subresource is enabled",
                    AT_ROOT[..23].join(" ")
                );
                errors.invalid(at, detail);
                break;
            }
        }
    }
    if at.get("nullable").flag() {
        errors.forbidden(at.get("nullable"), "nullable cannot be true at the root");
    }
    if !leave.not_structural {
        structural::validate(errors, at);
    }
    walk(errors, at, Inside::default());
}

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Inside {
    is_root: bool,
    /// In metadata, kind or apiVersion of an object.
    is_meta: bool,
    /// Why there may be no default.
    no_default: Option<&'static str>,
}

impl Default for Inside {
    fn default() -> Self {
        Self {
            is_root: true,
            is_meta: false,
            no_default: None,
        }
    }
}

fn walk(errors: &mut Errors, at: At<'_>, inside: Inside) {
    plain(errors, at, inside);
    if at.get("uniqueItems").flag() {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes \
                      quadratic";
        errors.forbidden(at.get("uniqueItems"), detail);
    }
    let below = Inside {
        is_root: false,
        ..inside
    };
    let additional = at.get("additionalProperties");
    let is_any = additional.opt_flag() == Some(true);
    if additional.is_set() && !is_any && !at.get("properties").is_empty() {
        let detail = "additionalProperties and properties are mutual exclusive";
        errors.forbidden(additional, detail);
    }
    if additional.is_set() && additional.opt_flag().is_none() {
        let no_default = match inside.is_meta {
            true => Some("inside additionalProperties applying to object metadata"),
            false => inside.no_default,
        };
        walk(
            errors,
            additional,
            Inside {
                no_default,
                ..below
            },
        );
    }
    for property in at.get("properties").items() {
        walk(errors, property, of_property(at, property.key(), inside));
    }
    if at.has("not") {
        walk(errors, at.get("not"), below);
    }
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for one in at.get(junctor).items() {
            walk(errors, one, below);
        }
    }
    let items = at.get("items");
    if items.is_set() && items.get("properties").node().is_none() && is_list(items) {
        for item in items.items() {
            walk(errors, item, below);
        }
    } else if items.is_set() {
        walk(errors, items, below);
    }
    extensions(errors, at);
    rules(errors, at);
}

fn is_list(at: At<'_>) -> bool {
    at.node()
        .is_some_and(|node| node.kind() == api::doc::Kind::List)
}

fn of_property(at: At<'_>, property: &str, inside: Inside) -> Inside {
    let is_object = inside.is_root || at.get("x-kubernetes-embedded-resource").flag();
    let known = ["metadata", "kind", "apiVersion"];
    if !is_object || !known.contains(&property) {
        return Inside {
            is_root: false,
            ..inside
        };
    }
    let at_top = match property {
        "metadata" => "in top-level metadata",
        "kind" => "in top-level kind",
        _ => "in top-level apiVersion",
    };
    Inside {
        is_root: false,
        is_meta: true,
        no_default: match inside.is_root {
            true => Some(at_top),
            false => inside.no_default,
        },
    }
}

fn plain(errors: &mut Errors, at: At<'_>, inside: Inside) {
    let kind = at.get("type");
    if !kind.is_empty() && !TYPES.contains(&kind.str()) {
        errors.not_supported(kind, &TYPES);
    }
    if let Some(reason) = inside.no_default
        && at.has("default")
    {
        errors.forbidden(at.get("default"), format!("must not be set {reason}"));
    }
    for field in UNSUPPORTED {
        if !at.get(field).is_empty() || at.get(field).opt_flag().is_some() {
            errors.forbidden(at.get(field), format!("{field} is not supported"));
        }
    }
    if kind.str() == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.forbidden(kind, detail);
    }
    if is_list(at.get("items")) && !at.get("items").is_empty() {
        errors.forbidden(
            at.get("items"),
            "items must be a schema object and not an array",
        );
    }
    let embedded = at.get("x-kubernetes-embedded-resource");
    if inside.is_meta && embedded.flag() {
        errors.forbidden(embedded, "must not be used inside of resource meta");
    }
}

fn extensions(errors: &mut Errors, at: At<'_>) {
    let preserve = at.get("x-kubernetes-preserve-unknown-fields");
    if preserve.opt_flag() == Some(false) {
        errors.invalid(preserve, "must be true or undefined");
    }
    let (map_type, list_type) = (
        at.get("x-kubernetes-map-type"),
        at.get("x-kubernetes-list-type"),
    );
    if map_type.is_set() {
        of_type(errors, at, "object", "x-kubernetes-map-type");
        errors.one_of(map_type, &["atomic", "granular"]);
    }
    let items = at.get("items");
    if list_type.is_set() {
        let is_array = of_type(errors, at, "array", "x-kubernetes-list-type");
        if is_array && list_type.str() == "set" {
            atomic_items(errors, items);
        }
        errors.one_of(list_type, &["atomic", "set", "map"]);
    }
    let keys = at.get("x-kubernetes-list-map-keys");
    let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
    if !keys.is_empty() && !list_type.is_set() {
        errors.required(list_type, detail);
    } else if !keys.is_empty() && list_type.str() != "map" {
        errors.invalid(list_type, detail);
    }
    if list_type.str() == "map" {
        list_map(errors, keys, items);
    }
    if ["set", "map"].contains(&list_type.str()) && items.is_set() {
        map_keys(errors, list_type.str(), keys, items);
    }
}

fn of_type(errors: &mut Errors, at: At<'_>, wanted: &str, extension: &str) -> bool {
    let kind = at.get("type");
    let detail = format!("must be {wanted} if {extension} is specified");
    match kind.str() {
        "" => errors.required(kind, detail),
        kind_str if kind_str != wanted => errors.invalid(kind, detail),
        _ => return true,
    }
    false
}

fn atomic_items(errors: &mut Errors, items: At<'_>) {
    const DETAIL: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (list_type, map_type) = (
        items.get("x-kubernetes-list-type"),
        items.get("x-kubernetes-map-type"),
    );
    match items.get("type").str() {
        "array" if list_type.is_set() && list_type.str() != "atomic" => {
            errors.invalid(list_type, DETAIL);
        }
        // Upstream shows the other extension here.
        "object" if map_type.str() != "atomic" => {
            let shown = list_type
                .node()
                .map_or("null".to_string(), |node| node.to_string());
            errors.invalid_value(map_type, Raw(shown), DETAIL);
        }
        _ => {}
    }
}

fn list_map(errors: &mut Errors, keys: At<'_>, items: At<'_>) {
    errors.need(keys, "must not be empty if x-kubernetes-list-type is map");
    if !items.is_set() {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        return errors.required(items, detail);
    }
    let kind = items.get("type");
    if kind.str() != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid_value(kind, kind.str(), detail);
    }
    let mut seen = HashSet::new();
    for key in keys.items() {
        match items.get("properties").entry(key.str()) {
            Some(property) => {
                let kind = property.get("type");
                if ["array", "object"].contains(&kind.str()) {
                    let detail =
                        "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    errors.invalid_value(kind, "object", detail);
                }
            }
            None => errors.invalid(keys, "entries must all be names of item properties"),
        }
        if !seen.insert(key.str()) {
            errors.invalid(keys, "must not contain duplicate entries");
        }
    }
}

fn map_keys(errors: &mut Errors, list_type: &str, keys: At<'_>, items: At<'_>) {
    if items.get("nullable").flag() {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.forbidden(items.get("nullable"), detail);
    }
    if list_type != "map" {
        return;
    }
    for key in keys.items() {
        let Some(property) = items.get("properties").entry(key.str()) else {
            continue;
        };
        if !items.get("required").contains(key.str()) && !property.has("default") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default \
                          or be a required property";
            errors.required(property.get("default"), detail);
        }
        if property.get("nullable").flag() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(property.get("nullable"), detail);
        }
    }
}

fn rules(errors: &mut Errors, at: At<'_>) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    for rule in at.get("x-kubernetes-validations").items() {
        let (text, message) = (rule.get("rule"), rule.get("message"));
        let trimmed = message.str().trim();
        if text.str().trim().is_empty() {
            errors.required(text, "rule is not specified");
        } else if !message.is_empty() && trimmed.is_empty() {
            errors.invalid(message, "must be non-empty if specified");
        } else if trimmed.contains(['\n', '\r']) {
            errors.invalid(message, "must not contain line breaks");
        } else if text.str().trim().contains(['\n', '\r']) && trimmed.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.required(message, detail);
        }
        let expression = rule.get("messageExpression");
        if !expression.is_empty() && expression.str().trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.required(expression, detail);
        }
        if rule.has("reason") {
            errors.one_of(rule.get("reason"), &REASONS);
        }
        let path = rule.get("fieldPath");
        if !path.is_empty() && path.str().trim().is_empty() {
            errors.invalid(path, "must be non-empty if specified");
        }
        if path.str().contains(['\n', '\r']) {
            let place = errors.path(path);
            let detail = "must not contain line breaks";
            errors.push(FieldError::invalid(place, path.str(), detail));
        }
    }
}

//! apiextensions.k8s.io: definitions of custom resources. What all versions have in common upstream
//! judges, and tells, as if it stood in the spec itself.

mod schema;
mod structural;

use std::collections::HashSet;

use api::doc::{Doc, New};
use api::field::FieldError;
use api::name;

use super::facts::{Facts, Generation, Status, dns_1035_label};
use super::webhook;
use crate::validation::{At, Errors, same};

const APPROVED: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

/// What is particular about custom resource definitions.
pub const DEFINITION: Facts = Facts {
    unconditional: false,
    generation: Generation::Of(&["spec"]),
    status: Status::Own(
        r#"{"conditions":null,"acceptedNames":{"plural":"","kind":""},"storedVersions":null}"#,
    ),
    prepare_create: |_, new| record_version(new),
    prepare_update: |cx, new, _| {
        if cx.subresource.is_empty() {
            record_version(new);
        }
    },
    create: |_, new, errors| definition(errors, new, None),
    update: |_, new, old, errors| definition(errors, new, Some(old)),
    sub_update: |_, new, _, errors| names(errors, new.path(&["status", "acceptedNames"])),
    ..Facts::PLAIN
};

/// What is written in a version must stay readable in it.
fn record_version(new: &mut Doc) {
    let path = ["status", "storedVersions"];
    let root = At::root(new);
    let versions = root.path(&["spec", "versions"]);
    let storage = versions
        .items()
        .find(|version| version.get("storage").flag());
    let Some(version) = storage.map(|version| version.get("name").str().to_string()) else {
        return;
    };
    if root.path(&path).contains(&version) {
        return;
    }
    let list = match new.find_path(&path) {
        Some(list) if !new.node(list).is_null() => list,
        _ => new.set_path(&path, New::List),
    };
    new.push(list, &version);
}

fn is_established(old: At<'_>) -> bool {
    let conditions = old.path(&["status", "conditions"]);
    let established = conditions.find("type", "Established");
    established.is_some_and(|condition| condition.get("status").str() == "True")
}

fn definition(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec_at = new.get("spec");
    if old.is_none() {
        let object_name = new.path(&["metadata", "name"]).str();
        let plural = spec_at.path(&["names", "plural"]).str();
        let wanted = format!("{plural}.{}", spec_at.get("group").str());
        if object_name != wanted {
            let detail = r#"must be spec.names.plural+"."+spec.group"#;
            errors.push(FieldError::invalid("metadata.name", object_name, detail));
        }
    }
    let leave = old.map_or_else(schema::Leave::default, schema::Leave::of_old);
    spec(errors, spec_at, old, leave);
    if let Some(old) = old {
        let before = old.get("spec");
        if is_established(old) {
            errors.immutable(spec_at.get("scope"), before.get("scope"));
            let kind = ["names", "kind"];
            errors.immutable(spec_at.path(&kind), before.path(&kind));
        }
        errors.immutable(spec_at.get("group"), before.get("group"));
        let plural = ["names", "plural"];
        errors.immutable(spec_at.path(&plural), before.path(&plural));
    }
    names(errors, new.path(&["status", "acceptedNames"]));
    stored_versions(errors, new);
    approval(errors, new, old);
    let preserve = spec_at.get("preserveUnknownFields");
    let preserved = |old: At<'_>| old.path(&["spec", "preserveUnknownFields"]).flag();
    if preserve.flag() && !old.is_some_and(preserved) {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        errors.invalid(preserve, detail);
    }
}

fn spec(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>, leave: schema::Leave) {
    group(errors, spec.get("group"));
    errors.need_one_of(spec.get("scope"), &["Cluster", "Namespaced"]);
    let versions = spec.get("versions");
    if !leave.no_schema {
        for version in versions.items() {
            let schema = version.path(&["schema", "openAPIV3Schema"]);
            if !schema.is_set() {
                errors.required(schema, "");
            }
        }
    }
    each_version(errors, spec, leave);
    let mut seen = HashSet::new();
    if !versions
        .items()
        .all(|version| seen.insert(version.get("name").str()))
    {
        errors.invalid(versions, "must contain unique version names");
    }
    let storage = versions
        .items()
        .filter(|version| version.get("storage").flag());
    if storage.count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.invalid(versions, detail);
    }
    for field in ["plural", "singular", "kind", "listKind"] {
        errors.need(spec.get("names").get(field), "");
    }
    names(errors, spec.get("names"));
    common_parts(errors, spec, leave);
    conversion(errors, spec, old);
}

fn group(errors: &mut Errors, at: At<'_>) {
    if !errors.need(at, "") {
        return;
    }
    let complaints = name::dns_1123_subdomain(at.str());
    if !complaints.is_empty() {
        errors.invalid(at, complaints.join(","));
    } else if !at.str().contains('.') {
        errors.invalid(at, "should be a domain with at least one dot");
    }
}

/// A part of versions, and where it is told if all versions have the same.
const PARTS: [(&str, &str); 3] = [
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
];

fn is_common(spec: At<'_>, part: &'static str) -> bool {
    let mut parts = spec
        .get("versions")
        .items()
        .map(|version| version.get(part));
    parts
        .next()
        .is_none_or(|first| parts.all(|other| same(first, other)))
}

fn each_version(errors: &mut Errors, spec: At<'_>, leave: schema::Leave) {
    for version in spec.get("versions").items() {
        let version_name = version.get("name");
        let complaints = dns_1035_label(version_name.str(), false);
        if !complaints.is_empty() {
            errors.invalid(version_name, complaints.join(","));
        }
        deprecation(errors, version);
        let has_status = version.path(&["subresources", "status"]).is_set();
        for (part, _) in PARTS {
            if !is_common(spec, part) {
                judge_part(errors, version, part, has_status, leave);
            }
        }
    }
}

fn common_parts(errors: &mut Errors, spec: At<'_>, leave: schema::Leave) {
    let mut versions = spec.get("versions").items();
    let has_status = versions.any(|version| version.path(&["subresources", "status"]).is_set());
    let Some(version) = spec.get("versions").items().next() else {
        return;
    };
    for (part, told) in PARTS.iter().filter(|(part, _)| is_common(spec, part)) {
        let (from, to) = (format!("spec.versions[0].{part}"), format!("spec.{told}"));
        let mut found = Errors::default();
        judge_part(&mut found, version, part, has_status, leave);
        for mut error in found.into_vec() {
            error.field = error.field.replacen(&from, &to, 1);
            error.detail = error.detail.replace(&from, &to);
            errors.push(error);
        }
    }
}

fn judge_part(
    errors: &mut Errors,
    version: At<'_>,
    part: &str,
    has_status: bool,
    leave: schema::Leave,
) {
    match part {
        "schema" => {
            let at = version.path(&["schema", "openAPIV3Schema"]);
            if at.is_set() {
                schema::validate(errors, at, has_status, leave);
            }
        }
        "subresources" => scale(errors, version.path(&["subresources", "scale"])),
        _ => {
            for column in version.get("additionalPrinterColumns").items() {
                one_column(errors, column);
            }
        }
    }
}

fn deprecation(errors: &mut Errors, version: At<'_>) {
    let warning = version.get("deprecationWarning");
    if !warning.is_set() {
        return;
    }
    if !version.get("deprecated").flag() {
        return errors.invalid(warning, "can only be set for deprecated versions");
    }
    if warning.str().len() > 256 {
        errors.invalid(warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(warning, "must not be an empty string");
    }
    let mut letters = warning.str().char_indices();
    if let Some((at, _)) = letters.find(|(_, letter)| letter.is_control()) {
        errors.invalid(
            warning,
            format!(
                "must only contain printable UTF-8 characters; non-printable character found at \
                 index {at}"
            ),
        );
    }
}

fn names(errors: &mut Errors, at: At<'_>) {
    for field in ["plural", "singular"] {
        label(errors, at.get(field));
    }
    for field in ["kind", "listKind"] {
        let complaints = dns_1035_label(&at.get(field).str().to_lowercase(), false);
        if !at.get(field).is_empty() && !complaints.is_empty() {
            let rest = complaints.join(",");
            let detail = format!("may have mixed case, but should otherwise match: {rest}");
            errors.invalid(at.get(field), detail);
        }
    }
    for short in at.get("shortNames").items() {
        label(errors, short);
    }
    let kind = at.get("kind");
    if !kind.is_empty() && kind.str() == at.get("listKind").str() {
        let detail = "kind and listKind may not be the same";
        errors.invalid(at.get("listKind"), detail);
    }
    for category in at.get("categories").items() {
        label(errors, category);
    }
}

fn label(errors: &mut Errors, at: At<'_>) {
    let complaints = dns_1035_label(at.str(), false);
    if !at.is_empty() && !complaints.is_empty() {
        errors.invalid(at, complaints.join(","));
    }
}

/// Upstream calls the path by the name of its Go field.
fn one_column(errors: &mut Errors, column: At<'_>) {
    errors.need(column.get("name"), "");
    let kind = column.get("type");
    let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
    if errors.need(kind, &detail) && !COLUMN_TYPES.contains(&kind.str()) {
        errors.invalid(kind, detail);
    }
    let format = column.get("format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format.str()) {
        errors.invalid(
            format,
            format!("must be one of {}", COLUMN_FORMATS.join(",")),
        );
    }
    errors.renamed(".jsonPath", ".JSONPath", |errors| {
        if errors.need(column.get("jsonPath"), "") {
            simple_path(errors, column.get("jsonPath"));
        }
    });
}

fn simple_path(errors: &mut Errors, at: At<'_>) -> bool {
    let is_simple = at.str().starts_with('.');
    if !is_simple {
        errors.invalid(at, "must be a simple json path starting with .");
    }
    is_simple
}

fn scale(errors: &mut Errors, at: At<'_>) {
    if !at.is_set() {
        return;
    }
    for (field, is_needed, roots, detail) in [
        (
            "specReplicasPath",
            true,
            [".spec.", ".spec."],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            true,
            [".status.", ".status."],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            false,
            [".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = at.get(field);
        if path.is_empty() {
            if is_needed {
                errors.required(path, "");
            }
        } else if simple_path(errors, path)
            && !roots.iter().any(|root| path.str().starts_with(root))
        {
            errors.invalid(path, detail);
        }
    }
}

/// Upstream knows the fields of v1 by their older names.
fn conversion(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    let at = spec.get("conversion");
    if !at.is_set() {
        return;
    }
    let strategy = at.get("strategy");
    if strategy.str() != "None" && spec.get("preserveUnknownFields").flag() {
        errors.invalid(
            strategy,
            "must be None if spec.preserveUnknownFields is true",
        );
    }
    errors.need_one_of(strategy, &["None", "Webhook"]);
    let (client, versions) = (
        at.path(&["webhook", "clientConfig"]),
        at.path(&["webhook", "conversionReviewVersions"]),
    );
    let judge = |errors: &mut Errors| {
        if strategy.str() != "Webhook" {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.deny(client, detail);
            errors.deny(versions, detail);
            return;
        }
        if client.is_set() {
            webhook::client_config(errors, client);
        } else {
            errors.required(client, "required when strategy is set to Webhook");
        }
        if errors.need(versions, "") {
            let knew = old.is_none_or(|old| {
                let path = ["spec", "conversion", "webhook", "conversionReviewVersions"];
                let versions = old.path(&path);
                versions.is_empty() || webhook::has_known_version(versions)
            });
            webhook::review_versions(errors, versions, knew);
        }
    };
    errors.renamed("webhook.clientConfig", "webhookClientConfig", |errors| {
        errors.renamed(
            "webhook.conversionReviewVersions",
            "conversionReviewVersions",
            judge,
        );
    });
}

fn stored_versions(errors: &mut Errors, new: At<'_>) {
    let stored = new.path(&["status", "storedVersions"]);
    if stored.is_empty() {
        return errors.invalid(stored, "must have at least one stored version");
    }
    let versions = new.path(&["spec", "versions"]);
    for version in versions
        .items()
        .filter(|version| version.get("storage").flag())
    {
        let version = version.get("name").str();
        if !stored.contains(version) {
            errors.invalid(stored, format!("must have the storage version {version}"));
        }
    }
    let known: Vec<&str> = versions
        .items()
        .map(|version| version.get("name").str())
        .collect();
    for version in stored
        .items()
        .filter(|version| !known.contains(&version.str()))
    {
        let v = version.str();
        errors.invalid(
            version,
            format!(
                "missing from spec.versions; {v} was previously a storage version, and must remain \
                 in spec.versions until a storage migration ensures no data remains persisted in \
                 {v} and removes {v} from status.storedVersions"
            ),
        );
    }
}

/// Groups of the community need a sign that somebody looked at the API.
fn approval(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let group = new.path(&["spec", "group"]).str();
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    let sign = |at: At<'_>| {
        let annotations = at.path(&["metadata", "annotations"]);
        annotations.entry(APPROVED).map_or("", At::str).to_string()
    };
    let state = |sign: &str| match sign {
        "" => "missing",
        sign if sign.starts_with("unapproved") => "bypassed",
        sign if is_url(sign) => "approved",
        _ => "invalid",
    };
    let text = sign(new);
    if !is_protected || old.is_some_and(|old| state(&sign(old)) == state(&text)) {
        return;
    }
    let path = format!("metadata.annotations[{APPROVED}]");
    match state(&text) {
        "missing" => errors.push(FieldError::required(
            path,
            format!(
                "protected groups must have approval annotation {APPROVED:?}, see \
                 https://github.com/kubernetes/enhancements/pull/1111"
            ),
        )),
        "invalid" => {
            let detail = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a \
                 reason starting with \"unapproved\", see \
                 https://github.com/kubernetes/enhancements/pull/1111"
            );
            errors.push(FieldError::invalid(path, text.as_str(), detail));
        }
        _ => {}
    }
}

fn is_url(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    !scheme.is_empty() && !rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create};

    const GOOD: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"foos.a.b"},"spec":{
        "group":"a.b","scope":"Namespaced","names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList","shortNames":["f"]},
        "conversion":{"strategy":"None"},"versions":[{"name":"v1","served":true,"storage":true,
        "schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{
            "l":{"type":"array","items":{"type":"object","properties":{"k":{"type":"string"}},"required":["k"]},"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"]},
            "m":{"type":"object","additionalProperties":{"type":"string"}}}}}}},
        "subresources":{"status":{},"scale":{"specReplicasPath":".spec.r","statusReplicasPath":".status.r"}},
        "additionalPrinterColumns":[{"name":"A","type":"string","jsonPath":".spec.a"}]}]},
        "status":{"conditions":[{"type":"Established","status":"True","lastTransitionTime":null}],"acceptedNames":{"plural":"foos","kind":"Foo"},"storedVersions":["v1"]}}"#;

    #[test]
    fn wrong_definitions_are_told() {
        let root = "spec versions 0 schema openAPIV3Schema";
        let at = |rest: &str| format!("{root} {rest}");
        cases(
            &DEFINITION,
            GOOD,
            &[
                Case::create(
                    "metadata name",
                    r#""x""#,
                    &[
                        r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#,
                    ],
                ),
                Case::create(
                    "spec group",
                    r#""a""#,
                    &[
                        r#"metadata.name: Invalid value: "foos.a.b": must be spec.names.plural+"."+spec.group"#,
                        r#"spec.group: Invalid value: "a": should be a domain with at least one dot"#,
                    ],
                ),
                Case::create(
                    "spec scope",
                    r#""x""#,
                    &[
                        r#"spec.scope: Unsupported value: "x": supported values: "Cluster", "Namespaced""#,
                    ],
                ),
                Case::create(
                    "spec versions 0 storage",
                    "false",
                    &["spec.versions: Invalid value: …"],
                ),
                Case::create(
                    "spec versions 0 schema",
                    "-",
                    &["spec.versions[0].schema.openAPIV3Schema: Required value"],
                ),
                Case::create(
                    "spec names listKind",
                    r#""Foo""#,
                    &[
                        r#"spec.names.listKind: Invalid value: "Foo": kind and listKind may not be the same"#,
                    ],
                ),
                Case::create(
                    "spec names shortNames 0",
                    r#""F""#,
                    &["spec.names.shortNames[0]: Invalid value: \"F\": a DNS-1035 label…"],
                ),
                Case::create(
                    "spec versions 0 additionalPrinterColumns 0 type",
                    r#""x""#,
                    &[
                        r#"spec.additionalPrinterColumns[0].type: Invalid value: "x": must be one of boolean,date,integer,number,string"#,
                    ],
                ),
                Case::create(
                    "spec versions 0 additionalPrinterColumns 0 jsonPath",
                    r#""x""#,
                    &[
                        r#"spec.additionalPrinterColumns[0].JSONPath: Invalid value: "x": must be a simple json path starting with ."#,
                    ],
                ),
                Case::create(
                    "spec versions 0 subresources scale specReplicasPath",
                    r#"".x""#,
                    &[
                        r#"spec.subresources.scale.specReplicasPath: Invalid value: ".x": should be a json path under .spec"#,
                    ],
                ),
                Case::create(
                    "spec conversion strategy",
                    r#""Webhook""#,
                    &[
                        "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                        "spec.conversion.conversionReviewVersions: Required value",
                    ],
                ),
                Case::create(
                    "status storedVersions",
                    r#"["v0","v1"]"#,
                    &[
                        r#"status.storedVersions[0]: Invalid value: "v0": missing from spec.versions; v0 was previously…"#,
                    ],
                ),
                Case::update(
                    "spec scope",
                    r#""Cluster""#,
                    &[r#"spec.scope: Invalid value: "Cluster": field is immutable"#],
                ),
                Case::create(
                    &at("properties spec type"),
                    "-",
                    &[
                        "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
                    ],
                ),
                Case::create(
                    &at("type"),
                    r#""array""#,
                    &[
                        r#"spec.validation.openAPIV3Schema.type: Invalid value: "array": only "object" is allowed as the type at the root of the schema if the status subresource is enabled"#,
                        "spec.validation.openAPIV3Schema.items: Required value: must be specified",
                        r#"spec.validation.openAPIV3Schema.type: Invalid value: "array": must be object at the root"#,
                    ],
                ),
                Case::create(
                    &at("properties spec properties l items required"),
                    "-",
                    &[
                        "spec.validation.openAPIV3Schema.properties[spec].properties[l].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                    ],
                ),
                Case::create(
                    &at("properties spec properties l x-kubernetes-list-map-keys"),
                    r#"["z"]"#,
                    &[
                        r#"spec.validation.openAPIV3Schema.properties[spec].properties[l].x-kubernetes-list-map-keys: Invalid value: ["z"]: entries must all be names of item properties"#,
                    ],
                ),
                Case::create(
                    &at("properties spec properties m properties"),
                    r#"{"a":{"type":"string"}}"#,
                    &[
                        "spec.validation.openAPIV3Schema.properties[spec].properties[m].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
                    ],
                ),
                Case::create(
                    &at("properties spec anyOf"),
                    r#"[{"properties":{"q":{"minLength":1}}}]"#,
                    &[
                        "spec.validation.openAPIV3Schema.properties[spec].properties[q]: Required value: because it is defined in spec.validation.openAPIV3Schema.properties[spec].anyOf[0].properties[q]",
                    ],
                ),
                Case::create(
                    &at("properties spec x-kubernetes-validations"),
                    r#"[{"rule":" "}]"#,
                    &[
                        "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn the_stored_version_is_recorded() {
        let made = prepared_create(
            &DEFINITION,
            r#"{"spec":{"versions":[{"name":"v1","storage":true}]}}"#,
        );
        assert_eq!(
            made.root()
                .path(&["status", "storedVersions"])
                .unwrap()
                .to_string(),
            r#"["v1"]"#
        );
    }
}

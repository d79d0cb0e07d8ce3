//! Config maps and secrets: bags of bytes under keys, which may be closed for good.

use api::codec::json;
use api::doc::{Doc, Kind};
use api::field::FieldError;
use api::name;
use api::values::base64;

use crate::kinds::facts::Facts;
use crate::kinds::pem;
use crate::registry::strategy::Cx;
use crate::validation::{At, Errors};

const BYTES_MAX: usize = 1024 * 1024;
const CLOSED: &str = "field is immutable when `immutable` is set";
const REDACTED: &str = "<secret contents redacted>";

/// What is particular about config maps.
pub const CONFIG_MAP: Facts = Facts {
    create: |_, new, errors| config_map(errors, new),
    update: |_, new, old, errors| {
        closed(errors, new, old, &["data", "binaryData"]);
        config_map(errors, new);
    },
    ..Facts::PLAIN
};

/// What is particular about secrets.
pub const SECRET: Facts = Facts {
    decoded: merge_string_data,
    prepare_update: |_, new, old| {
        if new.root().text(&["type"]).is_empty() {
            let kind = old.root().text(&["type"]).to_string();
            new.set(new.top(), "type", &kind);
        }
    },
    create: |_, new, errors| secret(errors, new),
    update: |_, new, old, errors| {
        errors.immutable(new.get("type"), old.get("type"));
        closed(errors, new, old, &["data"]);
        secret(errors, new);
    },
    warnings: secret_warnings,
    ..Facts::PLAIN
};

/// Once an object is immutable, it stays so, with what it holds.
fn closed(errors: &mut Errors, new: At<'_>, old: At<'_>, bags: &[&'static str]) {
    if !old.get("immutable").flag() {
        return;
    }
    if !new.get("immutable").flag() {
        errors.forbidden(new.get("immutable"), CLOSED);
    }
    for bag in bags {
        if !same_entries(new.get(bag), old.get(bag)) {
            errors.forbidden(new.get(bag), CLOSED);
        }
    }
}

fn same_entries(new: At<'_>, old: At<'_>) -> bool {
    new.len() == old.len()
        && new.items().all(|entry| {
            old.entry(entry.key())
                .is_some_and(|was| was.str() == entry.str())
        })
}

fn config_map(errors: &mut Errors, new: At<'_>) {
    let (data, binary) = (new.get("data"), new.get("binaryData"));
    let mut bytes = 0;
    for entry in data.items() {
        key(errors, entry);
        if binary.entry(entry.key()).is_some() {
            let detail = "duplicate of key present in binaryData";
            errors.invalid_value(entry, entry.key(), detail);
        }
        bytes += entry.str().len();
    }
    for entry in binary.items() {
        key(errors, entry);
        bytes += decoded_len(entry.str());
    }
    if bytes > BYTES_MAX {
        errors.push(FieldError::too_long("", BYTES_MAX));
    }
}

fn key(errors: &mut Errors, entry: At<'_>) {
    for complaint in name::config_key(entry.key()) {
        errors.invalid_value(entry, entry.key(), complaint);
    }
}

/// The bytes of padded base64.
fn decoded_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count()
}

fn secret(errors: &mut Errors, new: At<'_>) {
    let data = new.get("data");
    let mut bytes = 0;
    for entry in data.items() {
        key(errors, entry);
        bytes += decoded_len(entry.str());
    }
    if bytes > BYTES_MAX {
        errors.too_long(data, BYTES_MAX);
    }
    let has = |key: &str| data.entry(key).is_some();
    let mut missing = |key: &str| errors.push(FieldError::required(format!("data[{key}]"), ""));
    match new.get("type").str() {
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            let annotations = new.path(&["metadata", "annotations"]);
            if annotations.entry(annotation).is_none_or(At::is_empty) {
                let path = format!("metadata.annotations[{annotation}]");
                errors.push(FieldError::required(path, ""));
            }
        }
        "kubernetes.io/dockercfg" => json_object(errors, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_object(errors, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            missing("username");
            missing("password");
        }
        "kubernetes.io/ssh-auth" if data.entry("ssh-privatekey").is_none_or(At::is_empty) => {
            missing("ssh-privatekey");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !has(key) {
                    missing(key);
                }
            }
        }
        _ => {}
    }
}

fn json_object(errors: &mut Errors, data: At<'_>, key: &str) {
    let Some(entry) = data.entry(key) else {
        errors.push(FieldError::required(format!("data[{key}]"), ""));
        return;
    };
    let bytes = base64::decode(entry.str()).unwrap_or_default();
    let complaint = match json::parse(bytes) {
        Err(error) => error.to_string(),
        Ok(doc) if matches!(doc.root().kind(), Kind::Object | Kind::Null) => return,
        Ok(doc) => {
            let found = match doc.root().kind() {
                Kind::List => "array",
                Kind::String => "string",
                Kind::True | Kind::False => "bool",
                _ => "number",
            };
            format!(
                "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            )
        }
    };
    errors.invalid_value(entry, REDACTED, complaint);
}

/// What clients write as text becomes bytes: upstream does it when it reads them.
pub fn merge_string_data(secret: &mut Doc) {
    let root = At::root(secret);
    let texts: Vec<(String, String)> = root
        .get("stringData")
        .items()
        .map(|entry| (entry.key().to_string(), entry.str().to_string()))
        .collect();
    secret.remove(secret.top(), "stringData");
    if texts.is_empty() {
        return;
    }
    let data = secret.object(secret.top(), "data");
    for (key, text) in texts {
        let mut encoded = String::new();
        base64::encode(text.as_bytes(), &mut encoded);
        secret.set(data, &key, &encoded);
    }
    secret.sort_keys(data);
}

fn secret_warnings(_: &Cx<'_>, new: At<'_>, _: Option<At<'_>>, warnings: &mut Vec<String>) {
    if new.get("type").str() != "kubernetes.io/tls" {
        return;
    }
    let bytes = |key: &str| {
        let entry = new.get("data").entry(key);
        entry.and_then(|entry| base64::decode(entry.str()).ok())
    };
    let certificate = bytes("tls.crt").unwrap_or_default();
    let key = bytes("tls.key").unwrap_or_default();
    warnings.extend(pem::key_pair_complaint(&certificate, &key));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create};

    const MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},
        "data":{"a":"1","b.c":"2"},"binaryData":{"d":"AA=="}}"#;

    #[test]
    fn wrong_config_maps_are_told() {
        cases(
            &CONFIG_MAP,
            MAP,
            &[
                Case::create(
                    "data a/b",
                    r#""x""#,
                    &[
                        "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME', or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                    ],
                ),
                Case::create(
                    "data d",
                    r#""x""#,
                    &[r#"data[d]: Invalid value: "d": duplicate of key present in binaryData"#],
                ),
                Case::create(
                    "data a",
                    &format!("{:?}", "x".repeat(BYTES_MAX)),
                    &[": Too long: may not be more than 1048576 bytes"],
                ),
            ],
        );
        let closed = MAP.replace(r#""data""#, r#""immutable":true,"data""#);
        cases(
            &CONFIG_MAP,
            &closed,
            &[
                Case::update(
                    "immutable",
                    "false",
                    &["immutable: Forbidden: field is immutable when `immutable` is set"],
                ),
                Case::update(
                    "data a",
                    r#""2""#,
                    &["data: Forbidden: field is immutable when `immutable` is set"],
                ),
                Case::update(
                    "binaryData d",
                    r#""AAA=""#,
                    &["binaryData: Forbidden: field is immutable when `immutable` is set"],
                ),
            ],
        );
    }

    #[test]
    fn wrong_secrets_are_told() {
        let secret = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"type":"Opaque","data":{"a":"AA=="}}"#;
        cases(
            &SECRET,
            secret,
            &[
                Case::update(
                    "type",
                    r#""x""#,
                    &[r#"type: Invalid value: "x": field is immutable"#],
                ),
                Case::create(
                    "type",
                    r#""kubernetes.io/tls""#,
                    &[
                        "data[tls.crt]: Required value",
                        "data[tls.key]: Required value",
                    ],
                ),
                Case::create(
                    "type",
                    r#""kubernetes.io/basic-auth""#,
                    &[
                        "data[username]: Required value",
                        "data[password]: Required value",
                    ],
                ),
                Case::create(
                    "type",
                    r#""kubernetes.io/ssh-auth""#,
                    &["data[ssh-privatekey]: Required value"],
                ),
                Case::create(
                    "type",
                    r#""kubernetes.io/dockercfg""#,
                    &["data[.dockercfg]: Required value"],
                ),
                Case::create(
                    "type",
                    r#""kubernetes.io/service-account-token""#,
                    &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
                ),
            ],
        );
        let docker = r#"{"apiVersion":"v1","kind":"Secret","type":"kubernetes.io/dockercfg","data":{".dockercfg":"e30="}}"#;
        cases(
            &SECRET,
            docker,
            &[Case::create(
                "data .dockercfg",
                r#""W10=""#,
                &[
                    r#"data[.dockercfg]: Invalid value: "<secret contents redacted>": json: cannot unmarshal array into Go value of type map[string]interface {}"#,
                ],
            )],
        );
    }

    #[test]
    fn texts_become_data() {
        let made = prepared_create(
            &SECRET,
            r#"{"data":{"b":"AA==","c":"AA=="},"stringData":{"a":"x","b":"y"},"type":"Opaque"}"#,
        );
        assert_eq!(
            made.to_string(),
            r#"{"data":{"a":"eA==","b":"eQ==","c":"AA=="},"type":"Opaque"}"#
        );
    }
}

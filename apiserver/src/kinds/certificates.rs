//! certificates.k8s.io: requests to be signed. Who asks is recorded; approving and signing have
//! endpoints of their own.

use std::collections::HashSet;

use api::doc::{Doc, Kind, New};
use api::field::FieldError;
use api::values::base64;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::facts::{Facts, items_at, keep, remove_path};
use super::pem::{self, Block};
use crate::registry::strategy::Cx;
use crate::validation::pod::{projected::signer_name, unified_diff};
use crate::validation::{At, Errors, same};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const EXPIRATION_MIN: i64 = 600;
const DECIDED: [&str; 3] = ["Approved", "Denied", "Failed"];
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What is particular about certificate signing requests.
pub const REQUEST: Facts = Facts {
    name: |_, _| Vec::new(),
    prepare_create: record_user,
    prepare_update,
    create: |_, new, errors| request(errors, new, None),
    update: |cx, new, old, errors| update(cx, new, old, errors),
    sub_update: |cx, new, old, errors| update(cx, new, old, errors),
    reset_fields: Some(|subresource| match subresource {
        "status" => &[&["spec"], &["status", "conditions"]],
        "approval" => &[&["spec"], &["status", "certificate"]],
        _ => &[&["spec"], &["status"]],
    }),
    ..Facts::PLAIN
};

fn record_user(cx: &Cx<'_>, new: &mut Doc) {
    new.set(new.top(), "status", New::Object);
    for field in ["username", "uid", "groups", "extra"] {
        remove_path(new, &["spec", field]);
    }
    let user = cx.user;
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            new.set_path(&["spec", field], text);
        }
    }
    if !user.groups.is_empty() {
        let list = new.set_path(&["spec", "groups"], New::List);
        for group in &user.groups {
            new.push(list, group);
        }
    }
    for (key, values) in &user.extra {
        let list = new.set_path(&["spec", "extra", key], New::List);
        for value in values {
            new.push(list, value);
        }
    }
}

fn prepare_update(cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
    keep(new, old, &["spec"]);
    match cx.subresource {
        "status" => {
            keep_decisions(new, old);
            date_conditions(cx, new, old);
        }
        "approval" => {
            date_conditions(cx, new, old);
            keep(new, old, &["status", "certificate"]);
        }
        _ => keep(new, old, &["status"]),
    }
}

fn conditions(csr: &Doc, kind: &str) -> Vec<usize> {
    let list = At::root(csr).path(&["status", "conditions"]).items();
    let of_kind = list
        .enumerate()
        .filter(|(_, condition)| condition.get("type").str() == kind);
    of_kind.map(|(index, _)| index).collect()
}

/// Only the approval endpoint changes these.
fn keep_decisions(new: &mut Doc, old: &Doc) {
    let path = ["status", "conditions"];
    for kind in &DECIDED[..2] {
        let (now, before) = (conditions(new, kind), conditions(old, kind));
        if now.len() != before.len() {
            continue;
        }
        for (now, before) in now.into_iter().zip(before) {
            let list = new.find_path(&path);
            let from = old.root().path(&path).and_then(|list| list.item(before));
            if let (Some(list), Some(from)) = (list, from)
                && let Some(place) = new.node(list).item(now).map(|node| node.id())
            {
                let copy = new.graft(from);
                new.replace_in(list, place, copy);
            }
        }
    }
}

fn date_conditions(cx: &Cx<'_>, new: &mut Doc, old: &Doc) {
    let path = ["status", "conditions"];
    for place in items_at(new, &path) {
        let condition = At::of(new.node(place));
        let transition = At::root(old).path(&path).items().find(|was| {
            was.get("type").str() == condition.get("type").str()
                && was.get("status").str() == condition.get("status").str()
                && was.has("lastTransitionTime")
        });
        let since = transition
            .map_or(cx.now, |was| was.get("lastTransitionTime").str())
            .to_string();
        let (has_update, has_transition) = (
            condition.has("lastUpdateTime"),
            condition.has("lastTransitionTime"),
        );
        if !has_update {
            new.set(place, "lastUpdateTime", cx.now);
        }
        if !has_transition {
            new.set(place, "lastTransitionTime", &since);
        }
    }
}

/// What a request may have because its old one has it.
#[derive(Default)]
struct Leave {
    both_decisions: bool,
    legacy_signer: bool,
    duplicate_types: bool,
    empty_type: bool,
    any_certificate: bool,
    duplicate_usages: bool,
    unknown_usages: bool,
}

fn has_duplicates<'d>(mut texts: impl Iterator<Item = &'d str>) -> bool {
    let mut seen = HashSet::new();
    !texts.all(|text| seen.insert(text))
}

impl Leave {
    fn of_old(new: At<'_>, old: At<'_>) -> Self {
        let list = old.path(&["status", "conditions"]);
        let types = || list.items().map(|condition| condition.get("type").str());
        let usages = || old.path(&["spec", "usages"]).items().map(At::str);
        let path = ["status", "certificate"];
        let (now, was) = (new.path(&path).str(), old.path(&path).str());
        Self {
            both_decisions: DECIDED[..2]
                .iter()
                .all(|kind| types().any(|known| known == *kind)),
            legacy_signer: old.path(&["spec", "signerName"]).str() == LEGACY_SIGNER,
            duplicate_types: has_duplicates(types()),
            empty_type: types().any(str::is_empty),
            any_certificate: now == was || certificate_complaint(was).is_some(),
            duplicate_usages: has_duplicates(usages()),
            unknown_usages: usages().any(|usage| !USAGES.contains(&usage)),
        }
    }
}

fn request(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let leave = old.map_or_else(Leave::default, |old| Leave::of_old(new, old));
    let spec = new.get("spec");
    if let Some(complaint) = request_complaint(spec.get("request").str()) {
        errors.invalid(spec.get("request"), complaint);
    }
    let usages = spec.get("usages");
    errors.need(usages, "");
    if !leave.unknown_usages {
        for usage in usages.items() {
            errors.one_of(usage, &USAGES);
        }
    }
    if !leave.duplicate_usages {
        errors.unique(usages, "");
    }
    let signer = spec.get("signerName");
    if !leave.legacy_signer && signer.str() == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.invalid(signer, detail);
    } else {
        signer_name(errors, signer);
    }
    let expiration = spec.get("expirationSeconds");
    if expiration
        .opt_int()
        .is_some_and(|seconds| seconds < EXPIRATION_MIN)
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(expiration, detail);
    }
    judge_conditions(errors, new.path(&["status", "conditions"]), &leave);
    let certificate = new.path(&["status", "certificate"]);
    if !leave.any_certificate
        && let Some(complaint) = certificate_complaint(certificate.str())
    {
        errors.invalid_value(certificate, "<certificate data>", complaint);
    }
}

fn judge_conditions(errors: &mut Errors, list: At<'_>, leave: &Leave) {
    let mut seen = HashSet::new();
    for condition in list.items() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        if !leave.empty_type {
            errors.need(kind, "");
        }
        let known: &[&str] = match DECIDED.contains(&kind.str()) {
            true => &["True"],
            false => &["False", "True", "Unknown"],
        };
        errors.need_one_of(status, known);
        let other = match kind.str() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !leave.both_decisions && seen.contains(other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid_value(list, kind.str(), detail);
        }
        if !seen.insert(kind.str()) && !leave.duplicate_types {
            errors.duplicate(kind);
        }
    }
}

fn update(cx: &Cx<'_>, new: At<'_>, old: At<'_>, errors: &mut Errors) {
    request(errors, new, Some(old));
    let forbid = |errors: &mut Errors, field: &str, detail: String| {
        errors.push(FieldError::forbidden(format!("status.{field}"), detail));
    };
    for kind in DECIDED {
        if of_kind(new, kind).len() < of_kind(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            forbid(errors, "conditions", detail);
        }
    }
    for kind in DECIDED[..2].iter().filter(|_| cx.subresource != "approval") {
        let (now, before) = (of_kind(new, kind), of_kind(old, kind));
        if now.len() > before.len() {
            let detail = format!("updates may not add a condition of type {kind:?}");
            forbid(errors, "conditions", detail);
        } else if now.len() == before.len()
            && !now
                .iter()
                .zip(&before)
                .all(|(now, before)| same(*now, *before))
        {
            let diff = unified_diff::diff(At::root(&listed(&before)), At::root(&listed(&now)));
            let detail = format!("updates may not modify a condition of type {kind:?}\n{diff}");
            forbid(errors, "conditions", detail);
        }
    }
    let path = ["status", "certificate"];
    let (now, was) = (new.path(&path).str(), old.path(&path).str());
    if now != was && cx.subresource != "status" {
        forbid(
            errors,
            "certificate",
            "updates may not set certificate content".to_string(),
        );
    } else if now != was && !was.is_empty() {
        let detail = "updates may not modify existing certificate content";
        forbid(errors, "certificate", detail.to_string());
    }
}

fn of_kind<'d>(csr: At<'d>, kind: &str) -> Vec<At<'d>> {
    let list = csr.path(&["status", "conditions"]).items();
    list.filter(|condition| condition.get("type").str() == kind)
        .collect()
}

fn listed(conditions: &[At<'_>]) -> Doc {
    let mut doc = Doc::new();
    doc.clear(doc.top(), Kind::List);
    for node in conditions.iter().filter_map(|condition| condition.node()) {
        let copy = doc.graft(node);
        doc.push_id(doc.top(), copy);
    }
    doc
}

fn request_complaint(encoded: &str) -> Option<String> {
    let bytes = base64::decode(encoded).unwrap_or_default();
    let block = pem::blocks(&bytes).into_iter().next();
    let Some(block) = block.filter(|block| block.kind == "CERTIFICATE REQUEST") else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_string());
    };
    match X509CertificationRequest::from_der(&block.bytes) {
        Err(error) => Some(format!("asn1: structure error: {error}")),
        Ok((rest, _)) if !rest.is_empty() => Some("asn1: syntax error: trailing data".to_string()),
        Ok((_, request)) => {
            let is_signed = request.verify_signature().is_ok();
            (!is_signed).then(|| "x509: certificate request has a wrong signature".to_string())
        }
    }
}

fn certificate_complaint(encoded: &str) -> Option<String> {
    let bytes = base64::decode(encoded).unwrap_or_default();
    if bytes.is_empty() {
        return None;
    }
    let blocks = pem::blocks(&bytes);
    if blocks.is_empty() {
        return Some("must contain at least one CERTIFICATE PEM block".to_string());
    }
    blocks.iter().find_map(block_complaint)
}

fn block_complaint(block: &Block) -> Option<String> {
    if block.kind != "CERTIFICATE" {
        let found = &block.kind;
        return Some(format!(
            "only CERTIFICATE PEM blocks are allowed, found {found:?}"
        ));
    }
    if block.has_headers {
        return Some("no PEM block headers are permitted".to_string());
    }
    if block.bytes.is_empty() {
        return Some("found CERTIFICATE PEM block containing 0 certificates".to_string());
    }
    let mut rest: &[u8] = &block.bytes;
    while !rest.is_empty() {
        match X509Certificate::from_der(rest) {
            Ok((after, _)) => rest = after,
            Err(_) => return Some("x509: malformed certificate".to_string()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_create, prepared_update};

    fn good() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let mut encoded = String::new();
        base64::encode(request.pem().unwrap().as_bytes(), &mut encoded);
        format!(
            r#"{{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{{"name":"a"}},
            "spec":{{"request":"{encoded}","signerName":"example.com/x","usages":["client auth"],"expirationSeconds":600}},
            "status":{{"conditions":[{{"type":"Approved","status":"True","lastUpdateTime":null,"lastTransitionTime":null}}]}}}}"#
        )
    }

    #[test]
    fn wrong_requests_are_told() {
        cases(
            &REQUEST,
            &good(),
            &[
                Case::create(
                    "spec request",
                    r#""AA==""#,
                    &[
                        r#"spec.request: Invalid value: "AA==": PEM block type must be CERTIFICATE REQUEST"#,
                    ],
                ),
                Case::create("spec usages", "[]", &["spec.usages: Required value"]),
                Case::create(
                    "spec usages 1",
                    r#""client auth""#,
                    &[r#"spec.usages[1]: Duplicate value: "client auth""#],
                ),
                Case::create(
                    "spec usages 0",
                    r#""x""#,
                    &[r#"spec.usages[0]: Unsupported value: "x": supported values: "any",…"#],
                ),
                Case::create(
                    "spec signerName",
                    r#""kubernetes.io/legacy-unknown""#,
                    &[
                        r#"spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version"#,
                    ],
                ),
                Case::create(
                    "spec signerName",
                    r#""x""#,
                    &[
                        r#"spec.signerName: Invalid value: "x": must be a fully qualified domain and path of the form 'example.com/signer-name'"#,
                    ],
                ),
                Case::create(
                    "spec expirationSeconds",
                    "599",
                    &[
                        "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
                    ],
                ),
                Case::sub(
                    "approval",
                    "status conditions 0 status",
                    r#""False""#,
                    &[
                        r#"status.conditions[0].status: Unsupported value: "False": supported values: "True""#,
                    ],
                ),
                Case::sub(
                    "approval",
                    "status conditions 1",
                    r#"{"type":"Denied","status":"True","lastUpdateTime":null,"lastTransitionTime":null}"#,
                    &[
                        r#"status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status conditions",
                    "[]",
                    &[
                        r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#,
                    ],
                ),
                Case::sub(
                    "status",
                    "status conditions 0 reason",
                    r#""x""#,
                    &[
                        "status.conditions: Forbidden: updates may not modify a condition of type \"Approved\"\n…",
                    ],
                ),
                Case::sub(
                    "approval",
                    "status certificate",
                    r#""AA==""#,
                    &[
                        r#"status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block"#,
                        "status.certificate: Forbidden: updates may not set certificate content",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn who_asks_is_recorded_and_conditions_are_dated() {
        let made = prepared_create(
            &REQUEST,
            r#"{"spec":{"username":"mallory"},"status":{"certificate":"x"}}"#,
        );
        assert_eq!(
            made.to_string(),
            r#"{"spec":{"username":"alice","groups":["devs"]},"status":{}}"#
        );
        let new = r#"{"spec":{"a":1},"status":{"certificate":"x","conditions":[{"type":"Approved","status":"True"}]}}"#;
        let made = prepared_update(
            &REQUEST,
            "approval",
            new,
            r#"{"spec":{"b":1},"status":{"certificate":"y"}}"#,
        );
        assert_eq!(
            made.to_string(),
            r#"{"spec":{"b":1},"status":{"certificate":"y","conditions":[{"type":"Approved","status":"True","lastUpdateTime":"2024-01-02T03:04:05Z","lastTransitionTime":"2024-01-02T03:04:05Z"}]}}"#
        );
    }
}

//! Which requests have been there for long enough.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use x509_parser::pem::Pem;

use crate::certificates::{APPROVED, DENIED, FAILED, conditions, issued};

/// For what is decided and done.
const DONE: SignedDuration = SignedDuration::from_hours(1);

/// For what waits for a decision or a certificate.
const WAITING: SignedDuration = SignedDuration::from_hours(24);

/// Why a request is deleted; `None` if it stays.
pub(super) fn reason(csr: &CertificateSigningRequest, now: Timestamp) -> Option<&'static str> {
    let is_issued = issued(csr).is_some();
    let is_old = |since: Option<&Time>, age: SignedDuration| {
        since.is_some_and(|since| now.duration_since(since.0) > age)
    };
    let decided = |kind: &str, age: SignedDuration| {
        conditions(csr)
            .iter()
            .any(|found| found.type_ == kind && is_old(found.last_update_time.as_ref(), age))
    };
    let is_approved = || conditions(csr).iter().any(|found| found.type_ == APPROVED);
    let created = csr.metadata.creation_timestamp.as_ref();
    match () {
        () if is_issued && decided(APPROVED, DONE) => Some("approved and issued an hour ago"),
        () if decided(DENIED, DONE) => Some("denied an hour ago"),
        () if decided(FAILED, DONE) => Some("failed an hour ago"),
        () if conditions(csr).is_empty() && is_old(created, WAITING) => {
            Some("not decided for a day")
        }
        () if is_approved() && has_expired(csr, now) => Some("its certificate has expired"),
        () if !is_issued && decided(APPROVED, WAITING) => Some("approved and not issued for a day"),
        () => None,
    }
}

/// Whether the certificate is past its end; what cannot be read is not.
fn has_expired(csr: &CertificateSigningRequest, now: Timestamp) -> bool {
    let Some(pem) = issued(csr) else {
        return false;
    };
    let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
    let end = block.and_then(|block| {
        let parsed = block.parse_x509().ok()?;
        Some(parsed.validity().not_after.timestamp())
    });
    end.is_some_and(|end| now.as_second() > end)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Whether a request that was made 25 hours ago goes, with conditions of so many minutes ago.
    fn goes(conditions: &[(&str, i64)], certificate: Option<&str>, hours: i64) -> bool {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let ago = |minutes: i64| (now - SignedDuration::from_mins(minutes)).to_string();
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, minutes)| {
                json!({"type": kind, "status": "True", "lastUpdateTime": ago(*minutes)})
            })
            .collect();
        let mut csr: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "x", "creationTimestamp": ago(hours * 60)},
            "spec": {"signerName": "a/b", "request": ""},
            "status": {"conditions": conditions},
        }))
        .unwrap();
        let bytes = certificate.map(|text| k8s_openapi::ByteString(text.as_bytes().to_vec()));
        csr.status.get_or_insert_default().certificate = bytes;
        reason(&csr, now).is_some()
    }

    #[test]
    fn requests_go_when_their_time_is_over() {
        for (expected, conditions, certificate, hours) in [
            (false, &[][..], None, 23),
            (true, &[], None, 25),
            (false, &[("Approved", 59)], Some("c"), 25),
            (true, &[("Approved", 61)], Some("c"), 25),
            (false, &[("Approved", 61)], None, 25),
            (true, &[("Approved", 24 * 60 + 1)], None, 25),
            (true, &[("Denied", 61)], None, 2),
            (false, &[("Denied", 59)], None, 2),
            (true, &[("Approved", 62), ("Failed", 61)], None, 2),
        ] {
            assert_eq!(
                goes(conditions, certificate, hours),
                expected,
                "{conditions:?} {certificate:?}"
            );
        }
    }
}

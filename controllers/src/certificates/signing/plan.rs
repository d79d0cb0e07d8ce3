//! Whether a signer signs a request, and for how long.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::certificates::request::{self, Request, RequestError};
use crate::certificates::{
    APPROVED, DENIED, FAILED, KUBE_APISERVER_CLIENT, KUBE_APISERVER_CLIENT_KUBELET,
    KUBELET_SERVING, LEGACY_UNKNOWN, has_condition, has_true_condition, issued,
};

/// Shorter lives are not given.
const LIFE_MIN: SignedDuration = SignedDuration::from_mins(10);

/// What is done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is not for these signers, not approved, or already done.
    Nothing,
    /// It is marked as failed, with this message.
    Fail(String),
    /// It is signed.
    Sign(Box<Request>),
}

/// Decides about a request.
pub(super) fn decide(csr: &CertificateSigningRequest) -> Result<Decision, RequestError> {
    let is_approved = has_condition(csr, APPROVED) && !has_condition(csr, DENIED);
    if issued(csr).is_some() || !is_approved || has_true_condition(csr, FAILED) {
        return Ok(Decision::Nothing);
    }
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    let check: fn(&Request, &[String]) -> Result<(), String> = match &*csr.spec.signer_name {
        KUBELET_SERVING => |request, usages| {
            request::check_kubelet_serving(request, usages).map_err(|why| why.to_string())
        },
        KUBE_APISERVER_CLIENT_KUBELET => |request, usages| {
            request::check_kubelet_client(request, usages).map_err(|why| why.to_string())
        },
        KUBE_APISERVER_CLIENT => |_, usages| check_client_usages(usages),
        LEGACY_UNKNOWN => |_, _| Ok(()),
        _ => return Ok(Decision::Nothing),
    };
    let request = request::parse(&csr.spec.request.0)?;
    Ok(match check(&request, usages) {
        Ok(()) => Decision::Sign(Box::new(request)),
        Err(why) => Decision::Fail(why),
    })
}

fn check_client_usages(usages: &[String]) -> Result<(), String> {
    let is_allowed = |usage: &&String| {
        matches!(
            usage.as_str(),
            "digital signature" | "key encipherment" | "client auth"
        )
    };
    if let Some(usage) = usages.iter().find(|usage| !is_allowed(usage)) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".into()),
    }
}

/// How long the certificate lives: as asked, within ten minutes and the signer's own limit.
pub(super) fn life(asked_seconds: Option<i32>, longest: SignedDuration) -> SignedDuration {
    let Some(seconds) = asked_seconds else {
        return longest;
    };
    match SignedDuration::from_secs(i64::from(seconds)) {
        asked if asked > longest => longest,
        asked => asked.max(LIFE_MIN),
    }
}

/// The request, marked as one that cannot be signed.
pub(super) fn failed(
    csr: &CertificateSigningRequest,
    message: String,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut csr = csr.clone();
    let status = csr.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: FAILED.into(),
        status: "True".into(),
        reason: Some("SignerValidationFailure".into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        ..CertificateSigningRequestCondition::default()
    });
    csr
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::tests::{NODE_USAGES, csr, pkcs10};

    fn approved(signer: &str, usages: &[&str], request: &str) -> CertificateSigningRequest {
        let mut csr = csr(signer, usages, request);
        let condition = CertificateSigningRequestCondition {
            type_: APPROVED.into(),
            ..CertificateSigningRequestCondition::default()
        };
        csr.status.get_or_insert_default().conditions = Some(vec![condition]);
        csr
    }

    fn fails(signer: &str, usages: &[&str], request: &str) -> String {
        match decide(&approved(signer, usages, request)).unwrap() {
            Decision::Fail(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_signer_has_its_rules() {
        let node = pkcs10("system:node:n", "system:nodes", &[]);
        let user = pkcs10("jane", "dev", &[]);
        let signs = |signer, usages: &[&str], request: &str| {
            matches!(
                decide(&approved(signer, usages, request)).unwrap(),
                Decision::Sign(_)
            )
        };
        assert!(signs(KUBE_APISERVER_CLIENT_KUBELET, &NODE_USAGES, &node));
        assert!(signs(KUBE_APISERVER_CLIENT, &["client auth"], &user));
        assert!(signs(LEGACY_UNKNOWN, &["server auth", "cert sign"], &user));
        assert!(!signs("example.com/other", &NODE_USAGES, &node));
        assert_eq!(
            fails(KUBE_APISERVER_CLIENT_KUBELET, &NODE_USAGES, &user),
            "subject organization is not system:nodes"
        );
        assert_eq!(
            fails(
                KUBE_APISERVER_CLIENT,
                &["client auth", "server auth"],
                &user
            ),
            "invalid usage for client certificate: server auth"
        );
        assert_eq!(
            fails(KUBE_APISERVER_CLIENT, &["digital signature"], &user),
            "missing required usage for client certificate: client auth"
        );
        assert_eq!(
            fails(
                KUBELET_SERVING,
                &["digital signature", "server auth"],
                &node
            ),
            "DNS or IP subjectAltName is required"
        );
    }

    #[test]
    fn what_is_not_approved_or_failed_already_is_left_alone() {
        let node = pkcs10("system:node:n", "system:nodes", &[]);
        let fresh = csr(KUBE_APISERVER_CLIENT_KUBELET, &NODE_USAGES, &node);
        assert_eq!(decide(&fresh).unwrap(), Decision::Nothing);
        let approved = approved(KUBE_APISERVER_CLIENT_KUBELET, &NODE_USAGES, &node);
        let failed = failed(&approved, "why".into(), Timestamp::UNIX_EPOCH);
        assert_eq!(decide(&failed).unwrap(), Decision::Nothing);
    }

    #[test]
    fn lives_are_within_bounds() {
        let day = SignedDuration::from_hours(24);
        assert_eq!(life(None, day), day);
        assert_eq!(life(Some(3600), day), SignedDuration::from_hours(1));
        assert_eq!(life(Some(1), day), LIFE_MIN);
        assert_eq!(life(Some(i32::MAX), day), day);
    }
}

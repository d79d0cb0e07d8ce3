//! Which requests may be approved, and what must be allowed for it.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};

use crate::certificates::request::{self, RequestError};
use crate::certificates::{APPROVED, DENIED, KUBE_APISERVER_CLIENT_KUBELET, has_condition, issued};

/// A kind of request that is approved if its author has a permission.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recogniser {
    /// The subresource of certificatesigningrequests that its author must be allowed to create.
    pub(super) permission: &'static str,
    /// What the approval says.
    pub(super) message: &'static str,
}

/// A node that renews its own certificate.
const SELF_NODE_CLIENT: Recogniser = Recogniser {
    permission: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};

/// Somebody who may ask for any node, such as a bootstrap token.
const NODE_CLIENT: Recogniser = Recogniser {
    permission: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// The recognisers whose permission is asked for, in turn; none where there is nothing to decide.
pub(super) fn recognise(
    csr: &CertificateSigningRequest,
) -> Result<&'static [Recogniser], RequestError> {
    const BOTH: &[Recogniser] = &[SELF_NODE_CLIENT, NODE_CLIENT];
    let is_decided = has_condition(csr, APPROVED) || has_condition(csr, DENIED);
    if issued(csr).is_some() || is_decided {
        return Ok(&[]);
    }
    let request = request::parse(&csr.spec.request.0)?;
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    if csr.spec.signer_name != KUBE_APISERVER_CLIENT_KUBELET
        || request::check_kubelet_client(&request, usages).is_err()
    {
        return Ok(&[]);
    }
    let is_self = csr.spec.username.as_deref().unwrap_or_default() == request.common_name;
    Ok(if is_self { BOTH } else { &BOTH[1..] })
}

/// The question whether the author of a request has the permission.
pub(super) fn review(
    csr: &CertificateSigningRequest,
    recogniser: &Recogniser,
) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                version: Some("*".into()),
                resource: Some("certificatesigningrequests".into()),
                subresource: Some(recogniser.permission.into()),
                verb: Some("create".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// The request with its approval.
pub(super) fn approved(
    csr: &CertificateSigningRequest,
    recogniser: &Recogniser,
) -> CertificateSigningRequest {
    let mut csr = csr.clone();
    let status = csr.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: APPROVED.into(),
        status: "True".into(),
        reason: Some("AutoApproved".into()),
        message: Some(recogniser.message.into()),
        ..CertificateSigningRequestCondition::default()
    });
    csr
}

/// Why a request that was recognised is not approved.
pub(super) fn refused(name: &str, tried: &[Recogniser]) -> String {
    let tried: Vec<&str> = tried.iter().map(|one| one.permission).collect();
    let tried = tried.join(" ");
    format!("recognized csr {name:?} as [{tried}] but subject access review was not approved")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::tests::{NODE_USAGES, csr, pkcs10};

    #[test]
    fn nodes_are_recognised_by_what_they_ask_for() {
        let request = pkcs10("system:node:n", "system:nodes", &[]);
        let mut node = csr(KUBE_APISERVER_CLIENT_KUBELET, &NODE_USAGES, &request);
        node.spec.username = Some("system:bootstrap:abcdef".into());
        assert_eq!(recognise(&node).unwrap(), &[NODE_CLIENT]);
        node.spec.username = Some("system:node:n".into());
        assert_eq!(recognise(&node).unwrap(), &[SELF_NODE_CLIENT, NODE_CLIENT]);
        assert_eq!(
            refused("x", recognise(&node).unwrap()),
            "recognized csr \"x\" as [selfnodeclient nodeclient] but subject access review was not approved"
        );
        let serving = csr("kubernetes.io/kubelet-serving", &NODE_USAGES, &request);
        assert_eq!(recognise(&serving).unwrap(), &[]);
        assert_eq!(recognise(&approved(&node, &NODE_CLIENT)).unwrap(), &[]);
        let garbage = csr(KUBE_APISERVER_CLIENT_KUBELET, &NODE_USAGES, "x");
        assert!(recognise(&garbage).is_err());
    }
}

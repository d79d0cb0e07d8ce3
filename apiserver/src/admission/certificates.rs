//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may decide about
//! requests to a signer, and what nobody may ask for.

use api::doc::Doc;
use async_trait::async_trait;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Attempt, Operation, Plugin};
use crate::authorization::Attributes;
use crate::kinds::pem;
use crate::registry::Outcome;
use crate::storage::Along;
use crate::user::MASTERS;
use crate::validation::{At, same};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: (&str, &str) = (GROUP, "certificatesigningrequests");
/// Signs what clients of the API show.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct CertificateApproval;
pub(super) struct CertificateSigning;
pub(super) struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateApproval {
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        _new: Option<&Doc>,
        old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let is_it = attempt.resource() == REQUESTS && attempt.subresource() == "approval";
        match old.filter(|_| is_it) {
            Some(old) => require(attempt, "approve", At::root(old)).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let is_it = attempt.resource() == REQUESTS && attempt.subresource() == "status";
        let (Some(new), Some(old), true) = (new, old, is_it) else {
            return Ok(());
        };
        let (new, old) = (At::root(new), At::root(old));
        let is_same = |key| same(new.get("status").get(key), old.get("status").get(key));
        match is_same("certificate") && is_same("conditions") {
            true => Ok(()),
            false => require(attempt, "sign", old).await,
        }
    }
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    async fn validate(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&Doc>,
        _old: Option<&Doc>,
        _along: &mut Along,
    ) -> Outcome<()> {
        let is_new =
            attempt.operation == Operation::Create && attempt.is_of(REQUESTS.0, REQUESTS.1);
        let Some(spec) = new.filter(|_| is_new).map(|new| At::root(new).get("spec")) else {
            return Ok(());
        };
        if spec.get("signerName").str() != CLIENT_SIGNER {
            return Ok(());
        }
        let subject = Subject::of(spec.get("request").str());
        let subject =
            subject.map_err(|why| attempt.forbidden(format!("failed to parse CSR: {why}")))?;
        if subject.organizations.iter().any(|group| group == MASTERS) {
            return Err(attempt.forbidden(format!(
                "use of {CLIENT_SIGNER} signer with system:masters group is not allowed"
            )));
        }
        Ok(())
    }
}

/// Requires that the user may do something with a signer, or with all of its domain.
async fn require(attempt: &Attempt<'_>, verb: &str, request: At<'_>) -> Outcome<()> {
    let signer = request.path(&["spec", "signerName"]).str();
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &*format!("{domain}/*")] {
        let wanted = Attributes {
            name,
            ..Attributes::resource(attempt.call.user, verb, GROUP, "signers")
        };
        if attempt
            .call
            .api
            .authorizer
            .authorize(&wanted)
            .await
            .is_allowed()
        {
            return Ok(());
        }
    }
    Err(attempt.forbidden(format!(
        "user not permitted to {verb} requests with signerName {signer:?}"
    )))
}

/// Whom a certificate is requested for.
pub(super) struct Subject {
    pub(super) common_name: String,
    organizations: Vec<String>,
}

impl Subject {
    /// Reads the request of a document.
    pub(super) fn of(encoded: &str) -> Result<Self, String> {
        let no_block = || "PEM block type must be CERTIFICATE REQUEST".to_string();
        let text = api::values::base64::decode(encoded).map_err(|_| no_block())?;
        let block = pem::blocks(&text).into_iter().next().ok_or_else(no_block)?;
        if block.kind != "CERTIFICATE REQUEST" {
            return Err(no_block());
        }
        let parsed = X509CertificationRequest::from_der(&block.bytes);
        let (_, request) = parsed.map_err(|error| error.to_string())?;
        let subject = &request.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().unwrap_or_default().to_string()
        };
        Ok(Self {
            common_name: subject
                .iter_common_name()
                .last()
                .map(text)
                .unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;
    use crate::user::User;

    fn request(common_name: &str, organization: &str) -> String {
        let mut params = rcgen::CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::CommonName, common_name);
        name.push(rcgen::DnType::OrganizationName, organization);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let mut text = String::new();
        api::values::base64::encode(pem.as_bytes(), &mut text);
        format!(
            r#"{{"metadata":{{"name":"r"}},"spec":{{"request":"{text}","signerName":"{CLIENT_SIGNER}","usages":["client auth"]}}}}"#
        )
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn signers_are_guarded() {
        let server = Server::start().await;
        let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        let refused = server.create(path, &request("a", "system:masters")).await;
        let of = "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden";
        let want =
            format!("{of}: use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
        assert_eq!(refused.refusal(), (403, &*want));
        server.create(path, &request("a", "devs")).await.ok();
        let approval =
            r#"{"status":{"conditions":[{"type":"Approved","status":"True","reason":"x"}]}}"#;
        let approval_path = format!("{path}/r/approval");
        let user = User::new("alice", &["devs"]);
        let refused = server
            .ask_as(&user, "PATCH", &approval_path, approval)
            .await;
        let want = format!(
            "{of}: user not permitted to approve requests with signerName \"{CLIENT_SIGNER}\""
        );
        assert_eq!(refused.refusal(), (403, &*want));
        server.ask("PATCH", &approval_path, approval).await.ok();
        let signed = r#"{"status":{"certificate":"YQ=="}}"#;
        let refused = server
            .ask_as(&user, "PATCH", &format!("{path}/r/status"), signed)
            .await;
        let want = format!(
            "{of}: user not permitted to sign requests with signerName \"{CLIENT_SIGNER}\""
        );
        assert!(matches!(refused.code, 403 | 422), "{}", refused.doc);
        if refused.code == 403 {
            assert_eq!(refused.refusal(), (403, &*want));
        }
    }
}

//! Stories of requests, told as upstream's tests tell them, and once against a real API server.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use rcgen::{CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use x509_parser::pem::Pem;

use super::authority::{Authority, SignError, Terms};
use super::request::{self, NotKubelet, check_kubelet_client, check_kubelet_serving};
use crate::manager::CONTROLLERS;
use crate::settings::{Settings, Signer};
use crate::testing::{Cluster, eventually};

pub(super) const NODE_USAGES: [&str; 2] = ["digital signature", "client auth"];

/// A request of a subject with names.
pub(super) fn pkcs10(name: &str, organization: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

pub(super) fn csr(signer: &str, usages: &[&str], request: &str) -> CertificateSigningRequest {
    let mut csr: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"signerName": signer, "usages": usages, "request": ""},
    }))
    .unwrap();
    csr.spec.request = ByteString(request.as_bytes().to_vec());
    csr
}

fn usages(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Certificate and key of an authority, as PEM.
fn authority() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "kubernetes");
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_kubelet_s_client_request_has_no_names_and_its_usages_alone() {
    let check = |name: &str, organization: &str, names: &[&str], used: &[&str]| {
        let parsed = request::parse(pkcs10(name, organization, names).as_bytes()).unwrap();
        check_kubelet_client(&parsed, &usages(used))
    };
    let node = "system:node:n";
    let with_rsa = ["key encipherment", "client auth", "digital signature"];
    assert_eq!(check(node, "system:nodes", &[], &NODE_USAGES), Ok(()));
    assert_eq!(check(node, "system:nodes", &[], &with_rsa), Ok(()));
    for (name, organization, names, used, why) in [
        (
            node,
            "system:masters",
            &[][..],
            &NODE_USAGES[..],
            NotKubelet::Organization,
        ),
        (
            "n",
            "system:nodes",
            &[],
            &NODE_USAGES,
            NotKubelet::CommonName,
        ),
        (
            node,
            "system:nodes",
            &["a.b"],
            &NODE_USAGES,
            NotKubelet::DnsNames,
        ),
        (
            node,
            "system:nodes",
            &["1.2.3.4"],
            &NODE_USAGES,
            NotKubelet::IpAddresses,
        ),
        (
            node,
            "system:nodes",
            &[],
            &["client auth"],
            NotKubelet::ClientUsages,
        ),
    ] {
        assert_eq!(check(name, organization, names, used), Err(why));
    }
    let text = NotKubelet::ClientUsages.to_string();
    assert_eq!(
        text,
        "usages did not match [client auth digital signature key encipherment]"
    );
}

#[test]
fn a_kubelet_s_serving_request_has_names() {
    let check = |names: &[&str], used: &[&str]| {
        let text = pkcs10("system:node:n", "system:nodes", names);
        let parsed = request::parse(text.as_bytes()).unwrap();
        check_kubelet_serving(&parsed, &usages(used))
    };
    let used = ["digital signature", "server auth"];
    assert_eq!(check(&["a.b", "10.0.0.1"], &used), Ok(()));
    assert_eq!(check(&[], &used), Err(NotKubelet::NoNames));
    assert_eq!(check(&["a.b"], &NODE_USAGES), Err(NotKubelet::ServerUsages));
}

#[test]
fn what_is_no_request_is_refused() {
    let refused = request::parse(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "PEM block type must be CERTIFICATE REQUEST"
    );
}

#[test]
fn a_certificate_says_what_was_asked_and_is_the_authority_s() {
    let (certificate, key) = authority();
    let signer = Authority::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    let text = pkcs10("jane", "dev", &["a.b", "10.0.0.1"]);
    let request = request::parse(text.as_bytes()).unwrap();
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let used = usages(&["client auth", "digital signature", "key encipherment"]);
    let terms = |life: SignedDuration| Terms {
        life,
        usages: &used,
        now,
        serial: [0xff; 16],
    };
    let made = signer
        .sign(&request, &terms(SignedDuration::from_hours(1)))
        .unwrap();
    let block = Pem::iter_from_buffer(made.as_bytes())
        .next()
        .unwrap()
        .unwrap();
    let parsed = block.parse_x509().unwrap();
    let ca = Pem::iter_from_buffer(certificate.as_bytes())
        .next()
        .unwrap()
        .unwrap();
    let ca = ca.parse_x509().unwrap();
    parsed.verify_signature(Some(ca.public_key())).unwrap();
    assert_eq!(parsed.subject().to_string(), "O=dev, CN=jane");
    assert_eq!(parsed.issuer(), ca.subject());
    let validity = parsed.validity();
    assert_eq!(validity.not_before.timestamp(), now.as_second() - 300);
    assert_eq!(validity.not_after.timestamp(), now.as_second() + 3600);
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth);
    assert!(!parsed.is_ca() && parsed.basic_constraints().unwrap().is_some());
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 2);

    // Long lives are backdated as a whole.
    let made = signer
        .sign(&request, &terms(SignedDuration::from_hours(24)))
        .unwrap();
    let block = Pem::iter_from_buffer(made.as_bytes())
        .next()
        .unwrap()
        .unwrap();
    let end = block.parse_x509().unwrap().validity().not_after.timestamp();
    assert_eq!(end, now.as_second() + 24 * 3600 - 300);

    let mut unsigned = request.clone();
    unsigned.is_signed = false;
    let refused = signer.sign(&unsigned, &terms(SignedDuration::from_hours(1)));
    assert_eq!(refused, Err(SignError::Signature));
    let odd = usages(&["soups"]);
    let refused = signer.sign(
        &request,
        &Terms {
            usages: &odd,
            ..terms(SignedDuration::from_hours(1))
        },
    );
    assert_eq!(refused, Err(SignError::Usages(odd.clone())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_its_certificate_and_a_wrong_request_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = authority();
    let files = Signer::new(dir.path().join("ca.crt"), dir.path().join("ca.key"));
    let cluster = Cluster::start().await;
    let disk = &cluster.seams.disk;
    disk.write_atomic(&files.certificate, certificate.as_bytes())
        .unwrap();
    disk.write_atomic(&files.key, key.as_bytes()).unwrap();
    let rows: Vec<_> = CONTROLLERS
        .iter()
        .filter(|row| row.identity == "certificate-controller")
        .copied()
        .collect();
    let settings = Settings {
        signer: Some(files),
        ..Settings::default()
    };
    cluster.run_with(&rows, settings);
    for role in [
        "system:node-bootstrapper",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
    ] {
        let binding = json!({
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers"}],
        });
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        cluster.server.create(path, &binding.to_string()).await.ok();
    }
    let joiner = apiserver::user::User::new("system:bootstrap:abcdef", &["system:bootstrappers"]);
    let ask = async |name: &str, request: String| {
        let mut body = csr(super::KUBE_APISERVER_CLIENT_KUBELET, &NODE_USAGES, &request);
        body.metadata.name = Some(name.into());
        body.metadata.creation_timestamp = None;
        let body = serde_json::to_string(&body).unwrap();
        let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        cluster
            .server
            .ask_as(&joiner, "POST", path, &body)
            .await
            .ok();
    };
    ask("good", pkcs10("system:node:n1", "system:nodes", &[])).await;
    ask("bad", pkcs10("system:node:n1", "system:nodes", &["a.b"])).await;
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.admin.clone());
    let signed = eventually("the certificate is there", async || {
        let found = requests.get("good").await.unwrap();
        super::issued(&found).is_some().then_some(found)
    })
    .await;
    let condition = &super::conditions(&signed)[0];
    assert_eq!(condition.reason.as_deref(), Some("AutoApproved"));
    assert_eq!(
        condition.message.as_deref(),
        Some("Auto approving kubelet client certificate after SubjectAccessReview.")
    );
    // The other one is not recognised; approved by hand, it fails.
    let bad = requests.get("bad").await.unwrap();
    assert_eq!(super::conditions(&bad), []);
    let patch: Value = json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "Me", "message": "me"}]}});
    requests
        .patch_subresource(
            "approval",
            "bad",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(&patch),
        )
        .await
        .unwrap();
    let failed = eventually("the request has failed", async || {
        let found = requests.get("bad").await.unwrap();
        super::has_true_condition(&found, super::FAILED).then_some(found)
    })
    .await;
    let condition = super::conditions(&failed)
        .iter()
        .find(|one| one.type_ == super::FAILED);
    let condition = condition.unwrap();
    assert_eq!(condition.reason.as_deref(), Some("SignerValidationFailure"));
    assert_eq!(
        condition.message.as_deref(),
        Some("DNS subjectAltNames are not allowed")
    );
}

//! What a PKCS#10 request asks for, and whether it is one that a kubelet makes.

use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Why the bytes are no request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum RequestError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Block,
    #[error("{0}")]
    Content(String),
}

/// A parsed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) email_addresses: Vec<String>,
    /// Four or sixteen bytes each.
    pub(super) ip_addresses: Vec<Vec<u8>>,
    pub(super) uris: Vec<String>,
    /// The subject's DER, which goes into the certificate as it is.
    pub(super) subject: Vec<u8>,
    /// The DER of the SubjectPublicKeyInfo.
    pub(super) public_key: Vec<u8>,
    /// Whether the one who asks holds the key.
    pub(super) is_signed: bool,
}

/// Reads the first PEM block.
pub(super) fn parse(pem: &[u8]) -> Result<Request, RequestError> {
    let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
    let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or(RequestError::Block)?;
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| RequestError::Content(error.to_string()))?;
    let info = &parsed.certification_request_info;
    let mut request = Request {
        common_name: texts(info.subject.iter_common_name())
            .pop()
            .unwrap_or_default(),
        organizations: organizations(&info.subject),
        dns_names: Vec::new(),
        email_addresses: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        subject: info.subject.as_raw().to_vec(),
        public_key: info.subject_pki.raw.to_vec(),
        is_signed: parsed.verify_signature().is_ok(),
    };
    for extension in parsed.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    request.add(name)?;
                }
            }
            // What cannot be read must not look like a request without names.
            ParsedExtension::ParseError { error } => {
                return Err(RequestError::Content(error.to_string()));
            }
            _ => {}
        }
    }
    Ok(request)
}

impl Request {
    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), RequestError> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_string()),
            GeneralName::RFC822Name(name) => self.email_addresses.push((*name).to_string()),
            GeneralName::URI(name) => self.uris.push((*name).to_string()),
            GeneralName::IPAddress(bytes) if matches!(bytes.len(), 4 | 16) => {
                self.ip_addresses.push(bytes.to_vec());
            }
            GeneralName::IPAddress(bytes) => {
                let length = bytes.len();
                return Err(RequestError::Content(format!(
                    "x509: cannot parse IP address of length {length}"
                )));
            }
            GeneralName::Invalid(..) => {
                return Err(RequestError::Content(
                    "x509: invalid subject alternative names".into(),
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

fn organizations(subject: &X509Name<'_>) -> Vec<String> {
    texts(subject.iter_organization())
}

fn texts<'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Vec<String> {
    let text = |attribute: &AttributeTypeAndValue<'_>| {
        String::from_utf8_lossy(attribute.as_slice()).into_owned()
    };
    attributes.map(text).collect()
}

/// Why a request is not one of a kubelet. The texts are those of the condition that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum NotKubelet {
    #[error("subject organization is not system:nodes")]
    Organization,
    #[error("subject common name does not begin with system:node:")]
    CommonName,
    #[error("DNS or IP subjectAltName is required")]
    NoNames,
    #[error("DNS subjectAltNames are not allowed")]
    DnsNames,
    #[error("Email subjectAltNames are not allowed")]
    EmailAddresses,
    #[error("IP subjectAltNames are not allowed")]
    IpAddresses,
    #[error("URI subjectAltNames are not allowed")]
    Uris,
    #[error("usages did not match [client auth digital signature key encipherment]")]
    ClientUsages,
    #[error("usages did not match [digital signature key encipherment server auth]")]
    ServerUsages,
}

/// Whether this asks for the certificate with which a kubelet serves.
pub(super) fn check_kubelet_serving(
    request: &Request,
    usages: &[String],
) -> Result<(), NotKubelet> {
    let refuse = |when: bool, why: NotKubelet| if when { Err(why) } else { Ok(()) };
    refuse(
        request.organizations != ["system:nodes"],
        NotKubelet::Organization,
    )?;
    let is_nameless = request.dns_names.is_empty() && request.ip_addresses.is_empty();
    refuse(is_nameless, NotKubelet::NoNames)?;
    refuse(
        !request.email_addresses.is_empty(),
        NotKubelet::EmailAddresses,
    )?;
    refuse(!request.uris.is_empty(), NotKubelet::Uris)?;
    refuse(
        !are_kubelet_usages(usages, "server auth"),
        NotKubelet::ServerUsages,
    )?;
    refuse(
        !request.common_name.starts_with("system:node:"),
        NotKubelet::CommonName,
    )
}

/// Whether this asks for the certificate with which a kubelet connects.
pub(super) fn check_kubelet_client(request: &Request, usages: &[String]) -> Result<(), NotKubelet> {
    let refuse = |when: bool, why: NotKubelet| if when { Err(why) } else { Ok(()) };
    refuse(
        request.organizations != ["system:nodes"],
        NotKubelet::Organization,
    )?;
    refuse(!request.dns_names.is_empty(), NotKubelet::DnsNames)?;
    refuse(
        !request.email_addresses.is_empty(),
        NotKubelet::EmailAddresses,
    )?;
    refuse(!request.ip_addresses.is_empty(), NotKubelet::IpAddresses)?;
    refuse(!request.uris.is_empty(), NotKubelet::Uris)?;
    refuse(
        !request.common_name.starts_with("system:node:"),
        NotKubelet::CommonName,
    )?;
    refuse(
        !are_kubelet_usages(usages, "client auth"),
        NotKubelet::ClientUsages,
    )
}

/// A signature and the purpose; key encipherment is for RSA keys and optional.
fn are_kubelet_usages(usages: &[String], purpose: &str) -> bool {
    let has = |usage: &str| usages.iter().any(|found| found == usage);
    let is_known = |usage: &String| usage == purpose || SIGNATURE_USAGES.contains(&usage.as_str());
    has("digital signature") && has(purpose) && usages.iter().all(is_known)
}

const SIGNATURE_USAGES: [&str; 2] = ["digital signature", "key encipherment"];

//! Certificates: authorities that are made once, and leaf certificates that are made once and
//! renewed in place.
//!
//! Everything is a PEM file. Keys are readable by their owner alone. Nothing that exists is ever
//! overwritten, but for the certificate of a pair that [`Authority::renew`] renews: it keeps the
//! key, so that one atomic rename is the whole change and a server that reloads meanwhile sees
//! either the old certificate or the new one.

pub mod ledger;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use seams::{RealRng, Rng};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use crate::files;

/// The names of the API within the cluster.
pub(crate) const API_NAMES: [&str; 6] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster",
    "kubernetes.default.svc.cluster.local",
    "10.96.0.1",
];

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long an authority lives.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// How long a certificate lives unless the request says otherwise.
pub const LEAF_LIFE: Duration = Duration::from_secs(365 * DAY.as_secs());

/// Certificates are valid from so long ago, since clocks of machines differ.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Why a certificate could not be made or read.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// `read`, `write` or `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One file of a pair is there without the other.
    #[error(
        "{present} is there and {missing} is not: bring back the missing file, or remove the other \
         to have both made anew"
    )]
    Half {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{path} cannot be used: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A certificate could not be made from a request.
    #[error("cannot make the certificate of `{subject}`")]
    Issue {
        /// Its common name.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Usage {
    /// To serve.
    Server,
    /// To connect.
    Client,
    /// Both, as peers do.
    Peer,
}

/// What to certify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Request {
    /// Who it is.
    pub common_name: String,
    /// Groups it belongs to.
    pub organizations: Vec<String>,
    /// DNS names and addresses under which it is reached.
    pub names: Vec<String>,
    /// What the certificate may be used for.
    pub usage: Usage,
    /// How long it is valid; [`LEAF_LIFE`] is usual.
    pub life: Duration,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Pair {
    /// `DIR/NAME.crt` and `DIR/NAME.key`.
    pub fn at(dir: &Path, name: &str) -> Pair {
        Pair {
            cert: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
        }
    }

    /// Whether both files are there.
    fn exists(&self) -> Result<bool, PkiError> {
        let half = |present: &Path, missing: &Path| PkiError::Half {
            present: present.to_path_buf(),
            missing: missing.to_path_buf(),
        };
        match (self.cert.exists(), self.key.exists()) {
            (true, true) => Ok(true),
            (false, false) => Ok(false),
            (true, false) => Err(half(&self.cert, &self.key)),
            (false, true) => Err(half(&self.key, &self.cert)),
        }
    }

    /// Writes the key first: a certificate never stands without its key.
    fn create(&self, certificate: &str, key: &str) -> Result<(), PkiError> {
        let write = |path: &Path, pem: &str, mode| {
            files::create(path, pem.as_bytes(), mode).map_err(|e| file_error("create", path, e))
        };
        write(&self.key, key, files::SECRET)?;
        write(&self.cert, certificate, files::PUBLIC)
    }

    /// The key, once it is known to be that of the certificate.
    fn load_key(&self) -> Result<KeyPair, PkiError> {
        let key = KeyPair::from_pem(&read(&self.key)?)
            .map_err(|error| content_error(&self.key, error.to_string()))?;
        let public = with_certificate(&self.cert, |certificate| {
            certificate.public_key().subject_public_key.data.to_vec()
        })?;
        if public != key.public_key_raw() {
            let message = format!("it is not the key of {}", self.cert.display());
            return Err(content_error(&self.key, message));
        }
        Ok(key)
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub from: SystemTime,
    /// Until when.
    pub until: SystemTime,
}

impl Validity {
    /// Reads it from a PEM file.
    ///
    /// # Errors
    /// If the file cannot be read or holds no certificate.
    pub fn of(certificate: &Path) -> Result<Validity, PkiError> {
        with_certificate(certificate, Validity::read)
    }

    /// Reads it from DER, as servers show their certificates.
    ///
    /// # Errors
    /// Text saying that it is no certificate.
    pub fn of_der(der: &[u8]) -> Result<Validity, String> {
        let parsed = X509Certificate::from_der(der);
        let (_, certificate) = parsed.map_err(|error| error.to_string())?;
        Ok(Validity::read(&certificate))
    }

    fn read(certificate: &X509Certificate<'_>) -> Validity {
        let at = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        let validity = certificate.validity();
        Validity {
            from: at(validity.not_before.timestamp()),
            until: at(validity.not_after.timestamp()),
        }
    }

    /// Whether so little of the life is left that renewing must have failed: it is due at a third.
    pub fn is_overdue(&self, now: SystemTime) -> bool {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.until.duration_since(now).unwrap_or_default() < life / 10
    }

    /// Whether less than a third of the life is left: enough for several attempts to renew.
    pub fn is_due(&self, now: SystemTime) -> bool {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.until.duration_since(now).unwrap_or_default() < life / 3
    }
}

/// A certificate authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    files: Pair,
}

impl Authority {
    /// Opens the authority in `DIR/NAME.crt` and `DIR/NAME.key`, which is made if it is not there.
    ///
    /// # Errors
    /// If the directory cannot be used, or the files there are not an authority and its key.
    pub fn open_or_create(
        dir: &Path,
        name: &str,
        common_name: &str,
    ) -> Result<Authority, PkiError> {
        files::private_dir(dir).map_err(|error| file_error("create", dir, error))?;
        let files = Pair::at(dir, name);
        if !files.exists()? {
            let (certificate, key) =
                new_authority(common_name).map_err(|source| PkiError::Issue {
                    subject: common_name.into(),
                    source,
                })?;
            files.create(&certificate, &key)?;
        }
        Authority::open(files)
    }

    /// Opens an authority that exists.
    ///
    /// # Errors
    /// If the files cannot be read or are not an authority and its key.
    pub fn open(files: Pair) -> Result<Authority, PkiError> {
        let key = files.load_key()?;
        if !with_certificate(&files.cert, |certificate| certificate.is_ca())? {
            return Err(content_error(
                &files.cert,
                "it is not an authority's certificate".into(),
            ));
        }
        let issuer = Issuer::from_ca_cert_pem(&read(&files.cert)?, key)
            .map_err(|error| content_error(&files.cert, error.to_string()))?;
        Ok(Authority { issuer, files })
    }

    /// The file with the authority's certificate.
    pub fn certificate(&self) -> &Path {
        &self.files.cert
    }

    /// Makes the certificate `DIR/NAME.crt` and its key `DIR/NAME.key` unless they are there.
    ///
    /// # Errors
    /// If they cannot be made, or only one of the two files is there.
    pub fn ensure(&self, dir: &Path, name: &str, request: &Request) -> Result<Pair, PkiError> {
        files::private_dir(dir).map_err(|error| file_error("create", dir, error))?;
        let files = Pair::at(dir, name);
        if !files.exists()? {
            let issue = |source| PkiError::Issue {
                subject: request.common_name.clone(),
                source,
            };
            let key = KeyPair::generate().map_err(issue)?;
            let certificate = self.issue(request, &key)?;
            files.create(&certificate, &key.serialize_pem())?;
        }
        Ok(files)
    }

    /// Renews the certificate of a pair if it is due at `now` or lacks a name; the key stays.
    ///
    /// Returns whether it was renewed.
    ///
    /// # Errors
    /// If the pair cannot be read or the certificate cannot be replaced.
    pub fn renew(&self, pair: &Pair, request: &Request, now: SystemTime) -> Result<bool, PkiError> {
        let has_all = with_certificate(&pair.cert, |certificate| names_all(certificate, request))?;
        if has_all && !Validity::of(&pair.cert)?.is_due(now) {
            return Ok(false);
        }
        let certificate = self.issue(request, &pair.load_key()?)?;
        files::replace(&pair.cert, certificate.as_bytes(), files::PUBLIC)
            .map_err(|error| file_error("write", &pair.cert, error))?;
        Ok(true)
    }

    /// A certificate of this authority, as PEM.
    fn issue(&self, request: &Request, key: &KeyPair) -> Result<String, PkiError> {
        let made = || {
            let mut params = CertificateParams::new(request.names.clone())?;
            params.distinguished_name = subject(&request.common_name, &request.organizations);
            set_life(&mut params, request.life);
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = match request.usage {
                Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
                Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
                Usage::Peer => {
                    vec![
                        ExtendedKeyUsagePurpose::ServerAuth,
                        ExtendedKeyUsagePurpose::ClientAuth,
                    ]
                }
            };
            Ok(params.signed_by(key, &self.issuer)?.pem())
        };
        made().map_err(|source| PkiError::Issue {
            subject: request.common_name.clone(),
            source,
        })
    }
}

/// A node's new key, and the request for its certificate, as PEM.
pub struct NodeKey {
    /// The private key.
    pub key: String,
    /// The request.
    pub request: String,
}

impl NodeKey {
    /// Makes a key for a node.
    ///
    /// # Errors
    /// If that fails.
    pub fn generate(node: &str) -> Result<NodeKey, PkiError> {
        let common_name = format!("system:node:{node}");
        let made = || {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.distinguished_name = subject(&common_name, &["system:nodes".into()]);
            let request = params.serialize_request(&key)?.pem()?;
            Ok(NodeKey {
                key: key.serialize_pem(),
                request,
            })
        };
        made().map_err(|source| PkiError::Issue {
            subject: common_name.clone(),
            source,
        })
    }
}

/// Makes a private key unless it is there.
///
/// # Errors
/// If it cannot be made or written.
pub fn ensure_key(path: &Path) -> Result<(), PkiError> {
    if path.exists() {
        return Ok(());
    }
    let key = KeyPair::generate().map_err(|source| PkiError::Issue {
        subject: path.display().to_string(),
        source,
    })?;
    files::create(path, key.serialize_pem().as_bytes(), files::SECRET)
        .map_err(|error| file_error("create", path, error))
}

/// Whether a certificate stands for all names that are asked for.
fn names_all(certificate: &X509Certificate<'_>, request: &Request) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let has = |name: &String| match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => names.contains(&GeneralName::IPAddress(&v4.octets())),
        Ok(IpAddr::V6(v6)) => names.contains(&GeneralName::IPAddress(&v6.octets())),
        Err(_) => names.contains(&GeneralName::DNSName(name)),
    };
    request.names.iter().all(has)
}

/// Certificate and key of a new authority, as PEM.
fn new_authority(common_name: &str) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name, &[]);
    set_life(&mut params, AUTHORITY_LIFE);
    // It signs leaves only: a leaked intermediate cannot be made from it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn subject(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets validity and a serial number of its own: a renewed certificate keeps its key, from which
/// the number would otherwise be derived.
fn set_life(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::from(SystemTime::now());
    params.not_before = now - BACKDATE;
    params.not_after = now + life;
    let mut serial = [
        RealRng.next_u64().to_be_bytes(),
        RealRng.next_u64().to_be_bytes(),
    ]
    .concat();
    // Positive and without a leading zero byte, whatever was drawn.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

fn with_certificate<T>(
    path: &Path,
    look: impl FnOnce(&X509Certificate<'_>) -> T,
) -> Result<T, PkiError> {
    let text = read(path)?;
    let no_certificate = |error: String| content_error(path, error);
    let (_, pem) = parse_x509_pem(text.as_bytes()).map_err(|e| no_certificate(e.to_string()))?;
    let certificate = pem
        .parse_x509()
        .map_err(|e| no_certificate(e.to_string()))?;
    Ok(look(&certificate))
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|error| file_error("read", path, error))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> PkiError {
    PkiError::File {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn content_error(path: &Path, message: String) -> PkiError {
    PkiError::Content {
        path: path.to_path_buf(),
        message,
    }
}

#[cfg(test)]
mod tests;

//! Client certificates: the handshake takes any, authentication verifies them request by request, so
//! that an expired one is an answer of 401 and not a broken connection.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use seams::{Disk, Tasks};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use x509_parser::oid_registry::asn1_rs::{Oid, oid};
use x509_parser::prelude::X509Certificate;

use super::{CREDENTIAL_ID, Found, Identity};
use crate::user::User;

/// The attribute of a subject that is the user's UID.
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// How often the file of authorities is compared with what was loaded.
const RELOAD_INTERVAL: Duration = Duration::from_secs(3);
/// How long a certificate that was verified is believed without another look: verifying one costs more
/// than most requests.
const BELIEVED: Duration = Duration::from_secs(10);
/// Certificates that are believed at once; beyond, all are looked at anew.
const BELIEVED_MAX: usize = 4096;

/// Authorities that certificates are verified against. They may be replaced at any time.
pub struct Trust {
    verifier: ArcSwapOption<Arc<dyn ClientCertVerifier>>,
    /// Who was verified, until when, by the digest of the certificate.
    believed: Mutex<HashMap<Digest, (SystemTime, Identity)>>,
}

type Digest = [u8; 32];

impl Trust {
    /// The authorities of a PEM file.
    ///
    /// # Errors
    ///
    /// If there is none, or one is malformed.
    pub fn new(pem: &[u8]) -> Result<Self, String> {
        let trust = Self {
            verifier: ArcSwapOption::empty(),
            believed: Mutex::default(),
        };
        trust.replace(pem)?;
        Ok(trust)
    }

    /// From now on other authorities count.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; the old ones stay.
    pub fn replace(&self, pem: &[u8]) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        self.verifier.store(Some(Arc::new(verifier)));
        self.believed().clear();
        Ok(())
    }

    /// Reads the authorities again whenever their file changes, until the tasks end.
    pub fn watch(self: &Arc<Self>, path: PathBuf, disk: Arc<dyn Disk>, tasks: &Tasks) {
        let (trust, owner) = (self.clone(), tasks.clone());
        tasks.spawn("client-ca-reload", async move {
            let mut loaded = disk.read(&path).ok();
            loop {
                tokio::select! {
                    () = sleep(RELOAD_INTERVAL) => {}
                    () = owner.cancelled() => return,
                }
                let found = disk.read(&path).ok();
                if found.is_none() || found == loaded {
                    continue;
                }
                if let Some(Err(error)) = found.as_deref().map(|pem| trust.replace(pem)) {
                    let path = path.display();
                    tracing::warn!(%path, error, "the new authorities cannot be used, the old ones stay");
                }
                loaded = found;
            }
        });
    }

    fn believed(&self) -> MutexGuard<'_, HashMap<Digest, (SystemTime, Identity)>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who was verified a moment ago.
    fn recall(&self, digest: &Digest, now: SystemTime) -> Option<Identity> {
        let believed = self.believed();
        let (until, identity) = believed.get(digest)?;
        (now < *until).then(|| identity.clone())
    }

    fn believe(&self, digest: Digest, until: SystemTime, identity: &Identity) {
        let mut believed = self.believed();
        if believed.len() >= BELIEVED_MAX {
            believed.clear();
        }
        believed.insert(digest, (until, identity.clone()));
    }

    /// Verifies a chain, the client's own certificate first, at a point in time.
    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<(), String> {
        let verifier = self.verifier.load();
        let (Some((leaf, intermediates)), Some(verifier)) = (chain.split_first(), &*verifier)
        else {
            return Err("no certificate".to_string());
        };
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO));
        let verified = verifier.verify_client_cert(leaf, intermediates, now);
        verified.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Who a client certificate says that its owner is.
pub(super) fn authenticate(
    trust: &Trust,
    chain: &[CertificateDer<'static>],
    now: SystemTime,
) -> Found {
    let Some(leaf) = chain.first() else {
        return Ok(None);
    };
    let digest: Digest = Sha256::digest(leaf).into();
    if let Some(identity) = trust.recall(&digest, now) {
        return Ok(Some(identity));
    }
    let (_, certificate) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
    trust.verify(chain, now).map_err(|error| {
        let serial = &certificate.tbs_certificate.serial;
        format!("verifying certificate SN={serial} failed: {error}")
    })?;
    let Some(name) = common_name(&certificate) else {
        return Ok(None);
    };
    let groups = certificate.subject().iter_organization();
    let mut user = User {
        name,
        uid: uid(&certificate)?,
        groups: groups
            .filter_map(|o| o.as_str().ok().map(str::to_string))
            .collect(),
        ..User::default()
    };
    let id = format!("X509SHA256={}", hex::encode(digest));
    user.extra.insert(CREDENTIAL_ID.to_string(), vec![id]);
    let identity = Identity::of(user);
    let end = certificate.validity().not_after.timestamp();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or_default());
    trust.believe(digest, end.min(now + BELIEVED), &identity);
    Ok(Some(identity))
}

/// The last of a subject's common names that is not empty, as Go reads it.
pub(super) fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject().iter_common_name();
    let name = names.filter_map(|name| name.as_str().ok()).last()?;
    (!name.is_empty()).then(|| name.to_string())
}

fn uid(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let mut uids = Vec::new();
    for attribute in certificate.subject().iter_by_oid(&UID) {
        let text = attribute.as_str();
        uids.push(text.map_err(|_| "unable to parse UID into a string".to_string())?);
    }
    match &uids[..] {
        [] => Ok(String::new()),
        [""] => Err("UID cannot be an empty string".to_string()),
        [uid] => Ok((*uid).to_string()),
        uids => Err(format!(
            "expected 1 UID, but found multiple: [{}]",
            uids.join(" ")
        )),
    }
}

/// For the TLS listener: asks for a certificate without insisting, and checks only that the client
/// holds its key.
#[derive(Debug)]
pub struct AnyClientCertificate {
    provider: CryptoProvider,
}

impl AnyClientCertificate {
    /// With the algorithms of the server's provider.
    pub fn new() -> Self {
        Self {
            provider: ring::default_provider(),
        }
    }
}

impl Default for AnyClientCertificate {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

//! TLS of the server: certificates reloaded when they change, clients' certificates left to
//! authentication, which looks at them when a request comes and not when a connection begins.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use seams::{Disk, Tasks};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::authentication::certificate::AnyClientCertificate;

/// How often the files are compared with what was loaded.
const RELOAD_INTERVAL: Duration = Duration::from_secs(3);

/// The certificate that the server shows.
#[derive(Clone)]
pub struct Tls {
    files: Arc<(PathBuf, PathBuf)>,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Loads certificate chain and key.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used.
    pub fn load(cert: &Path, key: &Path, disk: &dyn Disk) -> io::Result<Self> {
        let config = config(&disk.read(cert)?, &disk.read(key)?)?;
        Ok(Self {
            files: Arc::new((cert.to_path_buf(), key.to_path_buf())),
            current: Arc::new(ArcSwap::from_pointee(config)),
        })
    }

    /// Who accepts connections with the current certificate.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Reloads the files whenever they change, until the tasks end.
    pub fn watch(&self, disk: Arc<dyn Disk>, tasks: &Tasks) {
        let (tls, owner) = (self.clone(), tasks.clone());
        tasks.spawn("tls-reload", async move {
            let mut loaded = tls.read(&*disk).ok();
            loop {
                tokio::select! {
                    () = sleep(RELOAD_INTERVAL) => {}
                    () = owner.cancelled() => return,
                }
                let found = tls.read(&*disk).ok();
                if found.is_none() || found == loaded {
                    continue;
                }
                if let Some((cert, key)) = &found {
                    match config(cert, key) {
                        Ok(config) => tls.current.store(Arc::new(config)),
                        Err(error) => {
                            tracing::warn!(%error, "the new certificate cannot be used, the old one stays");
                        }
                    }
                }
                loaded = found;
            }
        });
    }

    fn read(&self, disk: &dyn Disk) -> io::Result<(Vec<u8>, Vec<u8>)> {
        Ok((disk.read(&self.files.0)?, disk.read(&self.files.1)?))
    }
}

fn config(cert: &[u8], key: &[u8]) -> io::Result<ServerConfig> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|error| invalid(format!("certificate: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(key);
    let key = key.map_err(|error| invalid(format!("private key: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(error.to_string()))?
        .with_client_cert_verifier(Arc::new(AnyClientCertificate::new()))
        .with_single_cert(chain, key)
        .map_err(|error| invalid(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

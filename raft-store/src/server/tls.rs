//! TLS for clients and peers: mutual by default, and its files are reloaded when they change.
//!
//! [`ServerTls`] accepts, [`ClientTls`] connects. Both hold their current rustls configuration
//! behind an atomic pointer: a reload swaps it, and connections that exist keep theirs. Files are
//! compared by content, so that a renewal by rename, by symlink or in place is noticed alike. A
//! file set that cannot be used (half written, key and certificate of different pairs) is logged
//! once, counted, and the old one stays in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use seams::{BoxedStream, Disk, Tasks};
use thiserror::Error;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::metrics::{Metrics, TlsReload};

/// How often files are compared with what was loaded.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(3);

/// A handshake that takes longer is given up, so that a silent client holds no slot.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why TLS could not be set up. The source says what is wrong with the named file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A file holds no usable PEM.
    #[error("{} is not a PEM file with a {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The key does not belong to the certificate, or either is not acceptable.
    #[error("{} and its key cannot be used", path.display())]
    Certificate {
        /// The certificate file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The CA file cannot be used to verify the other side.
    #[error("{} cannot be used to verify the other side: {reason}", path.display())]
    Authority {
        /// The CA file.
        path: PathBuf,
        /// What rustls said.
        reason: String,
    },
}

/// The files of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs whose client certificates are accepted; none accepts clients without a certificate.
    pub client_ca: Option<PathBuf>,
    /// With a CA: let clients in that show no certificate at all.
    pub client_cert_optional: bool,
}

/// The files of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The CAs that vouch for servers.
    pub ca: PathBuf,
    /// Certificate chain and private key to show to servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name expected in the server's certificate; the host of the address if none.
    pub server_name: Option<String>,
}

/// Accepts TLS connections with the current files.
#[derive(Clone)]
pub struct ServerTls {
    files: Arc<ServerFiles>,
    current: Arc<ArcSwap<ServerConfig>>,
}

/// Opens TLS connections with the current files.
#[derive(Clone)]
pub struct ClientTls {
    files: Arc<ClientFiles>,
    current: Arc<ArcSwap<ClientConfig>>,
}

impl ServerTls {
    /// Loads the files; offers HTTP/2 and HTTP/1.1.
    pub fn load(files: ServerFiles, disk: &dyn Disk) -> Result<ServerTls, TlsError> {
        let config = server_config(&files, disk)?;
        let current = Arc::new(ArcSwap::from_pointee(config));
        Ok(ServerTls {
            files: Arc::new(files),
            current,
        })
    }

    /// Reloads the files whenever they change, until the tasks end.
    pub fn watch(&self, disk: Arc<dyn Disk>, metrics: Arc<Metrics>, tasks: &Tasks) {
        let (files, current) = (self.files.clone(), self.current.clone());
        let mut paths = vec![files.cert.clone(), files.key.clone()];
        paths.extend(files.client_ca.clone());
        let reload = move |disk: &dyn Disk| -> Result<(), TlsError> {
            current.store(Arc::new(server_config(&files, disk)?));
            Ok(())
        };
        watch_files("server", paths, disk, metrics, tasks, reload);
    }

    /// The handshake of an accepted connection, within [`HANDSHAKE_TIMEOUT`].
    pub async fn accept(
        &self,
        stream: BoxedStream,
    ) -> io::Result<tokio_rustls::server::TlsStream<BoxedStream>> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await?
    }
}

impl ClientTls {
    /// Loads the files; speaks HTTP/2.
    pub fn load(files: ClientFiles, disk: &dyn Disk) -> Result<ClientTls, TlsError> {
        let config = client_config(&files, disk)?;
        let current = Arc::new(ArcSwap::from_pointee(config));
        Ok(ClientTls {
            files: Arc::new(files),
            current,
        })
    }

    /// Reloads the files whenever they change, until the tasks end.
    pub fn watch(&self, disk: Arc<dyn Disk>, metrics: Arc<Metrics>, tasks: &Tasks) {
        let (files, current) = (self.files.clone(), self.current.clone());
        let mut paths = vec![files.ca.clone()];
        if let Some((cert, key)) = &files.identity {
            paths.extend([cert.clone(), key.clone()]);
        }
        let reload = move |disk: &dyn Disk| -> Result<(), TlsError> {
            current.store(Arc::new(client_config(&files, disk)?));
            Ok(())
        };
        watch_files("client", paths, disk, metrics, tasks, reload);
    }

    /// The handshake on a connected stream with the server at `host`, within
    /// [`HANDSHAKE_TIMEOUT`].
    pub async fn connect(&self, host: &str, stream: BoxedStream) -> io::Result<BoxedStream> {
        let name = self.files.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(self.current.load_full());
        let stream =
            tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await??;
        Ok(Box::new(stream))
    }
}

fn server_config(files: &ServerFiles, disk: &dyn Disk) -> Result<ServerConfig, TlsError> {
    let (chain, key) = identity(&files.cert, &files.key, disk)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| certificate_error(&files.cert, source))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(authorities(ca, disk)?, provider());
            let verifier = if files.client_cert_optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier
                .build()
                .map_err(|error| authority_error(ca, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|source| certificate_error(&files.cert, source))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn client_config(files: &ClientFiles, disk: &dyn Disk) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| certificate_error(&files.ca, source))?
        .with_root_certificates(authorities(&files.ca, disk)?);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let (chain, private) = identity(cert, key, disk)?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|source| certificate_error(cert, source))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Connections live long; a resumed session would also outlive a changed certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Named so that the choice does not depend on what else is linked into the program.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn identity(
    cert: &Path,
    key: &Path,
    disk: &dyn Disk,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(cert, disk)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key, disk)?).map_err(|_| TlsError::Pem {
        path: key.to_owned(),
        what: "private key",
    })?;
    Ok((chain, private))
}

fn authorities(ca: &Path, disk: &dyn Disk) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, disk)? {
        roots
            .add(certificate)
            .map_err(|source| certificate_error(ca, source))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path, disk: &dyn Disk) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, disk)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Pem {
            path: path.to_owned(),
            what: "certificate",
        }),
    }
}

fn read(path: &Path, disk: &dyn Disk) -> Result<Vec<u8>, TlsError> {
    disk.read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificate_error(path: &Path, source: rustls::Error) -> TlsError {
    TlsError::Certificate {
        path: path.to_owned(),
        source,
    }
}

fn authority_error(path: &Path, error: &dyn std::error::Error) -> TlsError {
    TlsError::Authority {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// Compares the files with what was seen last and runs `reload` when they differ.
fn watch_files(
    side: &'static str,
    paths: Vec<PathBuf>,
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
    tasks: &Tasks,
    reload: impl Fn(&dyn Disk) -> Result<(), TlsError> + Send + Sync + 'static,
) {
    let owner = tasks.clone();
    let reload = Arc::new(reload);
    tasks.spawn("tls-reload", async move {
        let mut seen = contents(&owner, &disk, &paths).await;
        // What was loaded before this task began may already be older than what it has seen.
        let mut first = true;
        while !owner.is_cancelled() {
            let now = contents(&owner, &disk, &paths).await;
            if now != seen || first {
                (seen, first) = (now, false);
                let (disk, reload) = (disk.clone(), reload.clone());
                let result = owner.blocking(move || reload(&*disk)).await;
                let outcome = log_reload(side, &paths, result);
                metrics
                    .tls_reloads
                    .get_or_create(&TlsReload {
                        side,
                        result: outcome,
                    })
                    .inc();
            }
            tokio::select! {
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                () = owner.cancelled() => return,
            }
        }
    });
}

fn log_reload(side: &str, paths: &[PathBuf], result: Result<(), TlsError>) -> &'static str {
    match result {
        Ok(()) => {
            tracing::info!(side, files = ?paths, "TLS files loaded");
            "loaded"
        }
        Err(error) => {
            let reason = crate::server::chain(&error);
            tracing::error!(side, %reason, "new TLS files cannot be used; the old ones stay in use");
            "failed"
        }
    }
}

/// The files' contents; none for one that cannot be read now.
async fn contents(tasks: &Tasks, disk: &Arc<dyn Disk>, paths: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    let (disk, paths) = (disk.clone(), paths.to_vec());
    tasks
        .blocking(move || paths.iter().map(|path| disk.read(path).ok()).collect())
        .await
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use seams::{Net, RealDisk, RealNet, Seams};
    use std::error::Error as _;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A CA and the directory in which it leaves certificates.
    struct Pki {
        dir: TempDir,
        ca: CertifiedIssuer<'static, KeyPair>,
    }

    impl Pki {
        fn new() -> Pki {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let pki = Pki {
                dir: TempDir::new().unwrap(),
                ca,
            };
            pki.put("ca.pem", &pki.ca.pem());
            pki
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn put(&self, name: &str, text: &str) {
            RealDisk
                .write_atomic(&self.path(name), text.as_bytes())
                .unwrap();
        }

        fn issue(&self, name: &str) {
            let key = KeyPair::generate().unwrap();
            let params =
                CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
            let cert = params.signed_by(&key, &self.ca).unwrap();
            self.put(&format!("{name}.pem"), &cert.pem());
            self.put(&format!("{name}.key"), &key.serialize_pem());
        }

        fn server(&self) -> ServerFiles {
            ServerFiles {
                cert: self.path("server.pem"),
                key: self.path("server.key"),
                client_ca: Some(self.path("ca.pem")),
                client_cert_optional: false,
            }
        }

        fn client(&self, identity: bool) -> ClientTls {
            let identity = identity.then(|| (self.path("client.pem"), self.path("client.key")));
            let files = ClientFiles {
                ca: self.path("ca.pem"),
                identity,
                server_name: None,
            };
            ClientTls::load(files, &RealDisk).unwrap()
        }
    }

    fn pki() -> Pki {
        let pki = Pki::new();
        pki.issue("server");
        pki.issue("client");
        pki
    }

    /// One byte over TLS and the server's certificate, if both sides accept each other.
    async fn talk(server: &ServerTls, client: &ClientTls) -> io::Result<()> {
        let mut listener = RealNet.listen("127.0.0.1:0").await?;
        let addr = listener.local_addr()?.to_string();
        let serve = async {
            let (stream, _) = listener.accept().await?;
            let mut stream = server.accept(stream).await?;
            stream.write_all(b"x").await?;
            stream.shutdown().await
        };
        let ask = async {
            let stream = RealNet.connect(&addr).await?;
            let mut stream = client.connect("127.0.0.1", stream).await?;
            stream.read_u8().await
        };
        let (served, asked) = tokio::join!(serve, ask);
        served?;
        assert_eq!(asked?, b'x');
        Ok(())
    }

    #[tokio::test]
    async fn a_client_needs_a_certificate_of_the_ca() {
        let pki = pki();
        let server = ServerTls::load(pki.server(), &RealDisk).unwrap();
        talk(&server, &pki.client(true)).await.unwrap();
        assert!(talk(&server, &pki.client(false)).await.is_err());

        let stranger = self::pki();
        assert!(talk(&server, &stranger.client(true)).await.is_err());
    }

    #[tokio::test]
    async fn a_client_without_certificate_may_be_let_in() {
        let pki = pki();
        let files = ServerFiles {
            client_cert_optional: true,
            ..pki.server()
        };
        let server = ServerTls::load(files, &RealDisk).unwrap();
        talk(&server, &pki.client(false)).await.unwrap();
        talk(&server, &pki.client(true)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn changed_files_are_used_and_broken_ones_are_not() {
        let (seams, metrics, pki) = (Seams::real(), Metrics::new(), pki());
        let tasks = seams.tasks();
        let server = ServerTls::load(pki.server(), &RealDisk).unwrap();
        let reloads = |result| {
            metrics
                .tls_reloads
                .get_or_create(&TlsReload {
                    side: "server",
                    result,
                })
                .get()
        };
        server.watch(seams.disk.clone(), metrics.clone(), &tasks);
        until(|| reloads("loaded") == 1).await;

        let old = server.current.load_full();
        pki.put("server.pem", "no certificate");
        until(|| reloads("failed") == 1).await;
        assert!(
            Arc::ptr_eq(&old, &server.current.load_full()),
            "the old one stays in use"
        );

        pki.issue("server");
        // Key and certificate are two writes: a look between them fails and is repeated.
        until(|| reloads("loaded") == 2).await;
        assert!(!Arc::ptr_eq(&old, &server.current.load_full()));
        tasks.shutdown().await;
    }

    #[tokio::test]
    async fn errors_name_the_file() {
        let pki = pki();
        let files = ServerFiles {
            key: pki.path("absent.key"),
            ..pki.server()
        };
        let error = ServerTls::load(files, &RealDisk).err().unwrap();
        assert!(error.to_string().contains("absent.key"), "{error}");
        assert!(error.source().is_some());

        let files = ServerFiles {
            key: pki.path("client.key"),
            ..pki.server()
        };
        let error = ServerTls::load(files, &RealDisk).err().unwrap();
        assert!(
            error.to_string().contains("server.pem and its key"),
            "{error}"
        );
    }

    async fn until(condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), wait)
            .await
            .unwrap();
    }
}

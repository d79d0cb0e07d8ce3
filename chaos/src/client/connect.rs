//! Connections that are made once: when one breaks, nothing is sent on a silent replacement.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use seams::{BoxedStream, Net};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Files for mTLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authority that signed the members' certificates.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Where a member is.
#[derive(Clone)]
pub struct Target {
    /// Its number.
    pub node: u32,
    /// `host:port`.
    pub address: String,
    /// How to speak TLS; plain text if `None`.
    pub tls: Option<Tls>,
    /// The network it is reached over.
    pub net: Arc<dyn Net>,
}

#[derive(Debug)]
struct Spent;

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection had been lost before")
    }
}

impl std::error::Error for Spent {}

/// Whether an error says that a channel's one connection was gone before the call.
pub(super) fn is_spent(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Spent>())
}

impl Target {
    /// Connects. The channel has this one connection and never another.
    ///
    /// # Errors
    ///
    /// In words, when no connection comes about within `deadline`.
    pub async fn connect(&self, deadline: Duration) -> Result<Channel, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        // The connector speaks TLS; tonic must not try to, hence the scheme it sees is http.
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|error| error.to_string())?
            .connect_timeout(deadline)
            .tcp_nodelay(true)
            .origin(
                Uri::builder()
                    .scheme(scheme)
                    .authority(self.address.as_str())
                    .path_and_query("/")
                    .build()
                    .map_err(|error| error.to_string())?,
            );
        let tls = self.tls.as_ref().map(client_config).transpose()?;
        let spent = Arc::new(AtomicBool::new(false));
        let (address, net) = (self.address.clone(), self.net.clone());
        let connector = service_fn(move |_: Uri| {
            let first = !spent.swap(true, Ordering::SeqCst);
            let (address, tls, net) = (address.clone(), tls.clone(), net.clone());
            async move {
                if !first {
                    return Err(io::Error::new(io::ErrorKind::NotConnected, Spent));
                }
                dial(net.as_ref(), &address, tls).await.map(TokioIo::new)
            }
        });
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| describe(&error))
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

async fn dial(
    net: &dyn Net,
    address: &str,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> io::Result<BoxedStream> {
    let socket = net.connect(address).await?;
    let Some(tls) = tls else {
        return Ok(socket);
    };
    let host = address
        .rsplit_once(':')
        .map_or(address, |(host, _)| host)
        .to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(Box::new(
        tokio_rustls::TlsConnector::from(tls)
            .connect(name, socket)
            .await?,
    ))
}

fn client_config(files: &Tls) -> Result<Arc<rustls::ClientConfig>, String> {
    let text = |path: &PathBuf, error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&files.ca).map_err(|e| text(&files.ca, &e))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| text(&files.ca, &error))?;
        roots
            .add(certificate)
            .map_err(|error| text(&files.ca, &error))?;
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.cert)
        .map_err(|e| text(&files.cert, &e))?
        .collect();
    let chain = chain.map_err(|error| text(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| text(&files.key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| text(&files.cert, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

//! Connections to kubelets, pods and services, and requests on them. Every request has a connection
//! of its own.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::stream::{Stream, unfold};
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use seams::net::BoxedStream;
use seams::{Disk, Net, Seams, Tasks};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::IDLE;
use crate::body::StreamError;
use crate::outbound::{self, Identity, Servers};

/// How long a connection may take to come about, TLS included.
const DIAL: Duration = Duration::from_secs(30);
/// How often the files are compared with what was loaded.
const RELOAD_INTERVAL: Duration = Duration::from_secs(3);

/// By what the server and kubelets know each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeletFiles {
    /// The certificate that the server shows to kubelets, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The authority of kubelets' certificates; without one any certificate will do.
    pub authority: Option<PathBuf>,
}

impl KubeletFiles {
    fn read(&self, disk: &dyn Disk) -> Result<Contents, String> {
        let read = |path: &PathBuf| {
            let bytes = disk.read(path);
            bytes.map_err(|error| format!("{}: {error}", path.display()))
        };
        let client = match &self.client {
            None => None,
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
        };
        let authority = self.authority.as_ref().map(read).transpose()?;
        Ok(Contents { client, authority })
    }
}

#[derive(Default, PartialEq, Eq)]
struct Contents {
    client: Option<(Vec<u8>, Vec<u8>)>,
    authority: Option<Vec<u8>>,
}

/// Whom the server connects to, and how.
pub struct Backends {
    net: Arc<dyn Net>,
    files: KubeletFiles,
    address_types: Vec<String>,
    connectors: ArcSwap<Connectors>,
}

/// TLS to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A kubelet, which shows a certificate of the kubelets' authority.
    Kubelet,
    /// A kubelet whose certificate does not matter.
    AnyKubelet,
    /// A pod, a service or another port of a node: nobody knows their certificates.
    Anybody,
}

struct Connectors {
    kubelet: TlsConnector,
    any_kubelet: TlsConnector,
    anybody: TlsConnector,
}

impl Connectors {
    fn new(contents: &Contents) -> Result<Self, String> {
        let client = contents.client.as_ref();
        let certificate = client.map(|(chain, key)| (&chain[..], &key[..]));
        let identity = |ca| Identity {
            ca,
            certificate,
            token: None,
        };
        let any = outbound::connector(&identity(&[]), Servers::Any)?;
        Ok(Self {
            kubelet: match &contents.authority {
                None => any.clone(),
                Some(ca) => outbound::connector(&identity(ca), Servers::Verified)?,
            },
            any_kubelet: any,
            anybody: outbound::connector(&Identity::default(), Servers::Any)?,
        })
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Over TLS, to whom; none for plain TCP.
    pub tls: Option<Peer>,
    /// Host name or address.
    pub host: String,
    /// Port; empty for that of the scheme.
    pub port: String,
    /// Path, not escaped.
    pub path: String,
    /// Query, escaped.
    pub query: String,
}

impl Location {
    /// Host and port as URLs have them.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match &*self.port {
            "" => host,
            port => format!("{host}:{port}"),
        }
    }

    /// Where to connect.
    fn address(&self) -> String {
        match (&*self.port, self.tls) {
            ("", None) => format!("{}:80", self.authority()),
            ("", Some(_)) => format!("{}:443", self.authority()),
            _ => self.authority(),
        }
    }

    /// Path and query, escaped.
    pub fn target(&self) -> String {
        let path = escape(&self.path);
        match &*self.query {
            "" => path,
            query => format!("{path}?{query}"),
        }
    }

    /// The whole URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.target())
    }
}

/// A path as URLs have it.
pub fn escape(path: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SET: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'/')
        .remove(b'$')
        .remove(b'&')
        .remove(b'+')
        .remove(b',')
        .remove(b':')
        .remove(b';')
        .remove(b'=')
        .remove(b'@')
        .remove(b'*')
        .remove(b'!')
        .remove(b'\'')
        .remove(b'(')
        .remove(b')');
    utf8_percent_encode(path, SET).to_string()
}

impl Backends {
    /// Connections as the files say.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used.
    pub fn load(
        files: KubeletFiles,
        address_types: Vec<String>,
        seams: &Seams,
    ) -> Result<Arc<Self>, String> {
        let connectors = Connectors::new(&files.read(&*seams.disk)?)?;
        Ok(Arc::new(Self {
            net: seams.net.clone(),
            files,
            address_types,
            connectors: ArcSwap::from_pointee(connectors),
        }))
    }

    /// Reloads the files whenever they change, until the tasks end.
    pub fn watch(self: &Arc<Self>, disk: Arc<dyn Disk>, tasks: &Tasks) {
        if self.files == KubeletFiles::default() {
            return;
        }
        let (backends, owner) = (self.clone(), tasks.clone());
        tasks.spawn("kubelet-client-reload", async move {
            let mut loaded = backends.files.read(&*disk).ok();
            loop {
                tokio::select! {
                    () = sleep(RELOAD_INTERVAL) => {}
                    () = owner.cancelled() => return,
                }
                let found = backends.files.read(&*disk).ok();
                if found.is_none() || found == loaded {
                    continue;
                }
                match found.as_ref().map(Connectors::new) {
                    Some(Ok(connectors)) => backends.connectors.store(Arc::new(connectors)),
                    Some(Err(error)) => {
                        tracing::warn!(error, "the new certificates for kubelets cannot be used");
                    }
                    None => {}
                }
                loaded = found;
            }
        });
    }

    /// The types of nodes' addresses, the preferred ones first.
    pub fn address_types(&self) -> &[String] {
        &self.address_types
    }

    /// The network.
    pub fn net(&self) -> &dyn Net {
        &*self.net
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// If that does not succeed in time.
    pub async fn dial(&self, location: &Location) -> Result<BoxedStream, String> {
        let dialled = timeout(DIAL, self.connect(location)).await;
        dialled.unwrap_or_else(|_| Err(format!("dial tcp {}: i/o timeout", location.address())))
    }

    async fn connect(&self, location: &Location) -> Result<BoxedStream, String> {
        let address = location.address();
        let stream = self.net.connect(&address).await;
        let stream = stream.map_err(|error| format!("dial tcp {address}: {error}"))?;
        let Some(peer) = location.tls else {
            return Ok(stream);
        };
        let connectors = self.connectors.load();
        let connector = match peer {
            Peer::Kubelet => &connectors.kubelet,
            Peer::AnyKubelet => &connectors.any_kubelet,
            Peer::Anybody => &connectors.anybody,
        };
        let name = ServerName::try_from(location.host.clone());
        let name = name.map_err(|error| error.to_string())?;
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("tls: {error}"))?))
    }
}

/// What moves the bytes of a connection; nothing happens unless it is polled. Once it is over it
/// stays so.
pub struct Driver(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.0.as_mut().map(|running| running.as_mut().poll(cx));
        if polled == Some(Poll::Pending) {
            return Poll::Pending;
        }
        self.0 = None;
        Poll::Ready(())
    }
}

/// A response whose body is still to come, with what brings it.
pub struct Exchange {
    /// The response.
    pub response: Response<Incoming>,
    /// What brings the body.
    pub driver: Driver,
}

/// Sends a request to a location and waits for the head of the response.
///
/// # Errors
///
/// If the connection breaks or nothing comes for [`IDLE`].
pub async fn send<B>(
    stream: BoxedStream,
    location: &Location,
    mut request: Request<B>,
) -> Result<Exchange, String>
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let target: Result<Uri, _> = location.target().parse();
    *request.uri_mut() = target.map_err(|error| error.to_string())?;
    if !request.headers().contains_key(http::header::HOST) {
        let host = HeaderValue::from_str(&location.authority());
        let host = host.map_err(|error| error.to_string())?;
        request.headers_mut().insert(http::header::HOST, host);
    }
    *request.version_mut() = http::Version::HTTP_11;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let connection = connection.with_upgrades();
    let mut driver = Driver(Some(Box::pin(async move {
        // What went wrong shows in the response or its body.
        let _ = connection.await;
    })));
    let sent = async {
        let sent = sender.send_request(request);
        tokio::pin!(sent);
        let mut is_over = false;
        loop {
            tokio::select! {
                response = &mut sent => return response,
                () = &mut driver, if !is_over => is_over = true,
            }
        }
    };
    match timeout(IDLE, sent).await {
        Ok(Ok(response)) => Ok(Exchange { response, driver }),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timeout awaiting response headers".to_string()),
    }
}

/// A body as it comes. Whoever drops it closes the connection.
pub fn pieces(
    body: Incoming,
    driver: Driver,
) -> impl Stream<Item = Result<Bytes, StreamError>> + Send {
    let state = Some((body, driver, false));
    unfold(state, |state| async move {
        let (mut body, mut driver, mut is_over) = state?;
        loop {
            let frame = async {
                loop {
                    tokio::select! {
                        frame = body.frame() => return frame,
                        () = &mut driver, if !is_over => is_over = true,
                    }
                }
            };
            return match timeout(IDLE, frame).await {
                Ok(None) => None,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Some((Ok(data), Some((body, driver, is_over)))),
                    // Trailers have nowhere to go.
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => Some((Err(StreamError::other(error)), None)),
                Err(_) => {
                    let error = StreamError::from(std::io::ErrorKind::TimedOut);
                    Some((Err(error), None))
                }
            };
        }
    })
}

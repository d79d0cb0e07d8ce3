//! Requests of the server to others: webhooks and identity providers. Every request has a connection
//! of its own and ends within a time; answers are small. (What is handed on and streams is in
//! `streams`.)

mod any_server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use seams::net::BoxedStream;
use seams::{Net, Rng};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use any_server::AnyServerCertificate;

pub mod kubeconfig;

const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// How often a request is tried, and the pause after the first time; it grows by half each time.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Whom a client trusts and what it shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity<'a> {
    /// Authorities of servers, in PEM.
    pub ca: &'a [u8],
    /// Certificate chain and key of the client, in PEM.
    pub certificate: Option<(&'a [u8], &'a [u8])>,
    /// A bearer token.
    pub token: Option<&'a str>,
}

/// Sends requests.
#[derive(Clone)]
pub struct Client {
    net: Arc<dyn Net>,
    rng: Arc<dyn Rng>,
    tls: TlsConnector,
    token: Option<String>,
    patience: Duration,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// Its body.
    pub body: Bytes,
}

impl Client {
    /// A client whose requests take `patience` each at most.
    ///
    /// # Errors
    ///
    /// If a certificate or key is malformed.
    pub fn new(
        identity: &Identity<'_>,
        patience: Duration,
        seams: &seams::Seams,
    ) -> Result<Self, String> {
        Ok(Self {
            net: seams.net.clone(),
            rng: seams.rng.clone(),
            tls: connector(identity, Servers::Verified)?,
            token: identity.token.map(str::to_string),
            patience,
        })
    }

    /// Sends a JSON document and reads one; tries again what may succeed another time.
    ///
    /// # Errors
    ///
    /// If it does not come to an answer of success in JSON.
    pub async fn post(&self, url: &str, body: &api::doc::Doc) -> Result<api::doc::Doc, String> {
        parse(self.insist(url, body.to_string()).await?)
    }

    /// Sends a JSON text, whatever is said to it; tries again what may succeed another time.
    ///
    /// # Errors
    ///
    /// If it does not come to an answer of success.
    pub async fn deliver(&self, url: &str, body: String) -> Result<(), String> {
        self.insist(url, body).await.map(drop)
    }

    async fn insist(&self, url: &str, body: String) -> Result<Answer, String> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let error = match self.send(Method::POST, url, body.clone()).await {
                Ok(answer) if (200..300).contains(&answer.code) => return Ok(answer),
                Ok(answer) if !matches!(answer.code, 429 | 500 | 503 | 504) => {
                    return Err(format!("{url} answered {}", answer.code));
                }
                Ok(answer) => format!("{url} answered {}", answer.code),
                Err(error) => error,
            };
            if tries == TRIES {
                return Err(error);
            }
            tries += 1;
            sleep(self.rng.jitter(pause)).await;
            pause += pause / 2;
        }
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    ///
    /// If the answer is no success or no JSON.
    pub async fn get(&self, url: &str) -> Result<api::doc::Doc, String> {
        let answer = self.send(Method::GET, url, String::new()).await?;
        match answer.code {
            200 => parse(answer),
            code => Err(format!("{url} answered {code}")),
        }
    }

    async fn send(&self, method: Method, url: &str, body: String) -> Result<Answer, String> {
        let sent = timeout(self.patience, self.exchange(method, url, body)).await;
        sent.unwrap_or_else(|_| Err(format!("{url} did not answer in time")))
    }

    async fn exchange(&self, method: Method, url: &str, body: String) -> Result<Answer, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
        let uri: Uri = url.parse().map_err(|error| failed(&error))?;
        let stream = self.connect(&uri).await.map_err(|error| failed(&error))?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(
                header::HOST,
                uri.authority().map_or("", |host| host.as_str()),
            )
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| failed(&error))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
        let exchange = Box::pin(async move {
            let response = sender.send_request(request).await;
            let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer {
                code: head.status.as_u16(),
                body,
            })
        });
        let answer: Result<Answer, String> = match select(exchange, Box::pin(connection)).await {
            Either::Left((answer, _)) => answer,
            // The server closed the connection; what it sent is still to be read.
            Either::Right((_, exchange)) => exchange.await,
        };
        answer.map_err(|error| failed(&error))
    }

    async fn connect(&self, uri: &Uri) -> Result<BoxedStream, String> {
        let host = uri.host().ok_or("no host")?;
        let is_plain = uri.scheme_str() == Some("http");
        let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let stream = self.net.connect(&format!("{host}:{port}")).await;
        let stream = stream.map_err(|error| error.to_string())?;
        if is_plain {
            return Ok(stream);
        }
        let name = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_string();
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let stream = self.tls.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| error.to_string())?))
    }
}

/// Whose certificates count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// Those that an authority of the identity vouches for.
    Verified,
    /// Any, as long as the server holds its key.
    Any,
}

/// TLS as a client.
///
/// # Errors
///
/// If a certificate or key is malformed.
pub fn connector(identity: &Identity<'_>, servers: Servers) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match servers {
        Servers::Any => {
            let any = Arc::new(AnyServerCertificate::new());
            config.dangerous().with_custom_certificate_verifier(any)
        }
        Servers::Verified => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(identity.ca) {
                let certificate = certificate.map_err(|error| error.to_string())?;
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
            config.with_root_certificates(roots)
        }
    };
    let config = match identity.certificate {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
            let chain = chain.map_err(|error| error.to_string())?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
            let config = config.with_client_auth_cert(chain, key);
            config.map_err(|error| error.to_string())?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn parse(answer: Answer) -> Result<api::doc::Doc, String> {
    api::codec::json::parse(answer.body.to_vec()).map_err(|error| error.to_string())
}

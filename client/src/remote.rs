//! API servers over HTTPS: one transport over all masters.
//!
//! Requests go to one server until it fails, then to the next. A server that answers no ping is dead:
//! with the default [`Timings`] it is left within two seconds. A request that certainly was not processed
//! is sent elsewhere, and so is one that only reads; others fail, since nobody knows whether they were
//! done. Watches break off and are taken up elsewhere by their informers, where they were.
//!
//! - [`config`]: where servers are and what to show them, also from kubeconfigs
//! - [`link`]: connections to one server
//! - [`service_account`]: requests in the names of service accounts
//! - [`shown`]: certificates as servers show them

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, Uri};
use kube::client::Body;
use seams::{Seams, Tasks};
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, Service};

use crate::transport::{Access, Identity, transport};

mod any_server;
pub mod config;
pub mod link;
pub mod service_account;
pub mod shown;

pub use config::{Config, ConfigError, Source};
use config::{Credentials, TlsParts};
use link::{Failure, Link, Streamed};
use service_account::{AsServiceAccount, Tokens};

/// A client that finds no server gives up after so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between rounds over all servers.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// The head of a response comes within this: the server's own limit is a minute.
const HEAD_TIMEOUT: Duration = Duration::from_secs(70);

/// How soon a dead server is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between pings of a connection on which nothing comes.
    pub ping_interval: Duration,
    /// For the answer to a ping.
    pub ping_timeout: Duration,
    /// For a new connection, handshakes included; more after failures.
    pub connect: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_millis(750),
            ping_timeout: Duration::from_millis(1000),
            connect: Duration::from_millis(1500),
        }
    }
}

/// A transport over several servers. Clones share their connections.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Vec<Link>,
    /// The server that requests go to.
    current: AtomicUsize,
    credentials: Credentials,
    seams: Seams,
}

impl Remote {
    /// A transport that shows what the configuration says, until the tasks end.
    ///
    /// # Errors
    ///
    /// If the configuration makes no sense, or files that it names cannot be read.
    pub fn new(config: &Config, seams: &Seams, tasks: &Tasks) -> Result<Self, ConfigError> {
        let tls = TlsParts::new(config, seams);
        // What is wrong with certificates is told now, not at the first request.
        tls.connector()?;
        let tls = Arc::new(tls);
        let mut servers = Vec::with_capacity(config.servers.len());
        for server in &config.servers {
            let authority = authority(server)?;
            servers.push(Link::new(authority, &tls, config.timings, seams, tasks));
        }
        if servers.is_empty() {
            return Err(ConfigError::new("no server is named"));
        }
        // Clients spread over all servers.
        let count = u64::try_from(servers.len()).unwrap_or(1);
        let first = usize::try_from(seams.rng.below(count)).unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner {
                servers,
                current: AtomicUsize::new(first),
                credentials: Credentials::new(config, seams)?,
                seams: seams.clone(),
            }),
        })
    }

    /// Access for a component whose credentials the configuration has; its service accounts act by tokens
    /// that it asks for.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn access(
        agent: &str,
        config: &Config,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Result<Access, ConfigError> {
        let own = Self::new(config, seams, tasks)?;
        let nobody = Self::new(&config.without_credentials(), seams, tasks)?;
        let component = {
            let own = own.clone();
            Access::new(agent, move |_| transport(own.clone()))
        };
        let tokens = Tokens::new(component.client(&Identity::Component, None));
        Ok(Access::new(agent, move |identity| match identity {
            Identity::Component => transport(own.clone()),
            Identity::ServiceAccount { namespace, name } => {
                let token = tokens.of(namespace, name);
                transport(AsServiceAccount::new(transport(nobody.clone()), token))
            }
        }))
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Streamed>, BoxError> {
        let inner = &*self.inner;
        let deadline = Instant::now() + PATIENCE;
        let (mut head, mut body) = request.into_parts();
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        if let Some(authorization) = inner.credentials.authorization() {
            head.headers
                .entry(http::header::AUTHORIZATION)
                .or_insert(authorization);
        }
        let mut failed = 0;
        loop {
            let at = inner.current.load(Ordering::Relaxed) % inner.servers.len();
            let server = &inner.servers[at];
            let spare = body.try_clone();
            let attempt = async {
                let mut request = Request::new(std::mem::replace(&mut body, Body::empty()));
                *request.method_mut() = head.method.clone();
                *request.headers_mut() = head.headers.clone();
                *request.uri_mut() = absolute(&head.uri, server.authority())?;
                *request.version_mut() = http::Version::HTTP_2;
                server.send(request).await
            };
            let error = match timeout(HEAD_TIMEOUT, attempt).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(Failure::Unsent(error, unsent))) => {
                    match (unsent, spare) {
                        (Some(unsent), _) => body = unsent,
                        (None, Some(spare)) => body = spare,
                        (None, None) => return Err(error),
                    }
                    error
                }
                Ok(Err(Failure::Unknown(error))) => match spare {
                    Some(spare) if is_read => {
                        body = spare;
                        error
                    }
                    _ => {
                        inner.leave(at);
                        return Err(error);
                    }
                },
                Err(_) => {
                    inner.leave(at);
                    return Err("the server did not answer in time".into());
                }
            };
            tracing::debug!(server = %server.authority(), error, "another server is asked");
            inner.leave(at);
            failed += 1;
            if Instant::now() >= deadline {
                return Err(error);
            }
            if failed % inner.servers.len() == 0 {
                sleep(inner.seams.rng.jitter(ROUND_PAUSE)).await;
            }
        }
    }
}

impl Inner {
    /// Lets requests go to the next server, unless somebody already did.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.servers.len();
        let current = &self.current;
        let _ = current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Service<Request<Body>> for Remote {
    type Response = Response<Streamed>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}

fn authority(server: &str) -> Result<Authority, ConfigError> {
    let wrong = || ConfigError::new(format!("{server:?} is not https://HOST:PORT"));
    let uri: Uri = server.parse().map_err(|_| wrong())?;
    if uri.scheme() != Some(&Scheme::HTTPS) || !matches!(uri.path(), "" | "/") {
        return Err(wrong());
    }
    uri.authority().cloned().ok_or_else(wrong)
}

fn absolute(uri: &Uri, authority: &Authority) -> Result<Uri, Failure> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority.clone());
    Uri::from_parts(parts).map_err(|error| Failure::Unknown(error.into()))
}

#[cfg(test)]
mod tests;

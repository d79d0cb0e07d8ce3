//! One endpoint: its address, its connection, and how it is known to be alive.
//!
//! Liveness is probed with a call of the gRPC health service rather than an HTTP/2 ping: etcd
//! closes connections that ping more often than every five seconds, and a call that is answered
//! proves more than a ping that is.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::Uri;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use seams::{BoxedStream, Net, Tasks};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower_service::Service;

use super::RemoteConfig;
use crate::error::{Error, Result};
use crate::server::driven::{Calls, Driven};
use crate::server::tls::ClientTls;

/// Large answers (a list of everything) come without waiting for window updates.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const MAX_FRAME_BYTES: u32 = 256 << 10;

/// What is needed to open connections.
pub(super) struct Dialer {
    net: Arc<dyn Net>,
    tls: Option<ClientTls>,
    tasks: Tasks,
    connect_timeout: Duration,
    probe_interval: Duration,
    probe_timeout: Duration,
}

/// One endpoint and its connection, if there is one.
pub(super) struct Endpoint {
    url: String,
    origin: Uri,
    /// `host:port`.
    authority: String,
    host: String,
    secure: bool,
    dialer: Arc<Dialer>,
    connection: ArcSwapOption<Connection>,
    /// Held while connecting; the last failure, for those who waited meanwhile.
    dialing: Mutex<Option<(Instant, String)>>,
}

/// An open HTTP/2 connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<tonic::body::Body>,
    origin: Uri,
}

/// The transport failed: there is no answer.
#[derive(Debug)]
pub(super) struct TransportError {
    /// Whether the request may have reached the other side.
    pub(super) sent: bool,
    reason: String,
}

impl Dialer {
    pub(super) fn new(config: &RemoteConfig, seams: &seams::Seams, tasks: &Tasks) -> Dialer {
        Dialer {
            net: seams.net.clone(),
            tls: config.tls.clone(),
            tasks: tasks.clone(),
            connect_timeout: config.connect_timeout,
            probe_interval: config.probe_interval,
            probe_timeout: config.probe_timeout,
        }
    }
}

impl Endpoint {
    pub(super) fn new(url: &str, dialer: &Arc<Dialer>) -> Result<Arc<Endpoint>> {
        let bad =
            || Error::InvalidArgument(format!("{url} is no endpoint: want https://host:port"));
        let (secure, authority) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(bad()),
            None => (dialer.tls.is_some(), url),
        };
        let authority = authority.trim_end_matches('/').to_owned();
        let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
        port.parse::<u16>().map_err(|_| bad())?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if secure && dialer.tls.is_none() {
            let reason = format!("{url} needs TLS, but no certificates are configured");
            return Err(Error::InvalidArgument(reason));
        }
        let scheme = if secure { "https" } else { "http" };
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(authority.as_str())
            .path_and_query("/");
        Ok(Arc::new(Endpoint {
            url: url.to_owned(),
            origin: origin.build().map_err(|_| bad())?,
            authority,
            host,
            secure,
            dialer: dialer.clone(),
            connection: ArcSwapOption::empty(),
            dialing: Mutex::new(None),
        }))
    }

    /// The connection; opens one if there is none. Callers that come while one is being opened
    /// wait for its outcome, good or bad.
    pub(super) async fn connection(&self) -> Result<Connection, TransportError> {
        if let Some(open) = self.open_connection() {
            return Ok(open);
        }
        let came_at = Instant::now();
        let mut last_failure = self.dialing.lock().await;
        if let Some(open) = self.open_connection() {
            return Ok(open);
        }
        if let Some((at, reason)) = &*last_failure
            && *at >= came_at
        {
            return Err(TransportError {
                sent: false,
                reason: reason.clone(),
            });
        }
        match self.dial().await {
            Ok(connection) => {
                self.connection.store(Some(Arc::new(connection.clone())));
                Ok(connection)
            }
            Err(error) => {
                let reason = format!("cannot connect to {}: {error}", self.url);
                *last_failure = Some((Instant::now(), reason.clone()));
                Err(TransportError {
                    sent: false,
                    reason,
                })
            }
        }
    }

    fn open_connection(&self) -> Option<Connection> {
        let open = self.connection.load();
        open.as_ref()
            .filter(|c| !c.sender.is_closed())
            .map(|c| Connection::clone(c))
    }

    async fn dial(&self) -> io::Result<Connection> {
        let dialer = &self.dialer;
        let connect = async {
            let stream = dialer.net.connect(&self.authority).await?;
            match &dialer.tls {
                Some(tls) if self.secure => tls.connect(&self.host, stream).await,
                _ => Ok(stream),
            }
        };
        let stream = timeout(dialer.connect_timeout, connect).await??;
        let heard = Arc::new(AtomicU64::new(0));
        let stream = Heard {
            stream,
            heard: heard.clone(),
        };
        let calls = Calls::default();
        let handshake = Builder::new(calls.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .handshake(TokioIo::new(stream));
        let (sender, driver) = timeout(dialer.connect_timeout, handshake)
            .await?
            .map_err(io::Error::other)?;
        let connection = Connection {
            sender,
            origin: self.origin.clone(),
        };
        let probe = probe(
            connection.clone(),
            heard,
            dialer.probe_interval,
            dialer.probe_timeout,
        );
        let (driver, tasks, url) = (
            Driven::new(driver, calls),
            dialer.tasks.clone(),
            self.url.clone(),
        );
        dialer.tasks.spawn("etcd-connection", async move {
            tokio::select! {
                ended = driver => if let Err(error) = ended {
                    tracing::debug!(%url, %error, "connection ended");
                },
                () = probe => tracing::warn!(%url, "endpoint does not answer; leaving it"),
                () = tasks.cancelled() => {}
            }
        });
        Ok(connection)
    }
}

/// Ends when the other side, silent for an interval, does not answer a call either.
async fn probe(connection: Connection, heard: Arc<AtomicU64>, interval: Duration, limit: Duration) {
    let mut health = HealthClient::with_origin(connection.clone(), connection.origin());
    loop {
        let before = heard.load(Relaxed);
        sleep(interval).await;
        if heard.load(Relaxed) != before {
            continue;
        }
        // Any answer will do, be it an error: the other side is alive. A broken connection ends
        // by itself.
        let check = health.check(HealthCheckRequest::default());
        if timeout(limit, check).await.is_err() && heard.load(Relaxed) == before {
            return;
        }
    }
}

impl Connection {
    pub(super) fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

impl Service<http::Request<tonic::body::Body>> for Connection {
    type Response = http::Response<ResponseBody>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Self::Response, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        // A closed connection fails the call itself, which knows whether it was sent.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let response = self.sender.try_send_request(request);
        Box::pin(async move {
            match response.await {
                Ok(response) => Ok(response.map(ResponseBody)),
                // hyper hands back the request that it did not send.
                Err(mut error) => Err(TransportError {
                    sent: error.take_message().is_none(),
                    reason: error.error().to_string(),
                }),
            }
        })
    }
}

/// The body of a response; its failures are [`TransportError`]s, so that they can be told from
/// the other side's answers.
pub(super) struct ResponseBody(Incoming);

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map_err(|error| TransportError {
                sent: true,
                reason: error.to_string(),
            })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TransportError {}

/// A stream that counts how often something was heard from the other side.
struct Heard {
    stream: BoxedStream,
    heard: Arc<AtomicU64>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_ready() {
            self.heard.fetch_add(1, Relaxed);
        }
        result
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seams::Seams;

    fn endpoint(url: &str) -> Result<Arc<Endpoint>> {
        let seams = Seams::real();
        let config = RemoteConfig::new([url]);
        Endpoint::new(url, &Arc::new(Dialer::new(&config, &seams, &seams.tasks())))
    }

    #[test]
    fn endpoints_are_urls_or_addresses() {
        for (url, authority, host) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379", "127.0.0.1"),
            ("localhost:2379", "localhost:2379", "localhost"),
            ("http://[::1]:2379/", "[::1]:2379", "::1"),
        ] {
            let endpoint = endpoint(url).unwrap();
            assert_eq!(
                (endpoint.authority.as_str(), endpoint.host.as_str()),
                (authority, host)
            );
        }
        for url in [
            "",
            "localhost",
            "ftp://a:1",
            "http://a:b",
            "https://needs-tls:1",
        ] {
            assert!(endpoint(url).is_err(), "{url:?}");
        }
    }
}

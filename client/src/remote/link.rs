//! Connections to one server: HTTP/2 with pings, as many as its streams need.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::client::Body;
use seams::{Seams, Tasks};
use tokio::time::{Instant, timeout};
use tower::BoxError;

use super::Timings;
use super::config::TlsParts;

/// The server takes a thousand streams on a connection; beyond this another is opened.
const STREAMS_MAX: usize = 900;
/// A server that failed is asked again after this, doubled with every failure in a row.
const PENALTY: Duration = Duration::from_millis(200);
const PENALTY_DOUBLINGS_MAX: u32 = 5;
/// Connections take longer to make when machines are busy: the time for it doubles with failures.
const CONNECT_DOUBLINGS_MAX: u32 = 3;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Why a request has no response.
pub enum Failure {
    /// It certainly was not processed. Its body, if that was not begun.
    Unsent(BoxError, Option<Body>),
    /// Nobody knows what became of it.
    Unknown(BoxError),
}

type Sender = http2::SendRequest<Body>;

struct Connection {
    sender: Sender,
    streams: Arc<AtomicUsize>,
}

/// The way to one server.
pub struct Link {
    authority: Authority,
    tls: Arc<TlsParts>,
    timings: Timings,
    seams: Seams,
    tasks: Tasks,
    connections: Mutex<Vec<Connection>>,
    /// Held by whoever makes a connection.
    connecting: tokio::sync::Mutex<()>,
    failures: AtomicU32,
    /// Until then it is not asked.
    shunned: Mutex<Option<Instant>>,
    /// With which version of the client's certificate connections were made.
    generation: AtomicUsize,
}

impl Link {
    pub(super) fn new(
        authority: Authority,
        tls: &Arc<TlsParts>,
        timings: Timings,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Self {
        Self {
            authority,
            tls: tls.clone(),
            timings,
            seams: seams.clone(),
            tasks: tasks.clone(),
            connections: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            failures: AtomicU32::new(0),
            shunned: Mutex::default(),
            generation: AtomicUsize::new(0),
        }
    }

    /// Where the server is.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or not any more.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Streamed>, Failure> {
        let (mut sender, guard) = match self.sender().await {
            Ok(found) => found,
            Err(error) => return Err(Failure::Unsent(error, Some(request.into_body()))),
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(|body| Streamed {
                body,
                _guard: guard,
            })),
            Err(mut error) => {
                let unsent = error.take_message().map(Request::into_body);
                let error = error.into_error();
                let is_refused = is_refused(&error);
                let error: BoxError = error.into();
                match unsent {
                    Some(body) => Err(Failure::Unsent(error, Some(body))),
                    None if is_refused => Err(Failure::Unsent(error, None)),
                    None => Err(Failure::Unknown(error)),
                }
            }
        }
    }

    /// A connection that takes another stream.
    async fn sender(&self) -> Result<(Sender, Guard), BoxError> {
        if let Some(found) = self.open() {
            return Ok(found);
        }
        let _connecting = self.connecting.lock().await;
        // Somebody may have made one meanwhile, or failed.
        if let Some(found) = self.open() {
            return Ok(found);
        }
        if (*lock(&self.shunned)).is_some_and(|until| Instant::now() < until) {
            return Err("the server failed a moment ago".into());
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let patience = self.timings.connect * (1 << failures.min(CONNECT_DOUBLINGS_MAX));
        let connected = timeout(patience, self.connect()).await;
        match connected.unwrap_or_else(|_| Err("no connection in time".into())) {
            Ok(connection) => {
                self.failures.store(0, Ordering::Relaxed);
                *lock(&self.shunned) = None;
                let found = connection.take();
                lock(&self.connections).push(connection);
                Ok(found)
            }
            Err(error) => {
                let penalty = PENALTY * (1 << failures.min(PENALTY_DOUBLINGS_MAX));
                let until = Instant::now() + self.seams.rng.jitter(penalty);
                *lock(&self.shunned) = Some(until);
                self.failures
                    .store(failures.saturating_add(1), Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// The connection with the fewest streams, if it takes one more.
    fn open(&self) -> Option<(Sender, Guard)> {
        let mut connections = lock(&self.connections);
        let generation = self.tls.generation();
        if self.generation.swap(generation, Ordering::Relaxed) != generation {
            // Streams go on; new ones show the new certificate.
            connections.clear();
        }
        connections.retain(|one| !one.sender.is_closed());
        let streams = |one: &&Connection| one.streams.load(Ordering::Relaxed);
        let least = connections.iter().min_by_key(streams)?;
        (streams(&least) < STREAMS_MAX).then(|| least.take())
    }

    async fn connect(&self) -> Result<Connection, BoxError> {
        let port = self.authority.port_u16().unwrap_or(443);
        let host = self.authority.host();
        let stream = self.seams.net.connect(&format!("{host}:{port}")).await?;
        let (connector, name) = self.tls.for_server(host)?;
        let stream = connector.connect(name, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the server does not speak HTTP/2".into());
        }
        let handshake = http2::Builder::new(Streams(self.tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(self.timings.ping_interval)
            .keep_alive_timeout(self.timings.ping_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake?;
        let tasks = self.tasks.token();
        let server = self.authority.clone();
        self.tasks.spawn("connection", async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%server, %error, "the connection broke");
                },
                () = tasks.cancelled() => {}
            }
        });
        Ok(Connection {
            sender,
            streams: Arc::default(),
        })
    }
}

impl Connection {
    fn take(&self) -> (Sender, Guard) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        (self.sender.clone(), Guard(self.streams.clone()))
    }
}

/// Counts a stream while it lives.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a response.
pub struct Streamed {
    body: Incoming,
    _guard: Guard,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether the server says itself that it did not process the request.
fn is_refused(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let reason = error.reason();
            return error.is_remote() && reason == Some(h2::Reason::REFUSED_STREAM)
                || error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR);
        }
        source = cause.source();
    }
    false
}

/// Runs what a connection needs besides.
#[derive(Clone)]
struct Streams(Tasks);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("stream", future);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Accepts connections and serves HTTP/2 and HTTP/1.1 on them, over TLS or in plain text.
//!
//! One task per connection. The requests of a connection run inside its task, so that a call
//! costs no scheduling of its own and its answer leaves in the same write as its neighbours'.
//! On shutdown a connection takes no more requests (GOAWAY), finishes what it has, and is dropped
//! after [`DRAIN_GRACE`].

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use seams::{BoxedStream, Listener, Net, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};

use super::authority::Lenient;
use super::driven::{Calls, Driven};
use super::tls::ServerTls;

/// How long requests that run at shutdown may take to finish.
pub const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Between attempts to accept after an error, such as no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// As etcd, practically unlimited: a watch per resource and a thousand waiting calls on one
/// connection are normal for an API server. Memory is bounded by the windows below.
const MAX_CONCURRENT_STREAMS: u32 = 1 << 20;
/// Holds any request (1.5 MiB) so that its sender never waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Several such requests at once.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Values of typical size arrive in one frame, which is then decoded without a copy.
const MAX_FRAME_BYTES: u32 = 256 << 10;
/// A client that cancels a burst of calls (a controller losing its lease) is no attacker.
const MAX_PENDING_RESETS: usize = 4096;
/// A ping after this much silence, and its deadline: a dead client frees its watches.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The request line and headers of HTTP/1.1.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How connections are protected.
#[derive(Clone)]
pub enum Security {
    /// TLS.
    Tls(ServerTls),
    /// Plain text, only on a loopback address.
    PlainLoopback,
    /// Plain text on any address: for simulated networks, which have no loopback.
    PlainAnywhere,
}

/// Answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of the answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Binds `addr` (`host:port`, port 0 picks one) and serves connections until the tasks end.
/// Yields the bound address.
pub async fn listen(
    addr: &str,
    security: Security,
    net: &dyn Net,
    tasks: &Tasks,
    handler: impl Handler,
) -> io::Result<SocketAddr> {
    let listener = net.listen(addr).await?;
    let bound = listener.local_addr()?;
    if matches!(security, Security::PlainLoopback) && !bound.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{bound} is no loopback address: plain text is served on loopback only"),
        ));
    }
    let owner = tasks.clone();
    tasks.spawn("listen", accept_loop(listener, security, owner, handler));
    Ok(bound)
}

async fn accept_loop(
    mut listener: Box<dyn Listener>,
    security: Security,
    tasks: Tasks,
    handler: impl Handler,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serve = serve(
                    stream,
                    peer,
                    security.clone(),
                    tasks.clone(),
                    handler.clone(),
                );
                tasks.spawn("connection", serve);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves one accepted connection to its end.
async fn serve(
    stream: BoxedStream,
    peer: SocketAddr,
    security: Security,
    tasks: Tasks,
    handler: impl Handler,
) {
    let result = match security {
        Security::Tls(tls) => match tls.accept(stream).await {
            Ok(stream) => serve_http(stream, &tasks, handler).await,
            Err(error) => {
                tracing::warn!(%peer, %error, "TLS handshake failed");
                return;
            }
        },
        Security::PlainLoopback | Security::PlainAnywhere => {
            serve_http(Lenient::new(stream), &tasks, handler).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended with an error");
    }
}

async fn serve_http<S>(
    stream: S,
    tasks: &Tasks,
    handler: impl Handler,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.handle(request).await) }
    });
    let calls = Calls::default();
    let builder = builder(calls.clone());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = Driven::new(connection, calls);
    tokio::select! {
        result = &mut connection => return result,
        () = tasks.cancelled() => {}
    }
    connection.connection().graceful_shutdown();
    // What is not done by then loses its connection, and its client asks another member.
    tokio::time::timeout(DRAIN_GRACE, connection)
        .await
        .unwrap_or(Ok(()))
}

fn builder(calls: Calls) -> auto::Builder<Calls> {
    let mut builder = auto::Builder::new(calls);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .auto_date_header(false);
    builder
}

//! Accepts connections and serves requests on them, over TLS, in HTTP/2 and HTTP/1.1.
//!
//! On shutdown a connection takes no more requests (GOAWAY), watches end with a bookmark, and what is
//! under way is finished within [`DRAIN_GRACE`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use seams::{BoxedStream, Listener, Tasks};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::handler;
use crate::instance::Api;
use crate::stall::{PATIENCE, Patient, Streams};
use crate::tls::Tls;
use crate::user::User;

/// How long requests that run at shutdown may take to finish.
pub const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// Between attempts to accept after an error, such as no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// A handshake that takes longer is given up, so that a silent client holds nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The request line and headers of HTTP/1.1.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// As upstream: a client has so many requests under way on a connection, watches included.
const MAX_CONCURRENT_STREAMS: u32 = 1000;
/// Lists leave in large frames.
const MAX_FRAME_BYTES: u32 = 256 << 10;
/// Bytes of a list that wait for a slow client.
const SEND_BUFFER_BYTES: usize = 1 << 20;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A ping after this much silence, and its deadline: a dead client frees its watches.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The certificate that it showed and what it sent along; nothing of it is verified but that it
    /// holds the key.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Who it is, where that needs no proof: a component in this process.
    pub user: Option<User>,
    /// Makes the connection take no more requests; those under way go on.
    pub leave: Notify,
}

/// Serves connections of a listener until the tasks end.
///
/// # Errors
///
/// If the listener has no address.
pub fn serve(
    mut listener: Box<dyn Listener>,
    tls: Tls,
    api: Arc<Api>,
    tasks: &Tasks,
) -> io::Result<SocketAddr> {
    let bound = listener.local_addr()?;
    let owner = tasks.clone();
    tasks.spawn("accept", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = owner.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    let connection =
                        connection(stream, address, tls.clone(), api.clone(), owner.clone());
                    owner.spawn("connection", connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    });
    Ok(bound)
}

async fn connection(
    stream: BoxedStream,
    address: SocketAddr,
    tls: Tls,
    api: Arc<Api>,
    tasks: Tasks,
) {
    let stream = match timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake failed");
            api.metrics.tls_errors.of(&[]).inc();
            return;
        }
        Err(_) => {
            api.metrics.tls_errors.of(&[]).inc();
            return;
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = Arc::new(Peer {
        address,
        certificates: certificates.map(<[_]>::to_vec).unwrap_or_default(),
        user: None,
        leave: Notify::new(),
    });
    let here = peer.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (api, peer) = (api.clone(), peer.clone());
        async move { Ok::<_, Infallible>(handler::handle(&api, &peer, request).await) }
    });
    let builder = builder(&tasks);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let served = async move {
        tokio::pin!(connection);
        loop {
            tokio::select! {
                result = connection.as_mut() => return result,
                () = here.leave.notified() => connection.as_mut().graceful_shutdown(),
                () = tasks.cancelled() => break,
            }
        }
        connection.as_mut().graceful_shutdown();
        timeout(DRAIN_GRACE, connection).await.unwrap_or(Ok(()))
    };
    match Patient::new(served, PATIENCE).await {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%address, error, "connection ended with an error"),
        None => tracing::debug!(%address, "the client did not take its response"),
    }
}

fn builder(tasks: &Tasks) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams(tasks.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

//! Connections to the other members.
//!
//! A channel connects when it is used and again after it broke. HTTP/2 pings find a dead peer
//! within two seconds even when nothing is under way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use seams::BoxedStream;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::traffic;
use super::types::Node;
use crate::metrics::Metrics;
use crate::pb::peer::peer_client::PeerClient;

/// Metadata keys that every call between members carries: hexadecimal IDs.
pub(crate) const CLUSTER_KEY: &str = "trireme-cluster";
pub(crate) const TARGET_KEY: &str = "trireme-to";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// HTTP/2 windows: a full append must never wait for a window update.
const WINDOW_BYTES: u32 = 8 << 20;
/// Above the largest append: one request of 1.5 MiB may stand alone in it.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Opens a byte stream to a peer URL; TLS, where it is on, is inside.
pub type Dial = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<BoxedStream>> + Send + Sync>;

/// A client of one peer.
pub(crate) type Client = PeerClient<InterceptedService<Channel, Address>>;

/// Writes whom a call is meant for into its metadata.
#[derive(Clone)]
pub(crate) struct Address {
    cluster: MetadataValue<Ascii>,
    target: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Address {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER_KEY, self.cluster.clone());
        if let Some(target) = &self.target {
            metadata.insert(TARGET_KEY, target.clone());
        }
        Ok(request)
    }
}

/// Makes clients for peers of one cluster.
#[derive(Clone)]
pub struct Peers {
    cluster_id: u64,
    dial: Dial,
    /// Where is counted, on behalf of which member.
    metrics: Option<(Arc<Metrics>, u64)>,
}

impl Peers {
    /// Peers of the given cluster, reached through `dial`.
    pub fn new(cluster_id: u64, dial: Dial) -> Self {
        Self {
            cluster_id,
            dial,
            metrics: None,
        }
    }

    /// Counts the connections of a member to named members.
    pub fn counted(self, metrics: Arc<Metrics>, local: u64) -> Self {
        Self {
            metrics: Some((metrics, local)),
            ..self
        }
    }

    /// A client for a member. It does not connect yet.
    pub(crate) fn client(&self, target: u64, node: &Node) -> Client {
        self.client_of_urls(Some(target), &node.peer_urls)
    }

    /// A client for whoever listens at one of the URLs.
    pub(crate) fn client_of_urls(&self, target: Option<u64>, urls: &[String]) -> Client {
        let address = Address {
            cluster: hexadecimal(self.cluster_id),
            target: target.map(hexadecimal),
        };
        let dial = match (&self.metrics, target) {
            (Some((metrics, local)), Some(target)) => {
                traffic::counted(self.dial.clone(), metrics, *local, target)
            }
            _ => self.dial.clone(),
        };
        PeerClient::with_interceptor(channel(&dial, urls), address)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn hexadecimal(id: u64) -> MetadataValue<Ascii> {
    // Hexadecimal digits are always valid metadata; the fallback is refused by every member.
    MetadataValue::try_from(format!("{id:016x}"))
        .unwrap_or_else(|_| MetadataValue::from_static("0"))
}

/// A lazy channel that tries the URLs in turn.
fn channel(dial: &Dial, urls: &[String]) -> Channel {
    let dial = dial.clone();
    let urls: Arc<[String]> = urls.into();
    let connector = tower::service_fn(move |_: http::Uri| {
        let dial = dial.clone();
        let urls = urls.clone();
        async move {
            let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "no peer URL");
            for url in urls.iter() {
                match timeout(CONNECT_TIMEOUT, dial(url.clone())).await {
                    Ok(Ok(stream)) => return Ok(TokioIo::new(stream)),
                    Ok(Err(error)) => failure = error,
                    Err(_) => failure = io::ErrorKind::TimedOut.into(),
                }
            }
            Err(failure)
        }
    });
    // The name is never resolved: the connector knows the addresses. The connector also bounds the
    // time: what tonic's own limit cuts off is no connection error to a caller, who would have to
    // think that the request may have been sent.
    Endpoint::from_static("http://peer")
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .connect_with_connector_lazy(connector)
}

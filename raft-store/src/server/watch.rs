//! etcd's Watch service.
//!
//! The service is written by hand rather than generated, because of what a response costs when a
//! thousand watchers get the same event: the response body *is* the stream's state machine, polled
//! by the connection's own task, so there is no task, channel or message object per stream, and
//! events are copied (large ones: shared) in encoded form.
//!
//! - [`body`]: the response body; drives the rest.
//! - [`session`]: one stream's watchers: creates, cancels, progress, catching up.
//! - [`cohort`]: watchers at the same position, grouped by what they want.
//! - [`outbox`]: encoded responses on their way out.

mod body;
mod cohort;
mod outbox;
mod session;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::error::Error;
use crate::pb::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use crate::server::status;
use crate::watch::leader::LEADER_GRACE;
use crate::watch::local::PROGRESS_INTERVAL;
use crate::watch::{LeaderWatch, WatchHub};

use body::WatchBody;
use session::Session;

/// The request header by which clients ask not to be served by a member without a leader.
const REQUIRE_LEADER: &str = "hasleader";
/// The request limit plus 512 KiB: where etcd splits a response for watchers with `fragment`.
const FRAGMENT_BYTES: usize = (1536 + 512) << 10;
/// The lowest progress interval, as in etcd.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How the service behaves.
#[derive(Debug, Clone)]
pub struct WatchConfig {
    /// The time between progress reports of a quiet watcher with `progress_notify`; at least
    /// 100 ms. Each stream stretches it by up to a tenth, so that they do not all report at once.
    pub progress_interval: Duration,
    /// How long a stream that requires a leader lives on without one.
    pub leader_grace: Duration,
    /// From which size a response to a watcher with `fragment` is split, in bytes.
    pub fragment_bytes: usize,
}

impl Default for WatchConfig {
    fn default() -> Self {
        WatchConfig {
            progress_interval: PROGRESS_INTERVAL,
            leader_grace: LEADER_GRACE,
            fragment_bytes: FRAGMENT_BYTES,
        }
    }
}

/// What the service needs of the member.
#[derive(Clone)]
pub struct WatchParts {
    /// Events and the index of who wants them. Its tasks decide when streams end.
    pub hub: WatchHub,
    /// Who leads.
    pub leader: watch::Receiver<Option<u64>>,
    /// A response header with the member's IDs and term; the service sets the revision.
    pub header: Arc<dyn Fn() -> ResponseHeader + Send + Sync>,
    /// How the service behaves.
    pub config: WatchConfig,
}

/// The gRPC service `etcdserverpb.Watch`.
#[derive(Clone)]
pub struct WatchService {
    parts: Arc<WatchParts>,
}

impl WatchService {
    /// The service of one member.
    pub fn new(mut parts: WatchParts) -> WatchService {
        let interval = &mut parts.config.progress_interval;
        *interval = PROGRESS_INTERVAL_MIN.max(*interval);
        WatchService {
            parts: Arc::new(parts),
        }
    }

    fn open<B>(&self, request: Request<B>) -> Result<WatchBody, Status>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        if request.uri().path() != "/etcdserverpb.Watch/Watch" {
            return Err(Status::new(Code::Unimplemented, "unknown method"));
        }
        if self.parts.hub.is_stopped() {
            return Err(status::status(&Error::Stopped));
        }
        if self.parts.hub.is_suspended() {
            return Err(status::status(&Error::Corrupt));
        }
        let leader = match requires_leader(&request) {
            false => None,
            true => {
                let grace = self.parts.config.leader_grace;
                let leader = LeaderWatch::new(self.parts.leader.clone(), grace);
                if !leader.has_leader() {
                    return Err(status::status(&Error::NoLeader));
                }
                Some(leader)
            }
        };
        let mut codec = ProstCodec::<WatchResponse, WatchRequest>::default();
        let requests = Streaming::new_request(codec.decoder(), request.into_body(), None, None);
        let session = Session::new(self.parts.clone());
        Ok(WatchBody::new(session, requests, leader))
    }
}

fn requires_leader<B>(request: &Request<B>) -> bool {
    let value = request.headers().get(REQUIRE_LEADER);
    value.is_some_and(|value| value == "true")
}

impl NamedService for WatchService {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl<B> tower_service::Service<Request<B>> for WatchService
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let response = match self.open(request) {
            Err(status) => status.into_http(),
            Ok(body) => {
                let mut response = Response::new(Body::new(body));
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(header::CONTENT_TYPE, grpc);
                response
            }
        };
        ready(Ok(response))
    }
}

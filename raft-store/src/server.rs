//! The etcd v3 services over gRPC and HTTP, on one port.
//!
//! - [`listen`] accepts connections, [`tls`] protects them, `authority` lets old clients in.
//! - `grpc` frames calls; `kv`, `lease`, `cluster`, `maintenance`, `health` and [`watch`] answer
//!   them from a [`Member`]; `http` answers the plain paths.
//! - [`status`] turns errors into gRPC statuses and back.
//!
//! A request is validated where it is carried out, in the member, because the in-process `Store`
//! needs the same checks; here are only the checks that belong to the transport.

mod authority;
mod cluster;
pub(crate) mod driven;
mod grpc;
mod health;
mod http;
mod kv;
mod lease;
pub mod listen;
mod listing;
mod maintenance;
pub mod status;
pub mod tls;
pub mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use futures::Stream;
use hyper::body::Incoming;
use prost::Message;
use seams::{Seams, Tasks};
use tokio::time::timeout_at;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::error::Error;
use crate::member::Member;
use crate::metrics::Metrics;
use crate::pb::etcdserverpb::SnapshotRequest;
use grpc::{Answer, Call, Method};
use listen::{Handler, Security};
use watch::{WatchConfig, WatchParts, WatchService};

pub use cluster::check_peer_urls;
pub use maintenance::status as status_response;

/// The version that clients are told: that of the API spoken. kubeadm and kube-apiserver compare
/// it with what they need (3.5.24 and 3.5.13 today).
pub const ETCD_VERSION: &str = "3.6.5";
/// The cluster version: minor versions only count.
pub const CLUSTER_VERSION: &str = "3.6.0";

/// etcd's limit for a request.
pub const MAX_REQUEST_BYTES: usize = 1_572_864;

/// The metadata key by which a client asks to fail rather than wait without a leader.
const REQUIRE_LEADER: &str = "hasleader";
/// The metadata key that carries a write's audit stamp from `RemoteStore`; etcd ignores it.
pub(crate) const AUDIT: &str = "trireme-audit-bin";

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Larger requests are refused.
    pub max_request_bytes: usize,
    /// How watches behave.
    pub watch: WatchConfig,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            max_request_bytes: MAX_REQUEST_BYTES,
            watch: WatchConfig::default(),
        }
    }
}

/// All services of one member. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    member: Member,
    metrics: Arc<Metrics>,
    seams: Seams,
    tasks: Tasks,
    options: ServerOptions,
    watch: WatchService,
}

impl Server {
    /// The services of a member; streams end with `tasks`.
    pub fn new(
        member: Member,
        metrics: Arc<Metrics>,
        seams: Seams,
        tasks: Tasks,
        options: ServerOptions,
    ) -> Server {
        metrics.grpc.name(grpc::METHOD_NAMES);
        let about = member.clone();
        let watch = WatchService::new(WatchParts {
            hub: member.watch_hub().clone(),
            leader: member.leader_watch(),
            header: Arc::new(move || about.header()),
            config: options.watch.clone(),
        });
        Server {
            inner: Arc::new(Inner {
                member,
                metrics,
                seams,
                tasks,
                options,
                watch,
            }),
        }
    }

    /// Serves clients on `addr` (`host:port`); yields the bound address.
    pub async fn listen(&self, addr: &str, security: Security) -> io::Result<SocketAddr> {
        let Inner { seams, tasks, .. } = &*self.inner;
        listen::listen(
            addr,
            security,
            &*seams.net,
            tasks,
            Everything(self.inner.clone()),
        )
        .await
    }

    /// Serves only `/health`, `/livez`, `/readyz`, `/version` and `/metrics` on `addr`, for
    /// probes and scrapers that have no client certificate.
    pub async fn listen_http(&self, addr: &str, security: Security) -> io::Result<SocketAddr> {
        let Inner { seams, tasks, .. } = &*self.inner;
        listen::listen(
            addr,
            security,
            &*seams.net,
            tasks,
            HttpOnly(self.inner.clone()),
        )
        .await
    }
}

#[derive(Clone)]
struct Everything(Arc<Inner>);

impl Handler for Everything {
    type Body = Answer;

    async fn handle(&self, request: Request<Incoming>) -> Response<Answer> {
        self.0.answer(request).await
    }
}

#[derive(Clone)]
struct HttpOnly(Arc<Inner>);

impl Handler for HttpOnly {
    type Body = Answer;

    async fn handle(&self, request: Request<Incoming>) -> Response<Answer> {
        http::answer(&self.0, &request).await
    }
}

/// What `$call(server, message)` makes of a request.
macro_rules! called {
    ($server:ident, $request:ident, $call:path) => {
        match $server.read($request).await {
            Ok((message, _)) => $call($server, message)
                .await
                .map_err(|e| status::status(&e)),
            Err(status) => Err(status),
        }
    };
}

/// Answers a unary call by `$call(server, message)`.
macro_rules! unary {
    ($server:ident, $begun:ident, $request:ident, $call:path) => {
        Answer::unary(
            called!($server, $request, $call),
            $begun,
            &$server.metrics.grpc,
        )
    };
}

/// Answers a write by `$call(server, message, audit stamp)`, if it is not too large.
macro_rules! write {
    ($server:ident, $begun:ident, $request:ident, $call:path) => {{
        let audit = audit($request.headers());
        let result = match $server.read($request).await {
            Ok((_, len)) if len > $server.options.max_request_bytes => {
                Err(status::status(&Error::RequestTooLarge))
            }
            Ok((message, _)) => $call($server, message, audit)
                .await
                .map_err(|e| status::status(&e)),
            Err(status) => Err(status),
        };
        Answer::unary(result, $begun, &$server.metrics.grpc)
    }};
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let Some(method) = Method::of(request.uri().path()) else {
            return Box::pin(http::answer(self, &request)).await;
        };
        let call = Call::begin(method, request.headers(), &self.metrics.grpc);
        if let Err(error) = self.admit(method, request.headers()) {
            return Answer::error(status::status(&error), call, &self.metrics.grpc);
        }
        let answer = std::pin::pin!(self.answer_call(call, request));
        match call.deadline {
            None => answer.await,
            // What the client has given up need not be finished; a write may have happened.
            Some(deadline) => match timeout_at(deadline, answer).await {
                Ok(response) => response,
                Err(_) => {
                    let late = Status::deadline_exceeded("context deadline exceeded");
                    Answer::error(late, call, &self.metrics.grpc)
                }
            },
        }
    }

    async fn answer_call(&self, call: Call, request: Request<Incoming>) -> Response<Answer> {
        match call.method {
            Method::Range => {
                let result = called!(self, request, kv::range);
                Answer::range(result, call, &self.metrics.grpc)
            }
            Method::Put => write!(self, call, request, kv::put),
            Method::DeleteRange => write!(self, call, request, kv::delete_range),
            Method::Txn => write!(self, call, request, kv::txn),
            // Boxed, so that the future of the calls above stays small.
            _ => Box::pin(self.answer_seldom(call, request)).await,
        }
    }

    async fn answer_seldom(&self, call: Call, request: Request<Incoming>) -> Response<Answer> {
        use Method as M;
        match call.method {
            M::Compact => unary!(self, call, request, kv::compact),
            M::LeaseGrant => unary!(self, call, request, lease::grant),
            M::LeaseRevoke => unary!(self, call, request, lease::revoke),
            M::LeaseTimeToLive => unary!(self, call, request, lease::time_to_live),
            M::LeaseLeases => unary!(self, call, request, lease::leases),
            M::MemberAdd => unary!(self, call, request, cluster::add),
            M::MemberRemove => unary!(self, call, request, cluster::remove),
            M::MemberUpdate => unary!(self, call, request, cluster::update),
            M::MemberList => unary!(self, call, request, cluster::list),
            M::MemberPromote => unary!(self, call, request, cluster::promote),
            M::Alarm => unary!(self, call, request, maintenance::alarm),
            M::Status => unary!(self, call, request, maintenance::status_call),
            M::Defragment => unary!(self, call, request, maintenance::defragment),
            M::Hash => unary!(self, call, request, maintenance::hash),
            M::HashKv => unary!(self, call, request, maintenance::hash_kv),
            M::MoveLeader => unary!(self, call, request, maintenance::move_leader),
            M::Downgrade => unary!(self, call, request, maintenance::downgrade),
            M::HealthCheck => unary!(self, call, request, health::check),
            _ => {
                let response = self.answer_stream(call.method, request).await;
                Answer::stream(response, call, &self.metrics.grpc)
            }
        }
    }

    async fn answer_stream(
        &self,
        method: Method,
        request: Request<Incoming>,
    ) -> Response<tonic::body::Body> {
        let member = self.member.clone();
        let tasks = self.tasks.clone();
        match method {
            Method::RangeStream => {
                let call = async move |message| kv::range_stream(member, message).await;
                self.server_stream(request, call).await
            }
            Method::Snapshot => {
                let call =
                    async move |_: SnapshotRequest| Ok(maintenance::snapshot(&member, &tasks));
                self.server_stream(request, call).await
            }
            Method::HealthWatch => {
                let call = async move |message| health::watch(message, tasks);
                self.server_stream(request, call).await
            }
            Method::LeaseKeepAlive => {
                let required = requires_leader(request.headers());
                let call = tower::service_fn(move |calls: tonic::Request<_>| {
                    let (member, tasks) = (member.clone(), tasks.clone());
                    let answers = lease::keep_alive(member, tasks, calls.into_inner(), required);
                    std::future::ready(Ok(tonic::Response::new(answers)))
                });
                self.codec().streaming(call, request).await
            }
            // Only Watch is left.
            _ => match self.watch.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        }
    }

    /// Runs a call that answers one message with a stream.
    async fn server_stream<Q, R, S, C>(
        &self,
        request: Request<Incoming>,
        call: C,
    ) -> Response<tonic::body::Body>
    where
        Q: Message + Default + Send + 'static,
        R: Message + Send + 'static,
        S: Stream<Item = Result<R, Status>> + Send + 'static,
        C: AsyncFnOnce(Q) -> Result<S, Status>,
    {
        let mut call = Some(call);
        let service = tower::service_fn(|message: tonic::Request<Q>| {
            let call = call.take();
            async move {
                let call = call.ok_or_else(|| Status::internal("called twice"))?;
                Ok(tonic::Response::new(call(message.into_inner()).await?))
            }
        });
        self.codec().server_streaming(service, request).await
    }

    fn codec<R, Q>(&self) -> tonic::server::Grpc<ProstCodec<R, Q>>
    where
        R: Message + Send + 'static,
        Q: Message + Default + Send + 'static,
    {
        tonic::server::Grpc::new(ProstCodec::default())
            .max_decoding_message_size(grpc::max_message_bytes(self.options.max_request_bytes))
    }

    /// Reads the message of a unary call; yields it with its length in bytes.
    async fn read<M: Message + Default>(
        &self,
        request: Request<Incoming>,
    ) -> Result<(M, usize), Status> {
        let max = grpc::max_message_bytes(self.options.max_request_bytes);
        grpc::read_message(request.into_body(), max, &self.metrics.grpc).await
    }

    /// Refuses what cannot be served now, before the message is read.
    fn admit(&self, method: Method, headers: &HeaderMap) -> Result<(), Error> {
        // A range may be serializable; that is known once it is decoded.
        let served_by_learners = matches!(
            method,
            Method::Range
                | Method::Status
                | Method::Snapshot
                | Method::HealthCheck
                | Method::HealthWatch
        );
        if !served_by_learners && self.member.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        if requires_leader(headers) && self.member.leader().is_none() {
            return Err(Error::NoLeader);
        }
        Ok(())
    }
}

fn requires_leader(headers: &HeaderMap) -> bool {
    headers
        .get(REQUIRE_LEADER)
        .is_some_and(|value| value == "true")
}

/// The audit stamp that came with a write; empty if none did.
fn audit(headers: &HeaderMap) -> Bytes {
    let Some(value) = headers.get(AUDIT) else {
        return Bytes::new();
    };
    let only = HeaderMap::from_iter([(::http::HeaderName::from_static(AUDIT), value.clone())]);
    let decoded = MetadataMap::from_headers(only)
        .get_bin(AUDIT)
        .map(|value| value.to_bytes());
    decoded.and_then(Result::ok).unwrap_or_default()
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_stamp_survives_the_header() {
        let mut map = MetadataMap::new();
        map.insert_bin(
            AUDIT,
            tonic::metadata::MetadataValue::from_bytes(&[0, 255, 7]),
        );
        assert_eq!(audit(&map.into_headers()), Bytes::from_static(&[0, 255, 7]));
        assert_eq!(audit(&HeaderMap::new()), Bytes::new());
    }

    #[test]
    fn only_true_requires_a_leader() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(
                ::http::HeaderName::from_static(REQUIRE_LEADER),
                ::http::HeaderValue::from_static(value),
            )])
        };
        assert!(requires_leader(&with("true")));
        assert!(!requires_leader(&with("false")));
        assert!(!requires_leader(&HeaderMap::new()));
    }
}

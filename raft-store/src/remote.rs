//! [`RemoteStore`]: a [`Store`] over any etcd v3 endpoints, Trireme's or etcd's own.
//!
//! - `endpoint` keeps one HTTP/2 connection per endpoint and notices within about two seconds
//!   when the other side is dead; `call` says what may be retried where.
//! - `watch` resumes on another endpoint without a gap or a duplicate.
//! - `admin` holds the cluster and maintenance calls that operators need.

mod admin;
mod call;
mod endpoint;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use seams::{Seams, Tasks};
use tonic::metadata::MetadataValue;

use crate::error::{Error, Result};
use crate::pb::etcdserverpb::kv_client::KvClient;
use crate::pb::etcdserverpb::lease_client::LeaseClient;
use crate::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::pb::etcdserverpb::request_op::Request as Op;
use crate::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, StatusRequest, StatusResponse, TxnRequest, TxnResponse, WatchCreateRequest,
};
use crate::server::AUDIT;
use crate::server::tls::ClientTls;
use crate::store::{Store, WatchStream};
use call::Retry;
use endpoint::{Connection, Dialer, Endpoint};

pub use admin::SnapshotStream;

/// How to reach a cluster, and how patiently.
#[derive(Clone)]
pub struct RemoteConfig {
    /// `http://host:port`, `https://host:port` or `host:port`; at least one.
    pub endpoints: Vec<String>,
    /// TLS for `https` endpoints.
    pub tls: Option<ClientTls>,
    /// Longest time to open a connection, TLS included.
    pub connect_timeout: Duration,
    /// Longest time for a call with all its retries.
    pub request_timeout: Duration,
    /// A call fails before its time is up when nothing could be connected to in so many rounds over
    /// all endpoints in a row.
    pub connect_rounds: usize,
    /// A connection that was silent for this long is probed.
    pub probe_interval: Duration,
    /// A probe without an answer for this long ends the connection.
    pub probe_timeout: Duration,
    /// How long a watch looks for an endpoint that serves it before it fails.
    pub watch_patience: Duration,
}

impl RemoteConfig {
    /// The defaults for these endpoints, in plain text.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> RemoteConfig {
        RemoteConfig {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            connect_timeout: Duration::from_millis(1500),
            // Above the server's own limit of 7 s, so that its answer is heard.
            request_timeout: Duration::from_secs(10),
            connect_rounds: usize::MAX,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(1),
            watch_patience: Duration::from_secs(30),
        }
    }
}

/// A store behind gRPC. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct RemoteStore {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Vec<Arc<Endpoint>>,
    /// The endpoint in use; all callers move on together when it fails.
    current: AtomicUsize,
    config: RemoteConfig,
    seams: Seams,
}

impl RemoteStore {
    /// A store over these endpoints. Nothing is connected before the first call; connections end
    /// with `tasks`. Fails on an endpoint that is no address.
    pub fn new(config: RemoteConfig, seams: &Seams, tasks: &Tasks) -> Result<RemoteStore> {
        let dialer = Arc::new(Dialer::new(&config, seams, tasks));
        let endpoints = config
            .endpoints
            .iter()
            .map(|url| Endpoint::new(url, &dialer));
        let endpoints = endpoints.collect::<Result<Vec<_>>>()?;
        if endpoints.is_empty() {
            return Err(Error::InvalidArgument("no endpoints given".to_owned()));
        }
        // Clients that start together spread over the members.
        let first = seams.rng.below(endpoints.len() as u64) as usize;
        let inner = Inner {
            endpoints,
            current: AtomicUsize::new(first),
            config,
            seams: seams.clone(),
        };
        Ok(RemoteStore {
            inner: Arc::new(inner),
        })
    }

    /// The same store, but only through the endpoint with this index (modulo their number).
    pub fn at(&self, index: usize) -> RemoteStore {
        let only = self.inner.endpoints[index % self.inner.endpoints.len()].clone();
        let inner = Inner {
            endpoints: vec![only],
            current: AtomicUsize::new(0),
            config: self.inner.config.clone(),
            seams: self.inner.seams.clone(),
        };
        RemoteStore {
            inner: Arc::new(inner),
        }
    }

    /// The endpoints, as given.
    pub fn endpoints(&self) -> &[String] {
        &self.inner.config.endpoints
    }
}

impl Connection {
    fn kv(&self) -> KvClient<Connection> {
        KvClient::with_origin(self.clone(), self.origin())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    fn lease(&self) -> LeaseClient<Connection> {
        LeaseClient::with_origin(self.clone(), self.origin()).max_decoding_message_size(usize::MAX)
    }

    fn maintenance(&self) -> MaintenanceClient<Connection> {
        MaintenanceClient::with_origin(self.clone(), self.origin())
            .max_decoding_message_size(usize::MAX)
    }
}

/// A request that carries the audit stamp, which etcd ignores.
fn stamped<T>(message: T, metadata: &Bytes) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if !metadata.is_empty() {
        request
            .metadata_mut()
            .insert_bin(AUDIT, MetadataValue::from_bytes(metadata));
    }
    request
}

/// Whether a transaction only reads.
fn reads_only(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| matches!(&op.request, Some(Op::RequestRange(_))))
}

#[async_trait]
impl Store for RemoteStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.inner
            .call(Retry::Read, |c| {
                let request = request.clone();
                async move { c.kv().range(request).await }
            })
            .await
    }

    async fn put(&self, request: PutRequest, metadata: Bytes) -> Result<PutResponse> {
        self.inner
            .call(Retry::Write, |c| {
                let request = stamped(request.clone(), &metadata);
                async move { c.kv().put(request).await }
            })
            .await
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
        metadata: Bytes,
    ) -> Result<DeleteRangeResponse> {
        self.inner
            .call(Retry::Write, |c| {
                let request = stamped(request.clone(), &metadata);
                async move { c.kv().delete_range(request).await }
            })
            .await
    }

    async fn txn(&self, request: TxnRequest, metadata: Bytes) -> Result<TxnResponse> {
        let retry = if reads_only(&request) {
            Retry::Read
        } else {
            Retry::Write
        };
        self.inner
            .call(retry, |c| {
                let request = stamped(request.clone(), &metadata);
                async move { c.kv().txn(request).await }
            })
            .await
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse> {
        self.inner
            .call(
                Retry::Write,
                |c| async move { c.kv().compact(request).await },
            )
            .await
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Box<dyn WatchStream>> {
        let watch = watch::RemoteWatch::open(self.clone(), request).await?;
        Ok(Box::new(watch))
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        let grant = |c: Connection| async move { c.lease().lease_grant(request).await };
        self.inner.call(Retry::Write, grant).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse> {
        let request = LeaseRevokeRequest { id };
        let revoke = |c: Connection| async move { c.lease().lease_revoke(request).await };
        self.inner.call(Retry::Write, revoke).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        // To renew twice is to renew once, so that this is retried like a read.
        self.inner
            .call(Retry::Read, |c| async move {
                let requests = stream::iter([LeaseKeepAliveRequest { id }]);
                let mut responses = c.lease().lease_keep_alive(requests).await?.into_inner();
                let response = responses.message().await?;
                response
                    .map(tonic::Response::new)
                    .ok_or_else(|| tonic::Status::unavailable("keep-alive stream ended"))
            })
            .await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.inner
            .call(Retry::Read, |c| async move {
                c.lease().lease_time_to_live(request).await
            })
            .await
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        self.inner
            .call(Retry::Read, |c| async move {
                c.lease().lease_leases(LeaseLeasesRequest {}).await
            })
            .await
    }

    async fn progress(&self) -> Result<i64> {
        // Any linearizable read tells the revision; this one touches no key.
        let request = RangeRequest {
            key: Bytes::from_static(&[0]),
            limit: 1,
            keys_only: true,
            ..Default::default()
        };
        let response = self.range(request).await?;
        Ok(response.header.map_or(0, |header| header.revision))
    }

    async fn status(&self) -> Result<StatusResponse> {
        self.inner
            .call(Retry::Read, |c| async move {
                c.maintenance().status(StatusRequest {}).await
            })
            .await
    }
}

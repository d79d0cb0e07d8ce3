//! Counts of gRPC calls by method and code, and of the bytes that they carried.
//!
//! Every call passes here, so that a call costs a few additions: the table of methods is fixed,
//! and labels are only built when someone scrapes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tonic::Code;

use super::Histogram;

/// gRPC has 17 codes, from 0.
const CODES: usize = 17;
/// More methods than the services have together; a larger index counts as the last.
const METHODS: usize = 40;

/// First bucket and number of buckets of the calls' durations: 1 ms to 8 s.
const DURATIONS: (f64, usize) = (0.001, 14);
/// So many versions of clients are told apart, and so long may one be.
const VERSIONS: usize = 16;
const VERSION_LEN: usize = 16;
const UNKNOWN: &str = "unknown";

/// The names of the codes, by number, as Go's gRPC library prints them.
const CODE_NAMES: [&str; CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Whether a call or its answer is a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many of both.
    BidiStream,
}

/// What a method is called in labels.
#[derive(Debug, Clone, Copy)]
pub struct MethodName {
    /// Such as `etcdserverpb.KV`.
    pub service: &'static str,
    /// Such as `Range`.
    pub method: &'static str,
    /// The label `grpc_type`.
    pub kind: CallKind,
}

/// The counters; a method is known by its index in the table given to [`GrpcMetrics::name`].
#[derive(Debug)]
pub struct GrpcMetrics {
    names: OnceLock<&'static [MethodName]>,
    started: [AtomicU64; METHODS],
    handled: [[AtomicU64; CODES]; METHODS],
    durations: [Histogram; METHODS],
    clients: ArcSwap<Vec<Arc<Client>>>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// The calls of the clients of one version of etcd's API.
#[derive(Debug)]
struct Client {
    version: String,
    unary: AtomicU64,
    streams: AtomicU64,
}

impl Client {
    fn new(version: &str) -> Arc<Client> {
        Arc::new(Client {
            version: version.to_owned(),
            unary: AtomicU64::new(0),
            streams: AtomicU64::new(0),
        })
    }
}

impl Default for GrpcMetrics {
    fn default() -> Self {
        GrpcMetrics {
            names: OnceLock::new(),
            started: [const { AtomicU64::new(0) }; METHODS],
            handled: [const { [const { AtomicU64::new(0) }; CODES] }; METHODS],
            durations: std::array::from_fn(|_| Histogram::exponential(DURATIONS.0, DURATIONS.1)),
            clients: ArcSwap::from_pointee(vec![Client::new(UNKNOWN)]),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }
}

impl GrpcMetrics {
    /// Names the methods, by index. Only the first call counts.
    pub fn name(&self, methods: &'static [MethodName]) {
        debug_assert!(methods.len() <= METHODS);
        let _ = self.names.set(methods);
    }

    /// A call of a method began.
    pub fn start(&self, method: usize) {
        self.started[method.min(METHODS - 1)].fetch_add(1, Relaxed);
    }

    /// A call of a method ended.
    pub fn finish(&self, method: usize, code: Code, took: Duration) {
        let method = method.min(METHODS - 1);
        self.handled[method][code as usize].fetch_add(1, Relaxed);
        self.durations[method].observe_duration(took);
    }

    /// A client called that names this version of the API, if it names any.
    pub fn called_by(&self, version: Option<&[u8]>, kind: CallKind) {
        let version = version.and_then(|version| std::str::from_utf8(version).ok());
        let known = |clients: &[Arc<Client>]| {
            let mut clients = clients.iter();
            clients
                .find(|client| Some(&*client.version) == version)
                .cloned()
        };
        let clients = self.clients.load();
        let client = known(&clients).unwrap_or_else(|| {
            if let Some(new) = version.filter(|new| new.len() <= VERSION_LEN) {
                self.clients.rcu(|clients| {
                    let mut more = Vec::clone(clients);
                    if known(&more).is_none() && more.len() < VERSIONS {
                        more.push(Client::new(new));
                    }
                    more
                });
            }
            let clients = self.clients.load();
            known(&clients).unwrap_or_else(|| clients[0].clone())
        });
        let count = match kind {
            CallKind::Unary => &client.unary,
            CallKind::ServerStream | CallKind::BidiStream => &client.streams,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Message bytes came in.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Message bytes went out.
    pub fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// How often a method ended with a code.
    pub fn handled(&self, method: usize, code: Code) -> u64 {
        self.handled[method.min(METHODS - 1)][code as usize].load(Relaxed)
    }

    fn methods(&self) -> impl Iterator<Item = (usize, &'static MethodName)> {
        let names = self.names.get().copied().unwrap_or_default();
        names.iter().enumerate()
    }

    fn encode_started(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.methods().map(|(i, name)| {
            let count = self.started[i].load(Relaxed);
            (name.labels().to_vec(), count)
        });
        counters(encoder, "grpc_server_started", "Calls started", rows)
    }

    fn encode_handled(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.methods().flat_map(|(i, name)| {
            let codes = self.handled[i].iter().enumerate();
            let counts = codes.map(|(code, count)| (code, count.load(Relaxed)));
            // Hundreds of lines of zeros would say nothing; OK is there from the start.
            let told = counts.filter(|(code, count)| *count > 0 || *code == 0);
            told.map(|(code, count)| {
                let [service, method, kind] = name.labels();
                let code = ("grpc_code", CODE_NAMES[code]);
                (vec![code, service, method, kind], count)
            })
        });
        counters(encoder, "grpc_server_handled", "Calls ended, by code", rows)
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "grpc_server_handling_seconds",
            "Durations of calls",
            None,
            MetricType::Histogram,
        )?;
        for (i, name) in self.methods() {
            if self.durations[i].totals().0 > 0 {
                self.durations[i].encode(family.encode_family(&name.labels())?)?;
            }
        }
        Ok(())
    }

    fn encode_clients(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let clients = self.clients.load_full();
        let rows = clients.iter().flat_map(|client| {
            let kinds = [("unary", &client.unary), ("stream", &client.streams)];
            kinds.map(|(kind, count)| {
                let version = ("client_api_version", client.version.as_str());
                (vec![("type", kind), version], count.load(Relaxed))
            })
        });
        let told = rows.filter(|(_, count)| *count > 0);
        let (name, help) = ("etcd_server_client_requests", "Calls by clients' version");
        counters(encoder, name, help, told)
    }
}

/// A family of counters as it is now.
fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (Vec<(&'static str, &'a str)>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in rows {
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl MethodName {
    fn labels(&self) -> [(&'static str, &'static str); 3] {
        let kind = match self.kind {
            CallKind::Unary => "unary",
            CallKind::ServerStream => "server_stream",
            CallKind::BidiStream => "bidi_stream",
        };
        [
            ("grpc_service", self.service),
            ("grpc_method", self.method),
            ("grpc_type", kind),
        ]
    }
}

impl Collector for GrpcMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_started(&mut encoder)?;
        self.encode_handled(&mut encoder)?;
        self.encode_durations(&mut encoder)?;
        self.encode_clients(&mut encoder)?;
        for (name, help, value) in [
            (
                "etcd_network_client_grpc_received_bytes",
                "Bytes received from clients",
                &self.received_bytes,
            ),
            (
                "etcd_network_client_grpc_sent_bytes",
                "Bytes sent to clients",
                &self.sent_bytes,
            ),
        ] {
            let counter = ConstCounter::new(value.load(Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

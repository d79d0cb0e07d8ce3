//! Counts of gRPC calls by method and code, and of the bytes that they carried.
//!
//! Every call passes here, so that a call costs a few additions: the table of methods is fixed,
//! and labels are only built when someone scrapes.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tonic::Code;

/// gRPC has 17 codes, from 0.
const CODES: usize = 17;
/// More methods than the services have together; a larger index counts as the last.
const METHODS: usize = 40;

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
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Default for GrpcMetrics {
    fn default() -> Self {
        GrpcMetrics {
            names: OnceLock::new(),
            started: [const { AtomicU64::new(0) }; METHODS],
            handled: [const { [const { AtomicU64::new(0) }; CODES] }; METHODS],
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
    pub fn finish(&self, method: usize, code: Code) {
        self.handled[method.min(METHODS - 1)][code as usize].fetch_add(1, Relaxed);
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

    fn encode_started(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "grpc_server_started",
            "Calls started",
            None,
            MetricType::Counter,
        )?;
        for (i, name) in self
            .names
            .get()
            .copied()
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let labels = name.labels();
            let count = ConstCounter::new(self.started[i].load(Relaxed));
            count.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_handled(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "grpc_server_handled",
            "Calls ended, by code",
            None,
            MetricType::Counter,
        )?;
        for (i, name) in self
            .names
            .get()
            .copied()
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            for (code, count) in self.handled[i].iter().enumerate() {
                let count = count.load(Relaxed);
                // Hundreds of lines of zeros would say nothing; OK is there from the start.
                if count == 0 && code != 0 {
                    continue;
                }
                let [service, method, kind] = name.labels();
                let labels = [("grpc_code", CODE_NAMES[code]), service, method, kind];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
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

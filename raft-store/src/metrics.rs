//! What the member counts and measures, under etcd's metric names where a counterpart exists.
//!
//! Components hold the handles of [`Metrics`] and update them; values that a component already
//! knows ([`View`]) are read when someone scrapes, so that they cost nothing in between.
//! `prometheus-client` appends `_total` to counters: names here leave it out for those. Where
//! etcd's name of a counter has no `_total`, it is registered as a gauge to keep the name.

mod grpc;
mod histogram;
mod process;
mod view;

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use grpc::{CallKind, GrpcMetrics, MethodName};
pub use histogram::Histogram;
pub use process::ProcessView;
pub use view::View;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The handles of everything that is counted while it happens.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Calls by method and code; see [`GrpcMetrics`].
    pub grpc: Arc<GrpcMetrics>,
    /// Seconds per fdatasync of the log.
    pub wal_fsync: Histogram,
    /// Seconds per write of the log.
    pub wal_write: Histogram,
    /// Bytes written to the log since the start.
    pub wal_written_bytes: Gauge,
    /// Seconds per batch written to the engine.
    pub backend_commit: Histogram,
    /// Seconds per backup stream or snapshot sent to a member.
    pub backend_snapshot: Histogram,
    /// Seconds per apply batch.
    pub apply: Histogram,
    /// Apply batches that took longer than 100 ms.
    pub slow_applies: Counter,
    /// Leader changes seen.
    pub leader_changes: Counter,
    /// Proposals that failed or timed out.
    pub proposals_failed: Counter,
    /// Proposals that wait for their outcome now.
    pub proposals_pending: Gauge,
    /// Linearizable reads that failed.
    pub read_indexes_failed: Counter,
    /// Linearizable reads that took longer than a second.
    pub slow_read_indexes: Counter,
    /// Heartbeats that could not be sent.
    pub heartbeat_send_failures: Counter,
    /// 1 while a snapshot is being installed.
    pub snapshot_applying: Gauge,
    /// Learners promoted while this member led.
    pub learner_promote_successes: Gauge,
    /// Health checks answered with success.
    pub health_successes: Gauge,
    /// Health checks answered with failure.
    pub health_failures: Gauge,
    /// Ranges seen.
    pub ranges: Counter,
    /// Puts applied.
    pub puts: Counter,
    /// Deletes applied.
    pub deletes: Counter,
    /// Transactions seen.
    pub txns: Counter,
    /// Watch streams open now.
    pub watch_streams: Gauge,
    /// Watches open now.
    pub watchers: Gauge,
    /// Watch streams that read history from disk now, because they fell behind the ring.
    pub slow_watchers: Gauge,
    /// Events sent to watchers.
    pub events_sent: Counter,
    /// Keys removed from history by compaction.
    pub compacted_keys: Counter,
    /// Leases granted.
    pub leases_granted: Counter,
    /// Leases revoked.
    pub leases_revoked: Counter,
    /// Leases renewed by this member as leader.
    pub leases_renewed: Counter,
    /// Leases that ran out.
    pub leases_expired: Counter,
    /// Bytes sent to a peer.
    pub peer_sent_bytes: Family<To, Counter>,
    /// Bytes received from a peer.
    pub peer_received_bytes: Family<From, Counter>,
    /// Messages that could not be sent to a peer.
    pub peer_send_failures: Family<To, Counter>,
    /// Seconds per round trip to a peer.
    pub peer_round_trip: Family<To, Histogram, fn() -> Histogram>,
    /// Connections of this member to a peer; etcd counts a peer as one.
    pub active_peers: Family<Between, Gauge>,
    /// How often the last connection to a peer ended.
    pub disconnected_peers: Family<Between, Counter>,
    /// Snapshots sent to a peer.
    pub snapshots_sent: Family<To, Gauge>,
    /// Snapshots that could not be sent to a peer.
    pub snapshot_send_failures: Family<To, Gauge>,
    /// TLS files that were read anew (`result` is `loaded` or `failed`).
    pub tls_reloads: Family<TlsReload, Counter>,
}

/// The label of what goes to a peer: its member ID in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(non_snake_case, reason = "etcd's label names")]
pub struct To {
    /// The peer's member ID in hexadecimal.
    pub To: String,
}

/// The label of what comes from a peer: its member ID in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(non_snake_case, reason = "etcd's label names")]
pub struct From {
    /// The peer's member ID in hexadecimal.
    pub From: String,
}

/// The labels of what is between this member and a peer: member IDs in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(non_snake_case, reason = "etcd's label names")]
pub struct Between {
    /// This member.
    pub Local: String,
    /// The peer.
    pub Remote: String,
}

impl Between {
    /// The labels for two member IDs.
    pub fn new(local: u64, remote: u64) -> Between {
        Between {
            Local: format!("{local:x}"),
            Remote: format!("{remote:x}"),
        }
    }
}

/// The labels of a certificate reload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TlsReload {
    /// `server` or `client`.
    pub side: &'static str,
    /// `loaded` or `failed`.
    pub result: &'static str,
}

/// Slower batches count as slow applies. etcd warns at the same limit.
pub const SLOW_APPLY_SECONDS: f64 = 0.1;

impl Metrics {
    /// A fresh set, all at zero.
    pub fn new() -> Arc<Metrics> {
        let mut r = Registry::default();
        let grpc = Arc::new(GrpcMetrics::default());
        r.register_collector(Box::new(grpc.clone()));
        let peer_round_trip = Family::new_with_constructor(round_trips as fn() -> _);
        r.register(
            "etcd_network_peer_round_trip_time_seconds",
            "Round-trip times to peers",
            peer_round_trip.clone(),
        );
        Arc::new(Metrics {
            grpc,
            peer_round_trip,
            wal_fsync: histogram(
                &mut r,
                "etcd_disk_wal_fsync_duration_seconds",
                0.0001,
                17,
                "Durations of fdatasync of the log",
            ),
            wal_write: histogram(
                &mut r,
                "etcd_disk_wal_write_duration_seconds",
                0.0001,
                17,
                "Durations of writes to the log",
            ),
            wal_written_bytes: gauge(
                &mut r,
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the log",
            ),
            backend_commit: histogram(
                &mut r,
                "etcd_disk_backend_commit_duration_seconds",
                0.0001,
                17,
                "Durations of batches written to the engine",
            ),
            backend_snapshot: histogram(
                &mut r,
                "etcd_disk_backend_snapshot_duration_seconds",
                0.01,
                17,
                "Durations of sending snapshots",
            ),
            apply: histogram(
                &mut r,
                "etcd_server_apply_duration_seconds",
                0.0001,
                20,
                "Durations of apply batches",
            ),
            slow_applies: counter(
                &mut r,
                "etcd_server_slow_apply",
                "Apply batches that took too long",
            ),
            leader_changes: counter(
                &mut r,
                "etcd_server_leader_changes_seen",
                "Leader changes seen",
            ),
            proposals_failed: counter(
                &mut r,
                "etcd_server_proposals_failed",
                "Proposals that failed",
            ),
            proposals_pending: gauge(
                &mut r,
                "etcd_server_proposals_pending",
                "Proposals waiting for their outcome",
            ),
            read_indexes_failed: counter(
                &mut r,
                "etcd_server_read_indexes_failed",
                "Read indexes that failed",
            ),
            slow_read_indexes: counter(
                &mut r,
                "etcd_server_slow_read_indexes",
                "Read indexes that took longer than a second",
            ),
            heartbeat_send_failures: counter(
                &mut r,
                "etcd_server_heartbeat_send_failures",
                "Heartbeats that could not be sent",
            ),
            snapshot_applying: gauge(
                &mut r,
                "etcd_server_snapshot_apply_in_progress_total",
                "1 while a snapshot is being installed",
            ),
            learner_promote_successes: gauge(
                &mut r,
                "etcd_server_learner_promote_successes",
                "Learners promoted while this member led",
            ),
            health_successes: gauge(
                &mut r,
                "etcd_server_health_success",
                "Health checks answered with success",
            ),
            health_failures: gauge(
                &mut r,
                "etcd_server_health_failures",
                "Health checks answered with failure",
            ),
            ranges: counter(&mut r, "etcd_mvcc_range", "Ranges seen by this member"),
            puts: counter(&mut r, "etcd_mvcc_put", "Puts applied by this member"),
            deletes: counter(&mut r, "etcd_mvcc_delete", "Deletes applied by this member"),
            txns: counter(&mut r, "etcd_mvcc_txn", "Transactions seen by this member"),
            watch_streams: gauge(
                &mut r,
                "etcd_debugging_mvcc_watch_stream_total",
                "Watch streams open",
            ),
            watchers: gauge(&mut r, "etcd_debugging_mvcc_watcher_total", "Watches open"),
            slow_watchers: gauge(
                &mut r,
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watch streams that catch up from disk",
            ),
            events_sent: counter(
                &mut r,
                "etcd_debugging_mvcc_events",
                "Events sent by this member",
            ),
            compacted_keys: counter(
                &mut r,
                "etcd_debugging_mvcc_db_compaction_keys",
                "Key versions removed by compaction",
            ),
            leases_granted: counter(&mut r, "etcd_debugging_lease_granted", "Leases granted"),
            leases_revoked: counter(&mut r, "etcd_debugging_lease_revoked", "Leases revoked"),
            leases_renewed: counter(
                &mut r,
                "etcd_debugging_lease_renewed",
                "Leases renewed by the leader",
            ),
            leases_expired: counter(
                &mut r,
                "etcd_debugging_server_lease_expired",
                "Leases that ran out",
            ),
            peer_sent_bytes: family(
                &mut r,
                "etcd_network_peer_sent_bytes",
                "Bytes sent to peers",
            ),
            peer_received_bytes: family(
                &mut r,
                "etcd_network_peer_received_bytes",
                "Bytes received from peers",
            ),
            peer_send_failures: family(
                &mut r,
                "etcd_network_peer_sent_failures",
                "Messages that could not be sent to peers",
            ),
            active_peers: family(
                &mut r,
                "etcd_network_active_peers",
                "Peers that this member has a connection to",
            ),
            disconnected_peers: family(
                &mut r,
                "etcd_network_disconnected_peers",
                "Last connections to peers that ended",
            ),
            snapshots_sent: family(
                &mut r,
                "etcd_network_snapshot_send_success",
                "Snapshots sent to peers",
            ),
            snapshot_send_failures: family(
                &mut r,
                "etcd_network_snapshot_send_failures",
                "Snapshots that could not be sent to peers",
            ),
            tls_reloads: family(&mut r, "trireme_tls_reloads", "Certificate files read anew"),
            registry: r,
        })
    }

    /// The whole page that a scrape gets.
    pub fn encode(&self, view: &View, process: &ProcessView) -> String {
        let mut page = String::with_capacity(32 * 1024);
        let mut now = Registry::default();
        view.register(&mut now);
        process.register(&mut now);
        // Writing into a string cannot fail.
        let _ = text::encode_registry(&mut page, &self.registry);
        let _ = text::encode_registry(&mut page, &now);
        let _ = text::encode_eof(&mut page);
        page
    }
}

fn counter(r: &mut Registry, name: &'static str, help: &'static str) -> Counter {
    let metric = Counter::default();
    r.register(name, help, metric.clone());
    metric
}

fn gauge(r: &mut Registry, name: &'static str, help: &'static str) -> Gauge {
    let metric = Gauge::default();
    r.register(name, help, metric.clone());
    metric
}

fn histogram(
    r: &mut Registry,
    name: &'static str,
    first: f64,
    buckets: usize,
    help: &'static str,
) -> Histogram {
    let metric = Histogram::exponential(first, buckets);
    r.register(name, help, metric.clone());
    metric
}

fn round_trips() -> Histogram {
    Histogram::exponential(0.0001, 16)
}

fn family<S, M>(r: &mut Registry, name: &'static str, help: &'static str) -> Family<S, M>
where
    S: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
    M: prometheus_client::encoding::EncodeMetric
        + prometheus_client::metrics::TypedMetric
        + Default
        + Send
        + Sync
        + std::fmt::Debug
        + 'static,
{
    let metric = Family::<S, M>::default();
    r.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let metrics = Metrics::new();
        metrics.wal_fsync.observe(0.0003);
        metrics.leader_changes.inc();
        metrics.grpc.start(0);
        let took = std::time::Duration::from_millis(3);
        metrics.grpc.finish(0, tonic::Code::Ok, took);
        metrics.grpc.called_by(Some(b"3.4"), CallKind::Unary);
        metrics.grpc.called_by(Some(b"3.4"), CallKind::BidiStream);
        metrics.grpc.called_by(None, CallKind::Unary);
        for n in 0..100 {
            let silly = format!("0.{n}");
            metrics
                .grpc
                .called_by(Some(silly.as_bytes()), CallKind::Unary);
        }
        metrics.grpc.name(&[MethodName {
            service: "etcdserverpb.KV",
            method: "Range",
            kind: CallKind::Unary,
        }]);
        drop(
            metrics
                .peer_round_trip
                .get_or_create(&To { To: "2a".into() }),
        );
        drop(
            metrics
                .peer_received_bytes
                .get_or_create(&From { From: "2a".into() }),
        );
        drop(
            metrics
                .peer_send_failures
                .get_or_create(&To { To: "2a".into() }),
        );
        metrics
            .active_peers
            .get_or_create(&Between::new(1, 2))
            .set(1);
        metrics
            .peer_sent_bytes
            .get_or_create(&To { To: "2a".into() })
            .inc_by(7);
        let view = View {
            member_id: 0xabc,
            has_leader: true,
            revision: 12,
            alarms: vec![(0xabc, "NOSPACE")],
            version: "3.6.5",
            cluster_version: "3.6.0",
            ..View::default()
        };
        metrics.encode(&view, &ProcessView::default())
    }

    #[test]
    fn names_are_etcds() {
        let page = page();
        for line in [
            "etcd_server_has_leader 1",
            "etcd_server_is_leader 0",
            "etcd_server_leader_changes_seen_total 1",
            "etcd_server_proposals_committed_total 0",
            "etcd_server_proposals_pending 0",
            "etcd_server_slow_apply_total 0",
            "etcd_disk_wal_fsync_duration_seconds_count 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 1",
            "etcd_debugging_mvcc_current_revision 12",
            "etcd_debugging_lease_granted_total 0",
            "etcd_server_health_success 0",
            "etcd_network_client_grpc_sent_bytes_total 0",
            "etcd_network_peer_sent_bytes_total{To=\"2a\"} 7",
            "etcd_server_id{server_id=\"abc\"} 1",
            "etcd_cluster_version{cluster_version=\"3.6\"} 1",
        ] {
            assert!(
                page.lines().any(|l| l == line),
                "{line} is missing in\n{page}"
            );
        }
    }

    /// What the alerts and the dashboard of etcd's monitoring mixin ask for.
    #[test]
    fn every_name_of_the_mixin_is_there() {
        let page = page();
        for name in [
            "etcd_disk_backend_commit_duration_seconds_bucket",
            "etcd_disk_wal_fsync_duration_seconds_bucket",
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "etcd_network_client_grpc_received_bytes_total",
            "etcd_network_client_grpc_sent_bytes_total",
            "etcd_network_peer_received_bytes_total",
            "etcd_network_peer_round_trip_time_seconds_bucket",
            "etcd_network_peer_sent_bytes_total",
            "etcd_network_peer_sent_failures_total",
            "etcd_server_has_leader",
            "etcd_server_leader_changes_seen_total",
            "etcd_server_proposals_applied_total",
            "etcd_server_proposals_committed_total",
            "etcd_server_proposals_failed_total",
            "etcd_server_proposals_pending",
            "etcd_server_quota_backend_bytes",
            "grpc_server_handled_total",
            "grpc_server_handling_seconds_bucket",
            "grpc_server_started_total",
            "process_resident_memory_bytes",
            // Older dashboards.
            "etcd_debugging_mvcc_db_total_size_in_bytes",
            "etcd_network_active_peers",
            "etcd_server_client_requests_total",
            "etcd_server_version",
            "etcd_cluster_version",
        ] {
            let told = |line: &str| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            assert!(page.lines().any(told), "{name} is missing in\n{page}");
        }
        for line in [
            "grpc_server_handling_seconds_count{grpc_service=\"etcdserverpb.KV\",\
             grpc_method=\"Range\",grpc_type=\"unary\"} 1",
            "etcd_server_client_requests_total{type=\"stream\",client_api_version=\"3.4\"} 1",
            "etcd_network_active_peers{Local=\"1\",Remote=\"2\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}: {page}");
        }
        let versions = page.matches("client_api_version=").count();
        assert!(versions <= 18, "bounded, whatever clients say: {versions}");
    }

    #[test]
    fn no_name_carries_a_suffix_twice() {
        let page = page();
        assert!(!page.contains("_total_total"), "{page}");
        assert!(page.ends_with("# EOF\n"));
    }
}

//! What a member knows anyway, read when someone scrapes.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

/// What a member knows at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// This member's ID.
    pub member_id: u64,
    /// Whether this member knows a leader.
    pub has_leader: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// The committed log index.
    pub committed_index: u64,
    /// The applied log index.
    pub applied_index: u64,
    /// Bytes on disk.
    pub db_bytes: i64,
    /// Live bytes.
    pub db_live_bytes: i64,
    /// The quota in live bytes.
    pub quota_bytes: i64,
    /// Number of keys.
    pub keys: i64,
    /// The current revision.
    pub revision: i64,
    /// The compaction watermark.
    pub compact_revision: i64,
    /// Alarms raised, as (member ID, name).
    pub alarms: Vec<(u64, &'static str)>,
    /// The version served, such as `3.6.5`.
    pub version: &'static str,
    /// The cluster's version, such as `3.6.0`.
    pub cluster_version: &'static str,
}

impl View {
    pub(super) fn register(&self, r: &mut Registry) {
        let gauges: [(&str, &str, i64); 14] = [
            (
                "etcd_server_has_leader",
                "Whether a leader is known",
                self.has_leader.into(),
            ),
            (
                "etcd_server_is_leader",
                "Whether this member leads",
                self.is_leader.into(),
            ),
            (
                "etcd_server_is_learner",
                "Whether this member is a learner",
                self.is_learner.into(),
            ),
            (
                "etcd_server_proposals_committed_total",
                "The committed log index",
                saturate(self.committed_index),
            ),
            (
                "etcd_server_proposals_applied_total",
                "The applied log index",
                saturate(self.applied_index),
            ),
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes of the database on disk",
                self.db_bytes,
            ),
            (
                "etcd_debugging_mvcc_db_total_size_in_bytes",
                "The same, under its former name",
                self.db_bytes,
            ),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Live bytes of the database",
                self.db_live_bytes,
            ),
            (
                "etcd_server_quota_backend_bytes",
                "The quota in live bytes",
                self.quota_bytes,
            ),
            (
                "etcd_debugging_mvcc_keys_total",
                "Number of keys",
                self.keys,
            ),
            (
                "etcd_debugging_mvcc_current_revision",
                "The current revision",
                self.revision,
            ),
            (
                "etcd_debugging_mvcc_compact_revision",
                "The compaction watermark",
                self.compact_revision,
            ),
            (
                "etcd_disk_defrag_inflight",
                "Always 0: there is nothing to defragment",
                0,
            ),
            (
                "trireme_apply_lag_entries",
                "Committed entries that wait to be applied",
                saturate(self.committed_index.saturating_sub(self.applied_index)),
            ),
        ];
        for (name, help, value) in gauges {
            r.register(name, help, ConstGauge::new(value));
        }
        labelled(
            r,
            "etcd_server_id",
            "This member's ID",
            [("server_id", format!("{:x}", self.member_id))],
        );
        labelled(
            r,
            "etcd_server_version",
            "The version served",
            [("server_version", self.version.to_owned())],
        );
        labelled(
            r,
            "etcd_cluster_version",
            "The cluster's version",
            [("cluster_version", cluster(self.cluster_version))],
        );
        let alarms = Family::<Vec<(&'static str, String)>, Gauge>::default();
        for (member, name) in &self.alarms {
            let labels = vec![
                ("server_id", format!("{member:x}")),
                ("alarm_type", (*name).to_owned()),
            ];
            alarms.get_or_create(&labels).set(1);
        }
        r.register("etcd_debugging_server_alarms", "Alarms raised", alarms);
    }
}

/// `3.6.0` is reported as `3.6`, as etcd does in this label.
fn cluster(version: &str) -> String {
    version
        .rsplit_once('.')
        .map_or(version, |(minor, _)| minor)
        .to_owned()
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn labelled(r: &mut Registry, name: &str, help: &str, labels: [(&'static str, String); 1]) {
    let metric = Family::<Vec<(&'static str, String)>, Gauge>::default();
    metric.get_or_create(&labels.to_vec()).set(1);
    r.register(name, help, metric);
}

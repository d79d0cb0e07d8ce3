//! The reference backend: Debian's etcd 3.4 in a directory of its own, on free ports.

use std::sync::Arc;

use async_trait::async_trait;
use raft_store::remote::{RemoteConfig, RemoteStore};
use seams::Seams;

use crate::backend::{Backend, Feature, Running, Skipped};
use crate::debian::{BINARY, Etcd};

const LACKS: &[(Feature, &str)] = &[
    (
        Feature::ManualProgress,
        "etcd 3.4.23 answers before the watch is synced (etcd#15220)",
    ),
    (
        Feature::DeleteAtCompactRevision,
        "etcd 3.4.23 loses that delete (etcd#18089)",
    ),
    (
        Feature::OpenEndedOverlap,
        "etcd reads the end \\0 as a key there, and lets both through",
    ),
    (
        Feature::SortOptionCheck,
        "etcd 3.4 does not check sort options",
    ),
    (
        Feature::FrequentProgress,
        "etcd sends progress every ten minutes",
    ),
];

/// Debian's `etcd-server` behind `RemoteStore`, in plain text.
pub(crate) struct DebianEtcd;

#[async_trait]
impl Backend for DebianEtcd {
    fn name(&self) -> &'static str {
        "etcd 3.4"
    }

    async fn start(&self) -> Result<Running, Skipped> {
        if !Etcd::is_installed() {
            return Err(Skipped(format!(
                "{BINARY} is missing: apt-get install etcd-server"
            )));
        }
        let seams = Seams::real();
        let tasks = seams.tasks();
        let process = tasks.blocking(|| Etcd::start(&[])).await;
        let url = process.endpoint.clone();
        let store = RemoteStore::new(RemoteConfig::new([url]), &seams, &tasks).expect("an address");
        Ok(Running {
            store: Arc::new(store),
            lacks: LACKS,
            _keep: Box::new((process, tasks)),
        })
    }
}

//! Our own backends: members in this process, asked directly or over gRPC on real sockets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use raft_store::Store;
use raft_store::remote::{RemoteConfig, RemoteStore};
use seams::Seams;

use crate::backend::{Backend, Running, Skipped};
use crate::support::{Cluster, eventually};

/// Which store is put before the cases. None lacks anything.
pub(crate) enum Trireme {
    /// The only member of its cluster.
    Alone,
    /// The leader of three members.
    Leader,
    /// A follower of three members: writes are forwarded, reads ask the leader for its index.
    Follower,
    /// `RemoteStore` over the client ports of three members.
    Remote,
}

#[async_trait]
impl Backend for Trireme {
    fn name(&self) -> &'static str {
        match self {
            Trireme::Alone => "a member alone",
            Trireme::Leader => "the leader of three members",
            Trireme::Follower => "a follower of three members",
            Trireme::Remote => "three members over gRPC",
        }
    }

    async fn start(&self) -> Result<Running, Skipped> {
        let size = if matches!(self, Trireme::Alone) { 1 } else { 3 };
        let cluster = Cluster::start_tuned(size, |config| {
            config.watch_progress_interval = Duration::from_millis(500);
        })
        .await;
        let leader = cluster.leader().await;
        let seams = Seams::real();
        let tasks = seams.tasks();
        let store: Arc<dyn Store> = match self {
            Trireme::Alone | Trireme::Leader => Arc::new(cluster.member(leader).clone()),
            Trireme::Follower => Arc::new(cluster.member((leader + 1) % size).clone()),
            Trireme::Remote => {
                let addresses = cluster.running().flat_map(|(_, m)| m.client_addresses());
                let urls = addresses.map(|address| format!("http://{address}"));
                let config = RemoteConfig::new(urls);
                Arc::new(RemoteStore::new(config, &seams, &tasks).expect("addresses"))
            }
        };
        eventually("the store to answer", || async {
            store.progress().await.ok()
        })
        .await;
        Ok(Running {
            store,
            lacks: &[],
            _keep: Box::new((cluster, tasks)),
        })
    }
}

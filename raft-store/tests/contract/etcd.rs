//! The reference backend: Debian's etcd 3.4 in a directory of its own, on free ports.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use raft_store::Store;
use raft_store::remote::{RemoteConfig, RemoteStore};
use seams::{Seams, Tasks};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::backend::{Backend, Feature, Running, Skipped};

const BINARY: &str = "/usr/bin/etcd";
const START_LIMIT: Duration = Duration::from_secs(30);

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
        if !Path::new(BINARY).exists() {
            return Err(Skipped(format!(
                "{BINARY} is missing: apt-get install etcd-server"
            )));
        }
        let (process, url) = Process::start().await;
        let seams = Seams::real();
        let tasks = seams.tasks();
        let store = RemoteStore::new(RemoteConfig::new([url]), &seams, &tasks).expect("an address");
        Ok(Running {
            store: Arc::new(store),
            lacks: LACKS,
            _keep: Box::new((process, tasks)),
        })
    }
}

/// A running etcd; dropping it kills it.
pub(crate) struct Process {
    _child: Child,
    _data: TempDir,
}

impl Process {
    /// Starts etcd and waits until it serves; yields its client URL.
    pub(crate) async fn start() -> (Process, String) {
        // Another process may take a port between its choice and its use.
        for _ in 0..5 {
            if let Some(started) = Process::try_start().await {
                return started;
            }
        }
        panic!("etcd does not start");
    }

    async fn try_start() -> Option<(Process, String)> {
        let data = TempDir::new().expect("a directory");
        let (client, peer) = (free_url(), free_url());
        let child = Command::new(BINARY)
            .arg("--data-dir")
            .arg(data.path())
            .args([
                "--name",
                "reference",
                "--logger",
                "zap",
                "--log-level",
                "error",
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("reference={peer}")])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("etcd can be run");
        let mut process = Process {
            _child: child,
            _data: data,
        };
        process
            .wait_until_ready(&client)
            .await
            .then_some((process, client))
    }

    async fn wait_until_ready(&mut self, url: &str) -> bool {
        let seams = Seams::real();
        let tasks: Tasks = seams.tasks();
        let store = RemoteStore::new(RemoteConfig::new([url]), &seams, &tasks).expect("an address");
        let deadline = Instant::now() + START_LIMIT;
        let ready = loop {
            let exited = matches!(self._child.try_wait(), Ok(Some(_)) | Err(_));
            if exited || Instant::now() > deadline {
                break false;
            }
            if store.progress().await.is_ok() {
                break true;
            }
            sleep(Duration::from_millis(50)).await;
        };
        tasks.shutdown().await;
        ready
    }
}

fn free_url() -> String {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test outside of any simulation"
    )]
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

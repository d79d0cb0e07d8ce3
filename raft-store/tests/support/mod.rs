//! Clusters of real members in this process, for the tests of this crate.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raft_store::member::config::{Config, Start};
use raft_store::member::{Member, StartError};
use raft_store::pb::etcdserverpb::{PutRequest, RangeRequest};
use raft_store::{Result, Store};
use seams::Seams;
use tempfile::TempDir;

/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster on loopback ports and temporary directories, in plain text.
pub struct Cluster {
    pub dir: TempDir,
    pub ports: Vec<u16>,
    pub members: Vec<Option<Member>>,
    tune: Box<dyn Fn(&mut Config) + Send + Sync>,
}

/// A port that nobody listens on now. It is below those that the system hands out, which any
/// connection of a test beside this one may take before the member listens.
#[allow(
    clippy::disallowed_methods,
    reason = "real sockets, outside of any simulation"
)]
pub fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Each test is a process of its own: they begin at different places.
    let start = std::process::id().wrapping_mul(61);
    loop {
        let at = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + at).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Cluster {
    /// Starts `size` founding members and waits until there is a leader.
    pub async fn start(size: usize) -> Self {
        Self::start_tuned(size, |_| {}).await
    }

    /// As `start`, with changes to each member's configuration.
    pub async fn start_tuned(
        size: usize,
        tune: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> Self {
        let mut cluster = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ports: (0..size).map(|_| free_port()).collect(),
            members: Vec::new(),
            tune: Box::new(tune),
        };
        let founders = (0..size).map(|at| cluster.founder(at)).collect::<Vec<_>>();
        let starts = (0..size).map(|at| {
            let start = Start::New {
                members: founders.clone(),
                token: "test".to_owned(),
            };
            Member::start(cluster.config(at, start), Seams::real())
        });
        let started = futures::future::join_all(starts).await;
        cluster.members = started
            .into_iter()
            .map(|member| Some(member.expect("the member starts")))
            .collect();
        cluster.leader().await;
        cluster
    }

    fn founder(&self, at: usize) -> (String, Vec<String>) {
        (format!("m{at}"), vec![self.peer_url(at)])
    }

    pub fn peer_url(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[at])
    }

    fn config(&self, at: usize, start: Start) -> Config {
        let name = format!("m{at}");
        let mut config = Config::new(&name, self.dir.path().join(&name), start);
        config.listen_peer = vec![format!("127.0.0.1:{}", self.ports[at])];
        config.listen_client = vec!["127.0.0.1:0".to_owned()];
        config.advertise_peer = vec![self.peer_url(at)];
        config.advertise_client = vec![format!("http://m{at}.test:1")];
        (self.tune)(&mut config);
        config
    }

    pub fn member(&self, at: usize) -> &Member {
        self.members[at].as_ref().expect("the member runs")
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Member)> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(at, member)| Some((at, member.as_ref()?)))
    }

    /// Stops a member in good order.
    pub async fn stop(&mut self, at: usize) {
        let member = self.members[at].take().expect("the member runs");
        member.shutdown().await;
    }

    /// Starts a stopped member on its old directory.
    pub async fn restart(&mut self, at: usize) {
        self.try_restart(at).await.expect("the member starts");
    }

    /// As `restart`, but the member may refuse.
    pub async fn try_restart(&mut self, at: usize) -> std::result::Result<(), StartError> {
        let start = Start::New {
            members: (0..self.ports.len()).map(|at| self.founder(at)).collect(),
            token: "test".to_owned(),
        };
        let member = Member::start(self.config(at, start), Seams::real()).await?;
        self.members[at] = Some(member);
        Ok(())
    }

    /// Starts a stopped member as a new one that joins the others. Returns its new ID.
    pub async fn rejoin(&mut self, at: usize) -> u64 {
        let others = (0..self.ports.len()).filter(|other| *other != at);
        let peers = others.map(|other| self.peer_url(other)).collect();
        let learner = false;
        self.launch(at, Start::Join { peers, learner }).await;
        self.member(at).id()
    }

    /// Starts a further member that joins the running ones. Returns its place.
    pub async fn join(&mut self, learner: bool) -> usize {
        self.ports.push(free_port());
        self.members.push(None);
        let at = self.ports.len() - 1;
        let peers = (0..at).map(|at| self.peer_url(at)).collect();
        self.launch(at, Start::Join { peers, learner }).await;
        at
    }

    async fn launch(&mut self, at: usize, start: Start) {
        let started = Member::start(self.config(at, start), Seams::real()).await;
        self.members[at] = Some(started.expect("the member starts"));
    }

    /// Waits until all running members agree on a running leader; returns its place.
    pub async fn leader(&self) -> usize {
        eventually("a leader that all members know", || async {
            let mut known = self.running().map(|(_, member)| member.leader());
            let first = known.next()??;
            if !known.all(|leader| leader == Some(first)) {
                return None;
            }
            self.running()
                .find(|(_, member)| member.id() == first)
                .map(|(at, _)| at)
        })
        .await
    }

    /// Waits until all running members have the same revision and hash.
    pub async fn converge(&self) {
        eventually("members with the same state", || async {
            let states: Vec<_> = self
                .running()
                .map(|(_, member)| member.mvcc().hash(0).map(|at| (at.revision, at.hash)))
                .collect::<Result<_>>()
                .ok()?;
            states
                .windows(2)
                .all(|pair| pair[0] == pair[1])
                .then_some(())
        })
        .await;
    }
}

/// Asks again until there is an answer; fails after [`PATIENCE`].
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

pub async fn put(store: &impl Store, key: &str, value: &str) -> Result<i64> {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    };
    let response = store.put(request, Bytes::new()).await?;
    Ok(response.header.map_or(0, |header| header.revision))
}

pub async fn get(store: &impl Store, key: &str) -> Result<Option<String>> {
    let request = RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..Default::default()
    };
    let response = store.range(request).await?;
    let kv = response.kvs.into_iter().next();
    Ok(kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
}

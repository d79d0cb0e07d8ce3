//! Starting a member: open its directory, learn who it is, run Raft, listen.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use openraft::LogIdOptionExt;
use seams::{Seams, Tasks};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::config::{Config, Start};
use super::identity::Identity;
use super::lessor::Lessor;
use super::{Inner, Member, StartError, upkeep};
use crate::consensus::databases::Databases;
use crate::consensus::log_store::LogStore;
use crate::consensus::peer_server::PeerService;
use crate::consensus::peers::{Dial, Peers};
use crate::consensus::raft::{Consensus, Metrics as RaftMetrics, Parts};
use crate::consensus::state_machine::StateMachine;
use crate::consensus::types::Node;
use crate::engine::OpenEngine;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::mvcc::{Mvcc, MvccConfig};
use crate::pb::etcdserverpb::MemberAddRequest;
use crate::pb::peer::peer_server::PeerServer;
use crate::pb::peer::{DescribeRequest, MemberChange, member_change::Change};
use crate::server::listen::{Handler, Security, listen};
use crate::server::tls::{ClientTls, ServerTls};
use crate::wal::{Wal, WalConfig};
use crate::watch::WatchHub;

/// The directory of the write-ahead log.
pub const WAL_DIR: &str = "wal";
/// The file whose lock keeps a second process away.
pub const LOCK_FILE: &str = "LOCK";
const SNAPSHOTS_DIR: &str = "snapshots";

/// How long a founding member looks for its peers before it founds the cluster without hearing
/// from all of them.
const FOUNDING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a joining member keeps asking to be added.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// One question to a peer, and the pause between two rounds of questions.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// Messages between members: the largest append and its envelope.
const PEER_MESSAGE_MAX: usize = 64 << 20;

impl Member {
    /// Starts a member on RocksDB.
    pub async fn start(config: Config, seams: Seams) -> Result<Self, StartError> {
        let engine = crate::engine::rocks_opener(config.limits.engine_bytes);
        Self::start_with(config, seams, engine).await
    }

    /// Starts a member on an engine of the caller's choice.
    pub async fn start_with(
        config: Config,
        seams: Seams,
        open_engine: OpenEngine,
    ) -> Result<Self, StartError> {
        let tasks = seams.tasks();
        match start(config, seams, open_engine, tasks.clone()).await {
            Ok(member) => Ok(member),
            Err(error) => {
                tasks.shutdown().await;
                Err(error)
            }
        }
    }
}

async fn start(
    config: Config,
    seams: Seams,
    open_engine: OpenEngine,
    tasks: Tasks,
) -> Result<Member, StartError> {
    let data_dir = config.data_dir.clone();
    let disk = seams.disk.clone();
    disk.create_dir_all(&data_dir)
        .map_err(|error| StartError::io("create", &data_dir, error))?;
    let lock_path = data_dir.join(LOCK_FILE);
    let lock = disk.lock(&lock_path).map_err(|error| {
        StartError::Config(format!(
            "{} is in use by another process ({error}): stop that one first",
            data_dir.display()
        ))
    })?;

    let metrics = Metrics::new();
    let security = PeerSecurity::load(&config, &seams, &metrics, &tasks)?;
    let dial = dialer(&seams, security.client.clone());
    let identity = match Identity::load(disk.as_ref(), &data_dir)? {
        Some(identity) => identity,
        None => {
            let identity = new_identity(&config, &dial).await?;
            identity.save(disk.as_ref(), &data_dir)?;
            identity
        }
    };

    let databases = Databases::new(&data_dir, disk.clone());
    let io = |action, error| StartError::io(action, &data_dir, error);
    databases.sweep().map_err(|error| io("clean up", error))?;
    let snapshots = data_dir.join(SNAPSHOTS_DIR);
    sweep_snapshots(&seams, &snapshots).map_err(|error| io("clean up", error))?;
    let live = databases.live().map_err(|error| io("read", error))?;
    let engine = open_engine(&live)?;
    let mvcc = Mvcc::open(
        engine,
        MvccConfig {
            quota_bytes: config.limits.quota_bytes,
            ring_bytes: config.limits.ring_bytes,
            txn_ops_max: config.limits.txn_ops,
            cluster_seed: identity.cluster_id,
            ..MvccConfig::default()
        },
    )?;
    let (wal, recovered) = open_wal(&config, &seams, &tasks, &metrics)?;
    tracing::info!(
        name = config.name,
        member = %format_args!("{:x}", identity.member_id),
        cluster = %format_args!("{:x}", identity.cluster_id),
        log = ?recovered.last.map(|at| at.to_string()),
        applied = ?mvcc.applied().map(|at| at.to_string()),
        revision = mvcc.revision(),
        "opened the data directory"
    );

    let state_machine = StateMachine::new(
        mvcc.clone(),
        open_engine,
        disk.clone(),
        tasks.clone(),
        databases,
        snapshots.clone(),
    );
    let consensus = Consensus::start(Parts {
        id: identity.member_id,
        cluster_id: identity.cluster_id,
        log: LogStore::new(wal.clone()),
        state_machine,
        mvcc: mvcc.clone(),
        peers: Peers::new(identity.cluster_id, dial),
        timings: config.timings.clone(),
        tasks: tasks.clone(),
    })
    .await?;

    let hub = WatchHub::new(mvcc.ring(), Arc::new(mvcc.clone()), &tasks);
    let leader = follow_leader(&consensus, &metrics, &tasks);
    let recovered = follow_recovery(&consensus, &tasks);
    let mut inner = Inner {
        identity,
        config,
        seams,
        tasks,
        consensus,
        mvcc,
        wal,
        hub,
        lessor: Lessor::default(),
        metrics,
        membership_gate: Mutex::default(),
        recovered,
        leader,
        quarantined: AtomicBool::new(false),
        peer_addresses: Vec::new(),
        client_addresses: OnceLock::new(),
        _lock: lock,
    };
    let slot = Arc::new(OnceLock::new());
    inner.peer_addresses = listen_for_peers(&inner, &security, slot.clone(), snapshots).await?;
    let member = Member(Arc::new(inner));
    // From here on peers are answered.
    let _ = slot.set(member.clone());
    found(&member).await?;
    upkeep::start(&member);
    let addresses = crate::server::serve(&member).await?;
    let _ = member.0.client_addresses.set(addresses);
    Ok(member)
}

/// TLS between members.
struct PeerSecurity {
    server: Security,
    client: Option<ClientTls>,
}

impl PeerSecurity {
    fn load(
        config: &Config,
        seams: &Seams,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let disk = seams.disk.clone();
        let Some(files) = &config.peer_tls else {
            return Ok(Self {
                server: plain(seams),
                client: None,
            });
        };
        let server = ServerTls::load(files.server.clone(), disk.as_ref())?;
        server.watch(disk.clone(), metrics.clone(), tasks);
        let client = ClientTls::load(files.client.clone(), disk.as_ref())?;
        client.watch(disk, metrics.clone(), tasks);
        Ok(Self {
            server: Security::Tls(server),
            client: Some(client),
        })
    }
}

/// Plain text is for loopback; a simulated network has none.
pub(crate) fn plain(seams: &Seams) -> Security {
    match seams.threads {
        seams::Threads::Real => Security::PlainLoopback,
        seams::Threads::Simulated => Security::PlainAnywhere,
    }
}

/// How peers are reached: by URL, over the network seam, with TLS where it is configured.
fn dialer(seams: &Seams, tls: Option<ClientTls>) -> Dial {
    let net = seams.net.clone();
    Arc::new(move |url: String| {
        let (net, tls) = (net.clone(), tls.clone());
        Box::pin(async move {
            let invalid = || std::io::Error::other(format!("{url} is not a peer URL"));
            let (scheme, authority) = url.split_once("://").ok_or_else(invalid)?;
            let authority = authority.trim_end_matches('/');
            let stream = net.connect(authority).await?;
            match (scheme, tls) {
                ("https", Some(tls)) => {
                    let (host, _) = authority.rsplit_once(':').ok_or_else(invalid)?;
                    tls.connect(host, stream).await
                }
                ("http", None) => Ok(stream),
                ("https", None) => Err(std::io::Error::other(format!(
                    "{url} wants TLS, but this member has no peer certificates"
                ))),
                _ => Err(std::io::Error::other(format!(
                    "{url} is plain text, but this member speaks TLS to its peers"
                ))),
            }
        })
    })
}

async fn new_identity(config: &Config, dial: &Dial) -> Result<Identity, StartError> {
    match &config.start {
        Start::New { members, token } => {
            let identity = Identity::founding(&config.name, members, token)?;
            refuse_wiped(config, &identity, dial).await?;
            Ok(identity)
        }
        Start::Join { peers, learner } => join(config, peers, *learner, dial).await,
    }
}

/// A founding member with an empty disk asks the others whether it has been here before: if its
/// disk was lost, it must not come back under its old identity, because it would vote as if it
/// had never acknowledged anything.
async fn refuse_wiped(
    config: &Config,
    identity: &Identity,
    dial: &Dial,
) -> Result<(), StartError> {
    #[cfg(feature = "mutants")]
    if config.mutants.wiped_member_keeps_identity {
        return Ok(());
    }
    let peers = Peers::new(identity.cluster_id, dial.clone());
    let mut silent: Vec<_> = identity
        .founders
        .iter()
        .filter(|founder| founder.id != identity.member_id)
        .collect();
    let patience = timeout(FOUNDING_PATIENCE, async {
        while !silent.is_empty() {
            let mut still_silent = Vec::new();
            for founder in silent {
                let mut client = peers.client_of_urls(None, &founder.peer_urls);
                let answer = timeout(ASK_TIMEOUT, client.describe(DescribeRequest {})).await;
                let Ok(Ok(answer)) = answer else {
                    still_silent.push(founder);
                    continue;
                };
                let known = answer.into_inner().members.into_iter();
                let known = known.filter(|member| member.id == identity.member_id);
                if known.into_iter().any(|member| !member.client_ur_ls.is_empty()) {
                    return Err(StartError::Cluster(format!(
                        "member {} has been part of this cluster before, but {} is empty: its disk \
                         was lost. Remove it with `trireme member remove {:x}` and start it again \
                         with --join",
                        config.name,
                        config.data_dir.display(),
                        identity.member_id
                    )));
                }
            }
            silent = still_silent;
            if !silent.is_empty() {
                sleep(ASK_PAUSE).await;
            }
        }
        Ok(())
    });
    match patience.await {
        Ok(answer) => answer,
        Err(_) => {
            tracing::warn!("not all founding members answered: going on without them");
            Ok(())
        }
    }
}

/// Asks a running cluster to add this member, and learns its identity from the answer.
async fn join(
    config: &Config,
    peers: &[String],
    learner: bool,
    dial: &Dial,
) -> Result<Identity, StartError> {
    let mut last = "no peer URL was given".to_owned();
    let asking = timeout(JOIN_PATIENCE, async {
        loop {
            for url in peers {
                match ask_to_join(config, url, learner, dial).await {
                    Ok(identity) => return Ok(identity),
                    Err(Refusal::Final(reason)) => return Err(StartError::Cluster(reason)),
                    Err(Refusal::Passing(reason)) => last = format!("{url}: {reason}"),
                }
            }
            sleep(ASK_PAUSE * 5).await;
        }
    });
    match asking.await {
        Ok(answer) => answer,
        Err(_) => Err(StartError::Cluster(format!(
            "could not join the cluster within {JOIN_PATIENCE:?}; last answer: {last}"
        ))),
    }
}

enum Refusal {
    Passing(String),
    Final(String),
}

async fn ask_to_join(
    config: &Config,
    url: &str,
    learner: bool,
    dial: &Dial,
) -> Result<Identity, Refusal> {
    let passing = |error: tonic::Status| Refusal::Passing(error.message().to_owned());
    let anyone = Peers::new(0, dial.clone());
    let mut client = anyone.client_of_urls(None, &[url.to_owned()]);
    let described = client.describe(DescribeRequest {}).await.map_err(passing)?;
    let described = described.into_inner();
    // An earlier attempt may have been carried out although its answer was lost: a member with
    // our URLs that never started is us.
    let own = described.members.iter().find(|member| {
        member.peer_ur_ls == config.advertise_peer && member.name.is_empty()
    });
    let member_id = match own {
        Some(member) => member.id,
        None => {
            let leader = described
                .members
                .iter()
                .find(|member| member.id == described.leader)
                .ok_or_else(|| Refusal::Passing(Error::NoLeader.to_string()))?;
            let mut leader = anyone.client_of_urls(None, &leader.peer_ur_ls);
            let add = MemberAddRequest {
                peer_ur_ls: config.advertise_peer.clone(),
                is_learner: learner,
            };
            let change = MemberChange {
                change: Some(Change::Add(add)),
            };
            match leader.change_members(change).await {
                Ok(reply) => reply.into_inner().id,
                Err(status) => {
                    let error = crate::server::status::error(&status);
                    return Err(match error {
                        Error::PeerUrlExists => Refusal::Final(format!(
                            "another member has the peer URLs {:?}: remove it first if it is a \
                             former self of this one",
                            config.advertise_peer
                        )),
                        Error::MemberBadUrls => Refusal::Final(error.to_string()),
                        error => Refusal::Passing(error.to_string()),
                    });
                }
            }
        }
    };
    Ok(Identity {
        format: super::identity::FORMAT,
        cluster_id: described.cluster_id,
        member_id,
        name: config.name.clone(),
        founders: Vec::new(),
    })
}

/// Throws away what an earlier run left of outgoing snapshots; partial incoming ones are kept for
/// resumption.
fn sweep_snapshots(seams: &Seams, dir: &Path) -> std::io::Result<()> {
    seams.disk.create_dir_all(dir)?;
    for name in seams.disk.read_dir(dir)? {
        if name.starts_with("out-") {
            seams.disk.remove_dir_all(&dir.join(name))?;
        }
    }
    Ok(())
}

fn open_wal(
    config: &Config,
    seams: &Seams,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<(Wal, crate::wal::Recovered), StartError> {
    let metrics = metrics.clone();
    let wal_config = WalConfig {
        cache_bytes: config.limits.log_cache_bytes,
        on_sync: Some(Arc::new(move |seconds, _bytes| metrics.wal_synced(seconds))),
        #[cfg(feature = "mutants")]
        mutants: config.mutants.wal,
        ..WalConfig::default()
    };
    Ok(Wal::open(&config.data_dir.join(WAL_DIR), seams, tasks, wal_config)?)
}

/// Publishes the leader whenever it changes.
fn follow_leader(
    consensus: &Consensus,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> watch::Receiver<Option<u64>> {
    let (sender, receiver) = watch::channel(None);
    let mut raft = consensus.metrics();
    let (metrics, cancelled) = (metrics.clone(), tasks.clone());
    tasks.spawn("leader", async move {
        loop {
            let leader = raft.borrow_and_update().current_leader;
            let changed = sender.send_if_modified(|known| {
                let changed = *known != leader;
                *known = leader;
                changed
            });
            if changed {
                tracing::info!(leader = ?leader.map(|id| format!("{id:x}")), "leader changed");
                if leader.is_some() {
                    metrics.leader_changed();
                }
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                changed = raft.changed() => if changed.is_err() { return },
            }
        }
    });
    receiver
}

/// Turns true once the applied state covers everything in the log that may have been served
/// before the last stop.
fn follow_recovery(consensus: &Consensus, tasks: &Tasks) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let raft = consensus.raft.clone();
    let cancelled = tasks.clone();
    tasks.spawn("recovery", async move {
        let recovered = |metrics: &RaftMetrics| {
            let committed = metrics.cluster_committed.index();
            committed.is_some() && committed >= metrics.last_log_index
        };
        let wait = raft.wait(None).metrics(recovered, "the cluster's commit covers the log");
        let target = tokio::select! {
            () = cancelled.cancelled() => return,
            metrics = wait => match metrics {
                Ok(metrics) => metrics.cluster_committed.index(),
                Err(_) => return,
            },
        };
        let applied = raft.wait(None).applied_index_at_least(target, "the commit is applied");
        tokio::select! {
            () = cancelled.cancelled() => return,
            applied = applied => if applied.is_err() { return },
        }
        sender.send_replace(true);
        // The receivers outlive this task: a closed channel would mean that the member stops.
        cancelled.cancelled().await;
    });
    receiver
}

/// Answers peers; until the member is complete, they are told to come again.
#[derive(Clone)]
struct PeerHandler {
    service: PeerServer<PeerService>,
}

impl Handler for PeerHandler {
    type Body = tonic::body::Body;

    async fn handle(&self, request: Request<Incoming>) -> Response<Self::Body> {
        let mut service = self.service.clone();
        let Ok(response) = service.call(request.map(tonic::body::Body::new)).await;
        response
    }
}

async fn listen_for_peers(
    inner: &Inner,
    security: &PeerSecurity,
    member: Arc<OnceLock<Member>>,
    snapshots: std::path::PathBuf,
) -> Result<Vec<std::net::SocketAddr>, StartError> {
    let service = PeerService::new(
        inner.consensus.clone(),
        inner.identity.cluster_id,
        Arc::new(super::peering::Late(member)),
        inner.seams.disk.clone(),
        snapshots.join("incoming"),
    );
    let handler = PeerHandler {
        service: PeerServer::new(service)
            .max_decoding_message_size(PEER_MESSAGE_MAX)
            .max_encoding_message_size(PEER_MESSAGE_MAX),
    };
    let mut addresses = Vec::new();
    for address in &inner.config.listen_peer {
        let bound = listen(
            address,
            security.server.clone(),
            inner.seams.net.as_ref(),
            &inner.tasks,
            handler.clone(),
        )
        .await
        .map_err(|error| StartError::io("listen on", Path::new(address), error))?;
        addresses.push(bound);
    }
    Ok(addresses)
}

/// Founds the cluster, unless it exists. Every founding member does this with the same
/// membership, so that it does not matter who is first.
async fn found(member: &Member) -> Result<(), StartError> {
    let identity = &member.0.identity;
    let raft = &member.consensus().raft;
    let stopped = |error: &dyn std::fmt::Display| StartError::Cluster(error.to_string());
    if identity.founders.is_empty() {
        return Ok(());
    }
    let initialized = raft.is_initialized().await.map_err(|error| stopped(&error))?;
    if initialized {
        return Ok(());
    }
    let nodes: std::collections::BTreeMap<u64, Node> = identity
        .founders
        .iter()
        .map(|founder| {
            let node = Node {
                name: founder.name.clone(),
                peer_urls: founder.peer_urls.clone(),
                ..Node::default()
            };
            (founder.id, node)
        })
        .collect();
    match raft.initialize(nodes).await {
        Ok(()) => Ok(()),
        // A peer was faster: its log reached this member in between.
        Err(_) if raft.is_initialized().await.unwrap_or(false) => Ok(()),
        Err(error) => Err(stopped(&error)),
    }
}

//! Starting a member: open its directory, learn who it is, run Raft, listen.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::{Request, Response};
use hyper::body::Incoming;
use openraft::LogIdOptionExt;
use openraft::async_runtime::WatchReceiver;
use seams::{Seams, Tasks};
use tokio::sync::{Mutex, RwLock, Semaphore, watch};
use tower_service::Service;

use super::config::{Config, Start};
use super::identity::{Identity, Retired};
use super::lessor::Lessor;
use super::{Inner, Member, StartError, fatal, founding, joining, measured, probe, space, upkeep};
use crate::consensus::databases::Databases;
use crate::consensus::log_store::LogStore;
use crate::consensus::peer_server::PeerService;
use crate::consensus::peers::{Dial, Peers};
use crate::consensus::raft::{Consensus, Metrics as RaftMetrics, Parts};
use crate::consensus::state_machine::StateMachine;
use crate::engine::{OpenEngine, RocksConfig, RocksEngine};
use crate::metrics::Metrics;
use crate::mvcc::{Mvcc, MvccConfig};
use crate::pb::peer::peer_server::PeerServer;
use crate::server::listen::{Handler, Security, listen};
use crate::server::tls::{ClientTls, ServerTls};
use crate::server::watch::WatchConfig;
use crate::server::{Server, ServerOptions};
use crate::wal::{Wal, WalConfig};
use crate::watch::WatchHub;

/// The directory of the write-ahead log.
pub const WAL_DIR: &str = "wal";
/// The file whose lock keeps a second process away.
pub const LOCK_FILE: &str = "LOCK";
const SNAPSHOTS_DIR: &str = "snapshots";

/// Messages between members: the largest append and its envelope.
const PEER_MESSAGE_MAX: usize = 64 << 20;

impl Member {
    /// Starts a member on RocksDB.
    pub async fn start(config: Config, seams: Seams) -> Result<Self, StartError> {
        let rocks = RocksConfig {
            memory_bytes: config.limits.engine_bytes,
            ..RocksConfig::default()
        };
        let engine: OpenEngine = Arc::new(move |dir| Ok(Arc::new(RocksEngine::open(dir, &rocks)?)));
        Self::start_with(config, seams, engine).await
    }

    /// Starts a member on an engine of the caller's choice.
    pub async fn start_with(
        config: Config,
        seams: Seams,
        open_engine: OpenEngine,
    ) -> Result<Self, StartError> {
        let (tasks, log_tasks) = (seams.tasks(), seams.tasks());
        match start(config, seams, open_engine, tasks.clone(), log_tasks.clone()).await {
            Ok(member) => Ok(member),
            Err(error) => {
                tasks.shutdown().await;
                log_tasks.shutdown().await;
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
    log_tasks: Tasks,
) -> Result<Member, StartError> {
    let data_dir = config.data_dir.clone();
    let disk = seams.disk.clone();
    disk.create_dir_all(&data_dir)
        .map_err(|error| StartError::io("create", &data_dir, error))?;
    let lock_path = data_dir.join(LOCK_FILE);
    let lock = disk.lock(&lock_path).map_err(|error| {
        StartError::InUse(format!(
            "{} is in use by another process ({error}): stop that one first",
            data_dir.display()
        ))
    })?;
    space::make_room(disk.as_ref(), &data_dir, &config.limits)
        .map_err(|error| StartError::io("make room in", &data_dir, error))?;
    probe::start(&seams, &data_dir, &tasks);

    let metrics = Metrics::new();
    let open_engine = measured::measured(open_engine, metrics.clone(), seams.clock.clone());
    let security = PeerSecurity::load(&config, &seams, &metrics, &tasks)?;
    let dial = dialer(&seams, security.client.clone());
    let mut identity = match Identity::load(disk.as_ref(), &data_dir)? {
        Some(identity) => {
            if matches!(config.start, Start::Join { .. }) {
                tracing::info!(
                    member = %format_args!("{:x}", identity.member_id),
                    "the data directory holds a member already: join is passed over"
                );
            }
            identity
        }
        None => {
            let identity = joining::new_identity(&config, seams.rng.as_ref(), &dial).await?;
            identity.save(disk.as_ref(), &data_dir)?;
            identity
        }
    };

    if let Some(why) = identity.ended(&data_dir) {
        return Err(match identity.retired {
            Some(Retired::Removed) => StartError::Removed(why),
            _ => StartError::Directory(why),
        });
    }

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
        },
    )?;
    let log_bytes = Arc::new(AtomicU64::new(0));
    if identity.has_log && !disk.exists(&data_dir.join(WAL_DIR)) {
        return Err(log_is_missing(&identity, &data_dir));
    }
    let free = disk
        .free_bytes(&data_dir)
        .map_err(|error| io("look at", error))?;
    let segment_bytes = space::segment_bytes(&config.limits, free);
    let wal_config = WalConfig {
        segment_bytes,
        ..wal_config(&config, &metrics, &log_bytes)
    };
    let wal_dir = data_dir.join(WAL_DIR);
    let (wal, recovered) = Wal::open(&wal_dir, &seams, &log_tasks, wal_config)?;
    let empty = recovered.vote.is_none() && recovered.last.is_none() && recovered.purged.is_none();
    // Entry 0 is in a restored database too, which has had no log yet.
    if empty && mvcc.applied().is_some_and(|at| at.index > 0) {
        return Err(log_is_missing(&identity, &data_dir));
    }
    if !identity.has_log {
        identity.has_log = true;
        identity.save(disk.as_ref(), &data_dir)?;
    }
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
        metrics.clone(),
    );
    #[cfg(feature = "mutants")]
    let state_machine = {
        let mut state_machine = state_machine;
        state_machine.purges_before_flush = config.mutants.purge_before_flush;
        state_machine
    };
    let consensus = Consensus::start(Parts {
        id: identity.member_id,
        cluster_id: identity.cluster_id,
        log: LogStore::new(wal.clone()),
        state_machine,
        mvcc: mvcc.clone(),
        peers: Peers::new(identity.cluster_id, dial).counted(metrics.clone(), identity.member_id),
        metrics: metrics.clone(),
        timings: config.timings.clone(),
        log_entries_kept: config.limits.log_entries_kept,
        tasks: tasks.clone(),
        #[cfg(feature = "mutants")]
        mutants: config.mutants,
    })
    .await?;

    fatal::watch(&consensus, &wal, &data_dir, &tasks, &log_tasks);
    let hub = WatchHub::new(mvcc.ring().clone(), Arc::new(mvcc.clone()), &tasks);
    #[cfg(feature = "mutants")]
    hub.plant(config.mutants.watch);
    let leader = follow_leader(&consensus, &metrics, &tasks);
    let recovered = follow_recovery(&consensus, &tasks);
    let mut inner = Inner {
        identity,
        config,
        seams,
        serving: tasks.child(),
        tasks,
        log_tasks,
        consensus,
        mvcc,
        wal,
        segment_bytes,
        log_bytes,
        hub,
        lessor: Lessor::default(),
        metrics,
        peer_urls_told: AtomicBool::new(false),
        membership_gate: Mutex::default(),
        lease_gate: RwLock::default(),
        recovered,
        leader,
        quarantined: AtomicBool::new(false),
        failure_kind: OnceLock::new(),
        disk_short: AtomicBool::new(false),
        long_ranges: Semaphore::new(super::store::LONG_RANGES_MAX),
        peer_addresses: Vec::new(),
        client_addresses: OnceLock::new(),
        _lock: lock,
    };
    let slot = Arc::new(OnceLock::new());
    let admitted = Arc::new(AtomicBool::new(false));
    inner.peer_addresses =
        listen_for_peers(&inner, &security, slot.clone(), snapshots, &admitted).await?;
    let member = Member(Arc::new(inner));
    // From here on peers are answered.
    let _ = slot.set(member.clone());
    founding::found(&member, &admitted).await?;
    upkeep::start(&member);
    let addresses = listen_for_clients(&member).await?;
    let _ = member.0.client_addresses.set(addresses);
    Ok(member)
}

fn log_is_missing(identity: &Identity, data_dir: &Path) -> StartError {
    StartError::Directory(format!(
        "the log of member {:x} is missing from {}: without it the member must not vote. Remove \
         the member from the cluster, empty the directory, and start it again with --join",
        identity.member_id,
        data_dir.display()
    ))
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

fn wal_config(config: &Config, metrics: &Arc<Metrics>, log_bytes: &Arc<AtomicU64>) -> WalConfig {
    let (metrics, log_bytes) = (metrics.clone(), log_bytes.clone());
    WalConfig {
        cache_bytes: config.limits.log_cache_bytes,
        on_sync: Some(Arc::new(move |report| {
            metrics.wal_fsync.observe_duration(report.sync);
            metrics.wal_write.observe_duration(report.write);
            metrics
                .wal_written_bytes
                .inc_by(i64::try_from(report.bytes).unwrap_or(i64::MAX));
            log_bytes.fetch_add(report.bytes as u64, Ordering::Relaxed);
        })),
        #[cfg(feature = "mutants")]
        mutants: config.mutants.wal,
        ..WalConfig::default()
    }
}

/// Publishes the leader whenever it changes.
fn follow_leader(
    consensus: &Consensus,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> watch::Receiver<Option<u64>> {
    let (sender, receiver) = watch::channel(None);
    // Unlike the whole metrics these change seldom: following them does not cost a wake-up per entry.
    let mut raft = consensus.raft.server_metrics();
    let (metrics, cancelled) = (metrics.clone(), tasks.clone());
    tasks.core("leader", async move {
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
                    metrics.leader_changes.inc();
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
    tasks.core("recovery", async move {
        let recovered = |metrics: &RaftMetrics| {
            let committed = metrics.cluster_committed.index();
            committed.is_some() && committed >= metrics.last_log_index
        };
        let waiter = raft.wait(None);
        let wait = waiter.metrics(recovered, "the cluster's commit covers the log");
        let target = tokio::select! {
            () = cancelled.cancelled() => return,
            metrics = wait => match metrics {
                Ok(metrics) => metrics.cluster_committed.index(),
                Err(_) => return,
            },
        };
        let waiter = raft.wait(None);
        let applied = waiter.applied_index_at_least(target, "the commit is applied");
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
    admitted: &Arc<AtomicBool>,
) -> Result<Vec<std::net::SocketAddr>, StartError> {
    let service = PeerService::new(
        inner.consensus.clone(),
        inner.identity.cluster_id,
        Arc::new(super::peering::Late(member)),
        inner.seams.disk.clone(),
        snapshots.join("incoming"),
        inner.consensus.state_machine.clone(),
        admitted.clone(),
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

async fn listen_for_clients(member: &Member) -> Result<Vec<std::net::SocketAddr>, StartError> {
    let config = member.config();
    let seams = member.seams();
    let security = match &config.client_tls {
        None => plain(seams),
        Some(files) => {
            let tls = ServerTls::load(files.clone(), seams.disk.as_ref())?;
            tls.watch(
                seams.disk.clone(),
                member.metrics().clone(),
                &member.0.serving,
            );
            Security::Tls(tls)
        }
    };
    let options = ServerOptions {
        max_request_bytes: config.limits.request_bytes,
        watch: WatchConfig {
            progress_interval: config.watch_progress_interval,
            leader_grace: config.watch_leaderless_grace,
            ..WatchConfig::default()
        },
    };
    let server = Server::new(
        member.clone(),
        member.metrics().clone(),
        seams.clone(),
        member.0.serving.clone(),
        options,
    );
    let io = |address: &str, error| StartError::io("listen on", Path::new(address), error);
    let mut addresses = Vec::new();
    for address in &config.listen_client {
        let bound = server.listen(address, security.clone()).await;
        addresses.push(bound.map_err(|error| io(address, error))?);
    }
    for address in &config.listen_metrics {
        let bound = server.listen_http(address, plain(seams)).await;
        bound.map_err(|error| io(address, error))?;
    }
    Ok(addresses)
}

//! What a member is started with.

use std::path::PathBuf;
use std::time::Duration;

use crate::consensus::raft::Timings;
use crate::server::tls::{ClientFiles, ServerFiles};

/// The configuration of one member. [`Config::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// The member's name, unique in the cluster.
    pub name: String,
    /// Where everything of this member lies.
    pub data_dir: PathBuf,
    /// `host:port` to listen on for peers.
    pub listen_peer: Vec<String>,
    /// `host:port` to listen on for clients. Empty for an embedded store without a listener.
    pub listen_client: Vec<String>,
    /// `host:port` on loopback to serve health and metrics on in plain text, for probes without a
    /// client certificate.
    pub listen_metrics: Vec<String>,
    /// URLs under which peers reach this member.
    pub advertise_peer: Vec<String>,
    /// URLs under which clients reach this member.
    pub advertise_client: Vec<String>,
    /// How the member comes into being. Ignored once its data directory has an identity.
    pub start: Start,
    /// How often Raft acts.
    pub timings: Timings,
    /// TLS between members; `None` is plain text, for loopback and tests.
    pub peer_tls: Option<PeerTls>,
    /// TLS towards clients; `None` is plain text, for loopback and tests.
    pub client_tls: Option<ServerFiles>,
    /// Memory and disk.
    pub limits: Limits,
    /// Compaction that the store does by itself.
    pub auto_compaction: AutoCompaction,
    /// How often idle watches that asked for it are told of progress.
    pub watch_progress_interval: Duration,
    /// How long watches that require a leader outlive its loss.
    pub watch_leaderless_grace: Duration,
    /// How often members compare their hashes.
    pub hash_check_interval: Duration,
    /// How often the leader records how long leases have left, so that a new leader need not give
    /// every lease its whole time again.
    pub lease_checkpoint_interval: Duration,
    /// Planted bugs, for the tests that must catch them.
    #[cfg(feature = "mutants")]
    pub mutants: crate::mutants::Mutants,
}

/// How a member comes into being.
#[derive(Debug, Clone)]
pub enum Start {
    /// A founding member of a new cluster.
    New {
        /// All founding members, this one included: name and peer URLs.
        members: Vec<(String, Vec<String>)>,
        /// Distinguishes clusters with the same members.
        token: String,
    },
    /// Joins a running cluster: asks one of these peer URLs to be added.
    Join {
        /// Peer URLs of members of the cluster.
        peers: Vec<String>,
        /// Whether to stay a learner instead of becoming a voter when caught up.
        learner: bool,
    },
}

/// The certificates for traffic between members.
#[derive(Debug, Clone)]
pub struct PeerTls {
    /// Shown to peers that connect.
    pub server: ServerFiles,
    /// Shown to peers that this member connects to.
    pub client: ClientFiles,
}

/// Memory and disk that the member may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Live bytes above which writes are refused with NOSPACE.
    pub quota_bytes: u64,
    /// Recent events kept in memory for watches.
    pub ring_bytes: usize,
    /// Recent log entries kept in memory.
    pub log_cache_bytes: usize,
    /// The size of one file of the log; less where that is more than 1/16 of the free disk.
    pub log_segment_bytes: u64,
    /// The engine's block cache and memtables.
    pub engine_bytes: usize,
    /// Log written since the last checkpoint after which the next one is made; the log is at most
    /// about twice as long.
    pub checkpoint_log_bytes: u64,
    /// Entries kept in the log behind a checkpoint, so that a follower that was away for a moment
    /// catches up from the log.
    pub log_entries_kept: u64,
    /// The size of one request.
    pub request_bytes: usize,
    /// Disk kept in reserve, to be given up when the rest is used; at most 1/16 of what is free,
    /// 0 for none.
    pub reserve_bytes: u64,
}

/// Compaction that the store does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoCompaction {
    /// Clients compact.
    #[default]
    Off,
    /// Keeps the history of this span of time.
    Periodic(Duration),
    /// Keeps this many revisions.
    Revisions(i64),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quota_bytes: 16 << 30,
            ring_bytes: 32 << 20,
            log_cache_bytes: 16 << 20,
            log_segment_bytes: 64 << 20,
            engine_bytes: 64 << 20,
            checkpoint_log_bytes: 128 << 20,
            log_entries_kept: 50_000,
            request_bytes: 1536 << 10,
            reserve_bytes: 256 << 20,
        }
    }
}

impl Config {
    /// The defaults for a member with this name, directory and way to start.
    pub fn new(name: impl Into<String>, data_dir: impl Into<PathBuf>, start: Start) -> Self {
        Self {
            name: name.into(),
            data_dir: data_dir.into(),
            listen_peer: Vec::new(),
            listen_client: Vec::new(),
            listen_metrics: Vec::new(),
            advertise_peer: Vec::new(),
            advertise_client: Vec::new(),
            start,
            timings: Timings::default(),
            peer_tls: None,
            client_tls: None,
            limits: Limits::default(),
            auto_compaction: AutoCompaction::Off,
            watch_progress_interval: Duration::from_secs(5),
            watch_leaderless_grace: Duration::from_secs(10),
            hash_check_interval: Duration::from_secs(60),
            lease_checkpoint_interval: Duration::from_secs(300),
            #[cfg(feature = "mutants")]
            mutants: Default::default(),
        }
    }
}

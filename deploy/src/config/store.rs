//! The settings of a store member (`trireme store`), named as etcd's where etcd has them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::{ByteSize, CompactionMode, InitialMember, LogFormat, Span, Url, text, texts};
use super::{Problem, Settings};

/// The settings of a store member.
///
/// README.md has the table of defaults and meanings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// The member's name; unique in the cluster. Default: `default`.
    #[serde(with = "text")]
    pub name: String,
    /// Where the member keeps everything. Default: `/var/lib/trireme/store`.
    pub data_dir: PathBuf,
    /// Where clients connect. Default: `https://127.0.0.1:2379`.
    #[serde(with = "texts")]
    pub listen_client_urls: Vec<Url>,
    /// What clients are told to connect to. Default: the listen URLs.
    #[serde(with = "texts")]
    pub advertise_client_urls: Vec<Url>,
    /// Where peers connect. Default: `https://127.0.0.1:2380`.
    #[serde(with = "texts")]
    pub listen_peer_urls: Vec<Url>,
    /// Where health and metrics are served in plain text, on loopback only. Default: nowhere.
    #[serde(with = "texts")]
    pub listen_metrics_urls: Vec<Url>,
    /// What peers are told to connect to, when the member enters the cluster. Default: the listen
    /// URLs.
    #[serde(with = "texts")]
    pub initial_advertise_peer_urls: Vec<Url>,
    /// The founding members of a new cluster, this one included; passed over once the data
    /// directory holds a member. Default: this member alone.
    #[serde(with = "texts")]
    pub initial_cluster: Vec<InitialMember>,
    /// Tells clusters with equal member URLs apart. Default: `trireme`.
    #[serde(with = "text")]
    pub initial_cluster_token: String,
    /// Peer URLs of a running cluster to join; passed over once the data directory holds a member.
    /// Wins over `initial-cluster`.
    #[serde(with = "texts")]
    pub join: Vec<Url>,
    /// With `join`: stay a learner instead of becoming a voter when caught up. Default: false.
    #[serde(with = "text")]
    pub learner: bool,

    /// The certificate that clients see.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// The authorities whose client certificates are let in.
    pub trusted_ca_file: Option<PathBuf>,
    /// The certificate that peers see, as server and as client.
    pub peer_cert_file: Option<PathBuf>,
    /// Its key.
    pub peer_key_file: Option<PathBuf>,
    /// The authorities whose peers are let in and connected to.
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// Plain text on loopback addresses, for trials. Default: false.
    #[serde(with = "text")]
    pub insecure: bool,

    /// How often a leader tells the others that it is alive. Default: 150 ms.
    #[serde(with = "text")]
    pub heartbeat_interval: Span,
    /// How long a leader may be silent before others stand for election. Equal on all members. Default:
    /// 450 ms.
    #[serde(with = "text")]
    pub election_timeout: Span,
    /// Live bytes from which on writes are refused. Default: 16 GiB.
    #[serde(with = "text")]
    pub quota_backend_bytes: ByteSize,
    /// Disk kept in reserve, to be given up when the rest is used; at most 1/16 of what is free.
    /// Default: 256 MiB.
    #[serde(with = "text")]
    pub reserve_bytes: ByteSize,
    /// What the retention counts. Default: periodic.
    #[serde(with = "text")]
    pub auto_compaction_mode: CompactionMode,
    /// History to keep: a span (a bare number is hours) or a number of revisions; 0 leaves
    /// compaction to clients. Default: 0.
    #[serde(with = "text")]
    pub auto_compaction_retention: String,
    /// Memory for the caches together. Default: 56 MiB.
    #[serde(with = "text")]
    pub memory_budget: ByteSize,
    /// The largest request that clients may send. Default: 1.5 MiB, which clients rely on.
    #[serde(with = "text")]
    pub max_request_bytes: ByteSize,
    /// How often idle watches that asked for it are told of progress. Default: 5 s.
    #[serde(with = "text")]
    pub watch_progress_notify_interval: Span,
    /// How often members compare the hashes of their data. Default: 1 min.
    #[serde(with = "text")]
    pub corrupt_check_time: Span,
    /// How long requests under way and the hand-over of leadership may take when the process is
    /// told to stop. Default: 10 s.
    #[serde(with = "text")]
    pub shutdown_timeout: Span,

    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
    /// `info,raft_store::wal=debug`. Default: `info`.
    #[serde(with = "text")]
    pub log_level: String,
    /// How log lines look. Default: text.
    #[serde(with = "text")]
    pub log_format: LogFormat,
    /// Where traces are sent by OTLP over gRPC, such as `http://127.0.0.1:4317`. Default: nowhere.
    pub otlp_endpoint: Option<String>,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        let local = |port| Url {
            secure: true,
            host: "127.0.0.1".into(),
            port,
        };
        StoreConfig {
            name: "default".into(),
            data_dir: "/var/lib/trireme/store".into(),
            listen_client_urls: vec![local(2379)],
            advertise_client_urls: Vec::new(),
            listen_peer_urls: vec![local(2380)],
            listen_metrics_urls: Vec::new(),
            initial_advertise_peer_urls: Vec::new(),
            initial_cluster: Vec::new(),
            initial_cluster_token: "trireme".into(),
            join: Vec::new(),
            learner: false,
            cert_file: None,
            key_file: None,
            trusted_ca_file: None,
            peer_cert_file: None,
            peer_key_file: None,
            peer_trusted_ca_file: None,
            insecure: false,
            heartbeat_interval: Span::from_millis(150),
            election_timeout: Span::from_millis(450),
            quota_backend_bytes: ByteSize::mib(16 * 1024),
            reserve_bytes: ByteSize::mib(256),
            auto_compaction_mode: CompactionMode::Periodic,
            auto_compaction_retention: "0".into(),
            memory_budget: ByteSize::mib(56),
            max_request_bytes: ByteSize(1536 << 10),
            watch_progress_notify_interval: Span::from_millis(5_000),
            corrupt_check_time: Span::from_millis(60_000),
            shutdown_timeout: Span::from_millis(10_000),
            log_level: "info".into(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
        }
    }
}

/// History that a member compacts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keeps what is younger.
    Periodic(Duration),
    /// Keeps so many revisions.
    Revision(i64),
}

/// How the memory budget is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryShares {
    /// The engine's block cache and write buffers, in bytes.
    pub engine: u64,
    /// Events kept for watchers, in bytes.
    pub events: u64,
    /// Log entries kept for followers, in bytes.
    pub log: u64,
}

/// Below 50 ms the scheduler of a busy machine alone costs elections; beyond 50 s a cluster without
/// a leader looks dead.
const ELECTION_TIMEOUT: (Span, Span) = (Span::from_millis(50), Span::from_millis(50_000));

impl StoreConfig {
    /// The compaction that the member runs by itself; `None` leaves it to clients.
    ///
    /// # Errors
    /// Text saying what a right retention looks like.
    pub fn auto_compaction(&self) -> Result<Option<AutoCompaction>, String> {
        let retention = self.auto_compaction_retention.trim();
        match self.auto_compaction_mode {
            CompactionMode::Revision => {
                let count: i64 = retention.parse().map_err(|_| {
                    format!("`{retention}` is not a number of revisions such as 10000")
                })?;
                let negative = || format!("{count} is negative: use 0 to switch compaction off");
                if count < 0 {
                    return Err(negative());
                }
                Ok((count > 0).then_some(AutoCompaction::Revision(count)))
            }
            CompactionMode::Periodic => {
                let span = match retention.parse::<u64>() {
                    Ok(hours) => Span::from_millis(hours.saturating_mul(3_600_000)),
                    Err(_) => retention.parse()?,
                };
                Ok((span.0 > Duration::ZERO).then_some(AutoCompaction::Periodic(span.0)))
            }
        }
    }

    /// The caches' parts of the memory budget: 4, 2 and 1 of 7 (by default 32, 16 and 8 MiB).
    pub fn memory_shares(&self) -> MemoryShares {
        let part = self.memory_budget.0 / 7;
        MemoryShares {
            engine: part * 4,
            events: part * 2,
            log: part,
        }
    }

    /// The shortest wait before another election when one came to nothing; see `election_timeout` for the
    /// longest.
    pub fn election_timeout_min(&self) -> Duration {
        self.election_timeout.0 / 2
    }

    fn check_addresses(&self, found: &mut Found) {
        found.urls(
            "listen-client-urls",
            &self.listen_client_urls,
            self.insecure,
        );
        found.urls("listen-peer-urls", &self.listen_peer_urls, self.insecure);
        for url in &self.listen_metrics_urls {
            if url.secure || !url.is_loopback() {
                found.add(
                    "listen-metrics-urls",
                    format!("{url} is not an http:// URL with a loopback address: use such a one"),
                );
            }
        }
        for (key, urls, listen) in [
            (
                "advertise-client-urls",
                &self.advertise_client_urls,
                "listen-client-urls",
            ),
            (
                "initial-advertise-peer-urls",
                &self.initial_advertise_peer_urls,
                "listen-peer-urls",
            ),
        ] {
            if let Some(url) = urls.iter().find(|url| url.is_wildcard()) {
                found.add(
                    key,
                    format!(
                        "nobody can connect to {url}: set {key} to an address of this machine \
                         (by default it is {listen})"
                    ),
                );
            }
            if let Some(url) = urls.iter().find(|url| url.secure == self.insecure) {
                let wanted = if self.insecure { "http" } else { "https" };
                found.add(
                    key,
                    format!("{url} does not begin with {wanted}://, which is served"),
                );
            }
        }
    }

    fn check_cluster(&self, found: &mut Found) {
        if self.name.is_empty() || self.name.contains([',', '=', ' ']) {
            found.add(
                "name",
                format!(
                    "`{}` is empty or has a comma, `=` or space in it",
                    self.name
                ),
            );
        }
        if !self.join.is_empty() {
            // Joining wins: it is what an operator asks for on top of the file that founded the
            // cluster, and a founder whose disk was lost must not found anything.
            return;
        }
        if self.learner {
            found.add(
                "learner",
                "a founding member has a vote: use it together with join",
            );
        }
        let mine: Vec<&Url> = self
            .initial_cluster
            .iter()
            .filter(|m| m.name == self.name)
            .map(|m| &m.url)
            .collect();
        if mine.is_empty() {
            found.add(
                "initial-cluster",
                format!(
                    "no entry is named `{}`: list this member too, under its name",
                    self.name
                ),
            );
        } else if !mine
            .iter()
            .all(|url| self.initial_advertise_peer_urls.contains(url))
        {
            found.add(
                "initial-cluster",
                format!(
                    "the URL of `{}` is not among initial-advertise-peer-urls: make them equal",
                    self.name
                ),
            );
        }
        let mut urls: Vec<&Url> = self.initial_cluster.iter().map(|m| &m.url).collect();
        urls.sort();
        if let Some(twice) = urls.windows(2).find(|pair| pair[0] == pair[1]) {
            found.add("initial-cluster", format!("{} is there twice", twice[0]));
        }
    }

    fn check_certificates(&self, found: &mut Found) {
        let files = [
            ("cert-file", &self.cert_file),
            ("key-file", &self.key_file),
            ("trusted-ca-file", &self.trusted_ca_file),
            ("peer-cert-file", &self.peer_cert_file),
            ("peer-key-file", &self.peer_key_file),
            ("peer-trusted-ca-file", &self.peer_trusted_ca_file),
        ];
        if self.insecure {
            return;
        }
        for (key, file) in files {
            match file {
                None => found.add(
                    key,
                    "is missing: certificates are required, or insecure with http:// loopback URLs \
                     for a trial",
                ),
                Some(path) if !path.is_file() => {
                    found.add(key, format!("{} is not a file", path.display()));
                }
                Some(_) => {}
            }
        }
    }

    fn check_timing(&self, found: &mut Found) {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        if heartbeat.0 < Duration::from_millis(10) {
            found.add(
                "heartbeat-interval",
                format!("{heartbeat} is too short: use 10ms or more"),
            );
        }
        let (min, max) = ELECTION_TIMEOUT;
        if election < min || election > max {
            found.add(
                "election-timeout",
                format!("{election} is not between {min} and {max}"),
            );
        }
        if election.0 < heartbeat.0 * 3 {
            let enough = Span(heartbeat.0 * 3);
            found.add(
                "election-timeout",
                format!(
                    "{election} is less than three times heartbeat-interval ({heartbeat}), so \
                     that a few late heartbeats could cost an election: use {enough} or more"
                ),
            );
        }
    }

    fn check_resources(&self, found: &mut Found) {
        if self.quota_backend_bytes < ByteSize::mib(1) {
            let quota = self.quota_backend_bytes;
            found.add(
                "quota-backend-bytes",
                format!("{quota} is too small: use 1MiB or more"),
            );
        }
        if self.memory_budget < ByteSize::mib(28) {
            let budget = self.memory_budget;
            found.add(
                "memory-budget",
                format!("{budget} is too small: use 28MiB or more"),
            );
        }
        let request = self.max_request_bytes;
        if request < ByteSize(64 << 10) || request > ByteSize::mib(32) {
            found.add(
                "max-request-bytes",
                format!("{request} is not between 64KiB and 32MiB"),
            );
        }
        for (key, span) in [
            (
                "watch-progress-notify-interval",
                self.watch_progress_notify_interval,
            ),
            ("corrupt-check-time", self.corrupt_check_time),
        ] {
            if span < Span::from_millis(100) {
                found.add(key, format!("{span} is too short: use 100ms or more"));
            }
        }
        if let Err(message) = self.auto_compaction() {
            found.add("auto-compaction-retention", message);
        }
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if let Some(endpoint) = self.otlp_endpoint.as_deref().filter(|text| !is_url(text)) {
            found.add(
                "otlp-endpoint",
                format!("`{endpoint}` is not a URL such as http://127.0.0.1:4317"),
            );
        }
    }
}

impl Settings for StoreConfig {
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("client-ca-file", "trusted-ca-file"),
        ("peer-client-ca-file", "peer-trusted-ca-file"),
    ];

    fn resolve(&mut self) {
        if self.advertise_client_urls.is_empty() {
            self.advertise_client_urls
                .clone_from(&self.listen_client_urls);
        }
        if self.initial_advertise_peer_urls.is_empty() {
            self.initial_advertise_peer_urls
                .clone_from(&self.listen_peer_urls);
        }
        if self.initial_cluster.is_empty() && self.join.is_empty() {
            let member = |url: &Url| InitialMember {
                name: self.name.clone(),
                url: url.clone(),
            };
            self.initial_cluster = self
                .initial_advertise_peer_urls
                .iter()
                .map(member)
                .collect();
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut found = Found::default();
        self.check_cluster(&mut found);
        self.check_addresses(&mut found);
        self.check_certificates(&mut found);
        self.check_timing(&mut found);
        self.check_resources(&mut found);
        found.problems
    }
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, key: &'static str, message: impl Into<String>) {
        self.problems.push(Problem {
            key,
            message: message.into(),
        });
    }

    /// Listening URLs: TLS everywhere, or plain text on loopback with the flag.
    fn urls(&mut self, key: &'static str, urls: &[Url], insecure: bool) {
        if urls.is_empty() {
            self.add(key, "is empty: name at least one URL");
        }
        for url in urls {
            if url.secure && insecure {
                self.add(
                    key,
                    format!("{url} is TLS: with insecure, use http:// on loopback"),
                );
            } else if !url.secure && !insecure {
                self.add(
                    key,
                    format!(
                        "{url} is plain text: use https:// (or insecure with a loopback address, \
                         for a trial)"
                    ),
                );
            } else if !url.secure && !url.is_loopback() {
                self.add(
                    key,
                    format!("{url} is not a loopback address: insecure serves no others"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;

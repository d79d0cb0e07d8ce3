//! `store-bench`: the same work against Trireme and etcd, alternating, with ratios.
//!
//! Three members of each on loopback with fsync on. On a small machine members and generator
//! share the processor, so rates alone mislead: beside every rate stands the processor time the
//! members spent per operation, and only ratios within one run are to be compared. The
//! generator is kept cheap for the same reason: one thread, HTTP/2 frames without a client
//! library above them, requests encoded by hand, answers counted rather than decoded.
//!
//! - [`wire`] and [`encode`]: calls; [`load`]: closed loops of clients.
//! - [`cluster`]: starting, killing and measuring members.
//! - [`throughput`], [`fanout`], [`failover`], [`big`]: the measurements.
//! - [`report`]: the table and the JSON file.
#![allow(
    clippy::disallowed_methods,
    reason = "it drives real processes in real time; nothing here is ever simulated"
)]

mod big;
mod cluster;
mod disk;
mod encode;
mod failover;
mod fanout;
mod load;
mod report;
mod throughput;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::only;
use clap::Parser;

use cluster::{Cluster, System};
use report::Results;

/// Compare Trireme's store with etcd on this machine.
///
/// Examples:
///   store-bench --trireme target/release/trireme
///   store-bench --only put-1,put-100,range-100 --seconds 3 --rounds 1
///   store-bench --only kill-leader,stop-leader --failovers 100
#[derive(Parser, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// The trireme binary; without it only etcd is measured.
    #[arg(long)]
    pub(crate) trireme: Option<PathBuf>,
    /// The etcd binary; `none` to leave etcd out.
    #[arg(long, default_value = "/usr/bin/etcd")]
    pub(crate) etcd: PathBuf,
    /// Only these measurements (see --list).
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Name the measurements and stop.
    #[arg(long)]
    pub(crate) list: bool,
    /// Seconds of each throughput measurement, after a fifth of it for warming up.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// How often each system is measured, alternating.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Kills and shutdowns of the leader per round of kill-leader and stop-leader.
    #[arg(long, default_value_t = 5)]
    pub(crate) failovers: usize,
    /// Connections; default a tenth of the clients, at least 1 and at most 100.
    #[arg(long)]
    pub(crate) conns: Option<usize>,
    /// Whom clients talk to.
    #[arg(long, value_enum, default_value_t = Target::All)]
    pub(crate) target: Target,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Streams that the 1000 watchers are spread over.
    #[arg(long, default_value_t = 100)]
    pub(crate) watch_streams: usize,
    /// Watchers of the fan-out.
    #[arg(long, default_value_t = 1000)]
    pub(crate) watchers: usize,
    /// Puts per second while the latency of the fan-out is measured.
    #[arg(long, default_value_t = 30)]
    pub(crate) watch_rate: u32,
    /// Keys of the big database (`big`).
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) big_keys: u64,
    /// Bytes of a value of the big database; 1 M times 1 KiB is 1 GiB.
    #[arg(long, default_value_t = 1024)]
    pub(crate) big_value: usize,
    /// First port; members use it and those after it.
    #[arg(long, default_value_t = 23700)]
    pub(crate) port_base: u16,
    /// Where data goes while it runs; on the disk to be measured, not on a tmpfs.
    #[arg(long, default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// Write everything measured to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// Whom clients talk to.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// All members in turn.
    All,
    /// Only the leader.
    Leader,
}

impl Options {
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn wants(&self, name: &str) -> bool {
        only::wants(&self.only, name)
    }
}

/// Measurements in the order they run, with what they are.
const MEASUREMENTS: &[(&str, &str)] = &[
    ("put-1", "puts of 256 B, 1 client"),
    ("put-100", "puts of 256 B, 100 clients"),
    ("put-1000", "puts of 256 B, 1000 clients"),
    ("range-1", "linearizable reads of one key, 1 client"),
    ("range-100", "linearizable reads of one key, 100 clients"),
    ("range-1000", "linearizable reads of one key, 1000 clients"),
    ("serial-100", "serializable reads of one key, 100 clients"),
    ("serial-1000", "serializable reads of one key, 1000 clients"),
    (
        "txn-mix",
        "half guarded writes, half read-only transactions, 100 clients",
    ),
    ("list-10k", "LIST of 10 000 keys of 1 KiB, 2 clients"),
    (
        "watch",
        "fan-out to 1000 watchers, as fast as it goes and at a fixed rate",
    ),
    ("memory", "memory per member after the measurements before"),
    (
        "kill-leader",
        "longest time without a write after kill -9 of the leader",
    ),
    (
        "stop-leader",
        "longest time without a write after SIGTERM to the leader",
    ),
    (
        "big",
        "memory with 1 M keys, restart with 1 GiB; a cluster of its own, once",
    ),
];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.list {
        for (name, what) in MEASUREMENTS {
            println!("{name:<12} {what}");
        }
        return Ok(());
    }
    if let Some(unknown) = only::unknown(&options.only, MEASUREMENTS) {
        bail!("no measurement is called {unknown}; --list names them");
    }
    cluster::kill_members_on_signals()?;
    let mut systems = Vec::new();
    if options.etcd.as_os_str() != "none" {
        systems.push(System::etcd(&options.etcd)?);
    }
    if let Some(trireme) = &options.trireme {
        systems.push(System::trireme(trireme)?);
    }
    if systems.is_empty() {
        bail!("nothing to measure: neither --etcd nor --trireme");
    }
    let mut results = Results::new(&systems, options);
    for round in 0..options.rounds {
        for system in &systems {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                system.name()
            );
            results.fsync(disk::fsync_p50(&options.dir)?);
            small(system, options, &mut results)
                .with_context(|| format!("measuring {}", system.name()))?;
        }
    }
    if options.wants("big") {
        for system in &systems {
            eprintln!("big database: {}", system.name());
            results.fsync(disk::fsync_p50(&options.dir)?);
            let mut cluster = Cluster::start(system, options)?;
            big::measure(&mut cluster, options, &mut results)?;
            cluster.stop();
        }
    }
    println!("{}", results.table());
    if let Some(path) = &options.json {
        std::fs::write(path, results.json()?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// One round of everything but the big database on a fresh cluster.
fn small(system: &System, options: &Options, results: &mut Results) -> Result<()> {
    let wanted: Vec<&str> = MEASUREMENTS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "big" && options.wants(name))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut cluster = Cluster::start(system, options)?;
    for name in wanted {
        match name {
            "watch" => fanout::measure(&cluster, options, results)?,
            "memory" => results.memory(&cluster, "memory")?,
            "kill-leader" | "stop-leader" => {
                failover::measure(&mut cluster, options, name, results)?;
            }
            _ => throughput::measure(&cluster, options, name, results)?,
        }
    }
    cluster.stop();
    Ok(())
}

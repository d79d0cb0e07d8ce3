//! `control-plane-bench`: whole masters on this machine, with controllers, scheduler and hollow nodes.
//!
//! Masters and generator share the processor, so rates alone mislead: beside rates stands the processor
//! time of all masters per pod, and beside every figure the load of the machine. The generator is kept
//! cheap for the same reason: one thread, bodies made as text, events looked at without parsing them.
//!
//! - [`drive`]: masters under load; [`http`]: requests and watches; [`objects`]: what is written.
//! - [`scheduling`], [`workloads`], [`idle`], [`failover`]: the measurements.
//! - [`report`]: the table beside what is wanted, and the JSON file.
#![allow(
    clippy::disallowed_methods,
    reason = "it drives real processes in real time; nothing here is ever simulated"
)]

mod drive;
mod failover;
mod http;
mod idle;
mod objects;
mod report;
mod scheduling;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bench::only;
use clap::Parser;
use nix::sys::signal::Signal;

use objects::Kind;
use report::Results;
use scheduling::Schedule;

/// Measure whole masters on this machine.
///
/// Examples:
///   control-plane-bench --trireme target/release/trireme
///   control-plane-bench --trireme target/release/trireme --only basic,pre-created --nodes 500 --pods 1000
///   control-plane-bench --trireme target/release/trireme --only kill-leader --rounds 50
#[derive(Parser, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// The trireme binary.
    #[arg(long)]
    pub(crate) trireme: PathBuf,
    /// Only these measurements; a name that is none lists them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many masters.
    #[arg(long, default_value_t = 3)]
    pub(crate) masters: u16,
    /// Nodes that pods are scheduled onto.
    #[arg(long, default_value_t = 5000)]
    pub(crate) nodes: usize,
    /// Pods that are scheduled, and replicas of Deployments together.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) pods: usize,
    /// Hollow nodes, at least, where pods are to start.
    #[arg(long, default_value_t = 100)]
    pub(crate) hollow: usize,
    /// Requests of the generator under way at a time.
    #[arg(long, default_value_t = 64)]
    pub(crate) in_flight: usize,
    /// Pods per second of start-latency.
    #[arg(long, default_value_t = 100.0)]
    pub(crate) rate: f64,
    /// Seconds of start-latency and idle.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) seconds: f64,
    /// Rounds of kill-leader and stop-leader.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) rounds: u16,
    /// Write everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail if a figure is not as wanted.
    #[arg(long)]
    strict: bool,
}

/// Measurements in the order they run, each on masters of its own, with what they are.
const MEASUREMENTS: &[(&str, &str)] = &[
    ("idle", "memory and processor time of masters without work"),
    (
        "basic",
        "pods that ask for resources alone; the masters' memory with them",
    ),
    (
        "preferred-affinity",
        "pods that would be beside others of their colour",
    ),
    (
        "required-affinity",
        "pods that must be in the zone of others",
    ),
    (
        "required-anti-affinity",
        "pods that must have a node without others",
    ),
    ("zone-spread", "pods that must be spread over three zones"),
    ("pre-created", "pods that are there before the scheduler"),
    ("hollow", "basic, onto as many hollow nodes of one process"),
    ("large-deployment", "one Deployment, up and down"),
    (
        "small-deployments",
        "Deployments of 10 replicas, made and deleted",
    ),
    ("start-latency", "from creation of a pod until it is ready"),
    (
        "kill-leader",
        "what is missed after kill -9 of the leading master",
    ),
    (
        "stop-leader",
        "what is missed after SIGTERM to the leading master",
    ),
];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything could be measured, and is as wanted if that is asked.
fn run(options: &Options) -> Result<bool> {
    if let Some(unknown) = only::unknown(&options.only, MEASUREMENTS) {
        let lines = MEASUREMENTS
            .iter()
            .map(|(name, what)| format!("  {name:<22} {what}\n"));
        let known: String = lines.collect();
        bail!("no measurement is called {unknown}; there are\n{known}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut results = Results::new(options.masters, options.nodes, options.pods);
    let mut is_complete = true;
    for (name, what) in MEASUREMENTS {
        if !only::wants(&options.only, name) {
            continue;
        }
        eprintln!("{name}: {what}");
        let tasks = tokio::task::LocalSet::new();
        let measured = tasks.block_on(&runtime, measure(options, name, &mut results));
        if let Err(error) = measured {
            eprintln!("error: {name}: {error:#}");
            is_complete = false;
        }
    }
    println!("{}", results.table());
    if let Some(path) = &options.json {
        std::fs::write(path, results.json()?).with_context(|| path.display().to_string())?;
    }
    Ok(is_complete && (results.are_met() || !options.strict))
}

async fn measure(options: &Options, name: &str, results: &mut Results) -> Result<()> {
    match name {
        "idle" => idle::measure(options, name, results).await,
        "basic" => {
            Schedule::bare(options, name, Kind::Basic)
                .measure(results)
                .await
        }
        "preferred-affinity" => {
            Schedule::bare(options, name, Kind::PreferredAffinity)
                .measure(results)
                .await
        }
        "required-affinity" => {
            Schedule::bare(options, name, Kind::RequiredAffinity)
                .measure(results)
                .await
        }
        "required-anti-affinity" => {
            Schedule::bare(options, name, Kind::RequiredAntiAffinity)
                .measure(results)
                .await
        }
        "zone-spread" => {
            Schedule::bare(options, name, Kind::ZoneSpread)
                .measure(results)
                .await
        }
        "pre-created" => scheduling::created_before(options, name, results).await,
        "hollow" => Schedule::hollow(options, name).measure(results).await,
        "large-deployment" => workloads::one_large(options, name, results).await,
        "small-deployments" => workloads::many_small(options, name, results).await,
        "start-latency" => workloads::start_latency(options, name, results).await,
        "kill-leader" => failover::measure(options, name, Signal::SIGKILL, results).await,
        "stop-leader" => failover::measure(options, name, Signal::SIGTERM, results).await,
        _ => bail!("nothing measures {name}"),
    }
}

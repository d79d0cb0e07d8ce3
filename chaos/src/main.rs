//! `chaos`: runs scenarios against a store and judges what they leave behind.
#![allow(
    clippy::disallowed_methods,
    reason = "it drives real processes in real time; nothing here is ever simulated"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chaos::checkers::Verdict;
use chaos::cluster::{Plan, System};
use chaos::evidence::Evidence;
use chaos::plants::Plant;
use chaos::run::{Settings, run};
use chaos::{plants, sandbox, scenarios};
use clap::{Args, Parser, Subcommand};

/// Hurt a cluster and check that it keeps its promises.
///
/// Examples:
///   chaos run --scenario register-isolate-leader --seconds 30 --seed 7 --control etcd
///   chaos run --scenario set-crashes --binary target/release/trireme
///   chaos check /tmp/chaos/register-isolate-leader-7
///   chaos scenarios
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios and judge them. Exits with 0 (valid), 1 (invalid), 2 (unknown) or 3
    /// (the harness failed).
    Run(Run),
    /// Judge the evidence of an earlier run again.
    Check {
        /// The run's directory.
        dir: PathBuf,
    },
    /// Name all scenarios.
    Scenarios,
}

#[derive(Args)]
struct Run {
    /// Scenarios to run, one after the other.
    #[arg(long, value_delimiter = ',', required = true)]
    scenario: Vec<String>,
    /// Seconds of load and faults.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How many times as fast as is usual faults follow each other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pace: u32,
    /// Seed of all choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The trireme binary, or the control's.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Run another system instead, to find out whether the harness is right: etcd.
    #[arg(long)]
    control: Option<String>,
    /// Arguments of a trireme member; {name} {data} {client} {peer} {begin} {ca} {cert} {key} are filled in.
    #[arg(long, allow_hyphen_values = true)]
    member_args: Option<String>,
    /// Number of members.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Where evidence goes: a directory per run.
    #[arg(long, default_value = "/tmp/chaos")]
    dir: PathBuf,
    /// Plant faults that must be found; each is explained where it is defined (evidence.rs).
    #[arg(long, value_delimiter = ',', value_parser = plant)]
    plant: Vec<Plant>,
    /// Remove the evidence of valid runs.
    #[arg(long)]
    tidy: bool,
}

fn main() -> ExitCode {
    match start(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn start(options: Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match options.command {
        Command::Scenarios => {
            for scenario in scenarios::all() {
                println!("{}", scenario.name);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { dir } => Ok(exit_code(judge(&dir)?)),
        Command::Run(options) => runtime.block_on(run_all(options)),
    }
}

/// Runs in a sandbox where one can be made: then whatever happens, nothing is left behind.
async fn run_all(options: Run) -> Result<ExitCode> {
    if !sandbox::is_inside() && sandbox::is_possible() {
        return sandbox::enter().await;
    }
    if sandbox::is_inside() {
        sandbox::end_with_outer();
        sandbox::system("ip", &["link", "set", "lo", "up"])?;
    }
    let mut worst = Verdict::Valid;
    let system = System::new(
        options.control.as_deref(),
        options.binary.as_deref(),
        options.member_args.as_deref(),
    )?;
    for name in &options.scenario {
        let scenario = scenarios::find(name).with_context(|| {
            format!("no scenario is called {name}; `chaos scenarios` names them")
        })?;
        if scenario.needs_sandbox() && !sandbox::is_inside() {
            bail!("{name} needs network namespaces or mounts, and so root");
        }
        let dir = options.dir.join(format!("{name}-{}", options.seed));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        let plan = Plan {
            system: system.clone(),
            members: options.members,
            spares: scenario.spares(),
            networks: scenario.needs_networks(),
            disks: scenario.disks(),
            preload: plants::library(&options.plant, &dir)?,
            dir: std::fs::canonicalize(&dir)?,
        };
        let time = Duration::from_secs(options.seconds);
        let settings = Settings {
            scenario,
            plan,
            seed: options.seed,
            time,
            pace: options.pace,
            plants: options.plant.clone(),
        };
        run(settings, &dir).await.with_context(|| name.clone())?;
        let verdict = judge(&dir)?;
        worst = worst.max(verdict);
        if verdict == Verdict::Valid && options.tidy {
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(exit_code(worst))
}

fn plant(name: &str) -> Result<Plant, String> {
    Plant::find(name).ok_or_else(|| format!("no plant is called {name}"))
}

/// Judges a run and prints the reports.
fn judge(dir: &Path) -> Result<Verdict> {
    let evidence = Evidence::load(dir)?;
    let reports = evidence.check();
    let verdict = reports
        .iter()
        .map(|report| report.verdict)
        .max()
        .unwrap_or(Verdict::Unknown);
    println!(
        "{} seed {} on {}: {verdict} ({})",
        evidence.info.scenario,
        evidence.info.seed,
        evidence.info.system,
        dir.display()
    );
    for report in &reports {
        println!("  {report}");
    }
    std::fs::write(
        dir.join("verdict.json"),
        serde_json::to_string_pretty(&reports)?,
    )?;
    Ok(verdict)
}

fn exit_code(verdict: Verdict) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::Valid => 0,
        Verdict::Invalid => 1,
        Verdict::Unknown => 2,
    })
}

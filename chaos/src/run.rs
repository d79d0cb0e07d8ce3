//! One run: load and faults, then healing, then everything is asked for what it knows.

mod finish;
mod load;

pub use finish::{converge, final_reads};
pub use load::Load;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::cluster::{Cluster, Plan};
use crate::dice::Dice;
use crate::evidence::{RunInfo, Trouble};
use crate::faults::{self, Fault};
use crate::history::Recorder;
use crate::plants::Plant;
use crate::scenarios::Scenario;
use crate::workloads::{Shared, Workload};

/// Clients of a run.
const CLIENTS: u64 = 8;
/// Calls per second of all clients together, when nothing fails.
const CALLS_PER_SECOND: u32 = 160;

/// How to run a scenario.
pub struct Settings {
    /// What to run.
    pub scenario: Scenario,
    /// The cluster to run it on.
    pub plan: Plan,
    /// Seed of all choices.
    pub seed: u64,
    /// Time of load and faults.
    pub time: Duration,
    /// How many times as fast as is usual faults follow each other; at least 1.
    pub pace: u32,
    /// Faults to plant.
    pub plants: Vec<Plant>,
}

/// Runs a scenario and leaves the evidence in `dir`.
///
/// # Errors
///
/// When the harness fails. What the store does wrong is evidence, not an error.
pub async fn run(settings: Settings, dir: &Path) -> Result<()> {
    let Settings {
        scenario,
        plan,
        seed,
        time,
        pace,
        plants,
    } = settings;
    let recorder = Recorder::create(dir)?;
    let dice = Dice::new(seed);
    let mut info = RunInfo {
        scenario: scenario.name.clone(),
        seed,
        seconds: time.as_secs(),
        system: plan.system.name().into(),
        binary: plan.system.identity(),
        members: plan.members,
        checks: scenario.checks.clone(),
        faults: scenario
            .faults
            .iter()
            .map(|fault| fault.name().into())
            .collect(),
        writes_min: writes_min(scenario.workload, time),
        lease_early_ms: plan.system.lease_early_ms(),
        plants: plants.clone(),
        troubles: Vec::new(),
    };
    let save = |info: &RunInfo| -> Result<()> {
        Ok(std::fs::write(
            dir.join("run.json"),
            serde_json::to_string_pretty(info)?,
        )?)
    };
    // Written now too, so that a run that breaks off can be looked at.
    save(&info)?;
    let mut cluster = Cluster::start(plan).await?;
    let shared = Shared::new(scenario.value_bytes, plants);
    let pause = Duration::from_secs(1) * u32::try_from(CLIENTS).unwrap_or(1) / CALLS_PER_SECOND;
    let mut load = Load::start(
        &cluster.possible_targets(),
        scenario.workload,
        (CLIENTS, pause),
        &recorder,
        &shared,
        &dice,
    );
    if scenario.compacts {
        load.compact(&recorder, &shared, &dice);
    }
    let end = Instant::now() + time;
    let mut fate = dice.fork(0xFA7E);
    let faults: &[Fault] = if shared.is_planted(Plant::IdleNemesis) {
        &[]
    } else {
        &scenario.faults
    };
    let torment = faults::torment(&mut cluster, faults, &mut fate, &recorder, pace, end).await;
    faults::heal(&mut cluster).await?;
    recorder.nemesis("end", serde_json::Value::Null);
    if let Err(error) = torment {
        info.troubles.push(Trouble {
            of_store: false,
            message: format!("{error:#}"),
        });
    }
    if let Err(error) = finish::finish(&mut cluster, &scenario, &recorder, &shared, load, dir).await
    {
        info.troubles.push(Trouble {
            of_store: true,
            message: format!("after healing: {error:#}"),
        });
    }
    if shared.is_planted(Plant::SuddenDeath) {
        cluster.murder(0)?;
    }
    for member in cluster.members() {
        cluster.is_up(member);
    }
    cluster.read_logs();
    info.troubles.append(&mut cluster.troubles);
    cluster.destroy();
    recorder.flush()?;
    save(&info)
}

/// Acknowledged writes that a run must have: a tenth of what an unhurt one makes.
fn writes_min(workload: Workload, time: Duration) -> i64 {
    let per_second = match workload {
        Workload::Lease => 1,
        _ => i64::from(CALLS_PER_SECOND) / 20,
    };
    per_second * i64::try_from(time.as_secs()).unwrap_or(0)
}

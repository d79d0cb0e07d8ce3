//! Everything a run left behind, and the checkers it is to be held against.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::checkers::certificate::EventLog;
use crate::checkers::coverage::Required;
use crate::checkers::lease::Bounds;
use crate::checkers::{Report, agreement, append, certificate, coverage, lease, set, watch, wgl};
use crate::history::{Event, Operation, Record, WatchRecord, operations, read_lines, write_lines};

/// The checkers that depend on the workload; certificate, agreement, watch and coverage
/// always run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Registers by search.
    Wgl,
    /// List-append cycles.
    Append,
    /// Final sets.
    Set,
    /// Leases.
    Lease,
}

/// Lies of the harness that make a right store look wrong. A run with one must be found invalid:
/// that proves the way from the wire to the verdict, not only the checkers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// Reads are sent as serializable and recorded as linearizable.
    StaleReads,
    /// A write of unknown outcome is sent again and only the second try is recorded.
    BlindRetry,
    /// A resumed watch starts one revision late.
    LateResume,
    /// Every fiftieth acknowledged write is recorded as refused.
    FalseRefusal,
}

impl Plant {
    /// The plant of this name.
    pub fn find(name: &str) -> Option<Plant> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
}

/// `run.json`: how a run was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunInfo {
    /// Name of the scenario.
    pub scenario: String,
    /// Seed of all choices.
    pub seed: u64,
    /// Seconds of load and faults.
    pub seconds: u64,
    /// `etcd` or `trireme`.
    pub system: String,
    /// Path of the binary, its size and its version line.
    pub binary: String,
    /// Number of members.
    pub members: usize,
    /// Checkers beyond those that always run.
    pub checks: Vec<Check>,
    /// Faults that must have struck.
    pub faults: Vec<String>,
    /// Least number of acknowledged writes.
    pub writes_min: i64,
    /// By how much a lease may end early, in milliseconds.
    pub lease_early_ms: u64,
    /// The lie the harness told on purpose, to see it caught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plant: Option<Plant>,
    /// What went wrong with the harness or the members, in words; makes the verdict unknown or
    /// invalid.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

/// Something that happened outside of histories.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trouble {
    /// Whether it is the store's fault (a panic, an exit nobody asked for) or the harness's.
    pub of_store: bool,
    /// What happened.
    pub message: String,
}

/// What a run left behind.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// How it was made.
    pub info: RunInfo,
    /// All records, the nemesis's included.
    pub records: Vec<Record>,
    /// The operations of clients.
    pub operations: Vec<Operation>,
    /// Frames of watch streams.
    pub watch: Vec<WatchRecord>,
    /// The event log as each member told it.
    pub logs: Vec<(u32, EventLog)>,
}

/// A fault with its healing and the calm before it takes about this long at most.
const SECONDS_PER_FAULT: u64 = 8;

/// First line of `events-N.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LogLine {
    Head { to: i64 },
    Event(Event),
}

/// Writes a member's event log into a run's directory.
///
/// # Errors
///
/// When the file cannot be written.
pub fn save_log(dir: &Path, node: u32, log: &EventLog) -> Result<()> {
    let head = [LogLine::Head { to: log.to }];
    let lines = head
        .into_iter()
        .chain(log.iter().cloned().map(LogLine::Event));
    write_lines(
        &dir.join(format!("events-{node}.jsonl")),
        &lines.collect::<Vec<_>>(),
    )
}

fn load_log(path: &Path) -> Result<EventLog> {
    let mut log = EventLog::default();
    for line in read_lines(path)? {
        match line {
            LogLine::Head { to } => log.to = to,
            LogLine::Event(event) => log.events.entry(event.revision()).or_default().push(event),
        }
    }
    Ok(log)
}

impl Evidence {
    /// Reads a run's directory.
    ///
    /// # Errors
    ///
    /// When a file is missing or is not what it should be.
    pub fn load(dir: &Path) -> Result<Evidence> {
        let path = dir.join("run.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let info: RunInfo = serde_json::from_slice(&text)?;
        let records: Vec<Record> = read_lines(&dir.join("history.jsonl"))?;
        let mut logs = Vec::new();
        for node in 0..u32::try_from(info.members)? {
            let path = dir.join(format!("events-{node}.jsonl"));
            if path.exists() {
                logs.push((node, load_log(&path)?));
            }
        }
        Ok(Evidence {
            operations: operations(&records)?,
            records,
            watch: read_lines(&dir.join("watch.jsonl"))?,
            logs,
            info,
        })
    }

    /// Runs the checkers. Those that compare with the event log say nothing when there is none.
    pub fn check(&self) -> Vec<Report> {
        let (agreement, log) = agreement::check(&self.operations, &self.logs, self.info.members);
        let mut reports = vec![self.troubles(), agreement];
        if !self.logs.is_empty() {
            reports.push(certificate::check(&self.operations, &log));
            reports.push(watch::check(&self.watch, &log));
        }
        for check in &self.info.checks {
            reports.push(match check {
                Check::Wgl => wgl::check(&self.operations, Duration::from_secs(60)),
                Check::Append => append::check(&self.operations),
                Check::Set => set::check(&self.operations, self.info.members),
                Check::Lease => {
                    let early = Duration::from_millis(self.info.lease_early_ms);
                    let bounds = Bounds {
                        early,
                        late: Duration::from_secs(10),
                    };
                    lease::check(&self.operations, &self.watch, &log, bounds)
                }
            });
        }
        reports.push(coverage::check(
            &self.records,
            &self.operations,
            &self.required(),
        ));
        reports
    }

    fn required(&self) -> Required {
        Required {
            writes: self.info.writes_min,
            faults: self.info.faults.clone(),
            faults_min: self
                .info
                .faults
                .len()
                .min((self.info.seconds / SECONDS_PER_FAULT).max(1) as usize),
            recovery: !self.info.faults.is_empty(),
        }
    }

    fn troubles(&self) -> Report {
        let mut report = Report::new("process");
        for trouble in &self.info.troubles {
            if trouble.of_store {
                report.invalid("crash", &[], trouble.message.clone());
            } else {
                report.unknown(trouble.message.clone());
            }
        }
        report
    }
}

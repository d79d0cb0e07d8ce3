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
use crate::plants::Plant;

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
    /// Faults that were planted, to see them caught.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plants: Vec<Plant>,
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
    Head { from: i64, to: i64 },
    Event(Event),
}

/// Writes a member's event log into a run's directory.
///
/// # Errors
///
/// When the file cannot be written.
pub fn save_log(dir: &Path, node: u32, log: &EventLog) -> Result<()> {
    let head = [LogLine::Head {
        from: log.from,
        to: log.to,
    }];
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
            LogLine::Head { from, to } => (log.from, log.to) = (from, to),
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
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let node = name.strip_prefix("events-");
            let node = node.and_then(|rest| rest.strip_suffix(".jsonl"));
            if let Some(node) = node {
                logs.push((node.parse()?, load_log(&path)?));
            }
        }
        logs.sort_by_key(|(node, _)| *node);
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
        let (mut agreement, mut log) =
            agreement::check(&self.operations, &self.logs, self.info.members);
        agreement::recall(&mut agreement, &self.watch, &mut log);
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

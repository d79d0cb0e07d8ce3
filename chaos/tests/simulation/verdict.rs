//! What came of a simulation, and the checkers' word on it.

use std::fmt;

use chaos::checkers::certificate::EventLog;
use chaos::checkers::{Report, Verdict};
use chaos::evidence::{Evidence, RunInfo};
use chaos::history::{Recorder, operations};

use crate::plan::Plan;
use crate::situations::Situations;

/// What was found.
pub struct Found {
    pub plan: Plan,
    /// Violations, the most telling first.
    pub problems: Vec<String>,
    pub reports: Vec<Report>,
    /// What the nemesis did.
    pub deeds: Vec<String>,
    pub trace: Vec<String>,
    pub situations: Situations,
    pub elapsed: std::time::Duration,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.plan)?;
        for deed in &self.deeds {
            writeln!(f, "  {deed}")?;
        }
        for report in &self.reports {
            writeln!(f, "  {report}")?;
        }
        writeln!(f, "  {:.1} s simulated", self.elapsed.as_secs_f64())?;
        write!(f, "{}", self.situations)?;
        for problem in &self.problems {
            writeln!(f, "  PROBLEM {problem}")?;
        }
        Ok(())
    }
}

/// Holds the clients' history against the members'. `places` are the members that were read at
/// the end.
pub fn check(
    plan: &Plan,
    recorder: &Recorder,
    log: &EventLog,
    places: &[u32],
    situations: &mut Situations,
) -> (Vec<Report>, Vec<String>) {
    let (records, watch) = recorder.take();
    let operations = match operations(&records) {
        Ok(operations) => operations,
        Err(error) => return (Vec::new(), vec![format!("no history: {error:#}")]),
    };
    let info = RunInfo {
        scenario: format!("simulation-{}", plan.workload.name()),
        seed: plan.seed,
        seconds: plan.span.as_secs(),
        system: "trireme".to_owned(),
        binary: "simulation".to_owned(),
        members: places.len(),
        checks: plan.workload.checks(),
        faults: Vec::new(),
        writes_min: 0,
        lease_early_ms: 0,
        plants: Vec::new(),
        troubles: Vec::new(),
    };
    let logs = places.iter().map(|place| (*place, log.clone())).collect();
    let evidence = Evidence {
        info,
        records,
        operations,
        watch,
        logs,
    };
    let reports = evidence.check();
    situations.met(&reports, &evidence.watch);
    let mut problems = Vec::new();
    for report in &reports {
        if let Some(reason) = &report.unknown {
            problems.push(format!("unknown {}: {reason}", report.checker));
        }
        if report.verdict == Verdict::Invalid {
            for anomaly in &report.anomalies {
                problems.push(format!(
                    "{} {}: {}",
                    report.checker, anomaly.kind, anomaly.message
                ));
            }
        }
    }
    (reports, problems)
}

/// A digest of bytes: FNV-1a, for comparisons only.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

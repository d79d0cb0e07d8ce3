//! The run met the situations it was meant to meet; otherwise its green means nothing.

use std::collections::BTreeMap;

use super::Report;
use crate::history::{Operation, Outcome, Process, Record};

/// What a run must have met.
#[derive(Debug, Clone, Default)]
pub struct Required {
    /// At least this many acknowledged writes.
    pub writes: i64,
    /// Names of faults that strike in turn.
    pub faults: Vec<String>,
    /// At least so many different ones of them must have struck.
    pub faults_min: usize,
    /// Whether writes must have been acknowledged after the last fault was healed.
    pub recovery: bool,
}

/// Counts what happened and how long no write succeeded.
pub fn check(records: &[Record], operations: &[Operation], required: &Required) -> Report {
    let mut report = Report::new("coverage");
    let mut struck: BTreeMap<&str, i64> = BTreeMap::new();
    let mut last_fault_ns = 0;
    for record in records.iter().filter(|record| record.process == nemesis()) {
        *struck.entry(&record.f).or_default() += 1;
        last_fault_ns = last_fault_ns.max(record.time_ns);
    }
    let met = required
        .faults
        .iter()
        .filter(|fault| struck.contains_key(fault.as_str()))
        .count();
    if met < required.faults_min {
        let wanted = required.faults_min;
        report.unknown(format!("{met} different faults struck, {wanted} wanted"));
    }
    for (fault, count) in struck {
        report.count(fault, count);
    }
    let mut writes: Vec<u64> = Vec::new();
    for operation in operations {
        let name = match operation.outcome {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Unknown => "info",
        };
        report.count(name, 1);
        let wrote = operation
            .reply
            .as_ref()
            .is_some_and(|reply| reply.wrote(&operation.call));
        if wrote && operation.outcome == Outcome::Ok {
            writes.push(operation.end_ns);
        }
    }
    writes.sort_unstable();
    let total = i64::try_from(writes.len()).unwrap_or(i64::MAX);
    report.count("writes", total);
    if total < required.writes {
        report.unknown(format!(
            "{total} writes were acknowledged, {} wanted",
            required.writes
        ));
    }
    if required.recovery && writes.last().is_none_or(|last| *last <= last_fault_ns) {
        report.invalid(
            "no-recovery",
            &[],
            "no write was acknowledged after the last fault ended",
        );
    }
    let gaps = writes.windows(2).map(|pair| pair[1] - pair[0]);
    let longest_ms = gaps.max().unwrap_or(0) / 1_000_000;
    report.count(
        "longest-gap-ms",
        i64::try_from(longest_ms).unwrap_or(i64::MAX),
    );
    report
}

fn nemesis() -> Process {
    Process::Named("nemesis".into())
}

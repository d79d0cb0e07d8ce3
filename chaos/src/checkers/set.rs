//! Nothing acknowledged is missing at the end, on any member.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use crate::history::{Operation, Outcome, Process};
use crate::ops::{Call, Reply};

/// Keys of elements start with this; an element's key is written once and never deleted.
pub const PREFIX: &str = "set/";

/// Compares each member's final list with what clients were told.
pub fn check(operations: &[Operation], members: usize) -> Report {
    let mut report = Report::new("set");
    let mut told: BTreeMap<&str, &Operation> = BTreeMap::new();
    let mut finals: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for operation in operations {
        match (&operation.call, &operation.reply) {
            (Call::Put { key, .. }, _) if key.starts_with(PREFIX) => {
                told.insert(key, operation);
            }
            (Call::List { prefix, .. }, Some(Reply::Items(items)))
                if is_final(&operation.process) && PREFIX.starts_with(prefix.as_str()) =>
            {
                let keys = items.iter().map(|item| item.key.as_str());
                let keys = keys.filter(|key| key.starts_with(PREFIX)).collect();
                finals.insert(operation.node.unwrap_or_default(), keys);
            }
            _ => {}
        }
    }
    if finals.len() < members {
        report.unknown(format!(
            "only {} of {members} members were read at the end",
            finals.len()
        ));
    }
    if !told
        .values()
        .any(|operation| operation.outcome == Outcome::Ok)
    {
        report.unknown("no element was acknowledged");
    }
    for (node, present) in &finals {
        compare(&mut report, *node, &told, present);
    }
    for operation in told.values() {
        let name = match operation.outcome {
            Outcome::Ok => "acknowledged",
            Outcome::Fail => "refused",
            Outcome::Unknown => "unknown",
        };
        report.count(name, 1);
    }
    report
}

fn compare(
    report: &mut Report,
    node: u32,
    told: &BTreeMap<&str, &Operation>,
    present: &BTreeSet<&str>,
) {
    for (key, operation) in told {
        match (operation.outcome, present.contains(key)) {
            (Outcome::Ok, false) => {
                let message = format!("{key} was acknowledged and is missing on member {node}");
                report.invalid("lost-element", &[operation.start, operation.end], message);
            }
            (Outcome::Fail, true) => {
                let message = format!("{key} was refused and is present on member {node}");
                report.invalid("refused-element-present", &[operation.start], message);
            }
            _ => {}
        }
    }
    for key in present {
        if !told.contains_key(key) {
            let message = format!("{key} on member {node} was never added");
            report.invalid("phantom-element", &[], message);
        }
    }
}

/// Whether a process is one of the final readers.
pub fn is_final(process: &Process) -> bool {
    matches!(process, Process::Named(name) if name.starts_with("final"))
}

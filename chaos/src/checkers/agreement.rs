//! Members tell the same history and have the same hash of the same revision.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::certificate::EventLog;
use super::set::is_final;
use crate::history::{Frame, Operation, WatchRecord};
use crate::ops::{Call, Reply};

/// Compares the members' logs and merges them, and compares their final hashes.
///
/// The merged log is the oracle of the other checkers; where members disagree the first one's
/// word is kept.
pub fn check(
    operations: &[Operation],
    logs: &[(u32, EventLog)],
    members: usize,
) -> (Report, EventLog) {
    let mut report = Report::new("agreement");
    let merged = merge(&mut report, logs, members);
    hashes(&mut report, operations, members);
    (report, merged)
}

fn merge(report: &mut Report, logs: &[(u32, EventLog)], members: usize) -> EventLog {
    if logs.len() < members {
        report.unknown(format!(
            "only {} of {members} members told their history",
            logs.len()
        ));
    }
    let Some((first, merged)) = logs.first() else {
        report.unknown("no member told its history");
        return EventLog::default();
    };
    for (node, log) in &logs[1..] {
        if (log.from, log.to) != (merged.from, merged.to) {
            let message = format!(
                "member {first} tells revisions {} to {}, {node} {} to {}",
                merged.from, merged.to, log.from, log.to
            );
            report.invalid("members-disagree", &[], message);
        }
        let revisions = merged.events.keys().chain(log.events.keys());
        let revisions: BTreeSet<i64> = revisions.copied().collect();
        for revision in revisions {
            let (ours, theirs) = (merged.events.get(&revision), log.events.get(&revision));
            if ours != theirs {
                let message =
                    format!("revision {revision}: member {first} has {ours:?}, {node} {theirs:?}");
                report.invalid("members-disagree", &[], message);
            }
        }
    }
    report.count("histories", i64::try_from(logs.len()).unwrap_or(i64::MAX));
    merged.clone()
}

/// Fills in what was compacted before the members told their history, from what the first stream
/// saw when it happened: it asks for everything. Where it can be compared with the members' word,
/// the watch checker does that; an event that it missed shows as a lost write.
pub fn recall(report: &mut Report, watch: &[WatchRecord], log: &mut EventLog) {
    if log.from <= 1 {
        return;
    }
    for record in watch.iter().filter(|record| record.stream == 0) {
        match &record.frame {
            Frame::Canceled { compacted, .. } if *compacted > 0 => {
                report.unknown("the stream that sees everything was overtaken by compaction");
            }
            Frame::Events(events) => {
                for event in events.iter().filter(|e| e.revision() < log.from) {
                    report.count("recalled", 1);
                    let told = log.events.entry(event.revision()).or_default();
                    if !told.iter().any(|known| known.item.key == event.item.key) {
                        told.push(event.clone());
                    }
                }
            }
            _ => {}
        }
    }
}

fn hashes(report: &mut Report, operations: &[Operation], members: usize) {
    type ByMember = BTreeMap<u32, (u32, i64)>;
    let mut hashes: BTreeMap<i64, ByMember> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|operation| is_final(&operation.process))
    {
        let (Call::Hash { revision }, Some(Reply::Hash { hash, compacted })) =
            (&operation.call, &operation.reply)
        else {
            continue;
        };
        let node = operation.node.unwrap_or_default();
        hashes
            .entry(*revision)
            .or_default()
            .insert(node, (*hash, *compacted));
    }
    if hashes
        .values()
        .all(|of_revision| of_revision.len() < members)
    {
        report.unknown("not every member gave its hash of one revision");
    }
    for (revision, of_revision) in hashes {
        report.count(
            "hashes",
            i64::try_from(of_revision.len()).unwrap_or(i64::MAX),
        );
        let mut members = of_revision.iter();
        let Some((first, expected)) = members.next() else {
            continue;
        };
        for (node, hash) in members {
            // Hashes cover what compaction left: comparable only at one compact revision.
            if hash.1 == expected.1 && hash.0 != expected.0 {
                let message = format!(
                    "at revision {revision} member {first} has hash {:08x}, {node} {:08x}",
                    expected.0, hash.0
                );
                report.invalid("hashes-differ", &[], message);
            } else if hash.1 != expected.1 {
                report.unknown(format!(
                    "members {first} and {node} are compacted differently"
                ));
            }
        }
    }
}

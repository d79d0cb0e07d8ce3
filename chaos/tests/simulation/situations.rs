//! Situations that the seeds of a test must meet: a simulation in which nothing happened proves
//! nothing.

use std::collections::BTreeMap;
use std::fmt;

use chaos::checkers::Report;
use chaos::history::{Frame, WatchRecord};

use crate::invariants::Invariants;
use crate::trace::CAUGHT_UP;

/// What the store logs when a situation occurs, and our name for it.
const SAID: &[(&str, &str)] = &[
    ("installed a snapshot", "snapshot installed"),
    (CAUGHT_UP, "lagging member caught up from a snapshot"),
    ("added a member as a learner", "member added"),
    ("promoted a learner to a voter", "learner promoted"),
    ("removed a member", "member removed"),
    ("handed leadership over", "leadership handed over"),
    ("revoking expired leases", "leases expired"),
    ("making a checkpoint", "checkpoint made"),
    ("next segment of the Raft log", "log segment filled"),
    (
        "dropped an unfinished batch at the end of the Raft log",
        "torn tail dropped",
    ),
    ("read index for another member", "read index forwarded"),
    ("proposed for another member", "write forwarded"),
    ("forwarding failed", "forwarded write of unknown outcome"),
];

/// What the invariants, the nemesis and the checkers count.
const COUNTED: &[&str] = &[
    "leader changed",
    "unsynced entries lost",
    "write of unknown outcome committed",
    "write of unknown outcome not committed",
    "watch resumed",
    "watch cancelled by a compaction",
    "watch progress reported",
    "wiped member refused",
    "one member down for good",
];

/// How often each situation occurred.
#[derive(Debug, Default)]
pub struct Situations(BTreeMap<String, u64>);

impl Situations {
    /// Adds occurrences.
    pub fn add(&mut self, name: &str, count: u64) {
        if count > 0 {
            *self.0.entry(name.to_owned()).or_default() += count;
        }
    }

    /// Adds the occurrences of another run.
    pub fn merge(&mut self, other: &Situations) {
        for (name, count) in &other.0 {
            self.add(name, *count);
        }
    }

    /// Adds what the store said.
    pub fn said(&mut self, said: &BTreeMap<String, u64>) {
        for (message, name) in SAID {
            self.add(name, said.get(*message).copied().unwrap_or(0));
        }
    }

    /// Adds what the invariants saw.
    pub fn seen(&mut self, invariants: &Invariants) {
        let changes = invariants.leaders_seen.saturating_sub(1);
        self.add("leader changed", changes);
        self.add("unsynced entries lost", invariants.shortened_logs);
    }

    /// Adds what the clients met.
    pub fn met(&mut self, reports: &[Report], watch: &[WatchRecord]) {
        let count = |name: &str| {
            let counts = reports.iter().filter_map(|report| report.counts.get(name));
            u64::try_from(counts.sum::<i64>()).unwrap_or(0)
        };
        let unknown = count("unknown");
        let committed = count("unknown-committed");
        self.add("write of unknown outcome committed", committed);
        let not = unknown.saturating_sub(committed);
        self.add("write of unknown outcome not committed", not);
        self.add("watch resumed", count("resumed"));
        self.add("watch progress reported", count("bookmarks"));
        let compacted = watch.iter().filter(
            |record| matches!(record.frame, Frame::Canceled { compacted, .. } if compacted > 0),
        );
        self.add("watch cancelled by a compaction", compacted.count() as u64);
    }

    /// Those that must occur, and `faults` must strike, but did not.
    pub fn missing(&self, faults: impl Iterator<Item = String>) -> Vec<String> {
        let said = SAID.iter().map(|(_, name)| (*name).to_owned());
        let counted = COUNTED.iter().map(|name| (*name).to_owned());
        said.chain(counted)
            .chain(faults)
            .filter(|name| !self.0.contains_key(name))
            .collect()
    }
}

impl fmt::Display for Situations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.0 {
            writeln!(f, "{count:>9} {name}")?;
        }
        Ok(())
    }
}

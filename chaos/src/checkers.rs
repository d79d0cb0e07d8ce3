//! Checkers: each reads a run and says `valid`, `invalid` or `unknown`, with reasons.
//!
//! - [`certificate`]: revisions as a proof of strict serializability, in linear time; the oracle.
//! - [`wgl`]: linearizability per key by search, blind to revisions; the second opinion.
//! - [`append`]: cycles between list-append transactions, blind to revisions.
//! - [`watch`]: etcd's guarantees on every watch stream.
//! - [`set`]: nothing acknowledged is missing anywhere at the end.
//! - [`lease`]: nothing renewed expires, everything abandoned does.
//! - [`agreement`]: members tell the same history and have the same hash.
//! - [`coverage`]: the run met the situations it was meant to meet.

pub mod agreement;
pub mod append;
pub mod certificate;
pub mod coverage;
pub mod lease;
pub mod set;
pub mod watch;
pub mod wgl;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a checker concludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No violation, and everything needed to say so was there.
    Valid,
    /// Nothing can be said. Never counts as green.
    Unknown,
    /// A violation was found.
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Valid => "valid",
            Verdict::Unknown => "unknown",
            Verdict::Invalid => "INVALID",
        })
    }
}

/// One violation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Its name, stable, for tests: `stale-read`, `lost-write`...
    pub kind: String,
    /// One sentence: what was seen and what was expected.
    pub message: String,
    /// Record indexes of the operations concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<u64>,
}

/// What one checker has to say about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The checker.
    pub checker: String,
    /// Its conclusion.
    pub verdict: Verdict,
    /// Violations; at most [`ANOMALIES_MAX`] of a kind are kept.
    pub anomalies: Vec<Anomaly>,
    /// How many violations there were in all.
    pub anomaly_count: usize,
    /// Why nothing can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Counts of what was checked.
    pub counts: BTreeMap<String, i64>,
}

/// Violations kept per kind: more do not help a reader.
pub const ANOMALIES_MAX: usize = 5;

impl Report {
    /// A report without violations so far.
    pub fn new(checker: &str) -> Report {
        Report {
            checker: checker.to_owned(),
            verdict: Verdict::Valid,
            anomalies: Vec::new(),
            anomaly_count: 0,
            unknown: None,
            counts: BTreeMap::new(),
        }
    }

    /// Adds a violation.
    pub fn invalid(&mut self, kind: &str, records: &[u64], message: impl Into<String>) {
        self.verdict = Verdict::Invalid;
        self.anomaly_count += 1;
        let known = self
            .anomalies
            .iter()
            .filter(|anomaly| anomaly.kind == kind)
            .count();
        if known < ANOMALIES_MAX {
            let records = records
                .iter()
                .copied()
                .filter(|index| *index != u64::MAX)
                .collect();
            self.anomalies.push(Anomaly {
                kind: kind.to_owned(),
                message: message.into(),
                records,
            });
        }
    }

    /// Says that nothing can be said, unless a violation was found.
    pub fn unknown(&mut self, reason: impl Into<String>) {
        if self.verdict == Verdict::Valid {
            self.verdict = Verdict::Unknown;
        }
        self.unknown.get_or_insert(reason.into());
    }

    /// Adds to a count.
    pub fn count(&mut self, name: &str, by: i64) {
        *self.counts.entry(name.to_owned()).or_default() += by;
    }

    /// Whether a violation of this kind is among those kept.
    pub fn has(&self, kind: &str) -> bool {
        self.anomalies.iter().any(|anomaly| anomaly.kind == kind)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12} {:<8}", self.checker, self.verdict.to_string())?;
        for (name, count) in &self.counts {
            write!(f, " {name}={count}")?;
        }
        if let Some(reason) = &self.unknown {
            write!(f, "\n    unknown: {reason}")?;
        }
        for anomaly in &self.anomalies {
            write!(f, "\n    {}: {}", anomaly.kind, anomaly.message)?;
            if !anomaly.records.is_empty() {
                write!(f, " (records {:?})", anomaly.records)?;
            }
        }
        let hidden = self.anomaly_count.saturating_sub(self.anomalies.len());
        if hidden > 0 {
            write!(f, "\n    and {hidden} more")?;
        }
        Ok(())
    }
}

//! The oracle: every reply carries a revision, so a run brings its own proof of order.
//!
//! The event log is replayed once. A write acknowledged at revision r must be exactly what the
//! model does to the state at r-1, a read at h exactly the state at h, and revisions must
//! follow real time: whoever starts after a reply with revision m writes above m and reads at
//! m or above. If all hold, "by revision, writes before reads" is a strict serialization.
//! Writes of unknown outcome are found in the log by what they would have written; an event
//! that nobody can have written is an anomaly. O(n log n).

use std::collections::{BTreeMap, HashMap};

use super::Report;
use crate::history::{Event, Operation, Outcome};
use crate::model::{Change, State};
use crate::ops::{Call, Item};

/// The event log: everything up to and including `to`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventLog {
    /// The first revision that members still know; above 1, history was compacted there.
    pub from: i64,
    /// Last revision covered.
    pub to: i64,
    /// Events by revision, in the order within it.
    pub events: BTreeMap<i64, Vec<Event>>,
}

impl EventLog {
    /// A log of all events up to `to`, in any order of revisions; within a revision in their
    /// order.
    pub fn new(to: i64, events: impl IntoIterator<Item = Event>) -> EventLog {
        let mut log = EventLog {
            from: 1,
            to,
            events: BTreeMap::new(),
        };
        for event in events {
            log.events.entry(event.revision()).or_default().push(event);
        }
        log
    }

    /// All events in order.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.events.values().flatten()
    }
}

/// Checks all operations that carry revisions against the event log.
pub fn check(operations: &[Operation], log: &EventLog) -> Report {
    let mut checker = Checker::new(operations, log);
    checker.real_time();
    checker.replay();
    checker.report
}

struct Checker<'a> {
    operations: &'a [Operation],
    log: &'a EventLog,
    report: Report,
    /// For each operation: the highest revision anyone had been told before it was invoked.
    floors: Vec<i64>,
    /// Acknowledged writes by claimed revision.
    writers: BTreeMap<i64, Vec<usize>>,
    /// Reads by the revision whose state they must show.
    readers: BTreeMap<i64, Vec<usize>>,
    /// Writes that may have had an effect, and refused ones, by what they would write first.
    unclaimed: HashMap<Signature, Vec<usize>>,
    /// Index of the first completion with this revision or a higher one.
    first_seen: BTreeMap<i64, u64>,
}

#[derive(PartialEq, Eq, Hash)]
enum Signature {
    Put(String, String),
    Element(String, u64),
    Delete(String),
}

impl<'a> Checker<'a> {
    fn new(operations: &'a [Operation], log: &'a EventLog) -> Checker<'a> {
        let mut checker = Checker {
            operations,
            log,
            report: Report::new("certificate"),
            floors: vec![0; operations.len()],
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
            unclaimed: HashMap::new(),
            first_seen: BTreeMap::new(),
        };
        for (id, operation) in operations.iter().enumerate() {
            checker.sort(id, operation);
        }
        // The first completion with revision >= r: minimum over all higher revisions.
        let mut earliest = u64::MAX;
        for seen in checker.first_seen.values_mut().rev() {
            earliest = earliest.min(*seen);
            *seen = earliest;
        }
        checker
    }

    fn sort(&mut self, id: usize, operation: &Operation) {
        if !describes(&operation.call) {
            return;
        }
        match (operation.outcome, &operation.reply) {
            (Outcome::Ok, Some(reply)) => {
                let Some(rev) = operation.rev else {
                    let message = format!("{:?} was answered without a revision", operation.call);
                    self.report
                        .invalid("no-revision", &[operation.start], message);
                    return;
                };
                let seen = self.first_seen.entry(rev).or_insert(u64::MAX);
                *seen = (*seen).min(operation.end);
                if reply.wrote(&operation.call) {
                    self.writers.entry(rev).or_default().push(id);
                    self.report.count("writes", 1);
                } else {
                    let historic = operation.call.at_revision();
                    let at = if historic > 0 { historic } else { rev };
                    self.readers.entry(at).or_default().push(id);
                    self.report.count("reads", 1);
                }
            }
            _ => {
                for signature in signatures(&operation.call) {
                    self.unclaimed.entry(signature).or_default().push(id);
                }
                let name = if operation.outcome == Outcome::Fail {
                    "failed"
                } else {
                    "unknown"
                };
                self.report.count(name, 1);
            }
        }
    }

    /// Sweeps over real time and compares each reply with all revisions told before.
    fn real_time(&mut self) {
        let mut points: Vec<(u64, bool, usize)> = Vec::new();
        for (id, operation) in self.operations.iter().enumerate() {
            if describes(&operation.call) {
                points.push((operation.start, false, id));
                if operation.outcome == Outcome::Ok && operation.rev.is_some() {
                    points.push((operation.end, true, id));
                }
            }
        }
        points.sort_unstable();
        let mut told = (0, u64::MAX);
        for (_, completion, id) in points {
            let operation = &self.operations[id];
            let rev = operation.rev.unwrap_or(0);
            if !completion {
                self.floors[id] = told.0;
                let wrote = operation
                    .reply
                    .as_ref()
                    .is_some_and(|r| r.wrote(&operation.call));
                let exempt = operation.outcome != Outcome::Ok || operation.call.may_be_stale();
                if exempt || operation.rev.is_none() {
                    continue;
                }
                let records = [told.1, operation.start, operation.end];
                if wrote && rev <= told.0 {
                    let message = format!(
                        "{} wrote at revision {rev} after revision {} had been told",
                        describe(operation),
                        told.0
                    );
                    self.report
                        .invalid("late-write-at-old-revision", &records, message);
                } else if rev < told.0 {
                    let message = format!(
                        "{} read at revision {rev} after revision {} had been told",
                        describe(operation),
                        told.0
                    );
                    self.report.invalid("stale-read", &records, message);
                }
            } else if rev > told.0 {
                told = (rev, operation.end);
            }
        }
    }

    /// Replays the log and compares every reply with the state it must show.
    fn replay(&mut self) {
        let mut state = State::default();
        let mut revisions: Vec<i64> = self.log.events.keys().copied().collect();
        revisions.extend(self.writers.keys());
        revisions.extend(self.readers.keys());
        revisions.sort_unstable();
        revisions.dedup();
        let mut resolved = vec![false; self.operations.len()];
        for revision in revisions {
            if revision > self.log.to {
                self.beyond(revision);
                continue;
            }
            if let Some(events) = self.log.events.get(&revision) {
                self.attribute(&state, revision, events, &mut resolved);
                self.apply(&mut state, revision, events);
            } else {
                for id in self.writers.get(&revision).cloned().unwrap_or_default() {
                    let operation = &self.operations[id];
                    let message = format!(
                        "{} was acknowledged at revision {revision}, which has no event",
                        describe(operation)
                    );
                    self.report
                        .invalid("lost-write", &[operation.start, operation.end], message);
                }
            }
            for id in self.readers.get(&revision).cloned().unwrap_or_default() {
                self.compare(id, &state, revision, "wrong-read");
            }
        }
        let committed = resolved.iter().filter(|resolved| **resolved).count();
        self.report.count(
            "unknown-committed",
            i64::try_from(committed).unwrap_or(i64::MAX),
        );
        self.report.count("revisions", self.log.to);
    }

    fn beyond(&mut self, revision: i64) {
        let writers = self.writers.get(&revision).into_iter().flatten();
        let readers = self.readers.get(&revision).into_iter().flatten();
        for id in writers.chain(readers) {
            let operation = &self.operations[*id];
            let message = format!(
                "{} was told revision {revision}, but the history ends at {}",
                describe(operation),
                self.log.to
            );
            self.report
                .invalid("lost-write", &[operation.start, operation.end], message);
        }
    }

    /// Finds who wrote the events of a revision.
    fn attribute(&mut self, state: &State, revision: i64, events: &[Event], resolved: &mut [bool]) {
        let writers = self.writers.get(&revision).cloned().unwrap_or_default();
        if let [first, second, ..] = writers[..] {
            let (first, second) = (&self.operations[first], &self.operations[second]);
            let message = format!(
                "revision {revision} was told to both {} and {}",
                describe(first),
                describe(second)
            );
            self.report.invalid(
                "revision-claimed-twice",
                &[first.start, second.start],
                message,
            );
        }
        let changes: Vec<Change> = events.iter().map(State::change_of).collect();
        for id in &writers {
            let expected = state.evaluate(&self.operations[*id].call, revision);
            if expected.is_none_or(|(_, expected)| expected != changes) {
                let operation = &self.operations[*id];
                let message = format!(
                    "{} was acknowledged at revision {revision}, which holds {changes:?}",
                    describe(operation)
                );
                self.report
                    .invalid("lost-write", &[operation.start, operation.end], message);
            } else {
                self.compare(*id, state, revision, "wrong-reply");
            }
        }
        if writers.is_empty() {
            self.resolve(state, revision, &changes, resolved);
        }
    }

    /// Finds the write of unknown outcome, or the end of a lease, behind unclaimed events.
    fn resolve(&mut self, state: &State, revision: i64, changes: &[Change], resolved: &mut [bool]) {
        let seen = self
            .first_seen
            .range(revision..)
            .next()
            .map_or(u64::MAX, |(_, seen)| *seen);
        let mut refused = None;
        for signature in changes.first().into_iter().flat_map(signatures_of_change) {
            for id in self.unclaimed.get(&signature).into_iter().flatten() {
                let operation = &self.operations[*id];
                let fits = !resolved[*id]
                    && state
                        .evaluate(&operation.call, revision)
                        .is_some_and(|(_, c)| c == changes);
                if fits && operation.outcome == Outcome::Fail {
                    refused.get_or_insert(*id);
                } else if fits && operation.start < seen && self.floors[*id] < revision {
                    resolved[*id] = true;
                    return;
                }
            }
        }
        if is_lease_end(state, changes) {
            self.report.count("lease-ends", 1);
            return;
        }
        if let Some(id) = refused {
            let operation = &self.operations[id];
            let message = format!(
                "{} was refused but took effect at revision {revision}",
                describe(operation)
            );
            self.report
                .invalid("refused-write-happened", &[operation.start], message);
            return;
        }
        let message = format!("nobody can have written {changes:?} at revision {revision}");
        self.report.invalid("phantom-write", &[], message);
    }

    /// Applies events to the state and checks what they say about themselves.
    fn apply(&mut self, state: &mut State, revision: i64, events: &[Event]) {
        for event in events {
            let made = state.change(&State::change_of(event), revision);
            if made.item != event.item {
                let message = format!("event {:?} should be {:?}", event.item, made.item);
                self.report.invalid("wrong-event", &[], message);
                // What the store says goes on, so that one fault is not told a hundred times.
                state.items.remove(&event.item.key);
                if event.item.version > 0 {
                    state
                        .items
                        .insert(event.item.key.clone(), event.item.clone());
                }
            }
        }
    }

    fn compare(&mut self, id: usize, state: &State, revision: i64, kind: &str) {
        let operation = &self.operations[id];
        let expected = state
            .evaluate(&operation.call, revision)
            .map(|(reply, _)| reply);
        if expected != operation.reply {
            let message = format!(
                "{} was answered {:?}, but at revision {revision} the answer is {expected:?}",
                describe(operation),
                operation.reply
            );
            self.report
                .invalid(kind, &[operation.start, operation.end], message);
        }
    }
}

/// Whether the model describes a call and its revision can be checked.
fn describes(call: &Call) -> bool {
    !matches!(
        call,
        Call::Grant { .. }
            | Call::KeepAlive { .. }
            | Call::Revoke { .. }
            | Call::Hash { .. }
            | Call::Compact { .. }
    )
}

fn describe(operation: &Operation) -> String {
    format!(
        "{:?} by {:?} on {:?}",
        operation.call, operation.process, operation.node
    )
}

/// What a call of unknown outcome could be recognised by.
fn signatures(call: &Call) -> Vec<Signature> {
    use crate::ops::{Micro, Step};
    match call {
        Call::Put { key, value, .. } => vec![Signature::Put(key.clone(), value.clone())],
        Call::Delete { key } => vec![Signature::Delete(key.clone())],
        Call::Txn {
            then, otherwise, ..
        } => then
            .iter()
            .chain(otherwise)
            .filter_map(|step| match step {
                Step::Put(key, value) => Some(Signature::Put(key.clone(), value.clone())),
                Step::Delete(key) => Some(Signature::Delete(key.clone())),
                Step::Get(_) => None,
            })
            .collect(),
        Call::Append { steps } => steps
            .iter()
            .filter_map(|step| match step {
                Micro::Append(key, element) => Some(Signature::Element(key.clone(), *element)),
                Micro::Read(_) => None,
            })
            .collect(),
        _ => vec![],
    }
}

fn signatures_of_change(change: &Change) -> Vec<Signature> {
    match change {
        Change::Put(key, value, _) => {
            let last = crate::ops::parse_list(value).last().copied();
            let element = last.map(|element| Signature::Element(key.clone(), element));
            element
                .into_iter()
                .chain([Signature::Put(key.clone(), value.clone())])
                .collect()
        }
        Change::Delete(key) => vec![Signature::Delete(key.clone())],
    }
}

/// Whether the changes delete exactly the keys of one lease.
fn is_lease_end(state: &State, changes: &[Change]) -> bool {
    let items: Option<Vec<&Item>> = changes
        .iter()
        .map(|change| match change {
            Change::Delete(key) => state.items.get(key),
            Change::Put(..) => None,
        })
        .collect();
    let Some(items) = items else { return false };
    let Some(lease) = items
        .first()
        .map(|item| item.lease)
        .filter(|lease| *lease != 0)
    else {
        return false;
    };
    let attached = state
        .items
        .values()
        .filter(|item| item.lease == lease)
        .count();
    items.iter().all(|item| item.lease == lease) && items.len() == attached
}

//! Linearizability per key by search (Wing and Gong, with Lowe's cache), blind to revisions.
//!
//! A key's calls are put in order of real time; the search linearizes any call whose interval
//! allows it next and steps back when a completion is reached that could not be placed. States
//! seen with the same set of placed calls are not searched twice. A write of unknown outcome
//! returns at the end of time, so it may be placed anywhere after its invocation or last; if
//! nobody ever saw its value it is left out, which changes no verdict: every read and every
//! failed comparison names the value it saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::Report;
use crate::history::{Operation, Outcome};
use crate::ops::{Call, Compare, Reply, Step, StepReply};

/// Keys of registers start with this; others are not looked at.
pub const PREFIX: &str = "reg/";

/// What one call did to a register, in terms of numbered values; 0 is "absent".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Read(u32),
    Write(u32),
    /// Succeeded: saw the first, left the second.
    Swap(u32, u32),
    /// A swap of unknown outcome: if it finds the first it leaves the second.
    MaybeSwap(u32, u32),
}

impl Action {
    /// The state after the action, `None` when the state does not allow it.
    fn step(self, state: u32) -> Option<u32> {
        match self {
            Action::Read(value) => (state == value).then_some(state),
            Action::Write(value) => Some(value),
            Action::Swap(from, to) => (state == from).then_some(to),
            Action::MaybeSwap(from, to) => Some(if state == from { to } else { state }),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    action: Action,
    start: u64,
    end: u64,
}

/// Checks every key; a key whose search outlasts `budget` makes the verdict unknown.
pub fn check(operations: &[Operation], budget: Duration) -> Report {
    let mut report = Report::new("wgl");
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        match single_key(&operation.call) {
            Some(key) => keys.entry(key).or_default().push(operation),
            None => report.count("other", 1),
        }
    }
    let deadline = Instant::now() + budget;
    for (key, operations) in keys {
        let intervals = intervals(&operations);
        report.count("keys", 1);
        report.count(
            "operations",
            i64::try_from(intervals.len()).unwrap_or(i64::MAX),
        );
        match Search::new(&intervals).run(deadline) {
            Answer::Linearizable => {}
            Answer::OutOfTime => {
                report.unknown(format!(
                    "the search on key {key} was not over within {budget:?}"
                ));
            }
            Answer::Stuck(stuck) => {
                let stuck = &intervals[stuck];
                let culprit = operations
                    .iter()
                    .find(|operation| operation.start == stuck.start);
                let message = format!(
                    "key {key}: no order of the calls explains {:?} answered {:?}",
                    culprit.map(|operation| &operation.call),
                    culprit.and_then(|operation| operation.reply.as_ref()),
                );
                report.invalid("not-linearizable", &[stuck.start, stuck.end], message);
            }
        }
    }
    report
}

/// The key of a call that is a register operation on one key.
fn single_key(call: &Call) -> Option<&str> {
    let key = match call {
        Call::Put { key, lease: 0, .. } | Call::Delete { key } => Some(key),
        Call::Get {
            key,
            serializable: false,
            revision: 0,
        } => Some(key),
        Call::Txn {
            compare,
            then,
            otherwise,
        } => match (&compare[..], &then[..], &otherwise[..]) {
            ([Compare::Value(key, _)], [Step::Put(put, _)], [Step::Get(get)])
                if key == put && key == get =>
            {
                Some(key)
            }
            _ => None,
        },
        _ => None,
    };
    key.map(String::as_str)
        .filter(|key| key.starts_with(PREFIX))
}

/// Numbers the values and turns operations into intervals; those that bear nothing are left out.
fn intervals(operations: &[&Operation]) -> Vec<Interval> {
    let mut values: HashMap<&str, u32> = HashMap::new();
    let mut number = |value| {
        let next = u32::try_from(values.len() + 1).unwrap_or(u32::MAX);
        *values.entry(value).or_insert(next)
    };
    let mut intervals = Vec::new();
    for operation in operations {
        let action = match (operation.outcome, &operation.call, &operation.reply) {
            (Outcome::Fail, ..) => continue,
            (Outcome::Unknown, Call::Txn { compare, then, .. }, _) => {
                let (Some(Compare::Value(_, from)), Some(Step::Put(_, to))) =
                    (compare.first(), then.first())
                else {
                    continue;
                };
                Action::MaybeSwap(number(from), number(to))
            }
            (_, Call::Put { value, .. }, _) => Action::Write(number(value)),
            (_, Call::Delete { .. }, None) => Action::Write(0),
            (_, Call::Delete { .. }, Some(Reply::Deleted(0))) => Action::Read(0),
            (_, Call::Delete { .. }, Some(_)) => Action::Write(0),
            (_, Call::Get { .. }, Some(Reply::Items(items))) => {
                Action::Read(items.first().map_or(0, |item| number(&item.value)))
            }
            (_, Call::Txn { compare, then, .. }, Some(Reply::Txn { succeeded, steps })) => {
                match (succeeded, compare.first(), then.first(), steps.first()) {
                    (true, Some(Compare::Value(_, from)), Some(Step::Put(_, to)), _) => {
                        Action::Swap(number(from), number(to))
                    }
                    (false, _, _, Some(StepReply::Item(item))) => {
                        Action::Read(item.as_ref().map_or(0, |item| number(&item.value)))
                    }
                    _ => continue,
                }
            }
            _ => continue,
        };
        let end = if operation.outcome == Outcome::Ok {
            operation.end
        } else {
            u64::MAX
        };
        intervals.push(Interval {
            action,
            start: operation.start,
            end,
        });
    }
    drop_unseen(intervals)
}

/// Leaves out writes of unknown outcome whose value nobody saw. Leaving one out may make
/// another one unseen, so it repeats until nothing changes.
fn drop_unseen(mut intervals: Vec<Interval>) -> Vec<Interval> {
    loop {
        let seen: HashSet<u32> = intervals
            .iter()
            .filter_map(|interval| match interval.action {
                Action::Read(value) | Action::Swap(value, _) | Action::MaybeSwap(value, _) => {
                    Some(value)
                }
                Action::Write(_) => None,
            })
            .collect();
        let before = intervals.len();
        intervals.retain(|interval| match interval.action {
            Action::Write(to) | Action::MaybeSwap(_, to) => {
                interval.end != u64::MAX || seen.contains(&to)
            }
            Action::Read(_) | Action::Swap(..) => true,
        });
        if intervals.len() == before {
            return intervals;
        }
    }
}

enum Answer {
    Linearizable,
    /// The operation that could not be placed in the deepest attempt.
    Stuck(usize),
    OutOfTime,
}

/// A doubly linked list of calls and returns in order of real time. Node 0 is the head, node
/// `2i+1` the call and `2i+2` the return of operation `i`.
struct Search {
    actions: Vec<Action>,
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Search {
    fn new(intervals: &[Interval]) -> Search {
        let mut nodes: Vec<(u64, usize)> = Vec::with_capacity(intervals.len() * 2);
        for (id, interval) in intervals.iter().enumerate() {
            nodes.push((interval.start, 2 * id + 1));
            nodes.push((interval.end, 2 * id + 2));
        }
        nodes.sort_unstable();
        let mut search = Search {
            actions: intervals.iter().map(|interval| interval.action).collect(),
            next: vec![0; nodes.len() + 1],
            previous: vec![0; nodes.len() + 1],
        };
        let mut last = 0;
        for (_, node) in nodes {
            search.next[last] = node;
            search.previous[node] = last;
            last = node;
        }
        search
    }

    fn unlink(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = next;
        if next != 0 {
            self.previous[next] = previous;
        }
    }

    fn relink(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = node;
        if next != 0 {
            self.previous[next] = node;
        }
    }

    fn run(mut self, deadline: Instant) -> Answer {
        let mut placed = vec![0_u64; self.actions.len().div_ceil(64)];
        let mut seen: HashSet<(Box<[u64]>, u32)> = HashSet::new();
        let mut stack: Vec<(usize, u32)> = Vec::new();
        let mut state = 0;
        let mut node = self.next[0];
        let mut deepest = (0, 0);
        let mut steps = 0_u32;
        while self.next[0] != 0 {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(4096) && Instant::now() > deadline {
                return Answer::OutOfTime;
            }
            let id = (node - 1) / 2;
            if node % 2 == 1 {
                if let Some(after) = self.actions[id].step(state) {
                    placed[id / 64] |= 1 << (id % 64);
                    if seen.insert((placed.clone().into_boxed_slice(), after)) {
                        stack.push((node, state));
                        state = after;
                        self.unlink(node);
                        self.unlink(node + 1);
                        node = self.next[0];
                        continue;
                    }
                    placed[id / 64] &= !(1 << (id % 64));
                }
                node = self.next[node];
                continue;
            }
            if stack.len() >= deepest.0 {
                deepest = (stack.len(), id);
            }
            let Some((call, before)) = stack.pop() else {
                return Answer::Stuck(deepest.1);
            };
            let undone = (call - 1) / 2;
            state = before;
            placed[undone / 64] &= !(1 << (undone % 64));
            self.relink(call + 1);
            self.relink(call);
            node = self.next[call];
        }
        Answer::Linearizable
    }
}

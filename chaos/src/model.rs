//! The sequential model of the store: what one call does to a state, and what it answers.

use std::collections::BTreeMap;

use crate::history::{Event, EventKind};
use crate::ops::{Call, Compare, Item, Micro, Reply, Step, StepReply, format_list, parse_list};

/// The pairs at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The pairs by key.
    pub items: BTreeMap<String, Item>,
}

/// What a call does to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes value and lease.
    Put(String, String, i64),
    /// Deletes it.
    Delete(String),
}

impl State {
    /// What `call` would answer and change if it came next and took revision `revision`.
    /// `None` for calls the model does not describe (leases, hashes).
    pub fn evaluate(&self, call: &Call, revision: i64) -> Option<(Reply, Vec<Change>)> {
        match call {
            Call::Put { key, value, lease } => {
                let change = Change::Put(key.clone(), value.clone(), *lease);
                Some((Reply::Done, vec![change]))
            }
            Call::Delete { key } => Some(if self.items.contains_key(key) {
                (Reply::Deleted(1), vec![Change::Delete(key.clone())])
            } else {
                (Reply::Deleted(0), vec![])
            }),
            Call::Get { key, .. } => {
                let items = self.items.get(key).cloned().into_iter().collect();
                Some((Reply::Items(items), vec![]))
            }
            Call::List { prefix, .. } => {
                let items = self
                    .items
                    .range(prefix.clone()..)
                    .take_while(|(key, _)| key.starts_with(prefix.as_str()))
                    .map(|(_, item)| item.clone())
                    .collect();
                Some((Reply::Items(items), vec![]))
            }
            Call::Txn {
                compare,
                then,
                otherwise,
            } => {
                let succeeded = compare.iter().all(|compare| self.holds(compare));
                let branch = if succeeded { then } else { otherwise };
                let (steps, changes) = self.steps(branch, revision);
                Some((Reply::Txn { succeeded, steps }, changes))
            }
            Call::Append { steps } => Some(self.append(steps)),
            _ => None,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Value(key, value) => self.items.get(key).is_some_and(|i| &i.value == value),
            Compare::Modified(key, revision) => {
                self.items.get(key).map_or(0, |item| item.modified) == *revision
            }
        }
    }

    fn steps(&self, steps: &[Step], revision: i64) -> (Vec<StepReply>, Vec<Change>) {
        let mut state = self.clone_keys(steps);
        let mut changes = Vec::new();
        let replies = steps
            .iter()
            .map(|step| match step {
                Step::Get(key) => StepReply::Item(state.items.get(key).cloned()),
                Step::Put(key, value) => {
                    let change = Change::Put(key.clone(), value.clone(), 0);
                    state.change(&change, revision);
                    changes.push(change);
                    StepReply::Done
                }
                Step::Delete(key) => {
                    if !state.items.contains_key(key) {
                        return StepReply::Deleted(0);
                    }
                    let change = Change::Delete(key.clone());
                    state.change(&change, revision);
                    changes.push(change);
                    StepReply::Deleted(1)
                }
            })
            .collect();
        (replies, changes)
    }

    /// A state of only the keys that `steps` touch, for a transaction reads its own writes.
    fn clone_keys(&self, steps: &[Step]) -> State {
        let keys = steps.iter().map(|step| match step {
            Step::Get(key) | Step::Put(key, _) | Step::Delete(key) => key,
        });
        let items = keys
            .filter_map(|k| Some((k.clone(), self.items.get(k)?.clone())))
            .collect();
        State { items }
    }

    fn append(&self, steps: &[Micro]) -> (Reply, Vec<Change>) {
        let mut lists: BTreeMap<&String, Vec<u64>> = BTreeMap::new();
        let mut written: Vec<&String> = Vec::new();
        let stored = |key| {
            self.items
                .get(key)
                .map_or_else(Vec::new, |i| parse_list(&i.value))
        };
        let mut reads = Vec::new();
        for step in steps {
            match step {
                Micro::Read(key) => {
                    let list = lists.entry(key).or_insert_with(|| stored(key));
                    reads.push(Some(list.clone()));
                }
                Micro::Append(key, element) => {
                    lists
                        .entry(key)
                        .or_insert_with(|| stored(key))
                        .push(*element);
                    if !written.contains(&key) {
                        written.push(key);
                    }
                    reads.push(None);
                }
            }
        }
        let changes = written
            .iter()
            .map(|k| Change::Put((*k).clone(), format_list(&lists[k]), 0))
            .collect();
        (Reply::Lists(reads), changes)
    }

    /// Carries a change out at `revision` and returns the event it makes.
    pub fn change(&mut self, change: &Change, revision: i64) -> Event {
        match change {
            Change::Put(key, value, lease) => {
                let prev = self.items.get(key).cloned();
                let item = Item {
                    key: key.clone(),
                    value: value.clone(),
                    create: prev.as_ref().map_or(revision, |prev| prev.create),
                    modified: revision,
                    version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                    lease: *lease,
                };
                self.items.insert(key.clone(), item.clone());
                Event {
                    kind: EventKind::Put,
                    item,
                    prev,
                }
            }
            Change::Delete(key) => {
                let prev = self.items.remove(key);
                Event {
                    kind: EventKind::Delete,
                    item: tombstone(key, revision),
                    prev,
                }
            }
        }
    }

    /// The change an event stands for.
    pub fn change_of(event: &Event) -> Change {
        match event.kind {
            EventKind::Put => Change::Put(
                event.item.key.clone(),
                event.item.value.clone(),
                event.item.lease,
            ),
            EventKind::Delete => Change::Delete(event.item.key.clone()),
        }
    }
}

/// The item of a deletion: key and revision, nothing else.
pub fn tombstone(key: &str, revision: i64) -> Item {
    Item {
        key: key.to_owned(),
        value: String::new(),
        create: 0,
        modified: revision,
        version: 0,
        lease: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_reads_its_own_writes_and_compares_the_state_before() {
        let mut state = State::default();
        state.change(&Change::Put("a".into(), "1".into(), 0), 2);
        let call = Call::Txn {
            compare: vec![
                Compare::Value("a".into(), "1".into()),
                Compare::Modified("b".into(), 0),
            ],
            then: vec![
                Step::Put("b".into(), "2".into()),
                Step::Get("b".into()),
                Step::Delete("c".into()),
            ],
            otherwise: vec![],
        };
        let (reply, changes) = state.evaluate(&call, 3).unwrap();
        assert_eq!(changes, [Change::Put("b".into(), "2".into(), 0)]);
        let Reply::Txn {
            succeeded: true,
            steps,
        } = reply
        else {
            panic!("{reply:?}")
        };
        let StepReply::Item(Some(item)) = &steps[1] else {
            panic!("{steps:?}")
        };
        assert_eq!(
            (item.value.as_str(), item.create, item.version),
            ("2", 3, 1)
        );
        assert_eq!(steps[2], StepReply::Deleted(0));
    }

    #[test]
    fn version_and_creation_start_again_after_a_deletion() {
        let mut state = State::default();
        let put = Change::Put("a".into(), "1".into(), 0);
        state.change(&put, 2);
        assert_eq!(state.change(&put, 3).item.version, 2);
        state.change(&Change::Delete("a".into()), 4);
        let event = state.change(&put, 5);
        assert_eq!(
            (event.item.version, event.item.create, event.prev),
            (1, 5, None)
        );
    }
}

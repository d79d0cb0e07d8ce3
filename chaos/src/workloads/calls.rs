//! The calls of the workloads that are plain streams of calls.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Shared, Workload};
use crate::checkers::{append, set, wgl};
use crate::client::Answer;
use crate::dice::Dice;
use crate::ops::{Call, Compare, Micro, Reply, Step, StepReply};

/// Keys in use at a time.
const REGISTERS: usize = 4;
const LISTS: usize = 3;
/// After so many values in all, new keys are taken: long histories of one key cost the search
/// its time, long lists the network.
const VALUES_PER_REGISTERS: u64 = 800;
const VALUES_PER_LISTS: u64 = 400;
/// Keys of the watch workload.
const WATCHED: usize = 12;

/// Makes calls for one client.
pub(super) struct Calls {
    workload: Workload,
    shared: Arc<Shared>,
    /// What this client last saw in each register.
    known: HashMap<String, String>,
}

impl Calls {
    pub(super) fn new(workload: Workload, shared: Arc<Shared>) -> Calls {
        Calls {
            workload,
            shared,
            known: HashMap::new(),
        }
    }

    pub(super) fn next(&mut self, dice: &mut Dice) -> Call {
        match self.workload {
            Workload::Register => self.register(dice),
            Workload::Set => self.set(dice),
            Workload::Append => self.append(dice),
            Workload::Watch | Workload::Lease => self.watch(dice),
        }
    }

    /// Remembers values for later swaps.
    pub(super) fn learn(&mut self, call: &Call, answer: Option<&Answer>) {
        let Some(answer) = answer else { return };
        let seen = match (call, &answer.reply) {
            (Call::Put { key, value, .. }, _) => Some((key, value)),
            (Call::Get { key, .. }, Reply::Items(items)) => {
                items.first().map(|item| (key, &item.value))
            }
            (
                Call::Txn { then, .. },
                Reply::Txn {
                    succeeded: true, ..
                },
            ) => match then.first() {
                Some(Step::Put(key, value)) => Some((key, value)),
                _ => None,
            },
            (Call::Txn { .. }, Reply::Txn { steps, .. }) => match steps.first() {
                Some(StepReply::Item(Some(item))) => Some((&item.key, &item.value)),
                _ => None,
            },
            _ => None,
        };
        if let Some((key, value)) = seen {
            self.known.insert(key.clone(), value.clone());
        }
    }

    fn epoch(&self, values: u64) -> u64 {
        // Looking takes a number too; what matters is that all clients move on together.
        self.shared.number() / values
    }

    fn register(&mut self, dice: &mut Dice) -> Call {
        let epoch = self.epoch(VALUES_PER_REGISTERS);
        let key = format!("{}{epoch}-{}", wgl::PREFIX, dice.below(REGISTERS));
        match dice.below(10) {
            0..4 => Call::Get {
                key,
                serializable: false,
                revision: 0,
            },
            4 => Call::Get {
                key,
                serializable: true,
                revision: 0,
            },
            5..7 => Call::Put {
                key,
                value: self.shared.value(),
                lease: 0,
            },
            7 if dice.chance(30) => Call::Delete { key },
            _ => {
                let known = self
                    .known
                    .get(&key)
                    .cloned()
                    .unwrap_or_else(|| "unknown".into());
                Call::Txn {
                    compare: vec![Compare::Value(key.clone(), known)],
                    then: vec![Step::Put(key.clone(), self.shared.value())],
                    otherwise: vec![Step::Get(key)],
                }
            }
        }
    }

    fn set(&mut self, dice: &mut Dice) -> Call {
        if dice.chance(10) {
            let prefix = format!("{}{}", set::PREFIX, dice.below(10));
            return Call::List {
                prefix,
                serializable: dice.chance(30),
                revision: 0,
            };
        }
        // Leading digits differ, so that lists of a prefix stay short.
        let number = self.shared.number();
        let key = format!("{}{}-{number}", set::PREFIX, number % 97);
        Call::Put {
            key,
            value: self.shared.value(),
            lease: 0,
        }
    }

    fn append(&mut self, dice: &mut Dice) -> Call {
        let epoch = self.epoch(VALUES_PER_LISTS);
        let count = 1 + dice.below(4);
        let steps = (0..count)
            .map(|_| {
                let key = format!("{}{epoch}-{}", append::PREFIX, dice.below(LISTS));
                if dice.chance(50) {
                    Micro::Append(key, self.shared.number())
                } else {
                    Micro::Read(key)
                }
            })
            .collect();
        Call::Append { steps }
    }

    fn watch(&mut self, dice: &mut Dice) -> Call {
        let key = |dice: &mut Dice| format!("w/{}/{}", dice.below(3), dice.below(WATCHED));
        match dice.below(10) {
            0..5 => Call::Put {
                key: key(dice),
                value: self.shared.value(),
                lease: 0,
            },
            5..7 => Call::Delete { key: key(dice) },
            7..9 => {
                let mut keys: Vec<String> = (0..3).map(|_| key(dice)).collect();
                keys.sort();
                keys.dedup();
                let delete = dice.below(keys.len() + 1);
                let steps = keys.into_iter().enumerate().map(|(at, key)| {
                    if at == delete {
                        Step::Delete(key)
                    } else {
                        Step::Put(key, self.shared.value())
                    }
                });
                Call::Txn {
                    compare: vec![],
                    then: steps.collect(),
                    otherwise: vec![],
                }
            }
            _ => Call::List {
                prefix: "w/1/".into(),
                serializable: false,
                revision: 0,
            },
        }
    }
}

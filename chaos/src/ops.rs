//! The vocabulary of a history: what a client can ask of the store and what it can be told.
//!
//! Keys and values are text, so that a history can be read by a person. Every value a workload
//! writes is unique, which lets the checkers tell from the event log whose write it was.

use serde::{Deserialize, Serialize};

/// A key-value pair as the store reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: String,
    /// The value; empty in a deletion.
    pub value: String,
    /// Revision at which the key came into being.
    pub create: i64,
    /// Revision of the last change.
    pub modified: i64,
    /// Number of writes since the key came into being.
    pub version: i64,
    /// Attached lease, 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// The key exists and holds this value.
    Value(String, String),
    /// The key was last changed at this revision; 0 means it does not exist.
    Modified(String, i64),
}

/// One operation inside a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads a key.
    Get(String),
    /// Writes key and value.
    Put(String, String),
    /// Deletes a key.
    Delete(String),
}

/// One step of a list-append transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Micro {
    /// Appends an element to the list under a key.
    Append(String, u64),
    /// Reads the list under a key.
    Read(String),
}

/// What a client asks for. Serialised as the pair `f`, `value` of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "kebab-case")]
pub enum Call {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// A value nobody else writes.
        value: String,
        /// Lease to attach, 0 for none.
        #[serde(default)]
        lease: i64,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: String,
        /// Whether the answer may be old.
        #[serde(default)]
        serializable: bool,
        /// Revision to read at, 0 for the current one.
        #[serde(default)]
        revision: i64,
    },
    /// Reads every key with a prefix.
    List {
        /// The prefix.
        prefix: String,
        /// Whether the answer may be old.
        #[serde(default)]
        serializable: bool,
        /// Revision to read at, 0 for the current one.
        #[serde(default)]
        revision: i64,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: String,
    },
    /// A transaction.
    Txn {
        /// All must hold for `then` to be taken.
        compare: Vec<Compare>,
        /// Done when they hold.
        then: Vec<Step>,
        /// Done when one does not.
        otherwise: Vec<Step>,
    },
    /// A list-append transaction: a read and a write guarded by what was read.
    Append {
        /// The steps in order.
        steps: Vec<Micro>,
    },
    /// Forgets history below a revision.
    Compact {
        /// The new oldest revision.
        revision: i64,
    },
    /// Makes a lease.
    Grant {
        /// Its id, chosen by the client.
        lease: i64,
        /// Seconds to live.
        ttl: i64,
    },
    /// Renews a lease.
    KeepAlive {
        /// Its id.
        lease: i64,
    },
    /// Ends a lease and deletes its keys.
    Revoke {
        /// Its id.
        lease: i64,
    },
    /// Asks a member for its hash of the state.
    Hash {
        /// Revision to hash at.
        revision: i64,
    },
}

impl Call {
    /// Whether the call can change keys.
    pub fn may_write(&self) -> bool {
        match self {
            Call::Put { .. } | Call::Delete { .. } | Call::Revoke { .. } => true,
            Call::Txn {
                then, otherwise, ..
            } => then
                .iter()
                .chain(otherwise)
                .any(|s| !matches!(s, Step::Get(_))),
            Call::Append { steps } => steps.iter().any(|s| matches!(s, Micro::Append(..))),
            _ => false,
        }
    }

    /// Whether the answer may be old: a serializable read, or one at a named revision.
    pub fn may_be_stale(&self) -> bool {
        match self {
            Call::Get { serializable, .. } | Call::List { serializable, .. } => *serializable,
            _ => false,
        }
    }

    /// Whether sending the call twice differs from sending it once, or loses information.
    /// A failed call without effect can be called `fail` whatever the reason of its failure.
    pub fn has_effect(&self) -> bool {
        self.may_write()
            || matches!(
                self,
                Call::Grant { .. } | Call::KeepAlive { .. } | Call::Compact { .. }
            )
    }

    /// The revision named by a historic read, 0 for none.
    pub fn at_revision(&self) -> i64 {
        match self {
            Call::Get { revision, .. } | Call::List { revision, .. } => *revision,
            _ => 0,
        }
    }
}

/// The answer to one step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepReply {
    /// What a read found.
    Item(Option<Item>),
    /// A write was done.
    Done,
    /// How many keys were deleted.
    Deleted(i64),
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done and there is nothing more to say.
    Done,
    /// How many keys were deleted.
    Deleted(i64),
    /// What a read found, ordered by key.
    Items(Vec<Item>),
    /// What a transaction did.
    Txn {
        /// Whether the comparisons held.
        succeeded: bool,
        /// The answers of the branch taken.
        steps: Vec<StepReply>,
    },
    /// What the reads of a list-append transaction saw; `None` for an append.
    Lists(Vec<Option<Vec<u64>>>),
    /// Seconds a lease still lives; 0 or less when it is gone.
    Ttl(i64),
    /// A member's hash of the state.
    Hash {
        /// The hash.
        hash: u32,
        /// The member's compact revision, which hashes depend on.
        compacted: i64,
    },
}

impl Reply {
    /// Whether the reply says that keys were changed by `call`.
    pub fn wrote(&self, call: &Call) -> bool {
        match (call, self) {
            (Call::Put { .. }, _) => true,
            (Call::Delete { .. }, Reply::Deleted(count)) => *count > 0,
            (
                Call::Txn {
                    then, otherwise, ..
                },
                Reply::Txn { succeeded, steps },
            ) => {
                let branch = if *succeeded { then } else { otherwise };
                branch.iter().zip(steps).any(|(step, reply)| match step {
                    Step::Put(..) => true,
                    Step::Delete(_) => !matches!(reply, StepReply::Deleted(0)),
                    Step::Get(_) => false,
                })
            }
            (Call::Append { .. }, _) => call.may_write(),
            _ => false,
        }
    }
}

/// The list kept under a key by the append workload, as text: `1,2,3`.
pub fn parse_list(value: &str) -> Vec<u64> {
    value
        .split(',')
        .filter_map(|element| element.parse().ok())
        .collect()
}

/// The text form of a list.
pub fn format_list(list: &[u64]) -> String {
    list.iter()
        .map(u64::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

//! Histories: what clients, watchers and the nemesis did and saw, as files of JSON lines.
//!
//! A run's directory holds `history.jsonl` (operations and faults), `watch.jsonl` (frames of
//! watch streams), `events-N.jsonl` (the event log as member N tells it) and `run.json`.
//! The index of a record is its place in real time: it is given under one lock, for an
//! invocation before anything is sent and for a completion after everything was received.

mod recorder;
pub use recorder::Recorder;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ops::{Call, Item, Reply};

/// What a record says about its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It took effect and this is the answer.
    Ok,
    /// It provably had no effect.
    Fail,
    /// It may have had an effect, now or later. Its process does nothing more.
    Info,
}

/// Who does it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Process {
    /// A client; never two operations at once.
    Client(u64),
    /// `nemesis`, `final` and the like.
    Named(String),
}

/// One line of `history.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Place in real time.
    pub index: u64,
    /// Nanoseconds since the run began, monotonic.
    pub time_ns: u64,
    /// What the record says.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Who.
    pub process: Process,
    /// Name of the operation.
    pub f: String,
    /// Arguments in an invocation, the reply in a completion.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// Number of the member asked, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// Revision in the header of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<i64>,
    /// Fence the write carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    /// Trace id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// It provably had no effect.
    Fail,
    /// Nobody knows; it may still be on its way.
    Unknown,
}

/// An invocation with its completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Who did it.
    pub process: Process,
    /// The member asked.
    pub node: Option<u32>,
    /// What was asked.
    pub call: Call,
    /// Record index of the invocation.
    pub start: u64,
    /// Record index of the completion; `u64::MAX` when the outcome is unknown.
    pub end: u64,
    /// When it was invoked.
    pub start_ns: u64,
    /// When it completed, also for unknown outcomes.
    pub end_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer when it took effect.
    pub reply: Option<Reply>,
    /// The revision in the answer.
    pub rev: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Put or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A key was written.
    Put,
    /// A key was deleted.
    Delete,
}

/// One event of the store's history. A deletion's item has only key and revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The key after the event.
    pub item: Item,
    /// The key before the event, where it was asked for and existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Item>,
}

impl Event {
    /// The revision of the event.
    pub fn revision(&self) -> i64 {
        self.item.modified
    }
}

/// What a watch asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchSpec {
    /// Keys with this prefix; empty means all.
    pub prefix: String,
    /// First revision wanted, 0 for whatever comes next.
    pub start: i64,
    /// Whether events carry the pair before.
    pub prev_kv: bool,
    /// Whether puts are filtered out.
    pub no_put: bool,
    /// Whether deletions are filtered out.
    pub no_delete: bool,
    /// Whether progress is notified.
    pub progress: bool,
}

/// What happened on a watch stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The watch was asked for. A later `Open` of the same stream resumes it.
    Open(WatchSpec),
    /// The store confirmed it at this revision.
    Created(i64),
    /// Events, in the order of one response.
    Events(Vec<Event>),
    /// The store says that everything up to this revision was sent.
    Progress(i64),
    /// The store ended the watch.
    Canceled {
        /// Oldest revision kept, 0 when that was not the reason.
        compacted: i64,
        /// The reason in words.
        reason: String,
    },
    /// The stream ended.
    Closed(String),
    /// The harness waited for this revision at the end of the run and saw it arrive (or,
    /// as `false`, gave up).
    Converged(i64, bool),
}

/// One line of `watch.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRecord {
    /// Place in real time, of one sequence with the history's.
    pub index: u64,
    /// Nanoseconds since the run began.
    pub time_ns: u64,
    /// The stream; it goes on over members.
    pub stream: u64,
    /// The member it is on.
    pub node: u32,
    /// What happened.
    pub frame: Frame,
}

/// Pairs invocations with completions. Records of the nemesis and others whose `f` is not a
/// call are left out.
///
/// # Errors
///
/// When the records are not a history: two operations of one process at once, a completion
/// without an invocation, an `ok` without a reply.
pub fn operations(records: &[Record]) -> Result<Vec<Operation>> {
    let mut pending: HashMap<&Process, usize> = HashMap::new();
    let mut operations: Vec<Operation> = Vec::new();
    for record in records {
        if record.process == Process::Named("nemesis".into()) {
            continue;
        }
        if record.kind == Kind::Invoke {
            let call = serde_json::json!({ "f": record.f, "value": record.value });
            let call = serde_json::from_value(call)
                .with_context(|| format!("record {}: not a call", record.index))?;
            if pending.insert(&record.process, operations.len()).is_some() {
                bail!(
                    "record {}: {:?} has a call open",
                    record.index,
                    record.process
                );
            }
            operations.push(Operation {
                process: record.process.clone(),
                node: record.node,
                call,
                start: record.index,
                end: u64::MAX,
                start_ns: record.time_ns,
                end_ns: u64::MAX,
                outcome: Outcome::Unknown,
                reply: None,
                rev: None,
                error: None,
            });
            continue;
        }
        let Some(open) = pending.remove(&record.process) else {
            bail!("record {}: completes nothing", record.index);
        };
        complete(&mut operations[open], record)?;
    }
    Ok(operations)
}

fn complete(operation: &mut Operation, record: &Record) -> Result<()> {
    operation.end_ns = record.time_ns;
    operation.rev = record.rev;
    operation.error = record.error.clone();
    match record.kind {
        Kind::Ok => {
            operation.end = record.index;
            operation.outcome = Outcome::Ok;
            let reply = serde_json::from_value(record.value.clone())
                .with_context(|| format!("record {}: not a reply", record.index))?;
            operation.reply = Some(reply);
        }
        Kind::Fail => {
            operation.end = record.index;
            operation.outcome = Outcome::Fail;
        }
        Kind::Info | Kind::Invoke => {}
    }
    Ok(())
}

/// Reads a file of JSON lines. A last line cut short by a crash is left out.
///
/// # Errors
///
/// When the file cannot be read or a line before the last is no `T`.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let lines: Vec<String> = BufReader::new(file).lines().collect::<Result<_, _>>()?;
    let mut parsed = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(value) => parsed.push(value),
            Err(_) if number + 1 == lines.len() => {}
            Err(error) => {
                bail!("{}:{}: {error}", path.display(), number + 1);
            }
        }
    }
    Ok(parsed)
}

/// Writes a file of JSON lines.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut file = std::io::BufWriter::new(file);
    for value in values {
        serde_json::to_writer(&mut file, value)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

//! Writes a history while it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use seams::{Clock as _, RealClock};
use serde::Serialize;
use serde_json::Value;

use super::{Frame, Kind, Process, Record, WatchRecord};
use crate::ops::{Call, Reply};

/// Gives records their place in real time and writes them. Clones write the same files.
#[derive(Clone)]
pub struct Recorder {
    sink: Arc<Mutex<Sink>>,
    /// Nanoseconds since the run began.
    clock: Clock,
}

/// Tells how many nanoseconds have passed since the run began.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

struct Sink {
    next: u64,
    keep: Keep,
}

enum Keep {
    Files(Files),
    Memory(Vec<Record>, Vec<WatchRecord>),
}

struct Files {
    history: BufWriter<File>,
    watch: BufWriter<File>,
    failed: Option<String>,
}

impl Files {
    fn write(&mut self, watch: bool, line: &impl Serialize) {
        let file = if watch {
            &mut self.watch
        } else {
            &mut self.history
        };
        let written = serde_json::to_writer(&mut *file, line)
            .map_err(|error| error.to_string())
            .and_then(|()| file.write_all(b"\n").map_err(|error| error.to_string()));
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }
}

impl Recorder {
    /// Creates the files of a run in `dir`.
    ///
    /// # Errors
    ///
    /// When they cannot be created.
    pub fn create(dir: &Path) -> Result<Recorder> {
        let create = |name: &str| {
            let path = dir.join(name);
            File::create(&path).with_context(|| format!("create {}", path.display()))
        };
        let began = RealClock.now();
        let elapsed = move || (RealClock.now() - began).as_nanos();
        let clock = Arc::new(move || u64::try_from(elapsed()).unwrap_or(u64::MAX));
        let keep = Keep::Files(Files {
            history: BufWriter::new(create("history.jsonl")?),
            watch: BufWriter::new(create("watch.jsonl")?),
            failed: None,
        });
        Ok(Recorder::new(keep, clock))
    }

    /// Keeps the records for [`take`](Recorder::take), with the time of a simulation.
    pub fn in_memory(clock: Arc<dyn Fn() -> u64 + Send + Sync>) -> Recorder {
        Recorder::new(Keep::Memory(Vec::new(), Vec::new()), clock)
    }

    fn new(keep: Keep, clock: Clock) -> Recorder {
        let sink = Arc::new(Mutex::new(Sink { next: 0, keep }));
        Recorder { sink, clock }
    }

    /// What was recorded in memory so far.
    pub fn take(&self) -> (Vec<Record>, Vec<WatchRecord>) {
        match &mut self.lock().keep {
            Keep::Memory(records, frames) => (std::mem::take(records), std::mem::take(frames)),
            Keep::Files(_) => (Vec::new(), Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the run began.
    pub fn now_ns(&self) -> u64 {
        (self.clock)()
    }

    /// Records that `process` is about to send `call` to `node`.
    pub fn invoke(&self, process: &Process, node: Option<u32>, call: &Call) {
        let (f, value) = split(call);
        self.record(Kind::Invoke, process, &f, value, node, None, None);
    }

    /// Records an answer.
    pub fn ok(
        &self,
        process: &Process,
        call: &Call,
        node: Option<u32>,
        reply: &Reply,
        rev: Option<i64>,
    ) {
        let value = serde_json::to_value(reply).unwrap_or_default();
        self.record(Kind::Ok, process, &split(call).0, value, node, rev, None);
    }

    /// Records a failure, proven (`Kind::Fail`) or not (`Kind::Info`).
    pub fn failed(
        &self,
        kind: Kind,
        process: &Process,
        call: &Call,
        node: Option<u32>,
        error: &str,
    ) {
        let f = split(call).0;
        self.record(
            kind,
            process,
            &f,
            Value::Null,
            node,
            None,
            Some(error.to_owned()),
        );
    }

    /// Records something the nemesis did.
    pub fn nemesis(&self, f: &str, value: Value) {
        self.record(
            Kind::Info,
            &Process::Named("nemesis".into()),
            f,
            value,
            None,
            None,
            None,
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of a record")]
    fn record(
        &self,
        kind: Kind,
        process: &Process,
        f: &str,
        value: Value,
        node: Option<u32>,
        rev: Option<i64>,
        error: Option<String>,
    ) {
        let mut sink = self.lock();
        let record = Record {
            index: sink.next,
            time_ns: self.now_ns(),
            kind,
            process: process.clone(),
            f: f.to_owned(),
            value,
            node,
            rev,
            fence: None,
            trace: None,
            error,
        };
        sink.next += 1;
        match &mut sink.keep {
            Keep::Files(files) => files.write(false, &record),
            Keep::Memory(records, _) => records.push(record),
        }
    }

    /// Records a frame of a watch stream.
    pub fn frame(&self, stream: u64, node: u32, frame: Frame) {
        let mut sink = self.lock();
        let record = WatchRecord {
            index: sink.next,
            time_ns: self.now_ns(),
            stream,
            node,
            frame,
        };
        sink.next += 1;
        match &mut sink.keep {
            Keep::Files(files) => files.write(true, &record),
            Keep::Memory(_, frames) => frames.push(record),
        }
    }

    /// Writes everything to the files.
    ///
    /// # Errors
    ///
    /// When this or an earlier write failed.
    pub fn flush(&self) -> Result<()> {
        let mut sink = self.lock();
        let Keep::Files(files) = &mut sink.keep else {
            return Ok(());
        };
        if let Some(error) = &files.failed {
            anyhow::bail!("the history could not be written: {error}");
        }
        files.history.flush()?;
        Ok(files.watch.flush()?)
    }
}

fn split(call: &Call) -> (String, Value) {
    let mut value = serde_json::to_value(call).unwrap_or_default();
    let f = value["f"].as_str().unwrap_or_default().to_owned();
    (f, value["value"].take())
}

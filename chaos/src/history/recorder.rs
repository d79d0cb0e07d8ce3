//! Writes a history while it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::{Frame, Kind, Process, Record, WatchRecord};
use crate::ops::{Call, Reply};

/// Gives records their place in real time and writes them. Clones write the same files.
#[derive(Clone)]
pub struct Recorder {
    files: Arc<Mutex<Files>>,
    began: Instant,
}

struct Files {
    next: u64,
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
        Ok(Recorder {
            files: Arc::new(Mutex::new(Files {
                next: 0,
                history: BufWriter::new(create("history.jsonl")?),
                watch: BufWriter::new(create("watch.jsonl")?),
                failed: None,
            })),
            began: Instant::now(),
        })
    }

    /// Nanoseconds since the run began.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Record {
            index: files.next,
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
        files.next += 1;
        files.write(false, &record);
    }

    /// Records a frame of a watch stream.
    pub fn frame(&self, stream: u64, node: u32, frame: Frame) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let record = WatchRecord {
            index: files.next,
            time_ns: self.now_ns(),
            stream,
            node,
            frame,
        };
        files.next += 1;
        files.write(true, &record);
    }

    /// Writes everything to the files.
    ///
    /// # Errors
    ///
    /// When this or an earlier write failed.
    pub fn flush(&self) -> Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
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

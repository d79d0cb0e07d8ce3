//! What is counted in a process that uses the API: the depths and times of queues, under the names that
//! upstream's components have for them, for all queues of the process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// What was counted.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes it.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// The bounds of workqueue_* buckets, in seconds: ten, each ten times the one before.
const BOUNDS: [f64; 10] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// Counts times by length.
#[derive(Debug, Default)]
pub struct Times {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Times {
    /// Records a time.
    pub fn observe(&self, time: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < time.as_secs_f64());
        self.counts[bucket].fetch_add(1, Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, label: &str) {
        let mut total = 0;
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            let bound = BOUNDS.get(at).map_or("+Inf".to_string(), f64::to_string);
            let _ = writeln!(
                out,
                "{name}_bucket{{name=\"{label}\",le=\"{bound}\"}} {total}"
            );
        }
        let seconds = self.nanos.load(Relaxed) as f64 / 1e9;
        let _ = writeln!(out, "{name}_sum{{name=\"{label}\"}} {seconds}");
        let _ = writeln!(out, "{name}_count{{name=\"{label}\"}} {total}");
    }
}

/// What is counted of the queues of one name.
#[derive(Debug, Default)]
pub struct QueueCounts {
    /// Keys that wait.
    pub depth: Gauge,
    /// Keys that were added.
    pub adds: Counter,
    /// Keys that were added after a failure.
    pub retries: Counter,
    /// How long keys waited.
    pub waits: Times,
    /// How long workers had keys.
    pub works: Times,
}

/// The counts of the queues of one name, shared by all of them.
#[derive(Debug, Clone)]
pub struct QueueSeries(Arc<QueueCounts>);

impl std::ops::Deref for QueueSeries {
    type Target = QueueCounts;

    fn deref(&self) -> &QueueCounts {
        &self.0
    }
}

impl QueueSeries {
    pub(crate) fn added(&self) {
        self.adds.inc();
        self.depth.add(1);
    }

    pub(crate) fn took(&self, waited: Option<Duration>) {
        self.depth.add(-1);
        if let Some(waited) = waited {
            self.waits.observe(waited);
        }
    }

    pub(crate) fn worked(&self, time: Duration) {
        self.works.observe(time);
    }
}

/// Everything that is counted in this process.
#[derive(Debug, Default)]
pub struct Metrics {
    queues: Mutex<BTreeMap<String, QueueSeries>>,
}

/// The metrics of this process. They are the one thing that is shared by all its parts: a page of
/// metrics is of a process.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::default)
}

impl Metrics {
    /// The counts of queues of a name.
    pub fn queue(&self, name: &str) -> QueueSeries {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let series = queues.entry(name.to_string());
        let series = series.or_insert_with(|| QueueSeries(Arc::default()));
        series.clone()
    }

    /// Appends what Prometheus reads.
    pub fn write(&self, out: &mut String) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queues = queues.clone();
        let head = |out: &mut String, name: &str, help: &str, kind: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(out, "workqueue_depth", "Keys that wait.", "gauge");
        for (name, queue) in &queues {
            let _ = writeln!(
                out,
                "workqueue_depth{{name=\"{name}\"}} {}",
                queue.depth.get()
            );
        }
        head(
            out,
            "workqueue_adds_total",
            "Keys that were added.",
            "counter",
        );
        for (name, queue) in &queues {
            let _ = writeln!(
                out,
                "workqueue_adds_total{{name=\"{name}\"}} {}",
                queue.adds.get()
            );
        }
        let retries = "workqueue_retries_total";
        head(
            out,
            retries,
            "Keys that were added after a failure.",
            "counter",
        );
        for (name, queue) in &queues {
            let _ = writeln!(out, "{retries}{{name=\"{name}\"}} {}", queue.retries.get());
        }
        let waits = "workqueue_queue_duration_seconds";
        head(out, waits, "How long keys waited.", "histogram");
        for (name, queue) in &queues {
            queue.waits.write(out, waits, name);
        }
        let works = "workqueue_work_duration_seconds";
        head(out, works, "How long workers had keys.", "histogram");
        for (name, queue) in &queues {
            queue.works.write(out, works, name);
        }
    }
}

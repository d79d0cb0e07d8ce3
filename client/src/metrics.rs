//! What is counted in a process that uses the API: the depths and times of queues, under the names that
//! upstream's components have for them, for all queues of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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
    /// Since when workers have the keys that they have; the number keeps equal times apart.
    working: Mutex<BTreeSet<Ticket>>,
    tickets: AtomicU64,
}

/// A key that a worker has.
pub(crate) type Ticket = (Instant, u64);

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

    pub(crate) fn took(&self, waited: Option<Duration>, now: Instant) -> Ticket {
        self.depth.add(-1);
        if let Some(waited) = waited {
            self.waits.observe(waited);
        }
        let ticket = (now, self.tickets.fetch_add(1, Relaxed));
        self.working().insert(ticket);
        ticket
    }

    pub(crate) fn worked(&self, ticket: Ticket, now: Instant) {
        self.works.observe(now - ticket.0);
        self.gave_up(ticket);
    }

    pub(crate) fn gave_up(&self, ticket: Ticket) {
        self.working().remove(&ticket);
    }

    fn working(&self) -> MutexGuard<'_, BTreeSet<Ticket>> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long workers have had the keys that they have: together, and the longest.
    fn unfinished(&self, now: Instant) -> (Duration, Duration) {
        let working = self.working();
        let times = working.iter().map(|(since, _)| now - *since);
        let longest = working
            .first()
            .map_or(Duration::ZERO, |(since, _)| now - *since);
        (times.sum(), longest)
    }
}

/// Appends what a component counts.
type Page = Arc<dyn Fn(&mut String) + Send + Sync>;

/// Everything that is counted in this process.
#[derive(Default)]
pub struct Metrics {
    queues: Mutex<BTreeMap<String, QueueSeries>>,
    leaders: Mutex<BTreeMap<String, bool>>,
    pages: Mutex<BTreeMap<&'static str, Page>>,
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

    /// Whether this process leads by a Lease.
    pub(crate) fn leads(&self, lease: &str, leads: bool) {
        let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        leaders.insert(lease.to_string(), leads);
    }

    /// What else a component counts, in place of what it told before.
    pub fn add(&self, component: &'static str, page: impl Fn(&mut String) + Send + Sync + 'static) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.insert(component, Arc::new(page));
    }

    /// Appends what Prometheus reads.
    pub fn write(&self, out: &mut String) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queues = queues.clone();
        let head = |out: &mut String, name: &str, help: &str, kind: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        type Value = fn(&QueueSeries, Instant) -> f64;
        let gauges: [(&str, &str, &str, Value); 5] = [
            ("workqueue_depth", "Keys that wait.", "gauge", |queue, _| {
                queue.depth.get() as f64
            }),
            (
                "workqueue_adds_total",
                "Keys that were added.",
                "counter",
                |queue, _| queue.adds.get() as f64,
            ),
            (
                "workqueue_retries_total",
                "Keys that were added after a failure.",
                "counter",
                |queue, _| queue.retries.get() as f64,
            ),
            (
                "workqueue_unfinished_work_seconds",
                "How long workers have had their keys, together.",
                "gauge",
                |queue, now| queue.unfinished(now).0.as_secs_f64(),
            ),
            (
                "workqueue_longest_running_processor_seconds",
                "How long the slowest worker has had its key.",
                "gauge",
                |queue, now| queue.unfinished(now).1.as_secs_f64(),
            ),
        ];
        let now = Instant::now();
        for (metric, help, kind, value) in gauges {
            head(out, metric, help, kind);
            for (name, queue) in &queues {
                let _ = writeln!(out, "{metric}{{name=\"{name}\"}} {}", value(queue, now));
            }
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
        let status = "leader_election_master_status";
        head(out, status, "Whether this process leads.", "gauge");
        let leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, leads) in &*leaders {
            let _ = writeln!(out, "{status}{{name=\"{name}\"}} {}", u8::from(*leads));
        }
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let pages: Vec<Page> = pages.values().cloned().collect();
        pages.iter().for_each(|page| page(out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_page_says_what_queues_do() {
        let metrics = Metrics::default();
        let queue = metrics.queue("q");
        let second = Duration::from_secs(1);
        let start = Instant::now();
        for _ in 0..3 {
            queue.added();
        }
        let first = queue.took(Some(second), start);
        queue.took(Some(second), start);
        tokio::time::advance(2 * second).await;
        queue.worked(first, Instant::now());
        metrics.leads("l", true);
        metrics.add("c", |out| out.push_str("old 1\n"));
        metrics.add("c", |out| out.push_str("component_total 1\n"));
        let mut page = String::new();
        metrics.write(&mut page);
        for line in [
            "workqueue_depth{name=\"q\"} 1",
            "workqueue_adds_total{name=\"q\"} 3",
            "workqueue_unfinished_work_seconds{name=\"q\"} 2",
            "workqueue_longest_running_processor_seconds{name=\"q\"} 2",
            "workqueue_queue_duration_seconds_bucket{name=\"q\",le=\"0.1\"} 0",
            "workqueue_queue_duration_seconds_bucket{name=\"q\",le=\"1\"} 2",
            "workqueue_work_duration_seconds_sum{name=\"q\"} 2",
            "workqueue_work_duration_seconds_count{name=\"q\"} 1",
            "leader_election_master_status{name=\"l\"} 1",
            "component_total 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(!page.contains("old"), "{page}");
    }
}

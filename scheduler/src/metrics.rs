//! What the scheduler counts, under upstream's names.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::queue::Sizes;

/// The result of an attempt and the profile that made it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    result: String,
    profile: String,
}

/// Where pods wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    queue: String,
}

/// Why pods came to wait there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Incoming {
    queue: String,
    event: String,
}

/// What is counted in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: String,
}

/// How many attempts a pod took.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempts {
    attempts: String,
}

/// The scheduler's metrics. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    attempts: Family<Attempt, Counter<u64, AtomicU64>>,
    attempt_seconds: Family<Attempt, Histogram, fn() -> Histogram>,
    algorithm_seconds: Histogram,
    sli_seconds: Family<Attempts, Histogram, fn() -> Histogram>,
    attempts_of_pods: Histogram,
    pending: Family<Place, Gauge<i64, AtomicI64>>,
    incoming: Family<Incoming, Counter<u64, AtomicU64>>,
    cache: Family<Kind, Gauge<i64, AtomicI64>>,
    preemption_attempts: Counter<u64, AtomicU64>,
    victims: Histogram,
    flushed: Counter<u64, AtomicU64>,
}

fn milliseconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn waiting() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(milliseconds),
            algorithm_seconds: milliseconds(),
            sli_seconds: Family::new_with_constructor(waiting),
            attempts_of_pods: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            pending: Family::default(),
            incoming: Family::default(),
            cache: Family::default(),
            preemption_attempts: Counter::default(),
            victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            flushed: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("scheduler");
        all.register(
            "schedule_attempts",
            "Number of attempts to schedule pods, by the result.",
            self.attempts.clone(),
        );
        all.register(
            "scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            self.attempt_seconds.clone(),
        );
        all.register(
            "scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            self.algorithm_seconds.clone(),
        );
        all.register("pod_scheduling_sli_duration_seconds", "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue.", self.sli_seconds.clone());
        all.register(
            "pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod.",
            self.attempts_of_pods.clone(),
        );
        all.register(
            "pending_pods",
            "Number of pending pods, by the queue type.",
            self.pending.clone(),
        );
        all.register(
            "queue_incoming_pods",
            "Number of pods added to scheduling queues by event and queue type.",
            self.incoming.clone(),
        );
        all.register(
            "cache_size",
            "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
            self.cache.clone(),
        );
        all.register(
            "preemption_attempts",
            "Total preemption attempts in the cluster till now",
            self.preemption_attempts.clone(),
        );
        all.register(
            "preemption_victims",
            "Number of selected preemption victims",
            self.victims.clone(),
        );
        all.register("pod_scheduled_after_flush", "Number of pods that were successfully scheduled after being flushed from unschedulablePods due to timeout.", self.flushed.clone());
    }

    /// Shows them on the page of the process.
    pub fn publish(&self) {
        let mut registry = Registry::default();
        self.register(&mut registry);
        client::metrics::metrics().add("scheduler", move |out| write(&registry, out));
    }

    /// An attempt came to an end: scheduled, unschedulable or error.
    pub(crate) fn attempted(&self, result: &str, profile: &str, took: Duration) {
        let labels = Attempt {
            result: result.to_string(),
            profile: profile.to_string(),
        };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// A cycle ran.
    pub(crate) fn decided(&self, took: Duration) {
        self.algorithm_seconds.observe(took.as_secs_f64());
    }

    /// A pod was bound.
    pub(crate) fn bound(&self, attempts: u32, since_seen: Duration, was_flushed: bool) {
        self.attempts_of_pods.observe(f64::from(attempts));
        let attempts = match attempts {
            15.. => "15+".to_string(),
            fewer => fewer.to_string(),
        };
        let labels = Attempts { attempts };
        self.sli_seconds
            .get_or_create(&labels)
            .observe(since_seen.as_secs_f64());
        if was_flushed {
            self.flushed.inc();
        }
    }

    /// Pods came into a queue.
    pub(crate) fn came(&self, queue: &str, event: &str, pods: usize) {
        let labels = Incoming {
            queue: queue.to_string(),
            event: event.to_string(),
        };
        self.incoming.get_or_create(&labels).inc_by(pods as u64);
    }

    /// Preemption was tried, with so many victims if it helps.
    pub(crate) fn preempted(&self, victims: Option<usize>) {
        self.preemption_attempts.inc();
        if let Some(victims) = victims {
            self.victims.observe(victims as f64);
        }
    }

    /// How many pods wait, and how many nodes, pods and assumed pods there are.
    pub(crate) fn sizes(&self, queue: Sizes, (nodes, pods, assumed): (usize, usize, usize)) {
        let places = [
            ("active", queue.active),
            ("backoff", queue.backoff),
            ("unschedulable", queue.unschedulable),
            ("gated", queue.gated),
        ];
        for (name, number) in places {
            let queue = name.to_string();
            self.pending
                .get_or_create(&Place { queue })
                .set(number as i64);
        }
        for (name, number) in [("nodes", nodes), ("pods", pods), ("assumed_pods", assumed)] {
            let r#type = name.to_string();
            self.cache
                .get_or_create(&Kind { r#type })
                .set(number as i64);
        }
    }
}

/// Appends a registry. The page is in the text format, where a counter's name ends in `_total` also in
/// its head; OpenMetrics leaves that out.
fn write(registry: &Registry, out: &mut String) {
    let mut page = String::new();
    // Writing into a string cannot fail.
    let _ = text::encode_registry(&mut page, registry);
    let head = |line: &str| {
        let mut words = line.split(' ').skip(2);
        Some((words.next()?.to_string(), words.next()?.to_string()))
    };
    let kinds = page.lines().filter(|line| line.starts_with("# TYPE "));
    let counters: Vec<String> = kinds
        .filter_map(head)
        .filter_map(|(name, kind)| (kind == "counter").then_some(name))
        .collect();
    for line in page.lines() {
        let name = line.strip_prefix("# ").and_then(|_| head(line));
        match name.filter(|(name, _)| counters.contains(name)) {
            Some((name, _)) => out.push_str(&line.replacen(&name, &format!("{name}_total"), 1)),
            None => out.push_str(line),
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_upstream_s_names() {
        let metrics = Metrics::default();
        metrics.attempted("scheduled", "default-scheduler", Duration::from_millis(3));
        metrics.bound(1, Duration::from_millis(30), false);
        metrics.came("active", "PodAdd", 2);
        metrics.sizes(Sizes::default(), (3, 2, 1));
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut page = String::new();
        write(&registry, &mut page);
        for line in [
            "# TYPE scheduler_schedule_attempts_total counter",
            "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"default-scheduler\"} 1",
            "# TYPE scheduler_pending_pods gauge",
            "scheduler_pending_pods{queue=\"unschedulable\"} 0",
            "scheduler_queue_incoming_pods_total{queue=\"active\",event=\"PodAdd\"} 2",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(!page.contains("EOF"));
    }
}

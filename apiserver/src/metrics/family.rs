//! Counters, gauges and histograms by labels, updated without locks and written as Prometheus reads
//! them.
//!
//! A series is found by the text that its labels have on the page, which is put together in a buffer
//! of the thread: what is there already is found without an allocation.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// What a series holds.
pub trait Metric: Send + Sync {
    /// The type as the page names it.
    const TYPE: &'static str;
    /// The bounds of buckets, for those that have some.
    type Bounds: Copy + Send + Sync;

    /// A series that starts at nothing.
    fn new(bounds: Self::Bounds) -> Self;

    /// Writes its lines.
    fn write(&self, name: &str, labels: &str, out: &mut String);
}

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Some more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// What was counted.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metric for Counter {
    const TYPE: &'static str = "counter";
    type Bounds = ();

    fn new((): ()) -> Self {
        Self::default()
    }

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        line(out, name, labels, "", self.get());
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes it by some.
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

impl Metric for Gauge {
    const TYPE: &'static str = "gauge";
    type Bounds = ();

    fn new((): ()) -> Self {
        Self::default()
    }

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        line(out, name, labels, "", self.get());
    }
}

/// Counts observations by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Records an observation.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        // The closure always yields a value.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }
}

impl Metric for Histogram {
    const TYPE: &'static str = "histogram";
    type Bounds = &'static [f64];

    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    fn write(&self, name: &str, labels: &str, out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            let bound = match self.bounds.get(at) {
                Some(bound) => bound.to_string(),
                None => "+Inf".to_string(),
            };
            let labels = format!("{labels}{comma}le=\"{bound}\"");
            line(out, name, &labels, "_bucket", total);
        }
        let sum = f64::from_bits(self.sum.load(Relaxed));
        line(out, name, labels, "_sum", sum);
        line(out, name, labels, "_count", total);
    }
}

/// Writes one sample.
pub fn line(
    out: &mut String,
    name: &str,
    labels: &str,
    suffix: &str,
    value: impl std::fmt::Display,
) {
    // Writing to a text does not fail.
    let _ = match labels {
        "" => writeln!(out, "{name}{suffix} {value}"),
        _ => writeln!(out, "{name}{suffix}{{{labels}}} {value}"),
    };
}

/// Writes what stands above the samples of a metric.
pub fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// All series of one metric.
pub struct Family<M: Metric> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    bounds: M::Bounds,
    series: RwLock<HashMap<Box<str>, Arc<M>>>,
}

thread_local! {
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

impl<M: Metric> Family<M> {
    /// A metric without series.
    pub fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: M::Bounds,
    ) -> Self {
        Self {
            name,
            help,
            labels,
            bounds,
            series: RwLock::default(),
        }
    }

    /// The series of some values, one for each label; made if there is none.
    pub fn of(&self, values: &[&str]) -> Arc<M> {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        KEY.with_borrow_mut(|key| {
            key.clear();
            write_labels(key, self.labels, values);
            let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = series.get(&**key) {
                return found.clone();
            }
            drop(series);
            let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
            let made = series.entry(key.as_str().into());
            made.or_insert_with(|| Arc::new(M::new(self.bounds)))
                .clone()
        })
    }

    /// Forgets all series.
    pub fn clear(&self) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.clear();
    }

    /// Writes all series.
    pub fn write(&self, out: &mut String) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return;
        }
        head(out, self.name, self.help, M::TYPE);
        let mut sorted: Vec<_> = series.iter().collect();
        sorted.sort_unstable_by(|one, other| one.0.cmp(other.0));
        for (labels, metric) in sorted {
            metric.write(self.name, labels, out);
        }
    }
}

/// Writes labels and their values as they stand on the page.
pub fn write_labels(out: &mut String, labels: &[&str], values: &[&str]) {
    for (at, (label, value)) in labels.iter().zip(values).enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(label);
        out.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_sorted_and_escaped() {
        let family: Family<Counter> = Family::new("a_total", "Things", &["x", "y"], ());
        let mut out = String::new();
        family.write(&mut out);
        assert_eq!(out, "");
        family.of(&["b", "\"\\\n"]).inc();
        family.of(&["a", ""]).add(2);
        family.of(&["a", ""]).inc();
        family.write(&mut out);
        let want = "# HELP a_total Things\n# TYPE a_total counter\n\
            a_total{x=\"a\",y=\"\"} 3\na_total{x=\"b\",y=\"\\\"\\\\\\n\"} 1\n";
        assert_eq!(out, want);
    }

    #[test]
    fn buckets_add_up() {
        const BOUNDS: &[f64] = &[0.5, 1.0];
        let family: Family<Histogram> = Family::new("t_seconds", "Time", &["x"], BOUNDS);
        for value in [0.5, 0.75, 3.0] {
            family.of(&["a"]).observe(value);
        }
        let mut out = String::new();
        family.write(&mut out);
        let lines: Vec<&str> = out.lines().skip(2).collect();
        let want = [
            "t_seconds_bucket{x=\"a\",le=\"0.5\"} 1",
            "t_seconds_bucket{x=\"a\",le=\"1\"} 2",
            "t_seconds_bucket{x=\"a\",le=\"+Inf\"} 3",
            "t_seconds_sum{x=\"a\"} 4.25",
            "t_seconds_count{x=\"a\"} 3",
        ];
        assert_eq!(lines, want);
    }
}

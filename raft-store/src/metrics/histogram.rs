//! A histogram of durations that is updated without a lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Counts observations in buckets whose bounds double. Clones share the counts.
#[derive(Clone)]
pub struct Histogram {
    inner: Arc<Inner>,
}

struct Inner {
    /// Upper bounds in seconds; the last bucket, above all of them, has no bound.
    bounds: Box<[f64]>,
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// `buckets` buckets: up to `first` seconds, up to twice that and so on; one more above all.
    pub fn exponential(first: f64, buckets: usize) -> Histogram {
        let bounds: Box<[f64]> = std::iter::successors(Some(first), |bound| Some(bound * 2.0))
            .take(buckets)
            .collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram {
            inner: Arc::new(Inner {
                bounds,
                counts,
                sum_nanos: AtomicU64::new(0),
            }),
        }
    }

    /// Records an observation in seconds.
    pub fn observe(&self, seconds: f64) {
        let bucket = self.inner.bounds.partition_point(|bound| *bound < seconds);
        self.inner.counts[bucket].fetch_add(1, Relaxed);
        self.inner
            .sum_nanos
            .fetch_add((seconds * 1e9) as u64, Relaxed);
    }

    /// Records a duration.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Number of observations and their sum in seconds.
    pub fn totals(&self) -> (u64, f64) {
        let count = self.inner.counts.iter().map(|c| c.load(Relaxed)).sum();
        (count, self.inner.sum_nanos.load(Relaxed) as f64 / 1e9)
    }

    /// An upper bound of the given quantile (0 to 1) in seconds; infinite above the last bound,
    /// none without observations.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let (count, _) = self.totals();
        let wanted = (count as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, bucket) in self.inner.counts.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if count > 0 && seen >= wanted {
                return Some(self.inner.bounds.get(i).copied().unwrap_or(f64::INFINITY));
            }
        }
        None
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, sum) = self.totals();
        write!(f, "Histogram({count} observations, {sum} s)")
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.inner.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .zip(self.inner.counts.iter().map(|c| c.load(Relaxed)))
            .collect();
        // Counted from the same reads, so that the page never contradicts itself.
        let count = buckets.iter().map(|(_, n)| n).sum();
        let sum = self.inner.sum_nanos.load(Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_the_bucket_that_bounds_them() {
        let histogram = Histogram::exponential(0.001, 3);
        for seconds in [0.0005, 0.001, 0.0011, 0.004, 9.0] {
            histogram.observe(seconds);
        }
        let counts: Vec<u64> = histogram
            .inner
            .counts
            .iter()
            .map(|c| c.load(Relaxed))
            .collect();
        assert_eq!(counts, [2, 1, 1, 1]);
        assert_eq!(histogram.quantile(0.5), Some(0.002));
        assert_eq!(histogram.quantile(1.0), Some(f64::INFINITY));
        assert_eq!(histogram.totals().0, 5);
    }
}

//! What openraft needs of the published crate of this name, in its place (`[patch.crates-io]`).
//!
//! openraft counts the sizes of its batches in a histogram, which we do not read. The first use of
//! the published crate (0.2.3) fills tables for all sixteen precisions that it knows, 29 MB for the
//! life of the process: a third of an idle master. This one counts by powers of two.

use std::fmt;
use std::marker::PhantomData;

/// A bucket per power of two, and one for zero.
const BUCKETS: usize = 65;

/// How often values of each magnitude came. The parameter is the published crate's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slots: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            slots: PhantomData,
        }
    }
}

impl<T> Histogram<T> {
    /// Without any value.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value several times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    /// The lowest value of the bucket below whose end this share of all values lies; 0 if there
    /// is none.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.total() as f64 * share).ceil() as u64;
        let mut seen = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if *count > 0 && seen >= wanted {
                return lowest(bucket);
            }
        }
        0
    }

    /// The percentiles that are printed.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }

    fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

/// The lowest value that is counted in a bucket.
fn lowest(bucket: usize) -> u64 {
    match bucket {
        0 => 0,
        bucket => 1 << (bucket - 1),
    }
}

/// The percentiles of a histogram, and how many values it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples,
            p50,
            p90,
            p99,
            ..
        } = self;
        write!(
            f,
            "[samples: {samples}, P50: {p50}, P90: {p90}, P99: {p99}]"
        )
    }
}

/// Histograms to be shown together: a line for each bucket that is not empty.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    histograms: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// Without any histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    #[must_use]
    #[allow(
        clippy::should_implement_trait,
        reason = "the name is the published crate's"
    )]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.histograms.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.histograms {
            let counts = histogram.counts.iter().enumerate();
            for (bucket, count) in counts.filter(|(_, count)| **count > 0) {
                writeln!(f, "{name} {} {count}", lowest(bucket))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_magnitude() {
        let mut histogram: Histogram = Histogram::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        histogram.record_n(0, 10);
        histogram.record_n(5, 80);
        histogram.record_n(1000, 9);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p5, stats.p50), (100, 0, 4));
        assert_eq!((stats.p99, stats.p99_9), (512, 1 << 63));
        let shown = AsciiChart::new().add("sizes", histogram).to_string();
        assert_eq!(shown.lines().nth(1), Some("sizes 4 80"));
    }
}

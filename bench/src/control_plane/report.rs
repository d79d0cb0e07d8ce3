//! What was measured, beside what is wanted, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// It is only told.
    Nothing,
}

impl Wanted {
    fn is_met(self, value: f64) -> bool {
        match self {
            Wanted::AtLeast(least) => value >= least,
            Wanted::AtMost(most) => value <= most,
            Wanted::Nothing => true,
        }
    }

    fn shown(self, value: f64) -> String {
        let verdict = if self.is_met(value) { "met" } else { "MISSED" };
        match self {
            Wanted::AtLeast(least) => format!(">= {least} {verdict}"),
            Wanted::AtMost(most) => format!("<= {most} {verdict}"),
            Wanted::Nothing => String::new(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Figure {
    test: String,
    metric: String,
    unit: &'static str,
    value: f64,
    wanted: Wanted,
    /// The load average of the machine when it was measured: others may have shared it.
    load: f64,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    masters: u16,
    nodes: usize,
    pods: usize,
    cores: usize,
    figures: Vec<Figure>,
}

impl Results {
    pub(crate) fn new(masters: u16, nodes: usize, pods: usize) -> Self {
        Self {
            masters,
            nodes,
            pods,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            figures: Vec::new(),
        }
    }

    /// Adds a figure, and tells it at once.
    pub(crate) fn add(
        &mut self,
        test: &str,
        metric: &str,
        value: f64,
        unit: &'static str,
        wanted: Wanted,
    ) {
        let figure = Figure {
            test: test.to_string(),
            metric: metric.to_string(),
            unit,
            value,
            wanted,
            load: load(),
        };
        eprintln!("  {}", line(&figure).trim_end());
        self.figures.push(figure);
    }

    /// A figure that is only told.
    pub(crate) fn tell(&mut self, test: &str, metric: &str, value: f64, unit: &'static str) {
        self.add(test, metric, value, unit, Wanted::Nothing);
    }

    /// Adds the middle, the 99th percentile and the longest of some times.
    pub(crate) fn times(&mut self, test: &str, of: &str, mut times: Vec<Duration>, wanted: Wanted) {
        times.sort_unstable();
        let at = |share| percentile(&times, share).as_secs_f64() * 1e3;
        let (middle, high, most) = (at(0.5), at(0.99), at(1.0));
        self.tell(test, &format!("{of} p50"), middle, "ms");
        self.add(test, &format!("{of} p99"), high, "ms", wanted);
        self.tell(test, &format!("{of} max"), most, "ms");
    }

    /// All figures.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "{} masters, {} nodes, {} pods; {} cores shared by masters and generator\n\n",
            self.masters, self.nodes, self.pods, self.cores
        );
        let _ = writeln!(
            table,
            "{:<24} {:<28} {:>10} {:<8} {:<16} {:>5}",
            "test", "metric", "value", "unit", "wanted", "load"
        );
        for figure in &self.figures {
            let _ = writeln!(table, "{}", line(figure));
        }
        table
    }

    /// Whether everything is as wanted.
    pub(crate) fn are_met(&self) -> bool {
        let mut figures = self.figures.iter();
        figures.all(|figure| figure.wanted.is_met(figure.value))
    }

    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

fn line(figure: &Figure) -> String {
    let shown = match figure.value {
        large if large >= 100.0 => format!("{large:.0}"),
        small => format!("{small:.2}"),
    };
    format!(
        "{:<24} {:<28} {shown:>10} {:<8} {:<16} {:>5.1}",
        figure.test,
        figure.metric,
        figure.unit,
        figure.wanted.shown(figure.value),
        figure.load,
    )
}

/// A percentile of sorted times; zero of none.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// The machine's load average of the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_held_against_what_is_wanted() {
        let mut results = Results::new(3, 1, 1);
        results.add("a", "b", 10.0, "pods/s", Wanted::AtLeast(10.0));
        assert!(results.are_met());
        let times = (1..=100).map(Duration::from_millis).collect();
        results.times("c", "gap", times, Wanted::AtMost(50.0));
        assert!(!results.are_met());
        assert!(
            results.table().contains("<= 50 MISSED"),
            "{}",
            results.table()
        );
        assert_eq!(results.figures[1].value, 51.0);
        assert_eq!(results.figures[3].value, 100.0);
    }
}

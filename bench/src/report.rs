//! What was measured, as a table with ratios and as JSON.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::Options;
use crate::cluster::{Cluster, System};

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One figure over all rounds.
#[derive(Debug, Serialize)]
struct Figure {
    system: &'static str,
    test: String,
    metric: String,
    unit: &'static str,
    better: Better,
    rounds: Vec<f64>,
    median: f64,
}

#[derive(Debug, Serialize)]
struct Measured {
    system: &'static str,
    version: String,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    systems: Vec<Measured>,
    target: String,
    seconds: f64,
    cores: usize,
    fsync_p50_us: Vec<f64>,
    figures: Vec<Figure>,
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

impl Results {
    pub(crate) fn new(systems: &[System], options: &Options) -> Results {
        let systems = systems
            .iter()
            .map(|system| Measured {
                system: system.name(),
                version: system.version(),
            })
            .collect();
        Results {
            systems,
            target: format!("{:?}", options.target).to_lowercase(),
            seconds: options.seconds,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            fsync_p50_us: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Adds a measurement of the disk.
    pub(crate) fn fsync(&mut self, p50: Duration) {
        self.fsync_p50_us.push(p50.as_secs_f64() * 1e6);
    }

    /// Adds a figure of one round.
    pub(crate) fn add(
        &mut self,
        system: &'static str,
        test: &str,
        metric: &str,
        unit: &'static str,
        better: Better,
        value: f64,
    ) {
        let known = self
            .figures
            .iter_mut()
            .find(|f| f.system == system && f.test == test && f.metric == metric);
        if let Some(figure) = known {
            figure.rounds.push(value);
            figure.median = median(&figure.rounds);
            return;
        }
        self.figures.push(Figure {
            system,
            test: test.to_owned(),
            metric: metric.to_owned(),
            unit,
            better,
            rounds: vec![value],
            median: value,
        });
    }

    /// Adds the members' memory: resident, and the part of it that no file backs.
    pub(crate) fn memory(&mut self, cluster: &Cluster, test: &str) -> Result<()> {
        let members = cluster.memory();
        if members.is_empty() {
            bail!("no member's memory can be read");
        }
        let count = members.len() as f64;
        let mean = |of: fn(&(u64, u64)) -> u64| {
            members.iter().map(|member| of(member) as f64).sum::<f64>() / count / f64::from(1 << 20)
        };
        let (resident, anonymous) = (mean(|member| member.0), mean(|member| member.1));
        let system = cluster.system.name();
        self.add(
            system,
            test,
            "RSS per member",
            "MiB",
            Better::Lower,
            resident,
        );
        self.add(
            system,
            test,
            "of it anonymous",
            "MiB",
            Better::Lower,
            anonymous,
        );
        eprintln!("  {test}: {resident:.0} MiB per member, {anonymous:.0} MiB anonymous");
        Ok(())
    }

    /// Medians side by side, with Trireme's ratio to etcd.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for Measured { system, version } in &self.systems {
            let _ = writeln!(table, "{system}: {version}");
        }
        let _ = writeln!(
            table,
            "{} cores shared by members and generator; clients to {}; fdatasync p50 {:.0} us \
             (medians of rounds: {:?})\n",
            self.cores,
            self.target,
            median(&self.fsync_p50_us),
            self.fsync_p50_us
                .iter()
                .map(|p50| p50.round())
                .collect::<Vec<_>>(),
        );
        let _ = writeln!(
            table,
            "{:<12} {:<16} {:<9} {:>12} {:>12} {:>8}",
            "test", "metric", "unit", "etcd", "trireme", "ratio"
        );
        let mut done: Vec<(&str, &str)> = Vec::new();
        for figure in &self.figures {
            let row = (figure.test.as_str(), figure.metric.as_str());
            if done.contains(&row) {
                continue;
            }
            done.push(row);
            let of = |system| self.median_of(system, row);
            let (etcd, trireme) = (of("etcd"), of("trireme"));
            let ratio = match (etcd, trireme) {
                (Some(etcd), Some(trireme)) if etcd > 0.0 => format!("{:.2}x", trireme / etcd),
                _ => "-".into(),
            };
            let shown = |value: Option<f64>| value.map_or("-".into(), number);
            let _ = writeln!(
                table,
                "{:<12} {:<16} {:<9} {:>12} {:>12} {ratio:>8}",
                figure.test,
                figure.metric,
                figure.unit,
                shown(etcd),
                shown(trireme),
            );
        }
        table
    }

    fn median_of(&self, system: &str, row: (&str, &str)) -> Option<f64> {
        self.figures
            .iter()
            .find(|f| f.system == system && (f.test.as_str(), f.metric.as_str()) == row)
            .map(|figure| figure.median)
    }

    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Three significant digits at least, none behind the point for large numbers.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        small if small < 1.0 => format!("{value:.3}"),
        middle if middle < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(
            (number(0.1234), number(12.345), number(12345.6)),
            ("0.123".into(), "12.35".into(), "12346".into())
        );
    }
}

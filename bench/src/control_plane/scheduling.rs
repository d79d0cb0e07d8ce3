//! Pods per second onto many nodes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bench::masters::{Cluster, processor_time};

use crate::Options;
use crate::drive::{Masters, Setting, Tally};
use crate::http::Request;
use crate::objects::{self, Kind, PODS};
use crate::report::{Results, Wanted};

/// Memory counts once what the work itself needed is given back.
const SETTLE: Duration = Duration::from_secs(10);

/// Pods that are created at full speed while the scheduler runs.
pub(crate) struct Schedule<'a> {
    options: &'a Options,
    name: &'a str,
    kind: Kind,
    setting: Setting,
    wanted: Wanted,
}

impl<'a> Schedule<'a> {
    /// Onto nodes without anybody behind them.
    pub(crate) fn bare(options: &'a Options, name: &'a str, kind: Kind) -> Self {
        let setting = Setting {
            bare: options.nodes,
            zones: kind.zones(),
            ..Setting::default()
        };
        let least = if kind == Kind::Basic { 1000.0 } else { 500.0 };
        let wanted = Wanted::AtLeast(least);
        Self {
            options,
            name,
            kind,
            setting,
            wanted,
        }
    }

    /// Onto nodes that say that they run what they are given.
    pub(crate) fn hollow(options: &'a Options, name: &'a str) -> Self {
        let setting = Setting {
            hollow: options.nodes,
            ..Setting::default()
        };
        Self {
            setting,
            wanted: Wanted::Nothing,
            ..Self::bare(options, name, Kind::Basic)
        }
    }

    /// From the first create to the last bind.
    pub(crate) async fn measure(&self, results: &mut Results) -> Result<()> {
        let (options, name) = (self.options, self.name);
        let masters = Masters::start(options, &self.setting).await?;
        let bound = bound(&masters).await?;
        let cpu = masters.cluster.cpu();
        let began = Instant::now();
        let creating = masters.send_all(pods(options, self.kind));
        let (created, ended) = tokio::try_join!(
            async { creating.await.map(|()| Instant::now()) },
            bound.reach(options.pods)
        )?;
        let cpu = masters.cluster.cpu().saturating_sub(cpu);
        let rate = |until: Instant| options.pods as f64 / (until - began).as_secs_f64();
        results.add(name, "create to bound", rate(ended), "pods/s", self.wanted);
        results.tell(name, "  of it created", rate(created), "pods/s");
        let each = millis_each(cpu, options.pods);
        results.tell(name, "  masters' CPU", each, "ms/pod");
        if self.kind == Kind::Basic {
            tokio::time::sleep(SETTLE).await;
            memory(name, 250.0, &masters.cluster, results);
        }
        Ok(())
    }
}

/// From the first bind to the last, of pods that are there before the scheduler.
pub(crate) async fn created_before(
    options: &Options,
    name: &str,
    results: &mut Results,
) -> Result<()> {
    let masters = Masters::start(
        options,
        &Setting {
            bare: options.nodes,
            zones: 1,
            without_scheduler: true,
            ..Setting::default()
        },
    )
    .await?;
    masters.send_all(pods(options, Kind::Basic)).await?;
    let bound = bound(&masters).await?;
    let cpu = masters.cluster.cpu();
    let scheduler = Scheduler::start(&masters.cluster)?;
    let ended = bound.reach(options.pods).await?;
    let took = ended - bound.first().context("nothing was bound")?;
    let cpu = masters.cluster.cpu().saturating_sub(cpu);
    let per_second = options.pods as f64 / took.as_secs_f64();
    results.add(
        name,
        "first to last bind",
        per_second,
        "pods/s",
        Wanted::AtLeast(2000.0),
    );
    results.tell(
        name,
        "masters' CPU",
        millis_each(cpu, options.pods),
        "ms/pod",
    );
    if let Some(cpu) = scheduler.cpu() {
        results.tell(
            name,
            "scheduler's CPU",
            millis_each(cpu, options.pods),
            "ms/pod",
        );
    }
    Ok(())
}

fn pods(options: &Options, kind: Kind) -> impl Iterator<Item = Request> {
    let nodes = options.nodes;
    (0..options.pods)
        .map(move |at| Request::post(PODS, objects::pod(&format!("pod-{at}"), at, kind, nodes)))
}

/// Counts pods as they come to have a node.
async fn bound(masters: &Masters) -> Result<Tally> {
    let selector = "fieldSelector=spec.nodeName!%3D";
    let count = |event: &[u8], total| total + usize::from(objects::is(event, "ADDED"));
    masters.tally(PODS, selector, count).await
}

fn millis_each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e3 / count.max(1) as f64
}

/// The memory of the masters, of which the largest counts.
pub(crate) fn memory(name: &str, most: f64, cluster: &Cluster, results: &mut Results) {
    let each = cluster.memory();
    let megabytes = |bytes: Option<u64>| bytes.unwrap_or_default() as f64 / 1e6;
    let resident = megabytes(each.iter().map(|one| one.resident).max());
    let proportional = megabytes(each.iter().map(|one| one.proportional).max());
    results.add(
        name,
        "largest master's RSS",
        resident,
        "MB",
        Wanted::AtMost(most),
    );
    results.tell(name, "largest master's PSS", proportional, "MB");
}

/// A scheduler in a process of its own, which ends with this.
struct Scheduler {
    process: Child,
}

impl Scheduler {
    fn start(cluster: &Cluster) -> Result<Self> {
        let servers: Vec<String> = cluster
            .masters()
            .map(|master| format!("https://{}", cluster.address(master)))
            .collect();
        let process = Command::new(cluster.program())
            .args([
                "scheduler",
                "--name",
                "bench",
                "--servers",
                &servers.join(","),
            ])
            .arg("--kubeconfig")
            .arg(cluster.dir().join("kubeconfig"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start trireme scheduler")?;
        Ok(Self { process })
    }

    fn cpu(&self) -> Option<Duration> {
        processor_time(self.process.id().cast_signed())
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! `api-bench`: the API of masters on this machine under load, with the processor time that it costs.
//!
//! Three masters, TLS, RBAC, fsync on. Masters and generator share the processor, so rates alone
//! mislead: beside every rate stands the processor time of the masters per operation.
//!
//! - [`connection`]: HTTP over TLS; [`load`]: closed loops; [`objects`]: what is written
//! - [`bench::masters`]: masters and what they use
#![allow(
    clippy::disallowed_methods,
    reason = "it drives real processes in real time; nothing here is ever simulated"
)]

mod connection;
mod load;
mod objects;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use bench::masters::{self, Cluster, Target};
use bench::only;
use clap::Parser;
use nix::sys::signal::Signal;

use connection::{Connection, Request};
use load::{Loop, Measured};

/// Measure the API of three masters on this machine.
///
/// Examples:
///   api-bench --trireme target/release/trireme
///   api-bench --trireme target/release/trireme --only get,list --seconds 3
#[derive(Parser, Debug)]
#[command(verbatim_doc_comment)]
struct Options {
    /// The trireme binary.
    #[arg(long)]
    trireme: PathBuf,
    /// Only these: create-configmaps, create-pods, get, patch, list, pages, watch, start.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds of each closed loop, after a fifth of it for warming up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Pods that lists are about.
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Watchers of the fan-out.
    #[arg(long, default_value_t = 500)]
    watchers: usize,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        only::wants(&self.only, name)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(run(&options)))
}

async fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::start(&masters::Options {
        // Both would work on ten thousand pods meanwhile, which have no nodes to go to.
        settings: &["enable-controllers=false", "enable-scheduler=false"],
        ..masters::Options::new(&options.trireme)
    })?;
    let targets = cluster.targets()?;
    accounts(&targets).await?;
    println!(
        "{:<22} {:>12} {:>16}",
        "measurement", "rate", "masters' CPU"
    );
    writes(options, &cluster, &targets).await?;
    fill(options, &targets).await?;
    reads(options, &cluster, &targets).await?;
    if options.wants("watch") {
        watch(options, &cluster, &targets).await?;
    }
    println!(
        "{:<22} {:>9} MiB",
        "memory per master",
        memory_mib(&cluster)
    );
    if options.wants("start") {
        let took = restart_one(&cluster, &targets).await?;
        println!("{:<22} {:>9} ms", "start to ready", took.as_millis());
    }
    Ok(())
}

/// Resident memory of a master, about.
fn memory_mib(cluster: &Cluster) -> u64 {
    let each = cluster.memory();
    let sum: u64 = each.iter().map(|memory| memory.resident).sum();
    (sum / (each.len().max(1) as u64)) >> 20
}

/// Kills a master and starts it again; yields the time until it is ready.
async fn restart_one(cluster: &Cluster, targets: &[Target]) -> Result<Duration> {
    cluster.end(1, Signal::SIGKILL)?;
    let started = Instant::now();
    cluster.start_master(1)?;
    let ready = Request::get("/readyz", "text/plain");
    loop {
        if let Ok(mut connection) = Connection::open(&targets[0]).await
            && connection
                .call(&ready)
                .await
                .is_ok_and(|answer| answer.is_success)
        {
            return Ok(started.elapsed());
        }
        anyhow::ensure!(
            started.elapsed() < Duration::from_secs(60),
            "master-1 is not ready"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The service accounts that pods need, unless a controller was faster.
async fn accounts(targets: &[Target]) -> Result<()> {
    let mut connection = Connection::open(&targets[0]).await?;
    for namespace in ["default", "kube-public"] {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let body = r#"{"metadata":{"name":"default"}}"#.to_string();
        let answer = connection.call(&Request::post(&path, body)).await?;
        let is_there = answer.is_success || answer.complaint.contains("AlreadyExists");
        anyhow::ensure!(is_there, "{}", answer.complaint);
    }
    Ok(())
}

async fn closed(
    options: &Options,
    cluster: &Cluster,
    targets: &[Target],
    name: &str,
    request: impl Fn(usize, usize) -> Request,
) -> Result<Measured> {
    let done = load::run(&Loop {
        targets,
        connections: options.connections,
        window: Duration::from_secs_f64(options.seconds),
        request: &request,
        cpu: &|| cluster.cpu(),
    })
    .await?;
    let rate = done.operations as f64 / done.took.as_secs_f64();
    let cpu = done.cpu.as_secs_f64() * 1e6 / done.operations.max(1) as f64;
    println!("{name:<22} {rate:>10.0}/s {cpu:>13.1} us");
    if done.refused > 0 {
        println!(
            "  {} were refused, the last: {}",
            done.refused, done.complaint
        );
    }
    Ok(done)
}

async fn writes(options: &Options, cluster: &Cluster, targets: &[Target]) -> Result<()> {
    if options.wants("create-configmaps") {
        let path = "/api/v1/namespaces/default/configmaps";
        let make =
            |worker, at| Request::post(path, objects::config_map(&format!("c-{worker}-{at}")));
        closed(options, cluster, targets, "create configmaps", make).await?;
    }
    if options.wants("create-pods") {
        let path = "/api/v1/namespaces/kube-public/pods";
        let make = |worker, at| Request::post(path, objects::pod(&format!("p-{worker}-{at}")));
        closed(options, cluster, targets, "create pods", make).await?;
    }
    Ok(())
}

/// The pods that reads are about.
async fn fill(options: &Options, targets: &[Target]) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods";
    let workers = options.connections;
    let per_worker = options.pods.div_ceil(workers);
    load::each(targets, workers, per_worker, &|worker, at| {
        Request::post(path, objects::pod(&format!("list-{worker}-{at}")))
    })
    .await
}

async fn reads(options: &Options, cluster: &Cluster, targets: &[Target]) -> Result<()> {
    let pod = |worker: usize, at: usize| {
        format!("/api/v1/namespaces/default/pods/list-{worker}-{}", at % 100)
    };
    if options.wants("get") {
        let make = |worker, at| Request::get(&pod(worker, at), "application/json");
        closed(options, cluster, targets, "get pod", make).await?;
    }
    if options.wants("patch") {
        let make = |worker, at| {
            let body = format!(r#"{{"metadata":{{"annotations":{{"n":"{at}"}}}}}}"#);
            Request::patch(&pod(worker, at), body)
        };
        closed(options, cluster, targets, "merge-patch pod", make).await?;
    }
    let path = "/api/v1/namespaces/default/pods";
    if options.wants("list") {
        for (name, accept) in [
            ("list json", "application/json"),
            ("list protobuf", "application/vnd.kubernetes.protobuf"),
        ] {
            let mut connection = Connection::open(&targets[0]).await?;
            // The first one may have to encode.
            connection.call(&Request::get(path, accept)).await?;
            let (before, started) = (cluster.cpu(), Instant::now());
            const LISTS: u32 = 5;
            let mut bytes = 0;
            for _ in 0..LISTS {
                bytes = connection.call(&Request::get(path, accept)).await?.bytes;
            }
            let took = started.elapsed() / LISTS;
            let cpu = (cluster.cpu() - before) / LISTS;
            println!(
                "{name:<22} {:>9} ms {:>13} us  ({} MiB)",
                took.as_millis(),
                cpu.as_micros(),
                bytes >> 20
            );
        }
    }
    if options.wants("pages") {
        let make = |_, _| Request::get(&format!("{path}?limit=500"), "application/json");
        closed(options, cluster, targets, "pages of 500", make).await?;
    }
    Ok(())
}

/// Every watcher sees every change of one namespace's configmaps.
async fn watch(options: &Options, cluster: &Cluster, targets: &[Target]) -> Result<()> {
    let path = "/api/v1/namespaces/kube-system/configmaps";
    let counted = load::watchers(
        targets,
        options.watchers,
        &format!("{path}?watch=1&resourceVersion=0"),
    )
    .await?;
    let (before, started, seen) = (cluster.cpu(), Instant::now(), counted.get());
    let window = Duration::from_secs_f64(options.seconds);
    let writers = 4;
    let make = |worker: usize, at: usize| {
        Request::post(path, objects::kilobyte(&format!("w-{worker}-{at}")))
    };
    load::until(targets, writers, started + window, &make).await?;
    let took = started.elapsed();
    let events = counted.get() - seen;
    let cpu = (cluster.cpu() - before).as_secs_f64() * 1e6 / events.max(1) as f64;
    let rate = events as f64 / took.as_secs_f64();
    println!("{:<22} {rate:>10.0}/s {cpu:>13.2} us", "events delivered");
    Ok(())
}

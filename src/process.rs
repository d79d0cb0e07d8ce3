//! What processes beside masters share: their way to the API, their end, and where they are looked at.

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use client::Access;
use client::metrics::metrics;
use client::remote::{self, Remote};
use deploy::config::ProcessConfig;
use seams::{Seams, Tasks};
use tokio::net::TcpListener;

use crate::notify;
use crate::run::{self, Signals};
use crate::telemetry;

/// A process that reaches the API from outside.
pub(crate) struct Process {
    /// Unique in the cluster.
    pub(crate) name: String,
    pub(crate) access: Access,
    pub(crate) seams: Seams,
    /// Told to end before the connections do.
    pub(crate) tasks: Tasks,
}

/// Runs a component until it is told to stop. `start` starts it, on the process's tasks.
pub(crate) fn run(
    config: &ProcessConfig,
    agent: &'static str,
    start: impl FnOnce(&Process) -> Result<()>,
) -> Result<()> {
    let settings = telemetry::Settings::for_process(config, agent);
    run::serving(
        run::serving_runtime()?,
        &settings,
        alone(config, agent, start),
    )
}

async fn alone(
    config: &ProcessConfig,
    agent: &'static str,
    start: impl FnOnce(&Process) -> Result<()>,
) -> Result<()> {
    let mut signals = Signals::new()?;
    let seams = Seams::real();
    let (links, tasks) = (seams.tasks(), seams.tasks());
    let process = Process {
        name: config.name.clone().unwrap_or_else(machine),
        access: access(config, agent, &seams, &links)?,
        seams,
        tasks,
    };
    tracing::info!(
        version = env!("LONG_VERSION"),
        name = process.name,
        "starting"
    );
    for url in &config.listen_metrics_urls {
        serve(&url.authority(), &links).await?;
    }
    start(&process)?;
    notify::ready();
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    notify::stopping();
    tokio::select! {
        () = process.tasks.shutdown() => {}
        signal = signals.insisted() => tracing::warn!(signal, "stopping at once"),
    }
    links.shutdown().await;
    Ok(())
}

fn access(config: &ProcessConfig, agent: &str, seams: &Seams, tasks: &Tasks) -> Result<Access> {
    let path = config
        .kubeconfig
        .as_deref()
        .context("kubeconfig is not set")?;
    let mut remote = remote::Config::kubeconfig(path, None, &*seams.disk)?;
    if !config.servers.is_empty() {
        remote.servers = config.servers.iter().map(ToString::to_string).collect();
    }
    Ok(Remote::access(agent, &remote, seams, tasks)?)
}

/// The name of this machine, as far as it has one.
fn machine() -> String {
    let name = run::host_name().ok().filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "trireme".into())
}

/// Whether the process is well, and what it counts, in plain text.
async fn serve(address: &str, tasks: &Tasks) -> Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let figures = || async {
        let mut text = String::new();
        metrics().write(&mut text);
        text
    };
    let mut router = Router::new().route("/metrics", get(figures));
    for path in ["/healthz", "/livez", "/readyz"] {
        router = router.route(path, get(|| async { "ok" }));
    }
    let ends = tasks.token();
    tasks.spawn("probes", async move {
        let serving = axum::serve(listener, router);
        let served = serving.with_graceful_shutdown(ends.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "probes are no longer answered");
        }
    });
    Ok(())
}

//! What commands and roles run on and under, what the machine tells them, and the signals that end them.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::exit::Said;
use crate::output::chain;
use crate::telemetry::{self, Telemetry};

/// A runtime for a role that serves. A core is left to the thread of the log and to the engine:
/// measured on two cores, a second worker costs half again as much per write, in wake-ups alone.
pub(crate) fn runtime() -> Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.saturating_sub(1).max(1))
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// A runtime for a role that serves the API: encryption and encoding take more than the log.
pub(crate) fn serving_runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// The variables of this process, as far as they are text.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What this machine is called.
pub(crate) fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.context("cannot read the machine's name: give --name")?;
    Ok(name.trim().to_string())
}

/// Runs a command that asks and ends. It logs warnings only: its output is its answer.
pub(crate) fn command(work: impl Future<Output = Result<()>>) -> Result<()> {
    runtime()?.block_on(async {
        let logs = Telemetry::init(&telemetry::Settings::for_commands())?;
        let done = work.await;
        logs.shutdown();
        done
    })
}

/// What may still run when the process ends is given this long.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// Runs a role until it ends. Why it failed is logged, unless that was [`Said`] already.
pub(crate) fn serving(
    runtime: Runtime,
    settings: &telemetry::Settings,
    role: impl Future<Output = Result<()>>,
) -> Result<()> {
    let done = runtime.block_on(async {
        let telemetry = Telemetry::init(settings)?;
        let done = role.await.map_err(|error| {
            if !error.is::<Said>() {
                tracing::error!("{}", chain(&error));
            }
            anyhow::Error::new(Said::new(&error))
        });
        telemetry.shutdown();
        done
    });
    runtime.shutdown_timeout(LAST_TASKS);
    done
}

/// Signals that follow each other sooner are one wish.
const ECHO: Duration = Duration::from_secs(1);

/// The signals by which a user or a service manager ends a process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one; yields its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for the next one that is meant as a second: some senders (`timeout`, `make`) signal
    /// a process and then its whole group, which is one wish in two signals.
    pub(crate) async fn insisted(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let signal = self.next().await;
            if first.elapsed() >= ECHO {
                return signal;
            }
        }
    }
}

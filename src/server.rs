//! `trireme server`: a master, which is a member of the store, an API server, controllers and scheduler
//! in one process.

use std::sync::Arc;

use anyhow::{Context, Result};
use deploy::config::{self, ServerConfig, Sources};
use raft_store::member::Member;
use seams::Seams;
use tokio::time::timeout;

use crate::apiserver;
use crate::certs;
use crate::cli::ServerArguments;
use crate::control_plane::ControlPlane;
use crate::notify;
use crate::run::{self, Signals};
use crate::store::{ended, member_config, stopped};
use crate::telemetry;

/// Runs a master until it is told to stop.
pub(crate) fn run(arguments: Box<ServerArguments>) -> Result<()> {
    let config: ServerConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    let settings = telemetry::Settings::for_store(&config.store);
    run::serving(run::serving_runtime()?, &settings, serve(&config))
}

async fn serve(config: &ServerConfig) -> Result<()> {
    let mut signals = Signals::new()?;
    let store = &config.store;
    tracing::info!(
        version = env!("LONG_VERSION"),
        name = store.name,
        "starting"
    );
    let seams = Seams::real();
    let member = tokio::select! {
        started = Member::start(member_config(store), seams.clone()) => {
            started.context("the member of the store did not start")?
        }
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the member had started");
            return Ok(());
        }
    };
    let tasks = seams.tasks();
    certs::renew(config.api.tls_cert_file.as_deref(), &seams, &tasks);
    let serving = apiserver::start(
        &config.api,
        &store.name,
        Arc::new(member.clone()),
        &seams,
        &tasks,
    )
    .await;
    let serving = match serving {
        Ok(serving) => serving,
        Err(error) => {
            member.shutdown().await;
            return Err(error);
        }
    };
    let control_plane = ControlPlane::start(config, serving.api(), &member, &seams, &tasks);
    let control_plane = match control_plane {
        Ok(control_plane) => control_plane,
        Err(error) => {
            serving.shutdown().await;
            member.shutdown().await;
            return Err(error);
        }
    };
    let ready = async {
        if member.wait_recovered().await {
            notify::ready();
        }
        std::future::pending::<()>().await;
    };
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = ready => return Ok(()),
        // Its own tasks end only when something broke, such as the disk under the log.
        () = ended(&member) => return Err(stopped(&member).into()),
    };
    tracing::info!(signal, "stopping: handing leadership over, then draining");
    notify::stopping();
    let bound = store.shutdown_timeout.0 + serving.delay();
    let drain = async {
        // Whoever takes over needs the store to do so.
        control_plane.shutdown().await;
        serving.leave().await;
        // The store's leadership goes first, so that the other masters lose no time with it.
        tokio::join!(serving.shutdown(), member.shutdown());
        tasks.shutdown().await;
    };
    tokio::select! {
        drained = timeout(bound, drain) => {
            if drained.is_err() {
                tracing::warn!(?bound, "not everything under way was answered in time");
            }
        }
        signal = signals.insisted() => tracing::warn!(signal, "stopping at once"),
    }
    Ok(())
}

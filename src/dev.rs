//! `trireme dev`: a cluster on this machine, in the foreground.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use deploy::kubeconfig;
use deploy::local::control::{self, Request};
use deploy::local::{Event, Launch, Layout, Options, Supervisor, temporary};
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::cli::{DevArguments, DevRequest};
use crate::output::{chain, complain, say};
use crate::run::{self, Signals};

/// Runs a cluster, or asks the one that runs.
pub(crate) fn run(arguments: DevArguments) -> Result<()> {
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => default_dir()?,
    };
    let request = match arguments.request {
        None => return run::runtime()?.block_on(cluster(data, arguments)),
        Some(DevRequest::Start { names }) => Request::Start(names),
        Some(DevRequest::Stop { names }) => Request::Stop(names),
        Some(DevRequest::Status) => Request::Status,
    };
    for line in run::runtime()?.block_on(control::ask(&data, &request))? {
        say(&line);
    }
    Ok(())
}

/// The directory of a user's own cluster.
pub(crate) fn default_dir() -> Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty());
    let state = state.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|dir| !dir.is_empty())?;
        Some(PathBuf::from(home).join(".local/state"))
    });
    let state =
        state.context("neither XDG_STATE_HOME nor HOME is set: give a directory by --data")?;
    Ok(state.join("trireme/dev"))
}

async fn cluster(data: PathBuf, arguments: DevArguments) -> Result<()> {
    // A directory that was named is somebody's; the default one is kept on request.
    let is_kept = arguments.keep || arguments.data.is_some();
    if !is_kept {
        temporary::mark(&data)?;
    }
    let options = Options {
        data,
        masters: arguments.masters,
        port_base: arguments.port_base,
        insecure: arguments.insecure.then_some(true),
        store_only: arguments.store_only.then_some(true),
        hollow: arguments.hollow,
        settings: arguments.set.into_iter().collect(),
        node_settings: arguments.node_set.into_iter().collect(),
        manifests: arguments.manifests,
        advertise_address: arguments.advertise_address,
    };
    let mut signals = Signals::new()?;
    let layout = Layout::open(&options)?;
    let merged = arguments
        .write_kubeconfig
        .map(access::to_write)
        .transpose()?;
    let reporting = (layout.clone(), merged.clone());
    let report = move |event| tell(&reporting.0, reporting.1.as_deref(), event);
    let supervisor = Supervisor::start(&options, launch()?, report).await?;
    if is_kept {
        temporary::keep(layout.dir())?;
    }
    let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
    let run = supervisor.run(stop.clone(), kill.clone());
    tokio::pin!(run);
    tokio::select! {
        done = &mut run => return Ok(done?),
        signal = signals.next() => complain(&format!("{signal}: stopping everything")),
    }
    stop.cancel();
    let done = tokio::select! {
        done = &mut run => done,
        signal = signals.insisted() => {
            complain(&format!("{signal}: killing everything"));
            kill.cancel();
            run.await
        }
    };
    done?;
    clean_up(&layout, merged.as_deref())
}

/// Of a temporary cluster nothing is left behind.
fn clean_up(layout: &Layout, merged: Option<&Path>) -> Result<()> {
    if !temporary::is(layout.dir()) {
        return Ok(());
    }
    if let Some(path) = merged {
        let names = layout.entries()?.into_iter().map(|entry| entry.name);
        kubeconfig::remove(&names.collect::<Vec<_>>(), path)?;
    }
    Ok(temporary::remove(layout.dir())?)
}

/// Members run the binary that this process was started from.
fn launch() -> Result<Launch> {
    let program = std::env::current_exe().context("cannot find the program itself")?;
    Ok(Arc::new(move |config: &Path| {
        let mut command = Command::new(&program);
        // The file is named after the role.
        let role = config.file_stem().unwrap_or_default();
        command.arg(role).arg("--config").arg(config);
        command
    }))
}

fn tell(layout: &Layout, merged: Option<&Path>, event: Event) {
    match event {
        Event::Started { name, pid } => say(&format!("{name} started (pid {pid})")),
        Event::Ready => {
            if let Some(path) = merged {
                merge(layout, path);
            }
            ready(layout);
        }
        Event::Waiting { reasons } => {
            for (name, why) in reasons {
                complain(&format!("still waiting for {name}: {why}"));
            }
        }
        Event::Down { name, how } => complain(&format!(
            "{name} is down ({how}); its log is {}. Start it again with\n  trireme dev start {name} --data {}",
            layout.dir().join(&name).join("log").display(),
            layout.dir().display()
        )),
    }
}

/// Makes the cluster the current one of a kubeconfig that holds others.
fn merge(layout: &Layout, path: &Path) {
    let entries = layout.entries().map_err(anyhow::Error::new);
    let written = entries.and_then(|entries| Ok(kubeconfig::merge(&entries, path)?));
    match written {
        Ok(()) => say(&format!(
            "\nThe context trireme-dev is the current one of {}.",
            path.display()
        )),
        Err(error) => complain(&format!("warning: {}", chain(&error))),
    }
}

/// What to try where pods can run, or so they say.
const WITH_NODES: &[&str] = &[
    "kubectl get nodes",
    "kubectl create deployment web --image=nginx --replicas=6",
    "kubectl rollout status deployment/web && kubectl get pods -o wide",
    "kubectl drain node-1 --ignore-daemonsets && kubectl uncordon node-1",
    "kubectl annotate node node-2 hollow.trireme.io/failure=crash   # and =none to mend it",
];

/// What to try where nothing runs pods.
const WITHOUT_NODES: &[&str] = &[
    "kubectl get namespaces",
    "kubectl create configmap hello --from-literal=who=world",
    "kubectl --context master-2 get configmap hello -o yaml",
];

/// How to use the cluster, and then the line that scripts wait for.
fn ready(layout: &Layout) {
    let dir = layout.dir().display();
    let endpoints: Vec<String> = layout
        .masters()
        .map(|n| layout.client_url(n).to_string())
        .collect();
    let certificates = layout.admin().map_or(String::new(), |admin| {
        format!(
            " --cacert {} --cert {} --key {}",
            layout.client_authority().display(),
            admin.cert.display(),
            admin.key.display()
        )
    });
    if let Some(api) = layout.balancer() {
        let count = endpoints.len();
        let kubeconfig = layout.kubeconfig();
        say(&format!(
            "\nThe Kubernetes API is served by {count} masters, at {api} by whichever is up. Try:\n\n  \
             export KUBECONFIG={}",
            kubeconfig.display()
        ));
        for line in if layout.hollow() > 0 {
            WITH_NODES
        } else {
            WITHOUT_NODES
        } {
            say(&format!("  {line}"));
        }
    }
    let end = match temporary::is(layout.dir()) {
        true => "Ctrl-C stops everything and removes its data; --keep or --data DIR keeps it.",
        false => "Ctrl-C stops everything; the same command resumes it.",
    };
    say(&format!(
        "\nThe store serves etcd's v3 API with {count} members. Try:\n\n  \
         etcdctl --endpoints {endpoints}{certificates} endpoint status --write-out table\n\n\
         or, for a whole shell session:\n\n  \
         set -a; . {dir}/etcdctl.env; set +a\n  \
         etcdctl put hello world && etcdctl get hello\n\n\
         Kill a member and watch the others go on; then bring it back:\n\n  \
         kill -9 $(cat {dir}/master-1/pid)\n  \
         trireme dev start master-1 --data {dir}\n\n\
         {end}\n",
        count = endpoints.len(),
        endpoints = endpoints.join(","),
    ));
    say("ready");
}

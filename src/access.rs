//! How commands reach the API: a kubeconfig, found as kubectl finds it, and the servers that it leads to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use client::Identity;
use client::remote::{Config, Remote, Source, Timings};
use deploy::kubeconfig::{self, Server};
use seams::{Seams, Tasks};

/// Whose requests these are, to the API server.
const AGENT: &str = "trireme";

/// The cluster that a kubeconfig leads to. Its connections end with the process.
pub(crate) struct Cluster {
    pub(crate) seams: Seams,
    config: Config,
    /// The server of the context, then others of the same cluster.
    servers: Vec<Server>,
    tasks: Tasks,
}

impl Cluster {
    pub(crate) fn open(path: &Path, context: Option<&str>) -> Result<Cluster> {
        let seams = Seams::real();
        let config = Config::kubeconfig(path, context, &*seams.disk)?;
        let servers = kubeconfig::servers(path, context)?;
        let tasks = seams.tasks();
        Ok(Cluster {
            seams,
            config,
            servers,
            tasks,
        })
    }

    /// The server of the context.
    pub(crate) fn server(&self) -> &str {
        self.config.servers.first().map_or("", String::as_str)
    }

    /// The authority by which its servers are known, in PEM; none if the kubeconfig names none.
    pub(crate) fn authority(&self) -> Result<Option<Vec<u8>>> {
        Ok(match &self.config.ca {
            None => None,
            Some(Source::Bytes(bytes)) => Some(bytes.clone()),
            Some(Source::File(path)) => Some(self.seams.disk.read(path)?),
        })
    }

    /// All servers that the kubeconfig names.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// A client of all servers, whichever is up.
    pub(crate) fn client(&self) -> Result<kube::Client> {
        let servers = self.servers.iter().map(|server| server.url.clone());
        self.connected(servers.collect(), Timings::default())
    }

    /// A client of one server, which fails soon if that is down.
    pub(crate) fn of_one(&self, url: &str, patience: Duration) -> Result<kube::Client> {
        let timings = Timings {
            connect: patience,
            ..Timings::default()
        };
        self.connected(vec![url.to_string()], timings)
    }

    fn connected(&self, servers: Vec<String>, timings: Timings) -> Result<kube::Client> {
        let servers = servers.iter().map(|url| url.trim_end_matches('/').into());
        let config = Config {
            servers: servers.collect(),
            timings,
            ..self.config.clone()
        };
        let access = Remote::access(AGENT, &config, &self.seams, &self.tasks)?;
        Ok(access.client(&Identity::Component, None))
    }
}

/// The kubeconfig that somebody means: the named one, else that of $KUBECONFIG, else ~/.kube/config, else
/// that of the user's own `trireme dev`.
pub(crate) fn kubeconfig(named: Option<&Path>) -> Result<PathBuf> {
    let own = || {
        let config = PathBuf::from(std::env::var_os("HOME")?).join(".kube/config");
        config.exists().then_some(config)
    };
    let dev = || {
        let config = crate::dev::default_dir().ok()?.join("kubeconfig");
        config.exists().then_some(config)
    };
    let found = named.map(Path::to_path_buf);
    let found = found.or_else(from_environment).or_else(own).or_else(dev);
    found.context("no kubeconfig is found: give one by --kubeconfig or KUBECONFIG")
}

/// The file of $KUBECONFIG: of several the first that is there.
pub(crate) fn from_environment() -> Option<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG")?;
    let mut files = std::env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty());
    let first = files.next()?;
    let others = files.find(|path| path.exists());
    match first.exists() {
        true => Some(first),
        // A name that leads nowhere is better complained about than passed over.
        false => Some(others.unwrap_or(first)),
    }
}

/// The kubeconfig that entries are merged into: the named one, else the first of $KUBECONFIG, else
/// ~/.kube/config.
pub(crate) fn to_write(named: Option<PathBuf>) -> Result<PathBuf> {
    let listed = || {
        let listed = std::env::var_os("KUBECONFIG")?;
        std::env::split_paths(&listed).find(|path| !path.as_os_str().is_empty())
    };
    let own = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config"));
    let found = named.or_else(listed).or_else(own);
    found.context("neither KUBECONFIG nor HOME is set: name the file, --write-kubeconfig=FILE")
}

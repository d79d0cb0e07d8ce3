//! What a local cluster consists of, and where its files and ports are.

mod definition;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use crate::config::values::{InitialMember, Url};
use crate::config::{
    self, ApiConfig, ConfigError, ControllersConfig, NodeConfig, ServerConfig, Sources,
    StoreConfig, differing,
};
use crate::files;
use crate::kubeconfig::Entry;
use crate::pki::{API_NAMES, Authority, LEAF_LIFE, Pair, PkiError, Request, Usage};
use definition::Definition;

/// Ports that belong to one master.
pub const PORTS_PER_MASTER: u16 = 10;

/// The first master then has etcd's own ports, 2379 and 2380.
pub const DEFAULT_PORT_BASE: u16 = 2369;

/// So many hollow nodes have a process each.
const NODES_APART: u32 = 9;

/// Why a local cluster cannot run.
#[derive(Debug, Error)]
pub enum LocalError {
    /// A file or socket of the cluster failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The members' settings cannot be used.
    #[error("{unit}")]
    Config {
        /// Whose settings.
        unit: Unit,
        /// What is wrong with them.
        source: ConfigError,
    },
    /// The options make no sense, or do not fit the cluster that the directory holds.
    #[error("{0}")]
    Options(String),
    /// Another supervisor has the directory.
    #[error(
        "another process (pid {pid}) runs the cluster in {dir}: stop it first, or use another directory"
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other process.
        pid: String,
    },
    /// A member ended by itself before the cluster served.
    #[error("{name} ended at its start ({how}); the end of {log}:\n{tail}")]
    Failed {
        /// Which member.
        name: String,
        /// Its exit status.
        how: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// No supervisor runs there.
    #[error("no cluster runs in {dir}: start it with `trireme dev --data {dir}`")]
    NotRunning {
        /// The directory.
        dir: PathBuf,
    },
    /// A supervisor refused a request.
    #[error("{0}")]
    Refused(String),
}

impl LocalError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalError {
        let path = path.to_path_buf();
        move |source| LocalError::Io {
            action,
            path,
            source,
        }
    }
}

/// What cluster to run. What is `None` is taken from the directory, else from the defaults.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The directory of the cluster.
    pub data: PathBuf,
    /// How many masters, from 1 to 9. Default: 3.
    pub masters: Option<u16>,
    /// See [`PORTS_PER_MASTER`]. Default: [`DEFAULT_PORT_BASE`].
    pub port_base: Option<u16>,
    /// Plain text on loopback instead of mTLS. Default: mTLS.
    pub insecure: Option<bool>,
    /// The store alone instead of whole masters. Default: masters.
    pub store_only: Option<bool>,
    /// How many hollow nodes. Default: none.
    pub hollow: Option<u32>,
    /// Further settings of every member, by key.
    pub settings: BTreeMap<String, String>,
    /// Further settings of every process that runs nodes, by key.
    pub node_settings: BTreeMap<String, String>,
    /// A directory of manifests that is kept applied as long as this supervisor runs. Default: none.
    pub manifests: Option<PathBuf>,
    /// An address of this machine at which pods reach the API: that of the service `kubernetes`. Default:
    /// none, the API is reached over loopback alone.
    pub advertise_address: Option<IpAddr>,
}

/// A process of a local cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A master, from 1.
    Master(u16),
    /// A process that runs hollow nodes, from 1.
    Node(u16),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Master(number) => write!(f, "master-{number}"),
            Unit::Node(number) => write!(f, "node-{number}"),
        }
    }
}

/// A cluster's directory: its files, addresses and ports.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    definition: Definition,
    manifests: Option<PathBuf>,
}

impl Layout {
    /// Opens the directory, which is made for a new cluster.
    ///
    /// # Errors
    /// If the directory cannot be used, or holds another cluster than the options describe.
    pub fn open(options: &Options) -> Result<Layout, LocalError> {
        let dir = &options.data;
        files::private_dir(dir).map_err(LocalError::io("create", dir))?;
        let dir = dir.canonicalize().map_err(LocalError::io("open", dir))?;
        let path = dir.join("cluster.yaml");
        let held = match fs::read_to_string(&path) {
            Ok(text) => Some(Definition::read(&path, &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LocalError::io("read", &path)(error)),
        };
        let definition = Definition::new(options, held.as_ref(), &dir)?;
        let manifests = options.manifests.as_deref();
        let manifests = manifests
            .map(|dir| manifests_dir(dir, &definition))
            .transpose()?;
        if held.as_ref() != Some(&definition) {
            let text = serde_yaml_ng::to_string(&definition)
                .map_err(|error| LocalError::Options(error.to_string()))?;
            files::replace(&path, text.as_bytes(), files::PUBLIC)
                .map_err(LocalError::io("write", &path))?;
        }
        Ok(Layout {
            dir,
            definition,
            manifests,
        })
    }

    /// The directory; an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The numbers of the masters.
    pub fn masters(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.definition.masters
    }

    /// The processes that run hollow nodes: one each, so that they can be killed one by one; beyond
    /// some number one for all.
    pub fn nodes(&self) -> impl Iterator<Item = Unit> + use<> {
        let processes = match self.definition.hollow {
            few if few <= NODES_APART => few,
            _ => 1,
        };
        (1..=u16::try_from(processes).unwrap_or(1)).map(Unit::Node)
    }

    /// How many hollow nodes there are.
    pub fn hollow(&self) -> u32 {
        self.definition.hollow
    }

    /// All processes, masters first.
    pub fn units(&self) -> impl Iterator<Item = Unit> + use<> {
        self.masters().map(Unit::Master).chain(self.nodes())
    }

    /// The process with a name such as `master-2`.
    pub fn unit(&self, name: &str) -> Option<Unit> {
        self.units().find(|unit| unit.to_string() == name)
    }

    /// The name of a master.
    pub fn name(master: u16) -> String {
        Unit::Master(master).to_string()
    }

    /// Where a process keeps its files.
    pub fn unit_dir(&self, unit: Unit) -> PathBuf {
        self.dir.join(unit.to_string())
    }

    /// The configuration of a process.
    pub fn config_file(&self, unit: Unit) -> PathBuf {
        let name = match (unit, self.definition.store_only) {
            (Unit::Node(_), _) => "node.yaml",
            (Unit::Master(_), true) => "store.yaml",
            (Unit::Master(_), false) => "server.yaml",
        };
        self.unit_dir(unit).join(name)
    }

    /// The process ID of a process.
    pub fn pid_file(&self, unit: Unit) -> PathBuf {
        self.unit_dir(unit).join("pid")
    }

    /// The log of a process.
    pub fn log_file(&self, unit: Unit) -> PathBuf {
        self.unit_dir(unit).join("log")
    }

    /// The settings of etcdctl.
    pub fn env_file(&self) -> PathBuf {
        self.dir.join("etcdctl.env")
    }

    /// The certificate with which an administrator connects; `None` without TLS.
    pub fn admin(&self) -> Option<Pair> {
        (!self.definition.insecure).then(|| Pair::at(&self.pki(), "admin"))
    }

    /// The authority of the certificates that clients see.
    pub fn client_authority(&self) -> PathBuf {
        self.pki().join("ca.crt")
    }

    /// Where clients reach a master.
    pub fn client_url(&self, master: u16) -> Url {
        self.url(master, 0)
    }

    /// Where peers reach a master.
    pub fn peer_url(&self, master: u16) -> Url {
        self.url(master, 1)
    }

    /// Where clients reach the API of a master; `None` where there is only a store.
    pub fn api_url(&self, master: u16) -> Option<Url> {
        (!self.definition.store_only).then(|| Url {
            secure: true,
            ..self.url(master, 2)
        })
    }

    /// Where clients reach the API whichever master is up; `None` where there is only a store.
    pub fn balancer(&self) -> Option<Url> {
        (!self.definition.store_only).then(|| Url {
            secure: true,
            host: "127.0.0.1".into(),
            port: self.definition.port_base,
        })
    }

    /// Where others than this machine reach the API: through the balancer too, for an address has one port
    /// in a service.
    pub fn advertised(&self) -> Option<Url> {
        Some(Url {
            host: self.definition.advertise_address?.to_string(),
            ..self.balancer()?
        })
    }

    /// Whether masters run controllers: only then is there what these make.
    pub fn has_controllers(&self) -> bool {
        let setting = self.definition.settings.get("enable-controllers");
        setting.is_none_or(|enabled| enabled != "false")
    }

    /// How kubectl reaches the cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// What other kubeconfigs are given: the way to whichever master is up, then one to each.
    ///
    /// # Errors
    /// If a certificate cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, LocalError> {
        super::kubeconfig::entries(self)
    }

    /// The authority of the certificates that clients of the API see and show.
    pub fn api_authority(&self) -> PathBuf {
        self.pki().join("api-ca.crt")
    }

    /// The certificate of the API's administrator.
    pub fn api_admin(&self) -> Pair {
        Pair::at(&self.pki(), "api-admin")
    }

    fn url(&self, master: u16, offset: u16) -> Url {
        let port = self.definition.port_base + PORTS_PER_MASTER * master + offset;
        Url {
            secure: !self.definition.insecure,
            host: "127.0.0.1".into(),
            port,
        }
    }

    fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Makes everything that the members start from: certificates, configurations, `etcdctl.env`.
    ///
    /// # Errors
    /// If a file cannot be written, or the settings cannot be used.
    pub fn prepare(&self) -> Result<(), LocalError> {
        for unit in self.units() {
            let dir = self.unit_dir(unit);
            files::private_dir(&dir).map_err(LocalError::io("create", &dir))?;
        }
        if !self.definition.insecure {
            self.certify()?;
        }
        if !self.definition.store_only {
            self.certify_api()?;
        }
        for master in self.masters() {
            self.configure(master)?;
        }
        for node in self.nodes() {
            self.configure_node(node)?;
        }
        if !self.definition.store_only {
            let path = self.kubeconfig();
            let text = super::kubeconfig::text(self)?;
            files::replace(&path, text.as_bytes(), files::SECRET)
                .map_err(LocalError::io("write", &path))?;
        }
        let path = self.env_file();
        files::replace(&path, self.etcdctl_env().as_bytes(), files::PUBLIC)
            .map_err(LocalError::io("write", &path))
    }

    /// An authority of the API's own, so that its users have no way into the store.
    fn certify_api(&self) -> Result<(), LocalError> {
        let pki = self.pki();
        let now = SystemTime::now();
        let authority = Authority::open_or_create(&pki, "api-ca", "kubernetes")?;
        for master in self.masters() {
            let name = format!("{}-api", Layout::name(master));
            let mut request = member_request(&Layout::name(master), Usage::Server);
            request.common_name = "kube-apiserver".into();
            request.names.extend(API_NAMES.map(String::from));
            let advertised = self.definition.advertise_address;
            request.names.extend(advertised.map(|ip| ip.to_string()));
            let pair = authority.ensure(&pki, &name, &request)?;
            authority.renew(&pair, &request, now)?;
        }
        let admin = Request {
            common_name: "kubernetes-admin".into(),
            organizations: vec!["system:masters".into()],
            names: Vec::new(),
            usage: Usage::Client,
            life: LEAF_LIFE,
        };
        let pair = authority.ensure(&pki, "api-admin", &admin)?;
        authority.renew(&pair, &admin, now)?;
        if !self.shares_process() {
            for node in self.nodes() {
                let request = Request {
                    common_name: format!("system:node:{node}"),
                    organizations: vec!["system:nodes".into()],
                    ..admin.clone()
                };
                let pair = authority.ensure(&pki, &node.to_string(), &request)?;
                authority.renew(&pair, &request, now)?;
            }
        }
        crate::pki::ensure_key(&pki.join("service-accounts.key"))?;
        Ok(())
    }

    /// Two authorities, so that a client's certificate does not open the door of the peers.
    fn certify(&self) -> Result<(), LocalError> {
        let pki = self.pki();
        let now = SystemTime::now();
        let clients = Authority::open_or_create(&pki, "ca", "trireme-ca")?;
        let peers = Authority::open_or_create(&pki, "peer-ca", "trireme-peer-ca")?;
        for master in self.masters() {
            let name = Layout::name(master);
            let server = member_request(&name, Usage::Server);
            let pair = clients.ensure(&pki, &name, &server)?;
            clients.renew(&pair, &server, now)?;
            let peer = member_request(&name, Usage::Peer);
            let pair = peers.ensure(&pki, &format!("{name}-peer"), &peer)?;
            peers.renew(&pair, &peer, now)?;
        }
        let admin = Request {
            common_name: "admin".into(),
            organizations: vec!["trireme:admins".into()],
            names: Vec::new(),
            usage: Usage::Client,
            life: LEAF_LIFE,
        };
        let pair = clients.ensure(&pki, "admin", &admin)?;
        clients.renew(&pair, &admin, now)?;
        Ok(())
    }

    fn configure(&self, master: u16) -> Result<(), LocalError> {
        let path = self.config_file(Unit::Master(master));
        let text = self
            .settings(master)
            .map_err(|e| LocalError::Options(e.to_string()))?;
        files::replace(&path, text.as_bytes(), files::PUBLIC)
            .map_err(LocalError::io("write", &path))?;
        // What the member would refuse is refused here, where somebody is looking.
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        let loaded = match self.definition.store_only {
            true => config::load::<StoreConfig>(&sources).map(drop),
            false => config::load::<ServerConfig>(&sources).map(drop),
        };
        loaded.map_err(|source| LocalError::Config {
            unit: Unit::Master(master),
            source,
        })
    }

    /// The settings of a master that differ from the defaults.
    fn settings(&self, master: u16) -> Result<String, serde_yaml_ng::Error> {
        let store = self.store_config(master);
        let mut settings = differing(&store, &StoreConfig::default())?;
        if let Some(api) = self.api_config(master) {
            settings.extend(differing(&api, &ApiConfig::default())?);
            let controllers = self.controllers_config();
            settings.extend(differing(&controllers, &ControllersConfig::default())?);
        }
        if let Some(dir) = &self.manifests {
            settings.insert("manifests-dir".into(), dir.display().to_string().into());
        }
        for (key, value) in &self.definition.settings {
            settings.insert(key.as_str().into(), value.as_str().into());
        }
        written(&settings, "--set")
    }

    /// Whether one process runs all nodes, which impersonates them.
    fn shares_process(&self) -> bool {
        self.definition.hollow > NODES_APART
    }

    fn configure_node(&self, node: Unit) -> Result<(), LocalError> {
        let wrong = |error: serde_yaml_ng::Error| LocalError::Options(error.to_string());
        let Unit::Node(number) = node else {
            return Ok(());
        };
        let kubeconfig = self.unit_dir(node).join("kubeconfig");
        let pair = match self.shares_process() {
            true => self.api_admin(),
            false => Pair::at(&self.pki(), &node.to_string()),
        };
        let text = super::kubeconfig::of_node(self, &pair)?;
        files::replace(&kubeconfig, text.as_bytes(), files::SECRET)
            .map_err(LocalError::io("write", &kubeconfig))?;
        let mut config = NodeConfig::default();
        config.process.name = Some(node.to_string());
        config.process.kubeconfig = Some(kubeconfig);
        // Each process knows all masters, and goes on with the others when one dies.
        config.process.servers = self.masters().filter_map(|n| self.api_url(n)).collect();
        config.impersonate = self.shares_process();
        config.first_node = u32::from(number);
        config.hollow = match self.shares_process() {
            true => self.definition.hollow,
            false => 1,
        };
        let mut settings = differing(&config, &NodeConfig::default()).map_err(wrong)?;
        for (key, value) in &self.definition.node_settings {
            settings.insert(key.as_str().into(), value.as_str().into());
        }
        let text = written(&settings, "--node-set").map_err(wrong)?;
        let path = self.config_file(node);
        files::replace(&path, text.as_bytes(), files::PUBLIC)
            .map_err(LocalError::io("write", &path))?;
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        let loaded = config::load::<NodeConfig>(&sources);
        let wrong = |source| LocalError::Config { unit: node, source };
        loaded.map(drop).map_err(wrong)
    }

    /// The API's authority signs certificates that are asked for, and is the one that pods know.
    fn controllers_config(&self) -> ControllersConfig {
        ControllersConfig {
            root_ca_file: Some(self.api_authority()),
            cluster_signing_cert_file: Some(self.api_authority()),
            cluster_signing_key_file: Some(self.pki().join("api-ca.key")),
            ..ControllersConfig::default()
        }
    }

    fn api_config(&self, master: u16) -> Option<ApiConfig> {
        let name = Layout::name(master);
        let pki = self.pki();
        Some(ApiConfig {
            listen_api_url: self.api_url(master)?,
            tls_cert_file: Some(pki.join(format!("{name}-api.crt"))),
            tls_private_key_file: Some(pki.join(format!("{name}-api.key"))),
            api_client_ca_file: Some(self.api_authority()),
            service_account_key_file: Some(pki.join("service-accounts.key")),
            advertise_api_urls: self.advertised().into_iter().collect(),
            ..ApiConfig::default()
        })
    }

    fn store_config(&self, master: u16) -> StoreConfig {
        let name = Layout::name(master);
        let founder = |n| InitialMember {
            name: Layout::name(n),
            url: self.peer_url(n),
        };
        let pki = self.pki();
        let secure = !self.definition.insecure;
        let file = |name: String| secure.then(|| pki.join(name));
        StoreConfig {
            data_dir: self.unit_dir(Unit::Master(master)).join("data"),
            listen_client_urls: vec![self.client_url(master)],
            listen_peer_urls: vec![self.peer_url(master)],
            initial_cluster: self.masters().map(founder).collect(),
            initial_cluster_token: format!("dev-{}", self.definition.port_base),
            cert_file: file(format!("{name}.crt")),
            key_file: file(format!("{name}.key")),
            trusted_ca_file: file("ca.crt".into()),
            peer_cert_file: file(format!("{name}-peer.crt")),
            peer_key_file: file(format!("{name}-peer.key")),
            peer_trusted_ca_file: file("peer-ca.crt".into()),
            insecure: !secure,
            name,
            ..StoreConfig::default()
        }
    }

    /// The contents of `etcdctl.env`.
    ///
    /// Without TLS the names are there with empty values, so that sourcing the file also clears
    /// what another cluster's file has set; and endpoints have no scheme, which etcdctl 3.4 would
    /// send along as part of the host's name (our servers put up with that, few others do).
    fn etcdctl_env(&self) -> String {
        let endpoint = |n| match self.client_url(n) {
            url if url.secure => url.to_string(),
            url => url.authority(),
        };
        let endpoints: Vec<String> = self.masters().map(endpoint).collect();
        let file = |path: &Path| quoted(&path.display().to_string());
        let (authority, cert, key) = match self.admin() {
            Some(admin) => (
                file(&self.client_authority()),
                file(&admin.cert),
                file(&admin.key),
            ),
            None => Default::default(),
        };
        format!(
            "ETCDCTL_ENDPOINTS={}\nETCDCTL_CACERT={authority}\nETCDCTL_CERT={cert}\nETCDCTL_KEY={key}\n",
            endpoints.join(",")
        )
    }
}

/// The directory as processes elsewhere find it.
fn manifests_dir(dir: &Path, definition: &Definition) -> Result<PathBuf, LocalError> {
    if definition.store_only {
        let why = "a store alone has no API: leave out --store-only or --manifests";
        return Err(LocalError::Options(why.into()));
    }
    let found = dir.canonicalize().map_err(LocalError::io("open", dir))?;
    match found.is_dir() {
        true => Ok(found),
        false => Err(LocalError::Options(format!(
            "{} is no directory",
            dir.display()
        ))),
    }
}

/// A configuration file, with the flag that changes it.
fn written(settings: &serde_yaml_ng::Mapping, flag: &str) -> Result<String, serde_yaml_ng::Error> {
    let text = serde_yaml_ng::to_string(settings)?;
    let header = "# Written by `trireme dev` at every start. Lasting changes: trireme dev";
    Ok(format!("{header} {flag} KEY=VALUE\n{text}"))
}

fn member_request(name: &str, usage: Usage) -> Request {
    Request {
        common_name: name.into(),
        organizations: vec!["trireme:members".into()],
        names: vec![
            "localhost".into(),
            "127.0.0.1".into(),
            "::1".into(),
            name.into(),
        ],
        usage,
        life: LEAF_LIFE,
    }
}

/// A value as shells read it; plain where that is enough, since not only shells read the file.
fn quoted(text: &str) -> String {
    if text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-+:,@%=".contains(c))
    {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;

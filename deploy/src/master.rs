//! The files of a master on a machine of its own: certificates, configuration, kubeconfig. The first
//! master of a cluster makes the authorities, the others are given them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::values::{InitialMember, Url};
use crate::config::{
    self, ApiConfig, ConfigError, ControllersConfig, ServerConfig, Sources, StoreConfig, differing,
};
use crate::files;
use crate::join::bundle::{self, Bundle};
use crate::kubeconfig::{Credentials, Entry};
use crate::pki::ledger::Ledger;
use crate::pki::{API_NAMES, Authority, LEAF_LIFE, Pair, PkiError, Request, Usage};

/// Why the files of a master could not be made.
#[derive(Debug, Error)]
pub enum MasterError {
    /// There is a master already.
    #[error(
        "{0} is there already: this machine is a master, or was one; remove its directory first"
    )]
    Exists(PathBuf),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The settings cannot be used.
    #[error("the settings cannot be used")]
    Config(#[from] ConfigError),
    /// The settings cannot be written down.
    #[error("the settings cannot be written: {0}")]
    Settings(String),
}

/// A master to be.
#[derive(Debug, Clone)]
pub struct Master {
    /// Where certificates and configuration are.
    pub dir: PathBuf,
    /// Where the store keeps its data.
    pub data_dir: PathBuf,
    /// Its name; unique in the cluster.
    pub name: String,
    /// The address or host name under which other machines reach it.
    pub address: String,
    /// Further names under which clients reach the API, such as that of a load balancer.
    pub names: Vec<String>,
    /// Ports of the API, of the store's clients and of its peers.
    pub ports: Ports,
    /// Where clients reach the API whichever master is up; this one's address without.
    pub control_plane: Option<Url>,
}

/// The ports of a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Of the API.
    pub api: u16,
    /// Of the store, for clients.
    pub client: u16,
    /// Of the store, for peers.
    pub peer: u16,
}

impl Default for Ports {
    fn default() -> Ports {
        Ports {
            api: 6443,
            client: 2379,
            peer: 2380,
        }
    }
}

/// The authorities, by the names of their files and of themselves.
const AUTHORITIES: [(&str, &str); 3] = [
    ("ca", "trireme-ca"),
    ("peer-ca", "trireme-peer-ca"),
    ("api-ca", "kubernetes"),
];

const CONFIG_FILE: &str = "server.yaml";
const SERVICE_ACCOUNT_KEY: &str = "service-accounts.key";

impl Master {
    /// The directory of certificates.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The configuration for `trireme server`.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join(CONFIG_FILE)
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Where its peers reach its store.
    pub fn peer_url(&self) -> Url {
        self.url(self.ports.peer)
    }

    /// Where clients of the store reach it.
    pub fn client_url(&self) -> Url {
        self.url(self.ports.client)
    }

    /// Where clients reach the API.
    pub fn api_url(&self) -> Url {
        let own = self.url(self.ports.api);
        self.control_plane.clone().unwrap_or(own)
    }

    fn url(&self, port: u16) -> Url {
        Url {
            secure: true,
            host: self.address.clone(),
            port,
        }
    }

    /// Makes everything for the first master of a new cluster.
    ///
    /// # Errors
    /// If there is a master already, or a file cannot be made.
    pub fn found(&self) -> Result<(), MasterError> {
        self.refuse_existing()?;
        for (name, common_name) in AUTHORITIES {
            Authority::open_or_create(&self.pki(), name, common_name)?;
        }
        crate::pki::ensure_key(&self.pki().join(SERVICE_ACCOUNT_KEY))?;
        self.certify()?;
        let founder = InitialMember {
            name: self.name.clone(),
            url: self.peer_url(),
        };
        self.configure(&StoreConfig {
            initial_cluster: vec![founder],
            ..StoreConfig::default()
        })
    }

    /// Makes everything for another master of a cluster, of what a master of it handed over.
    ///
    /// # Errors
    /// If there is a master already, or a file cannot be made.
    pub fn join(&self, bundle: &Bundle) -> Result<(), MasterError> {
        self.refuse_existing()?;
        self.unpack(bundle)?;
        self.certify()?;
        let parse = |url: &String| {
            url.parse::<Url>()
                .map_err(|why| MasterError::Settings(format!("{url}: {why}")))
        };
        let join: Result<Vec<Url>, MasterError> = bundle.peer_urls.iter().map(parse).collect();
        self.configure(&StoreConfig {
            join: join?,
            ..StoreConfig::default()
        })
    }

    /// What another master needs, of what this one has.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn bundle(dir: &Path, peer_urls: Vec<String>) -> Result<Bundle, MasterError> {
        let pki = dir.join("pki");
        let pairs = AUTHORITIES.iter();
        let pairs = pairs.flat_map(|(name, _)| [format!("{name}.crt"), format!("{name}.key")]);
        let files = pairs.chain([SERVICE_ACCOUNT_KEY.to_string()]).map(|name| {
            let path = pki.join(&name);
            let text = std::fs::read_to_string(&path).map_err(|source| MasterError::File {
                action: "read",
                path,
                source,
            })?;
            Ok((name, text))
        });
        Ok(Bundle {
            format: bundle::FORMAT,
            files: files.collect::<Result<_, MasterError>>()?,
            peer_urls,
        })
    }

    /// Where clients reach the store of the master with this directory.
    ///
    /// # Errors
    /// If its configuration cannot be read.
    pub fn store_urls(dir: &Path) -> Result<Vec<Url>, MasterError> {
        let config: ServerConfig = config::load(&Sources {
            file: Some(dir.join(CONFIG_FILE)),
            ..Sources::default()
        })?;
        Ok(config.store.advertise_client_urls)
    }

    fn refuse_existing(&self) -> Result<(), MasterError> {
        match [self.config_file(), self.pki()]
            .into_iter()
            .find(|path| path.exists())
        {
            Some(path) => Err(MasterError::Exists(path)),
            None => Ok(()),
        }
    }

    fn unpack(&self, bundle: &Bundle) -> Result<(), MasterError> {
        let pki = self.pki();
        files::private_dir(&pki).map_err(failed("create", &pki))?;
        for (name, text) in &bundle.files {
            // Names come from elsewhere: nothing may lead out of the directory.
            if name.contains('/') || name.starts_with('.') {
                return Err(MasterError::Settings(format!("{name:?} is no file's name")));
            }
            let mode = match name.ends_with(".key") {
                true => files::SECRET,
                false => files::PUBLIC,
            };
            let path = pki.join(name);
            files::create(&path, text.as_bytes(), mode).map_err(failed("create", &path))?;
        }
        Ok(())
    }

    /// Makes the master's own certificates, which are renewed from then on.
    fn certify(&self) -> Result<(), MasterError> {
        let mut ledger = Ledger::open(&self.pki())?;
        ledger.ensure("ca", "store", &self.member(Usage::Server))?;
        ledger.ensure("peer-ca", "peer", &self.member(Usage::Peer))?;
        let mut api = self.member(Usage::Server);
        api.common_name = "kube-apiserver".into();
        api.organizations = Vec::new();
        api.names.extend(API_NAMES.map(String::from));
        api.names.extend(self.names.iter().cloned());
        api.names
            .extend(self.control_plane.iter().map(|url| url.host.clone()));
        ledger.ensure("api-ca", "api", &api)?;
        for (authority, name, common_name, group) in [
            ("ca", "admin", "admin", "trireme:admins"),
            ("api-ca", "api-admin", "kubernetes-admin", "system:masters"),
            (
                "api-ca",
                "kubelet-client",
                "kube-apiserver-kubelet-client",
                "system:masters",
            ),
        ] {
            let request = Request {
                common_name: common_name.into(),
                organizations: vec![group.into()],
                names: Vec::new(),
                usage: Usage::Client,
                life: LEAF_LIFE,
            };
            ledger.ensure(authority, name, &request)?;
        }
        Ok(())
    }

    fn member(&self, usage: Usage) -> Request {
        let own = ["localhost", "127.0.0.1", "::1", &self.name, &self.address];
        let mut names: Vec<String> = own.map(String::from).into();
        names.dedup();
        Request {
            common_name: self.name.clone(),
            organizations: vec!["trireme:members".into()],
            names,
            usage,
            life: LEAF_LIFE,
        }
    }

    /// Writes configuration and kubeconfig; a founder or joiner gives the settings of its start.
    fn configure(&self, start: &StoreConfig) -> Result<(), MasterError> {
        let file = |name: &str| Some(self.pki().join(name));
        let everywhere = |port| Url {
            secure: true,
            host: match self.address.parse::<IpAddr>() {
                Ok(IpAddr::V6(_)) => "::".into(),
                _ => "0.0.0.0".into(),
            },
            port,
        };
        let store = StoreConfig {
            name: self.name.clone(),
            data_dir: self.data_dir.clone(),
            listen_client_urls: vec![everywhere(self.ports.client)],
            advertise_client_urls: vec![self.client_url()],
            listen_peer_urls: vec![everywhere(self.ports.peer)],
            initial_advertise_peer_urls: vec![self.peer_url()],
            cert_file: file("store.crt"),
            key_file: file("store.key"),
            trusted_ca_file: file("ca.crt"),
            peer_cert_file: file("peer.crt"),
            peer_key_file: file("peer.key"),
            peer_trusted_ca_file: file("peer-ca.crt"),
            ..start.clone()
        };
        let api = ApiConfig {
            listen_api_url: everywhere(self.ports.api),
            advertise_api_urls: vec![self.url(self.ports.api)],
            tls_cert_file: file("api.crt"),
            tls_private_key_file: file("api.key"),
            api_client_ca_file: file("api-ca.crt"),
            service_account_key_file: file(SERVICE_ACCOUNT_KEY),
            kubelet_client_certificate: file("kubelet-client.crt"),
            kubelet_client_key: file("kubelet-client.key"),
            ..ApiConfig::default()
        };
        let wrong = |error: serde_yaml_ng::Error| MasterError::Settings(error.to_string());
        let mut settings = differing(&store, &StoreConfig::default()).map_err(wrong)?;
        settings.extend(differing(&api, &ApiConfig::default()).map_err(wrong)?);
        let controllers = ControllersConfig {
            root_ca_file: file("api-ca.crt"),
            cluster_signing_cert_file: file("api-ca.crt"),
            cluster_signing_key_file: file("api-ca.key"),
            ..ControllersConfig::default()
        };
        let signing = differing(&controllers, &ControllersConfig::default());
        settings.extend(signing.map_err(wrong)?);
        let text = serde_yaml_ng::to_string(&settings).map_err(wrong)?;
        let path = self.config_file();
        let text = format!("# Written by `trireme init` or `trireme join`, once.\n{text}");
        files::create(&path, text.as_bytes(), files::PUBLIC).map_err(failed("create", &path))?;
        config::load::<ServerConfig>(&Sources {
            file: Some(path),
            ..Sources::default()
        })?;
        let path = self.kubeconfig();
        let text = self.administrator()?.text();
        files::replace(&path, text.as_bytes(), files::SECRET).map_err(failed("write", &path))
    }

    /// How the administrator reaches the cluster.
    ///
    /// # Errors
    /// If a certificate cannot be read.
    pub fn administrator(&self) -> Result<Entry, MasterError> {
        let pair = Pair::at(&self.pki(), "api-admin");
        let read = |path: &Path| std::fs::read(path).map_err(failed("read", path));
        Ok(Entry {
            name: "trireme".into(),
            server: self.api_url().to_string(),
            authority: read(&self.pki().join("api-ca.crt"))?,
            user: Credentials::Certificate(read(&pair.cert)?, read(&pair.key)?),
        })
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> MasterError {
    let path = path.to_path_buf();
    move |source| MasterError::File {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(dir: &Path, name: &str) -> Master {
        Master {
            dir: dir.join(name),
            data_dir: dir.join("data"),
            name: name.into(),
            address: "10.0.0.1".into(),
            names: vec!["api.example.com".into()],
            ports: Ports::default(),
            control_plane: None,
        }
    }

    #[test]
    fn a_second_master_trusts_and_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (master(dir.path(), "a"), master(dir.path(), "b"));
        first.found().unwrap();
        assert!(matches!(first.found(), Err(MasterError::Exists(_))));
        let urls = vec![first.peer_url().to_string()];
        let bundle = Master::bundle(&first.dir, urls).unwrap();
        second.join(&bundle).unwrap();
        let read = |path: PathBuf| std::fs::read(path).unwrap();
        for name in ["ca.key", "api-ca.crt", SERVICE_ACCOUNT_KEY] {
            assert_eq!(
                read(first.pki().join(name)),
                read(second.pki().join(name)),
                "{name}"
            );
        }
        assert_ne!(
            read(first.pki().join("api.crt")),
            read(second.pki().join("api.crt"))
        );
        let sources = Sources {
            file: Some(second.config_file()),
            ..Sources::default()
        };
        let config = config::load::<ServerConfig>(&sources).unwrap();
        assert_eq!(config.store.join, [first.peer_url()]);
        let signer = &config.control_plane.controllers.cluster_signing_key_file;
        assert_eq!(*signer, Some(second.pki().join("api-ca.key")));
        assert_eq!(
            Master::store_urls(&first.dir).unwrap(),
            [first.client_url()]
        );
        let text = std::fs::read_to_string(first.kubeconfig()).unwrap();
        assert!(text.contains("https://10.0.0.1:6443"));
        let mut evil = bundle;
        evil.files.insert("../x.key".into(), String::new());
        assert!(matches!(
            master(dir.path(), "c").join(&evil),
            Err(MasterError::Settings(_))
        ));
    }
}

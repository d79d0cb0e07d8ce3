//! Where servers are, whom to trust and what to show, also as kubeconfigs say it. Files are read again
//! from time to time: certificates and tokens are replaced while clients run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::doc::Node;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use seams::{Disk, Seams};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Timings;
use crate::remote::any_server::AnyServer;

/// How old what was read from a file may become.
const REREAD: Duration = Duration::from_secs(30);
/// What a pod finds of its service account.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Bytes that stand in the configuration, or in a file that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The bytes.
    Bytes(Vec<u8>),
    /// The file.
    File(PathBuf),
}

impl Source {
    fn read(&self, disk: &dyn Disk) -> Result<Vec<u8>, ConfigError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => {
                let read = disk.read(path);
                read.map_err(|error| ConfigError(format!("{}: {error}", path.display())))
            }
        }
    }
}

/// How servers are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// All API servers, each `https://HOST:PORT`.
    pub servers: Vec<String>,
    /// Authorities of servers, in PEM.
    pub ca: Option<Source>,
    /// Servers are trusted whatever they show.
    pub is_insecure: bool,
    /// The name that servers' certificates have, if it is not that of the URL.
    pub server_name: Option<String>,
    /// Certificate chain and key to show, in PEM.
    pub certificate: Option<(Source, Source)>,
    /// The bearer token to show.
    pub token: Option<Source>,
    /// How soon dead servers are noticed.
    pub timings: Timings,
}

impl Config {
    /// What the current context of a kubeconfig says, or another one. All contexts' servers of the same
    /// authority are not guessed: name more [servers](Self::servers) afterwards.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or makes no sense.
    pub fn kubeconfig(
        path: &Path,
        context: Option<&str>,
        disk: &dyn Disk,
    ) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError(format!("{}: {why}", path.display()));
        let bytes = disk.read(path).map_err(|error| wrong(error.to_string()))?;
        let (doc, _) = api::codec::yaml::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
        let root = doc.root();
        let name = context.unwrap_or_else(|| root.text(&["current-context"]));
        let context = named(root, "contexts", name, "context");
        let context = context.ok_or_else(|| wrong(format!("there is no context {name:?}")))?;
        let cluster = named(root, "clusters", context.text(&["cluster"]), "cluster");
        let cluster =
            cluster.ok_or_else(|| wrong(format!("the context {name:?} has no cluster")))?;
        let user = named(root, "users", context.text(&["user"]), "user");
        let directory = path.parent().unwrap_or(Path::new(""));
        let part = |node: Node<'_>, key: &str| part(node, key, directory).map_err(wrong);
        let mut config = Self {
            servers: vec![cluster.text(&["server"]).to_string()],
            ca: part(cluster, "certificate-authority")?,
            is_insecure: cluster
                .get("insecure-skip-tls-verify")
                .and_then(Node::as_bool)
                == Some(true),
            server_name: text(cluster, "tls-server-name"),
            ..Self::default()
        };
        if let Some(user) = user {
            let certificate = part(user, "client-certificate")?;
            config.certificate = certificate.zip(part(user, "client-key")?);
            config.token = match text(user, "tokenFile") {
                Some(file) => Some(Source::File(directory.join(file))),
                None => text(user, "token").map(|token| Source::Bytes(token.into_bytes())),
            };
        }
        Ok(config)
    }

    /// What a pod shows: the token of its service account. Where the server is, stands in the
    /// environment.
    pub fn in_cluster(host: &str, port: &str) -> Self {
        let file = |name: &str| Source::File(Path::new(IN_CLUSTER).join(name));
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_string(),
        };
        Self {
            servers: vec![format!("https://{host}:{port}")],
            ca: Some(file("ca.crt")),
            token: Some(file("token")),
            ..Self::default()
        }
    }

    /// The same servers, shown nothing.
    pub fn without_credentials(&self) -> Self {
        Self {
            certificate: None,
            token: None,
            ..self.clone()
        }
    }
}

fn named<'d>(root: Node<'d>, list: &str, name: &str, inner: &str) -> Option<Node<'d>> {
    let mut entries = root.get(list)?.children();
    let found = entries.find(|entry| entry.text(&["name"]) == name)?;
    found.get(inner)
}

fn text(node: Node<'_>, key: &str) -> Option<String> {
    let text = node.text(&[key]);
    (!text.is_empty()).then(|| text.to_string())
}

/// What stands in a kubeconfig itself, or in a file that it names.
fn part(node: Node<'_>, key: &str, directory: &Path) -> Result<Option<Source>, String> {
    if let Some(data) = text(node, &format!("{key}-data")) {
        let bytes = STANDARD.decode(data);
        return match bytes {
            Ok(bytes) => Ok(Some(Source::Bytes(bytes))),
            Err(error) => Err(format!("{key}-data: {error}")),
        };
    }
    Ok(text(node, key).map(|file| Source::File(directory.join(file))))
}

/// What is shown in headers.
pub(super) struct Credentials {
    token: Option<Source>,
    disk: Arc<dyn Disk>,
    state: Mutex<Option<(Instant, HeaderValue)>>,
}

impl Credentials {
    pub(super) fn new(config: &Config, seams: &Seams) -> Result<Self, ConfigError> {
        let credentials = Self {
            token: config.token.clone(),
            disk: seams.disk.clone(),
            state: Mutex::default(),
        };
        if credentials.token.is_some() {
            *lock(&credentials.state) = Some((Instant::now(), credentials.read()?));
        }
        Ok(credentials)
    }

    fn read(&self) -> Result<HeaderValue, ConfigError> {
        let token = self.token.as_ref().map(|token| token.read(&*self.disk));
        let token = token.transpose()?.unwrap_or_default();
        let token = String::from_utf8_lossy(&token);
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| ConfigError::new("the token is none"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The header that says who asks. A file that cannot be read now may be later.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.token.as_ref()?;
        let mut state = lock(&self.state);
        if state
            .as_ref()
            .is_none_or(|(read, _)| read.elapsed() >= REREAD)
        {
            match self.read() {
                Ok(value) => *state = Some((Instant::now(), value)),
                Err(error) => tracing::warn!(%error, "the token could not be read again"),
            }
        }
        state.as_ref().map(|(_, value)| value.clone())
    }
}

/// What TLS connections are made with.
pub(super) struct TlsParts {
    config: Config,
    disk: Arc<dyn Disk>,
    state: Mutex<Option<Tls>>,
}

struct Tls {
    read: Instant,
    bytes: [Vec<u8>; 3],
    connector: TlsConnector,
    generation: usize,
}

impl TlsParts {
    pub(super) fn new(config: &Config, seams: &Seams) -> Self {
        Self {
            config: config.clone(),
            disk: seams.disk.clone(),
            state: Mutex::default(),
        }
    }

    /// Makes connections; with what files say now, if they were not read for a while.
    pub(super) fn connector(&self) -> Result<TlsConnector, ConfigError> {
        let mut state = lock(&self.state);
        if let Some(tls) = &*state
            && tls.read.elapsed() < REREAD
        {
            return Ok(tls.connector.clone());
        }
        match self.read(state.as_ref()) {
            Ok(tls) => {
                let connector = tls.connector.clone();
                *state = Some(tls);
                Ok(connector)
            }
            Err(error) => match &mut *state {
                Some(tls) => {
                    tracing::warn!(%error, "certificates could not be read again");
                    tls.read = Instant::now();
                    Ok(tls.connector.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Changes when the certificates do.
    pub(super) fn generation(&self) -> usize {
        // An error was told when it occurred.
        let _ = self.connector();
        lock(&self.state).as_ref().map_or(0, |tls| tls.generation)
    }

    pub(super) fn for_server(
        &self,
        host: &str,
    ) -> Result<(TlsConnector, ServerName<'static>), ConfigError> {
        let name = self.config.server_name.as_deref().unwrap_or(host);
        let name = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_string();
        let name = ServerName::try_from(name);
        let name = name.map_err(|error| ConfigError(format!("{host}: {error}")))?;
        Ok((self.connector()?, name))
    }

    fn read(&self, old: Option<&Tls>) -> Result<Tls, ConfigError> {
        let read = |source: Option<&Source>| match source {
            Some(source) => source.read(&*self.disk),
            None => Ok(Vec::new()),
        };
        let certificate = self.config.certificate.as_ref();
        let bytes = [
            read(self.config.ca.as_ref())?,
            read(certificate.map(|(certificate, _)| certificate))?,
            read(certificate.map(|(_, key)| key))?,
        ];
        if let Some(old) = old.filter(|old| old.bytes == bytes) {
            return Ok(Tls {
                read: Instant::now(),
                bytes,
                connector: old.connector.clone(),
                generation: old.generation,
            });
        }
        let connector = connector(&bytes, self.config.is_insecure)?;
        Ok(Tls {
            read: Instant::now(),
            bytes,
            connector,
            generation: old.map_or(0, |old| old.generation + 1),
        })
    }
}

fn connector(
    [ca, certificate, key]: &[Vec<u8>; 3],
    is_insecure: bool,
) -> Result<TlsConnector, ConfigError> {
    let wrong = |error: &dyn std::fmt::Display| ConfigError(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong(&error))?;
    let builder = if is_insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer::new()))
    } else {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(ca) {
            let authority = authority.map_err(|error| wrong(&error))?;
            roots.add(authority).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(ConfigError::new("no authority of servers is named"));
        }
        builder.with_root_certificates(roots)
    };
    let mut config = if certificate.is_empty() {
        builder.with_no_client_auth()
    } else {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| wrong(&error))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(&error))?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map_err(|error| wrong(&error))?
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "current-context: b\ncontexts:\n- {name: a, context: {cluster: x, user: x}}\n\
        - {name: b, context: {cluster: y, user: y}}\nclusters:\n- {name: x, cluster: {server: \"https://x:1\"}}\n\
        - {name: y, cluster: {server: \"https://y:2\", certificate-authority: ca.crt, tls-server-name: z}}\n\
        users:\n- {name: y, user: {tokenFile: t, client-certificate-data: YQ==, client-key: k}}\n\
        - {name: x, user: {token: secret}}\n";

    #[test]
    fn a_kubeconfig_says_where_and_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let disk = seams::RealDisk;
        disk.write_atomic(&path, FILE.as_bytes()).unwrap();
        let file = |name: &str| Source::File(dir.path().join(name));
        let config = Config::kubeconfig(&path, None, &disk).unwrap();
        let wanted = Config {
            servers: vec!["https://y:2".to_string()],
            ca: Some(file("ca.crt")),
            server_name: Some("z".to_string()),
            certificate: Some((Source::Bytes(b"a".to_vec()), file("k"))),
            token: Some(file("t")),
            ..Config::default()
        };
        assert_eq!(config, wanted);
        let config = Config::kubeconfig(&path, Some("a"), &disk).unwrap();
        assert_eq!(config.token, Some(Source::Bytes(b"secret".to_vec())));
        assert!(Config::kubeconfig(&path, Some("c"), &disk).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_is_shown_once_the_file_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let seams = Seams::real();
        let write = |token: &str| seams.disk.write_atomic(&path, token.as_bytes()).unwrap();
        write("one\n");
        let config = Config {
            token: Some(Source::File(path.clone())),
            ..Config::default()
        };
        let credentials = Credentials::new(&config, &seams).unwrap();
        let shown = || credentials.authorization().unwrap();
        assert_eq!(shown(), "Bearer one");
        write("two\n");
        assert_eq!(shown(), "Bearer one");
        tokio::time::advance(REREAD).await;
        assert_eq!(shown(), "Bearer two");
        seams.disk.remove_file(&path).unwrap();
        tokio::time::advance(REREAD).await;
        assert_eq!(shown(), "Bearer two");
    }
}

//! `trireme apiserver`, and the API server within `trireme server`.

mod access;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use apiserver::allocation;
use apiserver::audit;
use apiserver::authentication::jwt::PublicKey;
use apiserver::discovery::{Addresses, Build};
use apiserver::encryption::Encryption;
use apiserver::instance::{Api, Parts};
use apiserver::outbound::kubeconfig;
use apiserver::service_account_tokens::{self, Issuer, SigningKey};
use apiserver::streams::backend::{Backends, KubeletFiles};
use apiserver::{server, tls::Tls};
use client::metrics::metrics;
use deploy::config::values::Url;
use deploy::config::{self, ApiConfig, ApiServerConfig, Sources};
use raft_store::Store;
use raft_store::remote::{RemoteConfig, RemoteStore};
use raft_store::server::tls::{ClientFiles, ClientTls};
use seams::{Seams, Tasks};
use tokio::time::sleep;

use crate::cli::ApiServerArguments;
use crate::notify;
use crate::run::{self, Signals};
use crate::telemetry;

/// How long a webhook may take to answer.
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(30);

/// Runs an API server until it is told to stop.
pub(crate) fn run(arguments: Box<ApiServerArguments>) -> Result<()> {
    let config: ApiServerConfig = config::load(&Sources {
        file: arguments.config.clone(),
        environment: run::environment(),
        flags: arguments.flags(),
    })?;
    let settings = telemetry::Settings::for_api_server(&config);
    run::serving(run::serving_runtime()?, &settings, alone(&config))
}

async fn alone(config: &ApiServerConfig) -> Result<()> {
    let mut signals = Signals::new()?;
    let seams = Seams::real();
    let tasks = seams.tasks();
    let store = remote(config, &seams, &tasks)?;
    let serving = start(&config.api, &config.name, Arc::new(store), &seams, &tasks).await?;
    notify::ready();
    let signal = signals.next().await;
    tracing::info!(signal, "stopping: watches end, requests are finished");
    notify::stopping();
    serving.leave().await;
    serving.shutdown().await;
    tasks.shutdown().await;
    Ok(())
}

fn remote(config: &ApiServerConfig, seams: &Seams, tasks: &Tasks) -> Result<RemoteStore> {
    let endpoints = config.etcd_servers.iter().map(Url::to_string);
    let mut remote = RemoteConfig::new(endpoints);
    if let Some(ca) = &config.etcd_cafile {
        let identity = config
            .etcd_certfile
            .clone()
            .zip(config.etcd_keyfile.clone());
        let files = ClientFiles {
            ca: ca.clone(),
            identity,
            server_name: None,
        };
        remote.tls = Some(ClientTls::load(files, &*seams.disk)?);
    }
    Ok(RemoteStore::new(remote, seams, tasks)?)
}

/// A running API server; its tasks end before those of its store.
pub(crate) struct Serving {
    tasks: Tasks,
    api: Arc<Api>,
    delay: Duration,
}

impl Serving {
    /// The server itself, for components of the same process.
    pub(crate) fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// How long [`Self::leave`] takes.
    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    /// Lets readiness fail for some time, so that balancers send clients elsewhere; all else goes on.
    pub(crate) async fn leave(&self) {
        self.api.leave();
        sleep(self.delay).await;
    }

    /// Takes no more requests, ends watches and finishes what is under way.
    pub(crate) async fn shutdown(self) {
        self.tasks.shutdown().await;
    }
}

/// Starts an API server over a store.
pub(crate) async fn start(
    config: &ApiConfig,
    name: &str,
    store: Arc<dyn Store>,
    seams: &Seams,
    tasks: &Tasks,
) -> Result<Serving> {
    let tasks = tasks.child();
    let (Some(cert), Some(key)) = (&config.tls_cert_file, &config.tls_private_key_file) else {
        return Err(anyhow!(
            "tls-cert-file and tls-private-key-file are not set"
        ));
    };
    let tls = Tls::load(cert, key, &*seams.disk)
        .with_context(|| format!("cannot use {} and {}", cert.display(), key.display()))?;
    tls.watch(seams.disk.clone(), &tasks);
    let address = config.listen_api_url.authority();
    let listener = seams.net.listen(&address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let mut parts = parts(config, name, seams, &tasks)?;
    parts.encryption = encryption(config, seams, &tasks)?;
    let api = Api::start(store, parts, seams, &tasks);
    let bound = server::serve(listener, tls, api.clone(), &tasks)?;
    tracing::info!(%bound, "the API is served");
    let delay = config.shutdown_delay_duration.0;
    Ok(Serving { tasks, api, delay })
}

fn read(path: &Path, seams: &Seams) -> Result<Vec<u8>> {
    let bytes = seams.disk.read(path);
    bytes.with_context(|| format!("cannot read {}", path.display()))
}

fn wrong(path: &Path, why: String) -> anyhow::Error {
    anyhow!("{}: {why}", path.display())
}

fn parts(config: &ApiConfig, name: &str, seams: &Seams, tasks: &Tasks) -> Result<Parts> {
    let advertised = config.advertise_api_urls.first();
    let address = advertised.unwrap_or(&config.listen_api_url).authority();
    let issuer = match &config.service_account_key_file {
        None => None,
        Some(path) => {
            let pem = read(path, seams)?;
            let signing = SigningKey::from_pem(&pem).map_err(|why| wrong(path, why))?;
            let settings = service_account_tokens::Config {
                issuer: config.service_account_issuer.clone(),
                api_audiences: vec![config.service_account_issuer.clone()],
                max_expiration_seconds: None,
                extends_expiration: true,
                jwks_uri: None,
                external_address: address.clone(),
            };
            let others = PublicKey::from_pem(&pem).unwrap_or_default();
            Some(Arc::new(Issuer::new(settings, signing, others)))
        }
    };
    Ok(Parts {
        name: name.to_string(),
        authentication: access::authentication(config, issuer.as_ref(), seams, tasks)?,
        authorization: access::authorization(config, seams)?,
        issuer,
        addresses: Addresses {
            default: address,
            rules: Vec::new(),
        },
        backends: backends(config, seams)?,
        services: allocation::Settings::of_blocks(&config.service_cluster_ip_range)
            .map_err(|why| anyhow!("service-cluster-ip-range: {why}"))?,
        build: build(),
        goaway_chance: config.goaway_chance,
        compaction_interval: config.etcd_compaction_interval.0,
        encryption: None,
        seats: config.max_requests_inflight + config.max_mutating_requests_inflight,
        memory_limit: config.memory_limit.0,
        audit: audit(config, seams)?,
        more_metrics: |out| metrics().write(out),
    })
}

/// What is encrypted at rest.
fn encryption(config: &ApiConfig, seams: &Seams, tasks: &Tasks) -> Result<Option<Arc<Encryption>>> {
    let Some(path) = &config.encryption_provider_config else {
        return Ok(None);
    };
    let loaded = Encryption::load(path.clone(), seams, tasks);
    Ok(Some(loaded.map_err(|why| anyhow!("{why}"))?))
}

/// What is recorded of requests.
fn audit(config: &ApiConfig, seams: &Seams) -> Result<Option<audit::Config>> {
    let Some(path) = &config.audit_policy_file else {
        return Ok(None);
    };
    let text = seams.disk.read(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let policy = audit::policy::Policy::parse(&text);
    let policy = policy.map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let log = config
        .audit_log_path
        .clone()
        .map(|path| audit::log::Config {
            path,
            max_megabytes: config.audit_log_maxsize,
            max_backups: config.audit_log_maxbackup,
            max_days: config.audit_log_maxage,
        });
    let webhook = match &config.audit_webhook_config_file {
        None => None,
        Some(path) => {
            let (client, url) = kubeconfig::client(path, WEBHOOK_PATIENCE, seams)
                .map_err(|why| anyhow!("{why}"))?;
            Some(audit::webhook::Config { client, url })
        }
    };
    let is_anywhere = log.is_some() || webhook.is_some();
    Ok(is_anywhere.then_some(audit::Config {
        policy,
        log,
        webhook,
    }))
}

/// How kubelets are reached.
fn backends(config: &ApiConfig, seams: &Seams) -> Result<Arc<Backends>> {
    let certificate = config.kubelet_client_certificate.clone();
    let files = KubeletFiles {
        client: certificate.zip(config.kubelet_client_key.clone()),
        authority: config.kubelet_certificate_authority.clone(),
    };
    let types = config.kubelet_preferred_address_types.clone();
    Backends::load(files, types, seams).map_err(|why| anyhow!("certificates for kubelets: {why}"))
}

/// What was built, of `VERSION (COMMIT DATE)`.
fn build() -> Build {
    let long = env!("LONG_VERSION");
    let inner = long.split_once('(').map_or("", |(_, rest)| rest);
    let inner = inner.trim_end_matches(')');
    let (commit, date) = inner.rsplit_once(' ').unwrap_or((inner, ""));
    Build {
        commit,
        date,
        ..Build::default()
    }
}

//! The settings of controllers and scheduler, as these take them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use api::codec::json;
use api::values::ip::Cidr;
use apiserver::service_account_tokens::SigningKey;
use controllers::settings::{Signer, TokenSigner};
use controllers::{Row, Settings, cloud, controller, node_ipam};
use deploy::config::values::CloudProvider;
use deploy::config::{CloudConfig, ConfigError, ControllersConfig, Problem};
use seams::Seams;

/// Names of controllers that do not exist are mistakes.
pub(super) fn check(rows: &[Row], wanted: &[String]) -> Result<(), ConfigError> {
    let unknown = controller::unknown(rows, wanted);
    if unknown.is_empty() {
        return Ok(());
    }
    let known: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let (unknown, known) = (unknown.join(", "), known.join(", "));
    Err(wrong(
        "controllers",
        format!("there is no {unknown}; there are {known}"),
    ))
}

/// Of the controllers. `key` signs tokens where no other key is named.
pub(super) fn controllers(
    config: &ControllersConfig,
    key: Option<&Path>,
    seams: &Seams,
) -> Result<Settings> {
    let root_ca = match &config.root_ca_file {
        None => String::new(),
        Some(path) => String::from_utf8_lossy(&read(path, seams)?).into_owned(),
    };
    let signer = config
        .cluster_signing_cert_file
        .clone()
        .zip(config.cluster_signing_key_file.clone())
        .map(|(certificate, key)| Signer {
            life: config.cluster_signing_duration.0,
            ..Signer::new(certificate, key)
        });
    let key = config.service_account_private_key_file.as_deref().or(key);
    Ok(Settings {
        controllers: config.controllers.clone(),
        cluster_name: config.cluster_name.clone(),
        root_ca,
        terminated_pod_threshold: config.terminated_pod_gc_threshold,
        token_signer: key.map(|path| token_signer(path, seams)).transpose()?,
        node_ipam: node_ipam(config)?,
        signer,
        ..Settings::default()
    })
}

fn token_signer(path: &Path, seams: &Seams) -> Result<TokenSigner> {
    let key = SigningKey::from_pem(&read(path, seams)?);
    let key = Arc::new(key.map_err(|why| anyhow!("{}: {why}", path.display()))?);
    Ok(TokenSigner::new(move |claims| {
        let claims = json::parse(claims.as_bytes().to_vec()).map_err(|error| error.to_string())?;
        key.sign(&claims)
    }))
}

fn node_ipam(config: &ControllersConfig) -> Result<node_ipam::Settings, ConfigError> {
    let mut settings = node_ipam::Settings::default();
    if !config.allocate_node_cidrs {
        return Ok(settings);
    }
    for text in &config.cluster_cidr {
        let block = Cidr::parse(text);
        let block =
            block.ok_or_else(|| wrong("cluster-cidr", format!("`{text}` is not a block")))?;
        let bits = match block.is_v6() {
            true => config.node_cidr_mask_size_ipv6,
            false => config.node_cidr_mask_size_ipv4,
        };
        settings.cluster.push((block, bits));
    }
    match settings.pools() {
        Ok(_) => Ok(settings),
        Err(error) => Err(wrong("cluster-cidr", error.to_string())),
    }
}

/// Of the controllers that know the place.
pub(super) fn cloud(config: &CloudConfig) -> Result<Settings, ConfigError> {
    let pool = |text: &String| {
        let range = cloud::local::plan::Range::parse(text);
        range.ok_or_else(|| {
            let message = format!("`{text}` is neither a block nor FROM-TO");
            wrong("load-balancer-pools", message)
        })
    };
    let cloud = match config.cloud_provider {
        CloudProvider::Local => cloud::Config::Local(cloud::local::Config {
            pools: config
                .load_balancer_pools
                .iter()
                .map(pool)
                .collect::<Result<_, _>>()?,
        }),
        CloudProvider::Grpc => {
            cloud::Config::Grpc(config.cloud_provider_address.clone().unwrap_or_default())
        }
    };
    Ok(Settings {
        controllers: config.controllers.clone(),
        cluster_name: config.cluster_name.clone(),
        cloud,
        ..Settings::default()
    })
}

/// Of the scheduler.
pub(crate) fn scheduler(file: Option<&Path>, seams: &Seams) -> Result<scheduler::config::Config> {
    let Some(path) = file else {
        return Ok(scheduler::config::Config::default());
    };
    let text = String::from_utf8_lossy(&read(path, seams)?).into_owned();
    let config = scheduler::config::Config::parse(&text);
    Ok(config.map_err(|why| wrong("scheduler-config", format!("{}: {why}", path.display())))?)
}

fn read(path: &Path, seams: &Seams) -> Result<Vec<u8>> {
    let bytes = seams.disk.read(path);
    bytes.with_context(|| format!("cannot read {}", path.display()))
}

fn wrong(key: &'static str, message: String) -> ConfigError {
    ConfigError::Unusable(vec![Problem { key, message }])
}

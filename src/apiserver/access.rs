//! Who may ask the API and what they may do, as the settings say.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use apiserver::authentication::certificate::Trust;
use apiserver::authentication::front_proxy::FrontProxy;
use apiserver::authentication::static_tokens::StaticTokens;
use apiserver::authentication::{self, Anonymous, oidc, webhook};
use apiserver::authorization::{self, Wanted};
use apiserver::outbound::{self, kubeconfig};
use apiserver::service_account_tokens::Issuer;
use deploy::config::ApiConfig;
use seams::{Seams, Tasks};

use super::{WEBHOOK_PATIENCE, read, wrong};

/// What an identity provider may take for an answer.
const PROVIDER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Which credentials count.
pub(super) fn authentication(
    config: &ApiConfig,
    issuer: Option<&Arc<Issuer>>,
    seams: &Seams,
    tasks: &Tasks,
) -> Result<authentication::Config> {
    let audiences = vec![config.service_account_issuer.clone()];
    let trust = |path: &Option<std::path::PathBuf>| match path {
        None => Ok(None),
        Some(path) => trust(path, seams, tasks).map(Some),
    };
    let front_proxy = trust(&config.requestheader_client_ca_file)?;
    let front_proxy = front_proxy.map(|trust| FrontProxy {
        trust,
        allowed_names: config.requestheader_allowed_names.clone(),
        user_headers: config.requestheader_username_headers.clone(),
        uid_headers: config.requestheader_uid_headers.clone(),
        group_headers: config.requestheader_group_headers.clone(),
        extra_prefixes: config.requestheader_extra_headers_prefix.clone(),
    });
    let static_tokens = match &config.token_auth_file {
        None => None,
        Some(path) => {
            let text = String::from_utf8_lossy(&read(path, seams)?).into_owned();
            let tokens = StaticTokens::parse(&text, &path.display().to_string());
            Some(tokens.map_err(|why| wrong(path, why))?)
        }
    };
    let webhook = match &config.authentication_token_webhook_config_file {
        None => None,
        Some(path) => {
            let (client, url) = kubeconfig::client(path, WEBHOOK_PATIENCE, seams)
                .map_err(|why| anyhow!("{why}"))?;
            let ttl = config.authentication_token_webhook_cache_ttl.0;
            Some(webhook::webhook(client, &url, &audiences, ttl, seams))
        }
    };
    let (providers, anonymous) = providers(config, seams)?;
    let anonymous = anonymous.unwrap_or(match config.anonymous_auth {
        true => Anonymous::Everywhere,
        false => Anonymous::Nowhere,
    });
    let mut oidc = Vec::new();
    for provider in providers {
        let identity = outbound::Identity {
            ca: provider.ca.as_bytes(),
            ..outbound::Identity::default()
        };
        let client = outbound::Client::new(&identity, PROVIDER_PATIENCE, seams)
            .map_err(|why| anyhow!("identity provider {}: {why}", provider.issuer))?;
        let provider = oidc::Provider::new(provider, client, seams);
        provider.start(tasks);
        oidc.push(provider);
    }
    Ok(authentication::Config {
        api_audiences: audiences.clone(),
        front_proxy,
        client_ca: trust(&config.api_client_ca_file)?,
        static_tokens,
        service_account_issuers: audiences,
        service_account_keys: issuer.map(|issuer| issuer.keys()),
        bootstrap_tokens: true,
        oidc,
        webhook,
        anonymous,
        ..authentication::Config::default()
    })
}

/// Authorities of certificates, read again when their file changes.
fn trust(path: &Path, seams: &Seams, tasks: &Tasks) -> Result<Arc<Trust>> {
    let trust = Trust::new(&read(path, seams)?).map_err(|why| wrong(path, why))?;
    let trust = Arc::new(trust);
    trust.watch(path.to_path_buf(), seams.disk.clone(), tasks);
    Ok(trust)
}

type Providers = (Vec<oidc::Config>, Option<Anonymous>);

/// The identity providers of the configuration file, or the one of the settings.
fn providers(config: &ApiConfig, seams: &Seams) -> Result<Providers> {
    if let Some(path) = &config.authentication_config {
        return oidc::read(&read(path, seams)?).map_err(|why| wrong(path, why));
    }
    let Some(issuer) = &config.oidc_issuer_url else {
        return Ok((Vec::new(), None));
    };
    let ca = match &config.oidc_ca_file {
        None => String::new(),
        Some(path) => String::from_utf8_lossy(&read(path, seams)?).into_owned(),
    };
    let claim = &config.oidc_username_claim;
    let prefix = match config.oidc_username_prefix.as_deref() {
        Some("-") => String::new(),
        Some(prefix) => prefix.to_string(),
        None if claim == "email" => String::new(),
        None => format!("{issuer}#"),
    };
    let required = config.oidc_required_claim.iter().map(|claim| {
        let pair = claim.split_once('=');
        let pair = pair.with_context(|| format!("oidc-required-claim: {claim:?} is not KEY=VALUE"));
        pair.map(|(key, value)| (key.to_string(), value.to_string()))
    });
    let provider = oidc::Config {
        issuer: issuer.clone(),
        discovery_url: None,
        ca,
        audiences: config.oidc_client_id.iter().cloned().collect(),
        algorithms: config.oidc_signing_algs.clone(),
        username: oidc::Claim {
            claim: claim.clone(),
            prefix,
        },
        groups: config.oidc_groups_claim.clone().map(|claim| oidc::Claim {
            claim,
            prefix: config.oidc_groups_prefix.clone().unwrap_or_default(),
        }),
        uid: None,
        required: required.collect::<Result<_>>()?,
    };
    Ok((vec![provider], None))
}

/// Who says what users may do.
pub(super) fn authorization(config: &ApiConfig, seams: &Seams) -> Result<Vec<Wanted>> {
    let modes = config.authorization_mode.iter();
    modes
        .map(|mode| match &**mode {
            "AlwaysAllow" => Ok(Wanted::AlwaysAllow),
            "AlwaysDeny" => Ok(Wanted::AlwaysDeny),
            "Node" => Ok(Wanted::Node),
            "RBAC" => Ok(Wanted::Rbac),
            "Webhook" => authorization_webhook(config, seams),
            // Others were refused when the settings were read.
            other => Err(anyhow!("authorization-mode: {other:?} is not known")),
        })
        .collect()
}

fn authorization_webhook(config: &ApiConfig, seams: &Seams) -> Result<Wanted> {
    let path = config.authorization_webhook_config_file.as_ref();
    let path =
        path.context("authorization-mode Webhook needs authorization-webhook-config-file")?;
    let (client, url) =
        kubeconfig::client(path, WEBHOOK_PATIENCE, seams).map_err(|why| anyhow!("{why}"))?;
    let settings = authorization::webhook::Config {
        url,
        authorized_ttl: config.authorization_webhook_cache_authorized_ttl.0,
        unauthorized_ttl: config.authorization_webhook_cache_unauthorized_ttl.0,
        denies_on_error: false,
    };
    let webhook = authorization::webhook::Webhook::new(client, settings, seams);
    Ok(Wanted::Webhook(Arc::new(webhook)))
}

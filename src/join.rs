//! `trireme join`: makes this machine part of a cluster, as a node or as a master.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::bootstrap_token::{CLUSTER_INFO, CLUSTER_INFO_NAMESPACE, SECRET_NAMESPACE, Token};
use client::remote::{Config, Remote, Source};
use client::{Identity, errors};
use deploy::join::bundle::{Bundle, BundleKey};
use deploy::join::discovery::{self, Found};
use deploy::join::objects::{BUNDLE_KEY, BUNDLE_SECRET};
use deploy::kubeconfig::{Credentials, Entry};
use deploy::pki::NodeKey;
use kube::Client;
use seams::{Seams, Tasks};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cli::JoinArguments;
use crate::init;
use crate::output::say;

/// How long the signature and the certificate of a new machine may take.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) async fn run(arguments: JoinArguments) -> Result<()> {
    let token: Token = arguments.token.parse()?;
    let seams = Seams::real();
    let tasks = seams.tasks();
    let found = discover(&arguments, &token, &seams, &tasks).await?;
    let trusted = Config {
        servers: vec![arguments.server.to_string()],
        ca: Some(Source::Bytes(found.authority.clone())),
        token: Some(Source::Bytes(token.to_string().into_bytes())),
        ..Config::default()
    };
    let api = connect(&trusted, &seams, &tasks)?;
    match &arguments.certificate_key {
        Some(key) => become_master(&arguments, key, &api).await,
        None => become_node(&arguments, &found, &api).await,
    }
}

fn connect(config: &Config, seams: &Seams, tasks: &Tasks) -> Result<Client> {
    let access = Remote::access("trireme", config, seams, tasks)?;
    Ok(access.client(&Identity::Component, None))
}

/// Learns the cluster's authority from what everyone may read; the server is not trusted until the
/// signature and the pin say so.
async fn discover(
    arguments: &JoinArguments,
    token: &Token,
    seams: &Seams,
    tasks: &Tasks,
) -> Result<Found> {
    let anybody = Config {
        servers: vec![arguments.server.to_string()],
        is_insecure: true,
        ..Config::default()
    };
    let api = connect(&anybody, seams, tasks)?;
    let path = format!("/api/v1/namespaces/{CLUSTER_INFO_NAMESPACE}/configmaps/{CLUSTER_INFO}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let map = get(&api, &path).await;
        let judged = match map {
            Err(error) if errors::is_not_found(&error) || errors::is_forbidden(&error) => {
                discovery::judge(&BTreeMap::new(), token, &arguments.pins)
            }
            Err(error) => return Err(error).context("cannot ask the cluster who it is"),
            Ok(map) => {
                let data = serde_json::from_value(map["data"].clone()).unwrap_or_default();
                discovery::judge(&data, token, &arguments.pins)
            }
        };
        match judged {
            // A new token is signed with within moments.
            Err(discovery::DiscoveryError::Unknown(_)) if Instant::now() < deadline => {
                sleep(PAUSE).await;
            }
            judged => return Ok(judged?),
        }
    }
}

async fn get(api: &Client, path: &str) -> Result<Value, kube::Error> {
    let request = http::Request::get(path).body(Vec::new());
    api.request(request.map_err(kube::Error::HttpError)?).await
}

/// Takes what the other masters handed over. The store enters its members by itself when it starts:
/// its certificate is of the peers' authority.
async fn become_master(arguments: &JoinArguments, key: &BundleKey, api: &Client) -> Result<()> {
    let path = format!("/api/v1/namespaces/{SECRET_NAMESPACE}/secrets/{BUNDLE_SECRET}");
    let secret = get(api, &path)
        .await
        .context("the cluster hands nothing to masters (any more): run `trireme token create --master` on one")?;
    let sealed = secret["data"][BUNDLE_KEY].as_str().unwrap_or_default();
    let bundle = Bundle::open(&STANDARD.decode(sealed)?, key)?;
    let mut master = init::master(&arguments.machine)?;
    master
        .control_plane
        .get_or_insert_with(|| arguments.server.clone());
    master.join(&bundle)?;
    if let Some(path) = &arguments.machine.kubeconfig {
        master.administrator()?.merge_into(path)?;
    }
    let (name, config) = (&master.name, master.config_file());
    say(&format!(
        "{name} is a master as soon as it starts:\n  trireme server --config {}",
        config.display()
    ));
    Ok(())
}

/// Asks for the client certificate of a node, and writes its kubeconfig.
async fn become_node(arguments: &JoinArguments, found: &Found, api: &Client) -> Result<()> {
    let name = match &arguments.machine.name {
        Some(name) => name.clone(),
        None => init::node_name()?,
    };
    let key = NodeKey::generate(&name)?;
    let collection = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "node-csr-"},
        "spec": {
            "request": STANDARD.encode(&key.request),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    let request = http::Request::post(collection)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&body)?)?;
    let made: Value = api
        .request(request)
        .await
        .context("cannot ask for a certificate")?;
    let path = format!(
        "{collection}/{}",
        made["metadata"]["name"].as_str().unwrap_or_default()
    );
    let certificate = wait_for_certificate(api, &path).await?;
    let entry = Entry {
        name: "trireme".into(),
        server: found.server.clone(),
        authority: found.authority.clone(),
        user: Credentials::Certificate(certificate, key.key.into_bytes()),
    };
    let path = arguments.machine.dir.join("node.kubeconfig");
    entry.merge_into(&path)?;
    say(&format!(
        "{name} is a node as soon as it starts:\n  trireme node --hostname-override {name} --kubeconfig {}",
        path.display()
    ));
    Ok(())
}

async fn wait_for_certificate(api: &Client, path: &str) -> Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = get(api, path).await?;
        if let Some(certificate) = request["status"]["certificate"].as_str() {
            return Ok(STANDARD.decode(certificate)?);
        }
        let conditions = request["status"]["conditions"].as_array();
        for condition in conditions.into_iter().flatten() {
            if let Some(kind @ ("Denied" | "Failed")) = condition["type"].as_str() {
                bail!(
                    "the certificate is not given ({kind}): {}",
                    condition["message"]
                );
            }
        }
        if Instant::now() > deadline {
            bail!("nobody signs {path}: does a controller manager run?");
        }
        sleep(PAUSE).await;
    }
}

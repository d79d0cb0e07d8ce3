//! `trireme token`: the tokens with which machines join.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::bootstrap_token::{
    Remaining, SECRET_NAMESPACE, SECRET_PREFIX, SECRET_TYPE, Token, TokenSecret,
};
use client::{View, clock, errors};
use deploy::config::values::Url;
use deploy::join::bundle::BundleKey;
use deploy::join::discovery::Pin;
use deploy::join::objects::{self, Object};
use deploy::kubeconfig::{Credentials, Entry};
use deploy::master::Master;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use seams::Rng;
use serde_json::{Value, json};

use crate::access::Cluster;
use crate::cli::{TokenArguments, TokenCommand};
use crate::output::{Format, say, table};

/// What tells this program's writes from others.
const FIELD_MANAGER: &str = "trireme";

/// Runs the command.
pub(crate) async fn run(arguments: TokenArguments) -> Result<()> {
    let cluster = Cluster::open(&arguments.kubeconfig, None)?;
    let client = cluster.client()?;
    match arguments.action {
        TokenCommand::Create {
            ttl,
            description,
            master,
            dir,
        } => {
            let authority = cluster.authority()?;
            let authority = authority.with_context(|| {
                format!("{} names no authority", arguments.kubeconfig.display())
            })?;
            let bundle_of = master.then_some(dir.as_path());
            create(&cluster, &client, authority, ttl.0, &description, bundle_of).await
        }
        TokenCommand::List { output } => {
            let now = clock::now(&*cluster.seams.clock);
            list(&client, now, output).await
        }
        TokenCommand::Delete { tokens } => delete(&client, &tokens).await,
    }
}

fn secrets(client: &Client) -> Api<TokenSecret> {
    Api::namespaced(client.clone(), SECRET_NAMESPACE)
}

/// Brings an object to what it should be.
async fn apply(client: &Client, object: &Object) -> Result<Value> {
    let path = format!(
        "{}/{}?fieldManager={FIELD_MANAGER}&force=true",
        object.collection,
        object.name().replace(':', "%3A"),
    );
    let request = http::Request::patch(path)
        .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(serde_json::to_vec(&object.object)?)?;
    let applied = client.request::<Value>(request).await;
    applied.with_context(|| format!("cannot apply {} {}", object.object["kind"], object.name()))
}

async fn create(
    cluster: &Cluster,
    client: &Client,
    authority: Vec<u8>,
    ttl: Duration,
    description: &str,
    bundle_of: Option<&Path>,
) -> Result<()> {
    let published = Entry {
        name: "trireme".into(),
        server: cluster.server().into(),
        authority,
        user: Credentials::Nobody,
    };
    for object in objects::of_cluster(&published.text()) {
        apply(client, &object).await?;
    }
    let token = Token::generate(&*cluster.seams.rng);
    let expiration = match ttl.is_zero() {
        true => String::new(),
        false => (clock::now(&*cluster.seams.clock) + ttl)
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
    };
    let secret = objects::token(&token, description, &expiration);
    let secret = apply(client, &secret).await?;
    let mut command = format!("trireme join {} --token {token}", published.server);
    for pin in Pin::of(&published.authority) {
        command.push_str(&format!(" --pin {pin}"));
    }
    if let Some(dir) = bundle_of {
        let key = hand_over(client, dir, &token, &secret, &*cluster.seams.rng).await?;
        command.push_str(&format!(" --address ADDRESS --certificate-key {key}"));
    }
    say(&command);
    Ok(())
}

/// Stores what a master needs, as long as the token is there.
async fn hand_over(
    client: &Client,
    dir: &Path,
    token: &Token,
    secret: &Value,
    rng: &dyn Rng,
) -> Result<BundleKey> {
    let urls = Master::store_urls(dir)?;
    let connection = crate::cli::Connection {
        endpoints: urls.iter().map(Url::to_string).collect(),
        cacert: Some(dir.join("pki/ca.crt")),
        cert: Some(dir.join("pki/admin.crt")),
        key: Some(dir.join("pki/admin.key")),
        ..crate::cli::Connection::default()
    };
    let members = crate::client::Client::new(&connection)?.members().await?;
    let urls = members.into_iter().flat_map(|member| member.peer_ur_ls);
    let bundle = Master::bundle(dir, urls.collect())?;
    let key = BundleKey::generate(rng);
    let sealed = bundle.seal(&key, rng)?;
    let uid = secret["metadata"]["uid"].as_str().unwrap_or_default();
    let object = objects::bundle(&sealed, &token.secret_name(), uid);
    apply(client, &object).await?;
    Ok(key)
}

async fn list(client: &Client, now: Timestamp, output: Format) -> Result<()> {
    let params = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
    let all = secrets(client).list(&params).await?;
    let rows: Vec<Vec<String>> = all.items.iter().map(|secret| row(secret, now)).collect();
    if let Format::Json = output {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| json!({"id": row[0], "remaining": row[1], "description": row[2]}))
            .collect();
        say(&serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    say(&table(&["ID", "REMAINING", "DESCRIPTION"], &rows));
    Ok(())
}

fn row(secret: &TokenSecret, now: Timestamp) -> Vec<String> {
    let id = secret.name().trim_start_matches(SECRET_PREFIX);
    let remaining = match secret.remaining(now) {
        Remaining::Always => "for ever".to_string(),
        Remaining::Nothing => "ended".to_string(),
        Remaining::For(rest) => format!("{}h{}m", rest.as_secs() / 3600, rest.as_secs() / 60 % 60),
    };
    vec![id.to_string(), remaining, secret.data.description.0.clone()]
}

async fn delete(client: &Client, tokens: &[String]) -> Result<()> {
    for token in tokens {
        let id = token.split('.').next().unwrap_or_default();
        let name = format!("{SECRET_PREFIX}{id}");
        match secrets(client)
            .delete(&name, &DeleteParams::default())
            .await
        {
            Err(error) if errors::is_not_found(&error) => bail!("there is no token {id}"),
            other => other
                .map(drop)
                .with_context(|| format!("cannot delete the token {id}"))?,
        }
        say(&format!("{id} is deleted"));
    }
    Ok(())
}

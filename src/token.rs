//! `trireme token`: the tokens with which machines join.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::bootstrap_token::{
    Remaining, SECRET_NAMESPACE, SECRET_PREFIX, SECRET_TYPE, Token, TokenSecret,
};
use client::remote::{Config, Remote, Source};
use client::{Identity, View, errors};
use deploy::config::values::Url;
use deploy::join::bundle::BundleKey;
use deploy::join::discovery::Pin;
use deploy::join::objects::{self, Object};
use deploy::kubeconfig::{Credentials, Entry};
use deploy::master::Master;
use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use seams::Seams;
use serde_json::{Value, json};

use crate::cli::{TokenArguments, TokenCommand};
use crate::output::{Format, say, table};

/// What tells this program's writes from others.
const FIELD_MANAGER: &str = "trireme";

/// Runs the command.
pub(crate) async fn run(arguments: TokenArguments) -> Result<()> {
    let cluster = Cluster::open(&arguments.kubeconfig)?;
    match arguments.action {
        TokenCommand::Create {
            ttl,
            description,
            master,
            dir,
        } => {
            let bundle_of = master.then_some(dir.as_path());
            create(&cluster, ttl.0, &description, bundle_of).await
        }
        TokenCommand::List { output } => list(&cluster, output).await,
        TokenCommand::Delete { tokens } => delete(&cluster, &tokens).await,
    }
}

/// A cluster, reached as its administrator.
struct Cluster {
    client: kube::Client,
    /// Where its API is, and its authority.
    server: String,
    authority: Vec<u8>,
    seams: Seams,
    _tasks: seams::Tasks,
}

impl Cluster {
    fn open(kubeconfig: &Path) -> Result<Cluster> {
        let seams = Seams::real();
        let tasks = seams.tasks();
        let config = Config::kubeconfig(kubeconfig, None, &*seams.disk)?;
        let server = config.servers.first().cloned().unwrap_or_default();
        let authority = match &config.ca {
            Some(Source::Bytes(bytes)) => bytes.clone(),
            Some(Source::File(path)) => seams.disk.read(path)?,
            None => bail!("{} names no authority", kubeconfig.display()),
        };
        let access = Remote::access("trireme", &config, &seams, &tasks)?;
        Ok(Cluster {
            client: access.client(&Identity::Component, None),
            server,
            authority,
            seams,
            _tasks: tasks,
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::try_from(self.seams.clock.wall()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn secrets(&self) -> Api<TokenSecret> {
        Api::namespaced(self.client.clone(), SECRET_NAMESPACE)
    }

    /// Brings an object to what it should be.
    async fn apply(&self, object: &Object) -> Result<Value> {
        let path = format!(
            "{}/{}?fieldManager={FIELD_MANAGER}&force=true",
            object.collection,
            object.name().replace(':', "%3A"),
        );
        let request = http::Request::patch(path)
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(serde_json::to_vec(&object.object)?)?;
        let applied = self.client.request::<Value>(request).await;
        applied.with_context(|| format!("cannot apply {} {}", object.object["kind"], object.name()))
    }
}

async fn create(
    cluster: &Cluster,
    ttl: Duration,
    description: &str,
    bundle_of: Option<&Path>,
) -> Result<()> {
    let published = Entry {
        name: "trireme".into(),
        server: cluster.server.clone(),
        authority: cluster.authority.clone(),
        user: Credentials::Nobody,
    };
    for object in objects::of_cluster(&published.text()) {
        cluster.apply(&object).await?;
    }
    let token = Token::generate(&*cluster.seams.rng);
    let expiration = match ttl.is_zero() {
        true => String::new(),
        false => (cluster.now() + ttl)
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
    };
    let secret = cluster
        .apply(&objects::token(&token, description, &expiration))
        .await?;
    let mut command = format!("trireme join {} --token {token}", cluster.server);
    for pin in Pin::of(&cluster.authority) {
        command.push_str(&format!(" --pin {pin}"));
    }
    if let Some(dir) = bundle_of {
        let key = hand_over(cluster, dir, &token, &secret).await?;
        command.push_str(&format!(" --address ADDRESS --certificate-key {key}"));
    }
    say(&command);
    Ok(())
}

/// Stores what a master needs, as long as the token is there.
async fn hand_over(
    cluster: &Cluster,
    dir: &Path,
    token: &Token,
    secret: &Value,
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
    let key = BundleKey::generate(&*cluster.seams.rng);
    let sealed = bundle.seal(&key, &*cluster.seams.rng)?;
    let uid = secret["metadata"]["uid"].as_str().unwrap_or_default();
    let object = objects::bundle(&sealed, &token.secret_name(), uid);
    cluster.apply(&object).await?;
    Ok(key)
}

async fn list(cluster: &Cluster, output: Format) -> Result<()> {
    let params = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
    let all = cluster.secrets().list(&params).await?;
    let now = cluster.now();
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

async fn delete(cluster: &Cluster, tokens: &[String]) -> Result<()> {
    for token in tokens {
        let id = token.split('.').next().unwrap_or_default();
        let name = format!("{SECRET_PREFIX}{id}");
        match cluster
            .secrets()
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

//! A whole API server for tests, over a store of one member in this process: requests in, responses
//! out, without connections, authentication and authorization.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "for tests, of this crate and of those that take the feature `testing`"
)]

mod lossy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::doc::Doc;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use raft_store::Store;
use raft_store::engine::Engine;
use raft_store::engine::memory::MemoryEngine;
use raft_store::member::Member;
use raft_store::member::config::{Config, Start};
use seams::{RealDisk, Seams, Tasks};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

pub use lossy::Lossy;

use crate::authentication;
use crate::authentication::static_tokens::StaticTokens;
use crate::authorization::Wanted;
use crate::bootstrap;
use crate::discovery::{Addresses, Build};
use crate::endpoints::resource::{self, Incoming};
use crate::in_process::InProcess;
use crate::instance::{Api, Parts};
use crate::request::{Query, RequestInfo};
use crate::server;
use crate::service_account_tokens::{self, Issuer, SigningKey};
use crate::streams::backend::{Backends, KubeletFiles};
use crate::tls::Tls;
use crate::user::{MASTERS, User};

/// Where clients reach a server.
const ADDRESS: &str = "192.0.2.1:6443";
const ISSUER: &str = "https://kubernetes.default.svc";
/// The token of somebody who may do everything.
pub const ADMIN_TOKEN: &str = "admin-token";
/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server; more of them may share its store.
pub struct Server {
    pub api: Arc<Api>,
    pub tasks: Tasks,
    store: Arc<OneMember>,
}

/// A store that ends with the last server, and the key of its servers' tokens.
struct OneMember {
    member: Member,
    key: String,
    _dir: TempDir,
}

/// What a request came to.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub doc: Doc,
    /// The texts of the Warning headers.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The document of a success.
    #[track_caller]
    pub fn ok(self) -> Doc {
        assert!(self.code < 300, "{}: {}", self.code, self.doc);
        self.doc
    }

    /// Code and message of a refusal.
    #[track_caller]
    pub fn refusal(&self) -> (u16, &str) {
        assert!(self.code >= 400, "{}: {}", self.code, self.doc);
        (self.code, self.doc.root().text(&["message"]))
    }
}

impl Server {
    /// A server over a new store, once every cluster's own objects are there.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path().into());
        let engine = Arc::new(|dir: &Path| {
            let engine = MemoryEngine::open(Arc::new(RealDisk), dir)?;
            Ok(Arc::new(engine) as Arc<dyn Engine>)
        });
        let member = Member::start_with(config, Seams::real(), engine);
        let member = member.await.unwrap();
        until("the store answers", || {
            let member = member.clone();
            async move { member.progress().await.is_ok() }
        })
        .await;
        let store = OneMember {
            member,
            key: key(),
            _dir: dir,
        };
        Self::over(Arc::new(store), "one", ADDRESS).await
    }

    /// Another server over the same store.
    pub async fn another(&self, name: &str) -> Self {
        self.another_at(name, ADDRESS).await
    }

    /// Another server over the same store that clients reach elsewhere.
    pub async fn another_at(&self, name: &str, address: &str) -> Self {
        Self::over(self.store.clone(), name, address).await
    }

    /// Another server, to which the answers of the store may be lost.
    pub async fn another_with_losses(&self, name: &str) -> (Self, Arc<Lossy>) {
        let lossy = Arc::new(Lossy::new(self.store.member.clone()));
        let server = Self::through(lossy.clone(), self.store.clone(), name, ADDRESS).await;
        (server, lossy)
    }

    async fn over(store: Arc<OneMember>, name: &str, address: &str) -> Self {
        Self::through(Arc::new(store.member.clone()), store, name, address).await
    }

    async fn through(
        answers: Arc<dyn Store>,
        store: Arc<OneMember>,
        name: &str,
        address: &str,
    ) -> Self {
        let seams = Seams::real();
        let tasks = seams.tasks();
        let api = Api::start(answers, parts(name, address, &store.key), &seams, &tasks);
        let server = Self { api, tasks, store };
        until("the cluster's own objects are there", || async {
            server.api.is_bootstrapped.load(Ordering::Acquire)
        })
        .await;
        server
    }

    /// Requests of a user through the whole chain of filters.
    pub fn service(&self, user: User) -> InProcess {
        InProcess::new(self.api.clone(), user)
    }

    /// Serves HTTPS with certificate and key of files, on a free port of this machine.
    pub async fn listen(&self, cert: &Path, key: &Path) -> SocketAddr {
        let seams = &self.api.seams;
        let tls = Tls::load(cert, key, &*seams.disk).unwrap();
        let listener = seams.net.listen("127.0.0.1:0").await.unwrap();
        server::serve(listener, tls, self.api.clone(), &self.tasks).unwrap()
    }

    /// The store.
    pub fn store(&self) -> &Member {
        &self.store.member
    }

    /// A request of an administrator.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_as(&bootstrap::myself(), method, path, body).await
    }

    /// A request of somebody. PATCH is a merge patch.
    pub async fn ask_as(&self, user: &User, method: &str, path: &str, body: &str) -> Answer {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let headers = [("content-type", content_type)];
        let (parts, body) = self
            .send(user, method, path, &headers, body.as_bytes())
            .await;
        let warnings = parts.headers.get_all("warning").iter();
        let warnings = warnings.filter_map(|value| {
            let text = value.to_str().ok()?.strip_prefix("299 - \"")?;
            Some(text.strip_suffix('"')?.replace("\\\"", "\""))
        });
        Answer {
            code: parts.status.as_u16(),
            doc: api::codec::json::parse(body.to_vec()).unwrap_or_default(),
            warnings: warnings.collect(),
        }
    }

    /// A request as it is, and the whole response.
    pub async fn send(
        &self,
        user: &User,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &[u8],
    ) -> (http::response::Parts, bytes::Bytes) {
        let method: Method = method.parse().unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = Query::parse(query);
        let info = RequestInfo::new(&method, path, &query);
        let headers = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        let headers: HeaderMap = headers.collect();
        let incoming = Incoming {
            info: &info,
            query: &query,
            headers: &headers,
            user,
            body: body.to_vec(),
            deadline: Instant::now() + PATIENCE,
        };
        let reply = resource::answer(&self.api, incoming).await;
        let (parts, body) = reply.into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    }

    /// What a watch says until it has said something.
    pub async fn watch_until(&self, path: &str, what: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = Query::parse(query);
        let incoming = Incoming {
            info: &RequestInfo::new(&Method::GET, path, &query),
            query: &query,
            headers: &HeaderMap::new(),
            user: &bootstrap::myself(),
            body: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        };
        let mut body = resource::answer(&self.api, incoming).await.into_body();
        let mut text = String::new();
        while !text.contains(what) {
            let frame = timeout(PATIENCE, body.frame()).await.unwrap();
            let data = frame.unwrap().unwrap().into_data().unwrap();
            text.push_str(&String::from_utf8_lossy(&data));
        }
        text
    }

    /// Creates an object at a collection's path.
    pub async fn create(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, body).await
    }

    /// A namespace with the service account that every namespace has once controllers run.
    pub async fn namespace(&self, name: &str) {
        if self
            .ask("GET", &format!("/api/v1/namespaces/{name}"), "")
            .await
            .code
            == 404
        {
            let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
            self.create("/api/v1/namespaces", &body).await.ok();
        }
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
        let account = r#"{"metadata":{"name":"default"}}"#;
        self.create(&path, account).await.ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Drop for OneMember {
    fn drop(&mut self) {
        self.member.tasks().cancel();
    }
}

/// Waits for a state.
pub async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    eventually(what, || async { is_so().await.then_some(()) }).await;
}

/// Waits for something to come about, and yields it.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn config(dir: PathBuf) -> Config {
    let peer = "http://one.test:1".to_string();
    let start = Start::New {
        members: vec![("one".to_string(), vec![peer.clone()])],
        token: "test".to_string(),
    };
    let mut config = Config::new("one", dir, start);
    config.listen_peer = vec!["127.0.0.1:0".to_string()];
    config.advertise_peer = vec![peer];
    config.limits.log_segment_bytes = 4 << 20;
    config.limits.reserve_bytes = 0;
    config
}

/// A new key that signs tokens, in PEM.
fn key() -> String {
    let random = ring::rand::SystemRandom::new();
    let kind = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = ring::signature::EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
    let key = STANDARD.encode(key.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
}

fn parts(name: &str, address: &str, key: &str) -> Parts {
    let issuing = service_account_tokens::Config {
        issuer: ISSUER.to_string(),
        api_audiences: vec![ISSUER.to_string()],
        max_expiration_seconds: None,
        extends_expiration: true,
        jwks_uri: None,
        external_address: address.to_string(),
    };
    let key = SigningKey::from_pem(key.as_bytes()).unwrap();
    let issuer = Arc::new(Issuer::new(issuing, key, Vec::new()));
    let admin = format!("{ADMIN_TOKEN},admin,,{MASTERS}");
    Parts {
        name: name.to_string(),
        authentication: authentication::Config {
            api_audiences: vec![ISSUER.to_string()],
            static_tokens: Some(StaticTokens::parse(&admin, "").unwrap()),
            service_account_issuers: vec![ISSUER.to_string()],
            service_account_keys: Some(issuer.keys()),
            ..authentication::Config::default()
        },
        authorization: vec![Wanted::Node, Wanted::Rbac],
        issuer: Some(issuer),
        addresses: Addresses {
            default: address.to_string(),
            rules: Vec::new(),
        },
        backends: Backends::load(KubeletFiles::default(), Vec::new(), &Seams::real()).unwrap(),
        services: crate::allocation::Settings::default(),
        build: Build::default(),
        goaway_chance: 0.0,
        compaction_interval: crate::storage::compaction::INTERVAL,
        encryption: None,
        seats: 600,
        memory_limit: 0,
        audit: None,
        more_metrics: |_| (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn objects_are_made_changed_and_deleted() {
        let server = Server::start().await;
        server.namespace("a").await;
        let path = "/api/v1/namespaces/a/configmaps";
        let made = server
            .create(path, r#"{"metadata":{"name":"m"},"data":{"x":"1"}}"#)
            .await
            .ok();
        assert_eq!(made.root().text(&["metadata", "namespace"]), "a");
        let one = format!("{path}/m");
        let changed = server
            .ask("PATCH", &one, r#"{"data":{"x":"2"}}"#)
            .await
            .ok();
        assert_eq!(changed.root().text(&["data", "x"]), "2");
        server.ask("DELETE", &one, "").await.ok();
        let gone = server.ask("GET", &one, "").await;
        assert_eq!(gone.refusal(), (404, "configmaps \"m\" not found"));
    }
}

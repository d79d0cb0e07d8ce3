//! Requests over HTTPS, as programs send them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use client::remote::{Config, Remote};
use client::{Access, Identity};
use futures::{Stream, StreamExt};
use kube::core::WatchEvent;
use seams::{Seams, Tasks};
use serde_json::Value;
use tokio::time::timeout;

/// A server that does not answer for so long is asked again, or another one is.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server's answer: code and message.
    Refused(u16, String),
    /// Nobody knows whether it was done.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(code, message) => write!(f, "{code} {message}"),
            Failure::Unknown(why) => f.write_str(why),
        }
    }
}

/// A way to the API. Clones share it.
#[derive(Clone)]
pub(super) struct Server {
    client: kube::Client,
}

impl Server {
    /// As a kubeconfig's context says, or the current one, which is the balancer of all masters.
    pub(super) fn new(dir: &Path, context: Option<&str>, tasks: &Tasks) -> Server {
        let seams = Seams::real();
        let config = Config::kubeconfig(&dir.join("kubeconfig"), context, &*seams.disk).unwrap();
        let access: Access = Remote::access("end-to-end", &config, &seams, tasks).unwrap();
        Server {
            client: access.client(&Identity::Component, None),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, &[], None).await
    }

    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value, Failure> {
        self.ask("POST", path, &[], Some(object)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask("DELETE", path, &[], None).await
    }

    /// A merge patch.
    pub(super) async fn patch(&self, path: &str, patch: &Value) -> Result<Value, Failure> {
        let merge = ("content-type", "application/merge-patch+json");
        self.ask("PATCH", path, &[merge], Some(patch)).await
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut request = http::Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(body.into_bytes()).unwrap();
        match timeout(PATIENCE, self.client.request(request)).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(kube::Error::Api(status))) => Err(Failure::Refused(status.code, status.message)),
            Ok(Err(error)) => Err(Failure::Unknown(error.to_string())),
            Err(_) => Err(Failure::Unknown("no answer in time".to_owned())),
        }
    }

    /// A collection's objects, and its version.
    pub(super) async fn list(&self, path: &str) -> Result<(Vec<Value>, u64), Failure> {
        let mut list = self.get(path).await?;
        let version = version_of(&list);
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        Ok((items, version))
    }

    /// Hands on what changes in a collection after a version, until the watch ends, by itself after so
    /// many seconds, or `on` wants no more.
    pub(super) async fn watch(
        &self,
        path: &str,
        version: u64,
        seconds: u64,
        mut on: impl FnMut(WatchEvent<Value>) -> bool,
    ) -> Result<(), Failure> {
        let query = format!(
            "{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}"
        );
        let request = http::Request::get(query).body(Vec::new()).unwrap();
        let unknown = |error: kube::Error| match error {
            kube::Error::Api(status) => Failure::Refused(status.code, status.message),
            other => Failure::Unknown(other.to_string()),
        };
        let opened = timeout(PATIENCE, self.client.request_events::<Value>(request)).await;
        let opened = opened.map_err(|_| Failure::Unknown("no answer in time".to_owned()))?;
        let mut events = events(opened.map_err(unknown)?).boxed();
        let whole = Duration::from_secs(seconds) + PATIENCE;
        let read = async {
            while let Some(event) = events.next().await {
                if !on(event.map_err(unknown)?) {
                    break;
                }
            }
            Ok(())
        };
        timeout(whole, read).await.unwrap_or(Ok(()))
    }
}

/// The same stream, as what it is.
fn events<S>(stream: S) -> S
where
    S: Stream<Item = Result<WatchEvent<Value>, kube::Error>>,
{
    stream
}

/// The resourceVersion of an object or a list.
pub(super) fn version_of(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

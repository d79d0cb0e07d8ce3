//! In whose name requests are sent: each node speaks for itself.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The group of all nodes.
const GROUP: &str = "system:nodes";

/// What kind of patch a body is.
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// See [`STRATEGIC`].
pub(super) const MERGE: &str = "application/merge-patch+json";
/// A whole object.
pub(super) const JSON: &str = "application/json";

/// How the nodes of a process reach the API.
#[derive(Clone)]
pub enum Voices {
    /// One client for all, which may impersonate nodes: the way to share connections.
    Impersonating(kube::Client),
    /// A client for each node, in their order.
    Own(Vec<kube::Client>),
}

impl Voices {
    /// The client that sees all nodes, if one does.
    pub(super) fn shared(&self) -> Option<&kube::Client> {
        match self {
            Voices::Impersonating(client) => Some(client),
            Voices::Own(_) => None,
        }
    }

    /// The client of a node.
    pub(super) fn of(&self, node: usize) -> Option<&kube::Client> {
        match self {
            Voices::Impersonating(client) => Some(client),
            Voices::Own(clients) => clients.get(node),
        }
    }

    /// Sends a request of a node.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        node: usize,
        name: &str,
        what: Write<'_>,
    ) -> Result<T, kube::Error> {
        let Some(client) = self.of(node) else {
            return Err(kube::Error::Service(
                format!("there is no client for {name}").into(),
            ));
        };
        let body = what.body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(what.method)
            .uri(what.path)
            .header(CONTENT_TYPE, what.content);
        if matches!(self, Voices::Impersonating(_)) {
            request = request
                .header("Impersonate-User", format!("system:node:{name}"))
                .header("Impersonate-Group", HeaderValue::from_static(GROUP));
        }
        let request = request.body(body.into_bytes());
        client
            .request(request.map_err(kube::Error::HttpError)?)
            .await
    }
}

/// A request.
pub(super) struct Write<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) content: &'static str,
    pub(super) body: Option<&'a Value>,
}

impl<'a> Write<'a> {
    pub(super) fn new(
        method: Method,
        path: &'a str,
        content: &'static str,
        body: &'a Value,
    ) -> Self {
        Write {
            method,
            path,
            content,
            body: Some(body),
        }
    }

    pub(super) fn get(path: &'a str) -> Self {
        Write {
            method: Method::GET,
            path,
            content: JSON,
            body: None,
        }
    }
}

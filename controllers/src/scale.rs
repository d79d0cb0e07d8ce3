//! The scale of any object that has one, by its kind: what autoscalers and budgets ask for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use client::errors;
use k8s_openapi::api::autoscaling::v1::Scale;
use kube::Client;
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;

/// Asks for scales and sets them. Knows which paths kinds have, once it has asked.
pub struct Scales {
    client: Client,
    /// The path of a kind's collection: before the namespace, and after it.
    paths: Mutex<HashMap<(String, String), (String, String)>>,
}

/// An object that has a scale.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Scales {
    /// Asks in someone's name.
    pub fn new(client: Client) -> Scales {
        Scales {
            client,
            paths: Mutex::default(),
        }
    }

    fn key(target: &Target<'_>) -> (String, String) {
        (target.api_version.to_owned(), target.kind.to_owned())
    }

    async fn path(&self, target: &Target<'_>) -> Result<String, kube::Error> {
        let key = Self::key(target);
        let known = {
            let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
            paths.get(&key).cloned()
        };
        let (root, plural) = match known {
            Some(known) => known,
            None => {
                let (group, version) = target
                    .api_version
                    .split_once('/')
                    .unwrap_or(("", target.api_version));
                let kind = GroupVersionKind::gvk(group, version, target.kind);
                let (resource, _) = pinned_kind(&self.client, &kind).await?;
                let root = if group.is_empty() { "/api" } else { "/apis" };
                let path = (format!("{root}/{}", target.api_version), resource.plural);
                let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
                paths.insert(key, path.clone());
                path
            }
        };
        let Target {
            namespace, name, ..
        } = target;
        Ok(format!(
            "{root}/namespaces/{namespace}/{plural}/{name}/scale"
        ))
    }

    /// The scale of an object.
    pub async fn get(&self, target: &Target<'_>) -> Result<Scale, kube::Error> {
        let request = http::Request::get(self.path(target).await?).body(Vec::new());
        let got = self
            .client
            .request(request.map_err(kube::Error::HttpError)?)
            .await;
        if got.as_ref().is_err_and(errors::is_not_found) {
            // The kind may have been made anew, under another name.
            let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
            paths.remove(&Self::key(target));
        }
        got
    }

    /// Sets the scale of an object.
    pub async fn set(&self, target: &Target<'_>, scale: &Scale) -> Result<Scale, kube::Error> {
        let body = serde_json::to_vec(scale).map_err(kube::Error::SerdeError)?;
        let request = http::Request::put(self.path(target).await?)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body);
        self.client
            .request(request.map_err(kube::Error::HttpError)?)
            .await
    }
}

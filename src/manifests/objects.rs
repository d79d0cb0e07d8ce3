//! The objects of manifests in the cluster: applied, deleted, remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::errors;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Client, Error};
use tokio::time::timeout;

use super::files::Manifest;
use super::inventory::{Inventory, Item, NAME, NAMESPACE};

/// Whose fields these are.
const MANAGER: &str = "trireme-manifests";
/// What names no namespace is here.
const DEFAULT_NAMESPACE: &str = "default";
/// For one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// The objects of a cluster, for one pass.
pub(super) struct Objects<'c> {
    client: &'c Client,
    /// How kinds are served, by their apiVersion and name.
    kinds: Mutex<HashMap<(String, String), (ApiResource, Scope)>>,
}

impl<'c> Objects<'c> {
    pub(super) fn new(client: &'c Client) -> Self {
        Objects {
            client,
            kinds: Mutex::default(),
        }
    }

    /// Brings an object to what a file says, whoever changed it.
    pub(super) async fn apply(&self, manifest: &Manifest) -> Result<(), String> {
        let api = self.of(&manifest.item).await?;
        let params = PatchParams::apply(MANAGER).force().validation_strict();
        let patch = Patch::Apply(&manifest.object);
        let applied = bounded(api.patch(&manifest.item.name, &params, &patch));
        applied.await.map(drop).map_err(words)
    }

    /// Deletes what was applied, unless it is gone, or is somebody else's by now.
    pub(super) async fn delete(&self, item: &Item) -> Result<(), String> {
        let api = match self.of(item).await {
            Ok(api) => api,
            // With a definition its objects went.
            Err(Failure::NoKind(_)) => return Ok(()),
            Err(failure) => return Err(failure.into()),
        };
        let found = bounded(api.get_opt(&item.name)).await.map_err(words)?;
        let Some(object) = found.filter(is_ours) else {
            return Ok(());
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.metadata.uid,
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        match bounded(api.delete(&item.name, &params)).await {
            Ok(_) => Ok(()),
            Err(Failure::Api(error)) if errors::is_not_found(&error) => Ok(()),
            Err(failure) => Err(words(failure)),
        }
    }

    /// What was applied before.
    pub(super) async fn inventory(&self) -> Result<Inventory, String> {
        let found = bounded(self.maps().get_opt(NAME)).await.map_err(words)?;
        match found {
            None => Ok(Inventory::default()),
            Some(object) => Inventory::read(&object.data),
        }
    }

    /// Writes it down.
    pub(super) async fn remember(&self, inventory: &Inventory) -> Result<(), String> {
        let params = PatchParams::apply(MANAGER).force();
        let (maps, object) = (self.maps(), inventory.object());
        let written = bounded(maps.patch(NAME, &params, &Patch::Apply(&object))).await;
        let failed = |failure| format!("cannot write the inventory: {}", words(failure));
        written.map(drop).map_err(failed)
    }

    fn maps(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("", "v1", "ConfigMap");
        Api::namespaced_with(
            self.client.clone(),
            NAMESPACE,
            &ApiResource::from_gvk(&kind),
        )
    }

    /// Where objects of a kind are.
    async fn of(&self, item: &Item) -> Result<Api<DynamicObject>, Failure> {
        let (resource, scope) = self.kind(item).await?;
        let client = self.client.clone();
        Ok(match (scope, &*item.namespace) {
            (Scope::Cluster, _) => Api::all_with(client, &resource),
            (Scope::Namespaced, "") => Api::namespaced_with(client, DEFAULT_NAMESPACE, &resource),
            (Scope::Namespaced, namespace) => Api::namespaced_with(client, namespace, &resource),
        })
    }

    async fn kind(&self, item: &Item) -> Result<(ApiResource, Scope), Failure> {
        let key = (item.api_version.clone(), item.kind.clone());
        let known = self
            .kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let (group, version) = key.0.rsplit_once('/').unwrap_or(("", &key.0));
        let kind = GroupVersionKind::gvk(group, version, &key.1);
        let found = match bounded(pinned_kind(self.client, &kind)).await {
            Ok((resource, capabilities)) => (resource, capabilities.scope),
            Err(Failure::Api(error)) if is_unknown(&error) => {
                return Err(Failure::NoKind(format!(
                    "{} of {} is not served",
                    key.1, key.0
                )));
            }
            Err(failure) => return Err(failure),
        };
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.insert(key, found.clone());
        Ok(found)
    }
}

/// Why a request failed.
enum Failure {
    Api(Error),
    NoKind(String),
    Late,
}

impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        words(failure)
    }
}

async fn bounded<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let answer = timeout(PATIENCE, request).await;
    answer.map_err(|_| Failure::Late)?.map_err(Failure::Api)
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Api(error) => errors::message(&error),
        Failure::NoKind(why) => why,
        Failure::Late => format!("no answer within {} s", PATIENCE.as_secs()),
    }
}

fn is_unknown(error: &Error) -> bool {
    let is_missing = errors::status(error).is_some_and(|status| status.code == 404);
    is_missing || matches!(error, Error::Discovery(_))
}

/// Whether an object has fields that a manifest gave it.
fn is_ours(object: &DynamicObject) -> bool {
    let managers = object.metadata.managed_fields.iter().flatten();
    let mut names = managers.filter_map(|entry| entry.manager.as_deref());
    names.any(|name| name == MANAGER)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_a_manifest_made_is_deleted() {
        let by = |manager: &str| -> DynamicObject {
            let fields = json!([{"manager": manager, "operation": "Apply"}]);
            let metadata = json!({"name": "a", "managedFields": fields});
            let object: Value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
            serde_json::from_value(object).unwrap()
        };
        assert!(is_ours(&by(MANAGER)));
        assert!(!is_ours(&by("kubectl")));
    }
}

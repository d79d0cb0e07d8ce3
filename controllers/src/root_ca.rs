//! The root CA publisher: every namespace has a ConfigMap with the certificates by which pods know
//! API servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Selection, Subscription, View, errors};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::service_account::{is_active, is_going};

/// The ConfigMap's name.
const NAME: &str = "kube-root-ca.crt";
/// Its only key.
const KEY: &str = "ca.crt";
const ANNOTATION: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

/// Publishes certificates.
pub(crate) struct RootCaPublisher {
    context: Context,
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    _subscriptions: [Subscription; 2],
}

#[async_trait]
impl Controller for RootCaPublisher {
    /// A namespace.
    type Key = Arc<str>;

    fn start(context: &Context, queue: &Queue<Arc<str>>) -> Self {
        let namespaces = context.informers.of::<Namespace>();
        let maps = context.informers.selected::<ConfigMap>(Selection {
            fields: Some(format!("metadata.name={NAME}")),
            ..Selection::default()
        });
        let (of_namespaces, of_maps) = (queue.clone(), queue.clone());
        let subscriptions = [
            namespaces.on_change(move |_, new| {
                if let Some(namespace) = new.filter(|namespace| is_active(namespace)) {
                    of_namespaces.add(Key::of(&**namespace).name);
                }
            }),
            maps.on_change(move |old, new| {
                if let (Some(_), Some(map)) | (Some(map), None) = (old, new) {
                    of_maps.add(map.namespace().into());
                }
            }),
        ];
        Self {
            context: context.clone(),
            namespaces,
            maps,
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, name: &Arc<str>) -> Result<Again, Error> {
        let root_ca = &self.context.settings.root_ca;
        let namespace = self.namespaces.get("", name);
        if root_ca.is_empty() || !namespace.is_some_and(|namespace| is_active(&namespace)) {
            return Ok(Again::Done);
        }
        let api = Api::<ConfigMap>::namespaced(self.context.client.clone(), name);
        let data = BTreeMap::from([(KEY.to_string(), root_ca.clone())]);
        let Some(known) = self.maps.get(name, NAME) else {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_string()),
                    annotations: Some(BTreeMap::from([(
                        ANNOTATION.to_string(),
                        DESCRIPTION.to_string(),
                    )])),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            };
            return match api.create(&PostParams::default(), &map).await {
                Err(error) if errors::is_already_exists(&error) || is_going(&error) => {
                    Ok(Again::Done)
                }
                result => result.map(|_| Again::Done).map_err(Into::into),
            };
        };
        let annotations = known.metadata.annotations.as_ref();
        let is_described = annotations
            .is_some_and(|found| found.get(ANNOTATION).is_some_and(|text| !text.is_empty()));
        if is_described && known.data.as_ref() == Some(&data) {
            return Ok(Again::Done);
        }
        let strays = known
            .data
            .iter()
            .flatten()
            .map(|(key, _)| (key.clone(), json!(null)));
        let mut patched: serde_json::Map<String, serde_json::Value> = strays.collect();
        patched.insert(KEY.to_string(), json!(root_ca));
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {ANNOTATION: DESCRIPTION}, "resourceVersion": known.metadata.resource_version},
            "data": patched,
        }));
        match api.patch(NAME, &PatchParams::default(), &patch).await {
            // Another key of the queue will come: it is gone.
            Err(error) if errors::is_not_found(&error) => Ok(Again::Done),
            result => result.map(|_| Again::Done).map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Row;
    use crate::settings::Settings;
    use crate::testing::{Cluster, eventually};

    const ROW: Row = Row::of::<RootCaPublisher>(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
    );

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_namespace_has_the_certificates_and_nothing_else() {
        let cluster = Cluster::start().await;
        cluster.server.namespace("a").await;
        let settings = Settings {
            root_ca: "certificates".to_string(),
            ..Settings::default()
        };
        cluster.run_with(&[ROW], settings);
        let maps = Api::<ConfigMap>::namespaced(cluster.admin.clone(), "a");
        let is_right = |map: &ConfigMap| {
            let wanted = BTreeMap::from([(KEY.to_string(), "certificates".to_string())]);
            map.data == Some(wanted)
                && map.metadata.annotations.as_ref().unwrap()[ANNOTATION] == DESCRIPTION
        };
        let is_published = || async {
            maps.get_opt(NAME)
                .await
                .unwrap()
                .filter(|map| is_right(map))
        };
        eventually("the certificates are there", is_published).await;
        let meddled = Patch::Merge(
            json!({"data": {KEY: "x", "more": "y"}, "metadata": {"annotations": null}}),
        );
        maps.patch(NAME, &PatchParams::default(), &meddled)
            .await
            .unwrap();
        eventually("they are put right", is_published).await;
        maps.delete(NAME, &Default::default()).await.unwrap();
        eventually("they are there again", is_published).await;
    }
}

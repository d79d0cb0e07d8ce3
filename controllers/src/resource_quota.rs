//! Resource quotas: what they say to be used is counted again when something is gone.
//!
//! What is new is counted by the API server, in the transaction that writes it. Therefore a recount
//! reads the quota first and the objects after it, and is written only onto the quota as it was read:
//! if something came in between, it is counted again.
//!
//! - [`plan`]: what a quota is to say

mod plan;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::at::At;
use api::doc::Doc;
use api::quota::Kind;
use api::values::time::Moment;
use async_trait::async_trait;
use client::{Informer, Informers, Key, Queue, Subscription, View, errors};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{DynamicObject, ObjectList, PartialObjectMeta, Request};
use serde_json::json;
use tokio::time::sleep;

use self::plan::Sum;
use crate::catalog::{Catalog, Resource};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::merge;
use crate::metadata::Meta;
use crate::pod::Pod;

/// What is gone is counted together for so long.
const GATHER: Duration = Duration::from_millis(500);
/// Everything is counted again after so long.
const RESYNC: Duration = Duration::from_secs(5 * 60);
/// Kinds come and go.
const REFRESH: Duration = Duration::from_secs(30);
/// How often a recount is tried when something comes in between.
const TRIES: usize = 5;
/// Objects of a page.
const PAGE: u32 = 500;
/// What can be counted has these verbs.
const VERBS: [&str; 4] = ["create", "list", "watch", "delete"];
/// Kinds of which an object may use more or less than before.
const VARYING: [&str; 3] = ["services", "persistentvolumeclaims", "resourceclaims"];

/// Counts what is used.
pub(crate) struct ResourceQuotas {
    context: Context,
    quotas: Informer<ResourceQuota>,
    catalog: Mutex<Arc<Catalog>>,
    watches: Mutex<HashMap<Resource, Subscription>>,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for ResourceQuotas {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let quotas = context.informers.of::<ResourceQuota>();
        let added = queue.clone();
        let subscription = quotas.on_change(move |old, new| {
            let Some(new) = new else {
                return;
            };
            let is_other = old.is_none_or(|old| old.spec != new.spec || old.uid() != new.uid());
            // What admission waits for comes first: nothing else delays it.
            if !plan::is_complete(new) || is_other {
                added.add(Key::of(&**new));
            }
        });
        let controller = Self {
            context: context.clone(),
            quotas,
            catalog: Mutex::default(),
            watches: Mutex::default(),
            _subscription: subscription,
        };
        controller.follow(Catalog::built_in(), queue);
        controller
    }

    async fn background(&self, queue: &Queue<Key>) {
        let mut since_resync = Duration::ZERO;
        loop {
            match Catalog::fetch(&self.context.client).await {
                Ok(catalog) => self.follow(catalog, queue),
                Err(error) => tracing::warn!(%error, "it is not known what the cluster serves"),
            }
            sleep(REFRESH).await;
            since_resync += REFRESH;
            if since_resync >= RESYNC {
                since_resync = Duration::ZERO;
                for quota in self.quotas.list() {
                    queue.add(Key::of(&*quota));
                }
            }
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let api = Api::<ResourceQuota>::namespaced(self.context.client.clone(), &key.namespace);
        for attempt in 1.. {
            let Some(quota) = api.get_opt(&key.name).await? else {
                break;
            };
            let Some(status) = self.recount(&quota).await? else {
                break;
            };
            let old = json!(quota.status.clone().unwrap_or_default());
            let Some(change) = merge::diff(&old, &json!(status)) else {
                break;
            };
            let metadata =
                json!({"uid": quota.uid(), "resourceVersion": quota.metadata.resource_version});
            let patch = Patch::Merge(json!({"metadata": metadata, "status": change}));
            match api
                .patch_status(&key.name, &PatchParams::default(), &patch)
                .await
            {
                Err(error) if errors::is_conflict(&error) && attempt < TRIES => {}
                Err(error) if errors::is_not_found(&error) => break,
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        Ok(Again::Done)
    }
}

impl ResourceQuotas {
    /// Watches what the cluster serves: what is gone there is counted again here.
    fn follow(&self, catalog: Catalog, queue: &Queue<Key>) {
        let resources = catalog
            .allowing(&VERBS)
            .filter(|resource| resource.namespaced);
        let resources: Vec<Resource> = resources.cloned().collect();
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|resource, _| resources.contains(resource));
        for resource in resources {
            let Some(kind) = Kind::of(&resource.group, &resource.name) else {
                continue;
            };
            if let Entry::Vacant(free) = watches.entry(resource) {
                let subscription = self.watch(free.key(), kind, queue);
                free.insert(subscription);
            }
        }
    }

    fn watch(&self, resource: &Resource, kind: Kind, queue: &Queue<Key>) -> Subscription {
        // Own handle: a group whose server does not answer must hold nothing up.
        let informers: Informers = self.context.informers.handle();
        let (quotas, queue) = (self.quotas.clone(), queue.clone());
        let wake = move |namespace: &str| {
            for quota in quotas.in_namespace(namespace) {
                if plan::concerns(&quota, &kind) {
                    queue.add_after(Key::of(&*quota), GATHER);
                }
            }
        };
        if (&*resource.group, &*resource.name) == ("", "pods") {
            return informers.of::<Pod>().on_change(move |old, new| {
                // One that has ended uses nothing.
                let frees = |old: &Arc<Pod>| {
                    !new.is_some_and(|new| !new.is_terminal() || old.is_terminal())
                };
                if let Some(old) = old.filter(|old| frees(old)) {
                    wake(old.namespace());
                }
            });
        }
        let varies = VARYING.contains(&&*resource.name);
        let informer =
            informers.of_resource::<Meta>(&resource.group, &resource.version, &resource.name);
        informer.on_change(move |old, new| {
            if let Some(old) = old.filter(|_| new.is_none() || varies) {
                wake(old.namespace());
            }
        })
    }

    /// Counts what a quota limits. Gives the status that it is to have, unless it has it.
    async fn recount(
        &self,
        quota: &ResourceQuota,
    ) -> Result<Option<k8s_openapi::api::core::v1::ResourceQuotaStatus>, Error> {
        let catalog = self
            .catalog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let resources = catalog
            .allowing(&VERBS)
            .filter(|resource| resource.namespaced);
        let doc = document(json!(quota).to_string().into_bytes())?;
        let now = self.context.now();
        let moment = Moment {
            seconds: now.as_second(),
            nanos: 0,
        };
        let mut sum = Sum::default();
        for resource in resources {
            let Some(kind) = Kind::of(&resource.group, &resource.name) else {
                continue;
            };
            if !plan::concerns(quota, &kind) {
                continue;
            }
            sum.begin(&kind, quota);
            if kind.is_plain() {
                let count = self.count(resource, quota.namespace()).await?;
                sum.add_plain(&kind, At::root(&doc), count, moment);
            } else {
                self.add_all(&mut sum, resource, &kind, quota.namespace(), &doc, moment)
                    .await?;
            }
        }
        Ok(sum.status(quota))
    }

    /// How many objects there are.
    async fn count(&self, resource: &Resource, namespace: &str) -> Result<i64, Error> {
        let request =
            Request::new(resource.path(namespace)).list_metadata(&ListParams::default().limit(1));
        let request = request.map_err(kube::Error::BuildRequest)?;
        let list: ObjectList<PartialObjectMeta<DynamicObject>> =
            self.context.client.request(request).await?;
        let rest = list.metadata.remaining_item_count.unwrap_or(0);
        Ok(i64::try_from(list.items.len())
            .unwrap_or(i64::MAX)
            .saturating_add(rest))
    }

    /// Counts objects by what they say.
    async fn add_all(
        &self,
        sum: &mut Sum,
        resource: &Resource,
        kind: &Kind,
        namespace: &str,
        quota: &Doc,
        now: Moment,
    ) -> Result<(), Error> {
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(resource.path(namespace)).list(&params);
            let request = request.map_err(kube::Error::BuildRequest)?;
            let text = self.context.client.request_text(request).await?;
            let page = document(text.into_bytes())?;
            let page = At::root(&page);
            for object in page.get("items").items() {
                sum.add(kind, At::root(quota), object, now);
            }
            match page.path(&["metadata", "continue"]).str() {
                "" => return Ok(()),
                token => params = params.continue_token(token),
            }
        }
    }
}

fn document(bytes: Vec<u8>) -> Result<Doc, Error> {
    let doc = api::codec::json::parse(bytes);
    doc.map_err(|error| Error::other(format!("an object that is no JSON: {error:?}")))
}

#[cfg(test)]
mod tests;

//! Namespaces: what is in one that is deleted goes first, pods before everything else.
//!
//! Nothing new comes into a namespace that goes: that is checked in the transaction of each creation.
//! Therefore its deletion need not wait, as upstream's does, until all API servers know of it.

mod plan;

use std::time::Duration;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Subscription, View, errors};
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::core::{DynamicObject, ObjectList, PartialObjectMeta, Request};
use serde_json::{Value, json};

use self::plan::{FINALIZER, Left, Report};
use crate::catalog::{Catalog, Resource};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::pod::Pod;

/// Resources of one namespace that are looked at a time.
const REQUESTS: usize = 10;
/// Everything in a namespace may be much.
const DEADLINE: Duration = Duration::from_secs(600);
const WORKERS: usize = 10;

/// Empties and ends namespaces.
pub(crate) struct Namespaces {
    context: Context,
    namespaces: Informer<Namespace>,
    pods: Informer<Pod>,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for Namespaces {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let namespaces = context.informers.of::<Namespace>();
        let pods = context.informers.of::<Pod>();
        let queue = queue.clone();
        let subscription = namespaces.on_change(move |_, new| {
            if let Some(namespace) = new.filter(|namespace| namespace.is_deleted()) {
                queue.add(Key::of(&**namespace));
            }
        });
        Self {
            context: context.clone(),
            namespaces,
            pods,
            _subscription: subscription,
        }
    }

    fn workers(&self) -> usize {
        WORKERS
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        if self.namespaces.get("", &key.name).is_none() {
            return Ok(Again::Done);
        }
        let api = Api::<Namespace>::all(self.context.client.clone());
        let live = api.get_opt(&key.name).await?;
        let Some(live) = live.filter(|live| live.is_deleted()) else {
            return Ok(Again::Done);
        };
        let finalizers = live.spec.as_ref().and_then(|spec| spec.finalizers.clone());
        let finalizers = finalizers.unwrap_or_default();
        if finalizers.is_empty() {
            return Ok(Again::Done);
        }
        let report = self.empty(&live).await;
        let live = self.tell(&api, live, &report).await?;
        match report.seconds() {
            _ if report.is_done() => {}
            // A failure is tried again by its own measure.
            _ if report.discovery.is_some() || !report.failures.is_empty() => {
                return Err(Error::other(self.complaint(&report)));
            }
            seconds => {
                let seconds = u64::try_from(seconds.unwrap_or(0) / 2 + 1).unwrap_or(1);
                return Ok(Again::After(Duration::from_secs(seconds)));
            }
        }
        let rest: Vec<&String> = finalizers
            .iter()
            .filter(|found| *found != FINALIZER)
            .collect();
        if rest.len() < finalizers.len() {
            self.finalize(&live, &rest).await?;
        }
        Ok(Again::Done)
    }
}

impl Namespaces {
    /// Deletes everything in a namespace, and looks at what is left.
    async fn empty(&self, namespace: &Namespace) -> Report {
        let mut report = Report::default();
        let catalog = match Catalog::fetch(&self.context.client).await {
            Ok(catalog) => catalog,
            Err(error) => {
                report.discovery = Some((errors::message(&error), 0));
                return report;
            }
        };
        report.discovery = catalog.failure().map(|why| (why, catalog.stale.len()));
        let deletable = catalog
            .allowing(&["delete"])
            .filter(|resource| resource.namespaced);
        let (pods, others): (Vec<&Resource>, Vec<&Resource>) =
            deletable.partition(|found| is_pods(found));
        let name = namespace.name();
        for pods in pods {
            let grace = self.grace(namespace);
            report.add(pods, name, self.empty_of(pods, name, grace).await);
            if report.left.values().any(|left| left.count > 0) {
                return report;
            }
        }
        let others: Vec<Resource> = others.into_iter().cloned().collect();
        let outcomes = stream::iter(others).map(|resource| async move {
            let outcome = self.empty_of(&resource, name, 0).await;
            (resource, outcome)
        });
        let outcomes: Vec<_> = outcomes.buffer_unordered(REQUESTS).collect().await;
        for (resource, outcome) in outcomes {
            report.add(&resource, name, outcome);
        }
        report
    }

    /// So many seconds the pods of a namespace may still take.
    fn grace(&self, namespace: &Namespace) -> i64 {
        let pods = self.pods.in_namespace(namespace.name());
        let running = pods.iter().filter(|pod| !pod.is_terminal());
        let most = running
            .filter_map(|pod| pod.spec.termination_grace_period_seconds)
            .max();
        let since = namespace
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|since| since.0);
        let passed = |since: Timestamp| self.context.now().duration_since(since).as_secs();
        match (most, since.map(passed)) {
            (Some(most), Some(passed)) if passed < most => most,
            _ => 0,
        }
    }

    /// Deletes all objects of a resource, and looks at what is left.
    async fn empty_of(
        &self,
        resource: &Resource,
        namespace: &str,
        grace: i64,
    ) -> Result<Left, String> {
        let is_listed = resource.allows(&["list"]);
        if is_listed && self.list(resource, namespace).await?.is_empty() {
            return Ok(Left::default());
        }
        if resource.allows(&["deletecollection"]) {
            self.delete_all(resource, namespace).await?;
        } else if is_listed {
            for object in self.list(resource, namespace).await? {
                self.delete(resource, namespace, object.name()).await?;
            }
        }
        if !is_listed {
            return Ok(Left::default());
        }
        let left = self.list(resource, namespace).await?;
        let finalizers = left
            .iter()
            .map(|object| object.metadata.finalizers.as_deref().unwrap_or_default());
        Ok(Left::new(finalizers, grace))
    }

    async fn list(&self, resource: &Resource, namespace: &str) -> Result<Vec<Partial>, String> {
        let request = Request::new(resource.path(namespace)).list_metadata(&ListParams::default());
        let request = request.map_err(|error| error.to_string())?;
        match self
            .context
            .client
            .request::<ObjectList<Partial>>(request)
            .await
        {
            Ok(list) => Ok(list.items),
            Err(error) if is_unsupported(&error) => Ok(Vec::new()),
            Err(error) => Err(errors::message(&error)),
        }
    }

    async fn delete_all(&self, resource: &Resource, namespace: &str) -> Result<(), String> {
        let request = Request::new(resource.path(namespace));
        self.send(request.delete_collection(&background(), &ListParams::default()))
            .await
    }

    async fn delete(&self, resource: &Resource, namespace: &str, name: &str) -> Result<(), String> {
        self.send(Request::new(resource.path(namespace)).delete(name, &background()))
            .await
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(), String> {
        let request = request.map_err(|error| error.to_string())?;
        match self
            .context
            .client
            .request::<serde::de::IgnoredAny>(request)
            .await
        {
            Err(error) if !is_unsupported(&error) => Err(errors::message(&error)),
            _ => Ok(()),
        }
    }

    /// Says in the status what became of it. Gives the namespace as it is then.
    async fn tell(
        &self,
        api: &Api<Namespace>,
        live: Namespace,
        report: &Report,
    ) -> Result<Namespace, Error> {
        let known = live.status.clone().unwrap_or_default();
        let conditions = known.conditions.unwrap_or_default();
        let now = self.context.now();
        let Some(conditions) = report.conditions(&conditions, now) else {
            return Ok(live);
        };
        let status = json!({"phase": "Terminating", "conditions": as_stored(&conditions)});
        let metadata = json!({"resourceVersion": live.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
        Ok(api
            .patch_status(live.name(), &PatchParams::default(), &patch)
            .await?)
    }

    /// Takes the finalizer away that stands for what is in the namespace.
    async fn finalize(&self, live: &Namespace, rest: &[&String]) -> Result<(), Error> {
        let mut body = serde_json::to_value(live).map_err(kube::Error::SerdeError)?;
        body["spec"]["finalizers"] = json!(rest);
        let request = http::Request::put(format!("/api/v1/namespaces/{}/finalize", live.name()));
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string().into_bytes());
        let request = request.map_err(|error| Error::other(error.to_string()))?;
        match self
            .context
            .client
            .request::<serde::de::IgnoredAny>(request)
            .await
        {
            Err(error) if errors::is_not_found(&error) => Ok(()),
            result => result.map(drop).map_err(Into::into),
        }
    }

    fn complaint(&self, report: &Report) -> String {
        let discovery = report.discovery.iter().map(|(why, _)| why.as_str());
        let all: Vec<&str> = discovery
            .chain(report.failures.iter().map(String::as_str))
            .collect();
        all.join(", ")
    }
}

type Partial = PartialObjectMeta<DynamicObject>;

trait Named {
    fn name(&self) -> &str;
}

impl Named for Partial {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

fn is_pods(resource: &Resource) -> bool {
    (&*resource.group, &*resource.version, &*resource.name) == ("", "v1", "pods")
}

fn background() -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    }
}

/// The resource cannot do this, or is not served any more.
fn is_unsupported(error: &kube::Error) -> bool {
    errors::status(error).is_some_and(|status| matches!(status.code, 404 | 405))
}

fn as_stored(conditions: &[NamespaceCondition]) -> Value {
    json!(conditions)
}

#[cfg(test)]
mod tests;

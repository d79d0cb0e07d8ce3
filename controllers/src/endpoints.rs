//! Keeps the Endpoints of Services with selectors, for those who do not read EndpointSlices yet.

pub mod plan;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use client::{EventType, Informer, Key, Queue, Recorder, Subscription, View, errors};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::endpointslice::wake_services;
use crate::note;
use crate::pod::Pod;
use crate::service_endpoints::trigger_time::TriggerTimes;
use crate::service_endpoints::{LEADER_ANNOTATION, is_selecting, selects, strings};

/// The name of this controller in labels.
pub const NAME: &str = "endpoint-controller";

/// After so many failures a Service waits for its next change.
const FAILURES_MAX: u32 = 15;

/// The controller.
pub struct EndpointsController {
    context: Context,
    recorder: Recorder,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    trigger_times: TriggerTimes,
    /// The versions that were written over, so that a cache that still shows one is known as stale.
    overwritten: Mutex<HashMap<Key, Option<String>>>,
    _subscriptions: [Subscription; 3],
}

#[async_trait]
impl Controller for EndpointsController {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let services = context.informers.of::<Service>();
        let pods = context.informers.of::<Pod>();
        let endpoints = context.informers.of::<Endpoints>();
        let subscriptions = [
            services.on_change({
                let queue = queue.clone();
                move |old, new| {
                    if let Some(service) = new.or(old) {
                        queue.add(Key::of(&**service));
                    }
                }
            }),
            pods.on_change({
                let (queue, services) = (queue.clone(), services.clone());
                move |old, new| wake_services(&services, old, new, |key| queue.add(key))
            }),
            endpoints.on_change({
                let queue = queue.clone();
                move |old, new| {
                    if let (Some(gone), None) = (old, new) {
                        queue.add(Key::of(&**gone));
                    }
                }
            }),
        ];
        Self {
            recorder: context.recorder(NAME),
            context: context.clone(),
            services,
            pods,
            endpoints,
            trigger_times: TriggerTimes::default(),
            overwritten: Mutex::default(),
            _subscriptions: subscriptions,
        }
    }

    fn failures_max(&self) -> Option<u32> {
        Some(FAILURES_MAX)
    }

    /// The Services of those that are there at first may be gone. Later ones without a Service are
    /// somebody else's.
    async fn background(&self, queue: &Queue<Key>) {
        for found in self.endpoints.list() {
            if !strings(&found.metadata.annotations).contains_key(LEADER_ANNOTATION) {
                queue.add(Key::of(&*found));
            }
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let api: Api<Endpoints> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let Some(service) = self.services.get(&key.namespace, &key.name) else {
            self.trigger_times.forget(key);
            self.overwritten().remove(key);
            if self.endpoints.get(&key.namespace, &key.name).is_some() {
                match api.delete(&key.name, &DeleteParams::default()).await {
                    Err(error) if !errors::is_not_found(&error) => return Err(error.into()),
                    _ => {}
                }
            }
            return Ok(Again::Done);
        };
        if !is_selecting(&service) {
            return Ok(Again::Done);
        }
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selects(&service, strings(&pod.metadata.labels)));
        let trigger_time = self.trigger_times.next(key, &service, &pods);
        let current = self.endpoints.get(&key.namespace, &key.name);
        if let Some(current) = &current {
            let version = &current.metadata.resource_version;
            if self.overwritten().get(key) == Some(version) {
                return Err(Error::other(format!(
                    "endpoints informer cache is out of date for {key}"
                )));
            }
        }
        if let Some(wanted) = plan::plan(&service, &pods, current.as_deref(), trigger_time) {
            self.write(&api, key, current.as_deref(), &wanted).await?;
        }
        Ok(Again::Done)
    }
}

impl EndpointsController {
    fn overwritten(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Option<String>>> {
        self.overwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(
        &self,
        api: &Api<Endpoints>,
        key: &Key,
        current: Option<&Endpoints>,
        wanted: &Endpoints,
    ) -> Result<(), Error> {
        let params = PostParams::default();
        let (written, reason, what) = match current {
            Some(_) => {
                let written = api.replace(&key.name, &params, wanted).await;
                (
                    written,
                    "FailedToUpdateEndpoint",
                    "Failed to update endpoint",
                )
            }
            None => {
                let written = api.create(&params, wanted).await;
                (
                    written,
                    "FailedToCreateEndpoint",
                    "Failed to create endpoint for service",
                )
            }
        };
        match written {
            Ok(written) => {
                if let Some(current) = current
                    && written.meta().resource_version != current.metadata.resource_version
                {
                    let version = current.metadata.resource_version.clone();
                    self.overwritten().insert(key.clone(), version);
                }
                Ok(())
            }
            Err(error) if current.is_none() && errors::is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let message = format!("{what} {key}: {}", errors::message(&error));
                let reference = note::reference(wanted);
                self.recorder
                    .event(&reference, EventType::Warning, reason, message);
                Err(error.into())
            }
        }
    }
}

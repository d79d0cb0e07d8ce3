//! Mirrors Endpoints that someone made by hand for a Service without a selector to EndpointSlices,
//! which is what proxies read.

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use client::{Informer, Key, Queue, Recorder, Subscription, errors};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;

use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::endpointslice::{services_of_change, slices_of, write_slices};
use crate::note;
use crate::service_endpoints::slice_tracker::SliceTracker;
use crate::service_endpoints::spec_of;

/// The name of this controller in labels.
pub const NAME: &str = "endpointslicemirroring-controller.k8s.io";

/// The most addresses of one subset that are mirrored.
const ADDRESSES_MAX: usize = 1000;
/// After so many failures Endpoints wait for their next change.
const FAILURES_MAX: u32 = 15;

/// The controller.
pub struct Mirroring {
    context: Context,
    recorder: Recorder,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    tracker: Arc<SliceTracker>,
    _subscriptions: [Subscription; 3],
}

#[async_trait]
impl Controller for Mirroring {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let services = context.informers.of::<Service>();
        let endpoints = context.informers.of::<Endpoints>();
        let slices = context.informers.of::<EndpointSlice>();
        let tracker = Arc::new(SliceTracker::default());
        let subscriptions = [
            services.on_change({
                let queue = queue.clone();
                move |old, new| {
                    let selects = |service: &Arc<Service>| spec_of(service).selector.is_some();
                    if let Some(service) = new.or(old)
                        && (old.map(selects) == Some(false) || new.map(selects) == Some(false))
                        && old.map(selects) != new.map(selects)
                    {
                        queue.add(Key::of(&**service));
                    }
                }
            }),
            endpoints.on_change({
                let queue = queue.clone();
                move |old, new| {
                    let wants = |endpoints: Option<&Arc<Endpoints>>| {
                        endpoints.is_some_and(|endpoints| plan::wants_mirror(endpoints))
                    };
                    if let Some(endpoints) = new.or(old)
                        && (wants(old) || wants(new))
                    {
                        queue.add(Key::of(&**endpoints));
                    }
                }
            }),
            slices.on_change({
                let (queue, tracker) = (queue.clone(), tracker.clone());
                move |old, new| {
                    for key in services_of_change(&tracker, NAME, old, new) {
                        queue.add(key);
                    }
                }
            }),
        ];
        Self {
            recorder: context.recorder("endpoint-slice-mirroring-controller"),
            context: context.clone(),
            services,
            endpoints,
            slices,
            tracker,
            _subscriptions: subscriptions,
        }
    }

    fn failures_max(&self) -> Option<u32> {
        Some(FAILURES_MAX)
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let api = Api::namespaced(self.context.client.clone(), &key.namespace);
        let endpoints = self.endpoints.get(&key.namespace, &key.name);
        let service = self.services.get(&key.namespace, &key.name);
        let slices = slices_of(&self.slices, key, NAME);
        let is_by_hand = service.is_some_and(|service| spec_of(&service).selector.is_none());
        let Some(endpoints) = endpoints.filter(|e| is_by_hand && plan::wants_mirror(e)) else {
            self.tracker.forget(key);
            write_slices(&api, &self.tracker, &[], &[], &slices).await?;
            return Ok(Again::Done);
        };
        if self
            .tracker
            .is_stale(key, slices.iter().map(|slice| &**slice))
        {
            return Err(Error::other("EndpointSlice informer cache is out of date"));
        }
        let plan = plan::plan(&endpoints, &slices, ADDRESSES_MAX);
        note::tell(&self.recorder, &note::reference(&*endpoints), &plan.notes);
        plan.kept
            .iter()
            .for_each(|slice| self.tracker.written(slice));
        let written = write_slices(
            &api,
            &self.tracker,
            &plan.create,
            &plan.update,
            &plan.delete,
        )
        .await;
        if let Err(error) = &written {
            tracing::debug!(%key, error = errors::message(error), "slices were not mirrored");
        }
        written?;
        Ok(Again::Done)
    }
}

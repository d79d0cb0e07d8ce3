//! Keeps the EndpointSlices of Services with selectors: who answers for a Service, where, and for
//! which zone.

pub mod plan;
pub mod topology;
pub mod traffic;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use client::{EventType, Informer, Key, Queue, Recorder, Subscription, View, errors};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use self::plan::{Hinted, Observed, Plan};
use self::topology::Zones;
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::{Node, ZONE_LABEL};
use crate::note;
use crate::pod::Pod;
use crate::service_endpoints::slice_tracker::SliceTracker;
use crate::service_endpoints::trigger_time::TriggerTimes;
use crate::service_endpoints::{
    PodChange, is_managed_by, is_selecting, selects, service_of, strings,
};

/// The name of this controller in labels.
pub const NAME: &str = "endpointslice-controller.k8s.io";

/// The most endpoints of one slice.
const ENDPOINTS_MAX: usize = 100;
/// How long to wait after someone else changed a slice: more changes may follow.
const SLICE_CHANGE_DELAY: Duration = Duration::from_secs(1);
/// After so many failures a Service waits for its next change.
const FAILURES_MAX: u32 = 15;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// How CPUs are spread over zones.
    Zones,
    /// A Service.
    Service(Key),
}

/// The controller.
pub struct EndpointSlices {
    context: Context,
    recorder: Recorder,
    queue: Queue<Wake>,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    tracker: Arc<SliceTracker>,
    trigger_times: TriggerTimes,
    hinted: Mutex<HashMap<Key, Hinted>>,
    /// None before they were looked at.
    zones: Mutex<Option<Option<Arc<Zones>>>>,
    _subscriptions: [Subscription; 4],
}

#[async_trait]
impl Controller for EndpointSlices {
    type Key = Wake;

    fn start(context: &Context, queue: &Queue<Wake>) -> Self {
        let services = context.informers.of::<Service>();
        let pods = context.informers.of::<Pod>();
        let nodes = context.informers.of::<Node>();
        let slices = context.informers.of::<EndpointSlice>();
        let tracker = Arc::new(SliceTracker::default());
        let subscriptions = [
            services.on_change({
                let queue = queue.clone();
                move |old, new| {
                    if let Some(service) = new.or(old) {
                        queue.add(Wake::Service(Key::of(&**service)));
                    }
                }
            }),
            pods.on_change({
                let (queue, services) = (queue.clone(), services.clone());
                move |old, new| {
                    wake_services(&services, old, new, |key| queue.add(Wake::Service(key)));
                }
            }),
            nodes.on_change({
                let queue = queue.clone();
                move |old, new| {
                    let tells = |node: &Arc<Node>| {
                        (node.is_ready(), node.label(ZONE_LABEL).map(str::to_owned))
                    };
                    if old.map(tells) != new.map(tells) {
                        queue.add(Wake::Zones);
                    }
                }
            }),
            slices.on_change({
                let (queue, tracker) = (queue.clone(), tracker.clone());
                move |old, new| {
                    for key in services_of_change(&tracker, NAME, old, new) {
                        queue.add_after(Wake::Service(key), SLICE_CHANGE_DELAY);
                    }
                }
            }),
        ];
        Self {
            recorder: context.recorder("endpoint-slice-controller"),
            context: context.clone(),
            queue: queue.clone(),
            services,
            pods,
            nodes,
            slices,
            tracker,
            trigger_times: TriggerTimes::default(),
            hinted: Mutex::default(),
            zones: Mutex::default(),
            _subscriptions: subscriptions,
        }
    }

    fn failures_max(&self) -> Option<u32> {
        Some(FAILURES_MAX)
    }

    async fn sync(&self, wake: &Wake) -> Result<Again, Error> {
        match wake {
            Wake::Zones => self.sync_zones(),
            Wake::Service(key) => self.sync_service(key).await?,
        }
        Ok(Again::Done)
    }
}

/// Wakes the Services that a change of a pod concerns.
pub(crate) fn wake_services(
    services: &Informer<Service>,
    old: Option<&Arc<Pod>>,
    new: Option<&Arc<Pod>>,
    wake: impl Fn(Key),
) {
    let (old, new) = (old.map(|pod| &**pod), new.map(|pod| &**pod));
    let change = PodChange::between(old, new);
    let Some(pod) = new.or(old).filter(|_| change != PodChange::Nothing) else {
        return;
    };
    let namespace = services.in_namespace(pod.namespace());
    let concerned = namespace
        .iter()
        .filter(|service| change.concerns(service, old, new));
    concerned.for_each(|service| wake(Key::of(&**service)));
}

/// The Services whose slices of a controller someone else changed.
pub(crate) fn services_of_change(
    tracker: &SliceTracker,
    controller: &str,
    old: Option<&Arc<EndpointSlice>>,
    new: Option<&Arc<EndpointSlice>>,
) -> Vec<Key> {
    let is_ours = |slice: &EndpointSlice| is_managed_by(slice, controller);
    let keys = match (old, new) {
        (Some(old), Some(new)) if service_of(old) != service_of(new) => {
            vec![service_of(old), service_of(new)]
        }
        (Some(old), Some(new)) if is_ours(old) != is_ours(new) => vec![service_of(new)],
        (_, Some(new)) if is_ours(new) && tracker.is_news(new) => vec![service_of(new)],
        (Some(old), None) if is_ours(old) && tracker.gone(old) => vec![service_of(old)],
        _ => Vec::new(),
    };
    keys.into_iter().flatten().collect()
}

/// The slices that a controller manages for a Service, those aside that are going.
pub(crate) fn slices_of(
    slices: &Informer<EndpointSlice>,
    service: &Key,
    controller: &str,
) -> Vec<Arc<EndpointSlice>> {
    let mut found = slices.in_namespace(&service.namespace);
    found.retain(|slice| {
        is_managed_by(slice, controller)
            && service_of(slice).as_ref() == Some(service)
            && !slice.is_deleted()
    });
    found
}

/// Writes slices and takes note of what was written.
pub(crate) async fn write_slices(
    api: &Api<EndpointSlice>,
    tracker: &SliceTracker,
    create: &[EndpointSlice],
    update: &[EndpointSlice],
    delete: &[Arc<EndpointSlice>],
) -> Result<(), kube::Error> {
    for slice in create {
        match api.create(&PostParams::default(), slice).await {
            Ok(written) => tracker.written(&written),
            Err(error) if errors::is_namespace_terminating(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    for slice in update {
        let written = api
            .replace(View::name(slice), &PostParams::default(), slice)
            .await?;
        tracker.written(&written);
    }
    for slice in delete {
        match api
            .delete(View::name(&**slice), &DeleteParams::default())
            .await
        {
            Err(error) if !errors::is_not_found(&error) => return Err(error),
            _ => tracker.deleting(slice),
        }
    }
    Ok(())
}

impl EndpointSlices {
    /// Looks at the zones anew, and wakes the Services whose hints are no longer fair.
    fn sync_zones(&self) {
        let zones = self.look_at_zones();
        let mut known = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(zones.clone());
        drop(known);
        let hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, hinted) in hinted.iter() {
            let mut counts = hinted.counts.values();
            if counts.any(|counts| topology::is_overloaded(counts, zones.as_deref())) {
                self.queue.add(Wake::Service(key.clone()));
            }
        }
    }

    fn look_at_zones(&self) -> Option<Arc<Zones>> {
        let nodes = self.nodes.list();
        Zones::of(nodes.iter().map(|node| &**node)).map(Arc::new)
    }

    fn zones(&self) -> Option<Arc<Zones>> {
        let mut known = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| self.look_at_zones()).clone()
    }

    async fn sync_service(&self, key: &Key) -> Result<(), Error> {
        let Some(service) = self.services.get(&key.namespace, &key.name) else {
            self.trigger_times.forget(key);
            self.tracker.forget(key);
            self.hinted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(key);
            return Ok(());
        };
        if !is_selecting(&service) {
            return Ok(());
        }
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selects(&service, strings(&pod.metadata.labels)));
        let slices = slices_of(&self.slices, key, NAME);
        if self
            .tracker
            .is_stale(key, slices.iter().map(|slice| &**slice))
        {
            return Err(Error::other("EndpointSlice informer cache is out of date"));
        }
        let trigger_time = self.trigger_times.next(key, &service, &pods);
        let plan = self.plan(&service, &pods, &slices, trigger_time, key);
        self.apply(key, &service, plan).await
    }

    fn plan(
        &self,
        service: &Service,
        pods: &[Arc<Pod>],
        slices: &[Arc<EndpointSlice>],
        trigger_time: Option<Timestamp>,
        key: &Key,
    ) -> Plan {
        let zones = self.zones();
        let hinted = {
            let hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
            hinted.get(key).cloned().unwrap_or_default()
        };
        let seen = Observed {
            service,
            pods,
            slices,
            node: &|name| self.nodes.get("", name),
            zones: zones.as_deref(),
            endpoints_max: ENDPOINTS_MAX,
            trigger_time,
        };
        plan::plan(&seen, hinted)
    }

    async fn apply(&self, key: &Key, service: &Service, plan: Plan) -> Result<(), Error> {
        {
            let mut hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
            if plan.hinted == Hinted::default() {
                hinted.remove(key);
            } else {
                hinted.insert(key.clone(), plan.hinted);
            }
        }
        let api = Api::namespaced(self.context.client.clone(), &key.namespace);
        let written = write_slices(
            &api,
            &self.tracker,
            &plan.create,
            &plan.update,
            &plan.delete,
        )
        .await;
        let reference = note::reference(service);
        let problem = match &written {
            Err(error) => Some(errors::message(error)),
            Ok(()) if !plan.problems.is_empty() => Some(plan.problems.join(", ")),
            Ok(()) => None,
        };
        if let Some(problem) = problem {
            let message = format!("Error updating Endpoint Slices for Service {key}: {problem}");
            let reason = "FailedToUpdateEndpointSlices";
            self.recorder
                .event(&reference, EventType::Warning, reason, message);
            written?;
            return Err(Error::Other(problem));
        }
        note::tell(&self.recorder, &reference, &plan.notes);
        Ok(())
    }
}

//! Evicts pods whose devices have a NoExecute taint, once they no longer tolerate it.

mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use client::{Index, Informer, Key, Queue, Recorder, Subscription, View, errors};
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::resource::v1::DeviceTaint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde::Deserialize;
use serde_json::json;

use super::{Claim, claim_keys};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::note::{self, Note};
use crate::pod::Pod;

/// The controller.
pub struct Taints {
    context: Context,
    recorder: Recorder,
    pods: Informer<Pod>,
    claims: Informer<Claim>,
    slices: Informer<Slice>,
    /// When pods will have to go, by their unique id.
    planned: Mutex<BTreeMap<String, Timestamp>>,
    _watches: [Subscription; 3],
}

#[async_trait]
impl Controller for Taints {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let informers = &context.informers;
        let (pods, claims) = (informers.of::<Pod>(), informers.of::<Claim>());
        let slices = informers.of::<Slice>();
        Self {
            context: context.clone(),
            recorder: context.recorder("device-taint-eviction"),
            _watches: [
                wake_by_pods(&pods, queue),
                wake_by_claims(&claims, &pods, queue),
                wake_by_slices(&slices, &claims, &pods, queue),
            ],
            pods,
            claims,
            slices,
            planned: Mutex::default(),
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let names = claim_keys(&pod);
        let claims = names.iter().filter_map(|key| {
            let (namespace, name) = key.split_once('/')?;
            self.claims.get(namespace, name)
        });
        let claims: Vec<Arc<Claim>> = claims.collect();
        let pools = plan::pools(&self.slices.list());
        let Some(when) = plan::eviction(&pod, &claims, &pools) else {
            if lock(&self.planned).remove(pod.uid()).is_some() {
                self.say(&pod, "Cancelling deletion");
            }
            return Ok(Again::Done);
        };
        let wait = when.duration_since(self.context.now());
        if let Some(wait) = Duration::try_from(wait).ok().filter(|wait| !wait.is_zero()) {
            lock(&self.planned).insert(pod.uid().into(), when);
            return Ok(Again::After(wait));
        }
        self.evict(&pod).await?;
        lock(&self.planned).remove(pod.uid());
        Ok(Again::Done)
    }
}

impl Taints {
    fn say(&self, pod: &Pod, message: &str) {
        let note = Note::normal("DeviceTaintManagerEviction", message);
        note::tell(&self.recorder, &note::reference(pod), [&note]);
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let client = self.context.client.clone();
        let pods: Api<v1::Pod> = Api::namespaced(client, pod.namespace());
        let found = match pods.get(pod.name()).await {
            Err(error) if errors::is_not_found(&error) => return Ok(()),
            found => found?,
        };
        if found.uid() != pod.uid() || View::is_deleted(&found) {
            return Ok(());
        }
        self.say(pod, "Marking for deletion");
        let now = self.context.now();
        let patch = json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByDeviceTaintManager",
                "message": "Device Taint manager: deleting due to NoExecute taint",
                "observedGeneration": found.metadata.generation,
                "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }]},
        });
        let params = PatchParams::default();
        pods.patch_status(pod.name(), &params, &Patch::Strategic(&patch))
            .await?;
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        });
        match pods.delete(pod.name(), &params).await {
            Err(error) if !errors::is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn wake_by_pods(pods: &Informer<Pod>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    pods.on_change(move |_, new| {
        if let Some(pod) = new.filter(|pod| !pod.spec.resource_claims.is_empty()) {
            queue.add(Key::of(&**pod));
        }
    })
}

fn wake_by_claims(
    claims: &Informer<Claim>,
    pods: &Informer<Pod>,
    queue: &Queue<Key>,
) -> Subscription {
    let queue = queue.clone();
    let by_claim: Index<Pod> = pods.index("resource-claim", claim_keys);
    claims.on_change(move |old, new| {
        if let Some(claim) = new.or(old) {
            wake_users(claim, &by_claim, &queue);
        }
    })
}

/// A change of a slice is one of the pods that use devices of its pool, if there are taints.
fn wake_by_slices(
    slices: &Informer<Slice>,
    claims: &Informer<Claim>,
    pods: &Informer<Pod>,
    queue: &Queue<Key>,
) -> Subscription {
    let (claims, queue) = (claims.clone(), queue.clone());
    let by_claim: Index<Pod> = pods.index("resource-claim", claim_keys);
    slices.on_change(move |old, new| {
        let either = || old.into_iter().chain(new);
        if !either().any(|slice| slice.has_evicting_taints()) {
            return;
        }
        let Some(slice) = new.or(old) else {
            return;
        };
        for claim in claims.list() {
            let allocation = claim.status.allocation.iter();
            let mut devices = allocation.flat_map(|all| &all.devices.results);
            let is_its = devices.any(|device| {
                device.driver == slice.spec.driver && device.pool == slice.spec.pool.name
            });
            if is_its {
                wake_users(&claim, &by_claim, &queue);
            }
        }
    })
}

fn wake_users(claim: &Claim, pods: &Index<Pod>, queue: &Queue<Key>) {
    let key = format!("{}/{}", claim.namespace(), claim.name());
    for pod in pods.get(&key) {
        queue.add(Key::of(&*pod));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slice {
    fn has_evicting_taints(&self) -> bool {
        let mut taints = self.spec.devices.iter().flat_map(|device| &device.taints);
        taints.any(|taint| taint.effect == plan::NO_EXECUTE)
    }
}

/// A ResourceSlice: devices of a pool.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Slice {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it has.
    pub spec: SliceSpec,
}

client::view!(Slice, k8s_openapi::api::resource::v1::ResourceSlice);

/// What a slice has.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SliceSpec {
    /// Whose devices these are.
    pub driver: String,
    /// Of which pool.
    pub pool: Pool,
    /// The devices.
    pub devices: Vec<Device>,
}

/// A pool of devices.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Only slices of the newest generation count.
    pub generation: i64,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Its name in the pool.
    pub name: String,
    /// What keeps claims away.
    pub taints: Vec<DeviceTaint>,
}

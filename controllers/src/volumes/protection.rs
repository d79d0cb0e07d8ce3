//! Finalizers that keep what is used: volumes, claims and VolumeAttributesClasses.

mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use client::{Index, Informer, Key, Queue, Subscription, View};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::api::{Api, ListParams, PostParams};

use self::plan::{ATTRIBUTES_FINALIZER, CLAIM_FINALIZER, VOLUME_FINALIZER};
use super::{Claim, Volume, claim_keys, claim_name, is_pod_terminated};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::fresh;
use crate::pod::Pod;

/// Fetches an object as it was seen, and puts a finalizer on it or takes it off.
async fn change<K>(
    api: &Api<K>,
    seen: &impl View,
    finalizer: &str,
    change: plan::Change,
) -> Result<Again, Error>
where
    K: View + Clone + std::fmt::Debug + serde::Serialize,
{
    let mut object = fresh::fetch(api, seen.meta()).await?;
    let finalizers = plan::changed(object.meta(), finalizer, change);
    object.meta_mut().finalizers = Some(finalizers);
    api.replace(seen.name(), &PostParams::default(), &object)
        .await?;
    Ok(Again::Done)
}

/// Protects volumes while they are bound.
pub struct Volumes {
    client: kube::Client,
    volumes: Informer<Volume>,
    _watch: Subscription,
}

#[async_trait]
impl Controller for Volumes {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let volumes = context.informers.of::<Volume>();
        let queue = queue.clone();
        let watch = volumes.on_change(move |_, new| {
            if let Some(volume) = new
                && plan::is_interesting(&volume.metadata, VOLUME_FINALIZER)
            {
                queue.add(Key::of(&**volume));
            }
        });
        Self {
            client: context.client.clone(),
            volumes,
            _watch: watch,
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(volume) = self.volumes.get("", &key.name) else {
            return Ok(Again::Done);
        };
        let is_used = volume.status.phase == "Bound";
        match plan::plan(&volume.metadata, VOLUME_FINALIZER, is_used) {
            None => Ok(Again::Done),
            Some(what) => {
                let api: Api<PersistentVolume> = Api::all(self.client.clone());
                change(&api, &*volume, VOLUME_FINALIZER, what).await
            }
        }
    }
}

/// Protects claims while pods on nodes use them.
pub struct Claims {
    client: kube::Client,
    claims: Informer<Claim>,
    pods: Index<Pod>,
    _watches: [Subscription; 2],
}

#[async_trait]
impl Controller for Claims {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let (claims, pods) = (
            context.informers.of::<Claim>(),
            context.informers.of::<Pod>(),
        );
        let (of_claims, of_pods) = (queue.clone(), queue.clone());
        let watches = [
            claims.on_change(move |_, new| {
                if let Some(claim) = new
                    && plan::is_interesting(&claim.metadata, CLAIM_FINALIZER)
                {
                    of_claims.add(Key::of(&**claim));
                }
            }),
            pods.on_change(move |old, new| {
                let is_replaced = |old: &&Arc<Pod>| new.is_none_or(|new| new.uid() != old.uid());
                let gone = old.filter(is_replaced);
                let idle = new.filter(|pod| is_idle(pod));
                for pod in gone.into_iter().chain(idle) {
                    for volume in &pod.spec.volumes {
                        of_pods.add(Key::new(pod.namespace(), &claim_name(pod, volume)));
                    }
                }
            }),
        ];
        Self {
            client: context.client.clone(),
            claims,
            pods: pods.index("claim", claim_keys),
            _watches: watches,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let is_used =
            plan::may_go(&claim.metadata, CLAIM_FINALIZER) && self.is_used(&claim).await?;
        match plan::plan(&claim.metadata, CLAIM_FINALIZER, is_used) {
            None => Ok(Again::Done),
            Some(what) => {
                let api: Api<PersistentVolumeClaim> =
                    Api::namespaced(self.client.clone(), &key.namespace);
                change(&api, &*claim, CLAIM_FINALIZER, what).await
            }
        }
    }
}

/// Whether a pod may have stopped using its claims.
fn is_idle(pod: &Pod) -> bool {
    is_pod_terminated(pod) || pod.spec.node_name.is_empty()
}

impl Claims {
    /// Asks the API server itself before saying no: a pod may have come just now.
    async fn is_used(&self, claim: &Claim) -> Result<bool, Error> {
        let known = self.pods.get(&claim.key());
        if known.iter().any(|pod| plan::uses_claim(pod, claim)) {
            return Ok(true);
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), claim.namespace());
        let pods = pods.list(&ListParams::default()).await?;
        Ok(pods.items.iter().any(|pod| plan::uses_claim(pod, claim)))
    }
}

/// Protects VolumeAttributesClasses while claims and volumes have them.
pub struct Attributes {
    client: kube::Client,
    classes: Informer<VolumeAttributesClass>,
    claims: Index<Claim>,
    volumes: Index<Volume>,
    _watches: [Subscription; 3],
}

#[async_trait]
impl Controller for Attributes {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let classes = context.informers.of::<VolumeAttributesClass>();
        let (claims, volumes) = (
            context.informers.of::<Claim>(),
            context.informers.of::<Volume>(),
        );
        let (of_classes, of_claims, of_volumes) = (queue.clone(), queue.clone(), queue.clone());
        let watches = [
            classes.on_change(move |_, new| {
                if let Some(class) = new
                    && plan::is_interesting(&class.metadata, ATTRIBUTES_FINALIZER)
                {
                    of_classes.add(Key::of(&**class));
                }
            }),
            claims.on_change(move |old, new| {
                let names = |claim: Option<&Arc<Claim>>| {
                    claim
                        .map(|claim| plan::classes_of_claim(claim))
                        .unwrap_or_default()
                };
                wake_dropped(&of_claims, names(old), &names(new));
            }),
            volumes.on_change(move |old, new| {
                let names = |volume: Option<&Arc<Volume>>| {
                    volume
                        .map(|volume| plan::classes_of_volume(volume))
                        .unwrap_or_default()
                };
                wake_dropped(&of_volumes, names(old), &names(new));
            }),
        ];
        Self {
            client: context.client.clone(),
            claims: claims.index("attributes", plan::classes_of_claim),
            volumes: volumes.index("attributes", plan::classes_of_volume),
            classes,
            _watches: watches,
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(class) = self.classes.get("", &key.name) else {
            return Ok(Again::Done);
        };
        let is_used = self.claims.count(&key.name) + self.volumes.count(&key.name) > 0;
        match plan::plan(&class.metadata, ATTRIBUTES_FINALIZER, is_used) {
            None => Ok(Again::Done),
            Some(what) => {
                let api: Api<VolumeAttributesClass> = Api::all(self.client.clone());
                change(&api, &*class, ATTRIBUTES_FINALIZER, what).await
            }
        }
    }
}

/// Wakes the classes that an object has no more.
fn wake_dropped(queue: &Queue<Key>, old: Vec<String>, new: &[String]) {
    for name in old.iter().filter(|name| !new.contains(name)) {
        queue.add(Key::new("", name));
    }
}

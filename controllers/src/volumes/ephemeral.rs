//! Claims of ephemeral volumes: made from the pod's template, owned by the pod.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use client::{Index, Informer, Key, Queue, Recorder, Subscription, View};
use k8s_openapi::api::core::v1::{self, PersistentVolumeClaim};
use kube::api::{Api, PostParams};

use self::plan::Need;
use super::{Claim, claim_keys, claim_name};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::fresh;
use crate::note::{self, Note};
use crate::pod::Pod;

/// The controller.
pub struct Ephemeral {
    client: kube::Client,
    recorder: Recorder,
    pods: Informer<Pod>,
    claims: Informer<Claim>,
    _watches: [Subscription; 2],
}

#[async_trait]
impl Controller for Ephemeral {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let (pods, claims) = (
            context.informers.of::<Pod>(),
            context.informers.of::<Claim>(),
        );
        let (of_pods, of_claims) = (queue.clone(), queue.clone());
        let by_claim: Index<Pod> = pods.index("claim", claim_keys);
        let watches = [
            pods.on_change(move |old, new| {
                if let Some(pod) = new.filter(|_| old.is_none())
                    && has_ephemeral_volumes(pod)
                {
                    of_pods.add(Key::of(&**pod));
                }
            }),
            claims.on_change(move |old, new| {
                if let Some(claim) = old.filter(|_| new.is_none()) {
                    for pod in by_claim.get(&claim.key()) {
                        if has_ephemeral_volumes(&pod) {
                            of_claims.add(Key::of(&*pod));
                        }
                    }
                }
            }),
        ];
        Self {
            client: context.client.clone(),
            recorder: context.recorder("ephemeral_volume"),
            pods,
            claims,
            _watches: watches,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let volumes = pod.spec.volumes.iter();
        let claims: BTreeMap<String, Arc<Claim>> = volumes
            .filter_map(|volume| {
                let name = claim_name(&pod, volume);
                Some((name.clone(), self.claims.get(&key.namespace, &name)?))
            })
            .collect();
        let needs = plan::needs(&pod, &claims);
        if needs.is_empty() {
            return Ok(Again::Done);
        }
        let whole: Api<v1::Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let whole = fresh::fetch(&whole, &pod.metadata).await?;
        for need in needs {
            self.provide(&pod, &whole, need).await?;
        }
        Ok(Again::Done)
    }
}

fn has_ephemeral_volumes(pod: &Pod) -> bool {
    let mut volumes = pod.spec.volumes.iter();
    !pod.is_deleted() && volumes.any(|volume| volume.claim_name.is_none())
}

impl Ephemeral {
    async fn provide(&self, pod: &Pod, whole: &v1::Pod, need: Need) -> Result<(), Error> {
        let (volume, why) = match need {
            Need::Foreign { volume, message } => (volume, message),
            Need::Missing { volume, claim } => {
                match self.create(pod, whole, &volume, claim).await {
                    Ok(()) => return Ok(()),
                    Err(why) => (volume, why),
                }
            }
        };
        let message = format!("ephemeral volume {volume}: {why}");
        let note = Note::warning("FailedBinding", message.clone());
        note::tell(&self.recorder, &note::reference(pod), [&note]);
        let (namespace, pod) = (pod.namespace(), pod.name());
        Err(Error::other(format!("pod {namespace}/{pod}, {message}")))
    }

    async fn create(
        &self,
        pod: &Pod,
        whole: &v1::Pod,
        volume: &str,
        claim: String,
    ) -> Result<(), String> {
        let spec = whole.spec.as_ref();
        let mut volumes = spec
            .and_then(|spec| spec.volumes.as_deref())
            .into_iter()
            .flatten();
        let volume = volumes.find(|found| found.name == volume);
        let source = volume.and_then(|volume| volume.ephemeral.clone());
        let Some(template) = source.and_then(|source| source.volume_claim_template) else {
            return Ok(());
        };
        let made = plan::claim(pod, claim.clone(), template);
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), pod.namespace());
        let created = claims.create(&PostParams::default(), &made).await;
        created
            .map(drop)
            .map_err(|why| format!("create PVC {claim}: {why}"))
    }
}

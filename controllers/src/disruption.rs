//! Keeps PodDisruptionBudgets up to date: how many pods there are, are healthy and may be disrupted.
//! Takes a pod's word back that it will be disrupted, if it was not.

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use client::{EventType, Informer, Key, Queue, Recorder, Subscription, View, clock, errors};
use k8s_openapi::api::core::v1::Pod as WholePod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use self::plan::Scales;
use crate::apps::{Deployment, ReplicaSet, ReplicationController, StatefulSet};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::note;
use crate::pod::Pod;
use crate::scale;
use crate::selector::Selector;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// A budget.
    Budget(Key),
    /// A pod that said that it would be disrupted.
    Pod(Key),
}

/// The controller.
pub struct Disruption {
    context: Context,
    recorder: Recorder,
    scales: scale::Scales,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    replication_controllers: Informer<ReplicationController>,
    stateful_sets: Informer<StatefulSet>,
    _subscriptions: [Subscription; 2],
}

fn selector(budget: &PodDisruptionBudget) -> Selector {
    Selector::new(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
}

#[async_trait]
impl Controller for Disruption {
    type Key = Wake;

    fn start(context: &Context, queue: &Queue<Wake>) -> Self {
        let budgets = context.informers.of::<PodDisruptionBudget>();
        let pods = context.informers.of::<Pod>();
        let recorder = context.recorder("controllermanager");
        let subscriptions = [
            budgets.on_change({
                let queue = queue.clone();
                move |_, new| {
                    if let Some(budget) = new {
                        queue.add(Wake::Budget(Key::of(&**budget)));
                    }
                }
            }),
            pods.on_change({
                let (queue, budgets, recorder) = (queue.clone(), budgets.clone(), recorder.clone());
                let seams = context.seams.clone();
                move |old, new| {
                    for pod in old.into_iter().chain(new) {
                        wake_budgets(&budgets, pod, &recorder, &queue);
                    }
                    let now = clock::now(&*seams.clock);
                    if let Some(pod) = new
                        && let Some(wait) = plan::stale_in(pod, now)
                    {
                        queue.add_after(Wake::Pod(Key::of(&**pod)), wait);
                    }
                }
            }),
        ];
        Self {
            recorder,
            scales: scale::Scales::new(context.client.clone()),
            context: context.clone(),
            budgets,
            pods,
            deployments: context.informers.of(),
            replica_sets: context.informers.of(),
            replication_controllers: context.informers.of(),
            stateful_sets: context.informers.of(),
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, wake: &Wake) -> Result<Again, Error> {
        match wake {
            Wake::Budget(key) => self.sync_budget(key).await,
            Wake::Pod(key) => self.sync_pod(key).await,
        }
    }
}

fn wake_budgets(
    budgets: &Informer<PodDisruptionBudget>,
    pod: &Arc<Pod>,
    recorder: &Recorder,
    queue: &Queue<Wake>,
) {
    let mut matching = budgets.in_namespace(pod.namespace());
    matching.retain(|budget| selector(budget).matches(pod.metadata.labels.as_ref()));
    if let [first, _, ..] = matching.as_slice() {
        let (namespace, name, chosen) = (pod.namespace(), pod.name(), View::name(&**first));
        let message = format!(
            "Pod {namespace:?}/{name:?} matches multiple PodDisruptionBudgets.  Chose {chosen:?} arbitrarily."
        );
        let reason = "MultiplePodDisruptionBudgets";
        recorder.event(
            &note::reference(&**pod),
            EventType::Warning,
            reason,
            message,
        );
    }
    // All of them, so that none is stale.
    matching
        .iter()
        .for_each(|budget| queue.add(Wake::Budget(Key::of(&**budget))));
}

impl Disruption {
    async fn sync_budget(&self, key: &Key) -> Result<Again, Error> {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let selector = selector(&budget);
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selector.matches(pod.metadata.labels.as_ref()));
        let scales = match plan::needs_scales(&budget) {
            true => self.scales(&pods).await,
            false => Ok(Scales::default()),
        };
        let plan = plan::plan(&budget, &pods, &scales, self.context.now());
        note::tell(&self.recorder, &note::reference(&*budget), &plan.notes);
        for (pod, told) in &plan.pod_notes {
            note::tell(&self.recorder, &note::reference(&**pod), [told]);
        }
        if let Some(status) = plan.status {
            let mut budget = PodDisruptionBudget::clone(&budget);
            budget.status = Some(status);
            let api: Api<PodDisruptionBudget> =
                Api::namespaced(self.context.client.clone(), &key.namespace);
            match api
                .replace_status(&key.name, &PostParams::default(), &budget)
                .await
            {
                Err(error) if !errors::is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
        }
        if let Some(why) = plan.failure {
            tracing::debug!(%key, why, "the budget could not be computed");
        }
        Ok(plan.again.map_or(Again::Done, Again::After))
    }

    async fn scales(&self, pods: &[Arc<Pod>]) -> Result<Scales, String> {
        let mut scales = Scales::default();
        for owner in plan::controllers(pods) {
            let namespace = pods.first().map_or("", |pod| pod.namespace());
            if let Some((uid, wanted)) = self.scale(owner, namespace).await? {
                scales.wanted.insert(owner.uid.clone(), wanted);
                // A Deployment counts once, whichever of its ReplicaSets a pod belongs to.
                if uid != owner.uid {
                    scales.shared.insert(owner.uid.clone(), uid);
                }
            }
        }
        Ok(scales)
    }

    /// What a pod's controller wants, and whose wish that is.
    async fn scale(
        &self,
        owner: &OwnerReference,
        namespace: &str,
    ) -> Result<Option<(String, i32)>, String> {
        fn of<V: View>(
            found: Option<Arc<V>>,
            owner: &OwnerReference,
            replicas: impl Fn(&V) -> i32,
        ) -> Option<(String, i32)> {
            let found = found.filter(|found| found.uid() == owner.uid)?;
            Some((owner.uid.clone(), replicas(&found)))
        }
        let (group, _) = owner.api_version.split_once('/').unwrap_or(("", ""));
        let name = owner.name.as_str();
        match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => {
                let found = self.replication_controllers.get(namespace, name);
                Ok(of(found, owner, |found| found.spec.replicas))
            }
            ("apps" | "extensions", "ReplicaSet") => {
                let found = self.replica_sets.get(namespace, name);
                let above = found.as_ref().and_then(|set| set.controller().cloned());
                let above = above.filter(|above| above.kind == "Deployment");
                let deployment = above.and_then(|above| {
                    let found = self.deployments.get(namespace, &above.name);
                    of(found, &above, |found| found.spec.replicas)
                });
                let own = of(found, owner, |found| found.spec.replicas);
                Ok(own.and_then(|own| deployment.or(Some(own))))
            }
            ("apps", "StatefulSet") => {
                let found = self.stateful_sets.get(namespace, name);
                Ok(of(found, owner, |found| found.spec.replicas))
            }
            _ => {
                let (api_version, kind) = (owner.api_version.as_str(), owner.kind.as_str());
                let target = scale::Target {
                    api_version,
                    kind,
                    namespace,
                    name,
                };
                match self.scales.get(&target).await {
                    Ok(scale) if scale.metadata.uid.as_ref() == Some(&owner.uid) => {
                        let wanted = scale
                            .spec
                            .and_then(|spec| spec.replicas)
                            .unwrap_or_default();
                        Ok(Some((owner.uid.clone(), wanted)))
                    }
                    Ok(_) => Ok(None),
                    Err(error) if errors::is_not_found(&error) => Err(format!(
                        "{kind}.{group} does not implement the scale subresource"
                    )),
                    Err(error) => Err(errors::message(&error)),
                }
            }
        }
    }

    async fn sync_pod(&self, key: &Key) -> Result<Again, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let now = self.context.now();
        match plan::stale_in(&pod, now) {
            None => return Ok(Again::Done),
            Some(wait) if !wait.is_zero() => return Ok(Again::After(wait)),
            Some(_) => {}
        }
        let api: Api<WholePod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let condition = json!({"type": "DisruptionTarget", "status": "False", "reason": null,
            "message": null, "lastTransitionTime": now.to_string(),
            "observedGeneration": pod.metadata.generation});
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        }));
        match api
            .patch_status(&key.name, &PatchParams::default(), &patch)
            .await
        {
            Err(error) if !errors::is_not_found(&error) => Err(error.into()),
            _ => Ok(Again::Done),
        }
    }
}

#[cfg(test)]
mod tests;

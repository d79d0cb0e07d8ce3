//! Deployments: pods of one template, renewed through ReplicaSets when the template changes.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use client::{EventType, Index, Informer, Key, Queue, Recorder, Subscription, View, errors};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use serde_json::{Value, json};

use crate::adoption;
use crate::apps::{Deployment, ReplicaSet};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::expectations::Expectations;
use crate::pod::Pod;
use crate::status;
use plan::{Plan, Step};

/// The source of its events.
const COMPONENT: &str = "deployment-controller";
/// After so many failures a Deployment waits for its next change.
const FAILURES_MAX: u32 = 15;

/// Rolls out all Deployments.
pub struct Deployments {
    context: Context,
    recorder: Recorder,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    by_controller: Index<ReplicaSet>,
    pods: Index<Pod>,
    /// What was written of ReplicaSets.
    expectations: Arc<Expectations>,
    _subscriptions: [Subscription; 3],
}

#[async_trait]
impl Controller for Deployments {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let expectations = Arc::<Expectations>::default();
        let deployments = context.informers.of::<Deployment>();
        let sets = context.informers.of::<ReplicaSet>();
        let pods = context.informers.of::<Pod>();
        let (saw, forget) = (expectations.clone(), expectations.clone());
        let subscriptions = [
            adoption::wake_changed(&deployments, queue, move |gone| forget.forget(gone.uid())),
            adoption::wake_owners(&sets, &deployments, queue, move |set| saw.saw(set)),
            wake_recreating(&pods, &sets, &deployments, queue),
        ];
        Self {
            recorder: context.recorder(COMPONENT),
            context: context.clone(),
            by_controller: adoption::index_by_controller(&sets),
            pods: adoption::index_by_controller(&pods),
            deployments,
            sets,
            expectations,
            _subscriptions: subscriptions,
        }
    }

    fn failures_max(&self) -> Option<u32> {
        Some(FAILURES_MAX)
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(deployment) = self.deployments.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        if !self.is_current(&deployment) {
            return Ok(Again::Done);
        }
        let candidates = adoption::candidates(&self.by_controller, &*deployment);
        let is_match = |set: &ReplicaSet| {
            deployment
                .spec
                .selector
                .matches(set.metadata.labels.as_ref())
        };
        let client = &self.context.client;
        let sets = adoption::claim_all(client, &*deployment, candidates, is_match).await?;
        let has_pods = |set: &ReplicaSet| {
            self.pods
                .get(set.uid())
                .iter()
                .any(|pod| !pod.is_terminal())
        };
        let plan = plan::plan(&deployment, &sets, has_pods, self.context.now());
        match self.apply(&deployment, &plan).await {
            // The namespace's end will be the Deployment's.
            Err(Error::Api(error)) if errors::is_namespace_terminating(&error) => Ok(Again::Done),
            Err(error) => Err(error),
            Ok(()) => Ok(plan.again.map_or(Again::Done, Again::after)),
        }
    }
}

/// A Deployment that recreates waits for the last of its old pods, which its ReplicaSets do not
/// count any more.
fn wake_recreating(
    pods: &Informer<Pod>,
    sets: &Informer<ReplicaSet>,
    deployments: &Informer<Deployment>,
    queue: &Queue<Key>,
) -> Subscription {
    let (sets, deployments, queue) = (sets.clone(), deployments.clone(), queue.clone());
    pods.on_change(move |old, new| {
        let has_ended = new.is_none_or(|new| new.is_terminal());
        let Some(pod) = old.filter(|old| has_ended && !old.is_terminal()) else {
            return;
        };
        let owner = pod.controller().filter(|owner| owner.kind == "ReplicaSet");
        let set = owner.and_then(|owner| sets.get(pod.namespace(), &owner.name));
        let owner = set.as_ref().and_then(|set| set.controller());
        let Some(owner) = owner.filter(|owner| owner.kind == "Deployment") else {
            return;
        };
        let deployment = deployments.get(pod.namespace(), &owner.name);
        if deployment.is_some_and(|found| found.spec.strategy.type_ == "Recreate") {
            queue.add(Key::new(pod.namespace(), &owner.name));
        }
    })
}

impl Deployments {
    /// Whether the cache shows all that was done for the Deployment.
    fn is_current(&self, deployment: &Deployment) -> bool {
        let is_live = |name: &str, uid: &str| {
            let set = self.sets.get(deployment.namespace(), name);
            set.is_some_and(|set| set.uid() == uid && !set.is_deleted())
        };
        let now = self.context.seams.clock.now();
        self.expectations.are_met(deployment.uid(), now, is_live)
    }

    async fn apply(&self, deployment: &Deployment, plan: &Plan) -> Result<(), Error> {
        for step in &plan.steps {
            self.take(deployment, step).await?;
        }
        let metadata = match &plan.revision {
            Some(revision) => json!({"annotations": {plan::REVISION: revision}}),
            None => json!({}),
        };
        self.write_status(deployment, &plan.status, metadata).await
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        status: &k8s_openapi::api::apps::v1::DeploymentStatus,
        metadata: Value,
    ) -> Result<(), Error> {
        let old = &deployment.status;
        status::write(&self.context.client, deployment, old, status, metadata).await?;
        Ok(())
    }

    async fn take(&self, deployment: &Deployment, step: &Step) -> Result<(), Error> {
        match step {
            Step::Create {
                name,
                replicas,
                body,
            } => self.create(deployment, name, *replicas, body).await,
            Step::Update {
                set,
                annotations,
                replicas,
                min_ready_seconds,
            } => {
                self.update(deployment, set, annotations, *replicas, *min_ready_seconds)
                    .await
            }
            Step::Delete(set) => self.delete(deployment, set).await,
            Step::Rollback(patch) => {
                let api = self.api::<Deployment>(deployment);
                let patch = Patch::Strategic(patch);
                api.patch(deployment.name(), &PatchParams::default(), &patch)
                    .await?;
                Ok(())
            }
            Step::Event {
                is_warning,
                reason,
                message,
            } => {
                let type_ = if *is_warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                };
                self.event(deployment, type_, reason, message);
                Ok(())
            }
        }
    }

    fn api<K: adoption::Owned>(&self, deployment: &Deployment) -> Api<K> {
        Api::namespaced(self.context.client.clone(), deployment.namespace())
    }

    fn event(&self, deployment: &Deployment, type_: EventType, reason: &str, message: &str) {
        let object = kube::Resource::object_ref(deployment, &());
        self.recorder.event(&object, type_, reason, message);
    }

    fn wrote(&self, deployment: &Deployment, set: &ReplicaSet) {
        let version = set.metadata.resource_version.as_deref();
        self.expectations
            .wrote(deployment.uid(), version, self.context.seams.clock.now());
    }

    async fn create(
        &self,
        deployment: &Deployment,
        name: &str,
        replicas: i32,
        body: &Value,
    ) -> Result<(), Error> {
        let api = self.api::<ReplicaSet>(deployment);
        let body = body.to_string().into_bytes();
        let request = Request::new(api.resource_url()).create(&PostParams::default(), body);
        let request = request.map_err(kube::Error::BuildRequest)?;
        match self.context.client.request::<ReplicaSet>(request).await {
            Ok(set) => {
                self.wrote(deployment, &set);
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.event(deployment, EventType::Normal, "ScalingReplicaSet", &message);
                }
                Ok(())
            }
            Err(error) if errors::is_already_exists(&error) => {
                self.resolve_collision(deployment, name, error).await
            }
            Err(error) if errors::is_namespace_terminating(&error) => Err(error.into()),
            Err(error) => {
                let cause = errors::message(&error);
                let now = self.context.now();
                let (status, message) = plan::creation_failed(deployment, name, &cause, now);
                if let Err(error) = self.write_status(deployment, &status, json!({})).await {
                    tracing::debug!(%error, "the failure could not be noted");
                }
                self.event(
                    deployment,
                    EventType::Warning,
                    "ReplicaSetCreateError",
                    &message,
                );
                Err(error.into())
            }
        }
    }

    /// A set of the name is there: the Deployment's own, which the cache does not show yet, or
    /// another one's, so that the next name must differ.
    async fn resolve_collision(
        &self,
        deployment: &Deployment,
        name: &str,
        error: kube::Error,
    ) -> Result<(), Error> {
        let set = self.api::<ReplicaSet>(deployment).get(name).await?;
        let is_own = adoption::is_controlled_by(&set, deployment);
        if is_own && set.spec.template == deployment.spec.template {
            self.wrote(deployment, &set);
            return Ok(());
        }
        let mut status = deployment.status.clone();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let version = json!({"resourceVersion": deployment.metadata.resource_version});
        self.write_status(deployment, &status, version).await?;
        Err(error.into())
    }

    async fn update(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        annotations: &BTreeMap<String, String>,
        replicas: Option<(i32, i32)>,
        min_ready_seconds: Option<i32>,
    ) -> Result<(), Error> {
        let mut patch = json!({"metadata": {"uid": set.uid(), "annotations": annotations}});
        if let Some((_, replicas)) = replicas {
            patch["spec"]["replicas"] = replicas.into();
        }
        if let Some(seconds) = min_ready_seconds {
            patch["spec"]["minReadySeconds"] = seconds.into();
        }
        let api = self.api::<ReplicaSet>(deployment);
        let patch = Patch::Merge(patch);
        let written = api
            .patch(set.name(), &PatchParams::default(), &patch)
            .await?;
        self.wrote(deployment, &written);
        if let Some((from, to)) = replicas {
            let way = if from < to { "up" } else { "down" };
            let message = format!(
                "Scaled {way} replica set {} from {from} to {to}",
                set.name()
            );
            self.event(deployment, EventType::Normal, "ScalingReplicaSet", &message);
        }
        Ok(())
    }

    async fn delete(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<(), Error> {
        let preconditions = Some(Preconditions {
            uid: Some(set.uid().into()),
            // What has changed meanwhile may be in use again.
            resource_version: set.metadata.resource_version.clone(),
        });
        let how = DeleteParams {
            preconditions,
            ..DeleteParams::default()
        };
        match self
            .api::<ReplicaSet>(deployment)
            .delete(set.name(), &how)
            .await
        {
            Err(error) if !errors::is_not_found(&error) => Err(error.into()),
            _ => {
                let now = self.context.seams.clock.now();
                self.expectations
                    .deleted(deployment.uid(), set.name(), set.uid(), now);
                Ok(())
            }
        }
    }
}

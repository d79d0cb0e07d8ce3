//! ReplicaSets and ReplicationControllers: so many pods of one template.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use client::{Index, Informer, Key, Queue, Subscription, View, errors};
use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use serde_json::json;

use crate::adoption::{self, Owned, Selects};
use crate::apps::{ReplicaSet, ReplicaSetSpec, ReplicationController};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::pod::Pod;
use crate::pod_control::{PodControl, pod_of, slow_start};
use crate::status;
use plan::Scale;

/// A kind that keeps so many pods.
pub trait Replicated: Owned + Selects {
    /// The source of its events.
    const COMPONENT: &'static str;
    /// Whether its status tells how many pods are on their way out.
    const COUNTS_TERMINATING: bool;
    /// What is wanted.
    fn spec(&self) -> &ReplicaSetSpec;
    /// What is.
    fn status(&self) -> &ReplicaSetStatus;
}

impl Replicated for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";
    const COUNTS_TERMINATING: bool = true;

    fn spec(&self) -> &ReplicaSetSpec {
        &self.spec
    }

    fn status(&self) -> &ReplicaSetStatus {
        &self.status
    }
}

impl Replicated for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";
    const COUNTS_TERMINATING: bool = false;

    fn spec(&self) -> &ReplicaSetSpec {
        &self.spec
    }

    fn status(&self) -> &ReplicaSetStatus {
        &self.status
    }
}

/// Keeps the pods of all sets of a kind.
pub struct Replication<S> {
    context: Context,
    control: PodControl,
    sets: Informer<S>,
    /// Sets by their own controller.
    siblings: Index<S>,
    pods: Informer<Pod>,
    by_controller: Index<Pod>,
    _subscriptions: [Subscription; 2],
}

#[async_trait]
impl<S: Replicated> Controller for Replication<S> {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let control = PodControl::new(context, S::COMPONENT);
        let sets = context.informers.of::<S>();
        let pods = context.informers.of::<Pod>();
        let (saw, forget) = (control.expectations.clone(), control.expectations.clone());
        let subscriptions = [
            adoption::wake_changed(&sets, queue, move |set| forget.forget(set.uid())),
            adoption::wake_owners(&pods, &sets, queue, move |pod| saw.saw(pod)),
        ];
        Self {
            context: context.clone(),
            control,
            siblings: adoption::index_by_controller(&sets),
            by_controller: adoption::index_by_controller(&pods),
            sets,
            pods,
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let is_current = self.is_current(&set);
        let candidates = adoption::candidates(&self.by_controller, &*set);
        let is_match = |pod: &Pod| set.selector().matches(pod.metadata.labels.as_ref());
        let is_leaving = |pod: &Pod| {
            pod.is_terminating() && adoption::is_controlled_by(pod, &*set) && is_match(pod)
        };
        let leaving = candidates.iter().filter(|pod| is_leaving(pod)).count();
        let active = candidates.into_iter().filter(|pod| pod.is_active());
        let active = adoption::claim_all(&self.context.client, &*set, active, is_match).await?;
        let mut managed = Ok(());
        if is_current && !set.is_deleted() {
            managed = self.manage(&set, &active).await;
        }
        let now = self.context.now();
        let status = plan::status(
            set.spec(),
            set.status(),
            set.meta().generation.unwrap_or(0),
            &active,
            S::COUNTS_TERMINATING.then_some(leaving),
            managed.as_ref().err().map(Error::message),
            now,
        );
        status::write(
            &self.context.client,
            &*set,
            set.status(),
            &status,
            json!({}),
        )
        .await?;
        managed?;
        let next = plan::next_check(set.spec(), &status, &active, now);
        Ok(next.map_or(Again::Done, Again::after))
    }
}

impl<S: Replicated> Replication<S> {
    /// Whether the cache shows all that was done for the set.
    fn is_current(&self, set: &S) -> bool {
        let is_live = |name: &str, uid: &str| {
            let pod = self.pods.get(set.namespace(), name);
            pod.is_some_and(|pod| pod.uid() == uid && !pod.is_deleted())
        };
        let now = self.context.seams.clock.now();
        self.control.expectations.are_met(set.uid(), now, is_live)
    }

    /// Puts the number of pods right.
    async fn manage(&self, set: &S, active: &[Arc<Pod>]) -> Result<(), Error> {
        let related = || self.related(set);
        match plan::scale(set.spec(), active, related, self.context.now()) {
            Scale::Keep => Ok(()),
            Scale::Create(count) => {
                let body = pod_of(&set.spec().template, set).to_string();
                let create = |_| async {
                    match self.control.create(set, body.as_bytes()).await {
                        // The namespace's end will be this set's.
                        Err(Error::Api(error)) if errors::is_namespace_terminating(&error) => {
                            Ok(())
                        }
                        done => done,
                    }
                };
                slow_start(count, create).await.1
            }
            Scale::Delete(pods) => {
                let deleted = pods.iter().map(|pod| self.control.delete(set, pod));
                let deleted = futures::future::join_all(deleted).await;
                deleted.into_iter().collect()
            }
        }
    }

    /// The pods of all sets of the set's own controller.
    fn related(&self, set: &S) -> Vec<Arc<Pod>> {
        let Some(owner) = set.controller() else {
            return Vec::new();
        };
        let siblings = self.siblings.get(&owner.uid).into_iter();
        siblings
            .flat_map(|set| self.by_controller.get(set.uid()))
            .collect()
    }
}

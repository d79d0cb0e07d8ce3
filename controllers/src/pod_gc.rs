//! Pod garbage collection: pods that no node and no controller will ever remove.

mod plan;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use client::{Informer, Queue, View, errors};
use futures::StreamExt;
use futures::stream;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use self::plan::{Quarantine, Reason};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::pod::{ConditionStatus, ConditionType, Pod};

/// How often pods are looked at.
const PERIOD: Duration = Duration::from_secs(20);
/// Requests at a time.
const REQUESTS: usize = 16;

/// Removes pods.
pub(crate) struct PodGc {
    context: Context,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    quarantine: Mutex<Quarantine>,
}

#[async_trait]
impl Controller for PodGc {
    /// There is one thing to do.
    type Key = ();

    fn start(context: &Context, _: &Queue<()>) -> Self {
        Self {
            context: context.clone(),
            pods: context.informers.of::<Pod>(),
            nodes: context.informers.of::<Node>(),
            quarantine: Mutex::default(),
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn background(&self, queue: &Queue<()>) {
        loop {
            queue.add(());
            sleep(PERIOD).await;
        }
    }

    async fn sync(&self, (): &()) -> Result<Again, Error> {
        let (pods, nodes) = (self.pods.list(), self.nodes.list());
        let now = self.context.now();
        let ripe = {
            let mut quarantine = self
                .quarantine
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            quarantine.look(&pods, &nodes, now)
        };
        let mut gone = BTreeSet::new();
        let api = Api::<Node>::all(self.context.client.clone());
        for name in ripe {
            if api.get_metadata_opt(&name).await?.is_none() {
                gone.insert(name);
            }
        }
        let threshold = self.context.settings.terminated_pod_threshold;
        let removals = plan::removals(&pods, &nodes, &gone, threshold);
        let removed = stream::iter(removals).map(|(pod, reason)| self.remove(pod, reason));
        let failures: Vec<Error> = removed
            .buffer_unordered(REQUESTS)
            .filter_map(async |one| one.err())
            .collect()
            .await;
        failures.into_iter().next().map_or(Ok(Again::Done), Err)
    }
}

impl PodGc {
    /// Says that a pod has failed, unless it has ended, and deletes it at once.
    async fn remove(&self, pod: Arc<Pod>, reason: Reason) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace(), pod.name());
        tracing::info!(
            namespace,
            name,
            reason = reason.as_str(),
            "a pod is removed"
        );
        let api = Api::<Pod>::namespaced(self.context.client.clone(), namespace);
        let result = async {
            if plan::is_to_fail(&pod) {
                let patch = Patch::Strategic(self.failure(&pod, reason));
                api.patch_status(name, &PatchParams::default(), &patch)
                    .await?;
            }
            let now = DeleteParams::default().grace_period(0);
            let preconditions = kube::api::Preconditions {
                uid: Some(pod.uid().to_string()),
                resource_version: None,
            };
            api.delete(name, &now.preconditions(preconditions))
                .await
                .map(drop)
        };
        match result.await {
            // It is gone, or another has its name.
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            result => result.map_err(Into::into),
        }
    }

    fn failure(&self, pod: &Pod, reason: Reason) -> serde_json::Value {
        let mut status = json!({"phase": "Failed"});
        if reason == Reason::Orphaned {
            let known = pod.condition(&ConditionType::DisruptionTarget);
            let holds = known.is_some_and(|known| known.status == ConditionStatus::True);
            let mut condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists",
            });
            if !holds {
                let now = self.context.now();
                condition["lastTransitionTime"] =
                    json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            }
            status["conditions"] = json!([condition]);
        }
        json!({"metadata": {"uid": pod.uid()}, "status": status})
    }
}

#[cfg(test)]
mod tests;

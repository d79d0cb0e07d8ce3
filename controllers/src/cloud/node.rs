//! Tells nodes what their place knows of their machines.

pub mod plan;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use client::{EventType, Informer, Queue, Recorder, Subscription, errors};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::provider::{CloudProvider, Instance, Instances};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::note;

/// How often addresses and labels are asked for again.
const REFRESH: Duration = Duration::from_secs(300);

/// The controller. Keys are names of nodes.
pub struct CloudNodes {
    context: Context,
    recorder: Recorder,
    provider: Option<Arc<dyn CloudProvider>>,
    nodes: Informer<Node>,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for CloudNodes {
    type Key = String;

    fn start(context: &Context, queue: &Queue<String>) -> Self {
        let nodes = context.informers.of::<Node>();
        let queue = queue.clone();
        let subscription = nodes.on_change(move |_, new| {
            if let Some(node) = new {
                queue.add(node.name().to_owned());
            }
        });
        Self {
            recorder: context.recorder("cloud-node-controller"),
            provider: super::provider(context),
            context: context.clone(),
            nodes,
            _subscription: subscription,
        }
    }

    fn workers(&self) -> usize {
        1
    }

    async fn sync(&self, name: &String) -> Result<Again, Error> {
        let instances = self
            .provider
            .as_ref()
            .and_then(|provider| provider.instances());
        let (Some(instances), Some(node)) = (instances, self.nodes.get("", name)) else {
            return Ok(Again::Done);
        };
        if plan::is_uninitialized(&node) {
            self.initialize(&node, instances).await?;
        } else {
            let labels = plan::stale_labels(&node);
            if !labels.is_empty() {
                self.patch(&node, json!({"metadata": {"labels": labels}}))
                    .await?;
            }
        }
        Ok(Again::Done)
    }

    async fn background(&self, _: &Queue<String>) {
        let Some(instances) = self
            .provider
            .as_ref()
            .and_then(|provider| provider.instances())
        else {
            return;
        };
        loop {
            for node in self.nodes.list() {
                if plan::is_uninitialized(&node) {
                    continue;
                }
                match instances.instance(&node).await {
                    Ok(instance) => self.refresh(&node, &instance).await,
                    Err(error) => tracing::debug!(node = node.name(), %error, "no news of a node"),
                }
            }
            sleep(REFRESH).await;
        }
    }
}

impl CloudNodes {
    fn api(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }

    async fn patch(&self, node: &Node, patch: Value) -> Result<(), kube::Error> {
        let patch = Patch::Merge(patch);
        match self
            .api()
            .patch(node.name(), &PatchParams::default(), &patch)
            .await
        {
            Err(error) if errors::is_not_found(&error) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    async fn initialize(&self, node: &Node, instances: &dyn Instances) -> Result<(), Error> {
        let name = node.name();
        let instance = instances.instance(node).await.map_err(|error| {
            Error::other(format!(
                "failed to get instance metadata for node {name}: {error}"
            ))
        })?;
        let done = plan::initialize(node, &instance).map_err(Error::Other)?;
        let mut spec = json!({"taints": done.taints});
        if let Some(id) = done.provider_id {
            spec["providerID"] = id.into();
        }
        self.patch(node, json!({
            "metadata": {"resourceVersion": node.metadata.resource_version, "labels": done.labels},
            "spec": spec,
        }))
        .await?;
        self.refresh(node, &instance).await;
        let reference = note::reference(node);
        self.recorder.event(
            &reference,
            EventType::Normal,
            "Synced",
            "Node synced successfully",
        );
        Ok(())
    }

    /// Brings addresses and labels to what a node's place tells.
    async fn refresh(&self, node: &Node, instance: &Instance) {
        if let Some(addresses) = plan::addresses(node, instance) {
            let patch = Patch::Merge(json!({"status": {"addresses": addresses}}));
            let params = PatchParams::default();
            if let Err(error) = self.api().patch_status(node.name(), &params, &patch).await {
                tracing::warn!(node = node.name(), %error, "addresses were not written");
            }
        }
        let labels = plan::missing_labels(node, instance);
        if !labels.is_empty()
            && let Err(error) = self
                .patch(node, json!({"metadata": {"labels": labels}}))
                .await
        {
            tracing::warn!(node = node.name(), %error, "labels were not written");
        }
    }
}

//! Removes nodes whose machines are gone, and taints those whose machines are off.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use client::{EventType, Informer, Queue, Recorder, errors};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::{MissedTickBehavior, interval};

use super::node::plan::is_uninitialized;
use super::provider::{CloudError, CloudProvider, Instance, Instances};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::note;
use crate::taint::{self, NO_SCHEDULE, SHUTDOWN};

/// How often nodes are looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a node that is not initialized may be unknown to its place.
const UNINITIALIZED_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// What to do about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// To ask its place.
    Ask,
    /// To take the taint back.
    Untaint,
    Taint,
    Delete,
}

/// What a node calls for before its place was asked.
fn before(node: &Node, now: Timestamp) -> Step {
    if node.is_ready() {
        let is_tainted = node.has_taint(SHUTDOWN, NO_SCHEDULE);
        return if is_tainted {
            Step::Untaint
        } else {
            Step::Nothing
        };
    }
    let has_id = node
        .spec
        .provider_id
        .as_deref()
        .is_some_and(|id| !id.is_empty());
    let created = node
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let is_new = now.duration_since(created) < UNINITIALIZED_GRACE;
    if !has_id && is_uninitialized(node) && is_new {
        Step::Nothing
    } else {
        Step::Ask
    }
}

/// What a node calls for after its place was asked.
fn after(answer: &Result<Instance, CloudError>) -> Step {
    match answer {
        Ok(instance) if instance.is_shut_down => Step::Taint,
        Err(CloudError::NotFound) => Step::Delete,
        _ => Step::Nothing,
    }
}

/// The controller.
pub struct CloudNodeLifecycle {
    context: Context,
    recorder: Recorder,
    provider: Option<Arc<dyn CloudProvider>>,
    nodes: Informer<Node>,
}

#[async_trait]
impl Controller for CloudNodeLifecycle {
    type Key = ();

    fn start(context: &Context, _: &Queue<()>) -> Self {
        Self {
            recorder: context.recorder("cloud-node-lifecycle-controller"),
            provider: super::provider(context),
            nodes: context.informers.of(),
            context: context.clone(),
        }
    }

    async fn sync(&self, (): &()) -> Result<Again, Error> {
        Ok(Again::Done)
    }

    async fn background(&self, _: &Queue<()>) {
        let Some(instances) = self
            .provider
            .as_ref()
            .and_then(|provider| provider.instances())
        else {
            return;
        };
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for node in self.nodes.list() {
                if let Err(error) = self.look(&node, instances).await {
                    tracing::warn!(node = node.name(), %error, "a node is not as its machine");
                }
            }
        }
    }
}

impl CloudNodeLifecycle {
    async fn look(&self, node: &Node, instances: &dyn Instances) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.context.client.clone());
        let off = taint::taint(SHUTDOWN, NO_SCHEDULE);
        let step = match before(node, self.context.now()) {
            Step::Ask => after(&instances.instance(node).await),
            step => step,
        };
        match step {
            Step::Nothing | Step::Ask => Ok(()),
            Step::Untaint => taint::change(&api, node, &[], &[off]).await,
            Step::Taint => taint::change(&api, node, &[off], &[]).await,
            Step::Delete => self.delete(&api, node).await,
        }
    }

    async fn delete(&self, api: &Api<Node>, node: &Node) -> Result<(), kube::Error> {
        let (name, reference) = (node.name(), note::reference(node));
        let message =
            format!("Deleting node {name} because it does not exist in the cloud provider");
        self.recorder
            .event(&reference, EventType::Normal, "DeletingNode", message);
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: node.metadata.uid.clone(),
            resource_version: None,
        });
        match api.delete(name, &params).await {
            Err(error) if errors::is_not_found(&error) => Ok(()),
            Err(error) => {
                let message = format!("Failed deleting node {name}: {}", errors::message(&error));
                self.recorder.event(
                    &reference,
                    EventType::Warning,
                    "DeletingNodeFailed",
                    message,
                );
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }
}

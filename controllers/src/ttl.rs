//! Tells nodes how long they may keep Secrets and ConfigMaps, by the size of the cluster.

pub mod plan;

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use client::{Informer, Queue, Subscription, errors};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;

/// The controller. Keys are names of nodes.
pub struct Ttl {
    context: Context,
    nodes: Informer<Node>,
    step: Mutex<usize>,
    _subscription: Subscription,
}

#[async_trait]
impl Controller for Ttl {
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
            context: context.clone(),
            nodes,
            step: Mutex::default(),
            _subscription: subscription,
        }
    }

    async fn sync(&self, name: &String) -> Result<Again, Error> {
        let Some(node) = self.nodes.get("", name) else {
            return Ok(Again::Done);
        };
        let step = {
            let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
            *step = plan::next_step(*step, self.nodes.len());
            *step
        };
        if let Some(seconds) = plan::plan(step, node.annotation(plan::TTL_ANNOTATION)) {
            let api: Api<Node> = Api::all(self.context.client.clone());
            let annotations = json!({plan::TTL_ANNOTATION: seconds.to_string()});
            let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
            match api.patch(name, &PatchParams::default(), &patch).await {
                Err(error) if !errors::is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Again::Done)
    }
}

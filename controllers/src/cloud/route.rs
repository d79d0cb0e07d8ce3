//! Keeps routes to the pods of every node, and says on nodes whether there are.

pub mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::values::ip::Cidr;
use async_trait::async_trait;
use client::{EventType, Informer, Queue, Recorder};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::provider::{CloudProvider, Routes};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;

/// How often routes are looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// The controller.
pub struct RouteController {
    context: Context,
    recorder: Recorder,
    provider: Option<Arc<dyn CloudProvider>>,
    nodes: Informer<Node>,
}

#[async_trait]
impl Controller for RouteController {
    type Key = ();

    fn start(context: &Context, _: &Queue<()>) -> Self {
        Self {
            recorder: context.recorder("route_controller"),
            provider: super::provider(context),
            nodes: context.informers.of(),
            context: context.clone(),
        }
    }

    async fn sync(&self, (): &()) -> Result<Again, Error> {
        Ok(Again::Done)
    }

    async fn background(&self, _: &Queue<()>) {
        let routes = self
            .provider
            .as_ref()
            .and_then(|provider| provider.routes());
        let cluster: Vec<Cidr> = self
            .context
            .settings
            .node_ipam
            .cluster
            .iter()
            .map(|(c, _)| *c)
            .collect();
        let Some(routes) = routes.filter(|_| !cluster.is_empty()) else {
            return;
        };
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.reconcile(routes, &cluster).await {
                tracing::warn!(error, "routes were not looked at");
            }
        }
    }
}

impl RouteController {
    async fn reconcile(&self, routes: &dyn Routes, cluster: &[Cidr]) -> Result<(), String> {
        let listed = routes
            .list()
            .await
            .map_err(|e| format!("error listing routes: {e}"))?;
        let nodes = self.nodes.list();
        let plan = plan::plan(nodes.iter().map(|node| &**node), &listed, cluster);
        for route in &plan.delete {
            if let Err(error) = routes.delete(route).await {
                tracing::warn!(route = route.name, %error, "a route was not removed");
            }
        }
        let mut failed = BTreeSet::new();
        for (hint, route) in &plan.create {
            if let Err(error) = routes.create(hint, route).await {
                failed.insert(route.node.as_str());
                let (node, destination) = (&route.node, &route.destination);
                let message =
                    format!("Could not create route {hint} {destination} for node {node}: {error}");
                let reference = ObjectReference {
                    kind: Some("Node".to_owned()),
                    name: Some(node.clone()),
                    uid: Some(node.clone()),
                    ..ObjectReference::default()
                };
                self.recorder.event(
                    &reference,
                    EventType::Warning,
                    "FailedToCreateRoute",
                    message,
                );
            }
        }
        for node in &nodes {
            if plan.nodes.contains_key(node.name()) {
                self.tell(node, !failed.contains(node.name())).await;
            }
        }
        Ok(())
    }

    /// Says on a node whether its routes are there.
    async fn tell(&self, node: &Node, has_routes: bool) {
        let (status, reason, message) = if has_routes {
            ("False", "RouteCreated", "RouteController created a route")
        } else {
            (
                "True",
                "NoRouteCreated",
                "RouteController failed to create a route",
            )
        };
        if node
            .condition("NetworkUnavailable")
            .is_some_and(|c| c.status == status)
        {
            return;
        }
        let now = self.context.now().to_string();
        let patch = Patch::Strategic(json!({"status": {"conditions": [{
            "type": "NetworkUnavailable", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now, "lastHeartbeatTime": now,
        }]}}));
        let api: Api<Node> = Api::all(self.context.client.clone());
        if let Err(error) = api
            .patch_status(node.name(), &PatchParams::default(), &patch)
            .await
        {
            tracing::warn!(node = node.name(), %error, "a condition was not written");
        }
    }
}

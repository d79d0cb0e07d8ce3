//! The objects of hollow nodes themselves: Nodes and Leases.

use std::sync::Arc;

use client::errors;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

use super::super::behaviour::Failure;
use super::super::node::{self, Node};
use super::super::voice::{JSON, MERGE, STRATEGIC, Write};
use super::{Shared, Work, Written};
use api::values::ip::Cidr;

/// Where Leases of nodes are.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

impl Shared {
    /// Takes over what others decided for a node.
    pub(super) fn node_changed(&self, seen: &Arc<Node>) {
        let name = seen.metadata.name.as_deref().unwrap_or_default();
        let Some(&node) = self.by_name.get(name) else {
            return;
        };
        let failure = seen.failure().unwrap_or(self.config.failure);
        let has_changed = {
            let mut state = self.nodes[node].state();
            state.is_registered = true;
            let blocks = seen.spec.pod_cidrs.iter();
            if let Some(block) = blocks.filter_map(|text| Cidr::parse(text)).next() {
                state.pool.move_to(block);
            }
            let has_changed = state.failure != failure;
            state.failure = failure;
            has_changed
        };
        if has_changed {
            tracing::info!(node = name, ?failure, "behaves otherwise from now on");
            self.wake_pods(node);
            self.work.add(Work::Lease(node));
        }
        self.work.add(Work::Report(node));
    }

    /// Does what is due for a node.
    pub(super) async fn tend(&self, work: Work) {
        let (node, done) = match work {
            Work::Report(node) => (node, self.report(node).await),
            Work::Lease(node) => (node, self.renew(node).await),
        };
        let again = match done {
            Ok(()) => {
                self.nodes[node].state().failures = 0;
                match work {
                    Work::Report(_) => self.config.report_interval,
                    Work::Lease(_) => self.lease_interval(),
                }
            }
            Err(error) => {
                let mut state = self.nodes[node].state();
                state.failures = state.failures.saturating_add(1);
                let (name, failures) = (&self.nodes[node].identity.name, state.failures);
                tracing::debug!(node = name, %error, failures, ?work, "was not written");
                self.pause(failures)
            }
        };
        // Jitter adds up to a half: the interval is the middle of what is drawn.
        self.work
            .add_after(work, self.seams.rng.jitter(again * 4 / 5));
    }

    async fn report(&self, node: usize) -> Result<(), kube::Error> {
        let own = &self.nodes[node].identity;
        let Some(watches) = self.watches(node) else {
            return Ok(());
        };
        let seen = watches.nodes.get("", &own.name);
        let now = self.now();
        let (failure, is_due) = {
            let state = self.nodes[node].state();
            if state.failure == Failure::Crash || (seen.is_none() && state.is_registered) {
                return Ok(());
            }
            (state.failure, self.is_due(state.reported, now))
        };
        let plan = node::plan(own, seen.as_deref(), failure, is_due, now);
        let path = format!("/api/v1/nodes/{}", own.name);
        if let Some(object) = &plan.create {
            let create = Write::new(Method::POST, "/api/v1/nodes", JSON, object);
            match self.write(node, create).await {
                // It was there before this process was; the watch brings it.
                Err(error) if errors::is_already_exists(&error) => {}
                done => drop(done?),
            }
        }
        if let Some(labels) = &plan.relabel {
            self.write(node, Write::new(Method::PATCH, &path, MERGE, labels))
                .await?;
        }
        if let Some(status) = &plan.report {
            let path = format!("{path}/status");
            self.write(node, Write::new(Method::PATCH, &path, STRATEGIC, status))
                .await?;
        }
        if plan.create.is_some() || plan.report.is_some() {
            let mut state = self.nodes[node].state();
            state.is_registered = true;
            state.reported = Some(now);
        }
        Ok(())
    }

    /// Whether a sign of life is due; a node that was there before the process gives one at once.
    fn is_due(&self, reported: Option<Timestamp>, now: Timestamp) -> bool {
        let interval = SignedDuration::try_from(self.config.report_interval * 4 / 5);
        reported.is_none_or(|reported| {
            now.duration_since(reported) >= interval.unwrap_or(SignedDuration::MAX)
        })
    }

    /// Renews a node's Lease, which exists as long as the Node does.
    async fn renew(&self, node: usize) -> Result<(), kube::Error> {
        let name = &self.nodes[node].identity.name;
        let seen = self
            .watches(node)
            .and_then(|watches| watches.nodes.get("", name));
        let held = {
            let state = self.nodes[node].state();
            if state.failure == Failure::Crash {
                return Ok(());
            }
            state.lease.clone()
        };
        let Some(seen) = seen else {
            return Ok(());
        };
        let path = format!("{LEASES}/{name}");
        let held = match held {
            Some(held) => Some(held),
            None => match self.write(node, Write::get(&path)).await {
                Ok(found) => found.metadata.resource_version,
                Err(error) if errors::is_not_found(&error) => None,
                Err(error) => return Err(error),
            },
        };
        let lease = self.lease(name, &seen, held.as_deref());
        let write = match held {
            Some(_) => Write::new(Method::PUT, &path, JSON, &lease),
            None => Write::new(Method::POST, LEASES, JSON, &lease),
        };
        let written = self.write(node, write).await;
        // After an error it is read again before it is written again.
        self.nodes[node].state().lease = match &written {
            Ok(written) => written.metadata.resource_version.clone(),
            Err(_) => None,
        };
        written.map(drop)
    }

    fn lease(&self, name: &str, owner: &Node, version: Option<&str>) -> Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "namespace": "kube-node-lease",
                "resourceVersion": version,
                "ownerReferences": [
                    { "apiVersion": "v1", "kind": "Node", "name": name, "uid": owner.uid() },
                ],
            },
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": self.config.lease_duration.as_secs(),
                "renewTime": MicroTime(self.now()),
            },
        })
    }

    async fn write(&self, node: usize, what: Write<'_>) -> Result<Written, kube::Error> {
        let name = &self.nodes[node].identity.name;
        self.bounded(self.voices.send(node, name, what)).await
    }
}

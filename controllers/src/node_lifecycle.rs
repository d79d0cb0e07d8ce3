//! Watches over nodes: says when nothing is heard of one, taints nodes by their conditions, and gives
//! nodes that are not ready up, zone by zone and not too fast.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use client::{EventType, Index, Informer, Key, Queue, Recorder, Subscription, View, errors};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ObjectReference, Pod as WholePod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use self::plan::health::{self, Grace, Health, Look, Ready};
use self::plan::zones::{Count, Rates, Verdict, Zones};
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::note;
use crate::pod::{ConditionStatus, ConditionType, Pod};
use crate::taint::{self, NO_EXECUTE, NOT_READY, UNREACHABLE, taint as bare, taint_since};
use crate::taint_eviction::pods_on_nodes;

/// How often all nodes are looked at.
const MONITOR_PERIOD: Duration = Duration::from_secs(5);
/// How often nodes may be taken out of the queues of their zones.
const TAINT_PERIOD: Duration = Duration::from_millis(100);
/// Nodes that are looked at, and pods that are written, at a time.
const PARALLEL: usize = 8;
/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";
/// The label of nodes whose trouble does not count for their zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// Taints and labels of a node.
    Node(String),
    /// A pod that was bound to a node.
    Pod(Key),
}

#[derive(Default)]
struct State {
    /// What was last heard of each node.
    health: HashMap<String, Health>,
    /// The nodes that were told as registered, by name, with their uid.
    known: BTreeMap<String, String>,
    /// Nodes whose pods still have to be marked as not ready.
    unmarked: HashSet<String>,
    zones: Zones,
}

/// The controller.
pub struct NodeLifecycle {
    context: Context,
    recorder: Recorder,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    leases: Informer<Lease>,
    on_node: Index<Pod>,
    state: Mutex<State>,
    /// There are nodes in the queues of zones.
    queued: Notify,
    _subscriptions: [Subscription; 2],
}

#[async_trait]
impl Controller for NodeLifecycle {
    type Key = Wake;

    fn start(context: &Context, queue: &Queue<Wake>) -> Self {
        let nodes = context.informers.of::<Node>();
        let pods = context.informers.of::<Pod>();
        let subscriptions = [
            nodes.on_change({
                let queue = queue.clone();
                move |_, new| {
                    if let Some(node) = new {
                        queue.add(Wake::Node(node.name().to_owned()));
                    }
                }
            }),
            pods.on_change({
                let queue = queue.clone();
                move |old, new| {
                    let before = old.map_or("", |pod| pod.spec.node_name.as_str());
                    if let Some(pod) = new
                        && !pod.spec.node_name.is_empty()
                        && pod.spec.node_name != before
                    {
                        queue.add(Wake::Pod(Key::of(&**pod)));
                    }
                }
            }),
        ];
        let state = State {
            zones: Zones::new(Rates::default()),
            ..State::default()
        };
        Self {
            recorder: context.recorder("node-controller"),
            leases: context.informers.of::<Lease>(),
            context: context.clone(),
            on_node: pods_on_nodes(&pods),
            nodes,
            pods,
            state: Mutex::new(state),
            queued: Notify::new(),
            _subscriptions: subscriptions,
        }
    }

    fn workers(&self) -> usize {
        PARALLEL
    }

    async fn sync(&self, wake: &Wake) -> Result<Again, Error> {
        match wake {
            Wake::Node(name) => self.sync_node(name).await?,
            Wake::Pod(key) => self.sync_pod(key).await?,
        }
        Ok(Again::Done)
    }

    async fn background(&self, _: &Queue<Wake>) {
        let ticks = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let monitor = async {
            let mut ticks = ticks(MONITOR_PERIOD);
            loop {
                ticks.tick().await;
                self.monitor().await;
            }
        };
        let taint = async {
            let mut ticks = ticks(TAINT_PERIOD);
            loop {
                // Nodes come into the queues where all are looked at.
                if self.state().zones.is_idle() {
                    self.queued.notified().await;
                }
                ticks.tick().await;
                self.taint_due().await;
            }
        };
        tokio::join!(monitor, taint);
    }
}

impl NodeLifecycle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }

    /// Brings taints and labels of a node to what its conditions and labels mean.
    async fn sync_node(&self, name: &str) -> Result<(), Error> {
        let Some(node) = self.nodes.get("", name) else {
            return Ok(());
        };
        let now = self.context.now();
        let (mut add, remove) = plan::no_schedule(&node);
        for one in &mut add {
            *one = taint_since(&one.key, &one.effect, now);
        }
        taint::change(&self.api(), &node, &add, &remove).await?;
        let labels = plan::stale_labels(&node);
        if !labels.is_empty() {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            match self
                .api()
                .patch(name, &PatchParams::default(), &patch)
                .await
            {
                Err(error) if !errors::is_not_found(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// A pod that was bound to a node that is not ready is not ready either.
    async fn sync_pod(&self, key: &Key) -> Result<(), Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        let node = self.nodes.get("", &pod.spec.node_name);
        let is_unready =
            node.is_some_and(|node| Ready::of(&node).is_some_and(|r| r != Ready::True));
        if is_unready {
            self.mark_unready(pod).await?;
        }
        Ok(())
    }

    /// Looks at all nodes.
    async fn monitor(&self) {
        let nodes = self.nodes.list();
        let now = self.context.now();
        self.register(&nodes, now);
        let looks = stream::iter(nodes.clone())
            .map(|node| self.look(node))
            .buffer_unordered(PARALLEL);
        let mut counts = BTreeMap::<String, Count>::new();
        let looked: Vec<_> = looks.collect().await;
        for (node, ready) in looked.into_iter().flatten() {
            if !node.has_label(EXCLUDED) {
                let count = counts.entry(plan::zone_of(&node)).or_default();
                match ready {
                    Some(Ready::True) => count.ready += 1,
                    _ => count.unready += 1,
                }
            }
        }
        let verdict = self.state().zones.update(&counts, now);
        match verdict {
            Verdict::Nothing => {}
            Verdict::EveryoneIsLost => {
                tracing::warn!("no node is ready: pods are not evicted");
                let all = stream::iter(nodes);
                all.for_each_concurrent(PARALLEL, |node| self.mark_reachable(node))
                    .await;
            }
            Verdict::SomeoneIsBack => {
                tracing::info!("some nodes are ready again");
                self.state()
                    .health
                    .values_mut()
                    .for_each(|health| health.forgive(now));
            }
        }
    }

    /// Tells of nodes that came and went.
    fn register(&self, nodes: &[Arc<Node>], now: Timestamp) {
        let present: BTreeSet<&str> = nodes.iter().map(|node| node.name()).collect();
        let mut state = self.state();
        for node in nodes {
            state.zones.see(&plan::zone_of(node), now);
            let uid = node.uid().to_owned();
            if state.known.insert(node.name().to_owned(), uid).is_none() {
                let name = node.name();
                self.tell(
                    name,
                    node.uid(),
                    "RegisteredNode",
                    format!("Registered Node {name} in Controller"),
                );
            }
        }
        let gone: Vec<_> = state
            .known
            .keys()
            .filter(|name| !present.contains(name.as_str()))
            .cloned()
            .collect();
        for name in gone {
            let uid = state.known.remove(&name).unwrap_or_default();
            state.health.remove(&name);
            state.unmarked.remove(&name);
            state.zones.unqueue(&name);
            self.tell(
                &name,
                &uid,
                "RemovingNode",
                format!("Removing Node {name} from Controller"),
            );
        }
    }

    fn tell(&self, name: &str, uid: &str, reason: &str, event: String) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let message = format!("Node {name} event: {event}");
        self.recorder
            .event(&reference, EventType::Normal, reason, message);
    }

    /// Looks at a node; none if its health could not be written, so that it does not count.
    async fn look(&self, node: Arc<Node>) -> Option<(Arc<Node>, Option<Ready>)> {
        let name = node.name();
        let lease = self.leases.get(LEASES, name);
        let renewed = lease
            .as_ref()
            .and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
        let now = self.context.now();
        let look = {
            let mut state = self.state();
            let look = health::look(
                &node,
                renewed,
                state.health.get(name),
                Grace::default(),
                now,
            );
            state.health.insert(name.to_owned(), look.health.clone());
            look
        };
        if let Some(conditions) = &look.write {
            let patch = Patch::Strategic(json!({
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "status": {"conditions": conditions},
            }));
            // A node that was written meanwhile is alive, or looked at again soon.
            if let Err(error) = self
                .api()
                .patch_status(name, &PatchParams::default(), &patch)
                .await
            {
                tracing::debug!(node = name, %error, "a node's health was not written");
                return None;
            }
        }
        self.follow(&node, &look, now).await;
        Some((node, look.current))
    }

    /// Does what a node's health means for its taints and pods.
    async fn follow(&self, node: &Arc<Node>, look: &Look, now: Timestamp) {
        let Some(current) = look.current else { return };
        let name = node.name();
        let (wanted, other) = match current {
            Ready::True => return self.recovered(node).await,
            Ready::False => (NOT_READY, UNREACHABLE),
            Ready::Unknown => (UNREACHABLE, NOT_READY),
        };
        if node.has_taint(other, NO_EXECUTE) {
            // Its pods are leaving already: only the reason changes.
            let add = [taint_since(wanted, NO_EXECUTE, now)];
            self.swap(node, &add, &[bare(other, NO_EXECUTE)]).await;
        } else if !node.has_taint(wanted, NO_EXECUTE) {
            self.state().zones.queue(&plan::zone_of(node), name, now);
            self.queued.notify_one();
        }
        let is_new = look.observed == Ready::True;
        if is_new {
            let message = format!("Node {name} status is now: NodeNotReady");
            let reference = note::reference(&**node);
            self.recorder
                .event(&reference, EventType::Normal, "NodeNotReady", message);
        }
        if is_new || self.state().unmarked.contains(name) {
            let pods = stream::iter(self.on_node.get(name));
            let marked = pods.map(|pod| self.mark_unready(pod));
            let marked: Vec<_> = marked.buffer_unordered(PARALLEL).collect().await;
            if marked.iter().all(Result::is_ok) {
                self.state().unmarked.remove(name);
            } else {
                self.state().unmarked.insert(name.to_owned());
            }
        }
    }

    async fn recovered(&self, node: &Arc<Node>) {
        self.state().unmarked.remove(node.name());
        self.mark_reachable(node.clone()).await;
    }

    async fn mark_reachable(&self, node: Arc<Node>) {
        self.state().zones.unqueue(node.name());
        let taints = [bare(UNREACHABLE, NO_EXECUTE), bare(NOT_READY, NO_EXECUTE)];
        self.swap(&node, &[], &taints).await;
    }

    async fn swap(
        &self,
        node: &Node,
        add: &[k8s_openapi::api::core::v1::Taint],
        remove: &[k8s_openapi::api::core::v1::Taint],
    ) -> bool {
        let done = taint::change(&self.api(), node, add, remove).await;
        if let Err(error) = &done {
            tracing::warn!(node = node.name(), %error, "taints were not changed");
        }
        done.is_ok()
    }

    /// Taints the nodes whose turn it is.
    async fn taint_due(&self) {
        let now = self.context.now();
        let due = self.state().zones.due(now);
        for name in due {
            let node = self.nodes.get("", &name);
            let ready = node.as_ref().map(|node| Ready::of(node));
            let done = match (node, ready) {
                (Some(node), Some(Some(ready @ (Ready::False | Ready::Unknown)))) => {
                    let (wanted, other) = match ready {
                        Ready::False => (NOT_READY, UNREACHABLE),
                        _ => (UNREACHABLE, NOT_READY),
                    };
                    let add = [taint_since(wanted, NO_EXECUTE, now)];
                    self.swap(&node, &add, &[bare(other, NO_EXECUTE)]).await
                }
                // Its first status is on its way.
                (Some(_), Some(None)) => false,
                _ => true,
            };
            if done {
                self.state().zones.unqueue(&name);
            }
        }
    }

    /// Takes back a pod's word that it is ready.
    async fn mark_unready(&self, pod: Arc<Pod>) -> Result<(), kube::Error> {
        let ready = pod.condition(&ConditionType::Ready);
        if ready.is_none_or(|ready| ready.status == ConditionStatus::False) {
            return Ok(());
        }
        let api: Api<WholePod> = Api::namespaced(self.context.client.clone(), pod.namespace());
        let condition = json!({
            "type": "Ready",
            "status": "False",
            "lastTransitionTime": self.context.now().to_string(),
        });
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        }));
        let marked = api
            .patch_status(pod.name(), &PatchParams::default(), &patch)
            .await;
        if marked.as_ref().is_err_and(errors::is_not_found) {
            return Ok(());
        }
        let reference = note::reference(&*pod);
        self.recorder.event(
            &reference,
            EventType::Warning,
            "NodeNotReady",
            "Node is not ready",
        );
        marked.map(|_| ())
    }
}

#[cfg(test)]
mod tests;

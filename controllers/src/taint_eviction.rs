//! Evicts pods from nodes whose taints they do not bear, or not any longer.

pub mod plan;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use client::{EventType, Index, Informer, Key, Queue, Recorder, Subscription, View, errors};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod as WholePod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::node::Node;
use crate::pod::Pod;

const NAME: &str = "taint-eviction-controller";

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// A node by name: all pods on it.
    Node(String),
    /// A pod.
    Pod(Key),
}

/// When a pod was first seen to have to leave, and when it has to.
#[derive(Debug, Clone, Copy)]
struct Scheduled {
    seen: Timestamp,
    at: Option<Timestamp>,
}

/// The controller.
pub struct TaintEviction {
    context: Context,
    recorder: Recorder,
    queue: Queue<Wake>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    on_node: Index<Pod>,
    scheduled: Mutex<HashMap<Key, Scheduled>>,
    _subscriptions: [Subscription; 2],
}

#[async_trait]
impl Controller for TaintEviction {
    type Key = Wake;

    fn start(context: &Context, queue: &Queue<Wake>) -> Self {
        let nodes = context.informers.of::<Node>();
        let pods = context.informers.of::<Pod>();
        let subscriptions = [
            nodes.on_change({
                let queue = queue.clone();
                move |old, new| {
                    let taints = |node: &Node| plan::evicting(&node.spec.taints).cloned().collect();
                    let before: Vec<_> = old.map_or_else(Vec::new, |node| taints(node));
                    let after: Vec<_> = new.map_or_else(Vec::new, |node| taints(node));
                    if let Some(node) = new.or(old)
                        && before != after
                    {
                        queue.add(Wake::Node(node.name().to_owned()));
                    }
                }
            }),
            pods.on_change({
                let (queue, nodes) = (queue.clone(), nodes.clone());
                move |old, new| {
                    let is_moved = match (old, new) {
                        (Some(old), Some(new)) => {
                            old.spec.node_name != new.spec.node_name
                                || old.spec.tolerations != new.spec.tolerations
                                || old.metadata.uid != new.metadata.uid
                        }
                        _ => true,
                    };
                    let Some(pod) = new.or(old).filter(|_| is_moved) else {
                        return;
                    };
                    let node = nodes.get("", &pod.spec.node_name);
                    let is_tainted =
                        |node: &Node| plan::evicting(&node.spec.taints).next().is_some();
                    if new.is_none() || node.is_some_and(|node| is_tainted(&node)) {
                        queue.add(Wake::Pod(Key::of(&**pod)));
                    }
                }
            }),
        ];
        Self {
            recorder: context.recorder(NAME),
            context: context.clone(),
            queue: queue.clone(),
            on_node: pods_on_nodes(&pods),
            nodes,
            pods,
            scheduled: Mutex::default(),
            _subscriptions: subscriptions,
        }
    }

    fn workers(&self) -> usize {
        8
    }

    async fn sync(&self, wake: &Wake) -> Result<Again, Error> {
        match wake {
            Wake::Node(name) => {
                for pod in self.on_node.get(name) {
                    self.queue.add(Wake::Pod(Key::of(&*pod)));
                }
                Ok(Again::Done)
            }
            Wake::Pod(key) => self.sync_pod(key).await,
        }
    }
}

/// An index of pods by their node.
pub(crate) fn pods_on_nodes(pods: &Informer<Pod>) -> Index<Pod> {
    pods.index("node", |pod| match pod.spec.node_name.as_str() {
        "" => Vec::new(),
        name => vec![name.to_owned()],
    })
}

impl TaintEviction {
    fn scheduled(&self) -> MutexGuard<'_, HashMap<Key, Scheduled>> {
        self.scheduled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn sync_pod(&self, key: &Key) -> Result<Again, Error> {
        let now = self.context.now();
        let pod = self.pods.get(&key.namespace, &key.name);
        let node = pod
            .as_ref()
            .and_then(|pod| self.nodes.get("", &pod.spec.node_name));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.cancel(key);
            return Ok(Again::Done);
        };
        if plan::evicting(&node.spec.taints).next().is_none() {
            self.cancel(key);
            return Ok(Again::Done);
        }
        let seen = self
            .scheduled()
            .get(key)
            .map_or(now, |scheduled| scheduled.seen);
        let arrived = pod.status.start_time.as_ref().map(|time| time.0);
        let tolerations = &pod.spec.tolerations;
        let Some(at) = plan::leaves_at(tolerations, &node.spec.taints, arrived, seen) else {
            self.cancel(key);
            return Ok(Again::Done);
        };
        self.scheduled()
            .insert(key.clone(), Scheduled { seen, at: Some(at) });
        let wait = at.duration_since(now);
        if let Ok(wait) = std::time::Duration::try_from(wait)
            && !wait.is_zero()
        {
            return Ok(Again::After(wait));
        }
        self.evict(key, &pod).await?;
        self.scheduled().remove(key);
        Ok(Again::Done)
    }

    /// A pod need not leave after all.
    fn cancel(&self, key: &Key) {
        if self
            .scheduled()
            .remove(key)
            .is_some_and(|scheduled| scheduled.at.is_some())
        {
            self.tell(key, format!("Cancelling deletion of Pod {key}"));
        }
    }

    fn tell(&self, key: &Key, message: String) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            ..ObjectReference::default()
        };
        self.recorder.event(
            &reference,
            EventType::Normal,
            "TaintManagerEviction",
            message,
        );
    }

    async fn evict(&self, key: &Key, pod: &Pod) -> Result<(), Error> {
        if pod.is_deleted() {
            return Ok(());
        }
        self.tell(key, format!("Marking for deletion Pod {key}"));
        let api: Api<WholePod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": self.context.now().to_string(),
            "observedGeneration": pod.metadata.generation,
        });
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        }));
        let marked = api
            .patch_status(&key.name, &PatchParams::default(), &patch)
            .await;
        // Only this pod, not one of its name that came since.
        let params = DeleteParams::default().preconditions(kube::api::Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        });
        let deleted = match marked {
            Ok(_) => api.delete(&key.name, &params).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match deleted {
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            done => Ok(done?),
        }
    }
}

//! Pods that are nominated for nodes: they made room there, or are about to be bound there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::views::Pod;

/// Pods by the node they are nominated for.
#[derive(Debug, Default)]
pub struct Nominations {
    /// By uid.
    nodes: HashMap<String, String>,
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
}

impl Nominations {
    /// Nominates a pod: for the node given, or for the one that its status names.
    pub fn add(&mut self, pod: &Arc<Pod>, node: Option<&str>) {
        self.remove(pod.uid());
        let node = node.unwrap_or(&pod.nominated_node);
        if node.is_empty() || pod.is_assigned() {
            return;
        }
        self.nodes.insert(pod.uid().to_string(), node.to_string());
        self.pods
            .entry(node.to_string())
            .or_default()
            .push(Arc::clone(pod));
    }

    /// A pod that has changed. A nomination that is not in its status yet is kept.
    pub fn update(&mut self, old: &Pod, new: &Arc<Pod>) {
        let node = match old.nominated_node.is_empty() && new.nominated_node.is_empty() {
            true => self.nodes.get(old.uid()).cloned(),
            false => None,
        };
        self.add(new, node.as_deref());
    }

    /// A pod that is nominated no more.
    pub fn remove(&mut self, uid: &str) {
        let Some(node) = self.nodes.remove(uid) else {
            return;
        };
        if let Some(pods) = self.pods.get_mut(&node) {
            pods.retain(|pod| pod.uid() != uid);
            if pods.is_empty() {
                self.pods.remove(&node);
            }
        }
    }

    /// All nominations: the node and the pod.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Pod>)> {
        let pods = self.pods.iter();
        pods.flat_map(|(node, pods)| pods.iter().map(move |pod| (&**node, pod)))
    }

    /// The pods nominated for a node.
    pub fn of(&self, node: &str) -> &[Arc<Pod>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    /// The node that a pod is nominated for.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.nodes.get(uid).map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

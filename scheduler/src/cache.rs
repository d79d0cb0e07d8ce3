//! Who is on which node, and who will be: the snapshot, and the pods that are in it.
//!
//! A pod that was decided on is *assumed*: counted on its node from that moment, though the API
//! does not show it there yet, so that the next cycle sees what is taken. It stays assumed until
//! the API shows it bound, or the binding failed and it is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::framework::Defaults;
use crate::snapshot::{Placed, PodInfo, Snapshot};
use crate::views::{Node, Pod};

/// Strings and selectors remembered before a rebuild is thought of: a few megabytes.
const REMEMBERED_MIN: usize = 50_000;

/// A pod in the snapshot.
#[derive(Debug)]
struct Entry {
    placed: Arc<Placed>,
    node: String,
    is_assumed: bool,
}

/// The snapshot and the pods in it.
#[derive(Debug, Default)]
pub struct Cache {
    snapshot: Snapshot,
    /// By uid.
    pods: HashMap<String, Entry>,
    nodes: BTreeMap<String, Arc<Node>>,
    assumed: usize,
    /// What the snapshot remembered when it was built.
    remembered: usize,
}

impl Cache {
    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The snapshot, for what is neither a node nor a pod.
    pub fn snapshot_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    /// Compiles a pod for a cycle.
    pub fn prepare(&mut self, pod: &Arc<Pod>, defaults: &Defaults) -> PodInfo {
        if self.snapshot.remembered() > 2 * self.remembered + REMEMBERED_MIN {
            self.rebuild();
        }
        self.snapshot.prepare(pod, defaults)
    }

    /// A node that is new or has changed.
    pub fn set_node(&mut self, node: &Arc<Node>) {
        self.snapshot.set_node(node);
        self.nodes.insert(node.name().to_string(), Arc::clone(node));
    }

    /// A node that is gone.
    pub fn remove_node(&mut self, name: &str) {
        self.snapshot.remove_node(name);
        self.nodes.remove(name);
    }

    /// A pod that the API shows on a node, new or changed.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) {
        self.remove_pod(pod.uid());
        let placed = self.snapshot.placed(pod);
        self.insert(&placed, pod.node_name.clone(), false);
    }

    /// Counts a pod on the node that was chosen for it.
    pub fn assume(&mut self, pod: &PodInfo, node: &str) {
        self.remove_pod(pod.pod.uid());
        self.insert(&pod.placed, node.to_string(), true);
    }

    /// A pod that is gone, or whose binding failed. Tells whether it was there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(entry) = self.pods.remove(uid) else {
            return false;
        };
        self.assumed -= usize::from(entry.is_assumed);
        self.snapshot.remove_pod(&entry.node, &entry.placed);
        true
    }

    /// Whether a pod is counted on a node that the API does not show it on yet.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|entry| entry.is_assumed)
    }

    /// The node a pod is counted on.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.pods.get(uid).map(|entry| &*entry.node)
    }

    /// How many nodes, pods and assumed pods there are.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.nodes.len(), self.pods.len(), self.assumed)
    }

    fn insert(&mut self, placed: &Arc<Placed>, node: String, is_assumed: bool) {
        self.snapshot.add_pod(&node, placed);
        self.assumed += usize::from(is_assumed);
        let entry = Entry {
            placed: Arc::clone(placed),
            node,
            is_assumed,
        };
        self.pods.insert(placed.pod.uid().to_string(), entry);
    }

    /// Builds the snapshot anew, without the strings, classes and selectors that nothing uses any
    /// more.
    fn rebuild(&mut self) {
        let old = std::mem::take(&mut self.snapshot);
        self.snapshot = old.emptied();
        for node in self.nodes.values() {
            self.snapshot.set_node(node);
        }
        let mut pods: Vec<_> = self.pods.values_mut().collect();
        // Matchers get their numbers in the order in which pods come: keep that a function of the
        // state, as everything that a decision rests on.
        pods.sort_by(|one, other| one.placed.pod.uid().cmp(other.placed.pod.uid()));
        for entry in pods {
            entry.placed = self.snapshot.placed(&entry.placed.pod);
            self.snapshot.add_pod(&entry.node, &entry.placed);
        }
        self.remembered = self.snapshot.remembered();
    }
}

//! Claims, volumes and what drivers say: as the API has them, overlaid by what was decided and is
//! not written yet.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::views::{
    CsiDriver, CsiNode, CsiStorageCapacity, PersistentVolume, PersistentVolumeClaim, StorageClass,
    VolumeAttachment, name, namespace,
};

/// Objects as the API has them, some replaced until the API shows something newer.
#[derive(Debug)]
struct Assumed<V> {
    real: HashMap<String, Arc<V>>,
    assumed: HashMap<String, Arc<V>>,
}

impl<V> Default for Assumed<V> {
    fn default() -> Self {
        Assumed {
            real: HashMap::new(),
            assumed: HashMap::new(),
        }
    }
}

impl<V> Assumed<V> {
    fn get(&self, key: &str) -> Option<&Arc<V>> {
        self.assumed.get(key).or_else(|| self.real.get(key))
    }

    fn set(&mut self, key: String, object: Arc<V>) {
        // What the API shows now is newer than what the decision was based on.
        self.assumed.remove(&key);
        self.real.insert(key, object);
    }

    fn remove(&mut self, key: &str) {
        self.assumed.remove(key);
        self.real.remove(key);
    }
}

/// Claims, volumes and what drivers say.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    claims: Assumed<PersistentVolumeClaim>,
    volumes: Assumed<PersistentVolume>,
    /// Names of volumes by class.
    by_class: HashMap<String, BTreeSet<String>>,
    classes: HashMap<String, Arc<StorageClass>>,
    drivers: HashMap<String, Arc<CsiDriver>>,
    nodes: HashMap<String, Arc<CsiNode>>,
    capacities: HashMap<String, Arc<CsiStorageCapacity>>,
    /// By node, then name.
    attachments: HashMap<String, HashMap<String, Arc<VolumeAttachment>>>,
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn key_of(metadata: &ObjectMeta) -> String {
    key(namespace(metadata), name(metadata))
}

impl Volumes {
    /// A claim.
    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(&key(namespace, name))
    }

    /// A volume.
    pub(crate) fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    /// The volumes of a class, by name.
    pub(crate) fn of_class(&self, class: &str) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        let names = self.by_class.get(class).into_iter().flatten();
        names.filter_map(|name| self.volumes.get(name))
    }

    /// A class.
    pub(crate) fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.get(name)
    }

    /// A driver.
    pub(crate) fn driver(&self, name: &str) -> Option<&Arc<CsiDriver>> {
        self.drivers.get(name)
    }

    /// The drivers on a node.
    pub(crate) fn node(&self, name: &str) -> Option<&Arc<CsiNode>> {
        self.nodes.get(name)
    }

    /// All capacities.
    pub(crate) fn capacities(&self) -> impl Iterator<Item = &Arc<CsiStorageCapacity>> {
        self.capacities.values()
    }

    /// What is attached to a node.
    pub(crate) fn attachments(&self, node: &str) -> impl Iterator<Item = &Arc<VolumeAttachment>> {
        self.attachments
            .get(node)
            .into_iter()
            .flat_map(HashMap::values)
    }

    /// A claim that is new or has changed.
    pub(crate) fn set_claim(&mut self, claim: &Arc<PersistentVolumeClaim>) {
        self.claims.set(key_of(&claim.metadata), Arc::clone(claim));
    }

    /// A claim that is gone.
    pub(crate) fn remove_claim(&mut self, namespace: &str, name: &str) {
        self.claims.remove(&key(namespace, name));
    }

    /// A volume that is new or has changed.
    pub(crate) fn set_volume(&mut self, volume: &Arc<PersistentVolume>) {
        self.remove_volume(volume.name());
        let of_class = self.by_class.entry(volume.class.clone()).or_default();
        of_class.insert(volume.name().to_string());
        self.volumes
            .set(volume.name().to_string(), Arc::clone(volume));
    }

    /// A volume that is gone.
    pub(crate) fn remove_volume(&mut self, name: &str) {
        if let Some(volume) = self.volumes.real.get(name) {
            if let Some(of_class) = self.by_class.get_mut(&volume.class) {
                of_class.remove(name);
            }
            self.volumes.remove(name);
        }
    }

    /// A class that is new or has changed.
    pub(crate) fn set_class(&mut self, class: &Arc<StorageClass>) {
        self.classes
            .insert(name(&class.metadata).to_string(), Arc::clone(class));
    }

    /// A class that is gone.
    pub(crate) fn remove_class(&mut self, name: &str) {
        self.classes.remove(name);
    }

    /// A driver that is new or has changed.
    pub(crate) fn set_driver(&mut self, driver: &Arc<CsiDriver>) {
        self.drivers
            .insert(name(&driver.metadata).to_string(), Arc::clone(driver));
    }

    /// A driver that is gone.
    pub(crate) fn remove_driver(&mut self, name: &str) {
        self.drivers.remove(name);
    }

    /// The drivers on a node, new or changed.
    pub(crate) fn set_node(&mut self, node: &Arc<CsiNode>) {
        self.nodes
            .insert(name(&node.metadata).to_string(), Arc::clone(node));
    }

    /// A node's drivers are gone.
    pub(crate) fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// A capacity that is new or has changed.
    pub(crate) fn set_capacity(&mut self, capacity: &Arc<CsiStorageCapacity>) {
        self.capacities
            .insert(key_of(&capacity.metadata), Arc::clone(capacity));
    }

    /// A capacity that is gone.
    pub(crate) fn remove_capacity(&mut self, namespace: &str, name: &str) {
        self.capacities.remove(&key(namespace, name));
    }

    /// An attachment that is new or has changed.
    pub(crate) fn set_attachment(&mut self, attachment: &Arc<VolumeAttachment>) {
        let of_node = self
            .attachments
            .entry(attachment.spec.node_name.clone())
            .or_default();
        of_node.insert(
            name(&attachment.metadata).to_string(),
            Arc::clone(attachment),
        );
    }

    /// An attachment that is gone.
    pub(crate) fn remove_attachment(&mut self, attachment: &VolumeAttachment) {
        if let Some(of_node) = self.attachments.get_mut(&attachment.spec.node_name) {
            of_node.remove(name(&attachment.metadata));
            if of_node.is_empty() {
                self.attachments.remove(&attachment.spec.node_name);
            }
        }
    }

    /// A claim as it will be once a decision is written.
    pub(crate) fn assume_claim(&mut self, claim: PersistentVolumeClaim) {
        self.claims
            .assumed
            .insert(key_of(&claim.metadata), Arc::new(claim));
    }

    /// A volume as it will be once a decision is written.
    pub(crate) fn assume_volume(&mut self, volume: PersistentVolume) {
        self.volumes
            .assumed
            .insert(volume.name().to_string(), Arc::new(volume));
    }

    /// The decision about a claim is not written after all.
    pub(crate) fn forget_claim(&mut self, namespace: &str, name: &str) {
        self.claims.assumed.remove(&key(namespace, name));
    }

    /// The decision about a volume is not written after all.
    pub(crate) fn forget_volume(&mut self, name: &str) {
        self.volumes.assumed.remove(name);
    }
}

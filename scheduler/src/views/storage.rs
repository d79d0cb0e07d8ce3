//! Claims, volumes, and what drivers say about them.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1 as core, storage::v1 as storage};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;

use super::{name, namespace, trim, units};

/// Which class a claim or volume belongs to, before there was a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The binder has done its part.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The node that the scheduler chose for a volume to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

fn annotation<'m>(metadata: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Keeps the annotations that placement reads.
fn trim_annotations(metadata: &mut ObjectMeta) {
    trim(metadata);
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| [BETA_CLASS, BIND_COMPLETED, SELECTED_NODE].contains(&&**key));
    }
}

/// A claim of storage.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawClaim")]
pub struct PersistentVolumeClaim {
    /// With the annotations of binding.
    pub metadata: ObjectMeta,
    /// How it is used.
    pub access_modes: Box<[String]>,
    /// Bytes asked for; None if nothing is.
    pub size: Option<i64>,
    /// Which volumes will do.
    pub selector: Option<Box<LabelSelector>>,
    /// Its class, empty for none.
    pub class: String,
    /// The volume that it is bound to or wants, empty for any.
    pub volume: String,
    /// Filesystem or Block.
    pub mode: String,
    /// Its attributes class, empty for none.
    pub attributes: String,
    /// Its volume is gone.
    pub is_lost: bool,
}

client::view!(PersistentVolumeClaim, core::PersistentVolumeClaim);

impl PersistentVolumeClaim {
    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.metadata)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        namespace(&self.metadata)
    }

    /// Both sides agree.
    pub fn is_bound(&self) -> bool {
        !self.volume.is_empty() && annotation(&self.metadata, BIND_COMPLETED).is_some()
    }

    /// The node chosen for its volume to be made.
    pub fn selected_node(&self) -> Option<&str> {
        annotation(&self.metadata, SELECTED_NODE)
    }
}

#[derive(Deserialize)]
struct RawClaim {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: RawClaimSpec,
    #[serde(default)]
    status: RawPhase,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimSpec {
    access_modes: Vec<String>,
    resources: RawResources,
    selector: Option<Box<LabelSelector>>,
    storage_class_name: Option<String>,
    volume_name: String,
    volume_mode: Option<String>,
    volume_attributes_class_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResources {
    requests: BTreeMap<String, Quantity>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPhase {
    phase: String,
}

fn mode(mode: Option<String>) -> String {
    mode.unwrap_or_else(|| "Filesystem".to_string())
}

impl From<RawClaim> for PersistentVolumeClaim {
    fn from(mut raw: RawClaim) -> Self {
        trim_annotations(&mut raw.metadata);
        let beta = annotation(&raw.metadata, BETA_CLASS).map(str::to_string);
        PersistentVolumeClaim {
            access_modes: raw.spec.access_modes.into(),
            size: raw.spec.resources.requests.get("storage").map(units),
            selector: raw.spec.selector,
            class: beta.or(raw.spec.storage_class_name).unwrap_or_default(),
            volume: raw.spec.volume_name,
            mode: mode(raw.spec.volume_mode),
            attributes: raw.spec.volume_attributes_class_name.unwrap_or_default(),
            is_lost: raw.status.phase == "Lost",
            metadata: raw.metadata,
        }
    }
}

/// A volume.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "RawVolume")]
pub struct PersistentVolume {
    /// With its labels.
    pub metadata: ObjectMeta,
    /// How it may be used.
    pub access_modes: Box<[String]>,
    /// Bytes.
    pub size: i64,
    /// Its class, empty for none.
    pub class: String,
    /// Filesystem or Block.
    pub mode: String,
    /// Its attributes class, empty for none.
    pub attributes: String,
    /// Whom it is promised to.
    pub claim: Option<Box<ClaimRef>>,
    /// From which nodes it can be reached.
    pub affinity: Option<Box<core::NodeSelector>>,
    /// Its driver and what the driver calls it.
    pub csi: Option<Box<Csi>>,
    /// Nobody has it.
    pub is_available: bool,
}

client::view!(PersistentVolume, core::PersistentVolume);

/// The claim that a volume is promised to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimRef {
    /// Where the claim is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its id; empty if any claim of that name will do.
    pub uid: String,
}

/// A volume in the words of its driver.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Csi {
    /// The driver.
    pub driver: String,
    /// The volume.
    pub volume_handle: String,
}

impl PersistentVolume {
    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.metadata)
    }

    /// Whether it is promised to just this claim.
    pub fn is_promised_to(&self, claim: &PersistentVolumeClaim) -> bool {
        self.claim.as_ref().is_some_and(|promised| {
            promised.name == claim.name()
                && promised.namespace == claim.namespace()
                && (promised.uid.is_empty() || Some(&promised.uid) == claim.metadata.uid.as_ref())
        })
    }
}

#[derive(Deserialize)]
struct RawVolume {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: RawVolumeSpec,
    #[serde(default)]
    status: RawPhase,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawVolumeSpec {
    access_modes: Vec<String>,
    capacity: BTreeMap<String, Quantity>,
    storage_class_name: Option<String>,
    volume_mode: Option<String>,
    volume_attributes_class_name: Option<String>,
    claim_ref: Option<Box<ClaimRef>>,
    node_affinity: Option<core::VolumeNodeAffinity>,
    csi: Option<Box<Csi>>,
}

impl From<RawVolume> for PersistentVolume {
    fn from(mut raw: RawVolume) -> Self {
        trim_annotations(&mut raw.metadata);
        let beta = annotation(&raw.metadata, BETA_CLASS).map(str::to_string);
        PersistentVolume {
            access_modes: raw.spec.access_modes.into(),
            size: raw.spec.capacity.get("storage").map_or(0, units),
            class: beta.or(raw.spec.storage_class_name).unwrap_or_default(),
            mode: mode(raw.spec.volume_mode),
            attributes: raw.spec.volume_attributes_class_name.unwrap_or_default(),
            claim: raw.spec.claim_ref,
            affinity: raw
                .spec
                .node_affinity
                .and_then(|one| one.required)
                .map(Box::new),
            csi: raw.spec.csi,
            is_available: raw.status.phase == "Available",
            metadata: raw.metadata,
        }
    }
}

/// A class of volumes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageClass {
    /// Its name.
    pub metadata: ObjectMeta,
    /// Who makes the volumes.
    pub provisioner: String,
    /// Immediate or WaitForFirstConsumer.
    pub volume_binding_mode: Option<String>,
    /// Where volumes can be made; anywhere if empty.
    pub allowed_topologies: Option<Vec<core::TopologySelectorTerm>>,
}

client::view!(StorageClass, storage::StorageClass);

/// What a driver wants of the scheduler.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CsiDriver {
    /// The driver's name.
    pub metadata: ObjectMeta,
    /// Its wishes.
    pub spec: CsiDriverSpec,
}

/// A driver's wishes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiDriverSpec {
    /// Nodes without enough capacity are no choice.
    pub storage_capacity: bool,
    /// Nodes without the driver are no choice.
    pub prevent_pod_scheduling_if_missing: bool,
}

client::view!(CsiDriver, storage::CSIDriver);

/// The drivers on a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CsiNode {
    /// The node's name.
    pub metadata: ObjectMeta,
    /// The drivers.
    pub spec: CsiNodeSpec,
}

/// The drivers on a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CsiNodeSpec {
    /// The drivers.
    pub drivers: Vec<CsiNodeDriver>,
}

/// One driver on a node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CsiNodeDriver {
    /// The driver.
    pub name: String,
    /// How many of its volumes the node takes.
    pub allocatable: CsiNodeAllocatable,
}

/// How many volumes a node takes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CsiNodeAllocatable {
    /// None if there is no limit.
    pub count: Option<i64>,
}

client::view!(CsiNode, storage::CSINode);

/// How much storage is left somewhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiStorageCapacity {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Of which class.
    pub storage_class_name: String,
    /// On which nodes.
    pub node_topology: Option<LabelSelector>,
    capacity: Option<Quantity>,
    maximum_volume_size: Option<Quantity>,
}

client::view!(CsiStorageCapacity, storage::CSIStorageCapacity);

impl CsiStorageCapacity {
    /// The largest volume that can be made, in bytes.
    pub fn limit(&self) -> Option<i64> {
        let limit = self.maximum_volume_size.as_ref().or(self.capacity.as_ref());
        limit.map(units)
    }
}

/// A volume attached to a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct VolumeAttachment {
    /// Its name.
    pub metadata: ObjectMeta,
    /// What is attached where.
    pub spec: VolumeAttachmentSpec,
}

/// What is attached where.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeAttachmentSpec {
    /// The driver.
    pub attacher: String,
    /// The node.
    pub node_name: String,
    /// The volume.
    pub source: VolumeAttachmentSource,
}

/// Which volume is attached.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeAttachmentSource {
    /// None for a volume without an object.
    pub persistent_volume_name: Option<String>,
}

client::view!(VolumeAttachment, storage::VolumeAttachment);

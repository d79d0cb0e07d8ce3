//! Persistent storage: claims, volumes, and how they find each other.
//!
//! - [`binder`]: binds claims and volumes, asks provisioners for new ones and reclaims old ones.
//! - [`protection`]: finalizers, so that nothing goes while it is used.
//! - [`expand`]: tells who waits for a larger volume.
//! - [`ephemeral`]: claims that live and die with a pod.
//! - [`attach_detach`]: which volume shall be attached to which node.
//!
//! This file has the views that they share. CSI sidecars do the work on volumes themselves, and
//! nodes mount them.

pub mod attach_detach;
pub mod binder;
pub mod ephemeral;
pub mod expand;
pub mod protection;

use std::collections::BTreeMap;

use api::values;
use client::View;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;

use crate::pod::{ClaimVolume, Pod};
use crate::selector::Selector;

/// On a claim that was bound: losing its volume from now on means losing data.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or volume whose binding is the controller's own, which may undo it.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the node for which a volume shall be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: who shall make its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, as older provisioners look for it.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim or volume of an in-tree plugin: the driver that took it over.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// The class of a claim or volume, as it was before there was a field.
pub const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On a volume whose file system has still to grow: its capacity before.
pub const PRE_RESIZE_CAPACITY: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";

/// The one resource that volumes have.
const STORAGE: &str = "storage";

/// Amounts by the resource's name.
pub type Amounts = BTreeMap<String, Quantity>;

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ClaimSpec,
    /// What it got.
    pub status: ClaimStatus,
}

client::view!(Claim, k8s_openapi::api::core::v1::PersistentVolumeClaim);

/// What a claim wants.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    /// How it will be mounted.
    pub access_modes: Vec<String>,
    /// How large it is.
    pub resources: Requests,
    /// Labels of the volumes it takes; absent takes all.
    pub selector: Option<Selector>,
    /// Its class; absent takes the default, empty takes none.
    pub storage_class_name: Option<String>,
    /// The attributes it wants.
    pub volume_attributes_class_name: Option<String>,
    /// `Filesystem` (also if absent) or `Block`.
    pub volume_mode: Option<String>,
    /// Its volume; empty before.
    pub volume_name: String,
}

/// The amounts that a claim asks for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// At least so much.
    pub requests: Amounts,
}

/// What a claim got.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    /// `Pending`, `Bound` or `Lost`.
    pub phase: String,
    /// How it can be mounted.
    pub access_modes: Option<Vec<String>>,
    /// How large it is.
    pub capacity: Option<Amounts>,
    /// The attributes it has.
    pub current_volume_attributes_class_name: Option<String>,
    /// A change of attributes that is under way.
    pub modify_volume_status: Option<ModifyVolumeStatus>,
}

/// A change of attributes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModifyVolumeStatus {
    /// The attributes that it will have.
    pub target_volume_attributes_class_name: String,
}

/// A PersistentVolume.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it is.
    pub spec: VolumeSpec,
    /// What became of it.
    pub status: VolumeStatus,
}

client::view!(Volume, k8s_openapi::api::core::v1::PersistentVolume);

/// What a volume is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSpec {
    /// How it can be mounted.
    pub access_modes: Vec<String>,
    /// How large it is.
    pub capacity: Amounts,
    /// The claim it is, or shall be, bound to.
    pub claim_ref: Option<ObjectReference>,
    /// What becomes of it without its claim: `Retain`, `Delete` or `Recycle`.
    pub persistent_volume_reclaim_policy: String,
    /// Its class.
    pub storage_class_name: String,
    /// Its attributes.
    pub volume_attributes_class_name: Option<String>,
    /// `Filesystem` (also if absent) or `Block`.
    pub volume_mode: Option<String>,
    /// The driver that has it.
    pub csi: Option<CsiSource>,
    /// The directory on some machine that it is.
    pub host_path: Option<HostPath>,
    /// Whether it is an NFS export.
    pub nfs: Option<Present>,
}

/// A volume of a CSI driver.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiSource {
    /// The driver's name.
    pub driver: String,
    /// What the driver calls the volume.
    pub volume_handle: String,
}

/// A directory of a node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HostPath {
    /// Where it is.
    pub path: String,
}

/// An object whose fields nobody reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Present {}

/// What became of a volume.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct VolumeStatus {
    /// `Pending`, `Available`, `Bound`, `Released` or `Failed`.
    pub phase: String,
}

/// A StorageClass.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Class {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Who makes its volumes.
    pub provisioner: String,
    /// `Immediate` or `WaitForFirstConsumer`.
    pub volume_binding_mode: Option<String>,
}

client::view!(Class, k8s_openapi::api::storage::v1::StorageClass);

impl Claim {
    /// `NAMESPACE/NAME`, as messages have it.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.metadata, key)
    }

    /// Whether anybody chose a class, be it none.
    pub fn has_class(&self) -> bool {
        self.annotation(BETA_STORAGE_CLASS).is_some() || self.spec.storage_class_name.is_some()
    }

    /// Its class; empty for none.
    pub fn class(&self) -> &str {
        let old = self.annotation(BETA_STORAGE_CLASS);
        old.or(self.spec.storage_class_name.as_deref())
            .unwrap_or_default()
    }

    /// How much it asks for.
    pub fn requested(&self) -> values::Quantity {
        amount(&self.spec.resources.requests)
    }

    /// How much it has.
    pub fn capacity(&self) -> values::Quantity {
        match &self.status.capacity {
            Some(amounts) => amount(amounts),
            None => values::Quantity::from_units(0),
        }
    }

    /// Whether a pod made it, for an ephemeral volume.
    pub fn is_made_for(&self, pod: &Pod) -> bool {
        self.namespace() == pod.namespace() && is_controlled_by(&self.metadata, pod.uid())
    }
}

impl Volume {
    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.metadata, key)
    }

    /// Its class; empty for none.
    pub fn class(&self) -> &str {
        self.annotation(BETA_STORAGE_CLASS)
            .unwrap_or(&self.spec.storage_class_name)
    }

    /// How large it is.
    pub fn capacity(&self) -> values::Quantity {
        amount(&self.spec.capacity)
    }

    /// Whether its reference means this claim, be it without an id.
    pub fn is_bound_to(&self, claim: &Claim) -> bool {
        let Some(reference) = &self.spec.claim_ref else {
            return false;
        };
        let uid = reference.uid.as_deref().unwrap_or_default();
        reference.name.as_deref() == Some(claim.name())
            && reference.namespace.as_deref() == Some(claim.namespace())
            && (uid.is_empty() || uid == claim.uid())
    }

    /// `NAMESPACE/NAME` of the claim it refers to.
    pub fn claim_key(&self) -> Option<String> {
        let reference = self.spec.claim_ref.as_ref()?;
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        Some(format!("{namespace}/{name}"))
    }
}

impl Class {
    /// Whether claims without a class get this one.
    pub fn is_default(&self) -> bool {
        const MARKS: [&str; 2] = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        let is_set = |mark: &&str| annotation(&self.metadata, mark) == Some("true");
        MARKS.iter().any(is_set)
    }
}

/// The claim of a pod's volume.
pub fn claim_name(pod: &Pod, volume: &ClaimVolume) -> String {
    match &volume.claim_name {
        Some(name) => name.to_string(),
        None => format!("{}-{}", pod.name(), volume.name),
    }
}

/// `NAMESPACE/NAME` of the claims that a pod uses: an index of pods.
pub fn claim_keys(pod: &Pod) -> Vec<String> {
    let key = |volume| format!("{}/{}", pod.namespace(), claim_name(pod, volume));
    pod.spec.volumes.iter().map(key).collect()
}

/// Whether the pod no longer uses its volumes: all its containers ended, for good or on its way out.
pub fn is_pod_terminated(pod: &Pod) -> bool {
    pod.is_terminal() || pod.is_deleted() && !pod.has_running_containers()
}

/// Whether two volume modes differ; absent is `Filesystem`.
pub fn are_modes_different(claim: Option<&str>, volume: Option<&str>) -> bool {
    claim.unwrap_or("Filesystem") != volume.unwrap_or("Filesystem")
}

/// An annotation's value.
pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Whether the object with this id is its controller.
pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    let is_it = |owner: &OwnerReference| owner.controller == Some(true) && owner.uid == uid;
    metadata.owner_references.iter().flatten().any(is_it)
}

/// The amount of storage; 0 if it is not said.
fn amount(amounts: &Amounts) -> values::Quantity {
    let text = amounts.get(STORAGE).map(|quantity| quantity.0.as_str());
    let parsed = text.and_then(|text| values::Quantity::parse(text).ok());
    parsed.unwrap_or_else(|| values::Quantity::from_units(0))
}

#[cfg(test)]
mod tests;

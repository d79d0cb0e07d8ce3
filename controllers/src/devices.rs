//! Dynamic resource allocation: claims for devices.
//!
//! - [`claims`]: makes claims from templates, reserves them for pods and frees them.
//! - [`taints`]: evicts pods from devices with a NoExecute taint.
//!
//! It leaves choosing devices to the scheduler, and preparing them to nodes.

pub mod claims;
pub mod taints;

use client::View;
use k8s_openapi::api::resource::v1::DeviceToleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::pod::{Pod, PodResourceClaim};
use crate::volumes::is_controlled_by;

/// A ResourceClaim.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it got.
    pub status: ClaimStatus,
}

client::view!(Claim, k8s_openapi::api::resource::v1::ResourceClaim);

/// What a claim got.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    /// Its devices; none before.
    pub allocation: Option<Allocation>,
    /// Who may use it.
    pub reserved_for: Vec<Consumer>,
}

/// What was allocated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Allocation {
    /// The devices.
    pub devices: Devices,
}

/// The devices of an allocation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Devices {
    /// One by one.
    pub results: Vec<AllocatedDevice>,
}

/// A device of an allocation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AllocatedDevice {
    /// Whose it is.
    pub driver: String,
    /// Where it is.
    pub pool: String,
    /// Its name there.
    pub device: String,
    /// The taints that the claim bears.
    pub tolerations: Vec<DeviceToleration>,
}

/// Who may use a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Consumer {
    /// The group of its API.
    pub api_group: String,
    /// Such as `pods`.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uid: String,
}

impl Consumer {
    /// Whether it is a pod.
    pub fn is_pod(&self) -> bool {
        self.api_group.is_empty() && self.resource == "pods"
    }
}

impl Claim {
    /// Whether a pod may use it.
    pub fn is_reserved_for(&self, pod: &Pod) -> bool {
        let mut consumers = self.status.reserved_for.iter();
        consumers.any(|consumer| consumer.uid == pod.uid())
    }

    /// Whether it was made for this pod.
    ///
    /// # Errors
    /// Why it was not.
    pub fn check_made_for(&self, pod: &Pod) -> Result<(), String> {
        let claim = format!("{}/{}", self.namespace(), self.name());
        let owner = format!("{}/{}", pod.namespace(), pod.name());
        if self.namespace() != pod.namespace() {
            return Err(format!(
                "ResourceClaim {claim} is not in the same namespace as Pod {owner}"
            ));
        }
        match is_controlled_by(&self.metadata, pod.uid()) {
            true => Ok(()),
            false => Err(format!(
                "ResourceClaim {claim} was not created for Pod {owner} (Pod is not owner)"
            )),
        }
    }

    /// The pod that it was made for: name and unique id.
    pub fn owning_pod(&self) -> Option<(&str, &str)> {
        let mut owners = self.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| {
            owner.controller == Some(true) && owner.api_version == "v1" && owner.kind == "Pod"
        })?;
        Some((&owner.name, &owner.uid))
    }
}

/// The name of a pod's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named<'a> {
    /// This one; made for the pod if its owner has to be checked.
    Claim {
        /// Its name.
        name: &'a str,
        /// Whether it must be the pod's own.
        is_own: bool,
    },
    /// The pod needs none.
    Unneeded,
    /// It is to be made from a template.
    Missing,
    /// The pod says neither; why that is an error.
    Unsupported(String),
}

/// Finds the name of a pod's claim.
pub fn named<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Named<'a> {
    if let Some(name) = &claim.resource_claim_name {
        return Named::Claim {
            name,
            is_own: false,
        };
    }
    if claim.resource_claim_template_name.is_none() {
        let (namespace, pod, claim) = (pod.namespace(), pod.name(), &claim.name);
        return Named::Unsupported(format!(
            "pod \"{namespace}/{pod}\", spec.resourceClaim {claim:?}: none of the supported \
             fields are set"
        ));
    }
    let mut statuses = pod.status.resource_claim_statuses.iter();
    match statuses.find(|status| status.name == claim.name) {
        None => Named::Missing,
        Some(status) => match &status.resource_claim_name {
            None => Named::Unneeded,
            Some(name) => Named::Claim { name, is_own: true },
        },
    }
}

/// `NAMESPACE/NAME` of the claims that a pod has: an index of pods.
pub fn claim_keys(pod: &Pod) -> Vec<String> {
    let namespace = pod.namespace();
    let name = |claim| match named(pod, claim) {
        Named::Claim { name, .. } => Some(format!("{namespace}/{name}")),
        _ => None,
    };
    pod.spec.resource_claims.iter().filter_map(name).collect()
}

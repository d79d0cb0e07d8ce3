//! Devices: claims, slices and classes as the API has them, overlaid by allocations that are not
//! written yet; and the allocator, which finds devices of a node for claims.

pub(crate) mod allocate;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass, ResourceClaim, ResourceSlice};

use crate::views::{name, namespace};

/// A device: driver, pool, name.
pub(crate) type DeviceId = (String, String, String);

/// Claims, slices and classes.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    claims: HashMap<String, Arc<ResourceClaim>>,
    /// Allocations decided on and not yet seen, by the claim's uid.
    pending: HashMap<String, AllocationResult>,
    /// By name: the order in which devices are tried.
    slices: BTreeMap<String, Arc<ResourceSlice>>,
    classes: HashMap<String, Arc<DeviceClass>>,
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The unique id of a claim.
pub(crate) fn uid(claim: &ResourceClaim) -> &str {
    claim.metadata.uid.as_deref().unwrap_or_default()
}

/// The devices that a claim has.
pub(crate) fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

impl Devices {
    /// A claim.
    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(&key(namespace, name))
    }

    /// A class.
    pub(crate) fn class(&self, name: &str) -> Option<&Arc<DeviceClass>> {
        self.classes.get(name)
    }

    /// Slices by name.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &Arc<ResourceSlice>> {
        self.slices.values()
    }

    /// Whether an allocation for a claim is being written.
    pub(crate) fn is_pending(&self, claim: &ResourceClaim) -> bool {
        self.pending.contains_key(uid(claim))
    }

    /// All devices that somebody has.
    pub(crate) fn allocated(&self) -> impl Iterator<Item = DeviceId> {
        let written = self.claims.values().filter_map(|claim| allocation(claim));
        let results = written
            .chain(self.pending.values())
            .filter_map(|one| one.devices.as_ref())
            .flat_map(|devices| devices.results.iter().flatten());
        results
            .filter(|one| one.admin_access != Some(true))
            .map(|one| (one.driver.clone(), one.pool.clone(), one.device.clone()))
    }

    /// A claim that is new or has changed.
    pub(crate) fn set_claim(&mut self, claim: &Arc<ResourceClaim>) {
        if allocation(claim).is_some() {
            self.pending.remove(uid(claim));
        }
        let key = key(namespace(&claim.metadata), name(&claim.metadata));
        self.claims.insert(key, Arc::clone(claim));
    }

    /// A claim that is gone.
    pub(crate) fn remove_claim(&mut self, namespace: &str, name: &str) {
        if let Some(claim) = self.claims.remove(&key(namespace, name)) {
            self.pending.remove(uid(&claim));
        }
    }

    /// A slice that is new or has changed.
    pub(crate) fn set_slice(&mut self, slice: &Arc<ResourceSlice>) {
        self.slices
            .insert(name(&slice.metadata).to_string(), Arc::clone(slice));
    }

    /// A slice that is gone.
    pub(crate) fn remove_slice(&mut self, name: &str) {
        self.slices.remove(name);
    }

    /// A class that is new or has changed.
    pub(crate) fn set_class(&mut self, class: &Arc<DeviceClass>) {
        self.classes
            .insert(name(&class.metadata).to_string(), Arc::clone(class));
    }

    /// A class that is gone.
    pub(crate) fn remove_class(&mut self, name: &str) {
        self.classes.remove(name);
    }

    /// An allocation that is being written.
    pub(crate) fn assume(&mut self, claim: &ResourceClaim, allocation: AllocationResult) {
        self.pending.insert(uid(claim).to_string(), allocation);
    }

    /// An allocation that is not written after all.
    pub(crate) fn forget(&mut self, claim: &ResourceClaim) {
        self.pending.remove(uid(claim));
    }
}

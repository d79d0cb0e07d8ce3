//! DynamicResources: devices that a pod's claims have, or can get on a node.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequest, ResourceClaim};

use crate::cycle::State;
use crate::devices::allocate::{Stuck, allocate};
use crate::devices::{allocation, uid};
use crate::framework::{Action, Event, Failure, Object, Plugin, Rejection, Verdict};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use crate::views::{Pod, name, namespace};

use super::volume_binding::node_matches;

/// The most pods that can use one claim.
const RESERVED_MAX: usize = 256;

/// The claims of a pod.
#[derive(Debug, Default)]
pub(crate) struct Facts<'s> {
    allocated: Vec<&'s Arc<ResourceClaim>>,
    waiting: Vec<&'s Arc<ResourceClaim>>,
}

/// What has to be written before a pod can be bound to a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct DevicePlan {
    /// Claims that get devices, and which.
    pub(crate) allocations: Vec<(Arc<ResourceClaim>, AllocationResult)>,
    /// Claims that have devices and have yet to be reserved for the pod.
    pub(crate) reservations: Vec<Arc<ResourceClaim>>,
}

impl DevicePlan {
    /// Nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.allocations.is_empty() && self.reservations.is_empty()
    }
}

fn rejected(reason: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Rejection::last(Plugin::DynamicResources, reason).into()
}

fn is_reserved_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    let status = claim.status.as_ref();
    let reserved = status
        .into_iter()
        .flat_map(|one| one.reserved_for.iter().flatten());
    reserved.into_iter().any(|one| one.uid == pod.uid())
}

/// Why a pod has to wait for its claims to exist.
pub(crate) fn gate(snapshot: &Snapshot, pod: &Pod) -> Option<String> {
    match claims(snapshot, pod) {
        Err(Failure::Rejected(rejection)) => Some(rejection.message()),
        Err(Failure::Error(error)) => Some(error),
        Ok(_) => None,
    }
}

fn claims<'s>(snapshot: &'s Snapshot, pod: &Pod) -> Result<Vec<&'s Arc<ResourceClaim>>, Failure> {
    let mut found = Vec::new();
    for one in pod.claims.iter().filter(|one| !one.is_unneeded) {
        let Some(wanted) = &one.claim else {
            return Err(rejected(format!(
                "pod \"{}/{}\": claim not found: {}",
                pod.namespace(),
                pod.name(),
                one.name
            )));
        };
        let Some(claim) = snapshot.devices.claim(pod.namespace(), wanted) else {
            return Err(rejected(format!(
                "resourceclaim.resource.k8s.io {wanted:?} not found"
            )));
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(rejected(format!(
                "resourceclaim {wanted:?} is being deleted"
            )));
        }
        let mut owners = claim.metadata.owner_references.iter().flatten();
        if one.is_own && !owners.any(|one| one.controller == Some(true) && one.uid == pod.uid()) {
            return Err(rejected(format!(
                "ResourceClaim {}/{wanted} was not created for pod {}/{} (pod is not owner)",
                pod.namespace(),
                pod.namespace(),
                pod.name()
            )));
        }
        found.push(claim);
    }
    Ok(found)
}

impl<'s> Facts<'s> {
    pub(crate) fn is_empty(&self) -> bool {
        self.allocated.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn new(snapshot: &'s Snapshot, pod: &PodInfo) -> Result<Self, Failure> {
        let mut facts = Facts::default();
        if pod.pod.claims.is_empty() {
            return Ok(facts);
        }
        for claim in claims(snapshot, &pod.pod)? {
            if allocation(claim).is_some() {
                let status = claim.status.as_ref();
                let reserved = status
                    .and_then(|one| one.reserved_for.as_ref())
                    .map_or(0, Vec::len);
                if reserved >= RESERVED_MAX && !is_reserved_for(claim, &pod.pod) {
                    return Err(rejected("resourceclaim in use"));
                }
                facts.allocated.push(claim);
                continue;
            }
            if snapshot.devices.is_pending(claim) {
                return Err(rejected(format!(
                    "resource claim {}/{} is in the process of being allocated",
                    namespace(&claim.metadata),
                    name(&claim.metadata)
                )));
            }
            let devices = claim.spec.devices.as_ref();
            for request in devices
                .into_iter()
                .flat_map(|one| one.requests.iter().flatten())
            {
                classes_exist(snapshot, claim, request)?;
            }
            facts.waiting.push(claim);
        }
        Ok(facts)
    }
}

fn classes_exist(
    snapshot: &Snapshot,
    claim: &ResourceClaim,
    request: &DeviceRequest,
) -> Result<(), Failure> {
    let exists = |name: String, class: &str| match snapshot.devices.class(class) {
        Some(_) => Ok(()),
        None => Err(rejected(format!(
            "request {name}: device class {class} does not exist"
        ))),
    };
    if let Some(exact) = &request.exactly {
        return exists(request.name.clone(), &exact.device_class_name);
    }
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    if alternatives.is_empty() {
        return Err(rejected(format!(
            "resource claim {}/{}, request {}: unknown request type",
            namespace(&claim.metadata),
            name(&claim.metadata),
            request.name
        )));
    }
    alternatives.iter().try_for_each(|one| {
        exists(
            format!("{}/{}", request.name, one.name),
            &one.device_class_name,
        )
    })
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    plan(state, node).map(|_| ())
}

/// What giving a pod its devices on a node takes, or why it cannot be done.
pub(crate) fn plan(state: &State<'_>, node: &NodeInfo) -> Result<DevicePlan, Failure> {
    let mut plan = DevicePlan::default();
    for claim in &state.devices.allocated {
        let selector = allocation(claim).and_then(|one| one.node_selector.as_ref());
        if !selector.is_none_or(|selector| node_matches(selector, &node.node)) {
            return Err(rejected("resourceclaim not available on the node"));
        }
        if !is_reserved_for(claim, &state.pod.pod) {
            plan.reservations.push(Arc::clone(claim));
        }
    }
    let waiting = &state.devices.waiting;
    if waiting.is_empty() {
        return Ok(plan);
    }
    match allocate(&state.snapshot.devices, &node.node, waiting) {
        Ok(results) => {
            let claims = waiting.iter().map(|claim| Arc::clone(claim));
            plan.allocations = claims.zip(results).collect();
            Ok(plan)
        }
        Err(Stuck::Node) => Err(rejected("cannot allocate all claims")),
        Err(Stuck::Claim(reason)) => Err(rejected(reason)),
    }
}

/// What upstream's PostFilter of devices says, before preemption speaks.
pub(crate) fn post_filter(state: &State<'_>) -> &'static str {
    if state.devices.is_empty() {
        "no new claims to deallocate"
    } else {
        "still not schedulable"
    }
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    let arrives = Action::ADD.or(Action::UPDATE);
    match event.object {
        Object::ResourceClaim(change) => {
            let Some(new) = change.new.filter(|_| event.action.is_in(arrives)) else {
                return false;
            };
            // Devices that somebody gave back may be what anyone waits for.
            let gave_back = change.old.is_some_and(|old| allocation(old).is_some())
                && allocation(new).is_none();
            let is_own = pod.namespace() == namespace(&new.metadata)
                && pod
                    .claims
                    .iter()
                    .any(|one| one.claim.as_deref() == new.metadata.name.as_deref());
            gave_back
                || (is_own
                    && change
                        .old
                        .is_none_or(|old| old.status != new.status || uid(old) != uid(new)))
        }
        Object::Pod(change) => {
            event.action.is_in(Action::POD_CLAIMS)
                && change.new.is_some_and(|new| new.uid() == pod.uid())
        }
        Object::Node(_) => event.action.is_in(Action::ADD.or(Action::NODE_LABEL)),
        Object::DeviceClass(_) | Object::ResourceSlice(_) => event.action.is_in(arrives),
        _ => false,
    }
}

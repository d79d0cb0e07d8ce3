//! VolumeBinding: claims are bound to volumes that a node can reach, or can be there.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, TopologySelectorTerm};

use crate::cycle::State;
use crate::framework::{Action, Event, Failure, Object, Plugin, Reasons, Rejection, Verdict};
use crate::intern::Interner;
use crate::selector::{NodeRequirement, selects};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use crate::views::{CsiDriver, Node, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass};

use super::volume_restrictions::claim_not_found;

const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const UNREACHABLE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_BOUND: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const IMMEDIATE: &str = "pod has unbound immediate PersistentVolumeClaims";
/// A class whose volumes nobody makes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The claims of a pod.
#[derive(Debug, Default)]
pub(crate) struct Facts<'s> {
    bound: Vec<&'s Arc<PersistentVolumeClaim>>,
    /// Not bound, and waiting for a node to be chosen.
    waiting: Vec<&'s Arc<PersistentVolumeClaim>>,
}

/// What has to be written before a pod can be bound to a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct VolumePlan {
    /// Volumes to promise to claims.
    pub(crate) bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    /// Claims to have volumes made for on the node.
    pub(crate) provisions: Vec<Arc<PersistentVolumeClaim>>,
}

impl VolumePlan {
    /// Nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

fn rejected(reason: impl Into<Cow<'static, str>>) -> Failure {
    Rejection::last(Plugin::VolumeBinding, reason).into()
}

impl<'s> Facts<'s> {
    pub(crate) fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn new(snapshot: &'s Snapshot, pod: &PodInfo) -> Result<Self, Failure> {
        let mut facts = Facts::default();
        let mut immediate = false;
        for (name, is_own) in pod.pod.volumes.iter().filter_map(|volume| volume.claim()) {
            let claim = usable(snapshot, &pod.pod, name, is_own)?;
            if claim.is_bound() {
                facts.bound.push(claim);
            } else if claim.volume.is_empty() && waits(snapshot, claim)? {
                facts.waiting.push(claim);
            } else {
                immediate = true;
            }
        }
        if immediate {
            return Err(rejected(IMMEDIATE));
        }
        // The smallest claims choose first.
        facts.waiting.sort_by_key(|claim| claim.size.unwrap_or(0));
        Ok(facts)
    }
}

/// A claim that a pod may use.
fn usable<'s>(
    snapshot: &'s Snapshot,
    pod: &Pod,
    name: &str,
    is_own: bool,
) -> Result<&'s Arc<PersistentVolumeClaim>, Failure> {
    let Some(claim) = snapshot.volumes.claim(pod.namespace(), name) else {
        return Err(match is_own {
            true => rejected(format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            )),
            false => claim_not_found(Plugin::VolumeBinding, name).into(),
        });
    };
    if claim.is_lost {
        return Err(rejected(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}",
            claim.volume
        )));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(rejected(format!(
            "persistentvolumeclaim {name:?} is being deleted"
        )));
    }
    let mut owners = claim.metadata.owner_references.iter().flatten();
    if is_own && !owners.any(|owner| owner.controller == Some(true) && owner.uid == pod.uid()) {
        return Err(rejected(format!(
            "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
            claim.namespace(),
            pod.namespace(),
            pod.name()
        )));
    }
    Ok(claim)
}

/// Whether a claim's class waits for a node to be chosen.
fn waits(snapshot: &Snapshot, claim: &PersistentVolumeClaim) -> Result<bool, Failure> {
    if claim.class.is_empty() {
        return Ok(false);
    }
    let Some(class) = snapshot.volumes.class(&claim.class) else {
        return Ok(false);
    };
    match class.volume_binding_mode.as_deref() {
        Some(mode) => Ok(mode == "WaitForFirstConsumer"),
        None => Err(Failure::Error(format!(
            "VolumeBindingMode not set for StorageClass {:?}",
            claim.class
        ))),
    }
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    plan(state, node).map(|_| ())
}

/// What binding the pod's claims on a node takes, or why it cannot be done.
pub(crate) fn plan(state: &State<'_>, node: &NodeInfo) -> Result<VolumePlan, Failure> {
    let snapshot = state.snapshot;
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    for claim in &state.binding.bound {
        match snapshot.volumes.volume(&claim.volume) {
            None => {
                reasons.push(NO_BOUND.into());
                break;
            }
            Some(volume) if !reaches(volume, node) => {
                reasons.push(UNREACHABLE.into());
                break;
            }
            Some(_) => {}
        }
    }
    let mut plan = VolumePlan::default();
    if let Some(reason) = bind(state, node, &mut plan)? {
        reasons.push(reason.into());
    }
    // Upstream's order: reachability, volumes, space, existence.
    reasons.sort_by_key(|reason| {
        [UNREACHABLE, NO_VOLUME, NO_SPACE]
            .iter()
            .position(|one| one == reason)
            .unwrap_or(3)
    });
    let reasons = match reasons.len() {
        0 => return Ok(plan),
        1 => Reasons::One(reasons.remove(0)),
        _ => Reasons::Many(reasons),
    };
    Err(Failure::Rejected(Rejection {
        plugin: Plugin::VolumeBinding,
        is_final: true,
        reasons,
    }))
}

/// Finds volumes for the claims that wait, or ways to make them.
fn bind(
    state: &State<'_>,
    node: &NodeInfo,
    plan: &mut VolumePlan,
) -> Result<Option<&'static str>, Failure> {
    let mut to_provision = Vec::new();
    for claim in &state.binding.waiting {
        match claim.selected_node() {
            Some(selected) if selected != node.node.name() => return Ok(Some(NO_VOLUME)),
            Some(_) => to_provision.push(*claim),
            None => match find(state.snapshot, claim, node, &plan.bindings) {
                Some(volume) => plan.bindings.push((volume, Arc::clone(claim))),
                None => to_provision.push(*claim),
            },
        }
    }
    for claim in to_provision {
        let Some(class) = state.snapshot.volumes.class(&claim.class) else {
            let error = format!("failed to find storage class {:?}", claim.class);
            return Err(Failure::Error(error));
        };
        if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER {
            return Ok(Some(NO_VOLUME));
        }
        if !is_allowed(class, &node.node) {
            return Ok(Some(NO_VOLUME));
        }
        if !has_space(state.snapshot, class, claim, &node.node) {
            return Ok(Some(NO_SPACE));
        }
        plan.provisions.push(Arc::clone(claim));
    }
    Ok(None)
}

/// The volume to give to a claim: one promised to it, or else the smallest that will do.
fn find(
    snapshot: &Snapshot,
    claim: &PersistentVolumeClaim,
    node: &NodeInfo,
    taken: &[(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)],
) -> Option<Arc<PersistentVolume>> {
    let mut best: Option<&Arc<PersistentVolume>> = None;
    for volume in snapshot.volumes.of_class(&claim.class) {
        let is_promised = volume.is_promised_to(claim);
        if taken.iter().any(|(one, _)| one.name() == volume.name())
            || (volume.claim.is_some() && !is_promised)
            || volume.size < claim.size.unwrap_or(0)
            || volume.mode != claim.mode
            || volume.attributes != claim.attributes
            || volume.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        if is_promised {
            return reaches(volume, node).then(|| Arc::clone(volume));
        }
        let modes = &volume.access_modes;
        let fits = volume.is_available
            && claim
                .selector
                .as_ref()
                .is_none_or(|selector| selects(Some(selector), volume.metadata.labels.as_ref()))
            && claim.access_modes.iter().all(|mode| modes.contains(mode))
            && reaches(volume, node);
        if fits && best.is_none_or(|best| best.size > volume.size) {
            best = Some(volume);
        }
    }
    best.map(Arc::clone)
}

/// Whether a volume can be reached from a node.
pub(crate) fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    volume
        .affinity
        .as_ref()
        .is_none_or(|selector| node_matches(selector, &node.node))
}

/// Whether a node selector selects a node, without a snapshot.
pub(crate) fn node_matches(selector: &NodeSelector, node: &Node) -> bool {
    let mut interner = Interner::default();
    let wanted = NodeRequirement::new([], Some(selector), &mut interner);
    let labels = interner.labels(node.labels());
    let name = interner.intern(node.name());
    wanted.matches(name, &labels, &interner)
}

/// Whether volumes of a class can be made where a node is.
fn is_allowed(class: &StorageClass, node: &Node) -> bool {
    let matches = |term: &TopologySelectorTerm| {
        let mut expressions = term.match_label_expressions.iter().flatten();
        expressions.all(|one| {
            let value = node.label(&one.key);
            value.is_some_and(|value| one.values.iter().any(|known| known == value))
        })
    };
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty() || terms.iter().any(matches)
}

/// Whether a driver that knows its capacity has enough for a claim where a node is.
fn has_space(
    snapshot: &Snapshot,
    class: &StorageClass,
    claim: &PersistentVolumeClaim,
    node: &Node,
) -> bool {
    let driver = snapshot.volumes.driver(&class.provisioner);
    let Some(size) = claim.size else {
        return true;
    };
    if !driver.is_some_and(|driver| driver.spec.storage_capacity) {
        return true;
    }
    let mut capacities = snapshot.volumes.capacities();
    capacities.any(|capacity| {
        capacity.storage_class_name == claim.class
            && capacity.limit().is_some_and(|limit| limit >= size)
            && selects(
                capacity.node_topology.as_ref(),
                node.metadata.labels.as_ref(),
            )
    })
}

/// Whether a pod uses a claim.
pub(crate) fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let mut claims = pod.volumes.iter().filter_map(|volume| volume.claim());
    pod.namespace() == claim.namespace() && claims.any(|(name, _)| name == claim.name())
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    let arrives = Action::ADD.or(Action::UPDATE);
    if !event
        .action
        .is_in(arrives.or(Action::NODE_LABEL).or(Action::NODE_TAINT))
    {
        return false;
    }
    match event.object {
        Object::Class(change) => change.old.is_none_or(|old| {
            change
                .new
                .is_some_and(|new| old.allowed_topologies != new.allowed_topologies)
        }),
        Object::Claim(change) => change.new.is_some_and(|new| uses(pod, new)),
        Object::Volume(_) => true,
        Object::Node(_) => event.action.is_in(Action::ADD.or(Action::NODE_LABEL)),
        Object::CsiNode(_) => true,
        Object::CsiDriver(change) => {
            let tracks = |driver: &CsiDriver| driver.spec.storage_capacity;
            change.old.is_some_and(tracks) && !change.new.is_some_and(tracks)
        }
        Object::Capacity(change) => change
            .old
            .is_none_or(|old| change.new.is_some_and(|new| new.limit() > old.limit())),
        _ => false,
    }
}

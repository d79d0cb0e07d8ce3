//! Whether a finalizer is put on an object or taken off it.

use client::View;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::pod::Pod;
use crate::volumes::{Claim, Volume, claim_name};

/// Keeps a volume while it is bound.
pub(super) const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Keeps a claim while a pod on a node uses it.
pub(super) const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// Keeps a VolumeAttributesClass while claims and volumes have it.
pub(super) const ATTRIBUTES_FINALIZER: &str = "kubernetes.io/vac-protection";

/// What to do with the finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

/// Whether the object waits for its finalizer only: whether it is used has to be found out.
pub(super) fn may_go(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.deletion_timestamp.is_some() && has(metadata, finalizer)
}

/// Whether there is anything to do.
pub(super) fn is_interesting(metadata: &ObjectMeta, finalizer: &str) -> bool {
    may_go(metadata, finalizer) || plan(metadata, finalizer, true).is_some()
}

/// What to do.
pub(super) fn plan(metadata: &ObjectMeta, finalizer: &str, is_used: bool) -> Option<Change> {
    match metadata.deletion_timestamp {
        Some(_) if has(metadata, finalizer) && !is_used => Some(Change::Remove),
        None if !has(metadata, finalizer) => Some(Change::Add),
        _ => None,
    }
}

/// The finalizers after a change.
pub(super) fn changed(metadata: &ObjectMeta, finalizer: &str, change: Change) -> Vec<String> {
    let mut all = metadata.finalizers.clone().unwrap_or_default();
    match change {
        Change::Add => all.push(finalizer.into()),
        Change::Remove => all.retain(|name| name != finalizer),
    }
    all
}

fn has(metadata: &ObjectMeta, finalizer: &str) -> bool {
    let mut all = metadata.finalizers.iter().flatten();
    all.any(|name| name == finalizer)
}

/// Whether a pod keeps a claim: it is on a node and names it, be it terminated; or the claim is
/// that of its ephemeral volume, until the node has shut it down.
pub(super) fn uses_claim(pod: &Pod, claim: &Claim) -> bool {
    let is_shut_down = pod.is_deleted() && pod.metadata.deletion_grace_period_seconds == Some(0);
    let uses = |volume| {
        let is_named = claim_name(pod, volume) == claim.name();
        let is_ephemeral = volume.claim_name.is_none();
        is_named && (!is_ephemeral || !is_shut_down && claim.is_made_for(pod))
    };
    !pod.spec.node_name.is_empty()
        && pod.namespace() == claim.namespace()
        && pod.spec.volumes.iter().any(uses)
}

/// The VolumeAttributesClasses that a claim has, wants or is getting.
pub(super) fn classes_of_claim(claim: &Claim) -> Vec<String> {
    let target = claim.status.modify_volume_status.as_ref();
    let target = target.map(|status| status.target_volume_attributes_class_name.clone());
    let all = [
        claim.spec.volume_attributes_class_name.clone(),
        claim.status.current_volume_attributes_class_name.clone(),
        target,
    ];
    let mut names: Vec<String> = all
        .into_iter()
        .flatten()
        .filter(|n| !n.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The VolumeAttributesClass that a volume has.
pub(super) fn classes_of_volume(volume: &Volume) -> Vec<String> {
    let name = volume.spec.volume_attributes_class_name.clone();
    name.into_iter().filter(|name| !name.is_empty()).collect()
}

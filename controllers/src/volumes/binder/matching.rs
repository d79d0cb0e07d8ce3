//! Which volume fits a claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::View;

use crate::volumes::{Claim, Volume, are_modes_different};

/// The best volume for a claim: one that is already meant for it, else the smallest that fits, of
/// those with the fewest access modes.
///
/// With `is_delayed`, only volumes that are meant for it: the scheduler chooses among the others.
pub(super) fn best<'a>(
    claim: &Claim,
    volumes: &'a [Arc<Volume>],
    is_delayed: bool,
) -> Option<&'a Arc<Volume>> {
    let mut by_modes: BTreeMap<(usize, String), Vec<&Arc<Volume>>> = BTreeMap::new();
    for volume in volumes {
        let modes = canonical_modes(&volume.spec.access_modes);
        if has_all_modes(volume, claim) {
            let key = (modes.len(), modes.concat());
            by_modes.entry(key).or_default().push(volume);
        }
    }
    by_modes
        .values()
        .find_map(|alike| best_of(claim, alike, is_delayed))
}

fn best_of<'a>(
    claim: &Claim,
    volumes: &[&'a Arc<Volume>],
    is_delayed: bool,
) -> Option<&'a Arc<Volume>> {
    let mut smallest: Option<&Arc<Volume>> = None;
    for volume in volumes {
        let is_taken = volume.spec.claim_ref.is_some() && !volume.is_bound_to(claim);
        if is_taken || !is_suitable(volume, claim) {
            continue;
        }
        if volume.is_bound_to(claim) {
            return Some(volume);
        }
        if is_delayed || !is_free_for(volume, claim) {
            continue;
        }
        if smallest.is_none_or(|smallest| smallest.capacity() > volume.capacity()) {
            smallest = Some(volume);
        }
    }
    smallest
}

/// What must hold even for a volume that is meant for the claim.
fn is_suitable(volume: &Volume, claim: &Claim) -> bool {
    let modes = (
        claim.spec.volume_mode.as_deref(),
        volume.spec.volume_mode.as_deref(),
    );
    volume.capacity() >= claim.requested()
        && !are_modes_different(modes.0, modes.1)
        && has_same_attributes(volume, claim)
        && volume.metadata.deletion_timestamp.is_none()
}

/// What must hold for a volume that is meant for nobody.
fn is_free_for(volume: &Volume, claim: &Claim) -> bool {
    let selector = claim.spec.selector.as_ref();
    volume.status.phase == "Available"
        && selector.is_none_or(|selector| selector.matches(volume.metadata.labels.as_ref()))
        && volume.class() == claim.class()
}

/// Why a volume that a claim names cannot be its volume.
pub(super) fn mismatch(volume: &Volume, claim: &Claim) -> Option<String> {
    let modes = (
        claim.spec.volume_mode.as_deref(),
        volume.spec.volume_mode.as_deref(),
    );
    if volume.metadata.deletion_timestamp.is_some() {
        let name = volume.name();
        return Some(format!("the volume is marked for deletion {name:?}"));
    }
    let why = match () {
        () if volume.capacity() < claim.requested() => "requested PV is too small",
        () if volume.class() != claim.class() => "storageClassName does not match",
        () if !has_same_attributes(volume, claim) => "volumeAttributesClassName does not match",
        () if are_modes_different(modes.0, modes.1) => "incompatible volumeMode",
        () if !has_all_modes(volume, claim) => "incompatible accessMode",
        () => return None,
    };
    Some(why.into())
}

fn has_same_attributes(volume: &Volume, claim: &Claim) -> bool {
    let of = |class: &Option<String>| class.clone().unwrap_or_default();
    of(&volume.spec.volume_attributes_class_name) == of(&claim.spec.volume_attributes_class_name)
}

fn has_all_modes(volume: &Volume, claim: &Claim) -> bool {
    let offered = &volume.spec.access_modes;
    let mut asked = claim.spec.access_modes.iter();
    asked.all(|mode| offered.contains(mode))
}

/// Access modes without repetition in their usual order.
fn canonical_modes(modes: &[String]) -> Vec<&str> {
    const ORDER: [&str; 4] = [
        "ReadWriteOnce",
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOncePod",
    ];
    let mut all: Vec<&str> = modes.iter().map(String::as_str).collect();
    all.sort_by_key(|mode| ORDER.iter().position(|known| known == mode));
    all.dedup();
    all
}

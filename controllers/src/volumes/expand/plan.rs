//! Who enlarges the volume of a claim.

use client::View;

use crate::note::Note;
use crate::volumes::{Claim, PRE_RESIZE_CAPACITY, Volume};

/// What to do for a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Its volume is large enough.
    Nothing,
    /// A sidecar of the driver does it; this is said.
    Wait(Note),
    /// Try again later, for this reason.
    Fail(String),
}

/// Decides for a claim and its volume.
pub(super) fn decide(claim: &Claim, volume: &Volume) -> Decision {
    let reference = volume.spec.claim_ref.as_ref();
    let is_bound = reference.is_some_and(|reference| {
        reference.namespace.as_deref() == Some(claim.namespace())
            && reference.uid.as_deref() == Some(claim.uid())
    });
    if !is_bound {
        let key = claim.key();
        return Decision::Fail(format!(
            "persistent Volume is not bound to PVC being updated : {key}"
        ));
    }
    let is_large_enough = claim.requested() <= claim.capacity();
    if is_large_enough && volume.annotation(PRE_RESIZE_CAPACITY).is_none() {
        return Decision::Nothing;
    }
    Decision::Wait(Note::normal(
        "ExternalExpanding",
        "waiting for an external controller to expand this PVC",
    ))
}

/// Whether a change of a claim may need a larger volume.
pub(super) fn is_interesting(old: Option<&Claim>, new: &Claim) -> bool {
    let has_grown =
        |old: &Claim| new.requested() > old.requested() || new.capacity() > old.capacity();
    new.status.phase == "Bound" && old.is_none_or(has_grown)
}

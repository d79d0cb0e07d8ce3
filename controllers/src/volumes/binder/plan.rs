//! What is to be done for a claim or a volume, one after the other: each step builds on the object
//! that the one before it wrote.

use std::sync::Arc;

use client::View;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::matching;
use super::plugins::{self, Deleter, Migration};
use crate::note::Note;
use crate::volumes::{
    Amounts, BIND_COMPLETED, BOUND_BY_CONTROLLER, Claim, Class, PRE_RESIZE_CAPACITY,
    PROVISIONED_BY, SELECTED_NODE, STORAGE, STORAGE_PROVISIONER, Volume, are_modes_different,
};

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Change the volume.
    Volume(VolumeEdit),
    /// Change the volume's phase, and why it has it.
    VolumePhase(&'static str, String),
    /// Change the claim.
    Claim(ClaimEdit),
    /// Change the claim's status.
    ClaimStatus(StatusEdit),
    /// Say something about the claim.
    NoteClaim(Note),
    /// Say something about the volume.
    NoteVolume(Note),
    /// Look at the claim of the volume.
    SyncClaim,
    /// Remove what is behind the volume, then the volume.
    Delete(Deleter),
    /// Try again later, for this reason.
    Fail(String),
}

/// A change of a volume.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum VolumeEdit {
    /// Refer to a claim.
    Bind {
        reference: Option<Box<ObjectReference>>,
        by_controller: bool,
    },
    /// Refer to nobody; or, where the user chose the claim, to any claim of that name.
    Unbind { by_controller: bool },
    /// Bring annotation and finalizers of an in-tree plugin up to date.
    Migrate {
        annotation: Option<Migration>,
        finalizers: Option<Vec<String>>,
    },
}

/// A change of a claim.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClaimEdit {
    /// It has this volume.
    Bind { volume: Option<String> },
    /// It gets the default class.
    Class(String),
    /// A provisioner is asked for a volume.
    Provisioner(String),
    /// Bring the annotation of an in-tree plugin up to date.
    Migrate(Migration),
}

/// A change of a claim's status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StatusEdit {
    pub(super) phase: &'static str,
    pub(super) access_modes: Option<Vec<String>>,
    pub(super) capacity: Capacity,
    /// The attributes that it has from now on, if they change.
    pub(super) attributes: Option<Option<String>>,
}

/// What becomes of the capacity in a claim's status.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Capacity {
    Keep,
    Clear,
    All(Amounts),
    Storage(Quantity),
}

/// What a claim is judged by.
#[derive(Debug, Default)]
pub(super) struct ClaimWorld {
    pub(super) claim: Arc<Claim>,
    /// The volume that it names; where it names none, the one that was [`chosen`].
    pub(super) volume: Option<Arc<Volume>>,
    /// Its class.
    pub(super) class: Option<Arc<Class>>,
    /// The class that claims without one get.
    pub(super) default_class: Option<String>,
    /// Pods that use it and have no node.
    pub(super) waiting_pods: Vec<String>,
}

/// What a volume is judged by.
#[derive(Debug, Default)]
pub(super) struct VolumeWorld {
    pub(super) volume: Arc<Volume>,
    /// The claim that it refers to by its id.
    pub(super) claim: Option<Arc<Claim>>,
    /// Pods that use a claim of that name, for volumes that are recycled.
    pub(super) using_pods: Vec<String>,
    /// Whether there is any claim of that name.
    pub(super) has_namesake: bool,
}

/// The steps for a claim.
pub(super) fn claim(world: &ClaimWorld) -> Vec<Step> {
    let claim = &*world.claim;
    if let Some(migration) = plugins::claim_migration(claim) {
        // The change wakes this up again.
        return vec![Step::Claim(ClaimEdit::Migrate(migration))];
    }
    match claim.annotation(BIND_COMPLETED) {
        Some(_) => bound_claim(claim, world.volume.as_deref()),
        None if claim.spec.volume_name.is_empty() => free_claim(world),
        None => choosing_claim(claim, world.volume.as_deref()),
    }
}

/// The volume that is best for a claim which names none.
pub(super) fn chosen(
    claim: &Claim,
    class: Option<&Class>,
    volumes: &[Arc<Volume>],
) -> Option<Arc<Volume>> {
    let is_delayed = is_delayed(claim, class).ok()?;
    matching::best(claim, volumes, is_delayed).cloned()
}

/// Whether the scheduler chooses the volume, once a pod needs it.
fn is_delayed(claim: &Claim, class: Option<&Class>) -> Result<bool, String> {
    let Some(class) = class else {
        return Ok(false);
    };
    match class.volume_binding_mode.as_deref() {
        Some(mode) => Ok(mode == "WaitForFirstConsumer"),
        None => {
            let class = claim.class();
            Err(format!(
                "VolumeBindingMode not set for StorageClass {class:?}"
            ))
        }
    }
}

/// A claim that takes any volume.
fn free_claim(world: &ClaimWorld) -> Vec<Step> {
    let claim = &*world.claim;
    let is_delayed = match is_delayed(claim, world.class.as_deref()) {
        Ok(is_delayed) => is_delayed,
        Err(why) => return vec![Step::Fail(why)],
    };
    if let Some(volume) = &world.volume {
        return bind(volume, claim);
    }
    if let Some(class) = world.default_class.as_ref().filter(|_| !claim.has_class()) {
        return vec![Step::Claim(ClaimEdit::Class(class.clone()))];
    }
    let note = match () {
        () if is_delayed && claim.annotation(SELECTED_NODE).is_none() => {
            waits_for(&world.waiting_pods)
        }
        () if !claim.class().is_empty() => return provision(claim, world.class.as_deref()),
        () => Note::normal(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
    };
    let mut steps = vec![Step::NoteClaim(note)];
    steps.extend(claim_status(claim, "Pending", None));
    steps
}

fn waits_for(pods: &[String]) -> Note {
    match pods {
        [] => Note::normal(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ),
        [pod] => Note::normal(
            "WaitForPodScheduled",
            format!("waiting for pod {pod} to be scheduled"),
        ),
        pods => {
            let pods = pods.join(",");
            Note::normal(
                "WaitForPodScheduled",
                format!("waiting for pods {pods} to be scheduled"),
            )
        }
    }
}

/// Asks a provisioner for a volume.
fn provision(claim: &Claim, class: Option<&Class>) -> Vec<Step> {
    let provisioner = match class {
        Some(class) => plugins::provisioner(&class.provisioner),
        None => {
            let class = claim.class();
            Err(format!("storageclass.storage.k8s.io {class:?} not found"))
        }
    };
    let provisioner = match provisioner {
        Ok(provisioner) => provisioner,
        Err(why) => return vec![Step::NoteClaim(Note::warning("ProvisioningFailed", why))],
    };
    let mut steps = Vec::new();
    if claim.annotation(STORAGE_PROVISIONER) != Some(provisioner) {
        steps.push(Step::Claim(ClaimEdit::Provisioner(provisioner.into())));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' \
         or manually by the system administrator. If volume creation is delayed, please verify \
         that the provisioner is running and correctly registered."
    );
    steps.push(Step::NoteClaim(Note::normal(
        "ExternalProvisioning",
        message,
    )));
    steps
}

/// A claim that names its volume and is not bound yet.
fn choosing_claim(claim: &Claim, volume: Option<&Volume>) -> Vec<Step> {
    let pending = || claim_status(claim, "Pending", None);
    let Some(volume) = volume else {
        return pending();
    };
    let name = volume.name();
    let refuse =
        |reason: &'static str, message: String| Step::NoteClaim(Note::warning(reason, message));
    if volume.spec.claim_ref.is_none() {
        let Some(why) = matching::mismatch(volume, claim) else {
            return bind(volume, claim);
        };
        let message = format!("Cannot bind to requested volume {name:?}: {why}");
        let mut steps = vec![refuse("VolumeMismatch", message)];
        steps.extend(pending());
        return steps;
    }
    if volume.is_bound_to(claim) {
        return bind(volume, claim);
    }
    let message = format!("volume {name:?} already bound to a different claim.");
    let mut steps = vec![refuse("FailedBinding", message)];
    match claim.annotation(BOUND_BY_CONTROLLER) {
        None => steps.extend(pending()),
        Some(_) => {
            let (claim, other) = (claim.key(), volume.claim_key().unwrap_or_default());
            steps.push(Step::Fail(format!(
                "invalid binding of claim {claim:?} to volume {name:?}: volume already claimed by \
                 {other:?}"
            )));
        }
    }
    steps
}

/// A claim that had been bound.
fn bound_claim(claim: &Claim, volume: Option<&Volume>) -> Vec<Step> {
    let lost = |reason: &'static str, message: &'static str| {
        if claim.status.phase == "Lost" {
            return Vec::new();
        }
        let mut steps = claim_status(claim, "Lost", None);
        steps.push(Step::NoteClaim(Note::warning(reason, message)));
        steps
    };
    if claim.spec.volume_name.is_empty() {
        return lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        );
    }
    let Some(volume) = volume else {
        return lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    let reference = volume.spec.claim_ref.as_ref();
    let is_its = |reference: &ObjectReference| reference.uid.as_deref() == Some(claim.uid());
    match reference {
        Some(reference) if !is_its(reference) => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        _ => bind(volume, claim),
    }
}

/// Binds both, as far as they are not: first the volume, so that no two claims get it.
fn bind(volume: &Volume, claim: &Claim) -> Vec<Step> {
    let mut steps = Vec::new();
    let reference = volume.spec.claim_ref.as_ref();
    let refers = reference.is_some_and(|reference| {
        reference.name.as_deref() == Some(claim.name())
            && reference.namespace.as_deref() == Some(claim.namespace())
            && reference.uid.as_deref() == Some(claim.uid())
    });
    let by_controller =
        !volume.is_bound_to(claim) && volume.annotation(BOUND_BY_CONTROLLER).is_none();
    if !refers || by_controller {
        steps.push(Step::Volume(VolumeEdit::Bind {
            reference: (!refers).then(|| Box::new(reference_to(claim))),
            by_controller,
        }));
    }
    if volume.status.phase != "Bound" {
        steps.push(Step::VolumePhase("Bound", String::new()));
    }
    let is_named = claim.spec.volume_name == volume.name();
    if !is_named || claim.annotation(BIND_COMPLETED).is_none() {
        let volume = (!is_named).then(|| volume.name().to_string());
        steps.push(Step::Claim(ClaimEdit::Bind { volume }));
    }
    steps.extend(claim_status(claim, "Bound", Some(volume)));
    steps
}

fn reference_to(claim: &Claim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// Brings a claim's status to a phase; what it says of its volume follows the volume.
fn claim_status(claim: &Claim, phase: &'static str, volume: Option<&Volume>) -> Vec<Step> {
    let edit = match volume {
        None => without_volume(claim, phase),
        Some(volume) => match with_volume(claim, phase, volume) {
            Ok(edit) => edit,
            Err(why) => return vec![Step::Fail(why)],
        },
    };
    let is_changed = claim.status.phase != edit.phase
        || claim.status.access_modes != edit.access_modes
        || edit.capacity != Capacity::Keep
        || edit.attributes.is_some();
    match is_changed {
        true => vec![Step::ClaimStatus(edit)],
        false => Vec::new(),
    }
}

fn without_volume(claim: &Claim, phase: &'static str) -> StatusEdit {
    let status = &claim.status;
    StatusEdit {
        phase,
        access_modes: None,
        capacity: match status.capacity {
            None => Capacity::Keep,
            Some(_) => Capacity::Clear,
        },
        attributes: status
            .current_volume_attributes_class_name
            .is_some()
            .then_some(None),
    }
}

fn with_volume(claim: &Claim, phase: &'static str, volume: &Volume) -> Result<StatusEdit, String> {
    let status = &claim.status;
    let attributes = &volume.spec.volume_attributes_class_name;
    let has_new_attributes = status.phase == "Pending"
        && phase == "Bound"
        && status.current_volume_attributes_class_name != *attributes;
    let capacity = match status.phase == phase {
        true => Capacity::Keep,
        false => new_capacity(claim, volume)?,
    };
    Ok(StatusEdit {
        phase,
        access_modes: Some(volume.spec.access_modes.clone()),
        capacity,
        attributes: has_new_attributes.then(|| attributes.clone()),
    })
}

fn new_capacity(claim: &Claim, volume: &Volume) -> Result<Capacity, String> {
    let Some(whole) = volume.spec.capacity.get(STORAGE) else {
        let name = volume.name();
        return Err(format!(
            "PersistentVolume {name:?} is without a storage capacity"
        ));
    };
    if let Some(before) = volume.annotation(PRE_RESIZE_CAPACITY) {
        // The file system has not grown yet.
        let is_amount = api::values::Quantity::parse(before).is_ok();
        return Ok(Capacity::Storage(match is_amount {
            true => Quantity(before.into()),
            false => whole.clone(),
        }));
    }
    let has_any = claim
        .status
        .capacity
        .as_ref()
        .is_some_and(|capacity| capacity.contains_key(STORAGE));
    Ok(match has_any && claim.capacity() == volume.capacity() {
        true => Capacity::Keep,
        false => Capacity::All(volume.spec.capacity.clone()),
    })
}

/// The steps for a volume.
pub(super) fn volume(world: &VolumeWorld) -> Vec<Step> {
    let volume = &*world.volume;
    let annotation = plugins::volume_migration(volume);
    let finalizers = plugins::finalizers(volume);
    if annotation.is_some() || finalizers.is_some() {
        // The change wakes this up again.
        return vec![Step::Volume(VolumeEdit::Migrate {
            annotation,
            finalizers,
        })];
    }
    let reference = volume.spec.claim_ref.as_ref();
    let uid = reference.and_then(|reference| reference.uid.as_deref());
    if uid.unwrap_or_default().is_empty() {
        return phase(volume, "Available");
    }
    let Some(claim) = &world.claim else {
        return released(world);
    };
    let modes = (
        claim.spec.volume_mode.as_deref(),
        volume.spec.volume_mode.as_deref(),
    );
    match &*claim.spec.volume_name {
        "" if are_modes_different(modes.0, modes.1) => incompatible(volume, claim),
        "" => vec![Step::SyncClaim],
        name if name == volume.name() => phase(volume, "Bound"),
        _ if volume.annotation(PROVISIONED_BY).is_some()
            && volume.spec.persistent_volume_reclaim_policy == "Delete" =>
        {
            released(world)
        }
        _ => unbind(volume),
    }
}

fn phase(volume: &Volume, phase: &'static str) -> Vec<Step> {
    match volume.status.phase == phase {
        true => Vec::new(),
        false => vec![Step::VolumePhase(phase, String::new())],
    }
}

fn incompatible(volume: &Volume, claim: &Claim) -> Vec<Step> {
    let (volume, claim) = (volume.name(), claim.name());
    let of_volume = format!(
        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {claim:?} due to \
         incompatible volumeMode."
    );
    let of_claim = format!(
        "Cannot bind PersistentVolume {volume:?} to requested PersistentVolumeClaim due to \
         incompatible volumeMode."
    );
    vec![
        Step::NoteVolume(Note::warning("VolumeMismatch", of_volume)),
        Step::NoteClaim(Note::warning("VolumeMismatch", of_claim)),
    ]
}

fn unbind(volume: &Volume) -> Vec<Step> {
    let by_controller = volume.annotation(BOUND_BY_CONTROLLER).is_some();
    let mut steps = vec![Step::Volume(VolumeEdit::Unbind { by_controller })];
    steps.extend(phase(volume, "Available"));
    steps
}

/// A volume whose claim is gone.
fn released(world: &VolumeWorld) -> Vec<Step> {
    let volume = &*world.volume;
    let mut steps = match &*volume.status.phase {
        "Released" | "Failed" => Vec::new(),
        _ => phase(volume, "Released"),
    };
    if volume
        .annotation(crate::volumes::MIGRATED_TO)
        .is_some_and(|driver| !driver.is_empty())
    {
        return steps;
    }
    let fail = |reason: &'static str, message: String| match &*volume.status.phase {
        "Failed" => Vec::new(),
        _ => vec![
            Step::VolumePhase("Failed", message.clone()),
            Step::NoteVolume(Note::warning(reason, message)),
        ],
    };
    steps.extend(match &*volume.spec.persistent_volume_reclaim_policy {
        "Retain" => Vec::new(),
        "Delete" => match plugins::deleter(volume) {
            Ok(Deleter::External) => Vec::new(),
            Ok(deleter) => vec![Step::Delete(deleter)],
            Err(why) => fail("VolumeFailedDelete", why),
        },
        "Recycle" if !world.using_pods.is_empty() && !world.has_namesake => {
            let pods = world.using_pods.join(",");
            let message = format!("Volume is used by pods: {pods}");
            vec![Step::NoteVolume(Note::normal(
                "VolumeFailedRecycle",
                message,
            ))]
        }
        // Recycling is deprecated, and there is no recycler here.
        "Recycle" => fail(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".into(),
        ),
        _ => fail(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy".into(),
        ),
    });
    steps
}

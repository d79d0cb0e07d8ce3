//! How the steps of a plan change objects.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::plan::{Capacity, ClaimEdit, StatusEdit, VolumeEdit};
use super::plugins::{Migration, successor};
use crate::volumes::{
    BETA_STORAGE_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, MIGRATED_TO, STORAGE,
    STORAGE_PROVISIONER,
};

/// Changes a volume.
pub(super) fn volume(volume: &mut PersistentVolume, edit: &VolumeEdit) {
    let spec = volume.spec.get_or_insert_default();
    match edit {
        VolumeEdit::Bind {
            reference,
            by_controller,
        } => {
            if let Some(reference) = reference {
                spec.claim_ref = Some((**reference).clone());
            }
            if *by_controller {
                annotate(&mut volume.metadata, BOUND_BY_CONTROLLER, "yes");
            }
        }
        VolumeEdit::Unbind {
            by_controller: true,
        } => {
            spec.claim_ref = None;
            remove_annotation(&mut volume.metadata, BOUND_BY_CONTROLLER);
        }
        VolumeEdit::Unbind {
            by_controller: false,
        } => {
            if let Some(reference) = &mut spec.claim_ref {
                reference.uid = None;
            }
        }
        VolumeEdit::Migrate {
            annotation,
            finalizers,
        } => {
            if let Some(migration) = annotation {
                migrate(&mut volume.metadata, *migration);
            }
            if let Some(finalizers) = finalizers {
                volume.metadata.finalizers = Some(finalizers.clone());
            }
        }
    }
}

/// Changes a claim.
pub(super) fn claim(claim: &mut PersistentVolumeClaim, edit: &ClaimEdit) {
    let metadata = &mut claim.metadata;
    match edit {
        ClaimEdit::Bind { volume } => {
            if let Some(volume) = volume {
                claim.spec.get_or_insert_default().volume_name = Some(volume.clone());
                annotate(metadata, BOUND_BY_CONTROLLER, "yes");
            }
            annotate(metadata, BIND_COMPLETED, "yes");
        }
        ClaimEdit::Class(class) => {
            claim.spec.get_or_insert_default().storage_class_name = Some(class.clone());
        }
        ClaimEdit::Provisioner(name) => {
            annotate(metadata, BETA_STORAGE_PROVISIONER, name);
            annotate(metadata, STORAGE_PROVISIONER, name);
            if successor(name).is_none() {
                remove_annotation(metadata, MIGRATED_TO);
            }
        }
        ClaimEdit::Migrate(migration) => migrate(metadata, *migration),
    }
}

/// Changes a claim's status.
pub(super) fn claim_status(claim: &mut PersistentVolumeClaim, edit: &StatusEdit) {
    let status = claim.status.get_or_insert_default();
    status.phase = Some(edit.phase.into());
    status.access_modes.clone_from(&edit.access_modes);
    match &edit.capacity {
        Capacity::Keep => {}
        Capacity::Clear => status.capacity = None,
        Capacity::All(amounts) => status.capacity = Some(amounts.clone()),
        Capacity::Storage(amount) => {
            let capacity = status.capacity.get_or_insert_default();
            capacity.insert(STORAGE.into(), amount.clone());
        }
    }
    if let Some(attributes) = &edit.attributes {
        status
            .current_volume_attributes_class_name
            .clone_from(attributes);
    }
}

fn migrate(metadata: &mut ObjectMeta, migration: Migration) {
    match migration {
        Migration::Set(driver) => annotate(metadata, MIGRATED_TO, driver),
        Migration::Clear => remove_annotation(metadata, MIGRATED_TO),
    }
}

fn annotate(metadata: &mut ObjectMeta, key: &str, value: &str) {
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(key.into(), value.into());
}

fn remove_annotation(metadata: &mut ObjectMeta, key: &str) {
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(key);
    }
}

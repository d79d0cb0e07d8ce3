//! The volume plugins that this process stands for, and the drivers that took others over.

use client::View;

use crate::volumes::{Claim, MIGRATED_TO, PROVISIONED_BY, Volume};

/// In-tree plugins and the CSI drivers that replaced them.
const MIGRATED: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

const IN_TREE: &str = "kubernetes.io/";
const HOST_PATH: &str = "kubernetes.io/host-path";
const NFS: &str = "kubernetes.io/nfs";

/// The driver that took over a plugin.
pub(super) fn successor(plugin: &str) -> Option<&'static str> {
    let found = MIGRATED.iter().find(|(old, _)| *old == plugin);
    found.map(|(_, driver)| *driver)
}

/// Who is asked for a volume of a class: the external provisioner's name.
pub(super) fn provisioner(class_provisioner: &str) -> Result<&str, String> {
    if let Some(driver) = successor(class_provisioner) {
        return Ok(driver);
    }
    match class_provisioner {
        HOST_PATH => Err(format!(
            "Failed to create provisioner: provisioning in volume plugin {HOST_PATH:?} is disabled"
        )),
        NFS => Err("no provisionable volume plugin matched".into()),
        name if name.starts_with(IN_TREE) => Err(format!("no volume plugin matched name: {name}")),
        name => Ok(name),
    }
}

/// Who deletes a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deleter {
    /// Somebody else, when they see that it is released.
    External,
    /// This process, which removes a directory of its machine.
    HostPath(String),
}

/// Finds who deletes a volume; the error is the message of its event.
pub(super) fn deleter(volume: &Volume) -> Result<Deleter, String> {
    let made_by = volume
        .annotation(PROVISIONED_BY)
        .filter(|name| !name.is_empty());
    match made_by {
        Some(HOST_PATH) => host_path(volume),
        Some(NFS) => Err("no deletable volume plugin matched".into()),
        Some(name) if name.starts_with(IN_TREE) => {
            Err(format!("no volume plugin matched name: {name}"))
        }
        Some(_) => Ok(Deleter::External),
        None if volume.annotation(MIGRATED_TO).is_some() || volume.spec.csi.is_some() => {
            Ok(Deleter::External)
        }
        None if volume.spec.host_path.is_some() => host_path(volume),
        None => {
            let why = match volume.spec.nfs {
                Some(_) => "no deletable volume plugin matched",
                None => "no volume plugin matched",
            };
            let name = volume.name();
            Err(format!(
                "error getting deleter volume plugin for volume {name:?}: {why}"
            ))
        }
    }
}

/// Only directories below /tmp are ever removed: this is for tests on one machine.
fn host_path(volume: &Volume) -> Result<Deleter, String> {
    let path = volume.spec.host_path.as_ref();
    let path = path.map(|source| source.path.as_str()).unwrap_or_default();
    let below = path.strip_prefix("/tmp/").unwrap_or_default();
    let is_plain = !below.is_empty() && !below.split('/').any(|part| part == "..");
    match is_plain {
        true => Ok(Deleter::HostPath(path.to_string())),
        false => Err(format!(
            "host_path deleter only supports /tmp/.+ but received provided {path}"
        )),
    }
}

/// The value that the annotation of migration shall have, if it has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Migration {
    /// A plugin was taken over.
    Set(&'static str),
    /// It was not, or no more.
    Clear,
}

/// What is wrong with a claim's annotation.
pub(super) fn claim_migration(claim: &Claim) -> Option<Migration> {
    use crate::volumes::{BETA_STORAGE_PROVISIONER, STORAGE_PROVISIONER};
    let stable = claim.annotation(STORAGE_PROVISIONER);
    let provisioner = stable.or(claim.annotation(BETA_STORAGE_PROVISIONER))?;
    migration(provisioner, claim.annotation(MIGRATED_TO))
}

/// What is wrong with a volume's annotation.
pub(super) fn volume_migration(volume: &Volume) -> Option<Migration> {
    migration(
        volume.annotation(PROVISIONED_BY)?,
        volume.annotation(MIGRATED_TO),
    )
}

fn migration(provisioner: &str, current: Option<&str>) -> Option<Migration> {
    match (successor(provisioner), current.unwrap_or_default()) {
        (Some(driver), current) if current != driver => Some(Migration::Set(driver)),
        (None, current) if !current.is_empty() => Some(Migration::Clear),
        _ => None,
    }
}

/// Keeps a volume until its in-tree plugin has deleted what is behind it.
pub(super) const IN_TREE_FINALIZER: &str = "kubernetes.io/pv-controller";
const EXTERNAL_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// The finalizers that a volume shall have, if it has others.
pub(super) fn finalizers(volume: &Volume) -> Option<Vec<String>> {
    let provisioner = volume.annotation(PROVISIONED_BY)?;
    let before = volume.metadata.finalizers.as_deref().unwrap_or_default();
    let mut after = before.to_vec();
    if successor(provisioner).is_some() {
        after.retain(|name| name != IN_TREE_FINALIZER);
    } else if provisioner.starts_with(IN_TREE) {
        let has = after.iter().any(|name| name == IN_TREE_FINALIZER);
        match &*volume.spec.persistent_volume_reclaim_policy {
            "Delete" if !has => after.push(IN_TREE_FINALIZER.into()),
            "Retain" | "Recycle" => after.retain(|name| name != IN_TREE_FINALIZER),
            _ => {}
        }
        after.retain(|name| name != EXTERNAL_FINALIZER);
    }
    (after != before).then_some(after)
}

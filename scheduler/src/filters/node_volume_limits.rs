//! NodeVolumeLimits: a node takes only so many volumes of each driver.

use std::collections::{BTreeMap, BTreeSet};

use crate::cycle::State;
use crate::framework::{Action, Event, Failure, Object, Plugin, Rejection, Verdict};
use crate::snapshot::{NodeInfo, Snapshot};
use crate::views::{CsiNode, PersistentVolumeClaim, Pod};

const TOO_MANY: &str = "node(s) exceed max volume count";

/// A volume as drivers count it: driver and handle.
type Handle = (String, String);

/// Whether a pod uses volumes that count.
pub(crate) fn concerns(pod: &Pod) -> bool {
    pod.volumes.iter().any(|volume| volume.claim().is_some())
}

/// The volume behind a claim; one that is yet to be made counts under the claim's name.
fn handle(snapshot: &Snapshot, claim: &PersistentVolumeClaim) -> Option<Handle> {
    if let Some(volume) = snapshot.volumes.volume(&claim.volume) {
        let csi = volume.csi.as_ref()?;
        return Some((csi.driver.clone(), csi.volume_handle.clone()));
    }
    let class = snapshot.volumes.class(&claim.class)?;
    let yet_to_be = format!("\0{}/{}", claim.namespace(), claim.name());
    Some((class.provisioner.clone(), yet_to_be))
}

/// The volumes of a pod. A placed pod's claims may be gone, a new pod's may not.
fn handles(snapshot: &Snapshot, pod: &Pod, is_new: bool, found: &mut BTreeSet<Handle>) -> Verdict {
    for (claim, _) in pod.volumes.iter().filter_map(|volume| volume.claim()) {
        let Some(claim) = snapshot.volumes.claim(pod.namespace(), claim) else {
            if !is_new {
                continue;
            }
            let error = format!(
                "looking up PVC {}/{claim}: persistentvolumeclaim {claim:?} not found",
                pod.namespace()
            );
            return Err(Rejection::last(Plugin::NodeVolumeLimits, error).into());
        };
        found.extend(handle(snapshot, claim));
    }
    Ok(())
}

fn by_driver(handles: &BTreeSet<Handle>) -> BTreeMap<&str, i64> {
    let mut counts = BTreeMap::new();
    for (driver, _) in handles {
        *counts.entry(&**driver).or_insert(0) += 1;
    }
    counts
}

/// Drivers that insist on being installed where their volumes are wanted.
fn missing(
    snapshot: &Snapshot,
    node: Option<&CsiNode>,
    wanted: &BTreeSet<Handle>,
) -> Option<String> {
    let insists = |driver: &str| {
        let driver = snapshot.volumes.driver(driver);
        driver.is_some_and(|driver| driver.spec.prevent_pod_scheduling_if_missing)
    };
    let is_there = |driver: &str| {
        node.is_some_and(|node| node.spec.drivers.iter().any(|one| one.name == driver))
    };
    let mut drivers = wanted.iter().map(|(driver, _)| &**driver);
    let driver = drivers.find(|driver| insists(driver) && !is_there(driver))?;
    Some(format!("{driver} CSI driver is not installed on the node"))
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    let snapshot = state.snapshot;
    let mut wanted = BTreeSet::new();
    handles(snapshot, &state.pod.pod, true, &mut wanted)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let csi_node = snapshot.volumes.node(node.node.name()).map(|one| &**one);
    if let Some(reason) = missing(snapshot, csi_node, &wanted) {
        return Err(Failure::Rejected(Rejection::new(
            Plugin::NodeVolumeLimits,
            reason,
        )));
    }
    let drivers = csi_node.map_or(&[][..], |node| &node.spec.drivers);
    if drivers
        .iter()
        .all(|driver| driver.allocatable.count.is_none())
    {
        return Ok(());
    }
    let mut attached = BTreeSet::new();
    for placed in &node.pods {
        handles(snapshot, &placed.pod, false, &mut attached)?;
    }
    wanted.retain(|handle| !attached.contains(handle));
    // What is attached by other means occupies room as well.
    for attachment in snapshot.volumes.attachments(node.node.name()) {
        let volume = attachment.spec.source.persistent_volume_name.as_deref();
        let volume = volume.and_then(|name| snapshot.volumes.volume(name));
        if let Some(csi) = volume.and_then(|volume| volume.csi.as_ref()) {
            attached.insert((attachment.spec.attacher.clone(), csi.volume_handle.clone()));
        }
    }
    let (wanted, attached) = (by_driver(&wanted), by_driver(&attached));
    for (driver, more) in wanted {
        let limit = drivers.iter().find(|one| one.name == driver);
        let limit = limit.and_then(|one| one.allocatable.count);
        let used = attached.get(driver).copied().unwrap_or(0);
        if limit.is_some_and(|limit| used + more > limit) {
            return Err(Rejection::new(Plugin::NodeVolumeLimits, TOO_MANY).into());
        }
    }
    Ok(())
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    match event.object {
        Object::CsiNode(change) => {
            event.action.is_in(Action::ADD.or(Action::UPDATE))
                && change.old.is_none_or(|old| {
                    change
                        .new
                        .is_none_or(|new| old.spec.drivers != new.spec.drivers)
                })
        }
        Object::Pod(change) if event.action.is_in(Action::DELETE) => change
            .old
            .is_some_and(|old| old.is_assigned() && concerns(old)),
        Object::Claim(change) if event.action.is_in(Action::ADD) => change
            .new
            .is_some_and(|new| super::volume_binding::uses(pod, new)),
        Object::CsiDriver(_) => event.action.is_in(Action::UPDATE),
        Object::Attachment(_) => event.action.is_in(Action::DELETE),
        _ => false,
    }
}

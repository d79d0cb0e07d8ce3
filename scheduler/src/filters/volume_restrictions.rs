//! VolumeRestrictions: disks that one node cannot give to two pods, and claims that only one pod
//! may use.

use crate::cycle::{State, WhatIf};
use crate::framework::{Action, Event, Failure, Object, Plugin, Rejection, Verdict};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use crate::views::Pod;
use crate::views::pod::{Disk, Volume};

const NO_DISK: &str = "node(s) had no available disk";
const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

fn disks(pod: &Pod) -> impl Iterator<Item = &Disk> {
    pod.volumes.iter().filter_map(|volume| match volume {
        Volume::Disk(disk) => Some(disk),
        _ => None,
    })
}

/// Whether a pod uses disks that exclude each other.
pub(crate) fn has_disks(pod: &Pod) -> bool {
    disks(pod).next().is_some()
}

/// Claims of a pod that no other pod may use at the same time.
fn exclusive<'p>(snapshot: &'p Snapshot, pod: &'p Pod) -> impl Iterator<Item = &'p str> {
    let claims = pod.volumes.iter().filter_map(|volume| match volume {
        Volume::Claim(claim) => Some(&**claim),
        _ => None,
    });
    claims.filter(|claim| {
        let claim = snapshot.volumes.claim(pod.namespace(), claim);
        claim.is_some_and(|claim| {
            claim
                .access_modes
                .iter()
                .any(|mode| mode == "ReadWriteOncePod")
        })
    })
}

/// How many exclusive claims of a pod are in use.
pub(crate) fn in_use(snapshot: &Snapshot, pod: &PodInfo) -> Result<i64, Failure> {
    for volume in &pod.pod.volumes {
        if let Volume::Claim(claim) = volume
            && snapshot.volumes.claim(pod.pod.namespace(), claim).is_none()
        {
            return Err(claim_not_found(Plugin::VolumeRestrictions, claim).into());
        }
    }
    let namespace = pod.placed.namespace;
    let used =
        exclusive(snapshot, &pod.pod).filter(|claim| snapshot.claim_uses(namespace, claim) > 0);
    Ok(used.count() as i64)
}

/// There is no such claim (yet).
pub(crate) fn claim_not_found(plugin: Plugin, claim: &str) -> Rejection {
    Rejection::last(plugin, format!("persistentvolumeclaim {claim:?} not found"))
}

/// How many exclusive claims of a pod another one uses.
pub(crate) fn shared(snapshot: &Snapshot, pod: &PodInfo, other: &Pod) -> i64 {
    if other.volumes.is_empty() || other.namespace() != pod.pod.namespace() {
        return 0;
    }
    let uses = |claim: &&str| {
        other
            .volumes
            .iter()
            .any(|one| one.claim() == Some((*claim, false)))
    };
    exclusive(snapshot, &pod.pod).filter(uses).count() as i64
}

fn conflict(one: &Disk, other: &Disk) -> bool {
    match (one, other) {
        (
            Disk::Gce { name, read_only },
            Disk::Gce {
                name: of,
                read_only: also,
            },
        ) => name == of && !(*read_only && *also),
        (Disk::Aws { id }, Disk::Aws { id: of }) => id == of,
        (
            Disk::Iscsi { iqn, read_only },
            Disk::Iscsi {
                iqn: of,
                read_only: also,
            },
        ) => iqn == of && !(*read_only && *also),
        (
            Disk::Rbd {
                monitors,
                pool,
                image,
                read_only,
            },
            Disk::Rbd {
                monitors: of,
                pool: in_pool,
                image: same,
                read_only: also,
            },
        ) => {
            monitors.iter().any(|monitor| of.contains(monitor))
                && pool == in_pool
                && image == same
                && !(*read_only && *also)
        }
        _ => false,
    }
}

fn conflicts(pod: &Pod, other: &Pod) -> bool {
    disks(pod).any(|one| disks(other).any(|of| conflict(one, of)))
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo, what_if: &WhatIf) -> Verdict {
    let pod = &state.pod.pod;
    if has_disks(pod) && node.pods.iter().any(|placed| conflicts(pod, &placed.pod)) {
        return Err(Rejection::new(Plugin::VolumeRestrictions, NO_DISK).into());
    }
    if state.claims_in_use + what_if.claims > 0 {
        return Err(Rejection::new(Plugin::VolumeRestrictions, IN_USE).into());
    }
    Ok(())
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    match event.object {
        Object::Pod(change) if event.action.is_in(Action::DELETE) => {
            change.old.is_some_and(|old| {
                let uses = |claim| {
                    old.volumes
                        .iter()
                        .any(|one| one.claim() == Some((claim, false)))
                };
                let shares = pod.volumes.iter().any(|one| match one {
                    Volume::Claim(claim) => uses(&**claim),
                    _ => false,
                });
                old.namespace() == pod.namespace() && (shares || conflicts(pod, old))
            })
        }
        Object::Node(_) => event.action.is_in(Action::ADD),
        Object::Claim(change) if event.action.is_in(Action::ADD) => change.new.is_some_and(|new| {
            new.namespace() == pod.namespace()
                && pod
                    .volumes
                    .iter()
                    .any(|one| one.claim() == Some((new.name(), false)))
        }),
        _ => false,
    }
}

//! VolumeZone: pods go to the zones of their volumes, for volumes that say so by labels.

use crate::cycle::State;
use crate::framework::{Action, Change, Event, Failure, Object, Plugin, Rejection, Verdict};
use crate::snapshot::{NodeInfo, Snapshot};
use crate::views::pod::Volume;
use crate::views::{PersistentVolume, Pod};

use super::volume_restrictions::claim_not_found;

const ELSEWHERE: &str = "node(s) had no available volume zone";

/// Labels of zones and regions with what they are called today.
const LABELS: [(&str, &str); 4] = [
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    (
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
];

/// Where a volume can be reached from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    label: &'static str,
    today: &'static str,
    values: Vec<String>,
}

fn of_volume(volume: &PersistentVolume) -> Vec<Zone> {
    let labels = volume.metadata.labels.as_ref();
    let of = |(label, today): (&'static str, &'static str)| {
        let value = labels?.get(label)?;
        // Several zones are joined by two underscores.
        let values: Vec<_> = value
            .split("__")
            .map(str::trim)
            .map(str::to_string)
            .collect();
        let is_valid = values.iter().all(|value| !value.is_empty());
        is_valid.then_some(Zone {
            label,
            today,
            values,
        })
    };
    LABELS.into_iter().filter_map(of).collect()
}

fn rejected(reason: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Rejection::last(Plugin::VolumeZone, reason).into()
}

/// The zones of all bound volumes of a pod.
pub(crate) fn zones(snapshot: &Snapshot, pod: &Pod) -> Result<Vec<Zone>, Failure> {
    let mut zones = Vec::new();
    for volume in &pod.volumes {
        let Volume::Claim(name) = volume else {
            continue;
        };
        let Some(claim) = snapshot.volumes.claim(pod.namespace(), name) else {
            return Err(claim_not_found(Plugin::VolumeZone, name).into());
        };
        if !claim.volume.is_empty() {
            let Some(volume) = snapshot.volumes.volume(&claim.volume) else {
                return Err(rejected(format!(
                    "persistentvolume {:?} not found",
                    claim.volume
                )));
            };
            zones.extend(of_volume(volume));
            continue;
        }
        if claim.class.is_empty() {
            return Err(rejected(
                "PersistentVolumeClaim had no pv name and storageClass name",
            ));
        }
        let Some(class) = snapshot.volumes.class(&claim.class) else {
            let error = format!("storageclass.storage.k8s.io {:?} not found", claim.class);
            return Err(rejected(error));
        };
        match class.volume_binding_mode.as_deref() {
            Some("WaitForFirstConsumer") => {}
            Some(_) => return Err(rejected("PersistentVolume had no name")),
            None => {
                let error = format!(
                    "VolumeBindingMode not set for StorageClass {:?}",
                    claim.class
                );
                return Err(rejected(error));
            }
        }
    }
    Ok(zones)
}

pub(crate) fn filter(state: &State<'_>, node: &NodeInfo) -> Verdict {
    let label = |key: &str| node.node.label(key);
    if LABELS.iter().all(|(key, _)| label(key).is_none()) {
        return Ok(());
    }
    for zone in &state.zones {
        let value = label(zone.label).or_else(|| label(zone.today));
        if !value.is_some_and(|value| zone.values.iter().any(|one| one == value)) {
            return Err(rejected(ELSEWHERE));
        }
    }
    Ok(())
}

fn volume_hint(change: Change<'_, PersistentVolume>) -> bool {
    match (change.old, change.new) {
        (Some(old), Some(new)) => of_volume(old) != of_volume(new),
        (None, Some(_)) => true,
        _ => false,
    }
}

pub(crate) fn hint(pod: &Pod, event: &Event<'_>) -> bool {
    let arrives = Action::ADD.or(Action::UPDATE);
    match event.object {
        Object::Class(change) if event.action.is_in(Action::ADD) => change
            .new
            .is_some_and(|new| new.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")),
        Object::Node(_) => event.action.is_in(Action::ADD.or(Action::NODE_LABEL)),
        Object::Claim(change) if event.action.is_in(arrives) => change.new.is_some_and(|new| {
            new.namespace() == pod.namespace()
                && pod
                    .volumes
                    .iter()
                    .any(|one| one.claim() == Some((new.name(), false)))
        }),
        Object::Volume(change) if event.action.is_in(arrives) => volume_hint(change),
        _ => false,
    }
}

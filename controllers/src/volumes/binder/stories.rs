//! Stories of claims and volumes, as upstream's tests tell them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{self, ClaimEdit, ClaimWorld, Step, VolumeEdit, VolumeWorld};
use super::plugins::{self, Deleter};
use crate::note::Note;
use crate::volumes::{Claim, Class, Volume};

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch,
    }
}

fn claim(patch: Value) -> Claim {
    let mut object = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "c-1", "resourceVersion": "5"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
                 "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

fn volume(name: &str, patch: Value) -> Volume {
    let mut object = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "1Gi"},
                 "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"},
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

fn class(mode: &str, provisioner: &str) -> Arc<Class> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "k"}, "provisioner": provisioner, "volumeBindingMode": mode,
        }))
        .unwrap(),
    )
}

fn of_claim(claim: Claim, volume: Option<Volume>) -> Vec<Step> {
    plan::claim(&ClaimWorld {
        claim: Arc::new(claim),
        volume: volume.map(Arc::new),
        ..ClaimWorld::default()
    })
}

fn of_volume(volume: Volume, claim: Option<Claim>) -> Vec<Step> {
    plan::volume(&VolumeWorld {
        volume: Arc::new(volume),
        claim: claim.map(Arc::new),
        ..VolumeWorld::default()
    })
}

/// What the notes among the steps say.
fn said(steps: &[Step]) -> Vec<(&str, &str)> {
    let note = |step| match step {
        &Step::NoteClaim(ref note) | &Step::NoteVolume(ref note) => Some(note),
        _ => None,
    };
    let notes = steps.iter().filter_map(note);
    notes
        .map(|note: &Note| (&*note.reason, &*note.message))
        .collect()
}

#[test]
fn the_smallest_volume_that_fits_is_chosen() {
    let all = [
        volume("big", json!({"spec": {"capacity": {"storage": "10Gi"}}})),
        volume("small", json!({"spec": {"capacity": {"storage": "100Mi"}}})),
        volume("right", json!({"spec": {"capacity": {"storage": "2Gi"}}})),
        volume(
            "taken",
            json!({"spec": {"claimRef": {"namespace": "ns", "name": "other"}}}),
        ),
        volume("class", json!({"spec": {"storageClassName": "k"}})),
        volume("block", json!({"spec": {"volumeMode": "Block"}})),
        volume(
            "vac",
            json!({"spec": {"volumeAttributesClassName": "gold"}}),
        ),
        volume("bound", json!({"status": {"phase": "Bound"}})),
        volume(
            "gone",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ),
        volume("once", json!({"spec": {"accessModes": ["ReadOnlyMany"]}})),
    ]
    .map(Arc::new);
    let chosen =
        |patch| plan::chosen(&claim(patch), None, &all).map(|v| v.metadata.name.clone().unwrap());
    assert_eq!(chosen(json!({})).as_deref(), Some("right"));
    assert_eq!(
        chosen(json!({"spec": {"storageClassName": "k"}})).as_deref(),
        Some("class")
    );
    assert_eq!(
        chosen(json!({"spec": {"volumeMode": "Block"}})).as_deref(),
        Some("block")
    );
    assert_eq!(
        chosen(json!({"spec": {"volumeAttributesClassName": "gold"}})).as_deref(),
        Some("vac")
    );
    assert_eq!(
        chosen(json!({"spec": {"accessModes": ["ReadWriteMany"]}})),
        None
    );
    assert_eq!(
        chosen(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}})),
        None
    );
    assert_eq!(
        chosen(json!({"metadata": {"name": "other"}})).as_deref(),
        Some("taken")
    );
}

#[test]
fn fewer_access_modes_come_before_a_better_size() {
    let all = [
        volume("many", json!({})),
        volume(
            "one",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "9Gi"}}}),
        ),
    ]
    .map(Arc::new);
    let chosen = plan::chosen(&claim(json!({})), None, &all).unwrap();
    assert_eq!(chosen.metadata.name.as_deref(), Some("one"));
}

#[test]
fn where_the_scheduler_chooses_only_what_is_meant_for_the_claim_is_taken() {
    let wait = class("WaitForFirstConsumer", "d.example.com");
    let of_class = json!({"spec": {"storageClassName": "k"}});
    let free = [Arc::new(volume("v", of_class.clone()))];
    assert_eq!(
        plan::chosen(&claim(of_class.clone()), Some(&wait), &free),
        None
    );
    let meant =
        json!({"spec": {"storageClassName": "k", "claimRef": {"namespace": "ns", "name": "c"}}});
    let meant = [Arc::new(volume("v", meant))];
    assert!(plan::chosen(&claim(of_class.clone()), Some(&wait), &meant).is_some());

    let waiting = |pods: &[&str], patch: Value| {
        let mut of_class = of_class.clone();
        merge(&mut of_class, patch);
        plan::claim(&ClaimWorld {
            claim: Arc::new(claim(of_class)),
            class: Some(wait.clone()),
            waiting_pods: pods.iter().map(ToString::to_string).collect(),
            ..ClaimWorld::default()
        })
    };
    let first = "waiting for first consumer to be created before binding";
    assert_eq!(
        said(&waiting(&[], json!({}))),
        [("WaitForFirstConsumer", first)]
    );
    let one = "waiting for pod p to be scheduled";
    assert_eq!(
        said(&waiting(&["p"], json!({}))),
        [("WaitForPodScheduled", one)]
    );
    let two = "waiting for pods p,q to be scheduled";
    assert_eq!(
        said(&waiting(&["p", "q"], json!({}))),
        [("WaitForPodScheduled", two)]
    );
    let selected =
        json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}});
    let steps = waiting(&[], selected);
    assert_eq!(
        steps[0],
        Step::Claim(ClaimEdit::Provisioner("d.example.com".into()))
    );
    assert_eq!(said(&steps)[0].0, "ExternalProvisioning");
}

#[test]
fn binding_is_four_writes_and_each_is_left_out_that_is_done() {
    let steps = of_claim(claim(json!({})), Some(volume("v", json!({}))));
    assert!(
        matches!(&steps[0], Step::Volume(VolumeEdit::Bind { reference: Some(r), by_controller: true })
        if r.uid.as_deref() == Some("c-1") && r.kind.as_deref() == Some("PersistentVolumeClaim"))
    );
    assert_eq!(steps[1], Step::VolumePhase("Bound", String::new()));
    assert_eq!(
        steps[2],
        Step::Claim(ClaimEdit::Bind {
            volume: Some("v".into())
        })
    );
    assert!(matches!(&steps[3], Step::ClaimStatus(edit) if edit.phase == "Bound"));
    assert_eq!(steps.len(), 4);

    // Halfway through: only the claim is missing.
    let reference = json!({"namespace": "ns", "name": "c", "uid": "c-1"});
    let bound = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
        "spec": {"claimRef": reference}, "status": {"phase": "Bound"},
    });
    let steps = of_claim(claim(json!({})), Some(volume("v", bound.clone())));
    assert_eq!(steps.len(), 2);
    let done = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v"},
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "1Gi"}},
    });
    assert_eq!(
        of_claim(claim(done.clone()), Some(volume("v", bound.clone()))),
        []
    );
    assert_eq!(of_volume(volume("v", bound), Some(claim(done))), []);
}

#[test]
fn a_claim_waits_for_the_volume_it_names() {
    let named = json!({"spec": {"volumeName": "v"}});
    assert_eq!(of_claim(claim(named.clone()), None), []);
    let small = volume("v", json!({"spec": {"capacity": {"storage": "1Mi"}}}));
    let steps = of_claim(claim(named.clone()), Some(small));
    let why = "Cannot bind to requested volume \"v\": requested PV is too small";
    assert_eq!(said(&steps), [("VolumeMismatch", why)]);
    let taken = volume(
        "v",
        json!({"spec": {"claimRef": {"namespace": "ns", "name": "d", "uid": "d-1"}}}),
    );
    let steps = of_claim(claim(named.clone()), Some(taken.clone()));
    let why = "volume \"v\" already bound to a different claim.";
    assert_eq!(said(&steps), [("FailedBinding", why)]);
    let mut own = named;
    merge(
        &mut own,
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}}),
    );
    let steps = of_claim(claim(own), Some(taken));
    assert_eq!(
        steps.last(),
        Some(&Step::Fail(
            "invalid binding of claim \"ns/c\" to volume \"v\": volume already claimed by \"ns/d\""
                .into()
        ))
    );
}

#[test]
fn a_claim_that_loses_its_volume_is_lost() {
    let bound = |name: &str| {
        json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": name},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
        })
    };
    let steps = of_claim(claim(bound("")), None);
    let why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
    assert_eq!(said(&steps), [("ClaimLost", why)]);
    let steps = of_claim(claim(bound("v")), None);
    let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
    assert_eq!(said(&steps), [("ClaimLost", why)]);
    let other = json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": "c-0"}}});
    let steps = of_claim(claim(bound("v")), Some(volume("v", other)));
    let why = "Two claims are bound to the same volume, this one is bound incorrectly";
    assert_eq!(said(&steps), [("ClaimMisbound", why)]);
    let mut lost = bound("v");
    merge(&mut lost, json!({"status": {"phase": "Lost"}}));
    assert_eq!(of_claim(claim(lost), None), []);
}

#[test]
fn a_volume_follows_its_claim() {
    let reference = json!({"namespace": "ns", "name": "c", "uid": "c-1"});
    assert_eq!(
        of_volume(volume("v", json!({"status": {"phase": "Pending"}})), None)[0],
        Step::VolumePhase("Available", String::new())
    );
    let bound = |patch: Value| {
        let mut object = json!({"spec": {"claimRef": reference}, "status": {"phase": "Bound"}});
        merge(&mut object, patch);
        volume("v", object)
    };
    assert_eq!(
        of_volume(bound(json!({})), Some(claim(json!({})))),
        [Step::SyncClaim]
    );
    let elsewhere = claim(json!({"spec": {"volumeName": "w"}}));
    assert_eq!(
        of_volume(bound(json!({})), Some(elsewhere))[0],
        Step::Volume(VolumeEdit::Unbind {
            by_controller: false
        })
    );
    let released = Step::VolumePhase("Released", String::new());
    assert_eq!(
        of_volume(bound(json!({})), None),
        std::slice::from_ref(&released)
    );
    // A driver deletes its volumes itself.
    let csi = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete", "csi": {"driver": "d", "volumeHandle": "h"}}});
    assert_eq!(of_volume(bound(csi), None), std::slice::from_ref(&released));
    let local = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    let steps = of_volume(bound(local), None);
    let why = "error getting deleter volume plugin for volume \"v\": no volume plugin matched";
    assert_eq!(said(&steps), [("VolumeFailedDelete", why)]);
    assert_eq!(steps[1], Step::VolumePhase("Failed", why.into()));
    let recycled = json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}});
    let why = "No recycler plugin found for the volume!";
    assert_eq!(
        said(&of_volume(bound(recycled), None)),
        [("VolumeFailedRecycle", why)]
    );
    let odd = json!({"spec": {"persistentVolumeReclaimPolicy": "Forget"}});
    let why = "Volume has unrecognized PersistentVolumeReclaimPolicy";
    assert_eq!(
        said(&of_volume(bound(odd), None)),
        [("VolumeUnknownReclaimPolicy", why)]
    );
}

#[test]
fn only_directories_below_tmp_are_ever_removed() {
    let of =
        |path: &str| plugins::deleter(&volume("v", json!({"spec": {"hostPath": {"path": path}}})));
    assert_eq!(of("/tmp/a"), Ok(Deleter::HostPath("/tmp/a".into())));
    for path in ["/tmp/", "/tmp/../etc", "/var/tmp/a", "/etc"] {
        let why = format!("host_path deleter only supports /tmp/.+ but received provided {path}");
        assert_eq!(of(path), Err(why));
    }
}

#[test]
fn in_tree_plugins_are_their_drivers() {
    assert_eq!(
        plugins::provisioner("kubernetes.io/aws-ebs"),
        Ok("ebs.csi.aws.com")
    );
    assert_eq!(
        plugins::provisioner("kubernetes.io/no-provisioner"),
        Err("no volume plugin matched name: kubernetes.io/no-provisioner".into())
    );
    let annotated = claim(json!({"metadata": {"annotations": {
        "volume.kubernetes.io/storage-provisioner": "kubernetes.io/gce-pd"}}}));
    let steps = of_claim(annotated, None);
    assert!(matches!(&steps[..], [Step::Claim(ClaimEdit::Migrate(_))]));
}

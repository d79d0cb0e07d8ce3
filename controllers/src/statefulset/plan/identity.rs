//! Names and numbers: which pod is which, and what a pod of a number looks like.

use client::View;
use serde_json::{Value, json};

use super::claims;
use crate::apps::StatefulSet;
use crate::history::REVISION_HASH;
use crate::pod::Pod;
use crate::pod_control;
use crate::template::Template;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// A pod's name, split into its set's name and its number.
fn parts(pod: &str) -> Option<(&str, i32)> {
    let (set, number) = pod.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((set, number.parse().ok().filter(|_| is_number)?))
}

/// The number in a pod's name.
pub(crate) fn ordinal(pod: &str) -> Option<i32> {
    parts(pod).map(|(_, number)| number)
}

/// Whether a pod is called as one of the set's.
pub(crate) fn is_member(set: &StatefulSet, pod: &str) -> bool {
    parts(pod).is_some_and(|(parent, _)| parent == set.name())
}

/// The name of the pod of a number.
pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name())
}

/// The pod of a number.
pub(super) fn pod(set: &StatefulSet, template: &Template, revision: &str, ordinal: i32) -> Value {
    let name = pod_name(set, ordinal);
    let mut pod = pod_control::pod_of(template, set);
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["namespace"] = json!(set.namespace());
    let labels = &mut pod["metadata"]["labels"];
    labels[POD_NAME] = json!(name);
    labels[POD_INDEX] = json!(ordinal.to_string());
    labels[REVISION_HASH] = json!(revision);
    let spec = &mut pod["spec"];
    spec["hostname"] = json!(name);
    spec["subdomain"] = json!(set.spec.service_name);
    let mut volumes = volumes(set, ordinal);
    let is_claim = |volume: &Value| {
        let mut templates = set.spec.volume_claim_templates.iter();
        templates.any(|template| claims::template_name(template) == volume["name"])
    };
    let own = spec["volumes"].as_array().into_iter().flatten();
    volumes.extend(own.filter(|volume| !is_claim(volume)).cloned());
    if !volumes.is_empty() {
        spec["volumes"] = Value::Array(volumes);
    }
    pod
}

/// The volumes that are a pod's claims.
fn volumes(set: &StatefulSet, ordinal: i32) -> Vec<Value> {
    let templates = set.spec.volume_claim_templates.iter();
    let volume = |template: &Value| {
        let claim = claims::claim_name(set, template, ordinal);
        json!({"name": claims::template_name(template),
               "persistentVolumeClaim": {"claimName": claim}})
    };
    templates.map(volume).collect()
}

/// Whether a pod's volumes are its claims.
pub(super) fn is_stored(set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = ordinal(pod.name()) else {
        return false;
    };
    set.spec.volume_claim_templates.iter().all(|template| {
        let claim = claims::claim_name(set, template, ordinal);
        let name = claims::template_name(template);
        let mut volumes = pod.spec.volumes.iter();
        volumes.any(|one| *one.name == *name && one.claim_name.as_deref() == Some(&*claim))
    })
}

/// What is to be corrected about a pod, as a strategic merge patch.
pub(super) fn correction(set: &StatefulSet, pod: &Pod, is_stored: bool) -> Option<Value> {
    let is_named = pod.label(POD_NAME) == Some(pod.name());
    if is_named && is_stored {
        return None;
    }
    let ordinal = ordinal(pod.name())?;
    let mut patch = json!({"metadata": {"uid": pod.uid(), "labels": {
        POD_NAME: pod.name(), POD_INDEX: ordinal.to_string()}}});
    if !is_stored {
        patch["spec"]["volumes"] = Value::Array(volumes(set, ordinal));
    }
    Some(patch)
}

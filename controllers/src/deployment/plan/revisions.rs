//! Which ReplicaSet is for the Deployment's template, and the numbers by which old ones are found
//! again.

use std::collections::BTreeMap;

use client::View;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::{Planner, Set, Step, is_rolling, max_surge, status};
use crate::adoption::controller_ref;
use crate::apps::{Deployment, ReplicaSet, ReplicaSetSpec};
use crate::template::POD_TEMPLATE_HASH;

/// The number of a ReplicaSet among its Deployment's, and the Deployment's latest.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that a ReplicaSet had before.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many pods the Deployment wanted when the set was scaled.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// How many pods the Deployment allowed when the set was scaled.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// The revision that a Deployment shall go back to.
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// Annotations that are a Deployment's or a ReplicaSet's own.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    ROLLBACK_TO,
];
/// How long the list of former numbers may get.
const HISTORY_LENGTH_MAX: usize = 2_000;
/// How long a name may be.
const NAME_LENGTH_MAX: usize = 253;

impl Planner<'_> {
    /// Brings annotations and numbers up to date; makes the set for the template if there is none
    /// and `create` says so.
    pub(super) fn sync_revision(&mut self, create: bool) {
        let last = self
            .old()
            .into_iter()
            .map(|at| revision(&self.sets[at].set));
        let next = last.flatten().max().unwrap_or(0) + 1;
        match self.new {
            Some(at) => self.sync_new(at, next),
            None if create => self.create_new(next),
            None => {}
        }
    }

    fn sync_new(&mut self, at: usize, next: i64) {
        let wanted = self.deployment.spec.min_ready_seconds;
        let set = &mut self.sets[at];
        let mut annotations = set.set.metadata.annotations.clone().unwrap_or_default();
        let is_changed = annotate(self.deployment, &mut annotations, next);
        let min_ready_seconds = (set.set.spec.min_ready_seconds != wanted).then_some(wanted);
        if is_changed || min_ready_seconds.is_some() {
            set.set.spec.min_ready_seconds = wanted;
            self.update(at, annotations, None, min_ready_seconds);
            return;
        }
        self.set_revision(annotations.get(REVISION).cloned().unwrap_or_default());
        if status::has_deadline(self.deployment) && self.progressing().is_none() {
            let message = format!("Found new replica set {:?}", self.sets[at].set.name());
            self.set_progressing("True", "FoundNewReplicaSet", message);
        }
    }

    fn create_new(&mut self, next: i64) {
        let deployment = self.deployment;
        let hash = deployment
            .spec
            .template
            .hash(deployment.status.collision_count);
        let name = set_name(deployment.name(), &hash);
        let template = deployment
            .spec
            .template
            .with_label(POD_TEMPLATE_HASH, &hash);
        let replicas = self.new_replicas(0);
        let mut annotations = BTreeMap::new();
        annotate(deployment, &mut annotations, next);
        annotate_replicas(deployment, &mut annotations);
        let body = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": deployment.namespace(),
                "labels": template.labels(),
                "annotations": annotations,
                "ownerReferences": [controller_ref(deployment)],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": deployment.spec.min_ready_seconds,
                "selector": deployment.spec.selector.with_label(POD_TEMPLATE_HASH, &hash),
                "template": template.value(),
            },
        });
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(annotations),
            creation_timestamp: Some(Time(self.now)),
            ..ObjectMeta::default()
        };
        let spec = ReplicaSetSpec {
            replicas,
            min_ready_seconds: deployment.spec.min_ready_seconds,
            template,
            ..ReplicaSetSpec::default()
        };
        let set = ReplicaSet {
            metadata,
            spec,
            ..ReplicaSet::default()
        };
        self.new = Some(self.sets.len());
        self.sets.push(Set {
            observed: None,
            set,
            replicas,
        });
        self.set_revision(next.to_string());
        if status::has_deadline(deployment) {
            let message = format!("Created new replica set {name:?}");
            self.set_progressing("True", "NewReplicaSetCreated", message);
        }
        self.plan.steps.push(Step::Create {
            name,
            replicas,
            body,
        });
    }

    /// How many pods the set for the template shall have that has `current` now.
    pub(super) fn new_replicas(&self, current: i32) -> i32 {
        let wanted = self.wanted();
        if !is_rolling(self.deployment) {
            return wanted;
        }
        let rolling = self.deployment.spec.strategy.rolling_update.as_ref();
        let surge = rolling.and_then(|limits| limits.max_surge.as_ref());
        let surge = surge.and_then(|surge| crate::apps::scaled(surge, wanted, true));
        let room = wanted + surge.unwrap_or(0) - self.planned();
        if room <= 0 {
            current
        } else {
            current + room.min(wanted - current)
        }
    }

    fn set_revision(&mut self, revision: String) {
        let annotations = self.deployment.metadata.annotations.as_ref();
        let said = annotations.and_then(|all| all.get(REVISION));
        let is_new = said.map(String::as_str).unwrap_or_default() != revision;
        self.plan.revision = is_new.then_some(revision);
    }

    /// Plans a change of a set that is there already. A set that is to be made is made so.
    pub(super) fn update(
        &mut self,
        at: usize,
        annotations: BTreeMap<String, String>,
        replicas: Option<(i32, i32)>,
        min_ready_seconds: Option<i32>,
    ) {
        let set = &mut self.sets[at];
        set.set.metadata.annotations = Some(annotations.clone());
        if let Some((_, wanted)) = replicas {
            set.set.spec.replicas = wanted;
        }
        let Some(observed) = set.observed.clone() else {
            return;
        };
        self.plan.steps.push(Step::Update {
            set: observed,
            annotations,
            replicas,
            min_ready_seconds,
        });
    }

    /// The revision that the Deployment is to go back to; 0 is the last one.
    pub(super) fn rollback_to(&self) -> Option<i64> {
        let annotations = self.deployment.metadata.annotations.as_ref()?;
        annotations.get(ROLLBACK_TO)?.parse().ok()
    }

    pub(super) fn rollback(&mut self, wanted: i64) {
        self.sync_revision(true);
        let wanted = if wanted == 0 {
            self.last_revision()
        } else {
            wanted
        };
        if wanted == 0 {
            let message = "Unable to find last revision.".into();
            self.event(true, "DeploymentRollbackRevisionNotFound", message);
            return self.change_template(None);
        }
        let found = self
            .sets
            .iter()
            .position(|set| revision(&set.set) == Some(wanted));
        let Some(at) = found else {
            let message = "Unable to find the revision to rollback to.".into();
            self.event(true, "DeploymentRollbackRevisionNotFound", message);
            return self.change_template(None);
        };
        let name = self.deployment.name();
        if self.sets[at].set.spec.template == self.deployment.spec.template {
            let message = format!(
                "The rollback revision contains the same template as current deployment {name:?}"
            );
            self.event(true, "DeploymentRollbackTemplateUnchanged", message);
            return self.change_template(None);
        }
        let message = format!("Rolled back deployment {name:?} to revision {wanted}");
        self.change_template(Some(at));
        self.event(false, "DeploymentRollback", message);
    }

    /// The number before the highest; 0 if there is none.
    fn last_revision(&self) -> i64 {
        let mut all: Vec<i64> = self
            .sets
            .iter()
            .filter_map(|set| revision(&set.set))
            .collect();
        all.sort_unstable();
        all.iter().rev().nth(1).copied().unwrap_or(0)
    }

    /// Forgets the wish to roll back, after taking template and annotations of a set, if one is given.
    fn change_template(&mut self, from: Option<usize>) {
        let own = self
            .deployment
            .metadata
            .annotations
            .clone()
            .unwrap_or_default();
        let mut annotations = own;
        let mut patch = json!({"metadata": {"uid": self.deployment.uid(),
                               "resourceVersion": self.deployment.metadata.resource_version}});
        if let Some(at) = from {
            let set = &self.sets[at].set;
            annotations.retain(|key, _| NOT_COPIED.contains(&key.as_str()));
            for (key, value) in set.metadata.annotations.iter().flatten() {
                if !NOT_COPIED.contains(&key.as_str()) {
                    annotations.insert(key.clone(), value.clone());
                }
            }
            let mut template = without_hash(set.spec.template.value());
            template["$patch"] = "replace".into();
            patch["spec"]["template"] = template;
        }
        annotations.remove(ROLLBACK_TO);
        patch["metadata"]["annotations"] = json!(annotations);
        patch["metadata"]["annotations"]["$patch"] = "replace".into();
        self.plan.steps.push(Step::Rollback(patch));
    }
}

fn without_hash(mut template: Value) -> Value {
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

/// A set's number; none if it has none, or none that is a number.
pub(super) fn revision(set: &ReplicaSet) -> Option<i64> {
    let annotations = set.metadata.annotations.as_ref();
    match annotations.and_then(|all| all.get(REVISION)) {
        None => Some(0),
        Some(text) => text.parse().ok(),
    }
}

/// Gives a set the Deployment's annotations and its number; whether that changes anything.
fn annotate(
    deployment: &Deployment,
    annotations: &mut BTreeMap<String, String>,
    next: i64,
) -> bool {
    let mut is_changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            is_changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let number = match old.as_deref().unwrap_or_default() {
        "" => 0,
        text => match text.parse() {
            Ok(number) => number,
            Err(_) => return false,
        },
    };
    if number >= next {
        return is_changed;
    }
    annotations.insert(REVISION.into(), next.to_string());
    if let Some(old) = old {
        remember(annotations, &old);
    }
    true
}

/// Appends a former number to the list of them; the oldest go when the list gets too long.
fn remember(annotations: &mut BTreeMap<String, String>, old: &str) {
    let known = annotations
        .get(REVISION_HISTORY)
        .cloned()
        .unwrap_or_default();
    if known.is_empty() {
        annotations.insert(REVISION_HISTORY.into(), old.into());
        return;
    }
    let mut all: Vec<&str> = known.split(',').collect();
    let mut length = known.len() + old.len() + 1;
    let mut start = 0;
    while length > HISTORY_LENGTH_MAX && start < all.len() {
        length -= all[start].len() + 1;
        start += 1;
    }
    if length <= HISTORY_LENGTH_MAX {
        all.drain(..start);
        all.push(old);
        annotations.insert(REVISION_HISTORY.into(), all.join(","));
    }
}

/// Notes on a set how large the Deployment is; whether that changes anything.
pub(super) fn annotate_replicas(
    deployment: &Deployment,
    annotations: &mut BTreeMap<String, String>,
) -> bool {
    let desired = deployment.spec.replicas;
    let most = desired + max_surge(deployment);
    let mut is_changed = false;
    for (key, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, most)] {
        let value = value.to_string();
        is_changed |= annotations.get(key) != Some(&value);
        annotations.insert(key.into(), value);
    }
    is_changed
}

fn set_name(deployment: &str, hash: &str) -> String {
    let end = deployment.floor_char_boundary(NAME_LENGTH_MAX - 1 - hash.len());
    format!("{}-{hash}", &deployment[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's TestSetNewReplicaSetAnnotations cases on the history, retold.
    #[test]
    fn former_numbers_are_remembered_within_a_limit() {
        let history = |known: &str, old: &str| {
            let mut all = BTreeMap::from([(REVISION_HISTORY.to_string(), known.to_string())]);
            remember(&mut all, old);
            all.remove(REVISION_HISTORY).unwrap()
        };
        assert_eq!(history("", "1"), "1");
        assert_eq!(history("1,2", "3"), "1,2,3");
        let long = vec!["1234567"; 249].join(",");
        assert_eq!(long.len(), 1_991);
        assert_eq!(history(&long, "12345678").len(), 2_000);
        let dropped = history(&long, "123456789");
        assert_eq!(dropped.len(), 1_991 - 8 + 10);
        assert!(dropped.ends_with(",123456789"));
    }

    #[test]
    fn names_leave_room_for_the_hash() {
        assert_eq!(set_name("web", "abc"), "web-abc");
        assert_eq!(set_name(&"w".repeat(253), "abc").len(), 253);
    }
}

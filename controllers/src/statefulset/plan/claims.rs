//! A StatefulSet's claims: one per template and number, which outlive pods, and whom they belong to.

use std::sync::Arc;

use client::View;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::identity::{ordinal, pod_name};
use super::{Missing, Owners};
use crate::adoption::controller_ref;
use crate::apps::{ClaimRetention, StatefulSet};
use crate::pod::Pod;
use crate::volumes::Claim;

/// Finds a claim by its name.
type Find<'f> = &'f dyn Fn(&str) -> Option<Arc<Claim>>;

/// The name of a claim template.
pub(crate) fn template_name(template: &Value) -> &str {
    let name = template.pointer("/metadata/name");
    name.and_then(Value::as_str).unwrap_or_default()
}

/// The name of a number's claim.
pub(crate) fn claim_name(set: &StatefulSet, template: &Value, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template_name(template), set.name())
}

/// The claims that a number lacks.
pub(crate) fn missing(set: &StatefulSet, ordinal: i32, find: Find<'_>) -> Missing {
    let mut missing = Missing::default();
    let mut errors = Vec::new();
    for template in &set.spec.volume_claim_templates {
        let name = claim_name(set, template, ordinal);
        match find(&name) {
            None => missing.create.push(claim(set, template, name)),
            Some(there) if there.is_deleted() => {
                errors.push(format!("pvc {name} is being deleted"))
            }
            Some(_) => {}
        }
    }
    missing.error = (!errors.is_empty()).then(|| match &errors[..] {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    });
    missing
}

fn claim(set: &StatefulSet, template: &Value, name: String) -> Value {
    let mut claim = template.clone();
    claim["apiVersion"] = json!(Claim::API_VERSION);
    claim["kind"] = json!(Claim::KIND);
    claim["metadata"]["name"] = json!(name);
    claim["metadata"]["namespace"] = json!(set.namespace());
    for (key, value) in set.spec.selector.match_labels() {
        claim["metadata"]["labels"][key] = json!(value);
    }
    claim
}

/// What becomes of a set's claims.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: fn(&ClaimRetention) -> &String| {
        policy.is_some_and(|policy| when(policy) == "Delete")
    };
    (
        deletes(|policy| &policy.when_scaled),
        deletes(|policy| &policy.when_deleted),
    )
}

/// Whether a number's claim belongs to a former pod of this number, and goes with it.
pub(crate) fn is_stale(set: &StatefulSet, ordinal: i32, find: Find<'_>) -> bool {
    let (deletes_when_scaled, _) = policy(set);
    let pod = pod_name(set, ordinal);
    let of_former = |claim: &Claim| {
        refs(claim)
            .iter()
            .any(|owner| names(owner, "v1", "Pod", &pod))
    };
    let mut templates = set.spec.volume_claim_templates.iter();
    deletes_when_scaled
        && templates.any(|template| {
            let claim = find(&claim_name(set, template, ordinal));
            claim.is_some_and(|claim| of_former(&claim))
        })
}

/// The claims of a pod whose owners are not as the policy says.
pub(crate) fn owners(set: &StatefulSet, pod: &Pod, find: Find<'_>) -> Vec<Owners> {
    let Some(ordinal) = ordinal(pod.name()) else {
        return Vec::new();
    };
    let templates = set.spec.volume_claim_templates.iter();
    let claims = templates.filter_map(|template| find(&claim_name(set, template, ordinal)));
    let wanted = |claim: Arc<Claim>| {
        let belongs = Belongs {
            set,
            pod,
            claim: &claim,
            ordinal,
        };
        let owners = (!belongs.is_right()).then(|| belongs.right())?;
        let is_conflict = belongs.has_foreign_controller();
        Some(Owners {
            owners,
            is_conflict,
            claim,
        })
    };
    claims.filter_map(wanted).collect()
}

fn refs(claim: &Claim) -> &[OwnerReference] {
    claim
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default()
}

fn names(owner: &OwnerReference, api_version: &str, kind: &str, name: &str) -> bool {
    owner.api_version == api_version && owner.kind == kind && owner.name == name
}

/// A claim between its set and its pod.
struct Belongs<'b> {
    set: &'b StatefulSet,
    pod: &'b Pod,
    claim: &'b Claim,
    ordinal: i32,
}

impl Belongs<'_> {
    fn refs(&self) -> &[OwnerReference] {
        refs(self.claim)
    }

    fn names_set(&self, owner: &OwnerReference) -> bool {
        names(
            owner,
            StatefulSet::API_VERSION,
            StatefulSet::KIND,
            self.set.name(),
        )
    }

    fn names_pod(&self, owner: &OwnerReference) -> bool {
        names(owner, Pod::API_VERSION, Pod::KIND, self.pod.name())
    }

    fn is_of_set(&self) -> bool {
        self.refs().iter().any(|owner| owner.uid == self.set.uid())
    }

    fn is_of_pod(&self) -> bool {
        self.refs().iter().any(|owner| owner.uid == self.pod.uid())
    }

    /// It belongs to a former set or pod of the name: the garbage collector will take it.
    fn is_of_former(&self) -> bool {
        let set = self.refs().iter().find(|owner| self.names_set(owner));
        let pod = self.refs().iter().find(|owner| self.names_pod(owner));
        set.is_some_and(|owner| owner.uid != self.set.uid())
            || pod.is_some_and(|owner| owner.uid != self.pod.uid())
    }

    fn has_foreign_controller(&self) -> bool {
        if policy(self.set) == (false, false) {
            return false;
        }
        self.refs().iter().any(
            |owner| match (self.names_set(owner), self.names_pod(owner)) {
                (true, _) => owner.uid != self.set.uid(),
                (_, true) => owner.uid != self.pod.uid(),
                _ => owner.controller == Some(true),
            },
        )
    }

    /// Whether set and pod, as far as the policy says, own it.
    fn wanted(&self) -> (bool, bool) {
        let start = self.set.spec.ordinals.start;
        let is_condemned = !(start..start + self.set.spec.replicas).contains(&self.ordinal);
        match policy(self.set) {
            (false, of_set) => (of_set, false),
            (true, of_set) => (of_set && !is_condemned, is_condemned),
        }
    }

    fn is_right(&self) -> bool {
        if self.is_of_former() {
            return true;
        }
        if self.has_foreign_controller() {
            return !self.is_of_set() && !self.is_of_pod();
        }
        let is_ours =
            |owner: &&OwnerReference| owner.uid == self.set.uid() || owner.uid == self.pod.uid();
        let mut ours = self.refs().iter().filter(is_ours);
        ours.all(|owner| owner.controller == Some(true))
            && (self.is_of_set(), self.is_of_pod()) == self.wanted()
    }

    fn right(&self) -> Vec<OwnerReference> {
        let others = self
            .refs()
            .iter()
            .filter(|owner| !self.names_set(owner) && !self.names_pod(owner));
        let mut owners: Vec<_> = others.cloned().collect();
        if self.has_foreign_controller() {
            return owners;
        }
        let (of_set, of_pod) = self.wanted();
        if of_set {
            owners.push(controller_ref(self.set));
        }
        if of_pod {
            owners.push(controller_ref(self.pod));
        }
        owners
    }
}

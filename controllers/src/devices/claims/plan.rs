//! What is to be done about a pod's claims, and about a claim's consumers.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::View;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::devices::{Claim, Named, named};
use crate::pod::{Pod, PodResourceClaim};

/// On a claim that was made from a template: the name that the pod gave it.
pub(super) const POD_CLAIM_NAME: &str = "resource.kubernetes.io/pod-claim-name";

/// Keeps a claim as long as it is allocated.
pub(super) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// Names keep room for what a server adds: a hyphen and five letters of 63.
const BASE_LENGTH_MAX: usize = 57;

/// A pod with its claims.
#[derive(Debug, Default)]
pub(super) struct PodWorld {
    pub(super) pod: Arc<Pod>,
    /// The claims that it names, and those that it owns.
    pub(super) claims: Vec<Arc<Claim>>,
    /// Templates of its namespace that it names.
    pub(super) templates: BTreeMap<String, Arc<ResourceClaimTemplate>>,
}

/// What to do for a pod, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PodPlan {
    /// Claims to be made, by the pod's name for them.
    pub(super) create: Vec<(String, ResourceClaim)>,
    /// Names of claims that the pod's status lacks: the pod's name, the claim's name.
    pub(super) found: Vec<(String, String)>,
    /// Claims to be reserved for the pod.
    pub(super) reserve: Vec<String>,
}

/// Why a pod does not get a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The pod's name for it.
    pub(super) claim: String,
    pub(super) message: String,
}

impl PodWorld {
    fn claim(&self, name: &str) -> Option<&Arc<Claim>> {
        self.claims.iter().find(|claim| claim.name() == name)
    }

    /// A claim that was made for the pod and is not in its status yet.
    fn own_claim(&self, claim: &PodResourceClaim) -> Option<&Arc<Claim>> {
        let is_it = |found: &&Arc<Claim>| {
            let annotations = found.metadata.annotations.as_ref();
            let name = annotations.and_then(|all| all.get(POD_CLAIM_NAME));
            name.map(String::as_str) == Some(&*claim.name)
                && found.check_made_for(&self.pod).is_ok()
        };
        self.claims.iter().find(is_it)
    }
}

/// Whether somebody has to look at a pod.
pub(super) fn is_interesting(pod: &Pod) -> bool {
    !pod.spec.resource_claims.is_empty() || pod.status.extended_resource_claim_status.is_some()
}

/// Whether a pod will never use its claims again.
pub(super) fn is_done(pod: &Pod) -> bool {
    pod.is_terminal() || pod.is_deleted() && pod.spec.node_name.is_empty()
}

/// Makes the plan for a pod.
pub(super) fn pod(world: &PodWorld) -> Result<PodPlan, Refusal> {
    let mut plan = PodPlan::default();
    if world.pod.is_deleted() {
        return Ok(plan);
    }
    for claim in &world.pod.spec.resource_claims {
        provide(world, claim, &mut plan).map_err(|message| Refusal {
            claim: claim.name.to_string(),
            message,
        })?;
    }
    if world.pod.spec.node_name.is_empty() {
        return Ok(plan);
    }
    for claim in &world.pod.spec.resource_claims {
        if let Named::Claim { name, is_own } = named(&world.pod, claim) {
            let Some(found) = world.claim(name) else {
                // Its arrival wakes this up.
                return Ok(plan);
            };
            let is_foreign = is_own && found.check_made_for(&world.pod).is_err();
            let is_ready = found.status.allocation.is_some() && !is_foreign;
            if is_ready && !found.is_reserved_for(&world.pod) {
                plan.reserve.push(name.to_string());
            }
        }
    }
    Ok(plan)
}

/// Sees to it that a claim from a template is there.
fn provide(world: &PodWorld, claim: &PodResourceClaim, plan: &mut PodPlan) -> Result<(), String> {
    match named(&world.pod, claim) {
        Named::Unneeded => return Ok(()),
        Named::Unsupported(why) => {
            return Err(format!("checking for claim before creating it: {why}"));
        }
        Named::Claim { name, is_own } => {
            let found = world.claim(name);
            let is_usable =
                |found: &&Arc<Claim>| !is_own || found.check_made_for(&world.pod).is_ok();
            if found.as_ref().is_some_and(is_usable) {
                return Ok(());
            }
        }
        Named::Missing => {}
    }
    let Some(template) = &claim.resource_claim_template_name else {
        return Ok(());
    };
    if let Some(own) = world.own_claim(claim) {
        plan.found.push((claim.name.to_string(), own.name().into()));
        return Ok(());
    }
    let Some(found) = world.templates.get(&**template) else {
        return Err(format!(
            "resource claim template {template:?}: \
             resourceclaimtemplate.resource.k8s.io {template:?} not found"
        ));
    };
    let made = from_template(&world.pod, &claim.name, found);
    plan.create.push((claim.name.to_string(), made));
    Ok(())
}

fn from_template(pod: &Pod, name: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    let metadata = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM_NAME.into(), name.into());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(generate_name(pod.name(), name)),
            namespace: pod.metadata.namespace.clone(),
            annotations: Some(annotations),
            labels: metadata.labels,
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: pod.name().into(),
                uid: pod.uid().into(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

/// `POD-CLAIM-`, both names cut in proportion if that is too long.
fn generate_name(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= BASE_LENGTH_MAX {
        return whole;
    }
    // Names are ASCII, so any place will do for a cut.
    let cut = |name: &str| {
        let length = name.len() * BASE_LENGTH_MAX / whole.len();
        name.get(..length).unwrap_or(name).to_string()
    };
    format!("{}-{}", cut(pod), cut(claim))
}

/// How a consumer of a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsumerState {
    /// It may still use the claim.
    Lives,
    /// It is gone, replaced, or will never run.
    Done,
}

/// What to do about a claim, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ClaimPlan {
    /// Who stays in `reservedFor`, if that changes.
    pub(super) keep: Option<Vec<String>>,
    /// Give the devices back.
    pub(super) deallocate: bool,
    /// Let the claim go.
    pub(super) remove_finalizer: bool,
    /// Delete the claim, which was made for a pod that is done.
    pub(super) delete: bool,
}

/// Makes the plan for a claim; states are in the order of `reservedFor`, and the owner is the pod
/// of the name that its owner reference has, if it is there.
pub(super) fn claim(claim: &Claim, states: &[ConsumerState], owner: Option<&Pod>) -> ClaimPlan {
    let reserved = &claim.status.reserved_for;
    let living = reserved.iter().zip(states);
    let living = living.filter(|(_, state)| **state == ConsumerState::Lives);
    let keep: Vec<String> = living.map(|(consumer, _)| consumer.uid.clone()).collect();
    let is_free = keep.is_empty();
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    let is_ours = finalizers.iter().any(|name| name == FINALIZER);
    let has_allocation = claim.status.allocation.is_some();
    let mut plan = ClaimPlan::default();
    if keep.len() < reserved.len() {
        plan.deallocate = is_free && is_ours && has_allocation;
        plan.remove_finalizer = is_ours && (plan.deallocate || !has_allocation);
        plan.keep = Some(keep);
    } else if is_ours && claim.metadata.deletion_timestamp.is_some() && is_free {
        plan.deallocate = has_allocation;
        plan.remove_finalizer = true;
    }
    if is_free && let (Some((_, uid)), Some(pod)) = (claim.owning_pod(), owner) {
        plan.delete = pod.uid() != uid || is_done(pod);
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod_of(patch: &str) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "p-1"},
            "spec": {"nodeName": "", "resourceClaims": [{"name": "x", "resourceClaimTemplateName": "t"}]},
            "status": {"phase": "Pending"},
        });
        match patch {
            "bound" => pod["spec"]["nodeName"] = "n".into(),
            "done" => pod["status"]["phase"] = "Succeeded".into(),
            _ => {}
        }
        if patch != "new" {
            pod["status"]["resourceClaimStatuses"] =
                json!([{"name": "x", "resourceClaimName": "c"}]);
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn claim_of(status: Value, finalizers: Value) -> Claim {
        serde_json::from_value(json!({
            "metadata": {
                "name": "c", "namespace": "ns", "finalizers": finalizers,
                "annotations": {POD_CLAIM_NAME: "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p-1", "controller": true}],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn template() -> Arc<ResourceClaimTemplate> {
        let template = json!({"metadata": {"name": "t"}, "spec": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"devices": {}}}});
        Arc::new(serde_json::from_value(template).unwrap())
    }

    fn world(pod: &str, claims: &[Claim], has_template: bool) -> PodWorld {
        PodWorld {
            pod: pod_of(pod),
            claims: claims.iter().cloned().map(Arc::new).collect(),
            templates: has_template
                .then(|| ("t".to_string(), template()))
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn a_claim_is_made_from_its_template_once() {
        let plan = pod(&world("new", &[], true)).unwrap();
        let (name, made) = &plan.create[0];
        assert_eq!(
            (name.as_str(), made.metadata.generate_name.as_deref()),
            ("x", Some("p-x-"))
        );
        assert_eq!(
            made.metadata.annotations.as_ref().unwrap()[POD_CLAIM_NAME],
            "x"
        );
        // Made before the status said so.
        let plan = pod(&world("new", &[claim_of(json!({}), json!([]))], true)).unwrap();
        assert_eq!(
            (plan.create.len(), plan.found),
            (0, vec![("x".into(), "c".into())])
        );
        let plan = pod(&world("old", &[claim_of(json!({}), json!([]))], true)).unwrap();
        assert_eq!(plan, PodPlan::default());
        let refused = pod(&world("new", &[], false)).unwrap_err();
        assert_eq!(
            refused.message,
            "resource claim template \"t\": resourceclaimtemplate.resource.k8s.io \"t\" not found"
        );
    }

    #[test]
    fn long_names_are_cut_in_proportion() {
        let (pod, claim) = ("p".repeat(60), "c".repeat(20));
        let name = generate_name(&pod, &claim);
        assert_eq!(name, format!("{}-{}", "p".repeat(41), "c".repeat(13)));
    }

    #[test]
    fn a_pod_on_a_node_gets_its_claim_reserved() {
        let allocated = claim_of(json!({"allocation": {}}), json!([]));
        let plan = pod(&world("bound", std::slice::from_ref(&allocated), true)).unwrap();
        assert_eq!(plan.reserve, ["c"]);
        let reserved = json!({"allocation": {}, "reservedFor": [{"resource": "pods", "name": "p", "uid": "p-1"}]});
        let plan = pod(&world("bound", &[claim_of(reserved, json!([]))], true)).unwrap();
        assert_eq!(plan, PodPlan::default());
    }

    #[test]
    fn a_claim_of_pods_that_are_done_is_given_back() {
        let status = json!({"allocation": {}, "reservedFor": [
            {"resource": "pods", "name": "p", "uid": "p-1"},
            {"resource": "pods", "name": "q", "uid": "q-1"}]});
        let used = claim_of(status, json!([FINALIZER]));
        let (lives, done) = (ConsumerState::Lives, ConsumerState::Done);
        let pod = pod_of("old");
        assert_eq!(
            claim(&used, &[lives, lives], Some(&pod)),
            ClaimPlan::default()
        );
        let plan = claim(&used, &[done, lives], Some(&pod));
        assert_eq!(plan.keep.as_deref(), Some(&["q-1".to_string()][..]));
        assert!(!plan.deallocate && !plan.delete);
        let plan = claim(&used, &[done, done], Some(&pod_of("done")));
        assert!(plan.deallocate && plan.remove_finalizer && plan.delete);
        // Without the finalizer it is somebody else's to free.
        let foreign = Claim {
            metadata: ObjectMeta {
                finalizers: None,
                ..used.metadata.clone()
            },
            ..used
        };
        let plan = claim(&foreign, &[done, done], Some(&pod));
        assert!(!plan.deallocate && !plan.remove_finalizer && plan.keep.is_some());
    }
}

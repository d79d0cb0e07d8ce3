//! The claims of a pod's ephemeral volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::View;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::pod::Pod;
use crate::volumes::{Claim, claim_name};

/// What a pod's ephemeral volume lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// Its claim: the volume's name and the claim's.
    Missing { volume: String, claim: String },
    /// Its claim's name, which somebody else's claim has: the volume's name and why.
    Foreign { volume: String, message: String },
}

/// What the ephemeral volumes of a pod lack, up to the first that cannot be helped.
pub(super) fn needs(pod: &Pod, claims: &BTreeMap<String, Arc<Claim>>) -> Vec<Need> {
    let mut needs = Vec::new();
    if pod.is_deleted() {
        return needs;
    }
    for volume in &pod.spec.volumes {
        if volume.claim_name.is_some() {
            continue;
        }
        let name = claim_name(pod, volume);
        match claims.get(&name) {
            None => needs.push(Need::Missing {
                volume: volume.name.to_string(),
                claim: name,
            }),
            Some(claim) if claim.is_made_for(pod) => {}
            Some(claim) => {
                let (claim, namespace, pod) = (claim.key(), pod.namespace(), pod.name());
                needs.push(Need::Foreign {
                    volume: volume.name.to_string(),
                    message: format!(
                        "PVC {claim} was not created for pod {namespace}/{pod} (pod is not owner)"
                    ),
                });
                break;
            }
        }
    }
    needs
}

/// The claim that a template makes for a pod.
pub(super) fn claim(
    pod: &Pod,
    name: String,
    template: PersistentVolumeClaimTemplate,
) -> PersistentVolumeClaim {
    let metadata = template.metadata.unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            annotations: metadata.annotations,
            labels: metadata.labels,
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: pod.name().into(),
                uid: pod.uid().into(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        status: None,
    }
}

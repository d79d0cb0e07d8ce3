//! The controllers of storage against a real API server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Event, Node, PersistentVolume, PersistentVolumeClaim, Pod as WholePod,
};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::*;
use crate::manager::CONTROLLERS;
use crate::testing::{Cluster, eventually, gone};

async fn start(names: &[&str]) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.server.namespace("default").await;
    let rows: Vec<_> = CONTROLLERS
        .iter()
        .filter(|row| names.contains(&row.name))
        .copied()
        .collect();
    assert_eq!(rows.len(), names.len());
    cluster.run(&rows);
    cluster
}

async fn create(cluster: &Cluster, path: &str, body: Value) {
    cluster.server.create(path, &body.to_string()).await.ok();
}

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn claim(name: &str, class: Option<&str>) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    })
}

fn csi_volume(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "2Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": "d.example.com", "volumeHandle": format!("{name}-handle")},
        },
    })
}

fn pod(name: &str, node: &str, volume: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [volume],
        },
    })
}

struct Apis {
    claims: Api<PersistentVolumeClaim>,
    volumes: Api<PersistentVolume>,
    pods: Api<WholePod>,
    events: Api<Event>,
}

impl Apis {
    fn of(cluster: &Cluster) -> Apis {
        let client = || cluster.admin.clone();
        Apis {
            claims: Api::namespaced(client(), "default"),
            volumes: Api::all(client()),
            pods: Api::namespaced(client(), "default"),
            events: Api::namespaced(client(), "default"),
        }
    }

    async fn claim_is(&self, name: &str, phase: &str) -> PersistentVolumeClaim {
        eventually(&format!("{name} is {phase}"), async || {
            let found = self.claims.get(name).await.unwrap();
            let status = found.status.clone().unwrap_or_default();
            (status.phase.as_deref() == Some(phase)).then_some(found)
        })
        .await
    }

    async fn volume_is(&self, name: &str, phase: &str) -> PersistentVolume {
        eventually(&format!("{name} is {phase}"), async || {
            let found = self.volumes.get(name).await.unwrap();
            let status = found.status.clone().unwrap_or_default();
            (status.phase.as_deref() == Some(phase)).then_some(found)
        })
        .await
    }

    async fn event(&self, reason: &str) -> String {
        eventually(&format!("the event {reason}"), async || {
            let all = self.events.list(&ListParams::default()).await.unwrap();
            let mut all = all.items.into_iter();
            let found = all.find(|event| event.reason.as_deref() == Some(reason))?;
            found.message
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_bound_and_its_volume_released() {
    let cluster = start(&[
        "persistentvolume-binder-controller",
        "persistentvolume-protection-controller",
        "persistentvolumeclaim-protection-controller",
    ])
    .await;
    let apis = Apis::of(&cluster);
    create(&cluster, CLAIMS, claim("c", Some(""))).await;
    let message = apis.event("FailedBinding").await;
    assert_eq!(
        message,
        "no persistent volumes available for this claim and no storage class is set"
    );
    create(&cluster, VOLUMES, csi_volume("v")).await;
    apis.volume_is("v", "Available").await;
    // What is not bound is looked at every 15 s; a change comes first.
    let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    apis.claims
        .patch("c", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let bound = apis.claim_is("c", "Bound").await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("v"));
    let capacity = bound.status.unwrap().capacity.unwrap();
    assert_eq!(capacity["storage"].0, "2Gi");
    let annotations = bound.metadata.annotations.unwrap();
    assert_eq!(annotations[BIND_COMPLETED], "yes");
    assert_eq!(annotations[BOUND_BY_CONTROLLER], "yes");
    let volume = apis.volume_is("v", "Bound").await;
    assert_eq!(
        volume.spec.unwrap().claim_ref.unwrap().uid,
        bound.metadata.uid
    );

    apis.claims
        .delete("c", &DeleteParams::default())
        .await
        .unwrap();
    apis.volume_is("v", "Released").await;
    apis.volumes
        .delete("v", &DeleteParams::default())
        .await
        .unwrap();
    gone(&apis.volumes, "v").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provisioner_is_asked_and_the_default_class_given_afterwards() {
    let cluster = start(&["persistentvolume-binder-controller"]).await;
    let apis = Apis::of(&cluster);
    create(&cluster, CLAIMS, claim("c", None)).await;
    apis.event("FailedBinding").await;
    let class = json!({
        "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "d.example.com",
    });
    create(&cluster, "/apis/storage.k8s.io/v1/storageclasses", class).await;
    let asked = eventually("the provisioner is named", async || {
        let found = apis.claims.get("c").await.unwrap();
        let annotations = found.metadata.annotations.clone().unwrap_or_default();
        annotations
            .contains_key(STORAGE_PROVISIONER)
            .then_some((found, annotations))
    })
    .await;
    assert_eq!(
        asked.0.spec.unwrap().storage_class_name.as_deref(),
        Some("fast")
    );
    assert_eq!(asked.1[STORAGE_PROVISIONER], "d.example.com");
    assert_eq!(asked.1[BETA_STORAGE_PROVISIONER], "d.example.com");
    let message = apis.event("ExternalProvisioning").await;
    assert!(
        message.contains("external provisioner 'd.example.com' or manually"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_stays_as_long_as_a_pod_on_a_node_uses_it() {
    let cluster = start(&["persistentvolumeclaim-protection-controller"]).await;
    let apis = Apis::of(&cluster);
    create(&cluster, CLAIMS, claim("c", Some(""))).await;
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    create(&cluster, PODS, pod("p", "n", volume)).await;
    apis.claims
        .delete("c", &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        apis.claims
            .get("c")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let now = DeleteParams::default().grace_period(0);
    apis.pods.delete("p", &now).await.unwrap();
    gone(&apis.claims, "c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_volume_gets_its_claim() {
    let cluster = start(&["ephemeral-volume-controller"]).await;
    let apis = Apis::of(&cluster);
    let template = json!({
        "metadata": {"labels": {"a": "b"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let volume = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": template}});
    create(&cluster, PODS, pod("p", "", volume.clone())).await;
    let made = eventually("the claim is there", async || {
        apis.claims.get_opt("p-v").await.unwrap()
    })
    .await;
    let owner = &made.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("Pod", Some(true)));
    assert_eq!(made.metadata.labels.unwrap()["a"], "b");
    // Somebody else's claim is not taken.
    create(&cluster, CLAIMS, claim("q-v", Some(""))).await;
    create(&cluster, PODS, pod("q", "", volume)).await;
    let message = apis.event("FailedBinding").await;
    assert_eq!(
        message,
        "ephemeral volume v: PVC default/q-v was not created for pod default/q (pod is not owner)"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_attached_where_a_pod_is_and_detached_after_it() {
    let cluster = start(&[
        "persistentvolume-binder-controller",
        "persistentvolume-attach-detach-controller",
    ])
    .await;
    let apis = Apis::of(&cluster);
    let node = json!({"metadata": {"name": "n", "annotations": {
        "volumes.kubernetes.io/controller-managed-attach-detach": "true"}}});
    create(&cluster, "/api/v1/nodes", node).await;
    create(&cluster, VOLUMES, csi_volume("v")).await;
    apis.volume_is("v", "Available").await;
    create(&cluster, CLAIMS, claim("c", Some(""))).await;
    apis.claim_is("c", "Bound").await;
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    create(&cluster, PODS, pod("p", "n", volume)).await;

    let attachments: Api<VolumeAttachment> = Api::all(cluster.admin.clone());
    let name = attach_detach::attachment_name("v-handle", "d.example.com", "n");
    let made = eventually("the attachment is asked for", async || {
        attachments.get_opt(&name).await.unwrap()
    })
    .await;
    assert_eq!(made.spec.attacher, "d.example.com");
    assert_eq!(
        made.spec.source.persistent_volume_name.as_deref(),
        Some("v")
    );
    // The driver's part.
    let patch = Patch::Merge(json!({"status": {"attached": true}}));
    attachments
        .patch_status(&name, &PatchParams::default(), &patch)
        .await
        .unwrap();
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let attached = async || {
        let status = nodes.get("n").await.unwrap().status.unwrap_or_default();
        let volumes = status.volumes_attached.unwrap_or_default();
        volumes
            .into_iter()
            .map(|volume| volume.name)
            .collect::<Vec<_>>()
    };
    let unique = attach_detach::unique_name("d.example.com", "v-handle");
    eventually("the node says so", async || {
        (attached().await == [unique.clone()]).then_some(())
    })
    .await;
    let message = apis.event("SuccessfulAttachVolume").await;
    assert_eq!(message, "AttachVolume.Attach succeeded for volume \"v\" ");

    // Mounted volumes are not detached.
    let in_use = |names: Value| Patch::Merge(json!({"status": {"volumesInUse": names}}));
    let params = PatchParams::default();
    nodes
        .patch_status("n", &params, &in_use(json!([unique])))
        .await
        .unwrap();
    let now = DeleteParams::default().grace_period(0);
    apis.pods.delete("p", &now).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(attachments.get_opt(&name).await.unwrap().is_some());
    nodes
        .patch_status("n", &params, &in_use(json!([])))
        .await
        .unwrap();
    gone(&attachments, &name).await;
    assert_eq!(attached().await, Vec::<String>::new());
}

#[test]
fn views_read_what_objects_say() {
    let claim: Claim = serde_json::from_value(claim("c", None)).unwrap();
    assert!(!claim.has_class() && claim.class().is_empty());
    assert_eq!(
        claim.requested(),
        values::Quantity::parse("1024Mi").unwrap()
    );
    let volume: Volume = serde_json::from_value(csi_volume("v")).unwrap();
    assert_eq!(volume.spec.csi.as_ref().unwrap().driver, "d.example.com");
    let amounts: BTreeMap<String, Quantity> = BTreeMap::new();
    assert_eq!(amount(&amounts), values::Quantity::from_units(0));
}

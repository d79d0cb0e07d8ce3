//! NodeRestriction: what a node writes must be about itself and its pods.
//!
//! Authorization lets nodes at the right objects; what is in a request is judged here.

mod labels;
mod tokens;

use api::doc::Doc;
use api::status::{Qualified, Status};
use async_trait::async_trait;

use super::certificates::Subject;
use super::{Attempt, Operation, Plugin};
use crate::authorization::node::graph::{self, Kind};
use crate::registry::{Outcome, metadata};
use crate::user::{NODE_PREFIX, NODES};
use crate::validation::{At, same};

/// Marks pods that a node runs of its own and only shows.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The namespace of the leases by which nodes show that they are alive.
const LEASES: &str = "kube-node-lease";
/// Who signs what nodes ask for.
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

pub(super) struct NodeRestriction;

/// A write of a node.
struct Write<'a, 'c> {
    attempt: &'a Attempt<'c>,
    node: &'a str,
    new: Option<&'a Doc>,
    old: Option<&'a Doc>,
}

#[async_trait]
impl Plugin for NodeRestriction {
    async fn admit(
        &self,
        attempt: &mut Attempt<'_>,
        new: Option<&mut Doc>,
        old: Option<&Doc>,
    ) -> Outcome<()> {
        let user = attempt.call.user;
        if !user.is_in(NODES) || attempt.operation == Operation::Connect {
            return Ok(());
        }
        let Some(node) = user.name.strip_prefix(NODE_PREFIX) else {
            return Ok(());
        };
        if node.is_empty() {
            let why = format!("could not determine node from user {:?}", user.name);
            return Err(attempt.forbidden(why));
        }
        let write = Write {
            attempt,
            node,
            new: new.as_deref(),
            old,
        };
        match (attempt.resource(), attempt.subresource()) {
            (("", "pods"), "") => write.pod().await,
            (("", "pods"), "status") => write.pod_status(),
            (("", "pods"), "eviction") => write.eviction().await,
            (("", "pods"), part) => write.refuse(format!(
                "unexpected pod subresource {part:?}, only 'status' and 'eviction' are allowed"
            )),
            (("", "nodes"), _) => write.node(),
            (("", "persistentvolumeclaims"), "status") => write.claim_status(),
            (("", "persistentvolumeclaims"), _) => write.refuse("may only update PVC status"),
            (("", "serviceaccounts"), "token") => tokens::judge(&write).await,
            (("coordination.k8s.io", "leases"), _) => write.lease(),
            (("storage.k8s.io", "csinodes"), _) => write.named("CSINode"),
            (("resource.k8s.io", "resourceslices"), _) => write.resource_slice(),
            (("certificates.k8s.io", "certificatesigningrequests"), "") => write.certificate(),
            _ => Ok(()),
        }
    }
}

impl Write<'_, '_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Outcome<()> {
        Err(self.attempt.forbidden(why))
    }

    fn unexpected(&self) -> Outcome<()> {
        let operation = match self.attempt.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        };
        self.refuse(format!("unexpected operation {operation:?}"))
    }

    /// A pod of the request's namespace.
    async fn find_pod(&self, name: &str) -> Outcome<Doc> {
        let found = self
            .attempt
            .get("", "pods", self.attempt.namespace(), name)
            .await;
        let of = Qualified {
            group: "",
            name: "pods",
        };
        Ok(found.ok_or_else(|| Status::not_found(of, name))?.doc())
    }

    async fn pod(&self) -> Outcome<()> {
        let node = self.node;
        match (self.attempt.operation, self.new, self.old) {
            (Operation::Create, Some(new), _) => self.new_pod(new).await,
            (Operation::Delete, _, Some(old)) => match runs_on(old) == node {
                true => Ok(()),
                false => self.refuse(format!(
                    "node {node:?} can only delete pods with spec.nodeName set to itself"
                )),
            },
            _ => self.refuse(format!(
                "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
            )),
        }
    }

    async fn new_pod(&self, pod: &Doc) -> Outcome<()> {
        let (node, at) = (self.node, At::root(pod));
        let metadata = at.get("metadata");
        if metadata.get("annotations").entry(MIRROR).is_none() {
            return self.refuse(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        let can_only = format!("node {node:?} can only create pods with");
        if runs_on(pod) != node {
            return self.refuse(format!("{can_only} spec.nodeName set to itself"));
        }
        let mut owners = metadata.get("ownerReferences").items();
        let (Some(owner), None) = (owners.next(), owners.next()) else {
            return self.refuse(match metadata.get("ownerReferences").is_empty() {
                true => format!("{can_only} an owner reference set to itself"),
                false => format!("{can_only} a single owner reference set to itself"),
            });
        };
        let is = |key, value: &str| owner.get(key).str() == value;
        if !(is("apiVersion", "v1") && is("kind", "Node") && is("name", node)) {
            return self.refuse(format!("{can_only} an owner reference set to itself"));
        }
        if !owner.get("controller").flag() {
            return self.refuse(format!(
                "{can_only} a controller owner reference set to itself"
            ));
        }
        if owner.get("blockOwnerDeletion").flag() {
            return self.refuse(format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let of = Qualified {
            group: "",
            name: "nodes",
        };
        let found = self.attempt.get("", "nodes", "", node).await;
        let found = found.ok_or_else(|| Status::not_found(of, node))?.doc();
        let (wanted, uid) = (owner.get("uid").str(), metadata::text(&found, "uid"));
        if wanted != uid {
            return self.refuse(format!(
                "node {node} UID mismatch: expected {wanted} got {uid}"
            ));
        }
        match api_reference(pod) {
            Some(what) => self.refuse(format!(
                "node {node:?} can not create pods that reference {what}"
            )),
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Outcome<()> {
        let (Some(new), Some(old)) = (self.new, self.old) else {
            return self.unexpected();
        };
        let node = self.node;
        if runs_on(old) != node {
            return self.refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        let differs = |path: &[&'static str]| {
            let (new, old) = (At::root(new).path(path), At::root(old).path(path));
            let are_empty = new.is_empty() && old.is_empty();
            !are_empty && !same(new, old)
        };
        for (path, what) in [
            (&["metadata", "labels"][..], "labels through pod status"),
            (
                &["status", "resourceClaimStatuses"],
                "resource claim statues",
            ),
            (
                &["status", "extendedResourceClaimStatus"],
                "extended resource claim status",
            ),
        ] {
            if differs(path) {
                return self.refuse(format!("node {node:?} cannot update {what}"));
            }
        }
        Ok(())
    }

    async fn eviction(&self) -> Outcome<()> {
        if self.attempt.operation != Operation::Create {
            return self.unexpected();
        }
        match runs_on(&self.find_pod(&self.attempt.name).await?) == self.node {
            true => Ok(()),
            false => self.refuse(format!(
                "node {} can only evict pods with spec.nodeName set to itself",
                self.node
            )),
        }
    }

    /// Only how large it is may change.
    fn claim_status(&self) -> Outcome<()> {
        let (Some(new), Some(old)) = (self.new, self.old) else {
            return self.unexpected();
        };
        let rest = |doc: &Doc| {
            let mut doc = doc.clone();
            for key in ["resourceVersion", "managedFields"] {
                metadata::clear(&mut doc, key);
            }
            if let Some(status) = doc.find_path(&["status"]) {
                for key in [
                    "capacity",
                    "conditions",
                    "allocatedResourceStatuses",
                    "allocatedResources",
                ] {
                    doc.remove(status, key);
                }
            }
            doc
        };
        match rest(new) == rest(old) {
            true => Ok(()),
            false => self.refuse(format!(
                "node {:?} is not allowed to update fields other than status.quantity and \
                 status.conditions",
                self.node
            )),
        }
    }

    fn node(&self) -> Outcome<()> {
        let (node, name) = (self.node, &self.attempt.name);
        if name != node {
            return self.refuse(format!(
                "node {node:?} is not allowed to modify node {name:?}"
            ));
        }
        let Some(new) = self.new.map(At::root) else {
            return Ok(());
        };
        let nothing = Doc::new();
        let is_new = self.attempt.operation == Operation::Create;
        let old = At::root(self.old.filter(|_| !is_new).unwrap_or(&nothing));
        let config = ["spec", "configSource"];
        if new.path(&config).is_set() && !same(new.path(&config), old.path(&config)) {
            return self.refuse(match is_new {
                true => format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ),
                false => format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ),
            });
        }
        if !is_new {
            for (path, what) in [
                (&["spec", "taints"], "taints"),
                (&["metadata", "ownerReferences"], "ownerReferences"),
            ] {
                if !same(new.path(path), old.path(path)) {
                    return self.refuse(format!("node {node:?} is not allowed to modify {what}"));
                }
            }
        }
        let of = |at: At<'_>| labels::read(at.path(&["metadata", "labels"]));
        let bad = labels::forbidden(&of(new), &of(old)).join(", ");
        match (bad.is_empty(), is_new) {
            (true, _) => Ok(()),
            (_, true) => self.refuse(format!(
                "node {node:?} is not allowed to set the following labels: {bad}"
            )),
            (_, false) => self.refuse(format!("is not allowed to modify labels: {bad}")),
        }
    }

    fn lease(&self) -> Outcome<()> {
        if self.attempt.namespace() != LEASES {
            return self.refuse(format!(
                "can only access leases in the {LEASES:?} system namespace"
            ));
        }
        self.named("node lease")
    }

    fn named(&self, what: &str) -> Outcome<()> {
        match self.attempt.name == self.node {
            true => Ok(()),
            false => self.refuse(format!(
                "can only access {what} with the same name as the requesting node"
            )),
        }
    }

    fn resource_slice(&self) -> Outcome<()> {
        let (doc, verb) = match self.attempt.operation {
            Operation::Create => (self.new, "create"),
            Operation::Delete => (self.old, "delete"),
            _ => return Ok(()),
        };
        match doc.is_some_and(|doc| runs_on(doc) == self.node) {
            true => Ok(()),
            false => self.refuse(format!(
                "can only {verb} ResourceSlice with the same NodeName as the requesting node"
            )),
        }
    }

    fn certificate(&self) -> Outcome<()> {
        let Some(new) = self
            .new
            .filter(|_| self.attempt.operation == Operation::Create)
        else {
            return Ok(());
        };
        let spec = At::root(new).get("spec");
        if !NODE_SIGNERS.contains(&spec.get("signerName").str()) {
            return Ok(());
        }
        match Subject::of(spec.get("request").str()) {
            Err(why) => self.refuse(format!("unable to parse csr: {why}")),
            Ok(subject) if subject.common_name.strip_prefix(NODE_PREFIX) == Some(self.node) => {
                Ok(())
            }
            Ok(_) => self.refuse(format!(
                "can only create a node CSR with CN=system:node:{}",
                self.node
            )),
        }
    }
}

/// The node of a pod or a resource slice.
fn runs_on(doc: &Doc) -> &str {
    doc.root().text(&["spec", "nodeName"])
}

/// What a pod names that is kept in the API.
fn api_reference(pod: &Doc) -> Option<&'static str> {
    const VOLUMES: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        (
            "ephemeral",
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        (
            "serviceAccountToken",
            "serviceaccounts (via projected volumes)",
        ),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let spec = At::root(pod).get("spec");
    if !spec.get("serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    if graph::names_any(pod.root(), Kind::Secret) {
        return Some("secrets");
    }
    if graph::names_any(pod.root(), Kind::ConfigMap) {
        return Some("configmaps");
    }
    if !spec.get("resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    let pick = |at: At<'_>, known: &'static [(&'static str, &'static str)]| {
        known
            .iter()
            .find(|(key, _)| at.has(key))
            .map(|(_, what)| *what)
    };
    spec.get("volumes").items().find_map(|volume| {
        let mut sources = volume.path(&["projected", "sources"]).items();
        pick(volume, &VOLUMES).or_else(|| sources.find_map(|source| pick(source, &PROJECTED)))
    })
}

#[cfg(test)]
mod tests;

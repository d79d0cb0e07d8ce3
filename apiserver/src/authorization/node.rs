//! Nodes reach what runs on them, and nothing else: the secrets of their pods, their own lease, their
//! own status. What needs the content of a request is left to the admission NodeRestriction.

pub mod graph;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use super::rules::Rule;
use super::{Attributes, Decision, Rules, bootstrap_policy};
use crate::storage::Objects;
use crate::user::{NODES, User};
use graph::{Graph, Kind};

/// The namespace of the leases by which nodes show that they are alive.
const LEASES: &str = "kube-node-lease";

/// Authorizes nodes.
pub struct NodeAuthorizer {
    graph: Arc<Graph>,
    /// Where the graph is read from; none if somebody feeds it.
    objects: Option<Arc<dyn Objects>>,
    /// What all nodes may do alike.
    rules: Vec<Rule>,
}

/// The rules that apply to a node cannot be listed.
pub(super) fn rules_for(user: &User) -> Rules {
    let mut rules = Rules::default();
    if user.is_in(NODES) && user.node_name().is_some() {
        rules.is_incomplete = true;
        let error = "node authorizer does not support user rule resolution";
        rules.errors.push(error.to_string());
    }
    rules
}

fn allow() -> Decision {
    Decision::Allow(Cow::Borrowed(""))
}

fn no(reason: &'static str) -> Decision {
    Decision::NoOpinion(Cow::Borrowed(reason))
}

fn no_because(reason: String) -> Decision {
    Decision::NoOpinion(Cow::Owned(reason))
}

impl NodeAuthorizer {
    /// Keeps the graph up to date with the objects: before it is asked, what changed is read.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self {
            objects: Some(objects),
            ..Self::fed(Arc::default())
        }
    }

    /// Somebody who follows the objects keeps the graph up to date.
    pub fn fed(graph: Arc<Graph>) -> Self {
        Self {
            graph,
            objects: None,
            rules: bootstrap_policy::node_rules(),
        }
    }

    /// The graph, for other questions about nodes.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Whether a node may do it; about others it has no opinion.
    pub fn authorize(&self, wanted: &Attributes<'_>) -> Decision {
        let user = wanted.user;
        let Some(node) = user.node_name() else {
            return Decision::NONE;
        };
        if node.is_empty() {
            return no_because(format!("unknown node for user {:?}", user.name));
        }
        if wanted.is_resource {
            let resource = (wanted.group, wanted.resource);
            match resource {
                ("", "secrets") => return self.read(node, Kind::Secret, wanted),
                ("", "configmaps") => return self.read(node, Kind::ConfigMap, wanted),
                ("", "persistentvolumeclaims") if wanted.subresource == "status" => {
                    return self.update_status(node, Kind::Claim, wanted);
                }
                ("", "persistentvolumeclaims") => return self.get(node, Kind::Claim, wanted),
                ("", "persistentvolumes") => return self.get(node, Kind::Volume, wanted),
                ("resource.k8s.io", "resourceclaims") => {
                    return self.get(node, Kind::ResourceClaim, wanted);
                }
                ("storage.k8s.io", "volumeattachments") => {
                    return self.get(node, Kind::VolumeAttachment, wanted);
                }
                ("", "serviceaccounts") => return self.account(node, wanted),
                ("coordination.k8s.io", "leases") => return lease(node, wanted),
                ("storage.k8s.io", "csinodes") => return csi_node(node, wanted),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, wanted),
                ("", "nodes") => return own_node(node, wanted),
                ("", "pods") => return self.pod(node, wanted),
                ("certificates.k8s.io", "podcertificaterequests") => return Decision::NONE,
                _ => {}
            }
        }
        match self.rules.iter().any(|rule| rule.allows(wanted)) {
            true => allow(),
            false => Decision::NONE,
        }
    }

    fn update_status(&self, node: &str, kind: Kind, wanted: &Attributes<'_>) -> Decision {
        match wanted.verb {
            "update" | "patch" => self.related(node, kind, wanted),
            _ => no("can only get/update/patch this type"),
        }
    }

    fn get(&self, node: &str, kind: Kind, wanted: &Attributes<'_>) -> Decision {
        match (wanted.verb, wanted.subresource) {
            ("get", "") => self.related(node, kind, wanted),
            ("get", _) => no("cannot get subresource"),
            _ => no("can only get individual resources of this type"),
        }
    }

    fn read(&self, node: &str, kind: Kind, wanted: &Attributes<'_>) -> Decision {
        if !matches!(wanted.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !wanted.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if wanted.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, kind, wanted)
    }

    fn account(&self, node: &str, wanted: &Attributes<'_>) -> Decision {
        if (wanted.verb, wanted.subresource) == ("get", "") {
            return self.read(node, Kind::ServiceAccount, wanted);
        }
        if wanted.verb != "create" || wanted.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if wanted.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, wanted)
    }

    fn slice(&self, node: &str, wanted: &Attributes<'_>) -> Decision {
        if !wanted.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match wanted.verb {
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => {
                self.related(node, Kind::ResourceSlice, wanted)
            }
            "watch" | "list" | "deletecollection" if selects(wanted, "spec.nodeName", node) => {
                allow()
            }
            "watch" | "list" | "deletecollection" => no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, \
                 update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, wanted: &Attributes<'_>) -> Decision {
        match (wanted.subresource, wanted.verb) {
            ("", "get") => self.related(node, Kind::Pod, wanted),
            ("", "list" | "watch") if selects(wanted, "spec.nodeName", node) => allow(),
            ("", "list" | "watch") if !wanted.name.is_empty() => {
                self.related(node, Kind::Pod, wanted)
            }
            ("", "list" | "watch") => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                allow()
            }
            _ => Decision::NONE,
        }
    }

    /// Whether a chain of references leads from the object to the node.
    fn related(&self, node: &str, kind: Kind, wanted: &Attributes<'_>) -> Decision {
        if wanted.name.is_empty() {
            return no("No Object name found");
        }
        if let Some(objects) = &self.objects {
            self.graph.refresh(&**objects);
        }
        match self
            .graph
            .leads_to(node, kind, wanted.namespace, wanted.name)
        {
            true => allow(),
            false => no_because(format!(
                "no relationship found between node '{node}' and this object"
            )),
        }
    }
}

fn selects(wanted: &Attributes<'_>, field: &str, value: &str) -> bool {
    let terms = wanted
        .field_selector
        .into_iter()
        .flat_map(|fields| &fields.terms);
    let mut terms = terms.filter(|term| term.field == field && !term.is_negated);
    terms.any(|term| term.value == value)
}

fn lease(node: &str, wanted: &Attributes<'_>) -> Decision {
    match wanted.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a node lease"),
    }
    if wanted.namespace != LEASES {
        return no_because(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    if wanted.verb != "create" && wanted.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    allow()
}

fn csi_node(node: &str, wanted: &Attributes<'_>) -> Decision {
    match wanted.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a CSINode"),
    }
    if !wanted.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if wanted.verb != "create" && wanted.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    allow()
}

fn own_node(node: &str, wanted: &Attributes<'_>) -> Decision {
    match (wanted.subresource, wanted.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") => match wanted.name {
            name if name == node => allow(),
            "" => no_because(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            name => no_because(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
        },
        _ => Decision::NONE,
    }
}

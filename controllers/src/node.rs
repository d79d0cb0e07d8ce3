//! The view of a Node that the controllers share: what any of them reads, and nothing of the images
//! and system details that make most of a Node's bytes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAddress, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// The label that names a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The label that names a node's region.
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// Label of nodes that no load balancer shall send to.
pub const EXCLUDE_BALANCERS_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted of it.
    pub spec: NodeSpec,
    /// What it says of itself.
    pub status: NodeStatus,
}

/// What is wanted of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// The first block of its pods' addresses.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// The blocks of its pods' addresses, at most one per family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// The machine in its cloud.
    #[serde(rename = "providerID")]
    pub provider_id: Option<String>,
    /// What keeps pods away.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Its conditions.
    pub conditions: Vec<NodeCondition>,
    /// Its addresses.
    pub addresses: Vec<NodeAddress>,
    /// What pods may use.
    pub allocatable: BTreeMap<String, Quantity>,
    /// The volumes that it has mounted, or is about to, by their unique names.
    pub volumes_in_use: Vec<String>,
    /// The volumes that it was told are attached.
    pub volumes_attached: Vec<AttachedVolume>,
}

/// A volume that is attached to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachedVolume {
    /// Its unique name.
    pub name: String,
}

client::view!(Node, k8s_openapi::api::core::v1::Node);

impl Node {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// A label's value; none if it is missing or empty.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        labels
            .get(key)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }

    /// Whether it carries a label, whatever its value.
    pub fn has_label(&self, key: &str) -> bool {
        let labels = self.metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key(key))
    }

    /// A condition by its type.
    pub fn condition(&self, kind: &str) -> Option<&NodeCondition> {
        self.status.conditions.iter().find(|c| c.type_ == kind)
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }

    /// Whether it carries a taint of this key and effect.
    pub fn has_taint(&self, key: &str, effect: &str) -> bool {
        let mut taints = self.spec.taints.iter();
        taints.any(|taint| taint.key == key && taint.effect == effect)
    }

    /// Its blocks of pod addresses, however they are written.
    pub fn pod_cidrs(&self) -> Vec<&str> {
        if self.spec.pod_cidrs.is_empty() {
            self.spec.pod_cidr.as_deref().into_iter().collect()
        } else {
            self.spec.pod_cidrs.iter().map(String::as_str).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_what_is_listed_and_drops_the_rest() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {ZONE_LABEL: "a", "empty": ""}},
            "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"],
                     "providerID": "x://1", "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                       "images": [{"names": ["a"], "sizeBytes": 1}],
                       "allocatable": {"cpu": "2"}}
        }))
        .unwrap();
        assert_eq!(node.pod_cidrs(), ["10.0.0.0/24", "fd00::/64"]);
        assert_eq!(node.spec.provider_id.as_deref(), Some("x://1"));
        assert!(node.is_ready() && node.has_taint("k", "NoSchedule"));
        assert_eq!(
            (node.label(ZONE_LABEL), node.label("empty")),
            (Some("a"), None)
        );
        assert!(node.has_label("empty"));
    }
}

//! What a node becomes by what its place tells of its machine.

use std::collections::BTreeMap;

use api::values::ip;
use k8s_openapi::api::core::v1::{NodeAddress, Taint};

use crate::cloud::provider::Instance;
use crate::node::{Node, REGION_LABEL, ZONE_LABEL};
use crate::taint::UNINITIALIZED;

/// The annotation by which an agent says under which addresses it wants to be known.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";
/// Labels that were renamed once: the second ones follow the first ones.
const RENAMED: [(&str, &str); 3] = [
    ("failure-domain.beta.kubernetes.io/zone", ZONE_LABEL),
    ("failure-domain.beta.kubernetes.io/region", REGION_LABEL),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
];

/// What to write to a node that was not initialized.
#[derive(Debug, Default, PartialEq)]
pub struct Initialized {
    /// The id of its machine, if it had none.
    pub provider_id: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// All of its taints.
    pub taints: Vec<Taint>,
}

/// Whether a node waits for its place.
pub fn is_uninitialized(node: &Node) -> bool {
    node.spec
        .taints
        .iter()
        .any(|taint| taint.key == UNINITIALIZED)
}

/// Whether a label is of Kubernetes, so that no place may set it.
fn is_reserved(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    ["kubernetes.io", "k8s.io"].iter().any(|reserved| {
        domain
            .strip_suffix(reserved)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// What a node becomes that was not initialized.
///
/// # Errors
///
/// If its place does not tell enough.
pub fn initialize(node: &Node, instance: &Instance) -> Result<Initialized, String> {
    let name = node.name();
    let has_id = node
        .spec
        .provider_id
        .as_deref()
        .is_some_and(|id| !id.is_empty());
    if !has_id && instance.provider_id.is_empty() {
        return Err(format!(
            "failed to get instance metadata for node {name}: cloud provider does not set node \
             provider ID for node {name}"
        ));
    }
    preferred(node, &instance.addresses).map_err(|error| {
        format!(
            "failed to get node modifiers from cloud provider: provided node ip for node {name:?} \
             is not valid: {error}"
        )
    })?;
    let mut labels = BTreeMap::new();
    for ((old, new), value) in
        RENAMED
            .iter()
            .zip([&instance.zone, &instance.region, &instance.instance_type])
    {
        if !value.is_empty() {
            labels.insert((*old).to_owned(), value.clone());
            labels.insert((*new).to_owned(), value.clone());
        }
    }
    for (key, value) in &instance.labels {
        if !is_reserved(key) && !node.has_label(key) {
            labels.insert(key.clone(), value.clone());
        }
    }
    let taints = node
        .spec
        .taints
        .iter()
        .filter(|taint| taint.key != UNINITIALIZED);
    Ok(Initialized {
        provider_id: (!has_id).then(|| instance.provider_id.clone()),
        labels,
        taints: taints.cloned().collect(),
    })
}

/// The labels of an initialized node that lag behind.
pub fn stale_labels(node: &Node) -> BTreeMap<String, String> {
    let labels = node.metadata.labels.as_ref();
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let stale = RENAMED.iter().filter_map(|(old, new)| {
        let wanted = value(old)?;
        (value(new) != Some(wanted)).then(|| ((*new).to_owned(), wanted.clone()))
    });
    stale.collect()
}

/// The labels of its place that an initialized node lacks.
pub fn missing_labels(node: &Node, instance: &Instance) -> BTreeMap<String, String> {
    let labels = node.metadata.labels.as_ref();
    let has = |key: &str, value: &str| {
        labels
            .and_then(|labels| labels.get(key))
            .is_some_and(|current| current == value)
    };
    let missing = instance
        .labels
        .iter()
        .filter(|(key, value)| !has(key, value));
    missing
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The addresses that a node shall have; none if it has them, or its place does not tell.
pub fn addresses(node: &Node, instance: &Instance) -> Option<Vec<NodeAddress>> {
    if instance.addresses.is_empty() {
        return None;
    }
    let mut wanted = instance.addresses.clone();
    // The agent knows the host name, if the place does not.
    if !wanted.iter().any(|address| address.type_ == "Hostname") {
        let own = node
            .status
            .addresses
            .iter()
            .filter(|address| address.type_ == "Hostname");
        wanted.extend(own.cloned());
    }
    let wanted = preferred(node, &wanted).ok()?;
    (wanted != node.status.addresses).then_some(wanted)
}

/// Addresses with those first that the agent wants to be known by; others of their types are left
/// out.
fn preferred(node: &Node, addresses: &[NodeAddress]) -> Result<Vec<NodeAddress>, String> {
    let Some(provided) = node.annotation(PROVIDED_IP) else {
        return Ok(addresses.to_vec());
    };
    let mut first = Vec::new();
    for text in provided.split(',').map(str::trim) {
        let wanted = ip::parse(text).ok_or_else(|| format!("failed to parse node IP {text:?}"))?;
        let found = addresses
            .iter()
            .filter(|address| ip::parse(&address.address) == Some(wanted));
        let before = first.len();
        first.extend(found.cloned());
        if first.len() == before {
            return Err(format!(
                "failed to get node address from cloud provider that matches ip: {text}"
            ));
        }
    }
    let others = addresses
        .iter()
        .filter(|address| !first.iter().any(|f| f.type_ == address.type_));
    let others: Vec<_> = others.cloned().collect();
    first.extend(others);
    Ok(first)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    fn address(type_: &str, address: &str) -> NodeAddress {
        NodeAddress {
            type_: type_.to_owned(),
            address: address.to_owned(),
        }
    }

    fn instance() -> Instance {
        Instance {
            provider_id: "x://1".to_owned(),
            instance_type: "big".to_owned(),
            zone: "z".to_owned(),
            addresses: vec![
                address("InternalIP", "10.0.0.1"),
                address("InternalIP", "10.0.0.2"),
                address("ExternalIP", "1.1.1.1"),
            ],
            labels: [("rack", "7"), ("x.kubernetes.io/no", "1"), ("mine", "new")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ..Instance::default()
        }
    }

    #[test]
    fn a_node_is_initialized() {
        let node = node(json!({"metadata": {"name": "n", "labels": {"mine": "old"}},
            "spec": {"taints": [{"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}, {"key": "k", "effect": "NoSchedule"}]}}));
        assert!(is_uninitialized(&node));
        let done = initialize(&node, &instance()).unwrap();
        assert_eq!(done.provider_id.as_deref(), Some("x://1"));
        let labels: Vec<_> = done
            .labels
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            labels,
            [
                ("beta.kubernetes.io/instance-type", "big"),
                ("failure-domain.beta.kubernetes.io/zone", "z"),
                ("node.kubernetes.io/instance-type", "big"),
                ("rack", "7"),
                (ZONE_LABEL, "z"),
            ]
        );
        assert_eq!(done.taints.len(), 1);
        let error = initialize(&node, &Instance::default()).unwrap_err();
        assert!(
            error.ends_with("cloud provider does not set node provider ID for node n"),
            "{error}"
        );
    }

    #[test]
    fn addresses_are_the_places_with_the_agents_wish_first() {
        let plain = node(json!({"status": {"addresses": [{"type": "Hostname", "address": "h"}]}}));
        let wanted = addresses(&plain, &instance()).unwrap();
        assert_eq!(wanted.last(), Some(&address("Hostname", "h")));
        assert_eq!(addresses(&plain, &Instance::default()), None);
        let mut same = plain;
        same.status.addresses = wanted;
        assert_eq!(addresses(&same, &instance()), None);
        let wishes = |ip: &str| node(json!({"metadata": {"annotations": {PROVIDED_IP: ip}}}));
        let wanted = addresses(&wishes("10.0.0.2"), &instance()).unwrap();
        assert_eq!(
            wanted,
            [
                address("InternalIP", "10.0.0.2"),
                address("ExternalIP", "1.1.1.1")
            ]
        );
        assert!(initialize(&wishes("10.9.9.9"), &instance()).is_err());
    }

    #[test]
    fn labels_follow() {
        let node = node(
            json!({"metadata": {"labels": {"failure-domain.beta.kubernetes.io/zone": "z", "rack": "7"}}}),
        );
        assert_eq!(
            stale_labels(&node),
            [(ZONE_LABEL.to_owned(), "z".to_owned())].into()
        );
        assert_eq!(missing_labels(&node, &instance()).len(), 2);
    }
}

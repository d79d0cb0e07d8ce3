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

//! A hollow node's own object: what it says of itself, and when it says it again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use super::behaviour::Failure;

/// The version of the kubelet that hollow nodes stand for.
pub const KUBELET_VERSION: &str = "v1.36.2";

/// A node, as far as it concerns itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its metadata.
    pub metadata: ObjectMeta,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

client::view!(Node, k8s_openapi::api::core::v1::Node);

/// What others decide for it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Vec<String>,
}

/// What it reported.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    capacity: BTreeMap<String, String>,
    allocatable: BTreeMap<String, String>,
    conditions: Vec<Condition>,
    addresses: Vec<Address>,
    node_info: NodeInfo,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeInfo {
    kubelet_version: String,
}

impl Node {
    /// What its annotation says is wrong with it.
    pub(super) fn failure(&self) -> Option<Failure> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(Failure::ANNOTATION)?.parse().ok()
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// What a hollow node is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) taints: Vec<Value>,
    /// Quantities by resource; all of it can be allocated.
    pub(super) capacity: BTreeMap<String, String>,
    /// An ID of its own, which its machine would have.
    pub(super) machine: String,
}

/// What to do about the object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The object to create.
    pub(super) create: Option<Value>,
    /// A merge patch of its metadata.
    pub(super) relabel: Option<Value>,
    /// A strategic merge patch of its status subresource.
    pub(super) report: Option<Value>,
}

/// The plan for a node's object. Resources, labels and conditions of others are left alone.
///
/// `is_due` says that it is time for a sign of life.
pub(super) fn plan(
    own: &Identity,
    seen: Option<&Node>,
    failure: Failure,
    is_due: bool,
    now: Timestamp,
) -> Plan {
    let Some(seen) = seen else {
        return Plan {
            create: Some(object(own, failure, now)),
            ..Plan::default()
        };
    };
    let held = seen.metadata.labels.as_ref();
    let missing: BTreeMap<&String, &String> = own
        .labels
        .iter()
        .filter(|(key, value)| held.and_then(|held| held.get(*key)) != Some(value))
        .collect();
    let differs = is_due || differs(own, &seen.status, failure);
    Plan {
        create: None,
        relabel: (!missing.is_empty()).then(|| json!({ "metadata": { "labels": missing } })),
        report: differs.then(|| json!({ "status": status(own, Some(&seen.status), failure, now) })),
    }
}

fn object(own: &Identity, failure: Failure, now: Timestamp) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": own.name,
            "labels": own.labels,
            "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" },
        },
        "spec": { "taints": own.taints },
        "status": status(own, None, failure, now),
    })
}

fn differs(own: &Identity, seen: &Status, failure: Failure) -> bool {
    let has = |held: &BTreeMap<String, String>| own.capacity.keys().all(|k| held.contains_key(k));
    let said = |(kind, status, reason, _): &(&str, &str, &str, &str)| {
        let held = seen.conditions.iter().find(|held| held.kind == *kind);
        held.is_some_and(|held| held.status == *status && held.reason == *reason)
    };
    !has(&seen.capacity)
        || !has(&seen.allocatable)
        || !conditions(failure).iter().all(said)
        || !seen
            .addresses
            .iter()
            .any(|held| held.address == own.address.to_string())
        || seen.node_info.kubelet_version != KUBELET_VERSION
}

/// The conditions of a node: type, status, reason, message.
fn conditions(failure: Failure) -> [(&'static str, &'static str, &'static str, &'static str); 4] {
    let ready = match failure {
        Failure::NotReady => (
            "Ready",
            "False",
            "KubeletNotReady",
            "container runtime is down",
        ),
        _ => (
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status",
        ),
    };
    [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ready,
    ]
}

/// All conditions with the time; the rest only where it is not known yet.
fn status(own: &Identity, seen: Option<&Status>, failure: Failure, now: Timestamp) -> Value {
    let condition = |(kind, status, reason, message)| {
        let held = seen.and_then(|seen| seen.conditions.iter().find(|held| held.kind == kind));
        let mut condition = json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": Time(now),
        });
        if held.is_none_or(|held| held.status != status) {
            condition["lastTransitionTime"] = json!(Time(now));
        }
        condition
    };
    let conditions: Vec<Value> = conditions(failure).map(condition).to_vec();
    let mut status = json!({ "conditions": conditions });
    if seen.is_none_or(|seen| differs(own, seen, failure)) {
        // A patch that names a resource leaves the others as they are.
        status["capacity"] = json!(own.capacity);
        status["allocatable"] = json!(own.capacity);
        status["addresses"] = json!([
            { "type": "InternalIP", "address": own.address.to_string() },
            { "type": "Hostname", "address": own.name },
        ]);
        status["daemonEndpoints"] = json!({ "kubeletEndpoint": { "Port": 10250 } });
        status["nodeInfo"] = node_info(own);
    }
    status
}

fn node_info(own: &Identity) -> Value {
    json!({
        "architecture": architecture(),
        "bootID": own.machine,
        "containerRuntimeVersion": "hollow://1.0",
        "kernelVersion": "6.1.0",
        "kubeProxyVersion": "",
        "kubeletVersion": KUBELET_VERSION,
        "machineID": own.machine,
        "operatingSystem": "linux",
        "osImage": "Hollow node",
        "systemUUID": own.machine,
    })
}

/// The architecture, as Go names it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "n".into(),
            address: "198.18.0.1".parse().unwrap(),
            labels: BTreeMap::from([("kubernetes.io/hostname".into(), "n".into())]),
            taints: Vec::new(),
            capacity: BTreeMap::from([("cpu".into(), "4".into()), ("pods".into(), "110".into())]),
            machine: "m".into(),
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    /// The node as the server has it after it was created.
    fn created() -> Node {
        let plan = plan(&identity(), None, Failure::None, false, now());
        serde_json::from_value(plan.create.unwrap()).unwrap()
    }

    #[test]
    fn one_write_creates_it_complete_and_ready() {
        let node = created();
        assert_eq!(node.metadata.name.as_deref(), Some("n"));
        assert!(!differs(&identity(), &node.status, Failure::None));
        let again = plan(&identity(), Some(&node), Failure::None, false, now());
        assert_eq!(again, Plan::default());
    }

    #[test]
    fn a_sign_of_life_is_small_and_keeps_what_others_wrote() {
        let mut node = created();
        node.status
            .capacity
            .insert("example.com/dongle".into(), "3".into());
        let plan = plan(&identity(), Some(&node), Failure::None, true, now());
        let status = &plan.report.unwrap()["status"];
        assert_eq!(status.as_object().unwrap().len(), 1);
        assert_eq!(status["conditions"].as_array().unwrap().len(), 4);
        assert_eq!(status["conditions"][3].get("lastTransitionTime"), None);
    }

    #[test]
    fn a_node_that_was_given_up_says_that_it_is_there() {
        let mut node = created();
        node.status.conditions[3].status = "Unknown".into();
        node.status.conditions[3].reason = "NodeStatusUnknown".into();
        let plan = plan(&identity(), Some(&node), Failure::None, false, now());
        let ready = &plan.report.unwrap()["status"]["conditions"][3];
        assert_eq!(
            (&ready["status"], &ready["reason"]),
            (&json!("True"), &json!("KubeletReady"))
        );
        assert!(ready.get("lastTransitionTime").is_some());
    }

    #[test]
    fn failures_and_lost_labels_show() {
        let mut node = created();
        let plan_of = |node: &Node, failure| plan(&identity(), Some(node), failure, false, now());
        let ready =
            plan_of(&node, Failure::NotReady).report.unwrap()["status"]["conditions"][3].clone();
        assert_eq!(
            (&ready["status"], &ready["message"]),
            (&json!("False"), &json!("container runtime is down"))
        );
        node.metadata.labels = None;
        let relabel = plan_of(&node, Failure::None).relabel.unwrap();
        assert_eq!(
            relabel,
            json!({ "metadata": { "labels": { "kubernetes.io/hostname": "n" } } })
        );
    }
}

//! The view of a Pod that all controllers share: what any of them reads, in a tenth of the bytes of
//! the whole object. Who needs another field adds it here.

use std::cmp::Ordering;

use client::View;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Deserializer};

/// How costly it is to delete this pod rather than its siblings.
const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: PodSpec,
    /// What its node says.
    pub status: PodStatus,
}

client::view!(Pod, k8s_openapi::api::core::v1::Pod);

/// What is wanted of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to; empty before.
    pub node_name: String,
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: String,
    /// How long it may be active.
    pub active_deadline_seconds: Option<i64>,
    /// How long it gets to stop.
    pub termination_grace_period_seconds: Option<i64>,
    /// Whether it lives in its node's network.
    pub host_network: bool,
    /// Its host name, if not its name.
    pub hostname: String,
    /// The headless service that names it.
    pub subdomain: String,
    /// How many gates keep it from being scheduled.
    #[serde(deserialize_with = "count")]
    pub scheduling_gates: usize,
    /// Its containers.
    pub containers: Vec<Container>,
    /// What runs before its containers, or beside them (sidecars).
    pub init_containers: Vec<Container>,
    /// Those of its volumes that are claims.
    #[serde(deserialize_with = "claims")]
    pub volumes: Vec<ClaimVolume>,
    /// What it requests as a whole, where that is said; in thousandths.
    #[serde(rename = "resources", deserialize_with = "requests")]
    pub requests: Requests,
    /// The claims for devices that it has.
    pub resource_claims: Vec<PodResourceClaim>,
    /// The taints it bears.
    pub tolerations: Vec<Toleration>,
    /// The node that its required affinity names, as a DaemonSet's does before it is bound.
    #[serde(rename = "affinity", deserialize_with = "pinned_node")]
    pub pinned_node: Option<Box<str>>,
}

/// A container as it is wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: Box<str>,
    /// The ports it names.
    pub ports: Vec<ContainerPort>,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<Box<str>>,
    /// What it requests of each resource, in thousandths.
    #[serde(rename = "resources", deserialize_with = "requests")]
    pub requests: Requests,
}

/// Requests of resources, in thousandths.
pub type Requests = Vec<(Box<str>, i64)>;

/// A port of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name; may be empty.
    pub name: Box<str>,
    /// Its number.
    pub container_port: i32,
    /// `TCP` (also if empty), `UDP` or `SCTP`.
    pub protocol: Box<str>,
}

/// A volume that is a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimVolume {
    /// The volume's name.
    pub name: Box<str>,
    /// The claim's name; none for an ephemeral volume, whose claim is named after pod and volume.
    pub claim_name: Option<Box<str>>,
}

/// What a pod's node says of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// How far its life has got.
    pub phase: Phase,
    /// Its conditions.
    pub conditions: Vec<PodCondition>,
    /// Why it is in this phase, in a word.
    pub reason: Option<Box<str>>,
    /// Why it is in this phase.
    pub message: Option<Box<str>>,
    /// Its addresses, the primary one first.
    #[serde(rename = "podIPs", deserialize_with = "addresses")]
    pub pod_ips: Vec<Box<str>>,
    /// When its node took it.
    pub start_time: Option<Time>,
    /// Its containers.
    pub container_statuses: Vec<ContainerStatus>,
    /// Its init containers.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Its ephemeral containers.
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
    /// The claims that were made for it.
    pub resource_claim_statuses: Vec<PodResourceClaimStatus>,
    /// The claim that the scheduler made for its extended resources.
    pub extended_resource_claim_status: Option<ExtendedResourceClaimStatus>,
}

/// A claim for devices that a pod names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodResourceClaim {
    /// What the pod calls it.
    pub name: Box<str>,
    /// The claim, if there is one already.
    pub resource_claim_name: Option<Box<str>>,
    /// What one is to be made from.
    pub resource_claim_template_name: Option<Box<str>>,
}

/// A claim that was made for a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodResourceClaimStatus {
    /// What the pod calls it.
    pub name: Box<str>,
    /// The claim; none if the pod needs none.
    pub resource_claim_name: Option<Box<str>>,
}

/// The claim that the scheduler made for a pod's extended resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtendedResourceClaimStatus {
    /// The claim.
    pub resource_claim_name: Box<str>,
}

/// How far a pod's life has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Phase {
    /// Not said: the pod was not created through an API server.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Accepted; not all containers have started.
    Pending,
    /// Bound, and all containers have started.
    Running,
    /// All containers ended well and stay so.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
    /// Its node is out of reach.
    #[serde(other)]
    Unknown,
}

/// A condition of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    /// Which.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// When that changed.
    pub last_transition_time: Option<Time>,
    /// Why, in a word.
    pub reason: Option<Box<str>>,
}

/// The conditions of a pod that controllers ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum ConditionType {
    /// It is bound to a node.
    PodScheduled,
    /// It may serve.
    #[default]
    Ready,
    /// All its containers are ready.
    ContainersReady,
    /// All its init containers are done.
    Initialized,
    /// It was chosen to be disrupted.
    DisruptionTarget,
    /// Any other.
    Other(Box<str>),
}

impl From<String> for ConditionType {
    fn from(text: String) -> Self {
        match text.as_str() {
            "PodScheduled" => Self::PodScheduled,
            "Ready" => Self::Ready,
            "ContainersReady" => Self::ContainersReady,
            "Initialized" => Self::Initialized,
            "DisruptionTarget" => Self::DisruptionTarget,
            _ => Self::Other(text.into()),
        }
    }
}

impl ConditionType {
    /// The type as objects have it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::PodScheduled => "PodScheduled",
            Self::Ready => "Ready",
            Self::ContainersReady => "ContainersReady",
            Self::Initialized => "Initialized",
            Self::DisruptionTarget => "DisruptionTarget",
            Self::Other(text) => text,
        }
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A container as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: Box<str>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it has started.
    pub started: Option<bool>,
    /// How often it was restarted.
    pub restart_count: i32,
    /// What it does now.
    pub state: ContainerState,
}

/// What a container does; at most one is set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    /// It waits.
    pub waiting: Option<Waiting>,
    /// It runs.
    pub running: Option<Running>,
    /// It has ended.
    pub terminated: Option<Box<Terminated>>,
}

/// Why a container waits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Waiting {
    /// Why, in a word.
    pub reason: Option<Box<str>>,
}

/// Since when a container runs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Running {
    /// Since when.
    pub started_at: Option<Time>,
}

/// How a container ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// With what code.
    pub exit_code: i32,
    /// Why, in a word.
    pub reason: Option<Box<str>>,
    /// When it had started.
    pub started_at: Option<Time>,
    /// When.
    pub finished_at: Option<Time>,
}

impl Pod {
    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }

    /// A condition.
    pub fn condition(&self, type_: &ConditionType) -> Option<&PodCondition> {
        self.status
            .conditions
            .iter()
            .find(|one| one.type_ == *type_)
    }

    /// Whether it may serve.
    pub fn is_ready(&self) -> bool {
        let ready = self.condition(&ConditionType::Ready);
        ready.is_some_and(|ready| ready.status == ConditionStatus::True)
    }

    /// Since when it may serve, if it does.
    pub fn ready_since(&self) -> Option<Timestamp> {
        let ready = self.condition(&ConditionType::Ready)?;
        let since = ready.last_transition_time.as_ref()?;
        (ready.status == ConditionStatus::True).then_some(since.0)
    }

    /// Whether it has been ready for so long that it counts.
    pub fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        let is_ripe = || {
            let since = self.ready_since()?;
            Some(since + SignedDuration::from_secs(min_ready_seconds.into()) <= now)
        };
        self.is_ready() && (min_ready_seconds == 0 || is_ripe() == Some(true))
    }

    /// In how long it will count as available, if it is ready and only time is missing.
    pub fn available_in(&self, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
        if min_ready_seconds <= 0 {
            return None;
        }
        let ripe = self.ready_since()? + SignedDuration::from_secs(min_ready_seconds.into());
        let wait = ripe.duration_since(now);
        wait.is_positive().then_some(wait)
    }

    /// Whether all its containers ended for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether it counts among its controller's replicas.
    pub fn is_active(&self) -> bool {
        !self.is_terminal() && !self.is_deleted()
    }

    /// Whether it is on its way out and its containers may still run.
    pub fn is_terminating(&self) -> bool {
        !self.is_terminal() && self.is_deleted()
    }

    /// Whether any of its containers runs, as far as its node says.
    pub fn has_running_containers(&self) -> bool {
        let all = [
            &self.status.init_container_statuses,
            &self.status.container_statuses,
            &self.status.ephemeral_container_statuses,
        ];
        let is_running =
            |one: &ContainerStatus| one.state.terminated.is_none() && one.state.waiting.is_none();
        all.into_iter().flatten().any(is_running)
    }

    /// What it costs to delete it rather than its siblings; 0 if not said, or not said well.
    pub fn deletion_cost(&self) -> i32 {
        let text = self.annotation(DELETION_COST_ANNOTATION).unwrap_or("0");
        let is_plain = text == "0" || text.starts_with(|c| matches!(c, '-' | '1'..='9'));
        is_plain.then(|| text.parse().ok()).flatten().unwrap_or(0)
    }

    /// The most restarts of any container, and of any sidecar.
    pub fn most_restarts(&self) -> (i32, i32) {
        let regular = self.status.container_statuses.iter();
        let regular = regular.map(|one| one.restart_count).max().unwrap_or(0);
        let is_sidecar = |name: &str| {
            let mut inits = self.spec.init_containers.iter();
            inits
                .any(|init| *init.name == *name && init.restart_policy.as_deref() == Some("Always"))
        };
        let sidecars = self.status.init_container_statuses.iter();
        let sidecars = sidecars.filter(|one| is_sidecar(&one.name));
        let sidecars = sidecars.map(|one| one.restart_count).max().unwrap_or(0);
        (regular, sidecars)
    }

    /// What it requests of a resource, or one of its containers does; in thousandths.
    ///
    /// # Errors
    ///
    /// If a container does not say, or is not there.
    pub fn request(&self, resource: &str, container: Option<&str>) -> Result<i64, String> {
        let named = |requests: &Requests| {
            let found = requests.iter().find(|(name, _)| **name == *resource);
            found.map(|(_, amount)| *amount)
        };
        if container.is_none()
            && let Some(amount) = named(&self.spec.requests)
        {
            return Ok(amount);
        }
        let inits = self.spec.init_containers.iter();
        let sidecars = inits.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        let mut all = self.spec.containers.iter().chain(sidecars);
        let pod = self.name();
        let amount = |one: &Container| {
            let name = &one.name;
            named(&one.requests).ok_or_else(|| {
                format!("missing request for {resource} in container {name} of Pod {pod}")
            })
        };
        match container {
            None => all.map(amount).sum(),
            Some(wanted) => {
                let found = all.find(|one| *one.name == *wanted);
                found
                    .map(amount)
                    .unwrap_or_else(|| Err(format!("container {wanted} not found in Pod {pod}")))
            }
        }
    }

    /// The node that it is on or was made for.
    pub fn target_node(&self) -> Option<&str> {
        match self.spec.node_name.as_str() {
            "" => self.spec.pinned_node.as_deref(),
            name => Some(name),
        }
    }

    /// Older first; by name if they are equally old.
    pub fn by_age(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.metadata, &other.metadata);
        let by_time = a.creation_timestamp.cmp(&b.creation_timestamp);
        by_time.then_with(|| a.name.cmp(&b.name))
    }
}

/// How long a list is.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let all = Vec::<serde::de::IgnoredAny>::deserialize(from)?;
    Ok(all.len())
}

/// The volumes that are claims.
fn claims<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ClaimVolume>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Volume {
        name: Box<str>,
        persistent_volume_claim: Option<Claim>,
        ephemeral: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Claim {
        claim_name: Box<str>,
    }
    let all = Vec::<Volume>::deserialize(from)?;
    let claims = all.into_iter().filter_map(|volume| {
        let claim_name = volume.persistent_volume_claim.map(|claim| claim.claim_name);
        let is_claim = claim_name.is_some() || volume.ephemeral.is_some();
        let name = volume.name;
        is_claim.then_some(ClaimVolume { name, claim_name })
    });
    Ok(claims.collect())
}

/// What is requested, of `{"requests": {..}}`.
fn requests<'de, D: Deserializer<'de>>(from: D) -> Result<Requests, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Resources {
        requests: std::collections::BTreeMap<Box<str>, String>,
    }
    let resources = Option::<Resources>::deserialize(from)?.unwrap_or_default();
    let all = resources.requests.into_iter().filter_map(|(name, amount)| {
        let amount = api::values::quantity::Quantity::parse(&amount).ok()?;
        Some((name, amount.millis()))
    });
    Ok(all.collect())
}

/// The addresses among `[{"ip": ..}, ..]`.
fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Box<str>>, D::Error> {
    #[derive(Deserialize)]
    struct Address {
        #[serde(default)]
        ip: Box<str>,
    }
    let all = Vec::<Address>::deserialize(from)?;
    let all = all.into_iter().map(|one| one.ip);
    Ok(all.filter(|ip| !ip.is_empty()).collect())
}

/// The node that an affinity's required terms name by its name.
fn pinned_node<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<str>>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Affinity {
        node_affinity: NodeAffinity,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct NodeAffinity {
        #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
        required: Required,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Required {
        node_selector_terms: Vec<Term>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Term {
        match_fields: Vec<Field>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Field {
        key: String,
        operator: String,
        values: Vec<Box<str>>,
    }
    let affinity = Option::<Affinity>::deserialize(from)?.unwrap_or_default();
    let terms = affinity.node_affinity.required.node_selector_terms;
    let mut fields = terms.into_iter().flat_map(|term| term.match_fields);
    let field = fields.find(|field| field.key == "metadata.name" && field.operator == "In");
    let values = field.map(|field| field.values).unwrap_or_default();
    Ok(match <[Box<str>; 1]>::try_from(values) {
        Ok([node]) => Some(node),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_keeps_what_is_listed_and_drops_the_rest() {
        let pod = pod(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "b"}},
            "spec": {
                "schedulingGates": [{"name": "one"}, {"name": "two"}],
                "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80, "name": "web"}]}],
                "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data-p"}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "config", "configMap": {"name": "x"}},
                ],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [
                        {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}},
            },
            "status": {
                "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": "True",
                                "lastTransitionTime": "2026-01-01T00:00:10Z"},
                               {"type": "my/gate", "status": "False"}],
                "containerStatuses": [{"name": "c", "restartCount": 2, "ready": true,
                    "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}],
                "initContainerStatuses": [{"name": "i", "restartCount": 9},
                                          {"name": "s", "restartCount": 4}],
            }
        }));
        assert_eq!(pod.spec.scheduling_gates, 2);
        let claims: Vec<_> = pod
            .spec
            .volumes
            .iter()
            .map(|v| (&*v.name, v.claim_name.as_deref()))
            .collect();
        assert_eq!(claims, [("data", Some("data-p")), ("scratch", None)]);
        assert_eq!(pod.target_node(), Some("n1"));
        assert_eq!(pod.status.pod_ips, ["10.0.0.1".into(), "fd00::1".into()]);
        assert_eq!(pod.most_restarts(), (2, 4));
        let ended = pod.status.container_statuses[0].state.terminated.as_ref();
        assert_eq!(ended.unwrap().exit_code, 3);
        assert_eq!(pod.status.conditions[1].type_.as_str(), "my/gate");
        assert!(pod.is_active() && pod.is_ready());
        let at = |second| format!("2026-01-01T00:00:{second}Z").parse().unwrap();
        assert!(pod.is_available(0, at(10)) && pod.is_available(5, at(15)));
        assert!(!pod.is_available(5, at(14)));
        assert_eq!(
            pod.available_in(5, at(14)),
            Some(SignedDuration::from_secs(1))
        );
        assert_eq!(pod.available_in(5, at(15)), None);
    }

    #[test]
    fn a_bare_pod_is_a_pod() {
        let bare = pod(json!({"metadata": {"name": "p"}}));
        assert_eq!(bare.status.phase, Phase::Unset);
        assert!(!bare.is_ready() && bare.target_node().is_none());
        let odd = pod(json!({"status": {"phase": "Odd"}}));
        assert_eq!(odd.status.phase, Phase::Unknown);
    }

    #[test]
    fn costs_that_are_no_plain_numbers_are_none() {
        let costs = ["5", "-7", "0", "+5", "007", "x", ""];
        let costs = costs.map(|cost| {
            pod(json!({"metadata": {"annotations": {DELETION_COST_ANNOTATION: cost}}}))
                .deletion_cost()
        });
        assert_eq!(costs, [5, -7, 0, 0, 0, 0, 0]);
    }
}

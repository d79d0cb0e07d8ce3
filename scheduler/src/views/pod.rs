//! Pods, with what they ask for summed up.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::{Requests, name, namespace, trim};

/// What scoring assumes of a container that does not say how much cpu it wants: 0.1 cores.
const DEFAULT_MILLI_CPU: i64 = 100;
/// And how much memory.
const DEFAULT_MEMORY: i64 = 200 << 20;

/// A pod as the scheduler sees it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Raw")]
pub struct Pod {
    /// Without what no plugin reads.
    pub metadata: ObjectMeta,
    /// The node it is bound to, empty while it is pending.
    pub node_name: String,
    /// status.nominatedNodeName, empty if there is none.
    pub nominated_node: String,
    /// Which profile schedules it.
    pub scheduler_name: String,
    /// spec.priority, 0 if it is not set.
    pub priority: i32,
    /// spec.preemptionPolicy is Never.
    pub never_preempts: bool,
    /// Succeeded or Failed: it uses nothing any more.
    pub is_terminal: bool,
    /// When its node began to run it.
    pub start_time: Option<Time>,
    /// What it occupies: containers, sidecars, init containers, overhead, pod-level resources, and
    /// while it is resized whatever is larger.
    pub requests: Requests,
    /// cpu and memory as scoring counts them: with defaults for containers that name none.
    pub assumed: (i64, i64),
    /// Ports of the node.
    pub ports: Box<[HostPort]>,
    /// Node, pod and anti-affinity.
    pub affinity: Option<Box<core::Affinity>>,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it tolerates.
    pub tolerations: Box<[core::Toleration]>,
    /// Its own spread constraints.
    pub spread: Box<[core::TopologySpreadConstraint]>,
    /// Names of gates that keep it from being scheduled.
    pub gates: Box<[String]>,
    /// Volumes that matter for placement.
    pub volumes: Box<[Volume]>,
    /// Dynamic resources that it uses.
    pub claims: Box<[Claim]>,
    /// Images of containers, init containers and image volumes.
    pub images: Box<[String]>,
    /// How many containers and init containers it has.
    pub containers: usize,
    /// The condition PodScheduled, while it is not True.
    pub scheduled: Option<Box<Condition>>,
    /// Being deleted because the scheduler preempted it.
    pub is_preempted: bool,
}

/// A port on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// An address of the node; empty or 0.0.0.0 for all.
    pub ip: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had at once.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let is_any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (is_any(&self.ip) || is_any(&other.ip) || self.ip == other.ip)
    }
}

/// A volume that matters for placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volume {
    /// A claim of the pod's namespace.
    Claim(String),
    /// A claim that is made for the pod, by its name.
    Ephemeral(String),
    /// A driver's volume without a claim.
    Csi(String),
    /// A disk that not everybody can use at once.
    Disk(Disk),
}

impl Volume {
    /// The name of the claim behind it and whether it is the pod's own.
    pub fn claim(&self) -> Option<(&str, bool)> {
        match self {
            Volume::Claim(claim) => Some((claim, false)),
            Volume::Ephemeral(claim) => Some((claim, true)),
            Volume::Csi(_) | Volume::Disk(_) => None,
        }
    }
}

/// A disk of the kinds that exclude each other on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// gcePersistentDisk.
    Gce {
        /// The disk.
        name: String,
        /// Mounted without writing.
        read_only: bool,
    },
    /// awsElasticBlockStore.
    Aws {
        /// The volume.
        id: String,
    },
    /// iscsi.
    Iscsi {
        /// The target.
        iqn: String,
        /// Mounted without writing.
        read_only: bool,
    },
    /// rbd.
    Rbd {
        /// The Ceph cluster.
        monitors: Vec<String>,
        /// Its pool.
        pool: String,
        /// The image in it.
        image: String,
        /// Mounted without writing.
        read_only: bool,
    },
}

/// A reference to a ResourceClaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name within the pod.
    pub name: String,
    /// The object; None until the controller made it from a template.
    pub claim: Option<String>,
    /// Made for this pod.
    pub is_own: bool,
    /// The status says that none is needed.
    pub is_unneeded: bool,
}

/// A condition as last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// True, False or Unknown.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

client::view!(Pod, core::Pod);

impl Pod {
    /// Its unique id.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.metadata)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        namespace(&self.metadata)
    }

    /// Whether a node has been chosen and told.
    pub fn is_assigned(&self) -> bool {
        !self.node_name.is_empty()
    }

    /// Whether it takes room on a node, if only by being nominated for it.
    pub fn occupies_node(&self) -> bool {
        self.is_assigned() || !self.nominated_node.is_empty()
    }

    /// Whether it is on its way out.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Its labels.
    pub fn labels(&self) -> impl Iterator<Item = (&String, &String)> {
        self.metadata.labels.iter().flatten()
    }

    /// Terms that pods near it must fulfil.
    pub fn required_affinity(&self) -> &[core::PodAffinityTerm] {
        let affinity = self.affinity.as_ref();
        let of_pods = affinity.and_then(|one| one.pod_affinity.as_ref());
        let terms = of_pods.and_then(|one| {
            one.required_during_scheduling_ignored_during_execution
                .as_deref()
        });
        terms.unwrap_or_default()
    }

    /// Terms that no pod near it may fulfil.
    pub fn required_anti_affinity(&self) -> &[core::PodAffinityTerm] {
        let affinity = self.affinity.as_ref();
        let of_pods = affinity.and_then(|one| one.pod_anti_affinity.as_ref());
        let terms = of_pods.and_then(|one| {
            one.required_during_scheduling_ignored_during_execution
                .as_deref()
        });
        terms.unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: String,
    scheduler_name: String,
    priority: Option<i32>,
    preemption_policy: Option<String>,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
    resources: Option<RawResources>,
    overhead: BTreeMap<String, Quantity>,
    affinity: Option<Box<core::Affinity>>,
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<core::Toleration>,
    topology_spread_constraints: Vec<core::TopologySpreadConstraint>,
    scheduling_gates: Vec<core::PodSchedulingGate>,
    volumes: Vec<RawVolume>,
    resource_claims: Vec<core::PodResourceClaim>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    name: String,
    image: String,
    restart_policy: Option<String>,
    resources: RawResources,
    ports: Vec<RawPort>,
}

impl RawContainer {
    fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResources {
    requests: BTreeMap<String, Quantity>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPort {
    host_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawVolume {
    name: String,
    persistent_volume_claim: Option<RawClaimVolume>,
    ephemeral: Option<serde::de::IgnoredAny>,
    image: Option<RawImage>,
    csi: Option<RawCsi>,
    gce_persistent_disk: Option<RawGce>,
    aws_elastic_block_store: Option<RawAws>,
    iscsi: Option<RawIscsi>,
    rbd: Option<RawRbd>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimVolume {
    claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawImage {
    reference: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCsi {
    driver: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawGce {
    pd_name: String,
    read_only: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawAws {
    #[serde(rename = "volumeID")]
    volume_id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawIscsi {
    iqn: String,
    read_only: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawRbd {
    monitors: Vec<String>,
    pool: String,
    image: String,
    read_only: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: String,
    nominated_node_name: String,
    start_time: Option<Time>,
    conditions: Vec<RawCondition>,
    container_statuses: Vec<RawContainerStatus>,
    init_container_statuses: Vec<RawContainerStatus>,
    resources: Option<RawResources>,
    allocated_resources: BTreeMap<String, Quantity>,
    resource_claim_statuses: Vec<core::PodResourceClaimStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCondition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawContainerStatus {
    name: String,
    resources: Option<RawResources>,
    allocated_resources: BTreeMap<String, Quantity>,
}

impl From<Raw> for Pod {
    fn from(mut raw: Raw) -> Self {
        trim(&mut raw.metadata);
        raw.metadata.annotations = None;
        let requests = requests(&raw, false);
        let with_defaults = self::requests(&raw, true);
        let condition = |of: &str| raw.status.conditions.iter().find(|one| one.r#type == of);
        let scheduled = condition("PodScheduled").filter(|one| one.status != "True");
        let is_preempted = raw.metadata.deletion_timestamp.is_some()
            && condition("DisruptionTarget")
                .is_some_and(|one| one.status == "True" && one.reason == "PreemptionByScheduler");
        let (spec, is_pending) = (&raw.spec, raw.spec.node_name.is_empty());
        let images = || {
            let containers = spec.init_containers.iter().chain(&spec.containers);
            let volumes = spec.volumes.iter().filter_map(|one| one.image.as_ref());
            containers
                .map(|one| one.image.clone())
                .chain(volumes.map(|one| one.reference.clone()))
                .collect()
        };
        Pod {
            ports: ports(spec),
            volumes: volumes(name(&raw.metadata), spec),
            claims: claims(&raw),
            // Only choosing a node needs them.
            images: if is_pending { images() } else { Box::default() },
            containers: spec.init_containers.len() + spec.containers.len(),
            scheduled: scheduled.map(|one| {
                Box::new(Condition {
                    status: one.status.clone(),
                    reason: one.reason.clone(),
                    message: one.message.clone(),
                })
            }),
            is_preempted,
            requests,
            assumed: (with_defaults.cpu, with_defaults.memory),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            is_terminal: matches!(&*raw.status.phase, "Succeeded" | "Failed"),
            gates: spec
                .scheduling_gates
                .iter()
                .map(|gate| gate.name.clone())
                .collect(),
            metadata: raw.metadata,
            node_name: raw.spec.node_name,
            nominated_node: raw.status.nominated_node_name,
            scheduler_name: raw.spec.scheduler_name,
            start_time: raw.status.start_time,
            affinity: raw.spec.affinity,
            node_selector: raw.spec.node_selector,
            tolerations: raw.spec.tolerations.into(),
            spread: raw.spec.topology_spread_constraints.into(),
        }
    }
}

fn ports(spec: &RawSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().filter(|one| one.is_sidecar());
    sidecars
        .chain(&spec.containers)
        .flat_map(|container| &container.ports)
        .filter(|port| port.host_port > 0)
        .map(|port| HostPort {
            ip: port.host_ip.clone(),
            protocol: match &*port.protocol {
                "" => "TCP".to_string(),
                protocol => protocol.to_string(),
            },
            port: port.host_port,
        })
        .collect()
}

fn volumes(pod: &str, spec: &RawSpec) -> Box<[Volume]> {
    let known = spec.volumes.iter().filter_map(|volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(Volume::Claim(claim.claim_name.clone()));
        }
        if volume.ephemeral.is_some() {
            return Some(Volume::Ephemeral(format!("{pod}-{}", volume.name)));
        }
        if let Some(csi) = &volume.csi {
            return Some(Volume::Csi(csi.driver.clone()));
        }
        disk(volume).map(Volume::Disk)
    });
    known.collect()
}

fn disk(volume: &RawVolume) -> Option<Disk> {
    if let Some(gce) = &volume.gce_persistent_disk {
        let (name, read_only) = (gce.pd_name.clone(), gce.read_only);
        return Some(Disk::Gce { name, read_only });
    }
    if let Some(aws) = &volume.aws_elastic_block_store {
        let id = aws.volume_id.clone();
        return Some(Disk::Aws { id });
    }
    if let Some(iscsi) = &volume.iscsi {
        let (iqn, read_only) = (iscsi.iqn.clone(), iscsi.read_only);
        return Some(Disk::Iscsi { iqn, read_only });
    }
    volume.rbd.as_ref().map(|rbd| Disk::Rbd {
        monitors: rbd.monitors.clone(),
        pool: rbd.pool.clone(),
        image: rbd.image.clone(),
        read_only: rbd.read_only,
    })
}

fn claims(raw: &Raw) -> Box<[Claim]> {
    let of = |claim: &core::PodResourceClaim| {
        let statuses = &raw.status.resource_claim_statuses;
        let status = statuses.iter().find(|one| one.name == claim.name);
        let made = status.and_then(|status| status.resource_claim_name.clone());
        Claim {
            name: claim.name.clone(),
            is_own: claim.resource_claim_template_name.is_some(),
            is_unneeded: claim.resource_claim_name.is_none() && status.is_some() && made.is_none(),
            claim: claim.resource_claim_name.clone().or(made),
        }
    };
    raw.spec.resource_claims.iter().map(of).collect()
}

/// The sum over containers and init containers, replaced by pod-level resources where they are
/// set, plus overhead. `with_defaults` counts what containers leave unsaid as scoring does.
fn requests(raw: &Raw, with_defaults: bool) -> Requests {
    let of = |container: &RawContainer, may_be_resized: bool| {
        let mut requests = Requests::of(&container.resources.requests);
        if may_be_resized {
            resized(raw, container, &mut requests);
        }
        if with_defaults {
            let known = &container.resources.requests;
            if !known.contains_key("cpu") {
                requests.cpu = requests.cpu.max(DEFAULT_MILLI_CPU);
            }
            if !known.contains_key("memory") {
                requests.memory = requests.memory.max(DEFAULT_MEMORY);
            }
        }
        requests
    };
    let mut total = Requests::default();
    for container in &raw.spec.containers {
        total.add(&of(container, true));
    }
    // An init container runs beside the sidecars started before it, and the pod needs as much as
    // the hungriest moment does.
    let (mut sidecars, mut starting) = (Requests::default(), Requests::default());
    for container in &raw.spec.init_containers {
        let mut requests = of(container, container.is_sidecar());
        if container.is_sidecar() {
            total.add(&requests);
            sidecars.add(&requests);
            starting.max(&sidecars);
        } else {
            requests.add(&sidecars);
            starting.max(&requests);
        }
    }
    total.max(&starting);
    pod_level(raw, &mut total);
    total.add(&Requests::of(&raw.spec.overhead));
    total
}

fn is_infeasible(raw: &Raw) -> bool {
    let pending = raw
        .status
        .conditions
        .iter()
        .find(|one| one.r#type == "PodResizePending");
    pending.is_some_and(|one| one.reason == "Infeasible")
}

/// While a container is resized it counts with the most of what is wanted, promised and in force.
fn resized(raw: &Raw, container: &RawContainer, requests: &mut Requests) {
    let status = &raw.status;
    let statuses = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    let found = statuses.into_iter().find(|one| one.name == container.name);
    let Some((status, resources)) = found.and_then(|one| one.resources.as_ref().map(|r| (one, r)))
    else {
        return;
    };
    if is_infeasible(raw) {
        *requests = Requests::default();
    }
    requests.max(&Requests::of(&resources.requests));
    requests.max(&Requests::of(&status.allocated_resources));
}

/// Pod-level requests stand for the sum of the containers', resource by resource.
fn pod_level(raw: &Raw, total: &mut Requests) {
    let Some(resources) = &raw.spec.resources else {
        return;
    };
    let wanted = Requests::of(&resources.requests);
    let mut effective = wanted.clone();
    if let Some(actual) = &raw.status.resources {
        if is_infeasible(raw) {
            effective = Requests::default();
        }
        effective.max(&Requests::of(&actual.requests));
        effective.max(&Requests::of(&raw.status.allocated_resources));
    }
    for name in resources.requests.keys() {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            total.set(name, effective.get(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn pod(spec: serde_json::Value, status: serde_json::Value) -> Pod {
        from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": status})).unwrap()
    }

    fn cpu(amount: &str) -> serde_json::Value {
        json!({"requests": {"cpu": amount}})
    }

    #[test]
    fn the_hungriest_moment_counts() {
        let pod = pod(
            json!({
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "resources": cpu("1")},
                    {"name": "init", "resources": cpu("3")},
                ],
                "containers": [{"name": "a", "resources": cpu("500m")}, {"name": "b", "resources": cpu("1")}],
                "overhead": {"cpu": "100m", "memory": "1Mi"},
            }),
            json!({}),
        );
        assert_eq!(
            pod.requests.cpu, 4100,
            "init beside the sidecar, and overhead"
        );
        assert_eq!(pod.requests.memory, 1 << 20);
    }

    #[test]
    fn pod_level_resources_stand_for_the_containers() {
        let pod = pod(
            json!({
                "resources": {"requests": {"cpu": "2"}},
                "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            }),
            json!({}),
        );
        assert_eq!((pod.requests.cpu, pod.requests.memory), (2000, 1 << 30));
    }

    #[test]
    fn a_resize_counts_the_larger_amount_unless_it_is_infeasible() {
        let spec = json!({"containers": [{"name": "a", "resources": cpu("2")}]});
        let status = |conditions: serde_json::Value| {
            json!({"conditions": conditions, "containerStatuses": [{
                "name": "a", "resources": cpu("1"), "allocatedResources": {"cpu": "1500m"}}]})
        };
        assert_eq!(pod(spec.clone(), status(json!([]))).requests.cpu, 2000);
        let infeasible = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(pod(spec, status(infeasible)).requests.cpu, 1500);
    }

    #[test]
    fn scoring_assumes_something_of_containers_that_say_nothing() {
        let pod = pod(
            json!({"containers": [{"name": "a"}, {"name": "b", "resources": cpu("1")}]}),
            json!({}),
        );
        assert_eq!(
            pod.requests,
            Requests {
                cpu: 1000,
                ..Requests::default()
            }
        );
        assert_eq!(pod.assumed, (1100, 400 << 20));
    }

    #[test]
    fn what_matters_for_placement_is_kept() {
        let pod = pod(
            json!({
                "containers": [{"name": "a", "image": "x", "ports": [
                    {"containerPort": 1}, {"hostPort": 80, "protocol": "UDP"}]}],
                "volumes": [
                    {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "g", "gcePersistentDisk": {"pdName": "d", "readOnly": true}},
                    {"name": "x", "emptyDir": {}},
                ],
                "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}],
            }),
            json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-1"}]}),
        );
        assert_eq!(pod.ports.len(), 1);
        assert_eq!(pod.volumes.len(), 3);
        assert_eq!(pod.volumes[0].claim(), Some(("p-e", true)));
        assert_eq!(pod.claims[0].claim.as_deref(), Some("p-gpu-1"));
        assert_eq!(&*pod.images, ["x"]);
    }

    #[test]
    fn ports_conflict_across_wildcards() {
        let port = |ip: &str| HostPort {
            ip: ip.into(),
            protocol: "TCP".into(),
            port: 80,
        };
        assert!(port("").conflicts(&port("10.0.0.1")));
        assert!(port("10.0.0.1").conflicts(&port("0.0.0.0")));
        assert!(!port("10.0.0.1").conflicts(&port("10.0.0.2")));
    }
}

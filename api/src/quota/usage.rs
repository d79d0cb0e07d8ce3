//! What objects use of what quotas count.

use crate::values::quantity::Quantity;
use crate::values::time::{self, Moment, Precision};

use super::amounts::{self, Amounts};
use super::scopes;
use super::walk::{plain_containers, quantity};
use crate::at::At;

/// What quotas counted before there were counts of all resources.
const ALIASES: [&str; 4] = [
    "configmaps",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
];
/// What pods use, besides their number.
const POD_RESOURCES: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// What every container must ask for if a quota counts it.
const REQUIRED: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];
const SERVICES: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];
const CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// The annotation that named a claim's storage class before the field did.
pub const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const BY_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const BY_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// As many devices as a claim for all of them may get.
const DEVICES_MAX: i64 = 32;

/// How the objects of a resource are counted.
pub struct Kind {
    what: What,
    /// `count/pods`, `count/deployments.apps`.
    count: String,
    alias: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Pods,
    Services,
    Claims,
    ResourceClaims,
    /// Nothing but their number.
    Others,
}

impl Kind {
    /// How the objects of a resource are counted; none if they are not.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        if resource == "events" {
            return None;
        }
        let what = match (group, resource) {
            ("", "pods") => What::Pods,
            ("", "services") => What::Services,
            ("", "persistentvolumeclaims") => What::Claims,
            ("resource.k8s.io", "resourceclaims") => What::ResourceClaims,
            _ => What::Others,
        };
        let count = match group {
            "" => format!("count/{resource}"),
            group => format!("count/{resource}.{group}"),
        };
        let alias = ALIASES
            .iter()
            .find(|known| group.is_empty() && **known == resource);
        Some(Self {
            what,
            count,
            alias: alias.copied(),
        })
    }

    /// Whether a write may change what an object uses: of the object, or of a part of it. An object
    /// of most kinds counts as long as it is there.
    pub fn is_changed_by(&self, part: &str, new: At<'_>, old: Option<At<'_>>) -> bool {
        match (self.what, part) {
            (What::Pods, "") => {
                old.is_none_or(|old| scopes::is_terminating(old) != scopes::is_terminating(new))
            }
            (What::Pods, part) => part == "resize",
            (What::Services | What::Claims | What::ResourceClaims, "") => true,
            (What::Claims, part) => part == "status",
            (What::Others, "") => old.is_none(),
            _ => false,
        }
    }

    /// Whether only the number of objects counts.
    pub fn is_plain(&self) -> bool {
        self.what == What::Others
    }

    /// Whether it counts towards an entry of a quota.
    pub fn counts(&self, name: &str) -> bool {
        if name == self.count || self.alias == Some(name) {
            return true;
        }
        match self.what {
            What::Pods => {
                POD_RESOURCES.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || name.strip_prefix("requests.").is_some_and(is_extended)
            }
            What::Services => SERVICES.contains(&name),
            What::Claims => {
                let by_class = name.split_once(BY_STORAGE_CLASS).map(|(_, what)| what);
                CLAIMS.contains(&by_class.unwrap_or(name))
            }
            What::ResourceClaims => name.ends_with(BY_DEVICE_CLASS),
            What::Others => false,
        }
    }

    /// Whether a quota counts any of it.
    pub fn concerns(&self, quota: At<'_>) -> bool {
        let hard = quota.path(&["status", "hard"]);
        hard.items().any(|at| self.counts(at.key()))
    }

    /// Whether a quota counts an object.
    pub fn matches(&self, quota: At<'_>, object: At<'_>) -> bool {
        let matches: scopes::Matches = match self.what {
            What::Pods => scopes::pod,
            What::Claims => scopes::claim,
            _ => |_, _| false,
        };
        scopes::all(quota, |scope| matches(scope, object))
    }

    /// What an object does not say of what it must, in words.
    pub fn missing(&self, restricted: &[&str], object: At<'_>) -> Option<String> {
        let spec = object.get("spec");
        let resources = spec.get("resources");
        let says_itself = ["requests", "limits"].iter().any(|which| {
            resources
                .get(which)
                .items()
                .any(|at| amounts::is_of_pods(at.key()))
        });
        if self.what != What::Pods || says_itself {
            return None;
        }
        let mut parts = Vec::new();
        for required in REQUIRED.iter().filter(|name| restricted.contains(name)) {
            let lacks = |container: &At<'_>| container_usage(*container).get(required).is_none();
            let lacking = plain_containers(spec).filter(lacks);
            let mut names: Vec<&str> = lacking.map(|at| at.get("name").str()).collect();
            names.sort_unstable();
            names.dedup();
            if !names.is_empty() {
                parts.push(format!("{required} for: {}", names.join(",")));
            }
        }
        (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
    }

    /// What an object uses.
    pub fn usage(&self, object: At<'_>, now: Moment) -> Amounts {
        let mut used = Amounts::default();
        used.set(&*self.count, Quantity::from_units(1));
        if let Some(alias) = self.alias {
            used.set(alias, Quantity::from_units(1));
        }
        match self.what {
            What::Pods => used.add(&of_pod(object, now)),
            What::Services => used.add(&of_service(object.get("spec"))),
            What::Claims => used.add(&of_claim(object)),
            What::ResourceClaims => used.add(&of_resource_claim(object.get("spec"))),
            What::Others => {}
        }
        used
    }
}

/// The storage class of a claim: an annotation was there before the field.
pub fn class_of(claim: At<'_>) -> &str {
    let annotations = claim.path(&["metadata", "annotations"]);
    match annotations.entry(OLD_CLASS) {
        Some(class) => class.str(),
        None => claim.path(&["spec", "storageClassName"]).str(),
    }
}

/// Not one of Kubernetes' own resources.
fn is_extended(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    !is_native || name.starts_with("deviceclass.resource.kubernetes.io/")
}

fn container_usage(container: At<'_>) -> Amounts {
    let of = |which| Amounts::read(container.path(&["resources", which]));
    named(&of("requests"), &of("limits"))
}

/// Requests and limits under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::default();
    used.set("pods", Quantity::from_units(1));
    for (name, amount) in &requests.0 {
        let is_plain = matches!(&**name, "cpu" | "memory" | "ephemeral-storage");
        if is_plain || name.starts_with("hugepages-") {
            used.set(name, amount.clone());
        }
        if is_plain || name.starts_with("hugepages-") || is_extended(name) {
            used.set(format!("requests.{name}"), amount.clone());
        }
    }
    for (name, amount) in &limits.0 {
        if matches!(&**name, "cpu" | "memory" | "ephemeral-storage") {
            used.set(format!("limits.{name}"), amount.clone());
        }
    }
    used
}

fn of_pod(pod: At<'_>, now: Moment) -> Amounts {
    if !still_uses(pod, now) {
        return Amounts::default();
    }
    let spec = pod.get("spec");
    let overhead = Amounts::read(spec.get("overhead"));
    let mut requests = amounts::of_pod(spec, "requests");
    requests.add(&overhead);
    let mut limits = amounts::of_pod(spec, "limits");
    limits.add(&overhead.only(|name| limits.get(name).is_some()));
    named(&requests, &limits)
}

/// A pod that has ended, or should have, holds nothing.
fn still_uses(pod: At<'_>, now: Moment) -> bool {
    if matches!(pod.path(&["status", "phase"]).str(), "Failed" | "Succeeded") {
        return false;
    }
    let metadata = pod.get("metadata");
    let grace = metadata.get("deletionGracePeriodSeconds").opt_int();
    let end = time::parse(metadata.get("deletionTimestamp").str(), Precision::Seconds);
    match (end, grace) {
        (Ok(end), Some(grace)) => now.seconds <= end.seconds.saturating_add(grace),
        _ => true,
    }
}

fn of_service(spec: At<'_>) -> Amounts {
    let ports = spec.get("ports");
    let count = |all: bool| {
        let counted = ports
            .items()
            .filter(|at| all || at.get("nodePort").int() != 0);
        i64::try_from(counted.count()).unwrap_or(i64::MAX)
    };
    let (node_ports, balancers) = match spec.get("type").str() {
        "NodePort" => (count(true), 0),
        "LoadBalancer" => {
            let allocates = spec.get("allocateLoadBalancerNodePorts").opt_flag();
            (count(allocates != Some(false)), 1)
        }
        _ => (0, 0),
    };
    let mut used = Amounts::default();
    used.set("services", Quantity::from_units(1));
    used.set("services.nodeports", Quantity::from_units(node_ports));
    used.set("services.loadbalancers", Quantity::from_units(balancers));
    used
}

fn of_claim(claim: At<'_>) -> Amounts {
    let mut used = Amounts::default();
    used.set("persistentvolumeclaims", Quantity::from_units(1));
    let asked = claim
        .path(&["spec", "resources", "requests"])
        .get("storage");
    if asked.is_set() {
        let allocated = quantity(claim.path(&["status", "allocatedResources"]).get("storage"));
        used.set("requests.storage", quantity(asked).max(allocated));
    }
    let class = class_of(claim);
    if !class.is_empty() {
        for (name, amount) in used.clone().0 {
            used.set(format!("{class}{BY_STORAGE_CLASS}{name}"), amount);
        }
    }
    used
}

fn of_resource_claim(spec: At<'_>) -> Amounts {
    let mut used = Amounts::default();
    for request in spec.path(&["devices", "requests"]).items() {
        let mut most = Amounts::default();
        let either = request.get("firstAvailable").items();
        for one in either.chain(
            [request.get("exactly")]
                .into_iter()
                .filter(|at| at.is_set()),
        ) {
            let devices = match one.get("allocationMode").str() {
                "ExactCount" => one.get("count").int(),
                "All" => DEVICES_MAX,
                _ => 0,
            };
            let name = format!("{}{BY_DEVICE_CLASS}", one.get("deviceClassName").str());
            let mut amount = Amounts::default();
            amount.set(name, Quantity::from_units(devices));
            most.raise(&amount);
        }
        used.add(&most);
    }
    used
}

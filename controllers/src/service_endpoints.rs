//! What the controllers of Endpoints and EndpointSlices share: which pods a Service has, at which
//! ports, when their change was triggered, and how endpoints are told apart.

pub mod slice_tracker;
pub mod trigger_time;

use std::collections::BTreeMap;

use api::values::ip;
use client::View;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::Pod;

/// The label of a slice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The label of a slice that names the controller that manages it.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// The label of what belongs to a Service without a cluster IP.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The annotation that says when the change happened that led to an object.
pub const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// The annotation of an Endpoints or ConfigMap that is a leader's lock.
pub const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// The address family of an IPv4 slice.
pub const IPV4: &str = "IPv4";
/// The address family of an IPv6 slice.
pub const IPV6: &str = "IPv6";

/// Labels or annotations.
pub type Strings = BTreeMap<String, String>;

/// Labels or annotations of an object, empty if it has none.
pub fn strings(of: &Option<Strings>) -> &Strings {
    static NONE: Strings = Strings::new();
    of.as_ref().unwrap_or(&NONE)
}

/// The name of an object.
pub fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// The namespace of an object.
pub fn namespace_of(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

/// The spec of a Service, which the API server always stores.
pub fn spec_of(service: &Service) -> &ServiceSpec {
    static NONE: std::sync::LazyLock<ServiceSpec> = std::sync::LazyLock::new(Default::default);
    service.spec.as_ref().unwrap_or(&NONE)
}

/// Whether a Service has an address of its own.
pub fn has_cluster_ip(service: &Service) -> bool {
    let address = spec_of(service).cluster_ip.as_deref().unwrap_or_default();
    !address.is_empty() && address != "None"
}

/// Whether the endpoint controllers make endpoints for a Service.
pub fn is_selecting(service: &Service) -> bool {
    let spec = spec_of(service);
    spec.selector.is_some() && spec.type_.as_deref() != Some("ExternalName")
}

/// Whether a Service selects pods with these labels; an empty selector selects all.
pub fn selects(service: &Service, labels: &Strings) -> bool {
    let selector = spec_of(service).selector.as_ref();
    selector.is_some_and(|selector| selector.iter().all(|(k, v)| labels.get(k) == Some(v)))
}

/// What a change of a pod can mean to Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodChange {
    /// To none.
    Nothing,
    /// To those that select exactly one of the two versions.
    Labels,
    /// To those that select any of the two versions.
    Endpoint,
}

impl PodChange {
    /// Compares two versions of a pod, either of which may be missing.
    pub fn between(old: Option<&Pod>, new: Option<&Pod>) -> PodChange {
        let (Some(old), Some(new)) = (old, new) else {
            return PodChange::Endpoint;
        };
        if old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
            || old.is_ready() != new.is_ready()
            || old.status.pod_ips != new.status.pod_ips
            || old.is_terminal() != new.is_terminal()
        {
            return PodChange::Endpoint;
        }
        let is_renamed =
            old.spec.hostname != new.spec.hostname || old.spec.subdomain != new.spec.subdomain;
        if is_renamed {
            PodChange::Endpoint
        } else if old.metadata.labels != new.metadata.labels {
            PodChange::Labels
        } else {
            PodChange::Nothing
        }
    }

    /// Whether a Service has to be looked at.
    pub fn concerns(self, service: &Service, old: Option<&Pod>, new: Option<&Pod>) -> bool {
        let selected = |pod: Option<&Pod>| {
            pod.is_some_and(|pod| selects(service, strings(&pod.metadata.labels)))
        };
        match self {
            PodChange::Nothing => false,
            PodChange::Labels => selected(old) != selected(new),
            PodChange::Endpoint => selected(old) || selected(new),
        }
    }
}

/// Whether a pod can be an endpoint at all.
pub fn can_be_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    !pod.is_terminal() && !pod.status.pod_ips.is_empty() && (with_terminating || !pod.is_deleted())
}

/// The addresses of a pod in one family, in canonical form.
pub fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let parsed = pod
        .status
        .pod_ips
        .iter()
        .filter_map(|address| ip::parse(address));
    let wanted = parsed.filter(|address| address.to_canonical().is_ipv6() == (family == IPV6));
    wanted.map(ip::canonical).collect()
}

/// A pod's own hostname, if it can be looked up below the Service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let is_named = !pod.spec.hostname.is_empty()
        && pod.spec.subdomain == name_of(&service.metadata)
        && pod.metadata.namespace == service.metadata.namespace;
    is_named.then(|| pod.spec.hostname.clone())
}

/// The port of a pod that a Service's port means; names are looked up in containers and sidecars.
pub fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        Some(IntOrString::String(name)) => name,
        Some(IntOrString::Int(number)) if *number != 0 => return Some(*number),
        Some(IntOrString::Int(_)) | None => return Some(port.port),
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let inits = pod.spec.init_containers.iter();
    let sidecars = inits.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let mut ports = pod
        .spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| &c.ports);
    let found = ports.find(|port| {
        let its_protocol = if port.protocol.is_empty() {
            "TCP"
        } else {
            &port.protocol
        };
        *port.name == **name && its_protocol == protocol
    });
    found.map(|port| port.container_port)
}

/// What makes two endpoints the same one: all else is updated in place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    addresses: Vec<String>,
    hostname: String,
    target: (String, String),
}

impl Identity {
    /// The identity of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Identity {
        let mut addresses = endpoint.addresses.clone();
        addresses.sort_unstable();
        let target = endpoint.target_ref.as_ref();
        let part = |part: Option<&String>| part.cloned().unwrap_or_default();
        Identity {
            addresses,
            hostname: part(endpoint.hostname.as_ref()),
            target: (
                part(target.and_then(|t| t.namespace.as_ref())),
                part(target.and_then(|t| t.name.as_ref())),
            ),
        }
    }
}

/// Endpoints by what identifies them.
pub type EndpointSet = BTreeMap<Identity, Endpoint>;

/// Whether two endpoints of one identity say the same, hints and versions of references aside.
pub fn says_the_same(a: &Endpoint, b: &Endpoint) -> bool {
    let conditions = |endpoint: &Endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        (conditions.ready, conditions.serving, conditions.terminating)
    };
    let target = |endpoint: &Endpoint| {
        let mut target = endpoint.target_ref.clone()?;
        target.resource_version = None;
        Some(target)
    };
    a.node_name == b.node_name
        && a.zone == b.zone
        && conditions(a) == conditions(b)
        && target(a) == target(b)
}

/// The ports of a slice in an order that does not depend on how they were listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(Vec<Port>);

/// Number, name, protocol and application protocol.
type Port = (Option<i32>, String, Option<String>, Option<String>);

impl Ports {
    /// The ports of a slice, or those wanted for one.
    pub fn of(ports: &[EndpointPort]) -> Ports {
        let mut all: Vec<_> = ports
            .iter()
            .map(|p| {
                let name = p.name.clone().unwrap_or_default();
                (p.port, name, p.protocol.clone(), p.app_protocol.clone())
            })
            .collect();
        all.sort_unstable();
        Ports(all)
    }
}

/// A prefix for the names of a Service's slices: with a dash, unless that makes it too long.
pub fn name_prefix(service: &str) -> String {
    let prefix = format!("{service}-");
    // The dash is followed by five random characters, so it may be the last one.
    if api::name::dns_1123_subdomain(&format!("{service}-x")).is_empty() {
        prefix
    } else {
        service.to_owned()
    }
}

/// The key of the Service that a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Option<client::Key> {
    let name = strings(&slice.metadata.labels).get(SERVICE_NAME_LABEL)?;
    (!name.is_empty()).then(|| client::Key::new(namespace_of(&slice.metadata), name))
}

/// Whether a slice is managed by the controller of this name.
pub fn is_managed_by(slice: &EndpointSlice, controller: &str) -> bool {
    let managed_by = strings(&slice.metadata.labels).get(MANAGED_BY_LABEL);
    managed_by.is_some_and(|name| name == controller)
}

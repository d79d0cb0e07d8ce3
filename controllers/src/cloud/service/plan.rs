//! Which Services have load balancers, when they have to be looked at, and which nodes serve them.

use k8s_openapi::api::core::v1::Service;

use crate::node::{EXCLUDE_BALANCERS_LABEL, Node};
use crate::note::Note;
use crate::service_endpoints::spec_of;

/// Keeps a Service until its load balancer is gone.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// The taint of nodes that an autoscaler is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// What a Service needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// A load balancer.
    Ensure,
    /// That its load balancer goes.
    Remove,
}

/// Whether a Service wants a load balancer of this place.
pub fn wants(service: &Service, class: Option<&str>) -> bool {
    let spec = spec_of(service);
    let wanted = spec.load_balancer_class.as_deref();
    spec.type_.as_deref() == Some("LoadBalancer") && (wanted.is_none() || wanted == class)
}

/// Whether a Service is kept for its load balancer.
pub fn is_held(service: &Service) -> bool {
    let finalizers = service.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

/// What a Service needs.
pub fn step(service: &Service, class: Option<&str>) -> Step {
    let is_balanced = spec_of(service).type_.as_deref() == Some("LoadBalancer");
    if is_held(service) && (service.metadata.deletion_timestamp.is_some() || !is_balanced) {
        Step::Remove
    } else if wants(service, class) && service.metadata.deletion_timestamp.is_none() {
        Step::Ensure
    } else {
        Step::Nothing
    }
}

/// Whether a change of a Service means that its load balancer has to be looked at, and what to say
/// about it. Annotations of this prefix are our own.
pub fn change(
    old: &Service,
    new: &Service,
    class: Option<&str>,
    own: &str,
) -> (bool, Option<Note>) {
    let (was, is) = (wants(old, class), wants(new, class));
    if !was && !is {
        return (is_held(new), None);
    }
    let (a, b) = (spec_of(old), spec_of(new));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let list =
        |list: &Option<Vec<String>>| format!("[{}]", list.as_deref().unwrap_or_default().join(" "));
    let note = |reason: &'static str, from: String, to: String| {
        (true, Some(Note::normal(reason, format!("{from} -> {to}"))))
    };
    if was != is {
        return note("Type", text(&a.type_), text(&b.type_));
    }
    if a.load_balancer_source_ranges != b.load_balancer_source_ranges {
        let ranges = |spec: &k8s_openapi::api::core::v1::ServiceSpec| {
            list(&spec.load_balancer_source_ranges)
        };
        return note("LoadBalancerSourceRanges", ranges(a), ranges(b));
    }
    if a.load_balancer_ip != b.load_balancer_ip {
        return note(
            "LoadbalancerIP",
            text(&a.load_balancer_ip),
            text(&b.load_balancer_ip),
        );
    }
    if a.external_ips != b.external_ips {
        let count = |ips: &Option<Vec<String>>| ips.as_ref().map_or(0, Vec::len);
        let (before, after) = (count(&a.external_ips), count(&b.external_ips));
        if before != after {
            return (
                true,
                Some(Note::normal(
                    "ExternalIP",
                    format!("Count: {before} -> {after}"),
                )),
            );
        }
        let added = b
            .external_ips
            .iter()
            .flatten()
            .find(|ip| !a.external_ips.iter().flatten().any(|o| o == *ip));
        return (
            true,
            added.map(|ip| Note::normal("ExternalIP", format!("Added: {ip}"))),
        );
    }
    if old.metadata.uid != new.metadata.uid {
        return note("UID", text(&old.metadata.uid), text(&new.metadata.uid));
    }
    if a.external_traffic_policy != b.external_traffic_policy {
        let policies = (
            text(&a.external_traffic_policy),
            text(&b.external_traffic_policy),
        );
        return note("ExternalTrafficPolicy", policies.0, policies.1);
    }
    if a.health_check_node_port != b.health_check_node_port {
        let port = |port: Option<i32>| port.unwrap_or_default().to_string();
        let (before, after) = (
            port(a.health_check_node_port),
            port(b.health_check_node_port),
        );
        return note("HealthCheckNodePort", before, after);
    }
    let annotations = |service: &Service| {
        let mut all = service.metadata.annotations.clone().unwrap_or_default();
        all.retain(|key, _| !key.starts_with(own));
        all
    };
    let is_changed = a.ports != b.ports
        || a.session_affinity != b.session_affinity
        || a.session_affinity_config != b.session_affinity_config
        || a.ip_families != b.ip_families
        || annotations(old) != annotations(new)
        || step(old, class) != step(new, class);
    (is_changed, None)
}

/// Whether load balancers may send to a node.
pub fn serves(node: &Node) -> bool {
    !node.has_label(EXCLUDE_BALANCERS_LABEL)
        && !node
            .spec
            .taints
            .iter()
            .any(|taint| taint.key == TO_BE_DELETED)
        && !node.status.conditions.is_empty()
        && node
            .condition("Ready")
            .is_none_or(|ready| ready.status == "True")
}

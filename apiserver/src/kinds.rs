//! The strategies of the built-in kinds: a file each, or one for a few that are alike.
//!
//! Most are [`Facts`]: what a kind resets, what counts its generation, which functions judge it.

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub(crate) mod apps;
pub mod autoscaling;
pub(crate) mod batch;
pub mod certificates;
pub mod conditions;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod facts;
pub mod flowcontrol;
pub mod ip;
pub mod lists;
pub mod networking;
pub mod node;
pub mod pem;
pub(crate) mod pod;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod webhook;

use crate::registry::Strategy;
pub use facts::Facts;

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> &'static dyn Strategy {
    if (group, resource) == ("", "pods") {
        return &pod::Pod;
    }
    let found = match group {
        "" => core::facts(resource).or_else(|| apps::facts(group, resource)),
        "apps" => apps::facts(group, resource),
        "batch" => batch::facts(resource),
        _ => Some(facts_of(group, resource)),
    };
    found.unwrap_or(&Facts::PLAIN)
}

fn facts_of(group: &str, resource: &str) -> &'static Facts {
    match (group, resource) {
        ("admissionregistration.k8s.io", resource) => admissionregistration::facts(resource),
        ("apiextensions.k8s.io", "customresourcedefinitions") => &apiextensions::DEFINITION,
        ("apiregistration.k8s.io", "apiservices") => &apiregistration::API_SERVICE,
        ("autoscaling", "horizontalpodautoscalers") => &autoscaling::AUTOSCALER,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificates::REQUEST,
        ("coordination.k8s.io", "leases") => &coordination::LEASE,
        ("discovery.k8s.io", "endpointslices") => &discovery::ENDPOINT_SLICE,
        ("events.k8s.io", "events") => &core::event::STRICT,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flowcontrol::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            &flowcontrol::PRIORITY_LEVEL
        }
        ("networking.k8s.io", "ingresses") => &networking::INGRESS,
        ("networking.k8s.io", "ingressclasses") => &networking::INGRESS_CLASS,
        ("networking.k8s.io", "ipaddresses") => &networking::IP_ADDRESS,
        ("networking.k8s.io", "networkpolicies") => &networking::NETWORK_POLICY,
        ("networking.k8s.io", "servicecidrs") => &networking::SERVICE_CIDR,
        ("node.k8s.io", "runtimeclasses") => &node::RUNTIME_CLASS,
        ("policy", "poddisruptionbudgets") => &policy::BUDGET,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => &rbac::CLUSTER_ROLE_BINDING,
        ("rbac.authorization.k8s.io", "clusterroles") => &rbac::CLUSTER_ROLE,
        ("rbac.authorization.k8s.io", "rolebindings") => &rbac::ROLE_BINDING,
        ("rbac.authorization.k8s.io", "roles") => &rbac::ROLE,
        ("resource.k8s.io", "deviceclasses") => &resource::DEVICE_CLASS,
        ("resource.k8s.io", "resourceclaims") => &resource::CLAIM,
        ("resource.k8s.io", "resourceclaimtemplates") => &resource::TEMPLATE,
        ("resource.k8s.io", "resourceslices") => &resource::SLICE,
        ("scheduling.k8s.io", "priorityclasses") => &scheduling::PRIORITY_CLASS,
        ("storage.k8s.io", "csidrivers") => &storage::CSI_DRIVER,
        ("storage.k8s.io", "csinodes") => &storage::CSI_NODE,
        ("storage.k8s.io", "csistoragecapacities") => &storage::STORAGE_CAPACITY,
        ("storage.k8s.io", "storageclasses") => &storage::STORAGE_CLASS,
        ("storage.k8s.io", "volumeattachments") => &storage::VOLUME_ATTACHMENT,
        ("storage.k8s.io", "volumeattributesclasses") => &storage::ATTRIBUTES_CLASS,
        _ => &Facts::PLAIN,
    }
}

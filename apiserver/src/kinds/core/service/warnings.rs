//! What clients should know about a service.

use super::{ServiceSpec, TOPOLOGY_HINTS, TOPOLOGY_MODE};
use crate::kinds::ip::{cidr_warnings, ip_warning};
use crate::validation::At;

/// About the service as a whole.
pub(super) fn service(new: At<'_>, warnings: &mut Vec<String>) {
    let spec = new.get("spec");
    let annotations = new.path(&["metadata", "annotations"]);
    if annotations.entry(TOPOLOGY_HINTS).is_some() {
        warnings.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        ));
    }
    let address = spec.get("clusterIP").str();
    if !["", "None"].contains(&address) {
        each(spec, "clusterIPs", warnings);
    }
    let external = !spec.get("externalIPs").is_empty();
    let is_headless = spec.is_type("ClusterIP") && address == "None";
    let is_name = spec.is_type("ExternalName");
    if is_headless {
        warn(
            warnings,
            !spec.get("loadBalancerIP").is_empty(),
            "spec.loadBalancerIP is ignored for headless services",
        );
        warn(
            warnings,
            external,
            "spec.externalIPs is ignored for headless services",
        );
        warn(
            warnings,
            spec.get("sessionAffinity").str() != "None",
            "spec.SessionAffinity is ignored for headless services",
        );
    }
    each(spec, "externalIPs", warnings);
    warn(
        warnings,
        external && !is_headless && !is_name,
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
    );
    let balancer = spec.get("loadBalancerIP").str();
    warnings.extend(ip_warning("spec.loadBalancerIP", balancer));
    let ranges = spec.get("loadBalancerSourceRanges").items();
    for (index, range) in ranges.enumerate() {
        let path = format!("spec.loadBalancerSourceRanges[{index}]");
        warnings.extend(cidr_warnings(&path, range.str()));
    }
    warn(
        warnings,
        is_name && external,
        r#"spec.externalIPs is ignored when spec.type is "ExternalName""#,
    );
    warn(
        warnings,
        !is_name && !spec.get("externalName").is_empty(),
        r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
    );
    warn(
        warnings,
        spec.get("trafficDistribution").str() == "PreferClose",
        r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
    );
}

fn warn(warnings: &mut Vec<String>, when: bool, text: &str) {
    if when {
        warnings.push(text.to_string());
    }
}

fn each(spec: At<'_>, field: &'static str, warnings: &mut Vec<String>) {
    for (index, address) in spec.get(field).items().enumerate() {
        warnings.extend(ip_warning(&format!("spec.{field}[{index}]"), address.str()));
    }
}

/// About the addresses of load balancers, of services and ingresses.
pub(crate) fn status(new: At<'_>, warnings: &mut Vec<String>) {
    let points = new.path(&["status", "loadBalancer", "ingress"]).items();
    for (index, point) in points.enumerate() {
        let path = format!("status.loadBalancer.ingress[{index}]");
        warnings.extend(ip_warning(&path, point.get("ip").str()));
    }
}

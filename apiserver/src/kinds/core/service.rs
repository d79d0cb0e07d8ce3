//! Services: a union of fields by type, with addresses and ports that the server allocates between
//! preparing and validating.

mod inherit;
pub(crate) mod update;
pub(crate) mod warnings;

use std::collections::HashSet;

use api::field::FieldError;
use api::name;
use api::values::ip;

use crate::kinds::facts::{Facts, Raw, Status, port_number_or_name};
use crate::kinds::ip::{cidr_complaint, endpoint_ip, legacy_ip};
use crate::kinds::lists::texts;
use crate::registry::strategy::dns_label;
use crate::validation::{At, Errors, labels};

pub use inherit::inherit;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// What is particular about services.
pub const SERVICE: Facts = Facts {
    name: dns_label,
    creates_on_update: true,
    status: Status::Own(r#"{"loadBalancer":{}}"#),
    prepare_create: |_, new| inherit(new, None),
    prepare_update: |cx, new, old| {
        if cx.subresource.is_empty() {
            inherit(new, Some(old));
            inherit::drop_by_type(new, old);
        }
    },
    create: |_, new, errors| service(errors, new, None),
    update: |_, new, old, errors| {
        update::changes(errors, new, old);
        service(errors, new, Some(old));
    },
    sub_update: |_, new, old, errors| update::status(errors, new, old),
    warnings: |cx, new, _, warnings| match cx.subresource {
        "status" => warnings::status(new, warnings),
        _ => warnings::service(new, warnings),
    },
    ..Facts::PLAIN
};

/// Asked of a service's spec.
trait ServiceSpec {
    /// It has no address of its own.
    fn is_headless(&self) -> bool;
    /// Its type is this.
    fn is_type(&self, kind: &str) -> bool;
    /// Reached from outside of the cluster.
    fn is_external(&self) -> bool;
    /// A load balancer must know which nodes have endpoints.
    fn needs_health_check(&self) -> bool;
}

impl ServiceSpec for At<'_> {
    fn is_headless(&self) -> bool {
        let addresses = self.get("clusterIPs");
        addresses.len() == 1 && addresses.contains("None")
    }

    fn is_type(&self, kind: &str) -> bool {
        self.get("type").str() == kind
    }

    fn is_external(&self) -> bool {
        match self.get("type").str() {
            "LoadBalancer" | "NodePort" => true,
            "ClusterIP" => !self.get("externalIPs").is_empty(),
            _ => false,
        }
    }

    fn needs_health_check(&self) -> bool {
        self.is_type("LoadBalancer") && self.get("externalTrafficPolicy").str() == "Local"
    }
}

/// The rules of every service, in upstream's order.
fn service(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let spec = new.get("spec");
    let old_spec = old.map(|old| old.get("spec"));
    topology_annotations(errors, new);
    if spec.get("ports").is_empty() && !spec.is_headless() && !spec.is_type("ExternalName") {
        errors.required(spec.get("ports"), "");
    }
    by_type(errors, spec);
    ports(errors, spec);
    labels::labels(errors, spec.get("selector"));
    affinity(errors, spec);
    addresses(errors, spec, old_spec);
    external_ips(errors, spec, old_spec);
    errors.need_one_of(spec.get("type"), TYPES);
    distinct_ports(errors, spec);
    source_ranges(errors, new, old);
    balancer_fields(errors, spec);
    traffic(errors, spec);
}

fn topology_annotations(errors: &mut Errors, new: At<'_>) {
    let annotations = new.path(&["metadata", "annotations"]);
    if let (Some(hints), Some(mode)) = (
        annotations.entry(TOPOLOGY_HINTS),
        annotations.entry(TOPOLOGY_MODE),
    ) && hints.str() != mode.str()
    {
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.invalid(mode, detail);
    }
}

fn by_type(errors: &mut Errors, spec: At<'_>) {
    match spec.get("type").str() {
        kind @ ("LoadBalancer" | "NodePort") if spec.is_headless() => {
            if let Some(first) = spec.get("clusterIPs").items().next() {
                errors.invalid(
                    first,
                    format!("may not be set to 'None' for {kind} services"),
                );
            }
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                errors.deny(spec.get(field), "may not be set for ExternalName services");
            }
            let external = spec.get("externalName");
            match external.str().strip_suffix('.').unwrap_or(external.str()) {
                "" => errors.required(external, ""),
                cname => {
                    for complaint in name::dns_1123_subdomain(cname) {
                        errors.invalid_value(external, cname, complaint);
                    }
                }
            }
        }
        _ => {}
    }
}

fn ports(errors: &mut Errors, spec: At<'_>) {
    let ports = spec.get("ports");
    let mut names = HashSet::new();
    for port in ports.items() {
        let port_name = port.get("name");
        if !port_name.is_empty() {
            errors.names(port_name, name::dns_1123_label);
            if !names.insert(port_name.str()) {
                errors.duplicate(port_name);
            }
        } else if ports.len() > 1 {
            errors.required(port_name, "");
        }
        errors.names(port.get("port"), |_| {
            name::port_number(port.get("port").int())
        });
        errors.need_one_of(port.get("protocol"), PROTOCOLS);
        port_number_or_name(errors, port.get("targetPort"));
        if port.has("appProtocol") {
            errors.names(port.get("appProtocol"), name::label_key);
        }
    }
}

fn affinity(errors: &mut Errors, spec: At<'_>) {
    let (kind, config) = (
        spec.get("sessionAffinity"),
        spec.get("sessionAffinityConfig"),
    );
    errors.need_one_of(kind, &["ClientIP", "None"]);
    match kind.str() {
        "ClientIP" => {
            let detail = "when session affinity type is ClientIP";
            let timeout = config.path(&["clientIP", "timeoutSeconds"]);
            for at in [config, config.get("clientIP"), timeout] {
                if !at.is_set() {
                    errors.required(at, detail);
                    return;
                }
            }
            if !(1..=AFFINITY_SECONDS_MAX).contains(&timeout.int()) {
                let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                errors.invalid(timeout, detail);
            }
        }
        "None" if config.is_set() => {
            errors.forbidden(config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// The addresses of the service, their families and the policy about these; also judged while they
/// are allocated.
pub fn addresses(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    if spec.is_type("ExternalName") {
        return;
    }
    let addresses = spec.get("clusterIPs");
    let first = addresses.items().next().map_or("", At::str);
    match spec.get("clusterIP").str() {
        "" if !addresses.is_empty() => {
            errors.invalid(addresses, "must be empty when `clusterIP` is not specified");
        }
        "" => {}
        _ if addresses.is_empty() => errors.required(addresses, ""),
        address if address != first => {
            errors.invalid(addresses, "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(errors, spec);
    if !each_address(errors, addresses, old) {
        return;
    }
    let is_v6 = |at: At<'_>| ip::is_v6(at.str());
    if addresses.len() > 1 && addresses.items().filter(|at| is_v6(*at)).count() != 1 {
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(addresses, detail);
    }
    if spec.is_headless() {
        return;
    }
    for (index, (address, family)) in addresses
        .items()
        .zip(spec.get("ipFamilies").items())
        .enumerate()
    {
        for (wanted, is_right) in [("IPv4", !is_v6(address)), ("IPv6", is_v6(address))] {
            if family.str() == wanted && !is_right {
                let detail =
                    format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
                errors.invalid(address, detail);
            }
        }
    }
}

fn families(errors: &mut Errors, spec: At<'_>) {
    let mut seen = HashSet::new();
    for family in spec.get("ipFamilies").items() {
        errors.one_of(family, &["IPv4", "IPv6"]);
        if !seen.insert(family.str()) {
            errors.duplicate(family);
        }
    }
    if spec.has("ipFamilyPolicy") {
        let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.one_of(spec.get("ipFamilyPolicy"), &known);
    }
}

/// Whether every address is one, or `None` alone.
fn each_address(errors: &mut Errors, addresses: At<'_>, old: Option<At<'_>>) -> bool {
    let known = old.map_or_else(Vec::new, |old| texts(old.get("clusterIPs")));
    let mut is_good = true;
    for (index, address) in addresses.items().enumerate() {
        let before = errors.len();
        if index > 0 || address.str() != "None" {
            legacy_ip(errors, address, &known);
        } else if addresses.len() > 1 {
            errors.invalid(addresses, "'None' must be the first and only value");
        }
        is_good &= errors.len() == before;
    }
    if addresses.len() > 2 {
        errors.invalid(addresses, "may only hold up to 2 values");
    }
    is_good
}

fn external_ips(errors: &mut Errors, spec: At<'_>, old: Option<At<'_>>) {
    let known = old.map_or_else(Vec::new, |old| texts(old.get("externalIPs")));
    for address in spec.get("externalIPs").items() {
        let before = errors.len();
        legacy_ip(errors, address, &known);
        if errors.len() == before {
            endpoint_ip(errors, address);
        }
    }
}

fn distinct_ports(errors: &mut Errors, spec: At<'_>) {
    let ports = spec.get("ports");
    let node_port = |port: At<'_>| port.get("nodePort").int();
    for port in ports.items() {
        if spec.is_type("ClusterIP") && node_port(port) != 0 {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(port.get("nodePort"), detail);
        }
    }
    let mut seen = HashSet::new();
    for port in ports.items().filter(|port| node_port(*port) != 0) {
        if !seen.insert((port.get("protocol").str(), node_port(port))) {
            errors.duplicate(port.get("nodePort"));
        }
    }
    seen.clear();
    for port in ports.items() {
        let (protocol, number) = (port.get("protocol").str(), port.get("port").int());
        if !seen.insert((protocol, number)) {
            let shown = format!(
                r#"{{"Name":"","Protocol":{protocol:?},"AppProtocol":null,"Port":{number},"TargetPort":0,"NodePort":0}}"#
            );
            let path = errors.path(port);
            errors.push(FieldError::duplicate(path, Raw(shown)));
        }
    }
}

/// The field, whose path upstream capitalizes, else the annotation from before it.
fn source_ranges(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    let is_balanced = new.get("spec").is_type("LoadBalancer");
    if !ranges(new).is_empty() {
        errors.renamed("spec.l", "spec.L", |errors| {
            if !is_balanced {
                errors.forbidden(ranges(new), ONLY_BALANCED);
            }
            let known = old.map_or_else(Vec::new, |old| texts(ranges(old)));
            let known: Vec<&str> = known.into_iter().map(str::trim).collect();
            for range in ranges(new).items() {
                source_range(errors, range, range.str(), &known);
            }
        });
    } else if let Some(value) = annotation(new) {
        if !is_balanced {
            errors.forbidden(value, ONLY_BALANCED);
        }
        let was = old.and_then(annotation);
        let is_same = was.is_some_and(|was| was.str() == value.str());
        if !is_same && !value.str().trim().is_empty() {
            for range in value.str().split(',') {
                source_range(errors, value, range, &[]);
            }
        }
    }
}

fn ranges(at: At<'_>) -> At<'_> {
    at.path(&["spec", "loadBalancerSourceRanges"])
}

fn annotation(at: At<'_>) -> Option<At<'_>> {
    at.path(&["metadata", "annotations"]).entry(SOURCE_RANGES)
}

/// For historical reasons there may be spaces around it.
fn source_range(errors: &mut Errors, at: At<'_>, text: &str, known: &[&str]) {
    let text = text.trim();
    if !known.contains(&text)
        && let Some(complaint) = cidr_complaint(text)
    {
        errors.invalid_value(at, text, complaint);
    }
}

fn balancer_fields(errors: &mut Errors, spec: At<'_>) {
    let is_balanced = spec.is_type("LoadBalancer");
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !is_balanced {
        errors.forbidden(allocate, ONLY_BALANCED);
    }
    if !allocate.is_set() && is_balanced {
        errors.push(FieldError::required("allocateLoadBalancerNodePorts", ""));
    }
    balancer_class(errors, spec);
}

fn balancer_class(errors: &mut Errors, spec: At<'_>) {
    let class = spec.get("loadBalancerClass");
    if class.is_set() && spec.is_type("LoadBalancer") {
        errors.names(class, name::label_key);
    } else if class.is_set() {
        errors.forbidden(class, ONLY_BALANCED);
    }
}

fn traffic(errors: &mut Errors, spec: At<'_>) {
    let external = spec.get("externalTrafficPolicy");
    if spec.is_external() {
        errors.need_one_of(external, &["Cluster", "Local"]);
    } else if !external.is_empty() {
        errors.invalid(
            external,
            "may only be set for externally-accessible services",
        );
    }
    let health = spec.get("healthCheckNodePort");
    match (spec.needs_health_check(), health.int()) {
        (false, 0) => {}
        (false, _) => errors.invalid(
            health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (true, 0) => errors.required(health, ""),
        (true, port) => errors.names(health, |_| name::port_number(port)),
    }
    let internal = spec.get("internalTrafficPolicy");
    if internal.is_set() {
        errors.one_of(internal, &["Cluster", "Local"]);
    } else if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&spec.get("type").str()) {
        errors.required(internal, "");
    }
    let distribution = spec.get("trafficDistribution");
    if distribution.is_set() {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        errors.one_of(distribution, &known);
    }
}

#[cfg(test)]
mod tests;

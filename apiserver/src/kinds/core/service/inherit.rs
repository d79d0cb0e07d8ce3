//! What a changed service takes over from the old one, so that clients need not repeat what was
//! allocated, and what falls away when its type changes.

use std::collections::{HashMap, HashSet};

use api::doc::Doc;

use super::ServiceSpec;
use crate::kinds::facts::{items_at, keep, remove_path};
use crate::validation::{At, same};

/// What is asked of a spec.
type Asked = fn(At<'_>) -> bool;

/// Fills in what a client may leave out: what was allocated before, and whichever of `clusterIP` and
/// `clusterIPs` does not follow the other. Allocation comes after it.
pub fn inherit(new: &mut Doc, old: Option<&Doc>) {
    let Some(old) = old else {
        let spec = At::root(new).get("spec");
        if !spec.get("clusterIP").is_empty() && spec.get("clusterIPs").is_empty() {
            single_address(new);
        }
        return;
    };
    carry_over(new, old);
    normalize(new, old);
}

fn spec(doc: &Doc) -> At<'_> {
    At::root(doc).get("spec")
}

fn single_address(new: &mut Doc) {
    let address = spec(new).get("clusterIP").str().to_string();
    let id = new.set_path(&["spec", "clusterIPs"], api::doc::New::List);
    new.push(id, &address);
}

fn needs_address(spec: At<'_>) -> bool {
    !spec.is_type("ExternalName")
}

fn needs_node_port(spec: At<'_>) -> bool {
    spec.is_type("NodePort") || spec.is_type("LoadBalancer")
}

fn carry_over(new: &mut Doc, old: &Doc) {
    let before = spec(old);
    if needs_address(before) && needs_address(spec(new)) {
        for field in ["clusterIP", "clusterIPs"] {
            if spec(new).get(field).is_empty() && before.has(field) {
                keep(new, old, &["spec", field]);
            }
        }
    }
    if needs_node_port(before) && needs_node_port(spec(new)) {
        carry_node_ports(new, old);
    }
    if before.needs_health_check()
        && spec(new).needs_health_check()
        && spec(new).get("healthCheckNodePort").int() == 0
    {
        keep(new, old, &["spec", "healthCheckNodePort"]);
    }
}

fn node_ports(spec: At<'_>) -> HashSet<i64> {
    let ports = spec.get("ports").items();
    ports
        .map(|port| port.get("nodePort").int())
        .filter(|port| *port != 0)
        .collect()
}

/// By the names of ports, unless another port already took the number.
fn carry_node_ports(new: &mut Doc, old: &Doc) {
    let (now, before) = (node_ports(spec(new)), node_ports(spec(old)));
    let known: HashMap<&str, i64> = spec(old)
        .get("ports")
        .items()
        .map(|port| (port.get("name").str(), port.get("nodePort").int()))
        .collect();
    for port in items_at(new, &["spec", "ports"]) {
        let at = At::of(new.node(port));
        let number = known.get(at.get("name").str()).copied().unwrap_or(0);
        let is_taken = now.contains(&number) && before.contains(&number);
        if at.get("nodePort").int() == 0 && number != 0 && !is_taken {
            new.set(port, "nodePort", number);
        }
    }
}

/// Follows a client that changed only the field that it knows.
fn normalize(new: &mut Doc, old: &Doc) {
    let (now, before) = (spec(new), spec(old));
    let (address, was) = (now.get("clusterIP").str(), before.get("clusterIP").str());
    let is_same = same(now.get("clusterIPs"), before.get("clusterIPs"));
    if now.get("clusterIPs").is_empty() && !before.get("clusterIPs").is_empty() && address == was {
        keep(new, old, &["spec", "clusterIPs"]);
    } else if address != was && is_same {
        match address {
            "" => remove_path(new, &["spec", "clusterIPs"]),
            _ => single_address(new),
        }
    }
}

/// Drops what no longer applies after a change of type and the client did not try to change.
pub(super) fn drop_by_type(new: &mut Doc, old: &Doc) {
    let drop: Vec<&str> = {
        let (now, before) = (spec(new), spec(old));
        let is_same = |field: &'static str| same(now.get(field), before.get(field));
        let lost = |asked: Asked| asked(before) && !asked(now);
        let mut drop = Vec::new();
        if lost(needs_address) {
            if is_same("clusterIP") && is_same("clusterIPs") {
                drop.extend(["clusterIP", "clusterIPs"]);
            }
            let rest = ["ipFamilies", "ipFamilyPolicy"];
            drop.extend(rest.into_iter().filter(|field| is_same(field)));
        }
        let conditions: [(Asked, &str); 4] = [
            (|spec| spec.needs_health_check(), "healthCheckNodePort"),
            (
                |spec| spec.is_type("LoadBalancer"),
                "allocateLoadBalancerNodePorts",
            ),
            (|spec| spec.is_type("LoadBalancer"), "loadBalancerClass"),
            (|spec| spec.is_external(), "externalTrafficPolicy"),
        ];
        for (asked, field) in conditions {
            if lost(asked) && is_same(field) {
                drop.push(field);
            }
        }
        if lost(needs_node_port) && node_ports(now).is_subset(&node_ports(before)) {
            drop.push("nodePort");
        }
        drop
    };
    for field in drop {
        if field == "nodePort" {
            for port in items_at(new, &["spec", "ports"]) {
                new.remove(port, "nodePort");
            }
        } else {
            remove_path(new, &["spec", field]);
        }
    }
    if !spec(new).is_type("LoadBalancer") {
        new.set_path(&["status", "loadBalancer"], api::doc::New::Object);
    }
}

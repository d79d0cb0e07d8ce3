//! What may not change about a service, and its status.

use api::field::FieldError;
use api::name;
use api::values::ip;

use super::{ServiceSpec as _, balancer_class};
use crate::kinds::ip::legacy_ip;
use crate::validation::{At, Errors, same};

const FIXED: &str = "may not change once set";

/// The changes that no service may make.
pub(super) fn changes(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    if !spec.is_type("ExternalName") && !before.is_type("ExternalName") {
        addresses(errors, spec, before);
        families(errors, spec, before);
    }
    let class = spec.get("loadBalancerClass");
    if spec.is_type("LoadBalancer")
        && before.is_type("LoadBalancer")
        && !same(class, before.get("loadBalancerClass"))
    {
        errors.invalid(class, FIXED);
    }
    balancer_class(errors, spec);
    let health = spec.get("healthCheckNodePort");
    if before.needs_health_check()
        && spec.needs_health_check()
        && health.int() != before.get("healthCheckNodePort").int()
    {
        errors.forbidden(health, "field is immutable");
    }
}

/// An error about the first element, which may not be there, that shows a whole list.
fn about(errors: &mut Errors, list: At<'_>, index: usize, shown: At<'_>, detail: &str) {
    let path = format!("{}[{index}]", errors.path(list));
    let error = match shown.node() {
        Some(node) => FieldError::invalid(path, node, detail),
        None => FieldError::invalid(path, crate::kinds::facts::Raw("null".to_string()), detail),
    };
    errors.push(error);
}

fn first(list: At<'_>) -> Option<&str> {
    list.items().next().map(At::str)
}

fn addresses(errors: &mut Errors, spec: At<'_>, before: At<'_>) {
    if spec.is_headless() && before.is_headless() {
        return;
    }
    let (now, was) = (spec.get("clusterIPs"), before.get("clusterIPs"));
    if now.len() == was.len() {
        for (index, (now_one, was_one)) in now.items().zip(was.items()).enumerate() {
            if now_one.str() != was_one.str() {
                about(errors, now, index, now, FIXED);
            }
        }
        return;
    }
    let is_smaller = now.len() < was.len();
    if is_smaller && now.is_empty() {
        about(errors, now, 0, now, "primary clusterIP can not be unset");
    }
    if !now.is_empty() && !was.is_empty() && first(now) != first(was) {
        about(errors, now, 0, now, FIXED);
    }
    if is_smaller && now.len() == 1 {
        single_stack(errors, spec, "secondary clusterIP");
    }
}

fn single_stack(errors: &mut Errors, spec: At<'_>, what: &str) {
    let policy = spec.get("ipFamilyPolicy");
    if policy.str() != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the {what}");
        errors.invalid(policy, detail);
    }
}

/// Upstream always tells the first family, and shows addresses where the number of families changes.
fn families(errors: &mut Errors, spec: At<'_>, before: At<'_>) {
    if spec.is_headless() || before.is_headless() {
        return;
    }
    let (now, was) = (spec.get("ipFamilies"), before.get("ipFamilies"));
    let addresses = spec.get("clusterIPs");
    if now.len() == was.len() {
        for (now_one, was_one) in now.items().zip(was.items()) {
            if now_one.str() != was_one.str() {
                about(errors, now, 0, now, FIXED);
            }
        }
        return;
    }
    let is_smaller = now.len() < was.len();
    if is_smaller && addresses.is_empty() {
        about(errors, now, 0, now, "primary ipFamily can not be unset");
    }
    if !now.is_empty() && !was.is_empty() && first(now) != first(was) {
        about(errors, now, 0, addresses, FIXED);
    }
    if is_smaller && now.len() == 1 {
        single_stack(errors, spec, "secondary ipFamily");
    }
}

/// The status: where the load balancer is.
pub(crate) fn status(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let path = ["status", "loadBalancer", "ingress"];
    let (ingress, before) = (new.path(&path), old.path(&path));
    if !new.get("spec").is_type("LoadBalancer") && !ingress.is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.forbidden(ingress, detail);
        return;
    }
    for point in ingress.items() {
        balancer_address(errors, point, before);
        let (address, mode) = (point.get("ip"), point.get("ipMode"));
        match (mode.is_set(), address.is_empty()) {
            (false, false) => errors.required(mode, "must be specified when `ip` is set"),
            (true, true) => errors.forbidden(mode, "may not be specified when `ip` is not set"),
            (true, false) => errors.one_of(mode, &["Proxy", "VIP"]),
            (false, true) => {}
        }
        balancer_host(errors, point.get("hostname"));
    }
}

/// The address of a load balancer, which an old object may have in a bad form.
pub(crate) fn balancer_address(errors: &mut Errors, point: At<'_>, before: At<'_>) {
    let known: Vec<&str> = before.items().map(|point| point.get("ip").str()).collect();
    if !point.get("ip").is_empty() {
        legacy_ip(errors, point.get("ip"), &known);
    }
}

/// The name of a load balancer.
pub(crate) fn balancer_host(errors: &mut Errors, host: At<'_>) {
    if host.is_empty() {
        return;
    }
    errors.names(host, name::dns_1123_subdomain);
    if ip::parse(host.str()).is_some() {
        errors.invalid(host, "must be a DNS name, not an IP address");
    }
}

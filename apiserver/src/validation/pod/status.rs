//! What a pod's status may become.

use std::collections::HashSet;
use std::net::IpAddr;

use api::name;
use api::values::ip as values;

use super::annotations;
use super::options::Options;
use super::resources::is_native;
use super::walk::{self, CONTAINER_LISTS};
use crate::kinds::ip;
use crate::registry::strategy::{dns_label, dns_subdomain};
use crate::validation::{At, Errors};

const ID_MAX: i64 = i32::MAX as i64;
const MESSAGE_BYTES_MAX: usize = 1024;
/// The lists of statuses, as [`CONTAINER_LISTS`] has the containers.
const STATUS_LISTS: [&str; 3] = [
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];

/// A change of the status.
pub(crate) fn validate(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (spec, status, before) = (new.get("spec"), new.get("status"), old.get("status"));
    annotations::updates(
        errors,
        new.path(&["metadata", "annotations"]),
        old.path(&["metadata", "annotations"]),
        spec,
        &Options::for_pod(Some(old)),
    );
    conditions(errors, status.get("conditions"));
    node_names(errors, new, old);
    not_negative(errors, status.get("observedGeneration"));
    errors.immutable(status.get("qosClass"), before.get("qosClass"));
    for list in [1, 0, 2] {
        transitions(errors, new, old, list);
    }
    claim_statuses(errors, status.get("resourceClaimStatuses"), spec);
    extended_claim(errors, status.get("extendedResourceClaimStatus"), spec);
    allocatable_claims(errors, status, spec);
    addresses(errors, status.get("podIPs"), before.get("podIPs"));
    let host = status.get("hostIPs");
    if let Some(first) = host.items().next()
        && first.get("ip").str() != status.get("hostIP").str()
    {
        errors.invalid(first.get("ip"), "must be equal to `hostIP`");
    }
    addresses(errors, host, before.get("hostIPs"));
    for list in [1, 0, 2] {
        users(errors, status.get(STATUS_LISTS[list]), spec);
    }
    for list in [1, 0] {
        let containers = spec.get(CONTAINER_LISTS[list]);
        allocated(errors, status.get(STATUS_LISTS[list]), containers);
    }
    for at in status.get(STATUS_LISTS[2]).items() {
        let detail = "must not be specified in container status";
        errors.deny(at.get("allocatedResourcesStatus"), detail);
    }
}

fn not_negative(errors: &mut Errors, at: At<'_>) {
    if at.int() < 0 {
        errors.invalid(at, "must be a non-negative integer");
    }
}

fn conditions(errors: &mut Errors, list: At<'_>) {
    for condition in list.items() {
        not_negative(errors, condition.get("observedGeneration"));
        let kind = condition.get("type").str();
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            for complaint in name::label_key(kind) {
                errors.invalid_below(condition, ".Type", kind, complaint);
            }
        }
    }
}

fn node_names(errors: &mut Errors, new: At<'_>, old: At<'_>) {
    let (node, old_node) = (
        new.path(&["spec", "nodeName"]),
        old.path(&["spec", "nodeName"]),
    );
    let nominated = new.path(&["status", "nominatedNodeName"]);
    let before = old.path(&["status", "nominatedNodeName"]);
    if node.str() != old_node.str() {
        let detail = "may not be changed directly";
        errors.forbidden(new.path(&["status", "nodeName"]), detail);
    }
    if nominated.is_empty() || nominated.str() == before.str() {
        return;
    }
    errors.names(nominated, |text| dns_subdomain(text, false));
    if !old_node.is_empty() {
        let detail = "may not be set on pods that are already bound to a node";
        errors.forbidden(nominated, detail);
    }
}

/// Containers that ended stay ended, unless something restarts them.
fn transitions(errors: &mut Errors, new: At<'_>, old: At<'_>, list: usize) {
    let (now, before) = (
        new.get("status").get(STATUS_LISTS[list]),
        old.get("status").get(STATUS_LISTS[list]),
    );
    let spec = old.get("spec");
    if list < 2 && restarts_all(spec) {
        return;
    }
    let path_of = |errors: &mut Errors, index: usize| {
        let path = errors.path(now);
        format!("{path}[{index}].state")
    };
    for (index, was) in before.items().enumerate() {
        let ended = was.path(&["state", "terminated"]);
        let name = was.get("name").str();
        let Some(is) = now.find("name", name).filter(|_| ended.is_set()) else {
            continue;
        };
        let container = spec.get(CONTAINER_LISTS[list]).find("name", name);
        let may =
            list < 2 && container.is_some_and(|at| restarts(at, spec, ended.get("exitCode").int()));
        if !is.get("state").has("terminated") && !may {
            let path = path_of(errors, index);
            let detail = "may not be transitioned to non-terminated state";
            errors.push(api::field::FieldError::forbidden(path, detail));
        }
    }
}

fn restarts_all(spec: At<'_>) -> bool {
    let rules = walk::plain_containers(spec).flat_map(|at| at.get("restartPolicyRules").items());
    rules
        .into_iter()
        .any(|rule| rule.get("action").str() == "RestartAllContainers")
}

/// Whether a container starts again after it ended with a code.
fn restarts(container: At<'_>, spec: At<'_>, code: i64) -> bool {
    let by_policy = |policy: &str| match policy {
        "OnFailure" => code != 0,
        other => other != "Never",
    };
    let own = container.get("restartPolicy");
    if !own.is_set() {
        return by_policy(spec.get("restartPolicy").str());
    }
    let matching = container.get("restartPolicyRules").items().find(|rule| {
        let codes = rule.get("exitCodes");
        let is_named = codes.get("values").items().any(|at| at.int() == code);
        match codes.get("operator").str() {
            "In" => is_named,
            "NotIn" => !is_named,
            _ => false,
        }
    });
    let action = matching.map(|rule| rule.get("action").str());
    action.is_some_and(|action| action.starts_with("Restart")) || by_policy(own.str())
}

fn claim_statuses(errors: &mut Errors, list: At<'_>, spec: At<'_>) {
    let mut seen = HashSet::new();
    for status in list.items() {
        let name = status.get("name");
        if spec
            .get("resourceClaims")
            .find("name", name.str())
            .is_none()
        {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(name, detail);
        }
        if !seen.insert(name.str()) {
            errors.duplicate(name);
        }
        if status.has("resourceClaimName") {
            errors.names(status.get("resourceClaimName"), |text| {
                dns_subdomain(text, false)
            });
        }
    }
}

fn extended_claim(errors: &mut Errors, at: At<'_>, spec: At<'_>) {
    if !at.is_set() {
        return;
    }
    errors.need(
        at.get("requestMappings"),
        "at least one request mapping is required",
    );
    let mut seen = HashSet::new();
    for mapping in at.get("requestMappings").items() {
        let fields = ["containerName", "resourceName", "requestName"];
        let [container, resource, request] = fields.map(|field| mapping.get(field));
        let mut containers = walk::plain_containers(spec);
        match containers.find(|known| known.get("name").str() == container.str()) {
            None => errors.invalid(
                container,
                "must match the name of an entry in spec.initContainers.name or spec.containers.name",
            ),
            Some(known) => {
                if known.path(&["resources", "requests"]).entry(resource.str()).is_none() {
                    let detail = "must match the extended resource name of an entry in \
                                  spec.initContainers.resources.requests or \
                                  spec.containers.resources.requests";
                    errors.invalid(resource, detail);
                }
            }
        }
        for complaint in dns_label(request.str(), false) {
            errors.invalid_below(at, ".requestName", request.str(), complaint);
        }
        if !seen.insert((container.str(), resource.str(), request.str())) {
            for field in [container, resource, request] {
                errors.duplicate(field);
            }
        }
    }
    if errors.need(at.get("resourceClaimName"), "") {
        errors.names(at.get("resourceClaimName"), |text| {
            dns_subdomain(text, false)
        });
    }
}

fn allocatable_claims(errors: &mut Errors, status: At<'_>, spec: At<'_>) {
    const EMPTY: &str = "must not be empty";
    for at in status.get("nodeAllocatableResourceClaimStatuses").items() {
        let name = at.get("resourceClaimName");
        errors.need(name, EMPTY);
        let known = [
            spec.get("resourceClaims"),
            status.get("resourceClaimStatuses"),
        ];
        if known
            .iter()
            .all(|list| list.find("resourceClaimName", name.str()).is_none())
        {
            errors.invalid(name, "no mapping found in pod reference");
        }
        errors.need(at.get("containers"), EMPTY);
        errors.need(at.get("resources"), EMPTY);
        for resource in at.get("resources").items() {
            if !is_native(resource.key()) {
                let detail = "must be a node allocatable resource name";
                errors.invalid_value(resource, resource.key(), detail);
            }
            if walk::quantity(resource).signum() < 0 {
                errors.invalid(resource, "must be non-negative");
            }
        }
    }
}

/// At most one of each family. Upstream tells of the element, not of its address.
fn addresses(errors: &mut Errors, list: At<'_>, old: At<'_>) {
    let before: Vec<&str> = old.items().map(|at| at.get("ip").str()).collect();
    for at in list.items() {
        errors.renamed("].ip", "]", |errors| {
            ip::legacy_ip(errors, at.get("ip"), &before)
        });
    }
    let parsed = |text: &str| values::parse(text).map(|address: IpAddr| address.is_ipv4());
    let families: HashSet<Option<bool>> =
        list.items().map(|at| parsed(at.get("ip").str())).collect();
    if list.len() > 1 && (list.len() > 2 || families.len() < 2) {
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(list, detail);
    }
}

fn users(errors: &mut Errors, list: At<'_>, spec: At<'_>) {
    for status in list.items() {
        let user = status.path(&["user", "linux"]);
        if !user.is_set() {
            continue;
        }
        if walk::os(spec) == "windows" {
            errors.forbidden(user, "cannot be set for a windows pod");
            continue;
        }
        let groups = user.get("supplementalGroups").items();
        for id in [user.get("uid"), user.get("gid")].into_iter().chain(groups) {
            errors.in_range(id, 0, ID_MAX);
        }
    }
}

fn allocated(errors: &mut Errors, list: At<'_>, containers: At<'_>) {
    for status in list.items() {
        let container = containers.find("name", status.get("name").str());
        for resource in status.get("allocatedResourcesStatus").items() {
            if let Some(container) = container {
                allocated_name(errors, resource.get("name"), container);
            }
            let mut seen = HashSet::new();
            for device in resource.get("resources").items() {
                let (health, message) = (device.get("health"), device.get("message"));
                errors.one_of(health, &["Healthy", "Unhealthy", "Unknown"]);
                if message.is_set() && message.is_empty() {
                    errors.required(message, "must be non-empty if specified");
                } else if message.str().len() > MESSAGE_BYTES_MAX {
                    errors.too_long(message, MESSAGE_BYTES_MAX);
                }
                if !seen.insert(device.get("resourceID").str()) {
                    errors.duplicate(device.get("resourceID"));
                }
            }
        }
    }
}

fn allocated_name(errors: &mut Errors, name: At<'_>, container: At<'_>) {
    let resources = container.get("resources");
    let Some(claim) = name.str().strip_prefix("claim:") else {
        if resources.get("requests").entry(name.str()).is_none() {
            errors.invalid(name, "must match one of the container's resource requests");
        }
        return;
    };
    let (known, request) = claim.split_once('/').unwrap_or((claim, ""));
    let mut claims = resources.get("claims").items();
    if !claims.any(|at| at.get("name").str() == known && at.get("request").str() == request) {
        let detail = "must match one of the container's resource claims in a format \
                      'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
        errors.invalid(name, detail);
    }
}

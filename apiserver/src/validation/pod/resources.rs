//! What containers and pods request of a node, and what they are limited to.

use std::collections::{BTreeMap, HashSet};

use api::field::{FieldError, FieldErrorKind};
use api::name;
use api::values::quantity::Quantity;

use super::annotations::MIRROR;
use super::containers::Place;
use super::options::Options;
use super::walk::{self, CPU_AND_MEMORY, quantity};
use crate::registry::strategy::{dns_label, dns_subdomain};
use crate::validation::errors::NOT_NEGATIVE;
use crate::validation::{At, Errors};

const HUGE_PAGES: &str = "hugepages-";
const STANDARD: [&str; 20] = [
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
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
/// Those that are counted.
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Memory in pages of one size.
pub(crate) fn is_huge_page(resource: &str) -> bool {
    resource.starts_with(HUGE_PAGES)
}

/// The server's own resources, whether or not they are written with its domain.
pub(crate) fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// A resource that somebody else defines.
pub(crate) fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && name::label_key(&format!("requests.{resource}")).is_empty()
}

/// Whether more than there is may be promised.
pub(crate) fn is_overcommitted(resource: &str) -> bool {
    is_native(resource) && !is_huge_page(resource)
}

/// Whether an amount of huge pages is a whole number of them.
pub(crate) fn is_divisible(at: At<'_>) -> bool {
    let size = at
        .key()
        .strip_prefix(HUGE_PAGES)
        .and_then(|size| Quantity::parse(size).ok());
    size.is_some_and(|size| {
        size.signum() > 0 && size.millis() % 1000 == 0 && quantity(at).units() % size.units() == 0
    })
}

/// A resource's name, of whatever sort.
pub(crate) fn resource_name(errors: &mut Errors, at: At<'_>) -> bool {
    let resource = at.key();
    let complaints = name::label_key(resource);
    for complaint in &complaints {
        errors.invalid_value(at, resource, complaint.as_str());
    }
    let is_known = STANDARD.contains(&resource)
        || is_huge_page(resource)
        || resource.starts_with("requests.hugepages-");
    if complaints.is_empty() && !resource.contains('/') && !is_known {
        let detail = "must be a standard resource type or fully qualified";
        errors.invalid_value(at, resource, detail);
        return false;
    }
    complaints.is_empty()
}

/// The name of a resource that a container may ask for.
pub(crate) fn container_resource_name(errors: &mut Errors, at: At<'_>) {
    let resource = at.key();
    resource_name(errors, at);
    let is_standard = ["cpu", "memory", "ephemeral-storage"].contains(&resource);
    if !resource.contains('/') {
        if !is_standard && !is_huge_page(resource) {
            errors.invalid_value(at, resource, "must be a standard resource for containers");
        }
    } else if !is_native(resource) && !is_extended(resource) {
        errors.invalid_value(
            at,
            resource,
            "doesn't follow extended resource name standard",
        );
    }
}

fn pod_resource_name(errors: &mut Errors, at: At<'_>) {
    if resource_name(errors, at) && !CPU_AND_MEMORY.contains(&at.key()) && !is_huge_page(at.key()) {
        let path = errors.path(at);
        let known = ["cpu", "hugepages-", "memory"];
        errors.push(FieldError::not_supported(path, at.key(), &known));
    }
}

/// The amount of a resource: not negative, and whole if it is counted.
pub(crate) fn amount(errors: &mut Errors, at: At<'_>) {
    let amount = quantity(at);
    if amount.signum() < 0 {
        errors.invalid(at, NOT_NEGATIVE);
    }
    let is_whole = WHOLE.contains(&at.key()) || is_extended(at.key());
    if is_whole && amount.millis() % 1000 != 0 {
        errors.invalid(at, "must be an integer");
    }
}

/// ResourceRequirements of a container.
pub(crate) fn of_container(errors: &mut Errors, at: At<'_>, place: &Place<'_, '_>) {
    requirements(errors, at, place, container_resource_name);
}

fn requirements(
    errors: &mut Errors,
    at: At<'_>,
    place: &Place<'_, '_>,
    check_name: fn(&mut Errors, At<'_>),
) {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    for limit in limits.items() {
        check_name(errors, limit);
        amount(errors, limit);
        pages(errors, limit, place.options);
    }
    for request in requests.items() {
        check_name(errors, request);
        amount(errors, request);
        within_limit(errors, request, limits, requests);
        pages(errors, request, place.options);
    }
    let all = || limits.items().chain(requests.items());
    if all().any(|at| is_huge_page(at.key())) && !all().any(|at| CPU_AND_MEMORY.contains(&at.key()))
    {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
    claim_names(errors, at.get("claims"), &place.claims);
}

/// Upstream tells of all requests, not of the one.
fn within_limit(errors: &mut Errors, request: At<'_>, limits: At<'_>, requests: At<'_>) {
    let name = request.key();
    let Some(limit) = limits.entry(name) else {
        if !is_overcommitted(name) {
            errors.required(limits, "Limit must be set for non overcommitable resources");
        }
        return;
    };
    let (asked, most) = (quantity(request), quantity(limit));
    if asked != most && !is_overcommitted(name) {
        let detail = format!("must be equal to {name} limit of {}", limit.str());
        errors.invalid_value(requests, request.str(), detail);
    } else if asked > most {
        let detail = format!(
            "must be less than or equal to {name} limit of {}",
            limit.str()
        );
        errors.invalid_value(requests, request.str(), detail);
    }
}

fn pages(errors: &mut Errors, at: At<'_>, options: &Options) {
    if is_huge_page(at.key()) && !options.any_huge_pages && !is_divisible(at) {
        let detail = format!(
            "{} is not positive integer multiple of {}",
            at.str(),
            at.key()
        );
        errors.invalid(at, detail);
    }
}

/// References to the pod's claims: each once, as a whole or by request.
fn claim_names(errors: &mut Errors, list: At<'_>, known: &HashSet<&str>) {
    let mut seen: HashSet<String> = HashSet::new();
    for claim in list.items() {
        let (name, request) = (claim.get("name").str(), claim.get("request"));
        if name.is_empty() {
            errors.required(claim, "");
            continue;
        }
        let mut key = name.to_string();
        if !seen.contains(name) && !request.is_empty() {
            errors.names(request, |text| dns_label(text, false));
            key = format!("{name}/{}", request.str());
        }
        let part = format!("{name}/");
        let overlaps = request.is_empty() && seen.iter().any(|known| known.starts_with(&part));
        if seen.contains(&key) || overlaps {
            let path = errors.path(claim);
            errors.push(FieldError::duplicate(path, key.as_str()));
        }
        seen.insert(key);
        if !known.contains(name) {
            unknown_claim(errors, claim, name, known);
        }
    }
}

fn unknown_claim(errors: &mut Errors, claim: At<'_>, name: &str, known: &HashSet<&str>) {
    let mut listed: Vec<&str> = known.iter().copied().collect();
    listed.sort_unstable();
    let rest = match listed.is_empty() {
        true => " which is empty".to_string(),
        false => format!(": {}", listed.join(", ")),
    };
    let field = errors.path(claim);
    errors.push(FieldError {
        kind: FieldErrorKind::NotFound,
        field,
        value: Some(format!("{name:?}")),
        detail: format!("must be one of the names in pod.spec.resourceClaims{rest}"),
    });
}

/// `spec.resourceClaims`.
pub(crate) fn claims(errors: &mut Errors, list: At<'_>, meta: Option<At<'_>>) {
    let is_mirror = meta.is_some_and(|meta| meta.get("annotations").entry(MIRROR).is_some());
    let mut names = HashSet::new();
    for claim in list.items() {
        if is_mirror {
            let detail = "static pods do not support resource claims";
            errors.push(FieldError::forbidden("", detail));
            continue;
        }
        let name = claim.get("name");
        if errors.need(name, "") {
            if names.insert(name.str()) {
                errors.names(name, |text| dns_label(text, false));
            } else {
                errors.duplicate(name);
            }
        }
        let sources = [
            claim.get("resourceClaimName"),
            claim.get("resourceClaimTemplateName"),
        ];
        match sources.iter().filter(|at| at.is_set()).count() {
            0 => errors.invalid(
                claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            1 => {}
            _ => errors.invalid(
                claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
        }
        for source in sources.into_iter().filter(|at| at.is_set()) {
            errors.names(source, |text| dns_subdomain(text, false));
        }
    }
}

/// What a pod costs besides its containers.
pub(crate) fn overhead(errors: &mut Errors, at: At<'_>, options: &Options) {
    for limit in at.items() {
        // Upstream judges it as limits, and says so.
        let wrong = |errors: &mut Errors| {
            container_resource_name(errors, limit);
            amount(errors, limit);
            pages(errors, limit, options);
        };
        errors.renamed("overhead[", "overhead.limits[", wrong);
    }
    let has = |check: fn(&str) -> bool| at.items().any(|limit| check(limit.key()));
    if has(is_huge_page) && !has(|name| CPU_AND_MEMORY.contains(&name)) {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
}

/// Resources of the pod as a whole, which its containers share.
pub(crate) fn of_pod(errors: &mut Errors, place: &Place<'_, '_>) {
    let at = place.spec.get("resources");
    if !at.is_set() {
        return;
    }
    if walk::os(place.spec) == "windows" {
        return errors.forbidden(at, "may not be set for a windows pod");
    }
    let detail = "claims may not be set for Resources at pod-level";
    errors.deny(at.get("claims"), detail);
    requirements(errors, at, place, pod_resource_name);
    contains_containers(errors, place.spec);
}

fn contains_containers(errors: &mut Errors, spec: At<'_>) {
    let at = spec.get("resources");
    for request in at.get("requests").items() {
        if let Some(sum) = aggregate(spec, "requests").get(request.key())
            && *sum > quantity(request)
        {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(request, detail);
        }
    }
    for limit in at
        .get("limits")
        .items()
        .filter(|limit| is_huge_page(limit.key()))
    {
        if let Some(sum) = aggregate(spec, "limits").get(limit.key())
            && *sum > quantity(limit)
        {
            let detail =
                format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(limit, detail);
        }
    }
    for (index, container) in spec.get("containers").items().enumerate() {
        for limit in container.path(&["resources", "limits"]).items() {
            let Some(most) = at.get("limits").entry(limit.key()) else {
                continue;
            };
            if quantity(limit) > quantity(most) {
                let detail = format!("must be less than or equal to pod limits of {}", most.str());
                let below = format!(".containers[{index}][{}].limits", limit.key());
                errors.invalid_below(at, &below, limit.str(), detail);
            }
        }
    }
}

/// What a pod's containers need together at any time: those that run on and sidecars, or the init
/// container that needs most with the sidecars before it.
pub(crate) fn aggregate<'d>(spec: At<'d>, list: &'static str) -> BTreeMap<&'d str, Quantity> {
    let of = |container: At<'d>| container.path(&["resources", list]);
    let (mut running, mut sidecars) = (BTreeMap::new(), BTreeMap::new());
    let mut most: BTreeMap<&str, Quantity> = BTreeMap::new();
    for container in spec.get("containers").items() {
        add(&mut running, of(container));
    }
    for container in spec.get("initContainers").items() {
        let now = if walk::is_sidecar(container) {
            add(&mut running, of(container));
            add(&mut sidecars, of(container));
            sidecars.clone()
        } else {
            let mut now = sidecars.clone();
            add(&mut now, of(container));
            now
        };
        raise(&mut most, now);
    }
    raise(&mut running, most);
    running
}

fn add<'d>(sums: &mut BTreeMap<&'d str, Quantity>, list: At<'d>) {
    for at in list.items() {
        let sum = sums
            .remove(at.key())
            .unwrap_or_else(|| Quantity::from_units(0));
        sums.insert(at.key(), sum + &quantity(at));
    }
}

fn raise<'d>(most: &mut BTreeMap<&'d str, Quantity>, other: BTreeMap<&'d str, Quantity>) {
    for (name, amount) in other {
        match most.get(name) {
            Some(known) if *known >= amount => {}
            _ => {
                most.insert(name, amount);
            }
        }
    }
}

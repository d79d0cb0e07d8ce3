//! Which slices a Service needs, given its pods: with as few writes as possible, since every write
//! goes to every node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::values::ip;
use client::View;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::NAME;
use super::topology::{self, Slices, ZoneCounts, Zones};
use super::traffic::Distribution;
use crate::node::{Node, ZONE_LABEL};
use crate::note::Note;
use crate::pod::Pod;
use crate::service_endpoints::{
    EndpointSet, HEADLESS_LABEL, IPV4, IPV6, Identity, MANAGED_BY_LABEL, Ports, SERVICE_NAME_LABEL,
    Strings, TRIGGER_TIME_ANNOTATION, addresses, can_be_endpoint, find_port, has_cluster_ip,
    hostname, name_of, name_prefix, namespace_of, says_the_same, spec_of, strings, trigger_time,
};

/// What is seen of a Service.
pub struct Observed<'a> {
    /// The Service.
    pub service: &'a Service,
    /// The pods it selects.
    pub pods: &'a [Arc<Pod>],
    /// The slices that this controller manages for it.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Finds a node by name.
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// The zones, if nodes tell enough about them.
    pub zones: Option<&'a Zones>,
    /// The most endpoints that one slice may have.
    pub endpoints_max: usize,
    /// When the change happened that this answers.
    pub trigger_time: Option<Timestamp>,
}

/// The topology hints that a Service was given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hinted {
    /// Whether users were told so.
    pub is_announced: bool,
    /// How many endpoints each zone got, per family.
    pub counts: BTreeMap<&'static str, ZoneCounts>,
}

/// What to write.
#[derive(Debug, Default)]
pub struct Plan {
    /// Slices to create.
    pub create: Vec<EndpointSlice>,
    /// Slices to replace.
    pub update: Vec<EndpointSlice>,
    /// Slices to delete.
    pub delete: Vec<Arc<EndpointSlice>>,
    /// What to tell about the Service.
    pub notes: Vec<Note>,
    /// The topology hints after this.
    pub hinted: Hinted,
    /// What could not be done now, and shall be tried again.
    pub problems: Vec<String>,
}

/// The families of addresses that a Service has.
fn families(service: &Service) -> Vec<&'static str> {
    let spec = spec_of(service);
    let wanted = |family: &str| {
        let mut families = spec.ip_families.iter().flatten();
        families.any(|f| f == family)
    };
    let named: Vec<_> = [IPV4, IPV6].into_iter().filter(|f| wanted(f)).collect();
    match spec.cluster_ip.as_deref() {
        _ if !named.is_empty() => named,
        Some(address) if has_cluster_ip(service) && ip::is_v6(address) => vec![IPV6],
        Some(_) if has_cluster_ip(service) => vec![IPV4],
        _ => vec![IPV4, IPV6],
    }
}

/// Plans the slices of a Service.
pub fn plan(seen: &Observed<'_>, hinted: Hinted) -> Plan {
    let mut plan = Plan {
        hinted,
        ..Plan::default()
    };
    let families = families(seen.service);
    for slice in seen.slices {
        if !families.contains(&slice.address_type.as_str()) {
            plan.hinted
                .counts
                .retain(|family, _| *family != slice.address_type);
            plan.hinted.is_announced = false;
            plan.delete.push(slice.clone());
        }
    }
    for family in families {
        plan_family(seen, family, &mut plan);
    }
    // The garbage collector is deleting its slices: new ones would only be in its way.
    if seen.service.metadata.deletion_timestamp.is_some() {
        plan.create.clear();
    }
    let written = seen.trigger_time.map(trigger_time::written);
    for slice in plan.create.iter_mut().chain(&mut plan.update) {
        let annotations = slice.metadata.annotations.get_or_insert_default();
        match &written {
            Some(at) => annotations.insert(TRIGGER_TIME_ANNOTATION.to_owned(), at.clone()),
            None => annotations.remove(TRIGGER_TIME_ANNOTATION),
        };
    }
    plan
}

/// Endpoints that have the same ports.
#[derive(Default)]
struct Group {
    ports: Vec<EndpointPort>,
    desired: EndpointSet,
}

fn plan_family(seen: &Observed<'_>, family: &'static str, plan: &mut Plan) {
    let service = seen.service;
    let existing = || {
        seen.slices
            .iter()
            .filter(|slice| slice.address_type == family)
    };
    let mut delete: Vec<Arc<EndpointSlice>> = Vec::new();
    let mut by_ports = BTreeMap::<Ports, Vec<&Arc<EndpointSlice>>>::new();
    for slice in existing() {
        if is_owned(slice, service) {
            let ports = Ports::of(slice.ports.as_deref().unwrap_or_default());
            by_ports.entry(ports).or_default().push(slice);
        } else {
            delete.push(slice.clone());
        }
    }
    let mut slices = Slices::default();
    for (key, group) in desired(seen, family, &mut plan.problems) {
        let existing = by_ports.remove(&key).unwrap_or_default();
        fill(seen, family, group, &existing, &mut slices, &mut delete);
    }
    delete.extend(by_ports.into_values().flatten().cloned());

    // Without endpoints, an empty slice says so.
    if existing().count() == delete.len() && slices.create.is_empty() {
        let placeholder = new_slice(service, family, Vec::new());
        match delete.as_slice() {
            [only] if is_placeholder(only, &placeholder) => delete.clear(),
            _ => slices.create.push(placeholder),
        }
    }
    let is_changed = |slice: &EndpointSlice, changed: &EndpointSlice| {
        slice.metadata.name == changed.metadata.name
    };
    slices.unchanged = existing()
        .filter(|slice| {
            !slices.update.iter().any(|other| is_changed(slice, other))
                && !delete.iter().any(|other| is_changed(slice, other))
        })
        .map(|slice| slice.as_ref().clone())
        .collect();
    hint(seen, family, &mut slices, plan);
    recycle(service, slices, delete, plan);
}

/// The endpoints that pods want, grouped by their ports.
fn desired(
    seen: &Observed<'_>,
    family: &str,
    problems: &mut Vec<String>,
) -> BTreeMap<Ports, Group> {
    let service = seen.service;
    let mut groups = BTreeMap::<Ports, Group>::new();
    for pod in seen.pods.iter().filter(|pod| can_be_endpoint(pod, true)) {
        let ports = pod_ports(service, pod);
        let group = groups.entry(Ports::of(&ports)).or_default();
        group.ports = ports;
        let node = (seen.node)(&pod.spec.node_name);
        let publishes_all = spec_of(service).publish_not_ready_addresses == Some(true);
        if node.is_none() && !publishes_all {
            // Tried again, in case the node is only late; the others do not wait for it.
            let meta = &service.metadata;
            problems.push(format!(
                "skipping Pod {} for Service {}/{}: Node {} Not Found",
                name_of(&pod.metadata),
                namespace_of(meta),
                name_of(meta),
                pod.spec.node_name
            ));
            continue;
        }
        let endpoint = endpoint(pod, node.as_deref(), service, family);
        if !endpoint.addresses.is_empty() {
            group.desired.insert(Identity::of(&endpoint), endpoint);
        }
    }
    groups
}

fn pod_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = spec_of(service).ports.iter().flatten();
    let resolved = ports.filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(find_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    resolved.collect()
}

fn endpoint(pod: &Pod, node: Option<&Node>, service: &Service, family: &str) -> Endpoint {
    let is_serving = pod.is_ready();
    let is_terminating = pod.is_deleted();
    let publishes_all = spec_of(service).publish_not_ready_addresses == Some(true);
    Endpoint {
        addresses: addresses(pod, family),
        conditions: Some(EndpointConditions {
            ready: Some(publishes_all || (is_serving && !is_terminating)),
            serving: Some(is_serving),
            terminating: Some(is_terminating),
        }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        node_name: Some(pod.spec.node_name.clone()).filter(|name| !name.is_empty()),
        zone: node
            .and_then(|node| node.label(ZONE_LABEL))
            .map(str::to_owned),
        hostname: hostname(pod, service),
        ..Endpoint::default()
    }
}

/// Brings the slices of one set of ports to the wanted endpoints: those that stay do not move, new
/// ones go to slices that are written anyway, then to the one that they fill best.
fn fill(
    seen: &Observed<'_>,
    family: &'static str,
    group: Group,
    existing: &[&Arc<EndpointSlice>],
    slices: &mut Slices,
    delete: &mut Vec<Arc<EndpointSlice>>,
) {
    let Group { ports, mut desired } = group;
    let max = seen.endpoints_max;
    let mut unchanged = Vec::new();
    let mut update = Vec::new();
    for slice in existing {
        let before = slice.endpoints.as_deref().unwrap_or_default();
        let mut kept = Vec::with_capacity(before.len());
        let mut is_changed = false;
        for endpoint in before {
            if let Some(wanted) = desired.remove(&Identity::of(endpoint)) {
                is_changed |= !says_the_same(&wanted, endpoint);
                kept.push(wanted);
            }
        }
        is_changed |= kept.len() != before.len();
        let (labels, is_relabelled) = labels(strings(&slice.metadata.labels), seen.service);
        if is_changed && kept.is_empty() {
            delete.push((*slice).clone());
        } else if is_changed || is_relabelled {
            let mut slice = EndpointSlice::clone(slice);
            if is_changed {
                slice.endpoints = Some(kept);
            }
            slice.metadata.labels = Some(labels);
            update.push(slice);
        } else {
            unchanged.push(*slice);
        }
    }

    let count = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
    let pour = |slice: &mut EndpointSlice, desired: &mut EndpointSet| {
        let endpoints = slice.endpoints.get_or_insert_default();
        while endpoints.len() < max
            && let Some((_, endpoint)) = desired.pop_first()
        {
            endpoints.push(endpoint);
        }
    };
    update.sort_by_key(|slice| std::cmp::Reverse(count(slice)));
    update
        .iter_mut()
        .for_each(|slice| pour(slice, &mut desired));
    while !desired.is_empty() {
        let room = |slice: &EndpointSlice| {
            max.checked_sub(count(slice) + desired.len())
                .filter(|room| *room < max)
        };
        let fits = unchanged.iter().enumerate().filter(|_| desired.len() < max);
        let best = fits.filter_map(|(i, slice)| Some((room(slice)?, i))).min();
        if let Some((_, index)) = best {
            let mut slice = EndpointSlice::clone(unchanged.remove(index));
            pour(&mut slice, &mut desired);
            update.push(slice);
        } else {
            let mut slice = new_slice(seen.service, family, ports.clone());
            pour(&mut slice, &mut desired);
            slices.create.push(slice);
        }
    }
    slices.update.append(&mut update);
}

fn hint(seen: &Observed<'_>, family: &'static str, slices: &mut Slices, plan: &mut Plan) {
    let annotations = strings(&seen.service.metadata.annotations);
    let mode = annotations
        .get("service.kubernetes.io/topology-aware-hints")
        .or_else(|| annotations.get("service.kubernetes.io/topology-mode"));
    let mut tell = |mut note: Note| {
        note.message = format!("{}, addressType: {family}", note.message);
        plan.notes.push(note);
    };
    if mode.is_some_and(|mode| mode == "Auto" || mode == "auto") {
        match slices.add_hints(seen.zones) {
            Ok(counts) => {
                plan.hinted.counts.insert(family, counts);
                if !std::mem::replace(&mut plan.hinted.is_announced, true) {
                    tell(topology::enabled());
                }
            }
            Err(why) => {
                plan.hinted.counts.remove(family);
                plan.hinted.is_announced = false;
                tell(why);
            }
        }
        return;
    }
    plan.hinted.counts.remove(family);
    if std::mem::take(&mut plan.hinted.is_announced) {
        tell(topology::disabled());
    }
    let distribution = spec_of(seen.service).traffic_distribution.as_deref();
    match distribution.and_then(Distribution::parse) {
        Some(distribution) => distribution.add_hints(slices),
        None => slices.remove_hints(),
    }
}

/// Replaces slices that would be deleted by new ones, under their names.
fn recycle(
    service: &Service,
    mut slices: Slices,
    delete: Vec<Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    for old in delete {
        match slices.create.pop_if(|_| is_owned(&old, service)) {
            Some(mut slice) => {
                slice.metadata.name = old.metadata.name.clone();
                slices.update.push(slice);
            }
            None => plan.delete.push(old),
        }
    }
    plan.create.append(&mut slices.create);
    plan.update.append(&mut slices.update);
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let mut owners = slice.metadata.owner_references.iter().flatten();
    owners.any(|owner| {
        Some(&owner.uid) == service.metadata.uid.as_ref()
            && owner.kind == "Service"
            && owner.api_version == "v1"
    })
}

fn is_placeholder(slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
    let is_empty = slice.endpoints.as_ref().is_none_or(Vec::is_empty)
        && slice.ports.as_ref().is_none_or(Vec::is_empty);
    is_empty && slice.metadata.labels == placeholder.metadata.labels
}

/// A slice of a Service, without endpoints.
pub(super) fn new_slice(
    service: &Service,
    family: &str,
    ports: Vec<EndpointPort>,
) -> EndpointSlice {
    let meta = &service.metadata;
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(name_of(meta))),
            namespace: meta.namespace.clone(),
            labels: Some(labels(&Strings::new(), service).0),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name: name_of(meta).to_owned(),
                uid: meta.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: Some(ports),
        endpoints: Some(Vec::new()),
    }
}

/// The labels of a slice: its Service's, and those that are ours; and whether the former changed.
fn labels(current: &Strings, service: &Service) -> (Strings, bool) {
    let reserved = BTreeSet::from([SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL]);
    let own = |labels: &Strings| -> Strings {
        let own = labels
            .iter()
            .filter(|(key, _)| !reserved.contains(key.as_str()));
        own.map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut labels = own(strings(&service.metadata.labels));
    let is_changed = own(current) != labels;
    if !has_cluster_ip(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    let name = name_of(&service.metadata).to_owned();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name);
    labels.insert(MANAGED_BY_LABEL.to_owned(), NAME.to_owned());
    (labels, is_changed)
}

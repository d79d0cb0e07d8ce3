//! Which Endpoints a Service shall have, given its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::values::ip;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service,
};

use super::NAME;
use crate::pod::Pod;
use crate::service_endpoints::{
    HEADLESS_LABEL, IPV4, IPV6, Strings, TRIGGER_TIME_ANNOTATION, addresses, can_be_endpoint,
    find_port, has_cluster_ip, hostname, spec_of, strings, trigger_time,
};

/// The most addresses that one object may have.
const CAPACITY: usize = 1000;
/// The annotation of an object that would have had more.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The label that says who manages an object.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// The object that a Service shall have; none if the current one is as it shall be.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    current: Option<&Endpoints>,
    trigger_time: Option<Timestamp>,
) -> Option<Endpoints> {
    let subsets = subsets(service, pods);
    if current.is_some_and(|current| is_right(current, &subsets, service)) {
        return None;
    }
    let mut wanted = Endpoints::default();
    match current {
        Some(current) => wanted.metadata = current.metadata.clone(),
        None => {
            wanted.metadata.name = service.metadata.name.clone();
            wanted.metadata.namespace = service.metadata.namespace.clone();
        }
    }
    wanted.subsets = Some(subsets);
    let is_truncated = truncate(wanted.subsets.get_or_insert_default());
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    match trigger_time {
        Some(at) => annotations.insert(
            TRIGGER_TIME_ANNOTATION.to_owned(),
            trigger_time::written(at),
        ),
        None => annotations.remove(TRIGGER_TIME_ANNOTATION),
    };
    if is_truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    let mut labels = strings(&service.metadata.labels).clone();
    if has_cluster_ip(service) {
        labels.remove(HEADLESS_LABEL);
    } else {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), NAME.to_owned());
    wanted.metadata.labels = Some(labels);
    Some(wanted)
}

fn is_right(current: &Endpoints, subsets: &[EndpointSubset], service: &Service) -> bool {
    let current_subsets = current.subsets.as_deref().unwrap_or_default();
    let count: usize = current_subsets.iter().map(size).sum();
    let annotations = strings(&current.metadata.annotations);
    // Repacked, since another controller may have sorted them otherwise.
    count <= CAPACITY
        && !annotations.contains_key(OVER_CAPACITY)
        && has_right_labels(strings(&current.metadata.labels), service)
        && repack(current_subsets) == subsets
}

fn has_right_labels(labels: &Strings, service: &Service) -> bool {
    let mut own = labels.clone();
    own.remove(HEADLESS_LABEL);
    let managed_by = own.remove(MANAGED_BY);
    managed_by.as_deref() == Some(NAME) && own == *strings(&service.metadata.labels)
}

fn size(subset: &EndpointSubset) -> usize {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    count(&subset.addresses) + count(&subset.not_ready_addresses)
}

/// The family of a Service's addresses: the first one.
fn family<'a>(service: &'a Service, pod: &Pod) -> &'a str {
    let spec = spec_of(service);
    if let Some(first) = spec.ip_families.iter().flatten().next() {
        return first;
    }
    let address = spec
        .cluster_ip
        .as_deref()
        .filter(|_| has_cluster_ip(service));
    match address.or_else(|| pod.status.pod_ips.first().map(|ip| &**ip)) {
        Some(address) if ip::is_v6(address) => IPV6,
        _ => IPV4,
    }
}

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = spec_of(service);
    let publishes_all = spec.publish_not_ready_addresses == Some(true);
    let ports = spec.ports.as_deref().unwrap_or_default();
    let mut subsets = Vec::new();
    for pod in pods
        .iter()
        .filter(|pod| can_be_endpoint(pod, publishes_all))
    {
        let Some(address) = address(service, pod) else {
            continue;
        };
        let is_ready = publishes_all || pod.is_ready();
        let mut add = |port: Option<EndpointPort>| {
            let (ready, waiting) = if is_ready {
                (Some(vec![address.clone()]), None)
            } else {
                (None, Some(vec![address.clone()]))
            };
            subsets.push(EndpointSubset {
                addresses: ready,
                not_ready_addresses: waiting,
                ports: port.map(|port| vec![port]),
            });
        };
        if ports.is_empty() && spec.cluster_ip.as_deref() == Some("None") {
            add(None);
        }
        for port in ports {
            if let Some(number) = find_port(pod, port) {
                add(Some(EndpointPort {
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: number,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                }));
            }
        }
    }
    repack(&subsets)
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: addresses(pod, family(service, pod)).into_iter().next()?,
        node_name: Some(pod.spec.node_name.clone()),
        hostname: hostname(pod, service),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

/// What tells addresses apart: pods of one host network share their address.
type AddressKey = (String, String);
/// A port in an order.
type PortKey = (Option<String>, i32, Option<String>, Option<String>);

fn address_key(address: &EndpointAddress) -> AddressKey {
    let uid = address
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.clone());
    (address.ip.clone(), uid.unwrap_or_default())
}

/// Brings subsets into their canonical form: every set of addresses once, with all of its ports. An
/// address that is not ready anywhere for a port is not ready.
pub fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut all = BTreeMap::<AddressKey, EndpointAddress>::new();
    let mut by_port = BTreeMap::<Option<PortKey>, BTreeMap<AddressKey, bool>>::new();
    for subset in subsets {
        let ports = subset.ports.as_deref().unwrap_or_default();
        let keys = ports.iter().map(|port| {
            let (name, protocol) = (port.name.clone(), port.protocol.clone());
            Some((name, port.port, protocol, port.app_protocol.clone()))
        });
        // Addresses without ports are kept as such.
        let portless = ports.is_empty().then_some(None);
        for key in keys.chain(portless) {
            let addresses = by_port.entry(key).or_default();
            let ready = subset.addresses.iter().flatten().map(|a| (a, true));
            let waiting = subset
                .not_ready_addresses
                .iter()
                .flatten()
                .map(|a| (a, false));
            for (address, is_ready) in ready.chain(waiting) {
                let key = address_key(address);
                all.entry(key.clone()).or_insert_with(|| {
                    let mut address = address.clone();
                    if let Some(target) = &mut address.target_ref {
                        target.resource_version = None;
                    }
                    address
                });
                let was_ready = addresses.entry(key).or_insert(is_ready);
                *was_ready &= is_ready;
            }
        }
    }
    let mut by_addresses = BTreeMap::<BTreeMap<AddressKey, bool>, BTreeSet<PortKey>>::new();
    for (port, addresses) in by_port {
        by_addresses.entry(addresses).or_default().extend(port);
    }
    let packed = by_addresses.into_iter().map(|(addresses, ports)| {
        let which = |wanted: bool| -> Option<Vec<EndpointAddress>> {
            let keys = addresses.iter().filter(|(_, ready)| **ready == wanted);
            let found: Vec<_> = keys.filter_map(|(key, _)| all.get(key).cloned()).collect();
            (!found.is_empty()).then_some(found)
        };
        let ports: Vec<_> = ports
            .into_iter()
            .map(|(name, port, protocol, app_protocol)| EndpointPort {
                name,
                port,
                protocol,
                app_protocol,
            })
            .collect();
        EndpointSubset {
            addresses: which(true),
            not_ready_addresses: which(false),
            ports: (!ports.is_empty()).then_some(ports),
        }
    });
    packed.collect()
}

/// Cuts subsets down to what one object may have, ready addresses first, each subset in proportion.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|s| count(&s.addresses)).sum();
    let waiting: usize = subsets.iter().map(|s| count(&s.not_ready_addresses)).sum();
    if ready + waiting <= CAPACITY {
        return false;
    }
    let cuts_ready = ready > CAPACITY;
    let (room, total) = if cuts_ready {
        (CAPACITY, ready)
    } else {
        (CAPACITY - ready, waiting)
    };
    let mut left = room;
    for subset in subsets {
        if cuts_ready {
            subset.not_ready_addresses = None;
        }
        let addresses = if cuts_ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        if let Some(addresses) = addresses {
            let share = (addresses.len() * room).div_ceil(total).min(left);
            addresses.truncate(share);
            left -= addresses.len();
        }
    }
    true
}

//! Which slices mirror Endpoints that someone made by hand for a Service without a selector.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::values::ip;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort as OldPort, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::NAME;
use crate::endpoints::plan::repack;
use crate::note::Note;
use crate::service_endpoints::{
    EndpointSet, IPV4, IPV6, Identity, LEADER_ANNOTATION, MANAGED_BY_LABEL, Ports,
    SERVICE_NAME_LABEL, Strings, TRIGGER_TIME_ANNOTATION, name_of, name_prefix, says_the_same,
    strings,
};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// What to write.
#[derive(Debug, Default)]
pub struct Plan {
    /// Slices to create.
    pub create: Vec<EndpointSlice>,
    /// Slices to replace.
    pub update: Vec<EndpointSlice>,
    /// Slices to delete.
    pub delete: Vec<Arc<EndpointSlice>>,
    /// Slices that are as they shall be.
    pub kept: Vec<Arc<EndpointSlice>>,
    /// What to tell about the Endpoints.
    pub notes: Vec<Note>,
}

/// Whether Endpoints are to be mirrored, as far as they say themselves.
pub fn wants_mirror(endpoints: &Endpoints) -> bool {
    let skips = strings(&endpoints.metadata.labels).get(SKIP_MIRROR);
    skips.is_none_or(|skips| skips != "true")
        && !strings(&endpoints.metadata.annotations).contains_key(LEADER_ANNOTATION)
}

/// What is wanted in one family at one set of ports.
#[derive(Default)]
struct Group {
    ports: Vec<EndpointPort>,
    desired: EndpointSet,
}

type Groups = BTreeMap<(&'static str, Ports), Group>;

/// Plans the slices that mirror Endpoints, at most `addresses_max` per subset.
pub fn plan(endpoints: &Endpoints, slices: &[Arc<EndpointSlice>], addresses_max: usize) -> Plan {
    let mut plan = Plan::default();
    let groups = desired(endpoints, addresses_max, &mut plan.notes);
    let mut existing = BTreeMap::<(&str, Ports), Vec<&Arc<EndpointSlice>>>::new();
    for slice in slices {
        let ports = Ports::of(slice.ports.as_deref().unwrap_or_default());
        let family = if slice.address_type == IPV6 {
            IPV6
        } else {
            IPV4
        };
        existing.entry((family, ports)).or_default().push(slice);
    }
    for (key, group) in groups {
        let current = existing.remove(&key).unwrap_or_default();
        mirror(endpoints, key.0, group, &current, addresses_max, &mut plan);
    }
    plan.delete
        .extend(existing.into_values().flatten().cloned());

    // What would be deleted is overwritten by what would be created.
    for mut slice in std::mem::take(&mut plan.create) {
        let same = |old: &Arc<EndpointSlice>| old.address_type == slice.address_type;
        if let Some(index) = plan.delete.iter().position(same) {
            slice.metadata.name = plan.delete.remove(index).metadata.name.clone();
            plan.update.push(slice);
        } else {
            plan.create.push(slice);
        }
    }
    if endpoints.metadata.deletion_timestamp.is_some() {
        plan.create.clear();
    }
    plan
}

fn desired(endpoints: &Endpoints, addresses_max: usize, notes: &mut Vec<Note>) -> Groups {
    let mut groups = Groups::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let waiting = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|a| (a, false));
        let mut added = 0;
        for (address, is_ready) in ready.chain(waiting) {
            if added >= addresses_max {
                skipped += 1;
            } else if let Some((family, endpoint)) = endpoint(address, is_ready) {
                let group = groups.entry((family, Ports::of(&ports))).or_default();
                group.ports.clone_from(&ports);
                group.desired.insert(Identity::of(&endpoint), endpoint);
                added += 1;
            } else {
                invalid += 1;
                skipped += 1;
            }
        }
    }
    if invalid > 0 {
        notes.push(Note::warning(
            "InvalidIPAddress",
            format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices"),
        ));
    }
    if skipped > invalid {
        notes.push(Note::warning(
            "TooManyAddressesToMirror",
            format!(
                "A max of {addresses_max} addresses can be mirrored to EndpointSlices per \
                 Endpoints subset. {skipped} addresses were skipped"
            ),
        ));
    }
    groups
}

fn port(port: &OldPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Option<(&'static str, Endpoint)> {
    let parsed = ip::parse(&address.ip)?.to_canonical();
    let endpoint = Endpoint {
        addresses: vec![ip::canonical(parsed)],
        conditions: Some(EndpointConditions {
            ready: Some(is_ready),
            ..EndpointConditions::default()
        }),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        ..Endpoint::default()
    };
    Some((if parsed.is_ipv6() { IPV6 } else { IPV4 }, endpoint))
}

/// Brings one group to its one slice.
fn mirror(
    endpoints: &Endpoints,
    family: &str,
    group: Group,
    existing: &[&Arc<EndpointSlice>],
    addresses_max: usize,
    plan: &mut Plan,
) {
    let Some((first, rest)) = existing.split_first() else {
        plan.create
            .push(new_slice(endpoints, family, group, addresses_max));
        return;
    };
    plan.delete.extend(rest.iter().copied().cloned());
    if is_mirror(first, endpoints, &group.desired) {
        plan.kept.push((*first).clone());
        return;
    }
    let mut slice = new_slice(endpoints, family, group, addresses_max);
    slice.metadata.generate_name = None;
    slice.metadata.name = first.metadata.name.clone();
    plan.update.push(slice);
}

fn is_mirror(slice: &EndpointSlice, endpoints: &Endpoints, desired: &EndpointSet) -> bool {
    let mut labels = strings(&slice.metadata.labels).clone();
    labels.remove(MANAGED_BY_LABEL);
    labels.remove(SERVICE_NAME_LABEL);
    let mut wanted = strings(&endpoints.metadata.labels).clone();
    wanted.remove(MANAGED_BY_LABEL);
    wanted.remove(SERVICE_NAME_LABEL);
    let current = slice.endpoints.as_deref().unwrap_or_default();
    // Endpoints that were deleted and made again have another identity.
    let is_of_another = slice
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| {
            owner.kind == "Endpoints"
                && Some(&owner.name) == endpoints.metadata.name.as_ref()
                && Some(&owner.uid) != endpoints.metadata.uid.as_ref()
        });
    !is_of_another
        && labels == wanted
        && *strings(&slice.metadata.annotations) == annotations(endpoints)
        && current.len() == desired.len()
        && current.iter().all(|endpoint| {
            let wanted = desired.get(&Identity::of(endpoint));
            wanted.is_some_and(|wanted| says_the_same(wanted, endpoint))
        })
}

fn annotations(endpoints: &Endpoints) -> Strings {
    let mut annotations = strings(&endpoints.metadata.annotations).clone();
    annotations.remove(TRIGGER_TIME_ANNOTATION);
    annotations.remove(LAST_APPLIED);
    annotations
}

fn new_slice(
    endpoints: &Endpoints,
    family: &str,
    group: Group,
    addresses_max: usize,
) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let mut labels = strings(&meta.labels).clone();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name_of(meta).to_owned());
    labels.insert(MANAGED_BY_LABEL.to_owned(), NAME.to_owned());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(name_of(meta))),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations(endpoints)),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Endpoints".to_owned(),
                name: name_of(meta).to_owned(),
                uid: meta.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: Some(group.ports),
        endpoints: Some(group.desired.into_values().take(addresses_max).collect()),
    }
}

//! discovery.k8s.io: endpoint slices.

use std::collections::HashSet;

use api::doc::{Doc, Id};
use api::field::FieldError;
use api::name;
use api::values::ip;

use super::facts::{Facts, Generation, Rule, items_at, subdomain};
use super::ip::{endpoint_ip, ip_warning, legacy_ip, strict_ip};
use crate::validation::{At, Errors, labels, same};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;

/// What is particular about endpoint slices.
pub const ENDPOINT_SLICE: Facts = Facts {
    generation: Generation::Of(&["addressType", "endpoints", "ports"]),
    prepare_create: |_, new| drop_topology(new, None),
    prepare_update: |_, new, old| {
        drop_topology(new, Some(old));
        count_labels(new, old);
    },
    create: |_, new, errors| slice(errors, new, None),
    update: |_, new, old, errors| {
        slice(errors, new, Some(old));
        errors.immutable(new.get("addressType"), old.get("addressType"));
    },
    warnings: |_, new, old, warnings| warn(new, old, warnings),
    ..Facts::PLAIN
};

/// A change of labels counts, too.
fn count_labels(new: &mut Doc, old: &Doc) {
    let path = ["metadata", "labels"];
    if !same(At::root(new).path(&path), At::root(old).path(&path)) {
        let generation = At::root(old).path(&["metadata", "generation"]).int() + 1;
        new.set_path(&["metadata", "generation"], generation);
    }
}

/// Topology by labels is of the past; what only it told about nodes is kept.
fn drop_topology(new: &mut Doc, old: Option<&Doc>) {
    const HOST: &str = "kubernetes.io/hostname";
    let before = old.map(|old| At::root(old).get("endpoints"));
    if before.is_some_and(|before| same(before, At::root(new).get("endpoints"))) {
        return;
    }
    let host = |at: At<'_>| {
        let topology = at.get("deprecatedTopology").entry(HOST);
        topology.map(|host| host.str().to_string())
    };
    let known: HashSet<String> = before
        .into_iter()
        .flat_map(|before| before.items().filter_map(host).collect::<Vec<_>>())
        .collect();
    let endpoints: Vec<Id> = items_at(new, &["endpoints"]);
    for endpoint in endpoints {
        let at = At::of(new.node(endpoint));
        let node = host(at).filter(|host| {
            !at.has("nodeName") && known.contains(host) && subdomain(host).is_empty()
        });
        new.remove(endpoint, "deprecatedTopology");
        if let Some(node) = node {
            new.set(endpoint, "nodeName", &node);
        }
    }
}

fn slice(errors: &mut Errors, new: At<'_>, old: Option<At<'_>>) {
    errors.need_one_of(new.get("addressType"), &["FQDN", "IPv4", "IPv6"]);
    ports(errors, new.get("ports"));
    // What was good once stays so until it is touched.
    if !old.is_some_and(|old| same(old.get("endpoints"), new.get("endpoints"))) {
        endpoints(errors, new);
    }
}

fn ports(errors: &mut Errors, list: At<'_>) {
    if list.len() > PORTS_MAX {
        return errors.too_many(list, PORTS_MAX);
    }
    let mut names = HashSet::new();
    for port in list.items() {
        let port_name = port.get("name");
        if !port_name.is_empty() {
            errors.names(port_name, name::dns_1123_label);
        }
        if !names.insert(port_name.str()) {
            errors.duplicate(port_name);
        }
        if port.has("protocol") {
            errors.one_of(port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        } else {
            errors.required(port.get("protocol"), "");
        }
        if port.has("appProtocol") {
            errors.names(port.get("appProtocol"), name::label_key);
        }
    }
}

fn endpoints(errors: &mut Errors, new: At<'_>) {
    let list = new.get("endpoints");
    if list.len() > ENDPOINTS_MAX {
        return errors.too_many(list, ENDPOINTS_MAX);
    }
    for endpoint in list.items() {
        let addresses = endpoint.get("addresses");
        if errors.need(addresses, "must contain at least 1 address")
            && addresses.len() > ADDRESSES_MAX
        {
            errors.too_many(addresses, ADDRESSES_MAX);
        }
        for address in addresses.items() {
            one_address(errors, addresses, address, new.get("addressType").str());
        }
        if endpoint.has("nodeName") {
            errors.names(endpoint.get("nodeName"), subdomain);
        }
        let topology = endpoint.get("deprecatedTopology");
        if topology.len() > TOPOLOGY_MAX {
            errors.too_many(topology, TOPOLOGY_MAX);
        }
        labels::labels(errors, topology);
        if endpoint.has("hostname") {
            errors.names(endpoint.get("hostname"), name::dns_1123_label);
        }
        hints(errors, endpoint.get("hints"));
    }
}

/// An address of the wrong family is told without its index.
fn one_address(errors: &mut Errors, list: At<'_>, address: At<'_>, kind: &str) {
    let before = errors.len();
    let is_right = match kind {
        "IPv4" => {
            legacy_ip(errors, address, &[]);
            ip::is_v4(address.str())
        }
        "IPv6" => {
            strict_ip(errors, address);
            ip::is_v6(address.str())
        }
        "FQDN" => return domain(errors, address),
        _ => return,
    };
    if errors.len() == before {
        if !is_right {
            let detail = format!("must be an {kind} address");
            errors.invalid_value(list, address.str(), detail);
        }
        endpoint_ip(errors, address);
    }
}

/// A fully qualified domain name.
fn domain(errors: &mut Errors, at: At<'_>) {
    if !errors.need(at, "") {
        return;
    }
    let text = at.str().strip_suffix('.').unwrap_or(at.str());
    let complaints = name::dns_1123_subdomain(text);
    if !complaints.is_empty() {
        return errors.invalid_value(at, text, complaints.join(","));
    }
    if !text.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return errors.invalid_value(at, text, detail);
    }
    for label in text.split('.') {
        let complaints = name::dns_1123_label(label);
        if !complaints.is_empty() {
            return errors.invalid_value(at, label, complaints.join(","));
        }
    }
}

fn hints(errors: &mut Errors, hints: At<'_>) {
    let rules: [(&str, Rule); 2] = [("forZones", name::label_value), ("forNodes", subdomain)];
    for (field, rule) in rules {
        let list = hints.get(field);
        if list.len() > HINTS_MAX {
            return errors.too_many(list, HINTS_MAX);
        }
        let mut seen = HashSet::new();
        for hint in list.items().map(|item| item.get("name")) {
            if !seen.insert(hint.str()) {
                let path = errors.path(hint);
                errors.push(FieldError::duplicate(path, hint.str()));
            }
            errors.names(hint, rule);
        }
    }
}

fn warn(new: At<'_>, old: Option<At<'_>>, warnings: &mut Vec<String>) {
    if old.is_none() && new.get("addressType").str() == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_string());
    }
    let by = new.path(&["metadata", "labels"]).entry(MANAGED_BY);
    if by.is_some_and(|by| CONTROLLERS.contains(&by.str())) {
        return;
    }
    for (index, endpoint) in new.get("endpoints").items().enumerate() {
        for (at, address) in endpoint.get("addresses").items().enumerate() {
            let path = format!("endpoints[{index}].addresses[{at}]");
            warnings.extend(ip_warning(&path, address.str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{Case, cases, prepared_update};

    const GOOD: &str = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a","generation":1},
        "addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"hostname":"h","nodeName":"n",
        "hints":{"forZones":[{"name":"z"}],"forNodes":[{"name":"n"}]}}],"ports":[{"name":"a","port":80,"protocol":"TCP"}]}"#;

    #[test]
    fn wrong_fields_are_told() {
        cases(
            &ENDPOINT_SLICE,
            GOOD,
            &[
                Case::create(
                    "addressType",
                    r#""x""#,
                    &[
                        r#"addressType: Unsupported value: "x": supported values: "FQDN", "IPv4", "IPv6""#,
                    ],
                ),
                Case::update(
                    "addressType",
                    r#""FQDN""#,
                    &[r#"addressType: Invalid value: "FQDN": field is immutable"#],
                ),
                Case::create(
                    "endpoints 0 addresses",
                    "[]",
                    &["endpoints[0].addresses: Required value: must contain at least 1 address"],
                ),
                Case::create(
                    "endpoints 0 addresses 0",
                    r#""::1""#,
                    &[
                        r#"endpoints[0].addresses: Invalid value: "::1": must be an IPv4 address"#,
                        r#"endpoints[0].addresses[0]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
                    ],
                ),
                Case::create(
                    "endpoints 0 hostname",
                    r#""A""#,
                    &["endpoints[0].hostname: Invalid value: \"A\": a lowercase RFC 1123 label…"],
                ),
                Case::create(
                    "endpoints 0 hints forZones 1",
                    r#"{"name":"z"}"#,
                    &[r#"endpoints[0].hints.forZones[1].name: Duplicate value: "z""#],
                ),
                Case::create(
                    "ports 1",
                    r#"{"name":"a","port":80,"protocol":"TCP"}"#,
                    &[r#"ports[1].name: Duplicate value: "a""#],
                ),
                Case::create(
                    "ports 0 protocol",
                    "-",
                    &["ports[0].protocol: Required value"],
                ),
            ],
        );
    }

    #[test]
    fn labels_count_and_topology_goes() {
        let new = GOOD.replace(
            r#""nodeName":"n""#,
            r#""deprecatedTopology":{"kubernetes.io/hostname":"n"}"#,
        );
        let old = new.replace("10.0.0.1", "10.0.0.2");
        let made = prepared_update(&ENDPOINT_SLICE, "", &new, &old);
        let endpoint = At::root(&made).get("endpoints").items().next().unwrap();
        assert_eq!(endpoint.get("nodeName").str(), "n");
        assert!(!endpoint.has("deprecatedTopology"));
        assert_eq!(At::root(&made).path(&["metadata", "generation"]).int(), 2);
        let labelled = GOOD.replace(r#""generation":1"#, r#""generation":1,"labels":{"a":"b"}"#);
        let made = prepared_update(&ENDPOINT_SLICE, "", &labelled, GOOD);
        assert_eq!(At::root(&made).path(&["metadata", "generation"]).int(), 2);
    }
}

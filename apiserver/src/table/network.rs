//! Services and what leads to them.

use std::collections::BTreeSet;

use api::doc::Node;

use super::Printer;
use super::view::{Cell, Col, View, at, int, items, joined, text};

pub(super) const PRINTERS: &[Printer] = &[
    (
        "",
        "Service",
        &[
            Col::Name,
            Col::Text("spec.type"),
            Col::Of(|view| {
                let first = view.items("spec.clusterIPs").next();
                first.and_then(Node::as_str).unwrap_or("<none>").into()
            }),
            Col::Of(external_ip),
            Col::Of(ports),
            Col::Age,
            Col::Labels("spec.selector"),
        ],
    ),
    ("", "Endpoints", &[Col::Name, Col::Of(endpoints), Col::Age]),
    (
        "discovery.k8s.io",
        "EndpointSlice",
        &[
            Col::Name,
            Col::Text("addressType"),
            Col::Of(|view| {
                let port = |port: Node<'_>| match (at(port, "port"), at(port, "name")) {
                    (Some(number), _) => number.to_string(),
                    (None, Some(name)) => name.as_str().unwrap_or_default().to_string(),
                    (None, None) => "*".to_string(),
                };
                some_of(view.items("ports").map(port).collect()).into()
            }),
            Col::Of(|view| {
                let addresses = view
                    .items("endpoints")
                    .flat_map(|one| items(one, "addresses"));
                let address = |node: Node<'_>| node.as_str().unwrap_or_default().to_string();
                some_of(addresses.map(address).collect()).into()
            }),
            Col::Age,
        ],
    ),
    (
        "networking.k8s.io",
        "Ingress",
        &[
            Col::Name,
            Col::Or("spec.ingressClassName", "<none>"),
            Col::Of(hosts),
            Col::Of(|view| joined(addresses(view).into_iter(), ",").into()),
            Col::Of(|view| match view.count("spec.tls") {
                0 => "80".into(),
                _ => "80, 443".into(),
            }),
            Col::Age,
        ],
    ),
    (
        "networking.k8s.io",
        "IngressClass",
        &[
            Col::Of(|view| {
                let annotations = view.at("metadata.annotations");
                let default = annotations
                    .and_then(|all| all.get("ingressclass.kubernetes.io/is-default-class"))
                    .and_then(Node::as_str);
                let suffix = if default == Some("true") {
                    " (default)"
                } else {
                    ""
                };
                format!("{}{suffix}", view.name()).into()
            }),
            Col::Text("spec.controller"),
            Col::Of(|view| match view.at("spec.parameters") {
                None => "<none>".into(),
                Some(parameters) => {
                    let mut kind = text(parameters, "kind").to_string();
                    if let Some(group) = at(parameters, "apiGroup").and_then(Node::as_str) {
                        kind = format!("{kind}.{group}");
                    }
                    format!("{kind}/{}", text(parameters, "name")).into()
                }
            }),
            Col::Age,
        ],
    ),
    (
        "networking.k8s.io",
        "NetworkPolicy",
        &[Col::Name, Col::Selector("spec.podSelector"), Col::Age],
    ),
    (
        "networking.k8s.io",
        "ServiceCIDR",
        &[
            Col::Name,
            Col::Of(|view| joined(view.items("spec.cidrs").filter_map(Node::as_str), ",").into()),
            Col::Age,
        ],
    ),
    // The age has no heading, upstream neither.
    (
        "networking.k8s.io",
        "IPAddress",
        &[Col::Name, Col::Of(parent), Col::Age],
    ),
];

/// How many hosts, endpoints and ports are shown.
const SHOWN: usize = 3;

fn external_ip(view: &View<'_>) -> Cell {
    let own: Vec<&str> = view
        .items("spec.externalIPs")
        .filter_map(Node::as_str)
        .collect();
    match view.text("spec.type") {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => own.join(",").into(),
        "LoadBalancer" => match addresses(view).into_iter().chain(own).collect::<Vec<_>>() {
            none if none.is_empty() => "<pending>".into(),
            all => all.join(",").into(),
        },
        "ExternalName" => view.text("spec.externalName").into(),
        _ => "<unknown>".into(),
    }
}

/// Where a load balancer is reached, sorted.
fn addresses<'d>(view: &View<'d>) -> BTreeSet<&'d str> {
    let address = |ingress| match text(ingress, "ip") {
        "" => text(ingress, "hostname"),
        ip => ip,
    };
    let found = view.items("status.loadBalancer.ingress").map(address);
    found.filter(|address| !address.is_empty()).collect()
}

fn ports(view: &View<'_>) -> Cell {
    let port = |port: Node<'_>| {
        let (number, protocol) = (int(port, "port"), text(port, "protocol"));
        match int(port, "nodePort") {
            node if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    let all: Vec<String> = view.items("spec.ports").map(port).collect();
    if all.is_empty() {
        "<none>".into()
    } else {
        all.join(",").into()
    }
}

fn endpoints(view: &View<'_>) -> Cell {
    if view.count("subsets") == 0 {
        return "<none>".into();
    }
    let mut all = Vec::new();
    for subset in view.items("subsets") {
        let ips = || items(subset, "addresses").map(|address| text(address, "ip"));
        if items(subset, "ports").next().is_none() {
            all.extend(ips().map(str::to_string));
        }
        for port in items(subset, "ports") {
            let number = int(port, "port");
            all.extend(ips().map(|ip| match ip.contains([':', '%']) {
                true => format!("[{ip}]:{number}"),
                false => format!("{ip}:{number}"),
            }));
        }
    }
    abridged(&all, all.len()).into()
}

/// The first few, or `<unset>` where nothing would be shown.
fn some_of(all: Vec<String>) -> String {
    match abridged(&all, all.len()) {
        none if none.is_empty() => "<unset>".to_string(),
        some => some,
    }
}

/// The first few of so many.
fn abridged(all: &[String], count: usize) -> String {
    let first = all[..all.len().min(SHOWN)].join(",");
    match count.checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{first} + {more} more..."),
        _ => first,
    }
}

/// The hosts of the rules. Rules without a host count as well, once three hosts are shown.
fn hosts(view: &View<'_>) -> Cell {
    let mut shown = Vec::new();
    let mut is_more = false;
    for rule in view.items("spec.rules") {
        is_more |= shown.len() == SHOWN;
        let host = text(rule, "host");
        if !is_more && !host.is_empty() {
            shown.push(host.to_string());
        }
    }
    let rules = view.items("spec.rules").count();
    match is_more {
        _ if shown.is_empty() => "*".into(),
        true => abridged(&shown, rules).into(),
        false => shown.join(",").into(),
    }
}

fn parent(view: &View<'_>) -> Cell {
    let Some(parent) = view.at("spec.parentRef") else {
        return "<none>".into();
    };
    let resource = match text(parent, "group") {
        "" => text(parent, "resource").to_lowercase(),
        group => format!("{}.{group}", text(parent, "resource")).to_lowercase(),
    };
    match text(parent, "namespace") {
        "" => format!("{resource}/{}", text(parent, "name")).into(),
        namespace => format!("{resource}/{namespace}/{}", text(parent, "name")).into(),
    }
}

//! Stories of Endpoints.

use serde_json::{Value, json};

use super::*;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn service(spec: Value) -> Service {
    let mut full = json!({"clusterIP": "10.1.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    from(
        json!({"metadata": {"name": "svc", "namespace": "ns", "labels": {"a": "b"}}, "spec": full}),
    )
}

fn pod(number: usize, is_ready: bool) -> Arc<Pod> {
    let status = if is_ready { "True" } else { "False" };
    Arc::new(from(json!({
        "metadata": {"name": format!("p{number}"), "namespace": "ns", "uid": format!("u{number:05}")},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}],
                   "podIPs": [{"ip": format!("10.0.{}.{}", number / 250, number % 250 + 1)},
                              {"ip": format!("fd00::{number}")}]},
    })))
}

/// Counts of ready and other addresses per subset.
fn counts(endpoints: &Endpoints) -> Vec<(usize, usize)> {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let subsets = endpoints.subsets.iter().flatten();
    subsets
        .map(|subset| (count(&subset.addresses), count(&subset.not_ready_addresses)))
        .collect()
}

#[test]
fn ready_and_unready_pods_share_a_subset() {
    let service = service(json!({}));
    let made = plan(&service, &[pod(1, true), pod(2, false)], None, None).unwrap();
    assert_eq!(counts(&made), [(1, 1)]);
    let subset = &made.subsets.as_ref().unwrap()[0];
    let address = &subset.addresses.as_ref().unwrap()[0];
    assert_eq!(
        (address.ip.as_str(), address.node_name.as_deref()),
        ("10.0.0.2", Some("n1"))
    );
    assert_eq!(
        address.target_ref.as_ref().unwrap().uid.as_deref(),
        Some("u00001")
    );
    let labels = strings(&made.metadata.labels);
    assert_eq!(
        *labels,
        [("a", "b"), (MANAGED_BY, NAME)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    );
    assert_eq!(
        plan(&service, &[pod(1, true), pod(2, false)], Some(&made), None),
        None,
        "and stays so"
    );
    let changed = plan(&service, &[pod(1, true), pod(2, true)], Some(&made), None).unwrap();
    assert_eq!(counts(&changed), [(2, 0)]);
}

#[test]
fn the_first_family_counts() {
    let service = service(json!({"ipFamilies": ["IPv6", "IPv4"]}));
    let made = plan(&service, &[pod(7, true)], None, None).unwrap();
    assert_eq!(
        made.subsets.unwrap()[0].addresses.as_ref().unwrap()[0].ip,
        "fd00::7"
    );
}

#[test]
fn terminating_pods_are_gone_unless_all_are_published() {
    let mut going = Pod::clone(&pod(1, true));
    going.metadata.deletion_timestamp = from(json!("2026-01-01T00:00:00Z"));
    let going = [Arc::new(going)];
    let made = plan(&service(json!({})), &going, None, None).unwrap();
    assert_eq!(counts(&made), []);
    let made = plan(
        &service(json!({"publishNotReadyAddresses": true})),
        &going,
        None,
        None,
    )
    .unwrap();
    assert_eq!(counts(&made), [(1, 0)]);
}

#[test]
fn a_headless_service_needs_no_ports() {
    let service = service(json!({"clusterIP": "None", "ports": []}));
    let made = plan(&service, &[pod(1, true)], None, None).unwrap();
    assert_eq!(counts(&made), [(1, 0)]);
    assert_eq!(made.subsets.as_ref().unwrap()[0].ports, None);
    assert_eq!(
        strings(&made.metadata.labels)
            .get(HEADLESS_LABEL)
            .map(String::as_str),
        Some("")
    );
}

#[test]
fn ports_of_the_same_pods_are_packed() {
    let ports = json!([{"name": "a", "port": 1, "targetPort": 1, "protocol": "TCP"},
                       {"name": "b", "port": 2, "targetPort": 2, "protocol": "UDP"}]);
    let made = plan(
        &service(json!({"ports": ports})),
        &[pod(1, true), pod(2, true)],
        None,
        None,
    )
    .unwrap();
    assert_eq!(counts(&made), [(2, 0)]);
    assert_eq!(made.subsets.unwrap()[0].ports.as_ref().unwrap().len(), 2);
}

#[test]
fn at_most_a_thousand_addresses_ready_ones_first() {
    let annotated = |e: &Endpoints| strings(&e.metadata.annotations).get(OVER_CAPACITY).cloned();
    let pods: Vec<_> = (0..1100).map(|n| pod(n, n < 900)).collect();
    let made = plan(&service(json!({})), &pods, None, None).unwrap();
    assert_eq!(counts(&made), [(900, 100)]);
    assert_eq!(annotated(&made).as_deref(), Some("truncated"));
    let pods: Vec<_> = (0..1100).map(|n| pod(n, n < 1050)).collect();
    let made = plan(&service(json!({})), &pods, None, None).unwrap();
    assert_eq!(counts(&made), [(1000, 0)]);
    let fewer = plan(&service(json!({})), &pods[..10], Some(&made), None).unwrap();
    assert_eq!((counts(&fewer), annotated(&fewer)), (vec![(10, 0)], None));
}

//! Cycles, told as stories with upstream's words.

use serde_json::{Value, json};

use super::*;
use crate::testing::{Cluster, merged, node, node_in, on, pod, pod_of};

fn affinity(kind: &str, app: &str, key: &str) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]}}}})
}

fn labelled(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}})
}

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

#[test]
fn reasons_are_counted_and_sorted() {
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let mut cluster = Cluster::new([
        node("a", json!({})),
        node("b", taint.clone()),
        node("c", taint),
        node("d", json!({"spec": {"unschedulable": true}})),
    ]);
    assert_eq!(
        cluster.place(&pod_of("p", "5", json!({}))).unwrap_err(),
        "0/4 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 node(s) had untolerated taint(s)."
    );
}

#[test]
fn every_missing_resource_is_named() {
    let mut cluster = Cluster::new([node("a", json!({"status": {"allocatable": {"pods": "1"}}}))])
        .with([pod_of("x", "3", on("a", json!({})))]);
    let container = json!({"name": "c", "resources": {"requests": {
        "cpu": "2", "memory": "9Gi", "ephemeral-storage": "1", "example.com/gpu": "1"}}});
    assert_eq!(
        cluster
            .place(&pod("p", json!({"spec": {"containers": [container]}})))
            .unwrap_err(),
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient ephemeral-storage, 1 Insufficient example.com/gpu, 1 Insufficient memory, 1 Too many pods."
    );
}

#[test]
fn what_a_node_lacks_is_said_plugin_by_plugin() {
    let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"hostPort": 80, "protocol": "TCP"}]}]}});
    for (more, want) in [
        (
            json!({"spec": {"nodeName": "b"}}),
            "node(s) didn't match the requested node name",
        ),
        (
            json!({"spec": {"nodeSelector": {"a": "b"}}}),
            "node(s) didn't match Pod's node affinity/selector",
        ),
        (
            port.clone(),
            "node(s) didn't have free ports for the requested pod ports",
        ),
        (
            affinity("podAffinity", "db", ZONE),
            "node(s) didn't match pod affinity rules",
        ),
        (
            affinity("podAntiAffinity", "web", HOST),
            "node(s) didn't match pod anti-affinity rules",
        ),
        (
            labelled("enemy"),
            "node(s) didn't satisfy existing pods anti-affinity rules",
        ),
        (
            json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "x",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]}}),
            "node(s) didn't match pod topology spread constraints (missing required label)",
        ),
    ] {
        let mut web = merged(
            on("a", labelled("web")),
            affinity("podAntiAffinity", "enemy", HOST),
        );
        web = merged(web, port.clone());
        let mut cluster = Cluster::new([node("a", json!({}))]).with([pod("web", web)]);
        let message = cluster.place(&pod("p", more)).unwrap_err();
        assert_eq!(message, format!("0/1 nodes are available: 1 {want}."));
    }
}

#[test]
fn claims_are_looked_for_before_nodes() {
    let mut cluster = Cluster::new([node("a", json!({}))]);
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    assert_eq!(
        cluster
            .place(&pod("p", json!({"spec": {"volumes": volumes}})))
            .unwrap_err(),
        "0/1 nodes are available: persistentvolumeclaim \"data\" not found."
    );
}

#[test]
fn terms_that_name_nodes_narrow_the_search() {
    let mut cluster = Cluster::new((0..3).map(|i| node(&format!("n{i}"), json!({}))));
    let field = |name: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
    let wants = |terms: Value| {
        json!({"spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}})
    };
    assert_eq!(
        cluster.place(&pod("p", wants(field("n1")))),
        Ok("n1".to_string())
    );
    let daemon = pod_of("q", "5", wants(field("n1")));
    assert_eq!(
        cluster.place(&daemon).unwrap_err(),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
    assert_eq!(
        cluster.place(&pod("r", wants(field("gone")))).unwrap_err(),
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
}

#[test]
fn the_first_of_a_group_may_go_anywhere_and_the_others_follow() {
    let mut cluster = Cluster::new(["a", "b", "c"].map(|name| node_in(name, name)));
    let more = merged(labelled("db"), affinity("podAffinity", "db", ZONE));
    let first = cluster.place(&pod("p0", more.clone())).unwrap();
    for i in 1..5 {
        assert_eq!(
            cluster.place(&pod(&format!("p{i}"), more.clone())).unwrap(),
            first
        );
    }
}

#[test]
fn nodes_of_a_hard_spread_differ_by_at_most_the_skew() {
    let mut cluster =
        Cluster::new((0..6).map(|i| node_in(&format!("n{i}"), ["a", "b", "c"][i % 3])));
    let spread = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let mut zones = std::collections::BTreeMap::new();
    for i in 0..9 {
        let node = cluster
            .place(&pod(
                &format!("p{i}"),
                merged(labelled("web"), spread.clone()),
            ))
            .unwrap();
        let number: usize = node[1..].parse().unwrap();
        *zones.entry(number % 3).or_insert(0) += 1;
        let (least, most) = (zones.values().min().unwrap(), zones.values().max().unwrap());
        assert!(zones.len() < 3 || most - least <= 1, "{zones:?}");
    }
    assert_eq!(zones.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn too_few_domains_count_as_an_empty_one() {
    let mut cluster = Cluster::new([node_in("a", "a")]).with([pod("x", on("a", labelled("web")))]);
    let spread = |min: i32| {
        json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": ZONE,
        "minDomains": min, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}})
    };
    assert!(
        cluster
            .attempt(&pod("p", merged(labelled("web"), spread(1))), 0)
            .places()
    );
    assert_eq!(
        cluster
            .place(&pod("p", merged(labelled("web"), spread(2))))
            .unwrap_err(),
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints."
    );
}

#[test]
fn preferences_decide_among_nodes_that_do() {
    let prefer = |kind: &str| {
        json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "db"}}}}]}}}})
    };
    let cluster = || {
        Cluster::new(["a", "b"].map(|name| node(name, json!({}))))
            .with([pod("db", on("b", labelled("db")))])
    };
    assert_eq!(
        cluster().place(&pod("p", prefer("podAffinity"))).unwrap(),
        "b"
    );
    assert_eq!(
        cluster()
            .place(&pod("p", prefer("podAntiAffinity")))
            .unwrap(),
        "a"
    );
    let zone = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": HOST, "operator": "In", "values": ["b"]}]}}]}}}});
    assert_eq!(cluster().place(&pod("p", zone)).unwrap(), "b");
}

#[test]
fn siblings_of_a_service_are_spread_without_being_asked() {
    let mut cluster = Cluster::new((0..4).map(|i| node(&format!("n{i}"), json!({}))));
    let service = serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "default"},
        "spec": {"selector": {"app": "web"}}}))
    .unwrap();
    cluster.cache.snapshot_mut().workloads.set_service(&service);
    let mut nodes: Vec<_> = (0..4)
        .map(|i| {
            cluster
                .place(&pod(&format!("p{i}"), labelled("web")))
                .unwrap()
        })
        .collect();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes.len(), 4);
}

#[test]
fn a_pod_goes_where_it_made_room() {
    let mut cluster = Cluster::new(["a", "b", "c"].map(|name| node(name, json!({}))));
    let nominated = json!({"status": {"nominatedNodeName": "c"}});
    assert_eq!(cluster.place(&pod_of("p", "1", nominated)).unwrap(), "c");
}

#[test]
fn room_that_others_made_is_left_to_them() {
    let mut cluster = Cluster::new([node("a", json!({}))]);
    let waiting = pod_of("high", "3", json!({"spec": {"priority": 10}}));
    let low = pod_of("low", "2", json!({}));
    let info = cluster.cache.prepare(&low, &cluster.profile.defaults);
    let nominated = Nominated::new(cluster.cache.snapshot_mut(), [("a", &waiting)]);
    let attempt = schedule(
        cluster.cache.snapshot(),
        &info,
        &cluster.profile,
        &nominated,
        0,
        0,
    );
    let Decision::Unfit(diagnosis) = attempt.decision else {
        panic!("it yields")
    };
    assert_eq!(
        diagnosis.message(),
        "0/1 nodes are available: 1 Insufficient cpu."
    );
    let higher = pod_of("higher", "2", json!({"spec": {"priority": 11}}));
    let info = cluster.cache.prepare(&higher, &cluster.profile.defaults);
    assert!(
        schedule(
            cluster.cache.snapshot(),
            &info,
            &cluster.profile,
            &nominated,
            0,
            0
        )
        .places()
    );
}

#[test]
fn nothing_to_choose_from_is_said_so() {
    assert_eq!(
        Cluster::new([]).place(&pod("p", json!({}))).unwrap_err(),
        NO_NODES
    );
}

#[test]
fn counts_follow_nodes_and_namespaces_that_change() {
    let mut cluster = Cluster::new([node_in("a", "a"), node_in("b", "b")])
        .with([pod("web", on("a", labelled("web")))]);
    let near = pod("p", affinity("podAffinity", "web", ZONE));
    assert_eq!(cluster.place(&near).unwrap(), "a");
    cluster.cache.set_node(&node_in("b", "a"));
    cluster.cache.set_node(&node(
        "a",
        json!({"spec": {"unschedulable": true}, "metadata": {"labels": {ZONE: "a"}}}),
    ));
    assert_eq!(
        cluster.place(&near).unwrap(),
        "b",
        "b is in the zone of web now"
    );
    cluster.cache.remove_pod("web");
    assert!(cluster.place(&near).is_err());
    let by_namespace = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "web"}},
         "namespaceSelector": {"matchLabels": {"team": "x"}}}]}}}});
    cluster.cache.set_pod(&pod(
        "other",
        on(
            "b",
            merged(labelled("web"), json!({"metadata": {"namespace": "two"}})),
        ),
    ));
    assert!(cluster.place(&pod("q", by_namespace.clone())).is_err());
    let two = serde_json::from_value(json!({"metadata": {"name": "two", "labels": {"team": "x"}}}))
        .unwrap();
    cluster.cache.snapshot_mut().set_namespace(&two);
    assert_eq!(cluster.place(&pod("q", by_namespace)).unwrap(), "b");
}

impl Attempt {
    fn places(&self) -> bool {
        matches!(self.decision, Decision::Place(_))
    }
}

mod properties;

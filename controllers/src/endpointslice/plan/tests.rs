//! Stories of Services, their pods and their slices.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::api::discovery::v1::EndpointHints;
use serde_json::{Value, json};

use super::*;

/// A cluster as one Service sees it.
struct World {
    service: Service,
    pods: Vec<Arc<Pod>>,
    slices: Vec<Arc<EndpointSlice>>,
    nodes: BTreeMap<String, Arc<Node>>,
    zones: Option<Zones>,
    max: usize,
    hinted: Hinted,
    names: usize,
}

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
        json!({"metadata": {"name": "svc", "namespace": "ns", "uid": "u", "labels": {"a": "b"}},
                "spec": full}),
    )
}

fn pod(number: usize, change: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "ns", "uid": format!("pu{number}")},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                   "podIP": format!("10.0.{}.{}", number / 250, number % 250 + 1),
                   "podIPs": [{"ip": format!("10.0.{}.{}", number / 250, number % 250 + 1)}]},
    });
    for (path, value) in change.as_object().unwrap() {
        *pod.pointer_mut(path.rsplit_once('/').unwrap().0)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .entry(path.rsplit_once('/').unwrap().1)
            .or_insert(Value::Null) = value.clone();
    }
    Arc::new(from(pod))
}

fn pods(numbers: std::ops::Range<usize>) -> Vec<Arc<Pod>> {
    numbers.map(|number| pod(number, json!({}))).collect()
}

fn node(name: &str, zone: &str, cpu: &str) -> Arc<Node> {
    Arc::new(from(json!({
        "metadata": {"name": name, "labels": {ZONE_LABEL: zone}},
        "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]},
    })))
}

impl World {
    fn new(spec: Value) -> World {
        World {
            service: service(spec),
            pods: Vec::new(),
            slices: Vec::new(),
            nodes: [("n1".to_owned(), node("n1", "", "1"))].into(),
            zones: None,
            max: 100,
            hinted: Hinted::default(),
            names: 0,
        }
    }

    fn plan(&self) -> Plan {
        let seen = Observed {
            service: &self.service,
            pods: &self.pods,
            slices: &self.slices,
            node: &|name| self.nodes.get(name).cloned(),
            zones: self.zones.as_ref(),
            endpoints_max: self.max,
            trigger_time: None,
        };
        plan(&seen, self.hinted.clone())
    }

    /// Plans and does as planned; the writes as (created, updated, deleted).
    fn sync(&mut self) -> (usize, usize, usize) {
        let plan = self.plan();
        let writes = (plan.create.len(), plan.update.len(), plan.delete.len());
        let gone: Vec<_> = plan
            .delete
            .iter()
            .map(|slice| slice.metadata.name.clone())
            .collect();
        self.slices
            .retain(|slice| !gone.contains(&slice.metadata.name));
        for slice in plan.update {
            self.slices
                .retain(|old| old.metadata.name != slice.metadata.name);
            self.slices.push(Arc::new(slice));
        }
        for mut slice in plan.create {
            slice.metadata.name = Some(format!("svc-{}", self.names));
            self.names += 1;
            self.slices.push(Arc::new(slice));
        }
        self.hinted = plan.hinted;
        writes
    }

    fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<_> = self
            .slices
            .iter()
            .map(|s| s.endpoints.iter().flatten().count())
            .collect();
        sizes.sort_unstable();
        sizes
    }

    fn endpoints(&self) -> Vec<&Endpoint> {
        self.slices
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .collect()
    }
}

#[test]
fn a_service_without_pods_has_an_empty_slice() {
    let mut world = World::new(json!({}));
    assert_eq!(world.sync(), (1, 0, 0));
    assert_eq!(world.sync(), (0, 0, 0), "and keeps it");
    let slice = &world.slices[0];
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("svc-"));
    assert_eq!(slice.address_type, IPV4);
    let labels = strings(&slice.metadata.labels);
    let wanted = [
        ("a", "b"),
        (MANAGED_BY_LABEL, NAME),
        (SERVICE_NAME_LABEL, "svc"),
    ];
    assert_eq!(
        *labels,
        wanted.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("Service", "u", Some(true))
    );

    world.pods = pods(0..1);
    assert_eq!(world.sync(), (0, 1, 0), "which is then filled");
    world.pods.clear();
    assert_eq!(world.sync(), (0, 1, 0), "and emptied again");
}

#[test]
fn an_endpoint_says_what_its_pod_is() {
    let mut world = World::new(json!({"clusterIP": "None"}));
    world.nodes.insert("n2".to_owned(), node("n2", "z1", "1"));
    world.pods = vec![pod(
        1,
        json!({"/spec/hostname": "h", "/spec/subdomain": "svc", "/spec/nodeName": "n2"}),
    )];
    world.sync();
    assert_eq!(
        strings(&world.slices[0].metadata.labels)
            .get(HEADLESS_LABEL)
            .map(String::as_str),
        Some("")
    );
    let endpoint = world.endpoints()[0];
    assert_eq!(endpoint.addresses, ["10.0.0.2"]);
    assert_eq!(
        (endpoint.hostname.as_deref(), endpoint.zone.as_deref()),
        (Some("h"), Some("z1"))
    );
    assert_eq!(endpoint.node_name.as_deref(), Some("n2"));
    let target = endpoint.target_ref.as_ref().unwrap();
    assert_eq!(
        (
            target.kind.as_deref(),
            target.name.as_deref(),
            target.uid.as_deref()
        ),
        (Some("Pod"), Some("p1"), Some("pu1"))
    );
    let port = &world.slices[0].ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.name.as_deref(), port.port, port.protocol.as_deref()),
        (Some("http"), Some(8080), Some("TCP"))
    );
}

#[test]
fn ready_serving_and_terminating() {
    let unready = json!([{"type": "Ready", "status": "False"}]);
    let gone = "2026-01-01T00:00:00Z";
    let cases = [
        (json!({}), false, Some((true, true, false))),
        (
            json!({"/status/conditions": unready}),
            false,
            Some((false, false, false)),
        ),
        (
            json!({"/status/conditions": unready}),
            true,
            Some((true, false, false)),
        ),
        (
            json!({"/metadata/deletionTimestamp": gone}),
            false,
            Some((false, true, true)),
        ),
        (
            json!({"/metadata/deletionTimestamp": gone}),
            true,
            Some((true, true, true)),
        ),
        (json!({"/status/phase": "Succeeded"}), true, None),
        (json!({"/status/podIPs": []}), true, None),
    ];
    for (change, publishes, wanted) in cases {
        let mut world = World::new(json!({"publishNotReadyAddresses": publishes}));
        world.pods = vec![pod(0, change.clone())];
        world.sync();
        let conditions = world
            .endpoints()
            .first()
            .map(|e| e.conditions.clone().unwrap());
        let found =
            conditions.map(|c| (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap()));
        assert_eq!(found, wanted, "{change} {publishes}");
    }
}

#[test]
fn full_slices_are_left_alone() {
    let mut world = World::new(json!({}));
    world.pods = pods(0..250);
    assert_eq!(world.sync(), (3, 0, 0));
    assert_eq!(world.sizes(), [50, 100, 100]);
    world.pods = pods(0..260);
    assert_eq!(world.sync(), (0, 1, 0), "ten more fit into one");
    assert_eq!(world.sizes(), [60, 100, 100]);
    let full = world.slices.iter().find_map(|slice| {
        let endpoints = slice.endpoints.as_ref()?;
        (endpoints.len() == 100).then(|| endpoints[..10].to_vec())
    });
    let gone: Vec<_> = full.unwrap().into_iter().map(|e| e.target_ref).collect();
    let is_gone = |pod: &Arc<Pod>| {
        let uid = &pod.metadata.uid;
        gone.iter().flatten().any(|target| target.uid == *uid)
    };
    world.pods.retain(|pod| !is_gone(pod));
    assert_eq!(world.sync(), (0, 1, 0), "those that stay do not move");
    assert_eq!(world.sizes(), [60, 90, 100]);
    world.pods.extend(pods(260..300));
    assert_eq!(
        world.sync(),
        (0, 1, 0),
        "forty go where they leave least room"
    );
    assert_eq!(world.sizes(), [90, 100, 100]);
}

#[test]
fn remainders_fill_slices_that_change_anyway() {
    let mut world = World::new(json!({}));
    world.pods = pods(0..150);
    world.sync();
    assert_eq!(world.sizes(), [50, 100]);
    // One goes from the full slice, two come: one takes its place, as few slices as possible change.
    world.pods = pods(1..152);
    let (created, updated, deleted) = world.sync();
    assert_eq!((created, deleted), (0, 0));
    assert!(updated <= 2);
    assert_eq!(world.endpoints().len(), 151);
}

#[test]
fn a_changed_pod_changes_one_slice() {
    let mut world = World::new(json!({}));
    world.pods = pods(0..150);
    world.sync();
    world.pods[3] = pod(
        3,
        json!({"/status/conditions": [{"type": "Ready", "status": "False"}]}),
    );
    assert_eq!(world.sync(), (0, 1, 0));
    assert_eq!(world.sync(), (0, 0, 0));
}

#[test]
fn labels_of_the_service_are_mirrored() {
    let mut world = World::new(json!({}));
    world.pods = pods(0..1);
    world.sync();
    world.service.metadata.labels = Some([("c".to_owned(), "d".to_owned())].into());
    assert_eq!(world.sync(), (0, 1, 0));
    let labels = strings(&world.slices[0].metadata.labels);
    assert!(labels.contains_key("c") && !labels.contains_key("a"));
    assert_eq!(world.endpoints().len(), 1);
    // Labels that are ours are not taken over.
    world
        .service
        .metadata
        .labels
        .get_or_insert_default()
        .insert(MANAGED_BY_LABEL.to_owned(), "x".to_owned());
    assert_eq!(world.sync(), (0, 0, 0));
}

#[test]
fn named_ports_make_a_slice_per_number() {
    let ports = |number: i32| json!([{"name": "c", "ports": [{"name": "web", "containerPort": number, "protocol": "TCP"}]}]);
    let mut world = World::new(
        json!({"ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}),
    );
    world.pods = vec![
        pod(0, json!({"/spec/containers": ports(1)})),
        pod(1, json!({"/spec/containers": ports(2)})),
        pod(2, json!({"/spec/containers": []})),
        pod(
            3,
            json!({"/spec/initContainers": [{"name": "s", "restartPolicy": "Always",
            "ports": [{"name": "web", "containerPort": 1, "protocol": "TCP"}]}]}),
        ),
    ];
    assert_eq!(world.sync(), (3, 0, 0));
    let mut found: Vec<_> = world
        .slices
        .iter()
        .map(|s| {
            (
                s.ports
                    .iter()
                    .flatten()
                    .filter_map(|p| p.port)
                    .collect::<Vec<_>>(),
                s.endpoints.as_ref().unwrap().len(),
            )
        })
        .collect();
    found.sort();
    assert_eq!(found, [(vec![], 1), (vec![1], 2), (vec![2], 1)]);
    world.pods.truncate(1);
    assert_eq!(world.sync(), (0, 1, 2));
}

#[test]
fn both_families_have_their_slices() {
    let dual = |number| {
        pod(
            number,
            json!({"/status/podIPs": [{"ip": format!("10.0.0.{number}")}, {"ip": format!("fd00::{number}")}]}),
        )
    };
    let mut world = World::new(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    world.pods = vec![dual(1), dual(2), pod(3, json!({}))];
    assert_eq!(world.sync(), (2, 0, 0));
    let mut found: Vec<_> = world
        .slices
        .iter()
        .map(|s| (s.address_type.clone(), s.endpoints.as_ref().unwrap().len()))
        .collect();
    found.sort();
    assert_eq!(found, [(IPV4.to_owned(), 3), (IPV6.to_owned(), 2)]);
    world.service.spec.as_mut().unwrap().ip_families = Some(vec![IPV4.to_owned()]);
    assert_eq!(
        world.sync(),
        (0, 0, 1),
        "a family that is given up loses its slices"
    );
}

#[test]
fn families_of_services_from_before_families() {
    let families = |spec: Value| {
        families(&Service {
            spec: Some(from::<ServiceSpec>(spec)),
            ..Service::default()
        })
    };
    assert_eq!(families(json!({"clusterIP": "10.0.0.1"})), [IPV4]);
    assert_eq!(families(json!({"clusterIP": "fd00::1"})), [IPV6]);
    assert_eq!(families(json!({"clusterIP": "None"})), [IPV4, IPV6]);
}

#[test]
fn slices_of_another_service_of_this_name_go() {
    let mut world = World::new(json!({}));
    world.pods = pods(0..1);
    world.sync();
    world.service.metadata.uid = Some("other".to_owned());
    assert_eq!(world.sync(), (1, 0, 1), "they are not written over");
}

#[test]
fn a_pod_on_an_unknown_node_waits_and_others_do_not() {
    let mut world = World::new(json!({}));
    world.pods = vec![pod(0, json!({})), pod(1, json!({"/spec/nodeName": "n9"}))];
    let plan = world.plan();
    assert_eq!(
        plan.problems,
        ["skipping Pod p1 for Service ns/svc: Node n9 Not Found"]
    );
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), 1);
    world
        .service
        .spec
        .as_mut()
        .unwrap()
        .publish_not_ready_addresses = Some(true);
    let plan = world.plan();
    assert!(plan.problems.is_empty());
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), 2);
}

#[test]
fn nothing_is_created_for_a_service_that_goes() {
    let mut world = World::new(json!({}));
    world.service.metadata.deletion_timestamp = from(json!("2026-01-01T00:00:00Z"));
    assert_eq!(world.sync(), (0, 0, 0));
}

#[test]
fn the_trigger_time_is_told_and_taken_back() {
    let mut world = World::new(json!({}));
    world.pods = pods(0..1);
    let seen = Observed {
        service: &world.service,
        pods: &world.pods,
        slices: &[],
        node: &|name| world.nodes.get(name).cloned(),
        zones: None,
        endpoints_max: 100,
        trigger_time: Some("2026-01-01T00:00:05Z".parse().unwrap()),
    };
    let made = plan(&seen, Hinted::default()).create.remove(0);
    let told = strings(&made.metadata.annotations)
        .get(TRIGGER_TIME_ANNOTATION)
        .cloned();
    assert_eq!(told.as_deref(), Some("2026-01-01T00:00:05Z"));
    world.slices = vec![Arc::new(made)];
    world.slices = vec![Arc::new(EndpointSlice {
        metadata: ObjectMeta {
            name: Some("s".to_owned()),
            ..world.slices[0].metadata.clone()
        },
        ..world.slices[0].as_ref().clone()
    })];
    world.pods = pods(0..2);
    world.sync();
    assert!(!strings(&world.slices[0].metadata.annotations).contains_key(TRIGGER_TIME_ANNOTATION));
}

fn zone_hints(hints: Option<&EndpointHints>) -> Vec<&str> {
    let zones = hints
        .and_then(|hints| hints.for_zones.as_deref())
        .unwrap_or_default();
    zones.iter().map(|zone| zone.name.as_str()).collect()
}

/// Pods on nodes of zones a, b and c, so many in each.
fn zoned(world: &mut World, counts: [usize; 3], cpus: [&str; 3]) {
    world.pods.clear();
    let mut number = 0;
    for ((zone, count), cpu) in ["a", "b", "c"].into_iter().zip(counts).zip(cpus) {
        world.nodes.insert(zone.to_owned(), node(zone, zone, cpu));
        for _ in 0..count {
            world
                .pods
                .push(pod(number, json!({"/spec/nodeName": zone})));
            number += 1;
        }
    }
    world.nodes.remove("n1");
    let nodes: Vec<_> = world.nodes.values().map(AsRef::as_ref).collect();
    world.zones = Zones::of(nodes);
}

fn hints_per_zone(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for endpoint in world.endpoints() {
        for zone in zone_hints(endpoint.hints.as_ref()) {
            *counts.entry(zone.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn auto(world: &mut World) {
    let mode = (
        "service.kubernetes.io/topology-mode".to_owned(),
        "Auto".to_owned(),
    );
    world.service.metadata.annotations = Some([mode].into());
}

#[test]
fn endpoints_are_for_their_own_zones_if_that_is_fair() {
    let mut world = World::new(json!({}));
    auto(&mut world);
    zoned(&mut world, [3, 3, 3], ["1", "1", "1"]);
    let notes = world.plan().notes;
    assert_eq!(
        notes,
        [Note::normal(
            "TopologyAwareHintsEnabled",
            "Topology Aware Hints has been enabled, addressType: IPv4"
        )]
    );
    world.sync();
    assert_eq!(
        hints_per_zone(&world),
        ["a", "b", "c"].map(|z| (z.to_owned(), 3)).into()
    );
    assert_eq!(world.sync(), (0, 0, 0), "which is stable");
    assert!(world.plan().notes.is_empty());
}

#[test]
fn a_zone_with_more_than_its_part_gives() {
    let mut world = World::new(json!({}));
    auto(&mut world);
    zoned(&mut world, [6, 2, 1], ["1000m", "1000m", "1000m"]);
    world.sync();
    assert_eq!(
        hints_per_zone(&world),
        ["a", "b", "c"].map(|z| (z.to_owned(), 3)).into()
    );
}

#[test]
fn hints_go_when_they_cannot_be_fair_or_are_not_wanted() {
    let mut world = World::new(json!({}));
    auto(&mut world);
    zoned(&mut world, [3, 3, 3], ["1", "1", "1"]);
    world.sync();
    zoned(&mut world, [1, 1, 0], ["1", "1", "1"]);
    let told = world.plan().notes;
    assert_eq!(
        told,
        [Note::warning(
            "TopologyAwareHintsDisabled",
            "Insufficient number of endpoints (2 endpoints, 3 zones), addressType: IPv4"
        )]
    );
    world.sync();
    assert!(hints_per_zone(&world).is_empty());

    zoned(&mut world, [3, 3, 3], ["1", "1", "1"]);
    world.sync();
    assert!(!hints_per_zone(&world).is_empty());
    world.service.metadata.annotations = None;
    assert_eq!(
        world.plan().notes,
        [Note::warning(
            "TopologyAwareHintsDisabled",
            "Topology Aware Hints has been disabled, addressType: IPv4"
        )]
    );
    assert_eq!(world.sync(), (0, 1, 0));
    assert!(hints_per_zone(&world).is_empty());

    auto(&mut world);
    world.zones = None;
    let why = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4";
    assert_eq!(
        world.plan().notes,
        [Note::warning("TopologyAwareHintsDisabled", why)]
    );
}

#[test]
fn zones_are_of_ready_workers_that_tell_enough() {
    let nodes = |more: Value| {
        let a = node("a", "a", "2");
        let b: Node = from(
            json!({"metadata": {"name": "b", "labels": {ZONE_LABEL: "b"}},
            "status": {"allocatable": {"cpu": "6"}, "conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        let more: Node = from(more);
        Zones::of([a.as_ref(), &b, &more]).is_some()
    };
    let ready = json!([{"type": "Ready", "status": "True"}]);
    assert!(nodes(json!({"status": {}})), "not ready: left out");
    assert!(
        !nodes(json!({"status": {"conditions": ready, "allocatable": {"cpu": "1"}}})),
        "no zone"
    );
    assert!(
        !nodes(json!({"metadata": {"labels": {ZONE_LABEL: "a"}}, "status": {"conditions": ready}})),
        "no CPU"
    );
    assert!(nodes(
        json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "status": {"conditions": ready}})
    ));
    let (a, b) = (node("a", "a", "1"), node("b", "a", "1"));
    assert_eq!(
        Zones::of([a.as_ref(), b.as_ref()]),
        None,
        "one zone is none"
    );
    let zones = Zones::of([node("a", "a", "1").as_ref(), node("b", "b", "1").as_ref()]);
    let counts = |a, b| [("a".to_owned(), a), ("b".to_owned(), b)].into();
    assert!(!topology::is_overloaded(&counts(5, 5), zones.as_ref()));
    assert!(topology::is_overloaded(&counts(9, 1), zones.as_ref()));
    assert!(topology::is_overloaded(&counts(5, 5), None));
    assert!(!topology::is_overloaded(&ZoneCounts::new(), None));
}

#[test]
fn traffic_distribution_gives_hints_of_zone_and_node() {
    let mut world = World::new(json!({"trafficDistribution": "PreferClose"}));
    zoned(&mut world, [2, 1, 1], ["1", "1", "1"]);
    world.sync();
    assert_eq!(
        hints_per_zone(&world),
        [("a", 2), ("b", 1), ("c", 1)]
            .map(|(z, n)| (z.to_owned(), n))
            .into()
    );
    assert_eq!(world.sync(), (0, 0, 0));
    world.service.spec.as_mut().unwrap().traffic_distribution = Some("PreferSameNode".to_owned());
    assert_eq!(world.sync(), (0, 1, 0));
    let hints = world.endpoints()[0].hints.as_ref().unwrap();
    assert_eq!(
        hints.for_nodes.as_ref().unwrap()[0].name,
        *world.endpoints()[0].node_name.as_ref().unwrap()
    );
    assert_eq!(world.sync(), (0, 0, 0));
    world.service.spec.as_mut().unwrap().traffic_distribution = None;
    assert_eq!(world.sync(), (0, 1, 0));
    assert!(
        world
            .endpoints()
            .iter()
            .all(|endpoint| endpoint.hints.is_none())
    );
}

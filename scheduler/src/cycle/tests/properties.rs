//! Random clusters: whatever is decided breaks no hard rule, says a checker that shares no code
//! with the plugins; and the same inputs give the same decision.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cycle::Decision;
use crate::testing::{Cluster, merged, node, pod};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

#[derive(Debug, Clone)]
struct Shape {
    cpu: u32,
    memory: u32,
    app: usize,
    /// Index of the app it must be near, by zone.
    near: Option<usize>,
    /// Index of the app it must be away from, and whether by zone rather than by node.
    away: Option<(usize, bool)>,
    /// Largest skew over zones (true) or nodes.
    spread: Option<(u32, bool)>,
    zone: Option<usize>,
    tolerates: bool,
    port: bool,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (
        (0..6_u32, 0..6_u32, 0..3_usize),
        prop::option::weighted(0.2, 0..3_usize),
        prop::option::weighted(0.3, (0..3_usize, any::<bool>())),
        prop::option::weighted(0.3, (1..3_u32, any::<bool>())),
        prop::option::weighted(0.2, 0..3_usize),
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    let shape = shape.prop_map(
        |((cpu, memory, app), near, away, spread, zone, tolerates, port)| Shape {
            cpu,
            memory,
            app,
            near,
            away,
            spread,
            zone,
            tolerates,
            port,
        },
    );
    prop::collection::vec(shape, 1..40)
}

fn term(app: usize, key: &str) -> Value {
    json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app.to_string()}}}]})
}

fn build(name: &str, shape: &Shape) -> Value {
    let mut container = json!({"name": "c", "resources": {"requests": {
        "cpu": format!("{}m", shape.cpu * 500), "memory": format!("{}Gi", shape.memory)}}});
    if shape.port {
        container["ports"] = json!([{"hostPort": 80, "protocol": "TCP"}]);
    }
    let mut spec = json!({"containers": [container]});
    if let Some(app) = shape.near {
        spec["affinity"]["podAffinity"] = term(app, ZONE);
    }
    if let Some((app, by_zone)) = shape.away {
        spec["affinity"]["podAntiAffinity"] = term(app, if by_zone { ZONE } else { HOST });
    }
    if let Some((skew, by_zone)) = shape.spread {
        spec["topologySpreadConstraints"] = json!([{"maxSkew": skew,
            "topologyKey": if by_zone { ZONE } else { HOST }, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": shape.app.to_string()}}}]);
    }
    if let Some(zone) = shape.zone {
        spec["nodeSelector"] = json!({ZONE: zone.to_string()});
    }
    if shape.tolerates {
        spec["tolerations"] = json!([{"operator": "Exists"}]);
    }
    json!({"metadata": {"name": name, "uid": name, "labels": {"app": shape.app.to_string()}}, "spec": spec})
}

/// A cluster of numbers: node i is in zone i % 3; every fourth is tainted; every fifth is small.
struct Naive {
    nodes: usize,
    placed: Vec<(Shape, usize)>,
}

impl Naive {
    fn zone(node: usize) -> usize {
        node % 3
    }

    fn capacity(node: usize) -> (u32, u32, usize) {
        if node % 5 == 4 { (2, 3, 2) } else { (8, 8, 6) }
    }

    fn is_tainted(node: usize) -> bool {
        node % 4 == 3
    }

    fn domain(node: usize, by_zone: bool) -> usize {
        if by_zone { Self::zone(node) } else { node }
    }

    fn near(&self, node: usize, app: usize, by_zone: bool) -> bool {
        let here = Self::domain(node, by_zone);
        self.placed
            .iter()
            .any(|(other, at)| other.app == app && Self::domain(*at, by_zone) == here)
    }

    /// What a pod on a node would break.
    fn broken(&self, shape: &Shape, node: usize) -> Option<&'static str> {
        let here: Vec<_> = self
            .placed
            .iter()
            .filter(|(_, at)| *at == node)
            .map(|(one, _)| one)
            .collect();
        let (cpu, memory, pods) = Self::capacity(node);
        if here.len() + 1 > pods {
            return Some("pods");
        }
        if shape.cpu > 0 && here.iter().map(|one| one.cpu).sum::<u32>() + shape.cpu > cpu {
            return Some("cpu");
        }
        if shape.memory > 0
            && here.iter().map(|one| one.memory).sum::<u32>() + shape.memory > memory
        {
            return Some("memory");
        }
        if Self::is_tainted(node) && !shape.tolerates {
            return Some("taint");
        }
        if shape.zone.is_some_and(|zone| zone != Self::zone(node)) {
            return Some("selector");
        }
        if shape.port && here.iter().any(|one| one.port) {
            return Some("port");
        }
        if let Some(app) = shape.near {
            let anybody = self.placed.iter().any(|(other, _)| other.app == app);
            if !self.near(node, app, true) && (anybody || app != shape.app) {
                return Some("affinity");
            }
        }
        if shape
            .away
            .is_some_and(|(app, by_zone)| self.near(node, app, by_zone))
        {
            return Some("anti-affinity");
        }
        let repels = |(other, at): &(Shape, usize)| {
            other.away.is_some_and(|(app, by_zone)| {
                app == shape.app && Self::domain(*at, by_zone) == Self::domain(node, by_zone)
            })
        };
        if self.placed.iter().any(repels) {
            return Some("others' anti-affinity");
        }
        let (skew, by_zone) = shape.spread?;
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for one in
            (0..self.nodes).filter(|one| shape.zone.is_none_or(|zone| zone == Self::zone(*one)))
        {
            let pods = self
                .placed
                .iter()
                .filter(|(other, at)| other.app == shape.app && *at == one);
            *counts.entry(Self::domain(one, by_zone)).or_default() += pods.count() as u32;
        }
        let least = counts.values().min().copied().unwrap_or(0);
        let here = counts
            .get(&Self::domain(node, by_zone))
            .copied()
            .unwrap_or(0);
        (here + 1 > least + skew).then_some("spread")
    }
}

fn cluster(nodes: usize) -> Cluster {
    Cluster::new((0..nodes).map(|i| {
        let (cpu, memory, pods) = Naive::capacity(i);
        let taints = if Naive::is_tainted(i) { json!([{"key": "k", "effect": "NoSchedule"}]) } else { json!([]) };
        node(&format!("n{i}"), json!({
            "metadata": {"labels": {ZONE: Naive::zone(i).to_string()}},
            "spec": {"taints": taints},
            "status": {"allocatable": {"cpu": format!("{}m", cpu * 500), "memory": format!("{memory}Gi"), "pods": pods.to_string()}},
        }))
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_hard_rule_is_broken_and_no_room_is_missed(
        nodes in 1..10_usize,
        shapes in shapes(),
        leaves in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        seed in any::<u64>(),
    ) {
        let mut cluster = cluster(nodes);
        let mut naive = Naive { nodes, placed: Vec::new() };
        let mut names = Vec::new();
        for (at, shape) in shapes.iter().enumerate() {
            let name = format!("p{at}");
            let one = pod(&name, build(&name, shape));
            let attempt = cluster.attempt(&one, seed);
            let again = cluster.attempt(&one, seed);
            prop_assert_eq!(format!("{attempt:?}"), format!("{again:?}"));
            cluster.start = attempt.next_start;
            match attempt.decision {
                Decision::Place(placement) => {
                    let node: usize = placement.node[1..].parse().unwrap();
                    prop_assert_eq!(naive.broken(shape, node), None, "{:?} on {}", shape, node);
                    // Half of the pods stay assumed, half are seen bound.
                    if at % 2 == 0 {
                        let info = cluster.cache.prepare(&one, &cluster.profile.defaults);
                        cluster.cache.assume(&info, &placement.node);
                    } else {
                        let bound = merged(build(&name, shape), json!({"spec": {"nodeName": placement.node}}));
                        cluster.cache.set_pod(&pod(&name, bound));
                    }
                    naive.placed.push((shape.clone(), node));
                    names.push(name);
                }
                Decision::Unfit(_) => {
                    for node in 0..nodes {
                        prop_assert!(naive.broken(shape, node).is_some(), "{:?} would fit on {}", shape, node);
                    }
                }
                Decision::Error(error) => prop_assert!(false, "{}", error),
            }
            // Now and then somebody leaves.
            if let Some(index) = leaves.get(at / 6).filter(|_| at % 6 == 5 && !names.is_empty()) {
                let index = index.index(names.len());
                cluster.cache.remove_pod(&names.remove(index));
                naive.placed.remove(index);
            }
        }
    }
}

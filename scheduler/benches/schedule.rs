//! How many pods one core places per second: 10 000 pods on 5 000 nodes of 3 zones, purely.
//!
//! `cargo bench -p scheduler`; names of kinds as arguments select them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement: it reads the clock and may fail loudly"
)]

use std::sync::Arc;
use std::time::Instant;

use scheduler::cache::Cache;
use scheduler::cycle::{Decision, Nominated, schedule};
use scheduler::profile::Profile;
use scheduler::views::{Node, Pod};
use serde_json::{Value, json};

const NODES: usize = 5_000;
const PODS: usize = 10_000;
const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn node(at: usize) -> Arc<Node> {
    let name = format!("node-{at:05}");
    let node = json!({
        "metadata": {"name": name, "labels": {
            HOST: name, ZONE: format!("zone-{}", at % 3), "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}},
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

/// A pod of one of 100 groups of 100.
fn pod(at: usize, kind: &str) -> Arc<Pod> {
    let app = format!("app-{}", at % 100);
    let selector = json!({"matchLabels": {"app": app}});
    let term = |key: &str| json!({"topologyKey": key, "labelSelector": selector});
    let required =
        |key: &str| json!({"requiredDuringSchedulingIgnoredDuringExecution": [term(key)]});
    let preferred = |key: &str| json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term(key)}]});
    let spread = |key: &str, action: &str| json!([{"maxSkew": 5, "topologyKey": key, "whenUnsatisfiable": action, "labelSelector": selector}]);
    let more: Value = match kind {
        "basic" => json!({}),
        "preferred-affinity" => json!({"affinity": {"podAffinity": preferred(HOST)}}),
        "preferred-anti-affinity" => json!({"affinity": {"podAntiAffinity": preferred(HOST)}}),
        "required-affinity" => json!({"affinity": {"podAffinity": required(ZONE)}}),
        "required-anti-affinity" => json!({"affinity": {"podAntiAffinity": required(HOST)}}),
        "hard-spread" => json!({"topologySpreadConstraints": spread(ZONE, "DoNotSchedule")}),
        "soft-spread" => json!({"topologySpreadConstraints": spread(ZONE, "ScheduleAnyway")}),
        "node-affinity" => json!({"nodeSelector": {ZONE: "zone-1"}}),
        other => panic!("no such kind: {other}"),
    };
    let mut spec = json!({"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "registry/pause:3",
        "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let name = format!("pod-{at:05}");
    let pod = json!({"metadata": {"name": name, "uid": name, "namespace": "default", "labels": {"app": app}}, "spec": spec});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn measure(kind: &str, nodes: &[Arc<Node>]) {
    let mut cache = Cache::default();
    nodes.iter().for_each(|node| cache.set_node(node));
    let pods: Vec<_> = (0..PODS).map(|at| pod(at, kind)).collect();
    let profile = Profile::default();
    let nominated = Nominated::default();
    let (mut start, mut placed) = (0, 0);
    let began = Instant::now();
    for (at, pod) in pods.iter().enumerate() {
        let info = cache.prepare(pod, &profile.defaults);
        let attempt = schedule(
            cache.snapshot(),
            &info,
            &profile,
            &nominated,
            start,
            at as u64,
        );
        start = attempt.next_start;
        if let Decision::Place(placement) = attempt.decision {
            cache.assume(&info, &placement.node);
            placed += 1;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{kind:<24} {:>8.0} pods/s, {placed} of {PODS} placed",
        PODS as f64 / seconds
    );
}

fn main() {
    let nodes: Vec<_> = (0..NODES).map(node).collect();
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|one| !one.starts_with('-'))
        .collect();
    for kind in [
        "basic",
        "node-affinity",
        "preferred-affinity",
        "preferred-anti-affinity",
        "required-affinity",
        "required-anti-affinity",
        "hard-spread",
        "soft-spread",
    ] {
        if wanted.is_empty() || wanted.iter().any(|one| one == kind) {
            measure(kind, &nodes);
        }
    }
}

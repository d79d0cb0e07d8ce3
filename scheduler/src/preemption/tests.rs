//! Who makes way, told as stories with upstream's words.

use serde_json::{Value, json};

use crate::testing::{Cluster, merged, node, on, pod_of};
use crate::views::PodDisruptionBudget;
use std::sync::Arc;

fn priority(priority: i32) -> Value {
    json!({"spec": {"priority": priority}})
}

fn running(name: &str, node: &str, cpu: &str, value: i32, since: &str) -> Arc<crate::views::Pod> {
    let status = json!({"metadata": {"labels": {"app": name}}, "status": {"startTime": format!("2025-01-01T00:00:{since}Z")}});
    pod_of(name, cpu, on(node, merged(priority(value), status)))
}

fn names(outcome: &super::Outcome) -> (String, Vec<String>) {
    let eviction = outcome.eviction.as_ref().unwrap();
    let victims = eviction.victims.iter().map(|pod| pod.name().to_string());
    (eviction.node.clone(), victims.collect())
}

#[test]
fn as_few_as_possible_go_and_the_least_important_first() {
    let mut cluster = Cluster::new([node("a", json!({}))]).with([
        running("old", "a", "1", 1, "01"),
        running("young", "a", "1", 1, "02"),
        running("mighty", "a", "2", 9, "00"),
    ]);
    let (outcome, _) = cluster.preempt(&pod_of("p", "1", priority(5)), &[]);
    assert_eq!(
        names(&outcome),
        ("a".to_string(), vec!["young".to_string()])
    );
}

#[test]
fn the_node_that_hurts_least_is_chosen() {
    let on_four = |pods: Vec<Arc<crate::views::Pod>>| {
        Cluster::new(["a", "b"].map(|name| node(name, json!({})))).with(pods)
    };
    let pod = pod_of("p", "4", priority(10));
    for (pods, want) in [
        (
            vec![
                running("x", "a", "1", 5, "01"),
                running("y", "b", "1", 3, "01"),
            ],
            "b",
        ),
        (
            vec![
                running("x", "a", "1", 5, "01"),
                running("y", "b", "1", 5, "01"),
                running("z", "b", "1", 1, "01"),
            ],
            "a",
        ),
        (
            vec![
                running("x", "a", "1", 5, "01"),
                running("y", "b", "1", 5, "02"),
            ],
            "b",
        ),
    ] {
        let (outcome, _) = on_four(pods).preempt(&pod, &[]);
        assert_eq!(names(&outcome).0, want);
    }
}

#[test]
fn spent_budgets_are_spared_if_possible() {
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}},
        "status": {"disruptionsAllowed": 0},
    }))
    .unwrap();
    let mut cluster = Cluster::new(["a", "b"].map(|name| node(name, json!({})))).with([
        running("x", "a", "2", 1, "01"),
        running("y", "b", "2", 5, "01"),
    ]);
    let pod = pod_of("p", "3", priority(10));
    let (outcome, _) = cluster.preempt(&pod, &[Arc::new(budget)]);
    assert_eq!(names(&outcome), ("b".to_string(), vec!["y".to_string()]));
    let (outcome, _) = cluster.preempt(&pod, &[]);
    assert_eq!(names(&outcome), ("a".to_string(), vec!["x".to_string()]));
}

#[test]
fn what_does_not_help_is_said() {
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let mut cluster = Cluster::new([node("a", json!({})), node("b", taint)])
        .with([running("mighty", "a", "4", 9, "00")]);
    let (outcome, message) = cluster.preempt(&pod_of("p", "1", priority(5)), &[]);
    assert!(outcome.eviction.is_none() && outcome.clears_nomination);
    assert_eq!(
        message,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
    let never = merged(priority(5), json!({"spec": {"preemptionPolicy": "Never"}}));
    let (_, message) = cluster.preempt(&pod_of("p", "1", never), &[]);
    assert!(
        message.ends_with("preemption: not eligible due to preemptionPolicy=Never."),
        "{message}"
    );
}

#[test]
fn nobody_is_evicted_twice_for_one_pod() {
    let leaving = merged(
        json!({"metadata": {"deletionTimestamp": "2025-01-01T00:00:00Z"}}),
        json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}}),
    );
    let mut cluster = Cluster::new([node("a", json!({}))]).with([pod_of(
        "x",
        "4",
        on("a", merged(priority(1), leaving)),
    )]);
    let nominated = merged(priority(5), json!({"status": {"nominatedNodeName": "a"}}));
    let (outcome, message) = cluster.preempt(&pod_of("p", "1", nominated), &[]);
    assert!(outcome.eviction.is_none() && !outcome.clears_nomination);
    assert!(
        message
            .ends_with("preemption: not eligible due to a terminating pod on the nominated node."),
        "{message}"
    );
}

#[test]
fn affinity_is_judged_as_if_the_victims_were_gone() {
    let anti = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]}}}});
    let mut cluster = Cluster::new([node("a", json!({}))]).with([
        running("x", "a", "1", 1, "01"),
        running("y", "a", "1", 1, "01"),
    ]);
    let (outcome, _) = cluster.preempt(&pod_of("p", "1", merged(priority(5), anti)), &[]);
    assert_eq!(names(&outcome), ("a".to_string(), vec!["x".to_string()]));
}

//! DaemonSets told step by step.

use serde_json::{Value, json};

use super::placement::pin;
use super::*;
use crate::template::Template;

const NOW: &str = "2026-01-01T01:00:00Z";

fn set(strategy: Value, spec: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "ds", "namespace": "ns", "uid": "d", "generation": 2},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "updateStrategy": strategy,
                 "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}},
    }))
    .unwrap()
}

fn node(name: &str, taints: Value) -> Arc<Node> {
    Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                                           "spec": {"taints": taints}}),
        )
        .unwrap(),
    )
}

/// A pod in words: its node, then `new` or `old`, and what it is.
fn pod(word: &str) -> Arc<Pod> {
    let parts: Vec<&str> = word.split(' ').collect();
    let (on, age, state) = (parts[0], parts[1], parts[2]);
    let mut value = json!({
        "metadata": {"name": word.replace(' ', "-"), "namespace": "ns", "uid": word,
                     "creationTimestamp": parts.get(3).unwrap_or(&NOW), "labels": {REVISION_HASH: age}},
        "spec": {"nodeName": on},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:59:50Z"}]},
    });
    match state {
        "ready" => value["status"]["conditions"][0]["status"] = "True".into(),
        "unready" => {}
        "leaving" => value["metadata"]["deletionTimestamp"] = NOW.into(),
        "unbound" => {
            value["spec"] = json!({});
            pin(&mut value, on);
        }
        phase => value["status"]["phase"] = phase.into(),
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn look(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &[&str],
) -> (Plan, k8s_openapi::api::apps::v1::DaemonSetStatus) {
    let pods: Vec<_> = pods.iter().map(|word| pod(word)).collect();
    let observed = Observed {
        set,
        placement: &Placement::new(&set.spec.template),
        nodes,
        pods: &pods,
        hash: "new",
        backoff: &|node| (node == "resting").then_some(Duration::from_secs(7)),
    };
    let now = NOW.parse().unwrap();
    (plan(&observed, now), status(&observed, Some(2), now))
}

fn told(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[&str]) -> Vec<String> {
    let (plan, _) = look(set, nodes, pods);
    let create = plan.create.iter().map(|node| format!("+{node}"));
    let delete = plan.delete.iter().map(|pod| format!("-{}", pod.name()));
    create.chain(delete).collect()
}

fn rolling(missing: Value, surge: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": missing, "maxSurge": surge}})
}

fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
    names.iter().map(|name| node(name, json!([]))).collect()
}

#[test]
fn every_node_that_fits_has_one_pod() {
    let set = set(json!({"type": "OnDelete"}), json!({}));
    let all = nodes(&["a", "b"]);
    assert_eq!(told(&set, &all, &[]), ["+a", "+b"]);
    assert_eq!(told(&set, &all, &["a new ready", "b new unbound"]), [""; 0]);
    let twice = [
        "a new ready 2026-01-01T00:00:02Z",
        "a new ready 2026-01-01T00:00:01Z",
        "b new ready",
    ];
    assert_eq!(
        told(&set, &all, &twice),
        ["-a-new-ready-2026-01-01T00:00:02Z"]
    );
    // A pod for a node that is no more goes if it was never bound; what was bound is the pod
    // collector's.
    assert_eq!(
        told(
            &set,
            &all[..1],
            &["a new ready", "x new unbound", "y new ready"]
        ),
        ["-x-new-unbound"]
    );
}

#[test]
fn many_are_made_in_bursts() {
    let names: Vec<_> = (0..300).map(|at| format!("n{at}")).collect();
    let all: Vec<_> = names.iter().map(|name| node(name, json!([]))).collect();
    assert_eq!(told(&set(json!({}), json!({})), &all, &[]).len(), 250);
}

/// Upstream's TestNodeShouldRunDaemonPod, retold.
#[test]
fn names_labels_and_taints_decide_where_pods_fit() {
    let taint = |effect: &str| json!([{"key": "dedicated", "value": "x", "effect": effect}]);
    let fit = |spec: Value, taints: Value| {
        Placement::new(&Template::new(json!({"spec": spec}))).fit(&node("a", taints))
    };
    assert_eq!(fit(json!({}), json!([])), Fit::Run);
    assert_eq!(fit(json!({"nodeName": "b"}), json!([])), Fit::Leave);
    assert_eq!(
        fit(
            json!({"nodeSelector": {"kubernetes.io/hostname": "a"}}),
            json!([])
        ),
        Fit::Run
    );
    assert_eq!(
        fit(json!({"nodeSelector": {"disk": "ssd"}}), json!([])),
        Fit::Leave
    );
    let term = |term: Value| {
        json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    };
    let host = |operator: &str| json!({"key": "kubernetes.io/hostname", "operator": operator, "values": ["a"]});
    assert_eq!(
        fit(term(json!({"matchExpressions": [host("In")]})), json!([])),
        Fit::Run
    );
    assert_eq!(
        fit(
            term(json!({"matchExpressions": [host("NotIn")]})),
            json!([])
        ),
        Fit::Leave
    );
    assert_eq!(fit(term(json!({})), json!([])), Fit::Leave);
    let named =
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]});
    assert_eq!(fit(term(named), json!([])), Fit::Run);
    assert_eq!(fit(json!({}), taint("NoSchedule")), Fit::Stay);
    assert_eq!(fit(json!({}), taint("NoExecute")), Fit::Leave);
    assert_eq!(fit(json!({}), taint("PreferNoSchedule")), Fit::Run);
    let bears = |toleration: Value| fit(json!({"tolerations": [toleration]}), taint("NoExecute"));
    assert_eq!(bears(json!({"operator": "Exists"})), Fit::Run);
    assert_eq!(bears(json!({"key": "dedicated", "value": "x"})), Fit::Run);
    assert_eq!(bears(json!({"key": "dedicated", "value": "y"})), Fit::Leave);
    assert_eq!(
        bears(json!({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"})),
        Fit::Leave
    );
    // Nodes that are not well keep their daemons.
    let unwell = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
                        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
    assert_eq!(fit(json!({}), unwell), Fit::Run);
    let offline =
        || json!([{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]);
    assert_eq!(fit(json!({}), offline()), Fit::Stay);
    assert_eq!(fit(json!({"hostNetwork": true}), offline()), Fit::Run);
}

#[test]
fn a_taint_keeps_new_pods_away_and_may_drive_old_ones_out() {
    let set = set(json!({"type": "OnDelete"}), json!({}));
    let tainted = |effect: &str| vec![node("a", json!([{"key": "k", "effect": effect}]))];
    assert!(told(&set, &tainted("NoSchedule"), &[]).is_empty());
    assert!(told(&set, &tainted("NoSchedule"), &["a new ready"]).is_empty());
    assert_eq!(
        told(&set, &tainted("NoExecute"), &["a new ready"]),
        ["-a-new-ready"]
    );
    let (_, status) = look(&set, &tainted("NoSchedule"), &["a new ready"]);
    assert_eq!(
        (status.number_misscheduled, status.desired_number_scheduled),
        (1, 0)
    );
}

#[test]
fn pods_that_ended_are_replaced_failed_ones_after_a_while() {
    let set = set(json!({"type": "OnDelete"}), json!({}));
    let (plan, _) = look(
        &set,
        &nodes(&["a", "b", "resting"]),
        &["a new Failed", "b new Succeeded", "resting new Failed"],
    );
    let messages: Vec<_> = plan
        .events
        .iter()
        .map(|event| (event.reason, event.message.as_str()))
        .collect();
    assert_eq!(
        messages,
        [
            (
                "FailedDaemonPod",
                "Found failed daemon pod ns/a-new-Failed on node a, will try to kill it"
            ),
            (
                "SucceededDaemonPod",
                "Found succeeded daemon pod ns/b-new-Succeeded on node b, will try to delete it"
            ),
        ]
    );
    assert_eq!((plan.delete.len(), plan.failed), (2, vec!["a".to_string()]));
    assert_eq!(plan.again, Some(Duration::from_secs(7)));
}

#[test]
fn old_pods_are_renewed_as_far_as_pods_may_be_missing() {
    let all = nodes(&["a", "b", "c"]);
    let one = set(rolling(json!(1), json!(0)), json!({}));
    assert_eq!(
        told(&one, &all, &["a old ready", "b old ready", "c old ready"]),
        ["-a-old-ready"]
    );
    assert!(told(&one, &all, &["a new unready", "b old ready", "c old ready"]).is_empty());
    assert_eq!(
        told(&one, &all, &["a new ready", "b old ready", "c old ready"]),
        ["-b-old-ready"]
    );
    assert!(told(&one, &all, &["a old leaving", "b old ready", "c old ready"]).is_empty());
    // Old pods that help nobody may all go.
    let unwell = ["a old unready", "b old unready", "c old ready"];
    assert_eq!(
        told(&one, &all, &unwell),
        ["-a-old-unready", "-b-old-unready"]
    );
    let half = set(rolling(json!("50%"), json!(0)), json!({}));
    assert_eq!(
        told(&half, &all, &["a old ready", "b old ready", "c old ready"]).len(),
        2
    );
    let manual = set(json!({"type": "OnDelete"}), json!({}));
    assert!(
        told(
            &manual,
            &all,
            &["a old ready", "b old ready", "c old ready"]
        )
        .is_empty()
    );
}

#[test]
fn with_surge_new_pods_come_before_old_ones_go() {
    let all = nodes(&["a", "b", "c"]);
    let one = set(rolling(json!(0), json!(1)), json!({}));
    assert_eq!(
        told(&one, &all, &["a old ready", "b old ready", "c old ready"]),
        ["+a"]
    );
    assert!(
        told(
            &one,
            &all,
            &["a old ready", "a new unready", "b old ready", "c old ready"]
        )
        .is_empty()
    );
    let ripe = ["a old ready", "a new ready", "b old ready", "c old ready"];
    assert_eq!(told(&one, &all, &ripe), ["-a-old-ready"]);
    assert_eq!(
        told(
            &one,
            &all,
            &[
                "a old unready",
                "a new unready",
                "b old ready",
                "c old ready"
            ]
        ),
        ["-a-old-unready"]
    );
    assert_eq!(
        told(&one, &all, &["a old unready", "b old ready", "c old ready"]),
        ["+a", "+b"]
    );
    assert_eq!(
        told(&one, &all, &["a old leaving", "b old ready", "c old ready"]),
        ["+a"]
    );
}

#[test]
fn a_status_counts_one_pod_per_node() {
    let all = nodes(&["a", "b", "c", "d"]);
    let pods = ["a new ready", "b old ready", "c new unready"];
    let (_, status) = look(&set(json!({}), json!({})), &all, &pods);
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled
        ),
        (4, 3)
    );
    assert_eq!((status.number_ready, status.number_available), (2, Some(2)));
    assert_eq!(
        (status.updated_number_scheduled, status.number_unavailable),
        (Some(2), Some(2))
    );
    assert_eq!(
        (status.number_misscheduled, status.observed_generation),
        (0, Some(2))
    );
}

#[test]
fn a_pod_is_pinned_to_its_node() {
    let mut body =
        json!({"spec": {"tolerations": [{"key": "x"}], "affinity": {"podAffinity": {}}}});
    pin(&mut body, "n");
    let required =
        &body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        *required,
        json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["n"]}]}]})
    );
    assert_eq!(body["spec"]["tolerations"].as_array().unwrap().len(), 7);
    assert_eq!(body["spec"]["affinity"]["podAffinity"], json!({}));
}

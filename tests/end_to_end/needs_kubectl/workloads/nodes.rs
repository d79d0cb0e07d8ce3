//! Nodes that are emptied, nodes that fail, and nodes that are full.

use std::time::Duration;

use crate::support::{Kubectl, eventually};

/// After a node's last sign of life it takes 50 s until it counts as lost.
const LOST: Duration = Duration::from_secs(120);

/// Sets nodes apart for a story: only pods that [`deployment`] makes go there.
pub(super) fn set_apart(kubectl: &Kubectl, pool: &str, nodes: &[&str]) {
    let (label, taint) = (format!("pool={pool}"), format!("pool={pool}:NoSchedule"));
    kubectl.must(&[&["label", "nodes"], nodes, &[&label]].concat());
    kubectl.must(&[&["taint", "nodes"], nodes, &[&taint]].concat());
}

/// A Deployment for a pool, with further lines of the pods' spec.
fn deployment(pool: &str, name: &str, replicas: u32, spec: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      nodeSelector: {{pool: {pool}}}
      terminationGracePeriodSeconds: 1
      tolerations:
      - {{key: pool, operator: Exists}}
{spec}
"
    )
}

const NODES: &str = "{.items[*].spec.nodeName}";

pub(super) fn are_drained_within_budgets(kubectl: &Kubectl) {
    let spread = "
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: web}}
      containers: [{name: web, image: nginx}]";
    kubectl.apply(&deployment("drained", "web", 2, spread));
    kubectl.rolled_out("deployment/web");
    let mut nodes: Vec<String> = kubectl
        .path(&["pods"], NODES)
        .split(' ')
        .map(str::to_owned)
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["node-4", "node-5"], "they are spread");
    kubectl.must(&[
        "create",
        "pdb",
        "web",
        "--selector=app=web",
        "--min-available=2",
    ]);
    let allowed = "{.status.disruptionsAllowed} {.status.currentHealthy} {.status.desiredHealthy}";
    kubectl.shows(&["pdb", "web"], allowed, "0 2 2");

    let said = kubectl.refused(&["drain", "node-4", "--ignore-daemonsets", "--timeout=7s"]);
    let wanted = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(said.contains(wanted), "{said}");
    kubectl.shows(&["node", "node-4"], "{.spec.unschedulable}", "true");
    assert_eq!(
        kubectl.path(&["deploy", "web"], "{.status.readyReplicas}"),
        "2"
    );

    kubectl.must(&[
        "patch",
        "pdb",
        "web",
        "-p",
        r#"{"spec":{"minAvailable":1}}"#,
    ]);
    kubectl.shows(&["pdb", "web"], allowed, "1 2 1");
    let said = kubectl.must(&["drain", "node-4", "--ignore-daemonsets", "--timeout=60s"]);
    assert!(said.contains("node/node-4 drained"), "{said}");
    kubectl.rolled_out("deployment/web");
    kubectl.shows(&["pods"], NODES, "node-5 node-5");
    kubectl.must(&["uncordon", "node-4"]);
    let taints = "{.spec.taints[*].key}";
    kubectl.shows(&["node", "node-4"], taints, "pool");
}

pub(super) fn fail_and_their_pods_move(kubectl: &Kubectl) {
    let brief = "
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers: [{name: web, image: nginx}]";
    kubectl.must(&["cordon", "node-7"]);
    kubectl.apply(&deployment(
        "failing",
        "web",
        3,
        brief.trim_start_matches('\n'),
    ));
    kubectl.rolled_out("deployment/web");
    assert_eq!(kubectl.path(&["pods"], NODES), "node-6 node-6 node-6");
    kubectl.must(&["uncordon", "node-7"]);
    kubectl.must(&[
        "annotate",
        "node",
        "node-6",
        "hollow.trireme.io/failure=crash",
    ]);

    let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
    kubectl.shows_within(LOST, &["node", "node-6"], ready, "Unknown");
    let table = kubectl.must(&["get", "node", "node-6"]);
    assert!(table.contains("NotReady"), "{table}");
    let evicting = r#"{.spec.taints[?(@.effect=="NoExecute")].key}"#;
    kubectl.shows(
        &["node", "node-6"],
        evicting,
        "node.kubernetes.io/unreachable",
    );
    kubectl.shows(&["deploy", "web"], "{.status.readyReplicas}", "3");
    let alive = "{.items[?(@.status.phase==\"Running\")].spec.nodeName}";
    let moved = ["pods", "--sort-by=.metadata.creationTimestamp"];
    kubectl.prints(
        &["get", moved[0], moved[1], &format!("-ojsonpath={alive}")],
        "node-7 node-7 node-7",
    );
    // Nobody knows whether the node runs the others still: they go once it is back and says so.
    assert_eq!(kubectl.count("pods", "app=web"), 6);
    let why = r#"{.items[0].status.conditions[?(@.type=="DisruptionTarget")].reason}"#;
    assert_eq!(kubectl.path(&moved, why), "DeletionByTaintManager");
    let events = kubectl.must(&[
        "get",
        "events",
        "-A",
        "--field-selector=involvedObject.name=node-6",
    ]);
    assert!(events.contains("NodeNotReady"), "{events}");

    kubectl.must(&[
        "annotate",
        "node",
        "node-6",
        "--overwrite",
        "hollow.trireme.io/failure=none",
    ]);
    kubectl.shows(&["node", "node-6"], ready, "True");
    kubectl.shows(&["node", "node-6"], evicting, "");
    kubectl.shows(&["pods"], NODES, "node-7 node-7 node-7");
}

pub(super) fn make_room_for_what_matters(kubectl: &Kubectl) {
    for (name, value, further) in [
        ("low", "10", "--description=fills up"),
        ("patient", "1000", "--preemption-policy=Never"),
        ("high", "1000", "--description=matters"),
    ] {
        let value = format!("--value={value}");
        kubectl.must(&["create", "priorityclass", name, &value, further]);
    }
    let class = |class: &str, cpu: &str| {
        format!(
            "      priorityClassName: {class}\n      containers: [{{name: c, image: i, resources: {{requests: {{cpu: '{cpu}'}}}}}}]"
        )
    };
    // Eight CPUs.
    kubectl.apply(&deployment("full", "low", 4, &class("low", "2")));
    kubectl.rolled_out("deployment/low");
    assert_eq!(
        kubectl.path(&["pods", "-l", "app=low"], "{.items[0].spec.priority}"),
        "10"
    );
    kubectl.apply(&deployment("full", "patient", 1, &class("patient", "3")));
    let wait = ["describe", "pods", "-l", "app=patient"];
    kubectl.prints(&wait, "FailedScheduling");
    assert_eq!(
        kubectl.path(&["deploy", "low"], "{.status.readyReplicas}"),
        "4",
        "nobody left"
    );
    kubectl.must(&["delete", "deploy", "patient"]);

    kubectl.apply(&deployment("full", "high", 1, &class("high", "3")));
    kubectl.rolled_out("deployment/high");
    kubectl.shows(&["deploy", "low"], "{.status.readyReplicas}", "2");
    assert_eq!(kubectl.path(&["pods", "-l", "app=high"], NODES), "node-8");
    eventually("it is told", || {
        let events = kubectl.must(&["get", "events", "--field-selector=reason=Preempted"]);
        events.contains("Preempted by pod").then_some(())
    });
    kubectl.shows(
        &["pods", "--field-selector=status.phase=Pending"],
        "{.items[*].spec.priority}",
        "10 10",
    );
    // Once there is room again, they come back.
    kubectl.must(&["delete", "deploy", "high"]);
    kubectl.shows(&["deploy", "low"], "{.status.readyReplicas}", "4");
}

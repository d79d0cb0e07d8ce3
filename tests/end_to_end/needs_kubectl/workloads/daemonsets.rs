//! DaemonSets: a pod on every node that is meant, and on no other.

use crate::support::Kubectl;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      nodeSelector: {agent: wanted}
      terminationGracePeriodSeconds: 1
      containers: [{name: agent, image: 'agent:1'}]
";

pub(super) fn follow_the_nodes(kubectl: &Kubectl) {
    let counts =
        "{.status.desiredNumberScheduled} {.status.numberReady} {.status.numberMisscheduled}";
    kubectl.must(&["label", "nodes", "node-1", "node-2", "agent=wanted"]);
    kubectl.apply(MANIFEST);
    kubectl.shows(&["ds", "agent"], counts, "2 2 0");
    kubectl.must(&["label", "node", "node-3", "agent=wanted"]);
    kubectl.shows(&["ds", "agent"], counts, "3 3 0");
    let nodes = ["pods", "--sort-by=.spec.nodeName"];
    assert_eq!(
        kubectl.path(&nodes, "{.items[*].spec.nodeName}"),
        "node-1 node-2 node-3"
    );
    kubectl.must(&["label", "node", "node-1", "agent-"]);
    kubectl.shows(&["ds", "agent"], counts, "2 2 0");
    kubectl.shows(&nodes, "{.items[*].spec.nodeName}", "node-2 node-3");

    kubectl.must(&["set", "image", "ds/agent", "agent=agent:2"]);
    let said = kubectl.rolled_out("daemonset/agent");
    assert!(
        said.contains(r#"daemon set "agent" successfully rolled out"#),
        "{said}"
    );
    let images = "{.items[*].spec.containers[0].image}";
    kubectl.shows(&["pods"], images, "agent:2 agent:2");
    kubectl.must(&["rollout", "undo", "ds/agent"]);
    kubectl.rolled_out("daemonset/agent");
    kubectl.shows(&["pods"], images, "agent:1 agent:1");
    // A cordon is no reason for a daemon to leave, or not to come.
    kubectl.must(&["delete", "pods", "--all"]);
    kubectl.shows(&["ds", "agent"], counts, "2 2 0");
    kubectl.must(&["delete", "ds", "agent"]);
    kubectl.shows(&["pods"], "{.items}", "[]");
}

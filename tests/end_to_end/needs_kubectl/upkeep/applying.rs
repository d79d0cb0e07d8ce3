//! kubectl apply and diff against a live cluster, and what is told of objects.

use crate::support::Kubectl;

const MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: {part: of-web}}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {part: of-web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'nginx:1'}]}
";

pub(super) fn compares_and_changes(kubectl: &Kubectl) {
    let said = kubectl.apply(MANIFEST);
    assert_eq!(said, "service/web created\ndeployment.apps/web created\n");
    kubectl.rolled_out("deployment/web");
    assert_eq!(
        kubectl.feed(&["diff", "-f", "-"], MANIFEST),
        "",
        "nothing differs"
    );
    let changed = MANIFEST.replace("nginx:1", "nginx:2");
    let differs = kubectl.feed_refused(&["diff", "-f", "-"], &changed);
    assert!(
        differs.contains("-      - image: nginx:1") && differs.contains("+      - image: nginx:2"),
        "{differs}"
    );
    let said = kubectl.apply(&changed);
    assert_eq!(
        said,
        "service/web unchanged\ndeployment.apps/web configured\n"
    );
    kubectl.rolled_out("deployment/web");
    // What somebody else scales is left alone where it is not said.
    kubectl.must(&["scale", "deploy/web", "--replicas=3"]);
    let unsaid = changed.replace("  replicas: 2\n", "");
    let last = ["apply", "set-last-applied", "-f", "-"];
    kubectl.feed(&last, unsaid.split("---\n").nth(1).unwrap());
    kubectl.apply(&unsaid);
    assert_eq!(kubectl.path(&["deploy", "web"], "{.spec.replicas}"), "3");
    // What is no longer in the manifest goes.
    let deployment = unsaid.split("---\n").nth(1).unwrap();
    let prune = [
        "apply",
        "-f",
        "-",
        "--prune",
        "-l",
        "part=of-web",
        "--prune-allowlist=core/v1/Service",
    ];
    let said = kubectl.feed(&prune, deployment);
    assert!(said.contains("service/web pruned"), "{said}");
    let said = kubectl.feed(&["delete", "-f", "-", "--cascade=foreground"], deployment);
    assert_eq!(said, "deployment.apps \"web\" deleted\n");
    assert_eq!(
        kubectl.must(&["get", "rs,pods", "-o", "name"]),
        "",
        "all was gone before"
    );
}

pub(super) fn is_told_of_in_events(kubectl: &Kubectl) {
    kubectl.apply(MANIFEST);
    kubectl.rolled_out("deployment/web");
    let told = kubectl.must(&["describe", "deploy", "web"]);
    assert!(told.contains("Scaled up replica set"), "{told}");
    let told = kubectl.must(&["describe", "rs", "-l", "app=web"]);
    assert!(
        told.contains("SuccessfulCreate") && told.contains("Created pod: web-"),
        "{told}"
    );
    let pod = kubectl.path(&["pods"], "{.items[0].metadata.name}");
    let told = kubectl.prints(
        &["describe", "pod", &pod],
        "Successfully assigned events/web-",
    );
    assert!(told.contains("default-scheduler"), "{told}");
    // A pod that fits nowhere says why.
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec: {containers: [{name: big, image: i, resources: {requests: {cpu: '99'}}}]}\n";
    kubectl.apply(pod);
    let told = kubectl.prints(&["describe", "pod", "big"], "FailedScheduling");
    assert!(
        told.contains("0/3 nodes are available: 3 Insufficient cpu."),
        "{told}"
    );
    let events = kubectl.must(&["events", "--for", "pod/big"]);
    assert!(events.contains("FailedScheduling"), "{events}");
    // Those who make room let it in.
    let patch = r#"{"spec":{"containers":[{"name":"big","image":"i","resources":{"requests":{"cpu":"1"}}}]}}"#;
    kubectl.must(&["delete", "pod", "big"]);
    kubectl.apply(&pod.replace("'99'", "'1'"));
    kubectl.shows(&["pod", "big"], "{.status.phase}", "Running");
    let said = kubectl.refused(&[
        "patch",
        "pod",
        "big",
        "-p",
        &patch.replace("\"1\"", "\"2\""),
    ]);
    assert!(
        said.contains("pod updates may not change fields other than"),
        "{said}"
    );
}

//! Deployments: rollouts and the way back, pauses, scale.

use crate::support::Kubectl;

const IMAGE: &str = "{.spec.template.spec.containers[0].image}";

pub(super) fn roll_out_and_back(kubectl: &Kubectl) {
    kubectl.create_web("nginx:1", 4, &[]);
    let said = kubectl.rolled_out("deployment/web");
    assert!(
        said.contains(r#"deployment "web" successfully rolled out"#),
        "{said}"
    );
    kubectl.must(&[
        "annotate",
        "deploy/web",
        "kubernetes.io/change-cause=the first",
    ]);
    kubectl.must(&["set", "image", "deploy/web", "nginx=nginx:2"]);
    kubectl.must(&[
        "annotate",
        "deploy/web",
        "--overwrite",
        "kubernetes.io/change-cause=the second",
    ]);
    kubectl.rolled_out("deployment/web");
    let pods = [
        "pods",
        "-l",
        "app=web",
        "--field-selector=status.phase=Running",
    ];
    kubectl.shows(
        &pods,
        "{.items[*].spec.containers[0].image}",
        "nginx:2 nginx:2 nginx:2 nginx:2",
    );

    let history = kubectl.prints(
        &["rollout", "history", "deploy/web"],
        "2         the second",
    );
    assert!(history.contains("1         the first"), "{history}");
    let first = kubectl.must(&["rollout", "history", "deploy/web", "--revision=1"]);
    assert!(first.contains("nginx:1"), "{first}");

    kubectl.must(&["rollout", "undo", "deploy/web"]);
    kubectl.rolled_out("deployment/web");
    assert_eq!(kubectl.path(&["deploy", "web"], IMAGE), "nginx:1");
    // What was gone back to is the newest revision: 1 is 3 now.
    let history = kubectl.must(&["rollout", "history", "deploy/web"]);
    assert!(
        history.contains("\n3 ") && !history.contains("\n1 "),
        "{history}"
    );
    kubectl.must(&["rollout", "undo", "deploy/web", "--to-revision=2"]);
    kubectl.rolled_out("deployment/web");
    assert_eq!(kubectl.path(&["deploy", "web"], IMAGE), "nginx:2");
    assert_eq!(
        kubectl.count("rs", "app=web"),
        2,
        "old revisions are used again"
    );

    let told = kubectl.must(&["describe", "deploy", "web"]);
    for part in [
        "ScalingReplicaSet",
        "Scaled up replica set web-",
        "NewReplicaSetAvailable",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    // A restart is a rollout of its own.
    kubectl.must(&["rollout", "restart", "deploy/web"]);
    kubectl.rolled_out("deployment/web");
    assert_eq!(kubectl.count("rs", "app=web"), 3);
}

pub(super) fn pause_and_scale(kubectl: &Kubectl) {
    kubectl.create_web("nginx:1", 2, &[]);
    kubectl.rolled_out("deployment/web");
    kubectl.must(&["rollout", "pause", "deploy/web"]);
    kubectl.must(&["set", "image", "deploy/web", "nginx=nginx:2"]);
    let seen = "{.status.observedGeneration}";
    let generation = kubectl.path(&["deploy", "web"], "{.metadata.generation}");
    kubectl.shows(&["deploy", "web"], seen, &generation);
    assert_eq!(
        kubectl.count("rs", "app=web"),
        1,
        "a pause holds changes back"
    );
    let reason = r#"{.status.conditions[?(@.type=="Progressing")].reason}"#;
    assert_eq!(kubectl.path(&["deploy", "web"], reason), "DeploymentPaused");
    // Scale is no rollout.
    kubectl.must(&["scale", "deploy/web", "--replicas=5"]);
    kubectl.shows(&["deploy", "web"], "{.status.readyReplicas}", "5");
    let said = kubectl.refused(&[
        "scale",
        "deploy/web",
        "--current-replicas=2",
        "--replicas=9",
    ]);
    assert!(said.contains("Expected replicas to be 2, was 5"), "{said}");
    kubectl.must(&["rollout", "resume", "deploy/web"]);
    kubectl.rolled_out("deployment/web");
    kubectl.shows(&["deploy", "web"], "{.status.updatedReplicas}", "5");
    kubectl.must(&["scale", "deploy/web", "--replicas=0"]);
    kubectl.shows(&["pods"], "{.items}", "[]");
}

pub(super) fn say_when_they_are_stuck(kubectl: &Kubectl) {
    // An image that no hollow node can pull.
    kubectl.create_web("nginx:1", 4, &[]);
    kubectl.rolled_out("deployment/web");
    let spec = r#"{"spec":{"progressDeadlineSeconds":3}}"#;
    kubectl.must(&["patch", "deploy", "web", "-p", spec]);
    kubectl.must(&["set", "image", "deploy/web", "nginx=webserver:404"]);
    let said = kubectl.refused(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert!(
        said.contains(r#"deployment "web" exceeded its progress deadline"#),
        "{said}"
    );
    // A quarter may be missing, and a quarter more may be there.
    let available = kubectl.path(
        &["deploy", "web"],
        "{.status.availableReplicas} {.status.replicas}",
    );
    assert_eq!(available, "3 5");
    let pods = kubectl.must(&["get", "pods"]);
    assert!(
        pods.contains("ImagePullBackOff") || pods.contains("ErrImagePull"),
        "{pods}"
    );
    kubectl.must(&["rollout", "undo", "deploy/web"]);
    kubectl.rolled_out("deployment/web");
    // The other strategy leaves nothing of the old before the new begins.
    let spec = r#"{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}"#;
    kubectl.must(&["patch", "deploy", "web", "-p", spec]);
    kubectl.must(&["set", "image", "deploy/web", "nginx=nginx:3"]);
    kubectl.rolled_out("deployment/web");
    kubectl.shows(&["deploy", "web"], "{.status.readyReplicas}", "4");
}

//! Quotas and limits: what is too much is refused, what is used is counted.

use crate::support::Kubectl;

pub(super) fn are_kept_and_counted(kubectl: &Kubectl) {
    kubectl.must(&[
        "wait",
        "--for=create",
        "cm/kube-root-ca.crt",
        "--timeout=60s",
    ]);
    kubectl.must(&[
        "create",
        "quota",
        "q",
        "--hard=pods=2,configmaps=3,requests.cpu=1,services.loadbalancers=0",
    ]);
    kubectl.shows(&["quota", "q"], "{.status.used.configmaps}", "1");
    kubectl.must(&["create", "cm", "a"]);
    kubectl.must(&["create", "cm", "b"]);
    let said = kubectl.refused(&["create", "cm", "c"]);
    let wanted = r#"configmaps "c" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: configmaps=3"#;
    assert!(said.contains(wanted), "{said}");
    kubectl.must(&["delete", "cm", "a"]);
    kubectl.shows(&["quota", "q"], "{.status.used.configmaps}", "2");
    kubectl.must(&["create", "cm", "c"]);

    // With a quota on what pods ask for, pods have to say it.
    let said = kubectl.refused(&["run", "silent", "--image=nginx"]);
    assert!(
        said.contains("failed quota: q: must specify requests.cpu"),
        "{said}"
    );
    kubectl.create_web("nginx", 3, &["--dry-run=server"]);
    let manifest = kubectl.create_web("nginx", 3, &["--dry-run=client", "-o", "yaml"]);
    let manifest = manifest.replace("resources: {}", "resources: {requests: {cpu: 300m}}");
    kubectl.apply(&manifest);
    kubectl.shows(&["deploy", "web"], "{.status.readyReplicas}", "2");
    let failure = r#"{.status.conditions[?(@.type=="ReplicaFailure")].message}"#;
    kubectl.prints(
        &["get", "deploy", "web", &format!("-ojsonpath={failure}")],
        "exceeded quota: q",
    );
    kubectl.shows(
        &["quota", "q"],
        r"{.status.used.pods} {.status.used.requests\.cpu}",
        "2 600m",
    );
    let told = kubectl.must(&["describe", "quota", "q"]);
    assert!(told.contains("requests.cpu            600m  1"), "{told}");
    // Room is used once it is there.
    kubectl.must(&[
        "patch",
        "quota",
        "q",
        "-p",
        r#"{"spec":{"hard":{"pods":"3"}}}"#,
    ]);
    kubectl.must(&["rollout", "status", "deployment/web", "--timeout=80s"]);
    kubectl.must(&["scale", "deploy/web", "--replicas=0"]);
    kubectl.shows(&["quota", "q"], "{.status.used.pods}", "0");
}

pub(super) fn fill_in_what_is_not_said(kubectl: &Kubectl) {
    kubectl.apply(
        "
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec:
  limits:
  - type: Container
    default: {cpu: 200m}
    defaultRequest: {cpu: 100m}
    max: {cpu: '1'}
",
    );
    kubectl.prints(
        &[
            "run",
            "a",
            "--image=nginx",
            "--dry-run=server",
            "-o",
            "yaml",
        ],
        "cpu: 100m",
    );
    kubectl.must(&["run", "a", "--image=nginx"]);
    let resources = kubectl.path(&["pod", "a"], "{.spec.containers[0].resources}");
    assert_eq!(
        resources,
        r#"{"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}}"#
    );
    let big = "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: [{name: b, image: i, resources: {limits: {cpu: '2'}}}]}\n";
    let said = kubectl.feed_refused(&["create", "-f", "-"], big);
    assert!(
        said.contains("maximum cpu usage per Container is 1, but limit is 2"),
        "{said}"
    );
}

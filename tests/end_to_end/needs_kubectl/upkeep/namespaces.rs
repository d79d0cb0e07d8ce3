//! Namespaces go with all that is in them.

use crate::support::Kubectl;

pub(super) fn end_with_all_that_is_in_them(kubectl: &Kubectl) {
    let namespace = "endings-of-one";
    let within = kubectl.with(&["--namespace", namespace]);
    kubectl.must(&["create", "ns", namespace]);
    within.must(&["wait", "--for=create", "sa/default", "--timeout=60s"]);
    within.create_web("nginx", 3, &[]);
    within.must(&["create", "secret", "generic", "s", "--from-literal=a=b"]);
    within.must(&["create", "cm", "held"]);
    within.must(&["create", "role", "r", "--verb=get", "--resource=pods"]);
    within.must(&[
        "create",
        "job",
        "j",
        "--image=busybox",
        "--",
        "sleep",
        "infinity",
    ]);
    within.rolled_out("deployment/web");
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    within.must(&["patch", "cm", "held", "--type=merge", "-p", hold]);

    kubectl.must(&["delete", "ns", namespace, "--wait=false"]);
    let message = r#"{.status.conditions[?(@.type=="NamespaceFinalizersRemaining")].message}"#;
    let wanted = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
    kubectl.shows(&["ns", namespace], message, wanted);
    kubectl.shows(&["ns", namespace], "{.status.phase}", "Terminating");
    let said = within.refused(&["create", "cm", "late"]);
    assert!(said.contains("because it is being terminated"), "{said}");
    // Pods take their grace periods; the rest is gone by then.
    let left = "all,secrets,roles,serviceaccounts";
    within.prints_within(
        super::PATIENCE,
        &["get", left, "-o", "name"],
        str::is_empty,
        "nothing",
    );
    let free = r#"{"metadata":{"finalizers":null}}"#;
    within.must(&["patch", "cm", "held", "--type=merge", "-p", free]);
    kubectl.is_gone(&format!("ns/{namespace}"));
    // The name is free again, and nothing of the former one is there.
    kubectl.must(&["create", "ns", namespace]);
    within.must(&[
        "wait",
        "--for=create",
        "cm/kube-root-ca.crt",
        "--timeout=60s",
    ]);
    assert_eq!(
        within.path(&["cm"], "{.items[*].metadata.name}"),
        "kube-root-ca.crt"
    );
}

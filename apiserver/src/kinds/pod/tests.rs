//! How pods are prepared.

use super::*;
use crate::kinds::testing::{prepared_create, prepared_update, with_cx};

fn shown(doc: &Doc, path: &[&str]) -> String {
    doc.root()
        .path(path)
        .map_or("-".to_string(), |node| node.to_string())
}

#[test]
fn new_pods_wait() {
    let pod = prepared_create(
        &Pod,
        r#"{"metadata":{"name":"a"},"spec":{"serviceAccount":"x","containers":[{"name":"c","lifecycle":{"stopSignal":"SIGTERM"}}]},"status":{"phase":"Running"}}"#,
    );
    assert_eq!(shown(&pod, &["metadata", "generation"]), "1");
    assert_eq!(
        shown(&pod, &["status"]),
        r#"{"phase":"Pending","qosClass":"BestEffort"}"#
    );
    assert_eq!(
        shown(&pod, &["spec"]),
        r#"{"serviceAccount":"x","containers":[{"name":"c"}],"serviceAccountName":"x"}"#
    );
}

#[test]
fn gated_pods_say_so() {
    let pod = prepared_create(
        &Pod,
        r#"{"spec":{"schedulingGates":[{"name":"a"}],"terminationGracePeriodSeconds":-5}}"#,
    );
    assert_eq!(shown(&pod, &["spec", "terminationGracePeriodSeconds"]), "1");
    let condition = pod
        .root()
        .path(&["status", "conditions"])
        .unwrap()
        .item(0)
        .unwrap();
    assert_eq!(condition.text(&["reason"]), "SchedulingGated");
}

#[test]
fn label_keys_become_expressions() {
    let pod = prepared_create(
        &Pod,
        r#"{"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"topologySpreadConstraints":[{"labelSelector":{},"matchLabelKeys":["a","c"]}],
        "affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{},"mismatchLabelKeys":["b"]}]}}}}"#,
    );
    let text = shown(&pod, &["spec"]);
    assert!(
        text.contains(
            r#""labelSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["1"]}]}"#
        ) && text
            .contains(r#"{"matchExpressions":[{"key":"b","operator":"NotIn","values":["2"]}]}"#),
        "{text}"
    );
}

#[test]
fn app_armor_annotations_become_fields() {
    let pod = prepared_create(
        &Pod,
        r#"{"metadata":{"annotations":{"container.apparmor.security.beta.kubernetes.io/c":"localhost/p"}},"spec":{"containers":[{"name":"c"}]}}"#,
    );
    assert_eq!(
        shown(&pod, &["spec", "containers"]),
        r#"[{"name":"c","securityContext":{"appArmorProfile":{"type":"Localhost","localhostProfile":"p"}}}]"#
    );
}

const OLD: &str = r#"{"metadata":{"generation":3,"labels":{"a":"b"},"ownerReferences":[{"name":"o"}]},
    "spec":{"nodeName":"n","containers":[{"name":"c","image":"i","resources":{}}]},
    "status":{"phase":"Running","qosClass":"BestEffort","observedGeneration":2,"conditions":[{"type":"Ready","observedGeneration":2}]}}"#;

#[test]
fn each_endpoint_changes_its_own() {
    let new = r#"{"metadata":{"generation":3,"labels":{"a":"c"}},"spec":{"nodeName":"m","containers":[{"name":"c","image":"j","resources":{"limits":{"cpu":"1"}}}],"ephemeralContainers":[{"name":"e"}]},
        "status":{"phase":"Failed","podIP":"1.2.3.4","conditions":[{"type":"Ready"}]}}"#;
    let plain = prepared_update(&Pod, "", new, OLD);
    assert_eq!(shown(&plain, &["status", "phase"]), r#""Running""#);
    assert_eq!(shown(&plain, &["metadata", "generation"]), "4");

    let status = prepared_update(&Pod, "status", new, OLD);
    assert_eq!(shown(&status, &["spec", "nodeName"]), r#""n""#);
    assert_eq!(shown(&status, &["metadata", "generation"]), "3");
    assert_eq!(shown(&status, &["metadata", "labels"]), r#"{"a":"c"}"#);
    assert_eq!(
        shown(&status, &["metadata", "ownerReferences"]),
        r#"[{"name":"o"}]"#
    );
    assert_eq!(shown(&status, &["status", "qosClass"]), r#""BestEffort""#);
    assert_eq!(shown(&status, &["status", "observedGeneration"]), "2");
    assert_eq!(
        shown(&status, &["status", "conditions"]),
        r#"[{"type":"Ready","observedGeneration":2}]"#
    );
    assert_eq!(
        shown(&status, &["status", "podIPs"]),
        r#"[{"ip":"1.2.3.4"}]"#
    );

    let ephemeral = prepared_update(&Pod, "ephemeralcontainers", new, OLD);
    assert_eq!(
        shown(&ephemeral, &["spec", "ephemeralContainers"]),
        r#"[{"name":"e"}]"#
    );
    assert_eq!(shown(&ephemeral, &["spec", "nodeName"]), r#""n""#);
    assert_eq!(shown(&ephemeral, &["metadata", "labels"]), r#"{"a":"b"}"#);
    assert_eq!(shown(&ephemeral, &["metadata", "generation"]), "4");

    let resized = prepared_update(&Pod, "resize", new, OLD);
    assert_eq!(
        shown(&resized, &["spec"]),
        r#"{"nodeName":"n","containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1"}}}]}"#
    );
    assert_eq!(shown(&resized, &["status", "phase"]), r#""Running""#);
}

#[test]
fn binding_says_where() {
    let bound = OLD
        .replace(r#""nodeName":"n""#, r#""nodeName":"m""#)
        .replace("Running", "Pending");
    let new = prepared_update(&Pod, "binding", &bound, OLD);
    assert_eq!(new.to_string(), Doc::literal(&bound).to_string());
    let judged = with_cx("binding", |cx| {
        Pod.validate_update(cx, &new, &Doc::literal(OLD))
    });
    assert_eq!(judged, Vec::new());
}

#[test]
fn deletion_leaves_time_to_running_pods() {
    for (pod, asked, want) in [
        (
            r#"{"spec":{"terminationGracePeriodSeconds":30}}"#,
            Some(9),
            0,
        ),
        (
            r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":30}}"#,
            None,
            30,
        ),
        (
            r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":30}}"#,
            Some(5),
            5,
        ),
        (
            r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":-3}}"#,
            None,
            1,
        ),
        (r#"{"spec":{"nodeName":"n"}}"#, None, 0),
        (
            r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":30},"status":{"phase":"Succeeded"}}"#,
            None,
            0,
        ),
    ] {
        assert_eq!(
            Pod.grace_seconds(&Doc::literal(pod), asked),
            Some(want),
            "{pod}"
        );
    }
}

#[test]
fn oddities_are_told() {
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a.b","annotations":{"scheduler.alpha.kubernetes.io/critical-pod":""}},
        "spec":{"nodeSelector":{"beta.kubernetes.io/os":"linux"},"volumes":[{"name":"g","gitRepo":{}},{"name":"c","configMap":{"name":"m","items":[{"path":"a"},{"path":"a/b"}]}}],
        "hostAliases":[{"ip":"010.0.0.1"}],"topologySpreadConstraints":[{"topologyKey":"x"}],
        "containers":[{"name":"c","env":[{"name":"A","value":"1"},{"name":"A","value":"2"}],"resources":{"limits":{"memory":"100m"}},
            "ports":[{"name":"p","containerPort":80,"protocol":"TCP"},{"name":"p","containerPort":80,"protocol":"TCP"},{"containerPort":81,"hostIP":"1.1.1.1"}]}]}}"#;
    let told = with_cx("", |cx| Pod.warnings(cx, &Doc::literal(pod), None));
    for want in [
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
        r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        r#"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead"#,
        "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
        r#"volume "c" (ConfigMap "m"): overlapping paths: "a/b" with "a""#,
        r#"spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer"#,
        r#"spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#,
        "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        "spec.containers[0].ports[2]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:81 Protocol: HostIP:1.1.1.1}",
        r#"spec.containers[0].ports[1]: duplicate port name "p" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]"#,
    ] {
        assert!(told.iter().any(|told| told == want), "{want}\n{told:#?}");
    }
}

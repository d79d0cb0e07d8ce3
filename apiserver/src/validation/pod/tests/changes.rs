//! What may become of a pod.

use super::GOOD;
use crate::kinds::pod::Pod;
use crate::kinds::testing::{Case, cases, changed, conformed, with_cx};
use crate::registry::Strategy;

const UPDATES: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

#[test]
fn of_the_pod() {
    let diff = format!("spec: Forbidden: {UPDATES}\n@@ …");
    cases(
        &Pod,
        GOOD,
        &[
            Case::update("spec containers 0 image", r#""other""#, &[]),
            Case::update("spec activeDeadlineSeconds", "5", &[]),
            Case::update("spec nodeName", r#""n""#, &[&diff]),
            Case::update("spec containers 0 env 0 value", r#""2""#, &[&diff]),
            Case::update("spec nodeSelector c", r#""d""#, &[&diff]),
            Case::update(
                "spec containers 1",
                r#"{"name":"d","image":"x","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{}}"#,
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
            Case::update("spec tolerations 1", r#"{"operator":"Exists"}"#, &[]),
            Case::update("spec tolerations 0 tolerationSeconds", "6", &[]),
            Case::update(
                "spec tolerations 0 key",
                r#""x""#,
                &[
                    "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
                ],
            ),
            Case::update(
                "spec schedulingGates",
                r#"[{"name":"x"}]"#,
                &[
                    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x'",
                ],
            ),
            Case::update(
                "metadata annotations",
                r#"{"container.apparmor.security.beta.kubernetes.io/c":"unconfined"}"#,
                &[
                    "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden: may not add AppArmor annotations",
                ],
            ),
        ],
    );
}

#[test]
fn the_difference_is_shown() {
    let old = conformed(GOOD);
    let new = changed(&old, "spec restartPolicy", r#""Never""#);
    let errors = with_cx("", |cx| Pod.validate_update(cx, &new, &old));
    assert!(
        errors[0].detail.ends_with(
            "\n@@ -225,7 +225,7 @@\n    }\n   }\n  ],\n- \"restartPolicy\": \"Always\",\n+ \"restartPolicy\": \"Never\",\n  \"terminationGracePeriodSeconds\": 30,\n  \"dnsPolicy\": \"ClusterFirst\",\n  \"nodeSelector\": {\n"
        ) || errors[0].detail.contains("- \"restartPolicy\": \"Always\",\n+ \"restartPolicy\": \"Never\",\n"),
        "{}",
        errors[0].detail
    );
}

#[test]
fn of_gated_pods() {
    let good = changed(
        &conformed(GOOD),
        "spec schedulingGates",
        r#"[{"name":"g"}]"#,
    )
    .to_string();
    let terms = "spec affinity nodeAffinity requiredDuringSchedulingIgnoredDuringExecution nodeSelectorTerms";
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    cases(
        &Pod,
        &good,
        &[
            Case::update("spec schedulingGates", "-", &[]),
            Case::update("spec nodeSelector c", r#""d""#, &[]),
            Case::update(
                "spec nodeSelector a",
                r#""d""#,
                &[
                    r#"spec.nodeSelector: Invalid value: {"a":"d"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"#,
                ],
            ),
            Case::update(
                &format!("{terms} 0 matchExpressions 1"),
                r#"{"key":"l","operator":"Exists"}"#,
                &[],
            ),
            Case::update(
                &format!("{terms} 0 matchExpressions 0 key"),
                r#""l""#,
                &[&format!(
                    r#"{path}[0]: Invalid value: {{"matchExpressions":[{{"key":"l","operator":"In","values":["v"]}}]}}: only additions are allowed (no mutations or deletions)"#
                )],
            ),
            Case::create(
                "spec nodeName",
                r#""n""#,
                &[
                    "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
                ],
            ),
        ],
    );
}

#[test]
fn of_the_status() {
    let good = changed(
        &conformed(GOOD),
        "status containerStatuses",
        r#"[{"name":"c","ready":false,"restartCount":0,"image":"","imageID":"","state":{"terminated":{"exitCode":1,"startedAt":null,"finishedAt":null}},"lastState":{}}]"#,
    );
    let never = changed(&good, "spec restartPolicy", r#""Never""#).to_string();
    let running = r#"{"running":{"startedAt":null}}"#;
    cases(
        &Pod,
        &good.to_string(),
        &[Case::sub(
            "status",
            "status containerStatuses 0 state",
            running,
            &[],
        )],
    );
    cases(
        &Pod,
        &never,
        &[
            Case::sub(
                "status",
                "status containerStatuses 0 state",
                running,
                &[
                    "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
                ],
            ),
            Case::sub(
                "status",
                "status qosClass",
                r#""Guaranteed""#,
                &[r#"status.qosClass: Invalid value: "Guaranteed": field is immutable"#],
            ),
            Case::sub(
                "status",
                "status podIPs",
                r#"[{"ip":"1.2.3.4"},{"ip":"1.2.3.5"}]"#,
                &[
                    r#"status.podIPs: Invalid value: [{"ip":"1.2.3.4"},{"ip":"1.2.3.5"}]: may specify no more than one IP for each IP family"#,
                ],
            ),
            Case::sub(
                "status",
                "status hostIPs",
                r#"[{"ip":"1.2.3.4"}]"#,
                &[r#"status.hostIPs[0].ip: Invalid value: "1.2.3.4": must be equal to `hostIP`"#],
            ),
            Case::sub(
                "status",
                "status conditions",
                r#"[{"type":"a b","status":"True","lastProbeTime":null,"lastTransitionTime":null}]"#,
                &[r#"status.conditions[0].Type: Invalid value: "a b": name part must consist…"#],
            ),
        ],
    );
}

#[test]
fn of_ephemeral_containers_and_resources() {
    const CONTAINER: &str = r#"{"name":"e","image":"x","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{}}"#;
    let good = conformed(GOOD);
    cases(
        &Pod,
        GOOD,
        &[
            Case::sub(
                "ephemeralcontainers",
                "spec ephemeralContainers",
                &format!("[{CONTAINER}]"),
                &[],
            ),
            Case::sub(
                "resize",
                "spec containers 0 resources requests cpu",
                r#""600m""#,
                &[],
            ),
            Case::sub(
                "resize",
                "spec containers 0 resources requests cpu",
                "-",
                &[
                    "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                ],
            ),
            Case::sub(
                "resize",
                "spec containers 0 resources limits example.com/other",
                r#""1""#,
                &["spec: Forbidden: only cpu and memory resources are mutable"],
            ),
            Case::sub(
                "resize",
                "spec containers 0 resources limits cpu",
                r#""500m""#,
                &[],
            ),
        ],
    );
    let has_one = changed(&good, "spec ephemeralContainers", &format!("[{CONTAINER}]"));
    let errors = with_cx("ephemeralcontainers", |cx| {
        Pod.validate_update(cx, &good, &has_one)
    });
    assert_eq!(
        errors[0].to_string(),
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"
    );
}

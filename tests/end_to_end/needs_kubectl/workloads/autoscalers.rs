//! Autoscalers, as far as they go where nobody serves metrics.

use crate::support::Kubectl;

pub(super) fn keep_within_their_limits(kubectl: &Kubectl) {
    for (name, replicas) in [("few", "1"), ("many", "6")] {
        let replicas = format!("--replicas={replicas}");
        kubectl.must(&["create", "deployment", name, "--image=nginx", &replicas]);
        kubectl.must(&[
            "autoscale",
            "deployment",
            name,
            "--min=2",
            "--max=4",
            "--cpu-percent=50",
        ]);
    }
    kubectl.shows(&["deploy", "few"], "{.spec.replicas}", "2");
    kubectl.shows(&["deploy", "many"], "{.spec.replicas}", "4");
    // Within the limits it takes metrics, and it says that there are none.
    let reason = r#"{.status.conditions[?(@.type=="ScalingActive")].reason}"#;
    kubectl.shows(&["hpa", "few"], reason, "FailedGetResourceMetric");
    let told = kubectl.must(&["describe", "hpa", "few"]);
    for part in [
        "SuccessfulRescale",
        "FailedGetResourceMetric",
        "unable to get metrics for resource cpu",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert_eq!(kubectl.path(&["deploy", "few"], "{.spec.replicas}"), "2");
}

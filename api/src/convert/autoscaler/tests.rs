//! Autoscalers there and back, as upstream converts them.

use crate::convert::convert;
use crate::doc::Doc;

const KIND: &str = "HorizontalPodAutoscaler";
const V1: &str = "autoscaling/v1";
const V2: &str = "autoscaling/v2";

fn converted(json: &str, from: &str, to: &str) -> String {
    let mut doc = Doc::literal(json);
    convert(&mut doc, KIND, from, to).unwrap();
    doc.to_string()
}

/// An autoscaler, with what its version has in annotations, specification and status.
fn object(version: &str, annotations: &str, spec: &str, status: &str) -> String {
    let metadata = match annotations {
        "" => r#"{"name":"h"}"#.to_string(),
        some => {
            let mut doc = Doc::literal(r#"{"name":"h"}"#);
            let annotations = doc.absorb(Doc::literal(some));
            let top = doc.top();
            doc.put(top, "annotations", annotations);
            doc.to_string()
        }
    };
    let replicas = match version {
        V1 => r#""currentReplicas":2,"desiredReplicas":3"#,
        _ => r#""currentReplicas":2,"desiredReplicas":3,"currentMetrics":"#,
    };
    format!(
        r#"{{"kind":"{KIND}","apiVersion":"{version}","metadata":{metadata},"spec":{{"scaleTargetRef":{{"kind":"Deployment","name":"d","apiVersion":"apps/v1"}},"minReplicas":1,"maxReplicas":5{spec}}},"status":{{{replicas}{status}}}}}"#
    )
}

const CPU: &str = r#"{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":70}}}"#;

#[test]
fn cpu_utilization_is_said_in_both() {
    let v1 = object(V1, "", r#","targetCPUUtilizationPercentage":70"#, "");
    let v2 = object(V2, "", &format!(r#","metrics":[{CPU}]"#), "null");
    assert_eq!(converted(&v1, V1, V2), v2);
    assert_eq!(converted(&v2, V2, V1), v1);
    // Nothing said means 80.
    let made = converted(&object(V1, "", "", ""), V1, V2);
    assert!(made.contains(r#""averageUtilization":80"#), "{made}");
}

#[test]
fn everything_else_travels_in_annotations() {
    let metrics = r#"{"type":"Object","object":{"describedObject":{"kind":"k","name":"n","apiVersion":"v1"},"target":{"type":"AverageValue","averageValue":"5"},"metric":{"name":"m","selector":{"matchLabels":{"a":"b"}}}}},{"type":"Object","object":{"describedObject":{"kind":"k","name":"n"},"target":{"type":"Value","value":"7"},"metric":{"name":"m"}}},{"type":"Pods","pods":{"metric":{"name":"p"},"target":{"type":"AverageValue","averageValue":"1"}}},{"type":"Resource","resource":{"name":"memory","target":{"type":"AverageValue","averageValue":"1Gi"}}},{"type":"ContainerResource","containerResource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":9},"container":"c"}},{"type":"External","external":{"metric":{"name":"x","selector":{}},"target":{"type":"Value","value":"3"}}}"#;
    let in_v1 = r#"[{"type":"Object","object":{"target":{"kind":"k","name":"n","apiVersion":"v1"},"metricName":"m","targetValue":"0","selector":{"matchLabels":{"a":"b"}},"averageValue":"5"}},{"type":"Object","object":{"target":{"kind":"k","name":"n"},"metricName":"m","targetValue":"7"}},{"type":"Pods","pods":{"metricName":"p","targetAverageValue":"1"}},{"type":"Resource","resource":{"name":"memory","targetAverageValue":"1Gi"}},{"type":"ContainerResource","containerResource":{"name":"cpu","targetAverageUtilization":9,"container":"c"}},{"type":"External","external":{"metricName":"x","metricSelector":{},"targetValue":"3"}}]"#;
    let behavior = r#"{"scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[{"type":"Pods","value":4,"periodSeconds":15}]},"scaleDown":{"tolerance":"100m"}}"#;
    let in_go = r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":{"StabilizationWindowSeconds":null,"SelectPolicy":null,"Policies":null,"Tolerance":"100m"}}"#;
    let statuses = r#"[{"type":"Resource","resource":{"name":"cpu","current":{"averageValue":"5m","averageUtilization":50}}},{"type":"Pods","pods":{"metric":{"name":"p"},"current":{"averageValue":"1"}}}]"#;
    let in_status = r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":50,"currentAverageValue":"5m"}},{"type":"Pods","pods":{"metricName":"p","currentAverageValue":"1"}}]"#;
    let conditions =
        r#"[{"type":"AbleToScale","status":"True","lastTransitionTime":null,"reason":"r"}]"#;
    let v2 = object(
        V2,
        r#"{"mine":"stays"}"#,
        &format!(r#","metrics":[{metrics},{CPU}],"behavior":{behavior}"#),
        &format!(r#"{statuses},"conditions":{conditions}"#),
    );
    let mut annotations = Doc::new();
    for (name, value) in [
        ("behavior", in_go),
        ("conditions", conditions),
        ("current-metrics", in_status),
        ("metrics", in_v1),
    ] {
        let name = format!("autoscaling.alpha.kubernetes.io/{name}");
        annotations.set_path(&[&name], value);
    }
    annotations.set_path(&["mine"], "stays");
    let v1 = object(
        V1,
        &annotations.to_string(),
        r#","targetCPUUtilizationPercentage":70"#,
        r#","currentCPUUtilizationPercentage":50"#,
    );
    assert_eq!(converted(&v2, V2, V1), v1);
    assert_eq!(converted(&v1, V1, V2), v2);
}

#[test]
fn annotations_that_mean_nothing_are_dropped() {
    let v2 = object(V2, "", &format!(r#","metrics":[{CPU}]"#), "null");
    for annotations in [
        r#"{"autoscaling.alpha.kubernetes.io/metrics":"x","autoscaling.alpha.kubernetes.io/behavior":"{}"}"#,
        r#"{"autoscaling.alpha.kubernetes.io/metrics":"{}","autoscaling.alpha.kubernetes.io/conditions":"[1]"}"#,
        r#"{"autoscaling.alpha.kubernetes.io/metrics":"null","autoscaling.alpha.kubernetes.io/scale-up-tolerance":"1"}"#,
    ] {
        let v1 = object(
            V1,
            annotations,
            r#","targetCPUUtilizationPercentage":70"#,
            "",
        );
        assert_eq!(converted(&v1, V1, V2), v2, "{annotations}");
        let same = object(V2, annotations, &format!(r#","metrics":[{CPU}]"#), "null");
        assert_eq!(converted(&same, V2, V2), v2, "{annotations}");
    }
}

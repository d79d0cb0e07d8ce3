//! What runs pods.

use super::{check, row};

#[test]
fn workloads() {
    let template = r#""template":{"metadata":{"labels":{"b":"2","a":"1"}},"spec":{"containers":[{"name":"c1","image":"i1"},{"name":"c2","image":"i2"}],"nodeSelector":{"d":"ssd"}}}"#;
    let selector = r#""selector":{"matchLabels":{"foo":"bar"},"matchExpressions":[{"key":"a","operator":"In","values":["y","x"]}]}"#;
    for (kind, object, want) in [
        (
            "v1 PodTemplate",
            "{META,TEMPLATE}",
            r#"["x","c1,c2","i1,i2","a=1,b=2"]"#,
        ),
        (
            "v1 ReplicationController",
            r#"{META,"spec":{"replicas":5,"selector":{"a":"b"},TEMPLATE},"status":{"replicas":3,"readyReplicas":1}}"#,
            r#"["x",5,3,1,"0s","c1,c2","i1,i2","a=b"]"#,
        ),
        (
            "v1 ReplicationController",
            "{}",
            r#"["",0,0,0,"<unknown>","","","<none>"]"#,
        ),
        (
            "apps/v1 ReplicaSet",
            r#"{META,"spec":{"replicas":5,SELECTOR,TEMPLATE},"status":{"replicas":5,"readyReplicas":2}}"#,
            r#"["x",5,5,2,"0s","c1,c2","i1,i2","a in (x,y),foo=bar"]"#,
        ),
        (
            "apps/v1 Deployment",
            r#"{META,"spec":{"replicas":5,SELECTOR,TEMPLATE},"status":{"updatedReplicas":20,"readyReplicas":2,"availableReplicas":2}}"#,
            r#"["x","2/5",20,2,"0s","c1,c2","i1,i2","a in (x,y),foo=bar"]"#,
        ),
        (
            "apps/v1 Deployment",
            r#"{META,"spec":{"selector":{"matchExpressions":[{"key":"a","operator":"x"}]},TEMPLATE}}"#,
            r#"["x","0/0",0,0,"0s","c1,c2","i1,i2","<invalid>"]"#,
        ),
        (
            "apps/v1 StatefulSet",
            r#"{META,"spec":{"replicas":5,TEMPLATE},"status":{"readyReplicas":2}}"#,
            r#"["x","2/5","0s","c1,c2","i1,i2"]"#,
        ),
        (
            "apps/v1 DaemonSet",
            r#"{META,"spec":{"selector":{"matchExpressions":[{"key":"a","operator":"x"}]},TEMPLATE},"status":{"desiredNumberScheduled":3,"currentNumberScheduled":2,"numberReady":1,"updatedNumberScheduled":2}}"#,
            r#"["x",3,2,1,2,0,"d=ssd","0s","c1,c2","i1,i2","<error>"]"#,
        ),
        (
            "batch/v1 CronJob",
            r#"{META,"spec":{"schedule":"0/5 * * * ?","suspend":false,"jobTemplate":{"spec":{TEMPLATE}}},"status":{"lastScheduleTime":"@-30@","active":[{},{}]}}"#,
            r#"["x","0/5 * * * ?","<none>","False",2,"30s","0s","c1,c2","i1,i2","<none>"]"#,
        ),
        (
            "batch/v1 CronJob",
            r#"{META,"spec":{"schedule":"0 0 * * *","timeZone":"LOCAL","jobTemplate":{"spec":{TEMPLATE,SELECTOR}}}}"#,
            r#"["x","0 0 * * *","LOCAL","<unset>",0,"<none>","0s","c1,c2","i1,i2","a in (x,y),foo=bar"]"#,
        ),
    ] {
        let meta = r#""metadata":{"name":"x","creationTimestamp":"@2@"}"#;
        let json = object.replace("META", meta).replace("TEMPLATE", template);
        check(kind, &[(&json.replace("SELECTOR", selector), want)]);
    }
    check(
        "policy/v1 PodDisruptionBudget",
        &[
            (
                r#"{"metadata":{"name":"a"},"spec":{"minAvailable":22},"status":{"disruptionsAllowed":5}}"#,
                r#"["a","22","N/A",5,"<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"a"},"spec":{"maxUnavailable":"11%"},"status":{"disruptionsAllowed":5}}"#,
                r#"["a","N/A","11%",5,"<unknown>"]"#,
            ),
        ],
    );
    check(
        "apps/v1 ControllerRevision",
        &[
            (
                r#"{"metadata":{"name":"a","ownerReferences":[{"controller":true,"apiVersion":"apps/v1","kind":"DaemonSet","name":"foo"}]},"revision":1}"#,
                r#"["a","daemonset.apps/foo",1,"<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"a","ownerReferences":[{"controller":true,"apiVersion":"v1","kind":"Kind","name":"foo"}]},"revision":1}"#,
                r#"["a","kind/foo",1,"<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"a","ownerReferences":[{"controller":false,"kind":"ABC","name":"foo"}]},"revision":2}"#,
                r#"["a","<none>",2,"<unknown>"]"#,
            ),
        ],
    );
}

#[test]
fn jobs() {
    let job = |meta: &str, spec: &str, status: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"j","creationTimestamp":"@-315360000@"{meta}}},"spec":{spec},"status":{status}}}"#
        );
        let cells = row("batch/v1 Job", &text);
        let start = cells.strip_prefix("[\"j\",").unwrap();
        start
            .strip_suffix(r#","10y","","","<none>"]"#)
            .unwrap()
            .to_string()
    };
    let condition =
        |kind: &str| format!(r#"{{"conditions":[{{"type":"{kind}","status":"True"}}]}}"#);
    for (meta, spec, status, want) in [
        (
            "",
            r#"{"completions":2}"#,
            r#"{"succeeded":1}"#,
            r#""Running","1/2","""#,
        ),
        ("", "{}", "{}", r#""Running","0/1","""#),
        (
            "",
            r#"{"parallelism":3}"#,
            "{}",
            r#""Running","0/1 of 3","""#,
        ),
        (
            "",
            "{}",
            r#"{"startTime":"@60@","completionTime":"@1860@"}"#,
            r#""Running","0/1","30m""#,
        ),
        (
            "",
            "{}",
            r#"{"startTime":"@-1200@"}"#,
            r#""Running","0/1","20m""#,
        ),
        ("", "{}", &condition("Complete"), r#""Complete","0/1","""#),
        ("", "{}", &condition("Failed"), r#""Failed","0/1","""#),
        ("", "{}", &condition("Suspended"), r#""Suspended","0/1","""#),
        (
            "",
            "{}",
            &condition("FailureTarget"),
            r#""FailureTarget","0/1","""#,
        ),
        (
            "",
            "{}",
            &condition("SuccessCriteriaMet"),
            r#""SuccessCriteriaMet","0/1","""#,
        ),
        (
            r#","deletionTimestamp":"@2@""#,
            "{}",
            &condition("Suspended"),
            r#""Terminating","0/1","""#,
        ),
    ] {
        assert_eq!(job(meta, spec, status), want, "{meta} {spec} {status}");
    }
}

#[test]
fn autoscalers() {
    let targets = |metrics: &str, statuses: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"h"}},"spec":{{"scaleTargetRef":{{"kind":"RC","name":"rc"}},"minReplicas":2,"maxReplicas":10,"metrics":[{metrics}]}},"status":{{"currentReplicas":4,"currentMetrics":[{statuses}]}}}}"#
        );
        let cells = row("autoscaling/v2 HorizontalPodAutoscaler", &text);
        let targets = cells.strip_prefix(r#"["h","RC/rc",""#).unwrap();
        targets
            .strip_suffix(r#"","2",10,4,"<unknown>"]"#)
            .unwrap()
            .to_string()
    };
    let metric = |kind: &str, field: &str, part: &str| {
        format!(r#"{{"type":"{kind}","{field}":{{"name":"cpu",{part}}}}}"#)
    };
    let external = |target: &str| metric("External", "external", &format!(r#""target":{target}"#));
    let resource = |target: &str| metric("Resource", "resource", &format!(r#""target":{target}"#));
    let current = |kind: &str, field: &str, value: &str| {
        metric(kind, field, &format!(r#""current":{value}"#))
    };
    let average = r#"{"type":"AverageValue","averageValue":"100m"}"#;
    let value = r#"{"type":"Value","value":"100m"}"#;
    let share = r#"{"type":"Utilization","averageUtilization":80}"#;
    let pods = metric("Pods", "pods", &format!(r#""target":{average}"#));
    let pods_now = current("Pods", "pods", r#"{"averageValue":"50m"}"#);
    let cpu_now = current(
        "Resource",
        "resource",
        r#"{"averageUtilization":50,"averageValue":"5"}"#,
    );
    for (metrics, statuses, want) in [
        (String::new(), String::new(), "<none>"),
        (external(average), String::new(), "<unknown>/100m (avg)"),
        (
            external(average),
            current("External", "external", r#"{"averageValue":"50m"}"#),
            "50m/100m (avg)",
        ),
        (external(value), String::new(), "<unknown>/100m"),
        (
            external(value),
            current("External", "external", r#"{"value":"50m"}"#),
            "50m/100m",
        ),
        (pods.clone(), String::new(), "<unknown>/100m"),
        (pods.clone(), pods_now.clone(), "50m/100m"),
        (
            metric("Object", "object", &format!(r#""target":{value}"#)),
            current("Object", "object", r#"{"value":"50m"}"#),
            "50m/100m",
        ),
        (
            metric("Object", "object", &format!(r#""target":{average}"#)),
            current("Object", "object", r#"{"value":"50m"}"#),
            "<unknown>/100m (avg)",
        ),
        (resource(average), String::new(), "cpu: <unknown>/100m"),
        (
            resource(average),
            current("Resource", "resource", r#"{"averageValue":"50m"}"#),
            "cpu: 50m/100m",
        ),
        (
            resource(average),
            current("Resource", "resource", "{}"),
            "cpu: <nil>/100m",
        ),
        (resource(share), String::new(), "cpu: <unknown>/80%"),
        (resource(share), cpu_now.clone(), "cpu: 50%/80%"),
        (resource("{}"), cpu_now.clone(), "cpu: 50%/<auto>"),
        (
            metric(
                "ContainerResource",
                "containerResource",
                &format!(r#""target":{share}"#),
            ),
            current(
                "ContainerResource",
                "containerResource",
                r#"{"averageUtilization":50}"#,
            ),
            "cpu: 50%/80%",
        ),
        (
            r#"{"type":"X"}"#.to_string(),
            String::new(),
            "<unknown type>",
        ),
        (
            format!("{pods},{},{pods}", resource(share)),
            format!("{pods_now},{cpu_now},{pods_now}"),
            "50m/100m, cpu: 50%/80% + 1 more...",
        ),
    ] {
        assert_eq!(targets(&metrics, &statuses), want, "{metrics} {statuses}");
    }
    check(
        "autoscaling/v1 Scale",
        &[(
            r#"{"metadata":{"name":"s","creationTimestamp":"@1@"},"spec":{"replicas":2},"status":{"replicas":1}}"#,
            r#"["s",2,1,"0s"]"#,
        )],
    );
}

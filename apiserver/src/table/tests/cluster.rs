//! Nodes, events, access and the rest.

use super::{check, row};

#[test]
fn nodes() {
    let plain = r#""<none>","<none>","<unknown>","<unknown>","<unknown>"]"#;
    for (spec, conditions, want) in [
        ("{}", r#"[{"type":"Ready","status":"True"}]"#, "Ready"),
        (
            r#"{"unschedulable":true}"#,
            r#"[{"type":"Ready","status":"True"}]"#,
            "Ready,SchedulingDisabled",
        ),
        ("{}", r#"[{"type":"Ready","status":"False"}]"#, "NotReady"),
        ("{}", r#"[{"type":"Ready","status":"Unknown"}]"#, "NotReady"),
        ("{}", r#"[{"type":"X","status":"True"}]"#, "Unknown"),
        (
            r#"{"unschedulable":true}"#,
            "[]",
            "Unknown,SchedulingDisabled",
        ),
    ] {
        let node = format!(
            r#"{{"metadata":{{"name":"n"}},"spec":{spec},"status":{{"conditions":{conditions}}}}}"#
        );
        let want = format!(r#"["n","{want}","<none>","<unknown>","",{plain}"#);
        check("v1 Node", &[(&node, &want)]);
    }
    check(
        "v1 Node",
        &[(
            r#"{"metadata":{"name":"n","labels":{"node-role.kubernetes.io/master":"","node-role.kubernetes.io/control-plane":"","kubernetes.io/role":"node","node-role.kubernetes.io/":"x"}},
                "status":{"addresses":[{"type":"ExternalIP","address":"1.1.1.1"},{"type":"InternalIP","address":"2.2.2.2"}],
                "nodeInfo":{"kubeletVersion":"v1.36.0","osImage":"os","kernelVersion":"6","containerRuntimeVersion":"cr","architecture":"arm64"}}}"#,
            r#"["n","Unknown","control-plane,master,node","<unknown>","v1.36.0","2.2.2.2","1.1.1.1","os","6 (arm64)","cr"]"#,
        )],
    );
}

#[test]
fn events() {
    let (three, two) = ("@-259200@", "@-172800@");
    let event = |times: &str, source: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"e"}},"involvedObject":{{"kind":"Pod","name":"p","fieldPath":"f"}},"reason":"R","message":" M\n","type":"Normal",{source},{times}}}"#
        );
        row("v1 Event", &text)
    };
    let both = r#""source":{"component":"kubelet","host":"n"}"#;
    for (times, source, last, shown, first, count) in [
        (
            format!(r#""firstTimestamp":"{three}","lastTimestamp":"{two}","count":6"#),
            both,
            "2d",
            "kubelet, n",
            "3d",
            6,
        ),
        (
            format!(r#""eventTime":"{three}","lastTimestamp":"{two}","count":1"#),
            both,
            "2d",
            "kubelet, n",
            "3d",
            1,
        ),
        (
            format!(r#""firstTimestamp":null,"eventTime":"{three}""#),
            both,
            "3d",
            "kubelet, n",
            "3d",
            1,
        ),
        (
            format!(r#""eventTime":"{three}","series":{{"count":2,"lastObservedTime":"{two}"}}"#),
            r#""source":{},"reportingComponent":"kubelet","reportingInstance":"test""#,
            "2d",
            "kubelet, test",
            "3d",
            2,
        ),
        (
            r#""eventTime":null"#.to_string(),
            r#""source":{"component":"c"}"#,
            "<unknown>",
            "c",
            "<unknown>",
            1,
        ),
    ] {
        let want =
            format!(r#"["{last}","Normal","R","pod/p","f","{shown}","M","{first}",{count},"e"]"#);
        assert_eq!(event(&times, source), want, "{times}");
    }
}

#[test]
fn access_and_admission() {
    check(
        "rbac.authorization.k8s.io/v1 RoleBinding",
        &[(
            r#"{"metadata":{"name":"b"},"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"u"},{"kind":"Group","name":"g"},{"kind":"ServiceAccount","namespace":"ns","name":"sa"},{"kind":"User","name":"v"},{"kind":"X","name":"x"}]}"#,
            r#"["b","Role/r","<unknown>","u, v","g","ns/sa"]"#,
        )],
    );
    let request = |spec: &str, status: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"c","creationTimestamp":"@1@"}},"spec":{spec},"status":{status}}}"#
        );
        row("certificates.k8s.io/v1 CertificateSigningRequest", &text)
    };
    for (spec, status, want) in [
        ("{}", "{}", r#"["c","0s","<none>","","<none>","Pending"]"#),
        (
            r#"{"username":"u","signerName":"example.com/s","expirationSeconds":608400}"#,
            r#"{"conditions":[{"type":"Approved"}],"certificate":"eA=="}"#,
            r#"["c","0s","example.com/s","u","7d1h","Approved,Issued"]"#,
        ),
        (
            "{}",
            r#"{"conditions":[{"type":"Approved"},{"type":"Denied"},{"type":"Failed"}]}"#,
            r#"["c","0s","<none>","","<none>","Denied,Failed"]"#,
        ),
    ] {
        assert_eq!(request(spec, status), want, "{spec}");
    }
    let binding = "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding";
    check(
        binding,
        &[
            (
                r#"{"metadata":{"name":"b"},"spec":{"policyName":"p","paramRef":{"name":"n"}}}"#,
                r#"["b","p","*/n","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"b"},"spec":{"policyName":"p","paramRef":{"name":"n","namespace":"ns"}}}"#,
                r#"["b","p","ns/n","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"b"},"spec":{"policyName":"p","paramRef":{"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In","values":["x","y"]}]}}}}"#,
                r#"["b","p","&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}","<unknown>"]"#,
            ),
        ],
    );
    check(
        "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy",
        &[(
            r#"{"metadata":{"name":"p"},"spec":{"validations":[{},{}],"paramKind":{"apiVersion":"v1","kind":"ConfigMap"}}}"#,
            r#"["p",2,"v1/ConfigMap","<unknown>"]"#,
        )],
    );
}

#[test]
fn others() {
    for (kind, object, want) in [
        (
            "v1 Namespace",
            r#""status":{"phase":"Active"}"#,
            r#"["x","Active","5m"]"#,
        ),
        (
            "v1 Secret",
            r#""type":"Opaque","data":{"a":"","b":""}"#,
            r#"["x","Opaque",2,"5m"]"#,
        ),
        (
            "v1 ConfigMap",
            r#""data":{"a":""},"binaryData":{"b":""}"#,
            r#"["x",2,"5m"]"#,
        ),
        ("v1 ServiceAccount", r#""secrets":[]"#, r#"["x","5m"]"#),
        (
            "v1 ResourceQuota",
            r#""status":{"hard":{"cpu":"100","limits.cpu":"200","memory":"4Gi"},"used":{"cpu":"1","limits.cpu":"2"}}"#,
            r#"["x","cpu: 1/100, memory: 0/4Gi","limits.cpu: 2/200","5m"]"#,
        ),
        (
            "v1 ComponentStatus",
            r#""conditions":[{"type":"Healthy","status":"False","message":"m","error":"e"}]"#,
            r#"["x","Unhealthy","m","e"]"#,
        ),
        (
            "v1 ComponentStatus",
            r#""conditions":null"#,
            r#"["x","Unknown","",""]"#,
        ),
        (
            "scheduling.k8s.io/v1 PriorityClass",
            r#""value":1000000000,"globalDefault":true,"preemptionPolicy":"Never""#,
            r#"["x",1000000000,true,"5m","Never"]"#,
        ),
        (
            "coordination.k8s.io/v1 Lease",
            r#""spec":{"holderIdentity":"h"}"#,
            r#"["x","h","5m"]"#,
        ),
        (
            "node.k8s.io/v1 RuntimeClass",
            r#""handler":"h""#,
            r#"["x","h","5m"]"#,
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1 FlowSchema",
            r#""spec":{"matchingPrecedence":7,"priorityLevelConfiguration":{"name":"p"},"distinguisherMethod":{"type":"ByUser"}},"status":{"conditions":[{"type":"Dangling","status":"True"}]}"#,
            r#"["x","p",7,"ByUser","5m","True"]"#,
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration",
            r#""spec":{"type":"Limited","limited":{"nominalConcurrencyShares":42,"limitResponse":{"queuing":{"queues":8,"handSize":3,"queueLengthLimit":4}}}}"#,
            r#"["x","Limited",42,8,3,4,"5m"]"#,
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration",
            r#""spec":{"type":"Exempt"}"#,
            r#"["x","Exempt","<none>","<none>","<none>","<none>","5m"]"#,
        ),
        (
            "apiregistration.k8s.io/v1 APIService",
            r#""spec":{"service":{"namespace":"n","name":"s"}},"status":{"conditions":[{"type":"Available","status":"False","reason":"R"}]}"#,
            r#"["x","n/s","False (R)","5m"]"#,
        ),
        (
            "apiregistration.k8s.io/v1 APIService",
            r#""spec":{}"#,
            r#"["x","Local","Unknown","5m"]"#,
        ),
    ] {
        let json =
            format!(r#"{{"metadata":{{"name":"x","creationTimestamp":"@-300@"}},{object}}}"#);
        check(kind, &[(&json, want)]);
    }
}

//! Well-known results, as upstream's servers answer.

use crate::conform::{Unknown, conform};
use crate::defaults::apply;
use crate::doc::Doc;
use crate::schema;

fn defaulted(kind: &str, json: &str) -> String {
    let (group_version, kind) = kind.split_once(' ').unwrap();
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let schema = schema::kind(group, version, kind).unwrap();
    let mut doc = Doc::literal(json);
    let strict = conform(&mut doc, schema, Unknown::Drop).unwrap();
    assert!(strict.is_empty(), "{strict:?}");
    apply(&mut doc, schema, "2026-03-01T11:00:00Z");
    doc.to_string()
}

/// `PART` stands for a part that all kinds with pods share.
fn check(kind: &str, from: &str, to: &str) {
    const CONTAINER: &str =
        r#""terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File""#;
    const POD: &str = r#""restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler""#;
    let want = to.replace("CONTAINER", CONTAINER).replace("POD", POD);
    assert_eq!(
        defaulted(kind, from),
        want.replace("\n", "").replace("  ", "")
    );
}

#[test]
fn pods() {
    check(
        "v1 Pod",
        r#"{"spec":{"hostNetwork":true,"containers":[{"name":"a","image":"nginx","ports":[{"containerPort":80}],
            "resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"100u"}},
            "livenessProbe":{"httpGet":{"port":80}},"readinessProbe":{"grpc":{"port":1},"periodSeconds":3},
            "env":[{"name":"X","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]}],
            "initContainers":[{"name":"b","image":"nginx:1.27"}],
            "volumes":[{"name":"e"},{"name":"c","configMap":{"name":"m"}},{"name":"h","hostPath":{"path":"/"}},
              {"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}},
              {"name":"i","image":{"reference":"x:latest"}}]}}"#,
        r#"{"metadata":{},"spec":{"volumes":[{"name":"e","emptyDir":{}},{"name":"c","configMap":{"name":"m","defaultMode":420}},
            {"name":"h","hostPath":{"path":"/","type":""}},
            {"name":"p","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3600,"path":"t"}}],"defaultMode":420}},
            {"name":"i","image":{"reference":"x:latest","pullPolicy":"Always"}}],
            "initContainers":[{"name":"b","image":"nginx:1.27","resources":{},CONTAINER,"imagePullPolicy":"IfNotPresent"}],
            "containers":[{"name":"a","image":"nginx","ports":[{"hostPort":80,"containerPort":80,"protocol":"TCP"}],
            "env":[{"name":"X","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}],
            "resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1m","memory":"1Gi"}},
            "livenessProbe":{"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
            "readinessProbe":{"grpc":{"port":1,"service":""},"timeoutSeconds":1,"periodSeconds":3,"successThreshold":1,"failureThreshold":3},
            CONTAINER,"imagePullPolicy":"Always"}],
            "restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","hostNetwork":true,"securityContext":{},"schedulerName":"default-scheduler","enableServiceLinks":true},"status":{}}"#,
    );
}

#[test]
fn resources_of_pods_as_a_whole() {
    let pod = |resources: &str| {
        let text = format!(
            r#"{{"spec":{{"containers":[{{"name":"a","image":"x:1","resources":{{"limits":{{"cpu":"2","hugepages-2Mi":"4Mi","memory":"1Gi"}},"requests":{{"cpu":"1"}}}}}},
                {{"name":"b","image":"x:1","resources":{{"limits":{{"hugepages-2Mi":"2Mi"}}}}}}],"resources":{resources}}}}}"#
        );
        let done = Doc::literal(&defaulted("v1 Pod", &text));
        done.root()
            .path(&["spec", "resources"])
            .map(|node| node.to_string())
    };
    for (from, to) in [
        // Nothing is said about the pod as a whole.
        (r#"{}"#, r#"{}"#),
        (
            r#"{"limits":{"cpu":"4"}}"#,
            r#"{"limits":{"cpu":"4","hugepages-2Mi":"6Mi"},"requests":{"cpu":"1","hugepages-2Mi":"6Mi","memory":"1Gi"}}"#,
        ),
        (
            r#"{"requests":{"cpu":"4","hugepages-2Mi":"8Mi"}}"#,
            r#"{"requests":{"cpu":"4","hugepages-2Mi":"8Mi"}}"#,
        ),
        (
            r#"{"limits":{"memory":"2Gi"},"requests":{"cpu":"3"}}"#,
            r#"{"limits":{"hugepages-2Mi":"6Mi","memory":"2Gi"},"requests":{"cpu":"3","hugepages-2Mi":"6Mi","memory":"1Gi"}}"#,
        ),
    ] {
        assert_eq!(pod(from).as_deref(), Some(to), "{from}");
    }
}

#[test]
fn workloads() {
    let template = r#""template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"x:1","resources":{"limits":{"cpu":"1"}}}]}}"#;
    let full = r#""template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"x:1","resources":{"limits":{"cpu":"1"}},CONTAINER,"imagePullPolicy":"IfNotPresent"}],POD}}"#;
    for (kind, from, to) in [
        (
            "apps/v1 Deployment",
            r#"{"spec":{TEMPLATE}}"#,
            r#"{"metadata":{},"spec":{"replicas":1,"selector":null,TEMPLATE,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600},"status":{}}"#,
        ),
        (
            "apps/v1 Deployment",
            r#"{"spec":{"replicas":0,"strategy":{"type":"Recreate"},TEMPLATE}}"#,
            r#"{"metadata":{},"spec":{"replicas":0,"selector":null,TEMPLATE,"strategy":{"type":"Recreate"},"revisionHistoryLimit":10,"progressDeadlineSeconds":600},"status":{}}"#,
        ),
        (
            "apps/v1 StatefulSet",
            r#"{"spec":{TEMPLATE}}"#,
            r#"{"metadata":{},"spec":{"replicas":1,"selector":null,TEMPLATE,"serviceName":"","podManagementPolicy":"OrderedReady","updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}},"revisionHistoryLimit":10,"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain","whenScaled":"Retain"}},"status":{"replicas":0,"availableReplicas":0}}"#,
        ),
        (
            "apps/v1 DaemonSet",
            r#"{"spec":{TEMPLATE}}"#,
            r#"{"metadata":{},"spec":{"selector":null,TEMPLATE,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1,"maxSurge":0}},"revisionHistoryLimit":10},"status":{"currentNumberScheduled":0,"numberMisscheduled":0,"desiredNumberScheduled":0,"numberReady":0}}"#,
        ),
        (
            "v1 ReplicationController",
            r#"{"spec":{TEMPLATE}}"#,
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"replicas":1,"selector":{"a":"b"},TEMPLATE},"status":{"replicas":0}}"#,
        ),
        (
            "batch/v1 Job",
            r#"{"spec":{TEMPLATE}}"#,
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"parallelism":1,"completions":1,"backoffLimit":6,"manualSelector":false,TEMPLATE,"completionMode":"NonIndexed","suspend":false,"podReplacementPolicy":"TerminatingOrFailed"},"status":{}}"#,
        ),
        (
            "batch/v1 Job",
            r#"{"metadata":{"labels":{"c":"d"}},"spec":{"parallelism":2,"backoffLimitPerIndex":0,"podFailurePolicy":{"rules":[{"action":"Ignore","onPodConditions":[{"type":"X"}]}]},TEMPLATE}}"#,
            r#"{"metadata":{"labels":{"c":"d"}},"spec":{"parallelism":2,"podFailurePolicy":{"rules":[{"action":"Ignore","onPodConditions":[{"type":"X","status":"True"}]}]},"backoffLimit":2147483647,"backoffLimitPerIndex":0,"manualSelector":false,TEMPLATE,"completionMode":"NonIndexed","suspend":false,"podReplacementPolicy":"Failed"},"status":{}}"#,
        ),
        (
            "batch/v1 CronJob",
            r#"{"spec":{"schedule":"@daily","jobTemplate":{"spec":{TEMPLATE}}}}"#,
            r#"{"metadata":{},"spec":{"schedule":"@daily","concurrencyPolicy":"Allow","suspend":false,"jobTemplate":{"metadata":{},"spec":{TEMPLATE}},"successfulJobsHistoryLimit":3,"failedJobsHistoryLimit":1},"status":{}}"#,
        ),
    ] {
        check(
            kind,
            &from.replace("TEMPLATE", template),
            &to.replace("TEMPLATE", full),
        );
    }
}

#[test]
fn services() {
    for (from, to) in [
        (
            r#"{"ports":[{"port":80}]}"#,
            r#"{"ports":[{"protocol":"TCP","port":80,"targetPort":80}],"type":"ClusterIP","sessionAffinity":"None","internalTrafficPolicy":"Cluster"}"#,
        ),
        (
            r#"{"type":"NodePort","sessionAffinity":"ClientIP","ports":[{"port":80,"targetPort":"web"}]}"#,
            r#"{"ports":[{"protocol":"TCP","port":80,"targetPort":"web"}],"type":"NodePort","sessionAffinity":"ClientIP","externalTrafficPolicy":"Cluster","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}},"internalTrafficPolicy":"Cluster"}"#,
        ),
        (
            r#"{"type":"LoadBalancer","ports":[{"port":80,"targetPort":""}]}"#,
            r#"{"ports":[{"protocol":"TCP","port":80,"targetPort":80}],"type":"LoadBalancer","sessionAffinity":"None","externalTrafficPolicy":"Cluster","allocateLoadBalancerNodePorts":true,"internalTrafficPolicy":"Cluster"}"#,
        ),
        (
            r#"{"externalIPs":["1.2.3.4"],"sessionAffinity":"None","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":1}}}"#,
            r#"{"type":"ClusterIP","externalIPs":["1.2.3.4"],"sessionAffinity":"None","externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster"}"#,
        ),
        (
            r#"{"type":"ExternalName","externalName":"a.example"}"#,
            r#"{"type":"ExternalName","sessionAffinity":"None","externalName":"a.example"}"#,
        ),
    ] {
        let from = format!(r#"{{"spec":{from}}}"#);
        let to = format!(r#"{{"metadata":{{}},"spec":{to},"status":{{"loadBalancer":{{}}}}}}"#);
        check("v1 Service", &from, &to);
    }
}

#[test]
fn others() {
    for (kind, from, to) in [
        (
            "v1 PersistentVolumeClaim",
            r#"{"spec":{"resources":{"requests":{"storage":"1.5Gi"}}}}"#,
            r#"{"metadata":{},"spec":{"resources":{"requests":{"storage":"1536Mi"}},"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}"#,
        ),
        (
            "v1 PersistentVolume",
            r#"{"spec":{"rbd":{"monitors":["a"],"image":"i"}}}"#,
            r#"{"metadata":{},"spec":{"rbd":{"monitors":["a"],"image":"i","pool":"rbd","user":"admin","keyring":"/etc/ceph/keyring"},"persistentVolumeReclaimPolicy":"Retain","volumeMode":"Filesystem"},"status":{"phase":"Pending"}}"#,
        ),
        (
            "v1 Namespace",
            r#"{"metadata":{"name":"n","labels":{"a":"b","z":"y"}}}"#,
            r#"{"metadata":{"name":"n","labels":{"a":"b","kubernetes.io/metadata.name":"n","z":"y"}},"spec":{},"status":{"phase":"Active"}}"#,
        ),
        (
            "v1 Namespace",
            r#"{"metadata":{"generateName":"n-"}}"#,
            r#"{"metadata":{"generateName":"n-"},"spec":{},"status":{"phase":"Active"}}"#,
        ),
        (
            "v1 LimitRange",
            r#"{"spec":{"limits":[{"type":"Container","max":{"cpu":"2"},"min":{"cpu":"1","memory":"1Gi"},"default":{"memory":"2Gi"}},{"type":"Pod","max":{"cpu":"1"}}]}}"#,
            r#"{"metadata":{},"spec":{"limits":[{"type":"Container","max":{"cpu":"2"},"min":{"cpu":"1","memory":"1Gi"},"default":{"cpu":"2","memory":"2Gi"},"defaultRequest":{"cpu":"2","memory":"2Gi"}},{"type":"Pod","max":{"cpu":"1"}}]}}"#,
        ),
        (
            "v1 Node",
            r#"{"status":{"capacity":{"cpu":"2"}}}"#,
            r#"{"metadata":{},"spec":{},"status":{"capacity":{"cpu":"2"},"allocatable":{"cpu":"2"},"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}}"#,
        ),
        ("v1 Secret", "{}", r#"{"metadata":{},"type":"Opaque"}"#),
        ("v1 ConfigMap", "{}", r#"{"metadata":{}}"#),
        (
            "v1 ServiceList",
            r#"{"items":[{"spec":{"type":"ExternalName"}}]}"#,
            r#"{"metadata":{},"items":[{"metadata":{},"spec":{"type":"ExternalName","sessionAffinity":"None"},"status":{"loadBalancer":{}}}]}"#,
        ),
        (
            "autoscaling/v1 HorizontalPodAutoscaler",
            r#"{"spec":{"maxReplicas":3}}"#,
            r#"{"metadata":{},"spec":{"scaleTargetRef":{"kind":"","name":""},"minReplicas":1,"maxReplicas":3},"status":{"currentReplicas":0,"desiredReplicas":0}}"#,
        ),
        (
            "autoscaling/v2 HorizontalPodAutoscaler",
            r#"{"spec":{"maxReplicas":3,"behavior":{"scaleDown":{"stabilizationWindowSeconds":5}}}}"#,
            r#"{"metadata":{},"spec":{"scaleTargetRef":{"kind":"","name":""},"minReplicas":1,"maxReplicas":3,"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}],"behavior":{"scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[{"type":"Pods","value":4,"periodSeconds":15},{"type":"Percent","value":100,"periodSeconds":15}]},"scaleDown":{"stabilizationWindowSeconds":5,"selectPolicy":"Max","policies":[{"type":"Percent","value":100,"periodSeconds":15}]}}},"status":{"desiredReplicas":0,"currentMetrics":null}}"#,
        ),
        (
            "networking.k8s.io/v1 NetworkPolicy",
            r#"{"spec":{"podSelector":{},"egress":[{"ports":[{"port":53}]}]}}"#,
            r#"{"metadata":{},"spec":{"podSelector":{},"egress":[{"ports":[{"protocol":"TCP","port":53}]}],"policyTypes":["Ingress","Egress"]}}"#,
        ),
        (
            "networking.k8s.io/v1 IngressClass",
            r#"{"spec":{"parameters":{"kind":"k","name":"n"}}}"#,
            r#"{"metadata":{},"spec":{"parameters":{"kind":"k","name":"n","scope":"Cluster"}}}"#,
        ),
        (
            "rbac.authorization.k8s.io/v1 RoleBinding",
            r#"{"subjects":[{"kind":"User","name":"u"},{"kind":"ServiceAccount","name":"s"}],"roleRef":{"kind":"Role","name":"r"}}"#,
            r#"{"metadata":{},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"u"},{"kind":"ServiceAccount","name":"s"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"r"}}"#,
        ),
        (
            "storage.k8s.io/v1 StorageClass",
            r#"{"provisioner":"p"}"#,
            r#"{"metadata":{},"provisioner":"p","reclaimPolicy":"Delete","volumeBindingMode":"Immediate"}"#,
        ),
        (
            "apiextensions.k8s.io/v1 CustomResourceDefinition",
            r#"{"spec":{"group":"g","names":{"kind":"Foo","plural":"foos"},"scope":"Cluster","versions":[{"name":"v1","served":true,"storage":false},{"name":"v2","served":true,"storage":true}]}}"#,
            r#"{"metadata":{},"spec":{"group":"g","names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList"},"scope":"Cluster","versions":[{"name":"v1","served":true,"storage":false},{"name":"v2","served":true,"storage":true}],"conversion":{"strategy":"None"}},"status":{"conditions":null,"acceptedNames":{"plural":"","kind":""},"storedVersions":["v2"]}}"#,
        ),
        (
            "resource.k8s.io/v1 ResourceSlice",
            r#"{"spec":{"driver":"d","pool":{"name":"p"},"devices":[{"name":"x","taints":[{"key":"k","effect":"NoSchedule"}]}]}}"#,
            r#"{"metadata":{},"spec":{"driver":"d","pool":{"name":"p","generation":0,"resourceSliceCount":0},"devices":[{"name":"x","taints":[{"key":"k","effect":"NoSchedule","timeAdded":"2026-03-01T11:00:00Z"}]}]}}"#,
        ),
    ] {
        check(kind, from, to);
    }
}

/// What is said already stays, wherever it stands.
#[test]
fn a_second_time_changes_nothing() {
    let pod = include_str!("../../testdata/pod.json");
    let once = defaulted("v1 Pod", pod);
    assert_eq!(defaulted("v1 Pod", &once), once);
}

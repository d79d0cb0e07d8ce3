//! A good pod with much in it, and one wrong field at a time.

mod changes;
mod volumes;

use crate::kinds::pod::Pod;
use crate::kinds::testing::{Case, cases};

pub(super) const GOOD: &str = r#"{"apiVersion":"v1","kind":"Pod",
    "metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"1","labels":{"app":"x"}},
    "spec":{
        "volumes":[{"name":"v","emptyDir":{}},{"name":"w","persistentVolumeClaim":{"claimName":"p"}},
            {"name":"t","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},
                {"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
                {"downwardAPI":{"items":[{"path":"ns","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}]}}],
        "resourceClaims":[{"name":"gpu","resourceClaimName":"g"}],
        "initContainers":[{"name":"i","image":"x","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{}}],
        "containers":[{"name":"c","image":"nginx","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent",
            "ports":[{"name":"http","containerPort":80,"protocol":"TCP"}],
            "env":[{"name":"A","value":"1"},{"name":"B","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.podIP"}}}],
            "envFrom":[{"configMapRef":{"name":"m"}}],
            "resources":{"limits":{"cpu":"1","memory":"1Gi","hugepages-2Mi":"4Mi","example.com/dongle":"1"},"requests":{"cpu":"500m","memory":"1Gi","hugepages-2Mi":"4Mi","example.com/dongle":"1"},"claims":[{"name":"gpu"}]},
            "volumeMounts":[{"name":"v","mountPath":"/v"}],"volumeDevices":[{"name":"w","devicePath":"/dev/w"}],
            "livenessProbe":{"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
            "lifecycle":{"preStop":{"sleep":{"seconds":5}}},
            "securityContext":{"runAsUser":1000,"seccompProfile":{"type":"RuntimeDefault"}}}],
        "restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default",
        "nodeSelector":{"a":"b"},"securityContext":{"fsGroup":1,"sysctls":[{"name":"net.core.somaxconn","value":"1"}]},
        "affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"k","operator":"In","values":["v"]}]}]}},
            "podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"podAffinityTerm":{"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"a":"b"}}}}]}},
        "schedulerName":"default-scheduler","tolerations":[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}],
        "dnsConfig":{"nameservers":["1.2.3.4"],"searches":["a.b","_c.d",".",  "e."]},
        "topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}],
        "os":{"name":"linux"}},
    "status":{"phase":"Running","qosClass":"Burstable"}}"#;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

fn create(path: &str, value: &str, want: &[&str]) -> Case {
    Case::create(path, value, want)
}

#[test]
fn specs() {
    cases(
        &Pod,
        GOOD,
        &[
            create(
                "spec terminationGracePeriodSeconds",
                "-",
                &["spec.terminationGracePeriodSeconds: Required value"],
            ),
            create(
                "spec containers",
                "[]",
                &["spec.containers: Required value"],
            ),
            create(
                "spec restartPolicy",
                r#""x""#,
                &[
                    r#"spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never""#,
                ],
            ),
            create(
                "spec dnsPolicy",
                r#""""#,
                &["spec.dnsPolicy: Required value"],
            ),
            create(
                "spec nodeSelector",
                r#"{"a":"-"}"#,
                &[r#"spec.nodeSelector: Invalid value: "-": a valid label must be…"#],
            ),
            create(
                "spec serviceAccountName",
                r#""A""#,
                &[
                    r#"spec.serviceAccountName: Invalid value: "A": a lowercase RFC 1123 subdomain…"#,
                ],
            ),
            create(
                "spec activeDeadlineSeconds",
                "0",
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                ],
            ),
            create(
                "spec hostname",
                r#""a.b""#,
                &[r#"spec.hostname: Invalid value: "a.b": must not contain dots"#],
            ),
            create(
                "spec hostAliases",
                r#"[{"ip":"1.2.3","hostnames":["A"]}]"#,
                &[
                    r#"spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                    r#"spec.hostAliases[0].hostnames[0]: Invalid value: "A": a lowercase RFC 1123 subdomain…"#,
                ],
            ),
            create(
                "spec dnsConfig nameservers",
                r#"["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]"#,
                &[
                    r#"spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]: must not have more than 3 nameservers"#,
                ],
            ),
            create(
                "spec dnsConfig searches 0",
                r#""A""#,
                &[
                    r#"spec.dnsConfig.searches[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.'…"#,
                ],
            ),
            create(
                "spec schedulingGates",
                r#"[{"name":"a"},{"name":"a"}]"#,
                &[r#"spec.schedulingGates[1]: Duplicate value: "a""#],
            ),
            create(
                "spec readinessGates",
                r#"[{"conditionType":""}]"#,
                &[
                    r#"spec.readinessGates[0].conditionType: Invalid value: "": name part must be non-empty"#,
                    r#"spec.readinessGates[0].conditionType: Invalid value: "": name part must consist…"#,
                ],
            ),
            create(
                "spec os name",
                r#""plan9""#,
                &[r#"spec.os: Unsupported value: "plan9": supported values: "linux", "windows""#],
            ),
            create(
                "spec os name",
                r#""windows""#,
                &[
                    "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
                    "spec.securityContext.sysctls: Forbidden: cannot be set for a windows pod",
                    "spec.containers[0].securityContext.seccompProfile: Forbidden: cannot be set for a windows pod",
                    "spec.containers[0].securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
                ],
            ),
            create(
                "spec ephemeralContainers",
                r#"[{"name":"e","image":"x","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{},"ports":[{"containerPort":1,"protocol":"TCP"}]}]"#,
                &[
                    "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                    "spec.ephemeralContainers: Forbidden: cannot be set on create",
                ],
            ),
            create(
                "spec hostNetwork",
                "true",
                &[
                    "spec.containers[0].ports[0].hostPort: Invalid value: 0: must match `containerPort` when `hostNetwork` is true",
                    r#"spec.securityContext.sysctls[0].name: Invalid value: "net.core.somaxconn": may not be specified when 'hostNetwork' is true"#,
                ],
            ),
            create(
                "spec overhead",
                r#"{"cpu":"-1"}"#,
                &[
                    r#"spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0"#,
                ],
            ),
            create(
                "spec preemptionPolicy",
                r#""x""#,
                &[
                    r#"spec.preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never""#,
                ],
            ),
        ],
    );
}

#[test]
fn containers() {
    cases(
        &Pod,
        GOOD,
        &[
            create(
                "spec containers 0 name",
                r#""A""#,
                &[&format!(
                    r#"spec.containers[0].name: Invalid value: "A": {LABEL}"#
                )],
            ),
            create(
                "spec containers 0 image",
                r#""""#,
                &["spec.containers[0].image: Required value"],
            ),
            create(
                "spec containers 0 image",
                r#"" x""#,
                &[
                    r#"spec.containers[0].image: Invalid value: " x": must not have leading or trailing whitespace"#,
                ],
            ),
            create(
                "spec containers 0 imagePullPolicy",
                r#""x""#,
                &[
                    r#"spec.containers[0].imagePullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never""#,
                ],
            ),
            create(
                "spec initContainers 0 name",
                r#""c""#,
                &[r#"spec.initContainers[0].name: Duplicate value: "c""#],
            ),
            create(
                "spec initContainers 0 livenessProbe",
                r#"{"exec":{"command":["x"]},"successThreshold":1}"#,
                &[
                    "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                ],
            ),
            create(
                "spec containers 0 ports 0 containerPort",
                "65536",
                &[
                    "spec.containers[0].ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
                ],
            ),
            create(
                "spec containers 0 ports 0 protocol",
                r#""x""#,
                &[
                    r#"spec.containers[0].ports[0].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP""#,
                ],
            ),
            create(
                "spec containers 0 ports",
                r#"[{"containerPort":1,"hostPort":1,"protocol":"TCP"},{"containerPort":2,"hostPort":1,"protocol":"TCP"}]"#,
                &[r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//1""#],
            ),
            create(
                "spec containers 0 env 0 name",
                r#""a=b""#,
                &[
                    r#"spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='"#,
                ],
            ),
            create(
                "spec containers 0 env 1 valueFrom",
                "{}",
                &[
                    r#"spec.containers[0].env[1].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"#,
                ],
            ),
            create(
                "spec containers 0 env 1 valueFrom fieldRef fieldPath",
                r#""spec.x""#,
                &[
                    r#"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x"#,
                ],
            ),
            create(
                "spec containers 0 env 1 valueFrom fieldRef fieldPath",
                r#""metadata.labels""#,
                &[
                    r#"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs""#,
                ],
            ),
            create(
                "spec containers 0 env 1 valueFrom fieldRef fieldPath",
                r#""metadata.labels['a b']""#,
                &[
                    r#"spec.containers[0].env[1].valueFrom.fieldRef: Invalid value: "a b": name part must consist…"#,
                ],
            ),
            create(
                "spec containers 0 env 1 valueFrom",
                r#"{"resourceFieldRef":{"resource":"limits.cpu","divisor":"2"}}"#,
                &[
                    r#"spec.containers[0].env[1].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource"#,
                ],
            ),
            create(
                "spec containers 0 envFrom 0",
                "{}",
                &[
                    r#"spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`"#,
                ],
            ),
            create(
                "spec containers 0 volumeMounts 0 name",
                r#""z""#,
                &[r#"spec.containers[0].volumeMounts[0].name: Not found: "z""#],
            ),
            create(
                "spec containers 0 volumeMounts 0 subPath",
                r#""/x""#,
                &[
                    r#"spec.containers[0].volumeMounts.subPath: Invalid value: "/x": must be a relative path"#,
                ],
            ),
            create(
                "spec containers 0 volumeMounts 0 mountPropagation",
                r#""Bidirectional""#,
                &[
                    "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
                ],
            ),
            create(
                "spec containers 0 volumeDevices 0 name",
                r#""v""#,
                &[
                    r#"spec.containers[0].volumeMounts[0].name: Invalid value: "v": must not already exist in volumeDevices"#,
                    r#"spec.containers[0].volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
                    r#"spec.containers[0].volumeDevices[0].name: Invalid value: "v": must not already exist in volumeMounts"#,
                ],
            ),
            create(
                "spec containers 0 livenessProbe successThreshold",
                "2",
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            create(
                "spec containers 0 livenessProbe httpGet port",
                r#""A-""#,
                &[
                    r#"spec.containers[0].livenessProbe.httpGet.port: Invalid value: "A-": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
                    r#"spec.containers[0].livenessProbe.httpGet.port: Invalid value: "A-": must contain at least one letter (a-z)"#,
                    r#"spec.containers[0].livenessProbe.httpGet.port: Invalid value: "A-": must not begin or end with a hyphen"#,
                ],
            ),
            create(
                "spec containers 0 readinessProbe",
                "{}",
                &["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
            ),
            create(
                "spec containers 0 lifecycle preStop sleep seconds",
                "31",
                &[
                    "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
                ],
            ),
            create(
                "spec containers 0 resizePolicy",
                r#"[{"resourceName":"x","restartPolicy":"NotRequired"}]"#,
                &[
                    r#"spec.containers[0].resizePolicy: Unsupported value: "x": supported values: "cpu", "memory""#,
                ],
            ),
        ],
    );
}

#[test]
fn resources() {
    let at = "spec containers 0 resources";
    cases(
        &Pod,
        GOOD,
        &[
            create(
                &format!("{at} requests cpu"),
                r#""2""#,
                &[
                    r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
                ],
            ),
            create(
                &format!("{at} requests example.com/dongle"),
                r#""2""#,
                &[
                    r#"spec.containers[0].resources.requests: Invalid value: "2": must be equal to example.com/dongle limit of 1"#,
                ],
            ),
            create(
                &format!("{at} limits example.com/dongle"),
                r#""500m""#,
                &[
                    r#"spec.containers[0].resources.limits[example.com/dongle]: Invalid value: "500m": must be an integer"#,
                    r#"spec.containers[0].resources.requests: Invalid value: "1": must be equal to example.com/dongle limit of 500m"#,
                ],
            ),
            create(
                &format!("{at} limits hugepages-2Mi"),
                "-",
                &[
                    "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
                ],
            ),
            create(
                &format!("{at} limits"),
                r#"{"hugepages-2Mi":"3Mi"}"#,
                &[
                    r#"spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
                    "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
                    r#"spec.containers[0].resources.requests: Invalid value: "4Mi": must be equal to hugepages-2Mi limit of 3Mi"#,
                ],
            ),
            create(
                &format!("{at} limits pods"),
                r#""1""#,
                &[
                    r#"spec.containers[0].resources.limits[pods]: Invalid value: "pods": must be a standard resource for containers"#,
                ],
            ),
            create(
                &format!("{at} limits cpu"),
                r#""-1""#,
                &[
                    r#"spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0"#,
                    r#"spec.containers[0].resources.requests: Invalid value: "500m": must be less than or equal to cpu limit of -1"#,
                ],
            ),
            create(
                &format!("{at} claims 0 name"),
                r#""x""#,
                &[
                    r#"spec.containers[0].resources.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims: gpu"#,
                ],
            ),
            create(
                "spec resources",
                r#"{"requests":{"cpu":"100m"},"limits":{"cpu":"200m"}}"#,
                &[
                    r#"spec.resources.requests[cpu]: Invalid value: "100m": must be greater than or equal to aggregate container requests of 500m"#,
                    r#"spec.resources.containers[0][cpu].limits: Invalid value: "1": must be less than or equal to pod limits of 200m"#,
                ],
            ),
            create(
                "spec resourceClaims 0",
                r#"{"name":"gpu"}"#,
                &[
                    r#"spec.resourceClaims[0]: Invalid value: {"name":"gpu"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"#,
                ],
            ),
        ],
    );
}

#[test]
fn security() {
    cases(
        &Pod,
        GOOD,
        &[
            create(
                "spec securityContext fsGroup",
                "-1",
                &[
                    "spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
            create(
                "spec securityContext sysctls 0 name",
                r#""a..b""#,
                &[
                    r#"spec.securityContext.sysctls[0].name: Invalid value: "a..b": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"#,
                ],
            ),
            create(
                "spec securityContext seccompProfile",
                r#"{"type":"Localhost"}"#,
                &[
                    "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                ],
            ),
            create(
                "spec securityContext appArmorProfile",
                r#"{"type":"x"}"#,
                &[
                    r#"spec.securityContext.appArmorProfile.type: Unsupported value: "x": supported values: "Localhost", "RuntimeDefault", "Unconfined""#,
                ],
            ),
            create(
                "spec securityContext windowsOptions",
                r#"{"runAsUserName":"a\\b\\c"}"#,
                &[
                    r#"spec.securityContext.windowsOptions.runAsUserName: Invalid value: "a\\b\\c": runAsUserName cannot contain more than one backslash"#,
                    "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
                ],
            ),
            create(
                "spec containers 0 securityContext",
                r#"{"privileged":true,"allowPrivilegeEscalation":false}"#,
                &[
                    r#"spec.containers[0].securityContext: Invalid value: {"privileged":true,"allowPrivilegeEscalation":false}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
                ],
            ),
            create(
                "spec containers 0 securityContext procMount",
                r#""Unmasked""#,
                &[
                    r#"spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`"#,
                ],
            ),
            create(
                "spec hostUsers",
                "false",
                &["spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false"],
            ),
            create(
                "metadata annotations",
                r#"{"seccomp.security.alpha.kubernetes.io/pod":"x"}"#,
                &[
                    r#"metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "x": must be a valid seccomp profile"#,
                ],
            ),
            create(
                "metadata annotations",
                r#"{"container.apparmor.security.beta.kubernetes.io/z":"x"}"#,
                &[
                    r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "z": container not found"#,
                    r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "x": invalid AppArmor profile name: "x""#,
                ],
            ),
            create(
                "metadata annotations",
                r#"{"container.seccomp.security.alpha.kubernetes.io/c":"unconfined"}"#,
                &[
                    "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
                ],
            ),
            create(
                "metadata annotations",
                r#"{"kubernetes.io/config.mirror":"m"}"#,
                &[
                    r#"metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "m": must set spec.nodeName if mirror pod annotation is set"#,
                    ": Forbidden: static pods do not support resource claims",
                ],
            ),
            create(
                "metadata annotations",
                r#"{"controller.kubernetes.io/pod-deletion-cost":"+1"}"#,
                &[
                    r#"metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer"#,
                ],
            ),
        ],
    );
}

#[test]
fn scheduling() {
    const TERM: &str =
        "spec affinity podAntiAffinity preferredDuringSchedulingIgnoredDuringExecution 0";
    const PATH: &str =
        "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]";
    const NODES: &str = "spec affinity nodeAffinity requiredDuringSchedulingIgnoredDuringExecution";
    const NODE_PATH: &str =
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    cases(
        &Pod,
        GOOD,
        &[
            create(
                &format!("{TERM} weight"),
                "0",
                &[&format!(
                    "{PATH}.weight: Invalid value: 0: must be in the range 1-100"
                )],
            ),
            create(
                &format!("{TERM} podAffinityTerm topologyKey"),
                r#""""#,
                &[
                    &format!(
                        "{PATH}.podAffinityTerm.topologyKey: Required value: can not be empty"
                    ),
                    &format!(
                        r#"{PATH}.podAffinityTerm.topologyKey: Invalid value: "": name part must be non-empty"#
                    ),
                    &format!(
                        r#"{PATH}.podAffinityTerm.topologyKey: Invalid value: "": name part must consist…"#
                    ),
                ],
            ),
            create(
                &format!("{TERM} podAffinityTerm matchLabelKeys"),
                r#"["a"]"#,
                &[],
            ),
            create(
                &format!("{TERM} podAffinityTerm namespaces"),
                r#"["A"]"#,
                &[&format!(
                    r#"{PATH}.podAffinityTerm.namespace: Invalid value: "A": a lowercase RFC 1123 label…"#
                )],
            ),
            create(
                &format!("{NODES} nodeSelectorTerms"),
                "[]",
                &[&format!(
                    "{NODE_PATH}.nodeSelectorTerms: Required value: must have at least one node selector term"
                )],
            ),
            create(
                &format!("{NODES} nodeSelectorTerms 0 matchExpressions 0 operator"),
                r#""Gt""#,
                &[],
            ),
            create(
                &format!("{NODES} nodeSelectorTerms 0 matchExpressions 0 values"),
                "[]",
                &[&format!(
                    "{NODE_PATH}.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                )],
            ),
            create(
                &format!("{NODES} nodeSelectorTerms 0 matchFields"),
                r#"[{"key":"metadata.uid","operator":"In","values":["x"]}]"#,
                &[&format!(
                    r#"{NODE_PATH}.nodeSelectorTerms[0].matchFields[0].key: Invalid value: "metadata.uid": not a valid field selector key"#
                )],
            ),
            create("spec tolerations 0 key", "-", &[]),
            create("spec tolerations 0 operator", r#""Equal""#, &[]),
            create(
                "spec tolerations 0",
                r#"{"operator":"Equal","value":"x"}"#,
                &[
                    r#"spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#,
                ],
            ),
            create(
                "spec tolerations 0 effect",
                r#""NoSchedule""#,
                &[
                    r#"spec.tolerations[0].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set"#,
                ],
            ),
            create(
                "spec tolerations 0 operator",
                r#""Lt""#,
                &[
                    r#"spec.tolerations[0].operator: Unsupported value: "Lt": supported values: "Equal", "Exists", "Lt", "Gt""#,
                ],
            ),
            create(
                "spec topologySpreadConstraints 0 maxSkew",
                "0",
                &[
                    "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                ],
            ),
            create(
                "spec topologySpreadConstraints 0 whenUnsatisfiable",
                r#""x""#,
                &[
                    r#"spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "x": supported values: "DoNotSchedule", "ScheduleAnyway""#,
                ],
            ),
            create(
                "spec topologySpreadConstraints 1",
                r#"{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}"#,
                &[
                    r#"spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, DoNotSchedule}""#,
                ],
            ),
        ],
    );
}

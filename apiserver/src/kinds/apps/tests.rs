//! A good object of each kind, and one wrong field at a time.

use super::*;
use crate::kinds::testing::{Case, cases, prepared_create, prepared_update, warnings};

const POD: &str = r#"{"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler",
    "containers":[{"name":"c","image":"nginx","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{}}]}"#;

const MISMATCH: &str = r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#;

fn good(kind: &str, rest: &str) -> String {
    let (api_version, spec) = match kind {
        "ReplicationController" => ("v1", r#""selector":{"a":"b"}"#),
        _ => ("apps/v1", r#""selector":{"matchLabels":{"a":"b"}}"#),
    };
    format!(
        r#"{{"apiVersion":"{api_version}","kind":"{kind}","metadata":{{"name":"a","namespace":"n","generation":1}},
        "spec":{{{spec},"template":{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{POD}}}{rest}}},"status":{{}}}}"#
    )
}

fn shown(doc: &api::doc::Doc, path: &[&str]) -> String {
    doc.root()
        .path(path)
        .map_or("-".to_string(), |node| node.to_string())
}

/// What holds for every template that is kept running.
fn template_cases(kind: &str) -> Vec<Case> {
    vec![
        Case::create(
            "spec template metadata labels",
            r#"{"a":"c"}"#,
            &[
                r#"spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`"#,
            ],
        ),
        Case::create(
            "spec template spec restartPolicy",
            r#""Never""#,
            &[
                r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#,
            ],
        ),
        Case::create(
            "spec template spec activeDeadlineSeconds",
            "1",
            &[&format!(
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {kind} is not Supported"
            )],
        ),
        Case::create(
            "spec template spec containers 0 image",
            r#""""#,
            &["spec.template.spec.containers[0].image: Required value"],
        ),
        Case::create(
            "spec template metadata labels b",
            r#""-""#,
            &[r#"spec.template.labels: Invalid value: "-": a valid label…"#],
        ),
        Case::create(
            "spec template spec ephemeralContainers",
            r#"[{"name":"e","image":"x","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{}}]"#,
            &[
                "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
            ],
        ),
        Case::create(
            "spec minReadySeconds",
            "-1",
            &["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"],
        ),
    ]
}

#[test]
fn deployments() {
    let good = good(
        "Deployment",
        r#","replicas":1,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600"#,
    );
    cases(&DEPLOYMENT, &good, &template_cases("ReplicaSet"));
    let rolling = "spec strategy rollingUpdate";
    cases(
        &DEPLOYMENT,
        &good,
        &[
            Case::create(
                "spec replicas",
                "-1",
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            Case::create(
                "spec selector",
                "-",
                &["spec.selector: Required value", MISMATCH],
            ),
            Case::create(
                "spec selector",
                "{}",
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            Case::create(
                "spec strategy type",
                r#""Recreate""#,
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            Case::create(
                "spec strategy",
                r#"{"type":"x"}"#,
                &[
                    r#"spec.strategy: Unsupported value: {"type":"x"}: supported values: "Recreate", "RollingUpdate""#,
                ],
            ),
            Case::create(
                &format!("{rolling} maxUnavailable"),
                r#""101%""#,
                &[
                    r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#,
                ],
            ),
            Case::create(
                &format!("{rolling} maxSurge"),
                r#""x""#,
                &[
                    r#"spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', or '93%', regex used for validation is '[0-9]+%')"#,
                ],
            ),
            Case::create(
                rolling,
                r#"{"maxUnavailable":0,"maxSurge":0}"#,
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ],
            ),
            Case::create(
                "spec progressDeadlineSeconds",
                "0",
                &[
                    "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
                ],
            ),
            Case::update(
                "spec selector matchLabels",
                r#"{"a":"b","c":"d"}"#,
                &[
                    r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#,
                    r#"spec.selector: Invalid value: {"matchLabels":{"a":"b","c":"d"}}: field is immutable"#,
                ],
            ),
            Case::sub(
                "status",
                "status",
                r#"{"replicas":1,"readyReplicas":2}"#,
                &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
            ),
            Case::sub(
                "status",
                "status",
                r#"{"replicas":3,"availableReplicas":2}"#,
                &[
                    "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
                ],
            ),
        ],
    );
    let new = prepared_create(
        &DEPLOYMENT,
        &good.replace(r#""status":{}"#, r#""status":{"replicas":3}"#),
    );
    assert_eq!(shown(&new, &["status"]), "{}");
    let labelled = good.replace(r#""generation":1"#, r#""generation":1,"labels":{"x":"y"}"#);
    let annotated = good.replace(
        r#""generation":1"#,
        r#""generation":1,"annotations":{"x":"y"}"#,
    );
    let scaled = good.replace(r#""replicas":1"#, r#""replicas":2"#);
    for (new, subresource, want) in [
        (&labelled, "", "1"),
        (&annotated, "", "2"),
        (&scaled, "", "2"),
        (&scaled, "status", "1"),
        (&annotated, "status", "1"),
    ] {
        let new = prepared_update(&DEPLOYMENT, subresource, new, &good);
        assert_eq!(
            shown(&new, &["metadata", "generation"]),
            want,
            "{subresource}"
        );
    }
    let status = prepared_update(&DEPLOYMENT, "status", &labelled, &good);
    assert_eq!(shown(&status, &["metadata", "labels"]), "-");
    let told = warnings(
        &DEPLOYMENT,
        &good.replace(r#""name":"a","#, r#""name":"a.b","#),
        None,
    );
    assert!(
        told[0].starts_with("metadata.name: this is used in Pod names and hostnames"),
        "{told:?}"
    );
}

#[test]
fn replica_sets_and_controllers() {
    let set = good("ReplicaSet", r#","replicas":1"#);
    cases(&REPLICA_SET, &set, &template_cases("ReplicaSet"));
    let controller = good("ReplicationController", r#","replicas":1"#);
    cases(
        &REPLICATION_CONTROLLER,
        &controller,
        &template_cases("ReplicationController"),
    );
    cases(
        &REPLICATION_CONTROLLER,
        &controller,
        &[
            Case::create("spec selector", "{}", &["spec.selector: Required value"]),
            Case::create("spec template", "-", &["spec.template: Required value"]),
            Case::create("spec replicas", "-", &["spec.replicas: Required value"]),
            Case::update(
                "spec selector",
                r#"{"c":"d"}"#,
                &[
                    r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#,
                ],
            ),
        ],
    );
    cases(
        &REPLICA_SET,
        &set,
        &[
            Case::update(
                "spec selector matchLabels",
                "{}",
                &[
                    r#"spec.selector: Invalid value: {"matchLabels":{}}: empty selector is invalid for deployment"#,
                    r#"spec.selector: Invalid value: {"matchLabels":{}}: field is immutable"#,
                ],
            ),
            Case::sub(
                "status",
                "status",
                r#"{"replicas":1,"fullyLabeledReplicas":2}"#,
                &[
                    "status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
                ],
            ),
        ],
    );
}

#[test]
fn daemon_sets() {
    let good = good(
        "DaemonSet",
        r#","updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1,"maxSurge":0}},"revisionHistoryLimit":10"#,
    );
    cases(&DAEMON_SET, &good, &template_cases("DaemonSet"));
    let rolling = "spec updateStrategy rollingUpdate";
    cases(
        &DAEMON_SET,
        &good,
        &[
            Case::create(
                &format!("{rolling} maxSurge"),
                "1",
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            Case::create(
                &format!("{rolling} maxUnavailable"),
                "0",
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ],
            ),
            Case::create(
                "spec updateStrategy",
                r#"{"type":"RollingUpdate"}"#,
                &["spec.updateStrategy.rollingUpdate: Required value"],
            ),
            Case::create(
                "spec selector",
                "{}",
                &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
            ),
            Case::sub(
                "status",
                "status numberReady",
                "-1",
                &["status.numberReady: Invalid value: -1: must be greater than or equal to 0"],
            ),
        ],
    );
    let path = [
        "metadata",
        "annotations",
        "deprecated.daemonset.template.generation",
    ];
    let old = prepared_create(&DAEMON_SET, &good);
    assert_eq!(shown(&old, &path), r#""1""#);
    let changed = good.replace("nginx", "caddy");
    let new = prepared_update(&DAEMON_SET, "", &changed, &old.to_string());
    assert_eq!(shown(&new, &path), r#""2""#);
    assert_eq!(shown(&new, &["metadata", "generation"]), "2");
    let same = prepared_update(&DAEMON_SET, "", &good, &old.to_string());
    assert_eq!(shown(&same, &path), r#""1""#);
    assert_eq!(shown(&same, &["metadata", "generation"]), "1");
}

#[test]
fn stateful_sets() {
    let good = good(
        "StatefulSet",
        r#","replicas":1,"serviceName":"s","podManagementPolicy":"OrderedReady","updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}},
        "volumeClaimTemplates":[{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}},"status":{}}]"#,
    )
    .replace(r#""resources":{}}]"#, r#""resources":{},"volumeMounts":[{"name":"data","mountPath":"/d"}]}]"#);
    cases(
        &STATEFUL_SET,
        &good,
        &template_cases("StatefulSet").split_off(1)[..2],
    );
    const FORBIDDEN: &str = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    cases(
        &STATEFUL_SET,
        &good,
        &[
            Case::create(
                "spec podManagementPolicy",
                r#""x""#,
                &[
                    r#"spec.podManagementPolicy: Invalid value: "x": must be 'OrderedReady' or 'Parallel'"#,
                ],
            ),
            Case::create(
                "spec updateStrategy type",
                r#""x""#,
                &[
                    r#"spec.updateStrategy: Invalid value: {"type":"x","rollingUpdate":{"partition":0}}: must be 'RollingUpdate' or 'OnDelete'"#,
                ],
            ),
            Case::create(
                "spec updateStrategy type",
                r#""OnDelete""#,
                &[
                    r#"spec.updateStrategy.rollingUpdate: Invalid value: {"partition":0}: only allowed for updateStrategy 'RollingUpdate'"#,
                ],
            ),
            Case::create(
                "spec serviceName",
                r#""a.b""#,
                &[r#"spec.serviceName: Invalid value: "a.b": must not contain dots"#],
            ),
            Case::create(
                "spec selector",
                "-",
                &["spec.selector: Required value", MISMATCH],
            ),
            Case::create(
                "spec volumeClaimTemplates 0 spec accessModes",
                r#"["x"]"#,
                &[
                    r#"spec.volumeClaimTemplates[0].spec.accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
                ],
            ),
            Case::create(
                "spec persistentVolumeClaimRetentionPolicy",
                r#"{"whenDeleted":"x","whenScaled":"Retain"}"#,
                &[
                    r#"spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "x": supported values: "Retain", "Delete""#,
                ],
            ),
            Case::create(
                "spec template spec containers 0 volumeMounts 0 name",
                r#""x""#,
                &[r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "x""#],
            ),
            Case::update("spec replicas", "3", &[]),
            Case::update("spec serviceName", r#""t""#, &[FORBIDDEN]),
            Case::update(
                "spec volumeClaimTemplates 0 spec resources requests storage",
                r#""2Gi""#,
                &[FORBIDDEN],
            ),
            Case::sub(
                "status",
                "status",
                r#"{"replicas":1,"readyReplicas":1,"availableReplicas":2}"#,
                &[
                    "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
                    "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas",
                ],
            ),
        ],
    );
    let new = prepared_create(
        &STATEFUL_SET,
        &good.replace(r#""partition":0"#, r#""partition":0,"maxUnavailable":2"#),
    );
    assert_eq!(
        shown(&new, &["spec", "updateStrategy", "rollingUpdate"]),
        r#"{"partition":0}"#
    );
    assert!(
        shown(&new, &["spec", "volumeClaimTemplates"])
            .contains(r#""kind":"PersistentVolumeClaim""#)
    );
}

#[test]
fn templates_and_revisions() {
    let template = format!(
        r#"{{"apiVersion":"v1","kind":"PodTemplate","metadata":{{"name":"a"}},"template":{{"metadata":{{}},"spec":{POD}}}}}"#
    );
    cases(
        &POD_TEMPLATE,
        &template,
        &[Case::create(
            "template spec containers 0 name",
            r#""""#,
            &["template.spec.containers[0].name: Required value"],
        )],
    );
    let revision = r#"{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{"name":"a"},"data":{"x":1},"revision":1}"#;
    cases(
        &CONTROLLER_REVISION,
        revision,
        &[
            Case::create(
                "revision",
                "-1",
                &["revision: Invalid value: -1: must be greater than or equal to 0"],
            ),
            Case::create("data", "-", &["data: Required value: data is mandatory"]),
            Case::create(
                "data",
                "[1]",
                &["data: Required value: data must be a valid JSON object"],
            ),
            Case::update(
                "data",
                r#"{"x":2}"#,
                &[r#"data: Invalid value: {"x":2}: field is immutable"#],
            ),
        ],
    );
}

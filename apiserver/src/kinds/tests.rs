//! What people write is good once it has its defaults: the whole way of a new object and of its
//! first change.

use api::conform::{Unknown, conform};
use api::doc::Doc;
use api::{defaults, schema};

use super::strategy;
use super::testing::with_cx;

const POD: &str = r#"{"containers":[{"name":"c","image":"nginx","ports":[{"containerPort":80}],"resources":{"requests":{"cpu":"0.1","memory":"64Mi"}},
    "livenessProbe":{"httpGet":{"port":80}},"env":[{"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}],
    "volumeMounts":[{"name":"v","mountPath":"/v"}]}],
    "volumes":[{"name":"v","projected":{"sources":[{"downwardAPI":{"items":[{"path":"p","fieldRef":{"fieldPath":"metadata.name"}}]}}]}}]}"#;

fn defaulted(group: &str, kind: &str, spec: &str) -> Doc {
    let version = match group {
        "" => "v1".to_string(),
        group => format!("{group}/v1"),
    };
    let schema = schema::kind(group, "v1", kind).unwrap();
    let mut doc = Doc::literal(&format!(
        r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{"name":"a","namespace":"n","uid":"u"}},{spec}}}"#
    ));
    assert!(conform(&mut doc, schema, Unknown::Drop).unwrap().is_empty());
    defaults::apply(&mut doc, schema, "2024-01-01T00:00:00Z");
    doc
}

#[test]
fn bare_objects_are_good() {
    let labelled = format!(r#""template":{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{POD}}}"#);
    let selected = format!(r#""spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},{labelled}}}"#);
    let ends = format!(
        r#""template":{{"spec":{}}}"#,
        POD.replacen('{', r#"{"restartPolicy":"OnFailure","#, 1)
    );
    for (group, kind, resource, spec) in [
        ("", "Pod", "pods", format!(r#""spec":{POD}"#)),
        ("", "PodTemplate", "podtemplates", labelled.clone()),
        (
            "",
            "ReplicationController",
            "replicationcontrollers",
            format!(r#""spec":{{{labelled}}}"#),
        ),
        ("apps", "Deployment", "deployments", selected.clone()),
        ("apps", "ReplicaSet", "replicasets", selected.clone()),
        ("apps", "DaemonSet", "daemonsets", selected.clone()),
        ("apps", "StatefulSet", "statefulsets", selected),
        ("batch", "Job", "jobs", format!(r#""spec":{{{ends}}}"#)),
        (
            "batch",
            "CronJob",
            "cronjobs",
            format!(r#""spec":{{"schedule":"@daily","jobTemplate":{{"spec":{{{ends}}}}}}}"#),
        ),
    ] {
        let strategy = strategy(group, resource);
        let schema = schema::kind(group, "v1", kind).unwrap();
        let mut doc = defaulted(group, kind, &spec);
        let (created, changed) = with_cx("", |cx| {
            strategy.prepare_create(cx, &mut doc);
            conform(&mut doc, schema, Unknown::Keep).unwrap();
            let created = strategy.validate_create(cx, &doc);
            assert_eq!(
                strategy.warnings(cx, &doc, None),
                Vec::<String>::new(),
                "{kind}"
            );
            let mut same = doc.clone();
            strategy.prepare_update(cx, &mut same, &doc);
            conform(&mut same, schema, Unknown::Keep).unwrap();
            assert_eq!(same.to_string(), doc.to_string(), "{kind}");
            (created, strategy.validate_update(cx, &same, &doc))
        });
        assert_eq!((created, changed), (Vec::new(), Vec::new()), "{kind}");
        let generation = doc.root().path(&["metadata", "generation"]).unwrap();
        assert_eq!(generation.as_i64(), Some(1), "{kind}");
    }
}

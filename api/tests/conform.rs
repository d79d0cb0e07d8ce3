//! Stories of conforming: what Go's typed round trip does to fields, and what upstream's strict
//! decoder says, word for word.

use api::codec::{Encoding, Incoming, strict_decoding_error};
use api::conform::Unknown;
use api::schema::{kind, type_named};

/// What becomes of JSON as a type, or the error.
fn as_type(name: &str, text: &str, unknown: Unknown) -> String {
    let schema = type_named(name).unwrap_or_else(|| panic!("no type {name}"));
    read(schema, text, Encoding::Json, unknown)
}

fn read(schema: &api::schema::Type, text: &str, encoding: Encoding, unknown: Unknown) -> String {
    let incoming = match Incoming::read(text.as_bytes().to_vec(), encoding) {
        Ok(incoming) => incoming,
        Err(error) => return error.to_string(),
    };
    match incoming.decode(schema, unknown) {
        Ok((doc, strict)) if strict.is_empty() => doc.to_string(),
        Ok((_, strict)) => strict_decoding_error(&strict),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn story(name: &str, text: &str, want: &str) {
    assert_eq!(as_type(name, text, Unknown::Drop), want, "{name} {text}");
}

#[test]
fn zero_values_go_or_stay_by_presence() {
    // A value with omitempty, one without, a pointer.
    story(
        "core/v1.ContainerPort",
        r#"{"hostPort":0,"name":""}"#,
        r#"{"containerPort":0}"#,
    );
    story(
        "core/v1.SecurityContext",
        r#"{"privileged":false,"runAsUser":0}"#,
        r#"{"privileged":false,"runAsUser":0}"#,
    );
    story(
        "core/v1.PodSpec",
        r#"{"hostNetwork":false,"volumes":[],"nodeSelector":{}}"#,
        r#"{"containers":null}"#,
    );
    story(
        "core/v1.PodSpec",
        r#"{"containers":[]}"#,
        r#"{"containers":[]}"#,
    );
    // Structs that are values are always written, with what is always written in them.
    story(
        "core/v1.Container",
        r#"{"name":"a"}"#,
        r#"{"name":"a","resources":{}}"#,
    );
    story(
        "core/v1.PodCondition",
        r#"{"type":"a","status":"b"}"#,
        r#"{"type":"a","status":"b","lastProbeTime":null,"lastTransitionTime":null}"#,
    );
    // Null is absence, and within a list or map the zero value.
    story(
        "core/v1.PodSpec",
        r#"{"containers":[null],"nodeSelector":{"a":null},"affinity":null}"#,
        r#"{"containers":[{"name":"","resources":{}}],"nodeSelector":{"a":""}}"#,
    );
}

#[test]
fn fields_and_keys_are_put_in_order() {
    story(
        "meta/v1.ObjectMeta",
        r#"{"labels":{"b":"1","a":"2"},"uid":"u","name":"n"}"#,
        r#"{"name":"n","uid":"u","labels":{"a":"2","b":"1"}}"#,
    );
}

#[test]
fn scalars_take_one_form() {
    story(
        "core/v1.ResourceRequirements",
        r#"{"limits":{"memory":"1024Mi","cpu":0.5}}"#,
        r#"{"limits":{"cpu":"500m","memory":"1Gi"}}"#,
    );
    story(
        "meta/v1.ObjectMeta",
        r#"{"creationTimestamp":"2024-01-01T01:00:00.5+01:00"}"#,
        r#"{"creationTimestamp":"2024-01-01T00:00:00Z"}"#,
    );
    story(
        "meta/v1.ObjectMeta",
        r#"{"creationTimestamp":"0001-01-01T00:00:00Z"}"#,
        "{}",
    );
    story(
        "core/v1.SecretReference",
        r#"{"name":"\u0061"}"#,
        r#"{"name":"a"}"#,
    );
    story(
        "core/v1.Secret",
        r#"{"data":{"k":"aGk\n="}}"#,
        r#"{"metadata":{},"data":{"k":"aGk="}}"#,
    );
    story(
        "core/v1.ServicePort",
        r#"{"port":1,"targetPort":null}"#,
        r#"{"port":1,"targetPort":0}"#,
    );
}

#[test]
fn values_of_the_wrong_type_are_refused_in_gos_words() {
    for (name, text, want) in [
        (
            "apps/v1.Deployment",
            r#"{"spec":{"replicas":"x"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "apps/v1.Deployment",
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "apps/v1.Deployment",
            r#"{"spec":{"replicas":5000000000}}"#,
            "json: cannot unmarshal number 5000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "core/v1.Pod",
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            "core/v1.Pod",
            r#"{"spec":{"containers":[{"ports":{}}]}}"#,
            "json: cannot unmarshal object into Go struct field Container.spec.containers.ports of type []v1.ContainerPort",
        ),
        (
            "core/v1.Pod",
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "core/v1.Pod",
            r#"{"metadata":{"labels":"a"}}"#,
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            "core/v1.Pod",
            r#"{"status":{"phase":1}}"#,
            "json: cannot unmarshal number into Go struct field PodStatus.status.phase of type v1.PodPhase",
        ),
        (
            "core/v1.ResourceRequirements",
            r#"{"limits":{"cpu":"x"}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "meta/v1.ObjectMeta",
            r#"{"creationTimestamp":"x"}"#,
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
        (
            "core/v1.Secret",
            r#"{"data":{"k":"!"}}"#,
            "illegal base64 data at input byte 0",
        ),
    ] {
        story(name, text, want);
    }
}

#[test]
fn unknown_and_duplicate_fields_are_named_in_order() {
    story(
        "apps/v1.Deployment",
        r#"{"spec":{"unknownField":1,"replicas":1,"replicas":2}}"#,
        r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#,
    );
    story(
        "core/v1.Pod",
        r#"{"spec":{"containers":[{"name":"a"},{"foo":1,"foo":2}]},"bar":{}}"#,
        r#"strict decoding error: unknown field "spec.containers[1].foo", unknown field "bar""#,
    );
    story(
        "core/v1.ConfigMap",
        r#"{"data":{"a":"1","a":"2","b":""}}"#,
        r#"strict decoding error: duplicate field "data.a""#,
    );
    // Names are matched as they are written.
    story(
        "core/v1.Pod",
        r#"{"Spec":{}}"#,
        r#"strict decoding error: unknown field "Spec""#,
    );
    // What is within an unknown field is nobody's business.
    story(
        "core/v1.Pod",
        r#"{"foo":{"a":1,"a":2}}"#,
        r#"strict decoding error: unknown field "foo""#,
    );
}

#[test]
fn at_most_a_hundred_complaints_are_kept() {
    let fields: Vec<String> = (0..200).map(|at| format!(r#""x{at}":1"#)).collect();
    let found = as_type(
        "core/v1.Pod",
        &format!("{{{}}}", fields.join(",")),
        Unknown::Drop,
    );
    assert_eq!(found.matches("unknown field").count(), 100);
}

#[test]
fn yaml_complains_about_its_keys_first() {
    let deployment = kind("apps", "v1", "Deployment").unwrap();
    let text = "kind: Deployment\nspec:\n  foo: 1\n  replicas: 1\n  replicas: 2\n";
    assert_eq!(
        read(deployment, text, Encoding::Yaml, Unknown::Drop),
        "strict decoding error: yaml: unmarshal errors:\n  line 5: key \"replicas\" already set in map, \
         unknown field \"spec.foo\""
    );
}

/// A newer server's fields outlive an update by an older one.
#[test]
fn stored_fields_of_the_future_are_kept() {
    let text = r#"{"future":{"b":1,"a":[2]},"spec":{"nodeName":"n","next":1,"containers":[]}}"#;
    assert_eq!(
        as_type("core/v1.Pod", text, Unknown::Keep),
        r#"{"metadata":{},"spec":{"containers":[],"nodeName":"n","next":1},"status":{},"future":{"b":1,"a":[2]}}"#
    );
}

#[test]
fn what_is_no_object_is_refused() {
    let pod = kind("", "v1", "Pod").unwrap();
    let json = |text| read(pod, text, Encoding::Json, Unknown::Drop);
    assert_eq!(
        json("{"),
        "couldn't get version/kind; json parse error: unexpected end of JSON input"
    );
    assert!(json("[]").starts_with(
        "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct"
    ));
    assert!(
        json(r#"{"kind":1}"#)
            .contains("cannot unmarshal number into Go struct field .kind of type string")
    );
    let message = read(pod, "{}", Encoding::Protobuf, Unknown::Drop);
    assert!(
        message.starts_with("provided data does not appear to be a protobuf message"),
        "{message}"
    );
}

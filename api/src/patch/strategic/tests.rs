//! Stories of strategic merge patches, each with an object, a patch and what comes of it. The rules
//! are upstream's: what its tests pin down, told with our own objects.

use super::apply;
use crate::doc::Doc;
use crate::schema::type_named;

/// Patches a pod's spec, whose lists have every kind of strategy.
fn spec(target: &str, patch: &str) -> String {
    patched("core/v1.PodSpec", target, patch)
}

fn patched(schema: &str, target: &str, patch: &str) -> String {
    let mut doc = Doc::literal(target);
    let schema = type_named(schema).unwrap();
    match apply(&mut doc, Doc::literal(patch).root(), schema) {
        Ok(()) => doc.to_string(),
        Err(error) => format!("{:?}: {error}", error.class),
    }
}

#[track_caller]
fn story(target: &str, patch: &str, want: &str) {
    assert_eq!(
        spec(target, patch),
        Doc::literal(want).to_string(),
        "{target} + {patch}"
    );
}

#[test]
fn objects_are_merged_and_nulls_delete() {
    story(
        r#"{"nodeName":"a","hostname":"b"}"#,
        r#"{"nodeName":"c"}"#,
        r#"{"nodeName":"c","hostname":"b"}"#,
    );
    story(
        r#"{"nodeName":"a","hostname":"b"}"#,
        r#"{"nodeName":null,"subdomain":null}"#,
        r#"{"hostname":"b"}"#,
    );
    story(
        r#"{"nodeSelector":{"a":"1"}}"#,
        r#"{"nodeSelector":{"b":"2","a":null}}"#,
        r#"{"nodeSelector":{"b":"2"}}"#,
    );
    story(
        "{}",
        r#"{"securityContext":{"runAsUser":1,"runAsGroup":null}}"#,
        r#"{"securityContext":{"runAsUser":1}}"#,
    );
    // A value of another type takes the old one's place.
    story(
        r#"{"nodeSelector":{"a":"1"}}"#,
        r#"{"nodeSelector":"x"}"#,
        r#"{"nodeSelector":"x"}"#,
    );
}

#[test]
fn objects_are_replaced_or_deleted_on_demand() {
    story(
        r#"{"securityContext":{"runAsUser":1}}"#,
        r#"{"securityContext":{"$patch":"replace","runAsGroup":2}}"#,
        r#"{"securityContext":{"runAsGroup":2}}"#,
    );
    story(
        r#"{"securityContext":{"runAsUser":1}}"#,
        r#"{"securityContext":{"$patch":"delete"}}"#,
        r#"{"securityContext":{}}"#,
    );
    // Where there is nothing, a directive sets nothing.
    story("{}", r#"{"securityContext":{"$patch":"delete"}}"#, "{}");
    story(
        "{}",
        r#"{"containers":[{"name":"a"},{"name":"b","$patch":"delete"}]}"#,
        r#"{"containers":[{"name":"a"}]}"#,
    );
    let refused = spec(
        r#"{"securityContext":{}}"#,
        r#"{"securityContext":{"$patch":"frob"}}"#,
    );
    assert_eq!(
        refused,
        r#"Internal: unknown patch type: frob in map: {"$patch":"frob"}"#
    );
}

#[test]
fn lists_are_merged_by_their_key() {
    let two = r#"{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1"}]}"#;
    story(
        two,
        r#"{"containers":[{"name":"b","image":"2"}]}"#,
        r#"{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"}]}"#,
    );
    // What is new and named stands before what the patch does not name.
    story(
        two,
        r#"{"containers":[{"name":"c"}]}"#,
        r#"{"containers":[{"name":"c"},{"name":"a","image":"1"},{"name":"b","image":"1"}]}"#,
    );
    story(
        two,
        r#"{"containers":[{"name":"b","$patch":"delete"}]}"#,
        r#"{"containers":[{"name":"a","image":"1"}]}"#,
    );
    story(
        two,
        r#"{"containers":[{"$patch":"replace"},{"name":"c"}]}"#,
        r#"{"containers":[{"name":"c"}]}"#,
    );
    story(
        two,
        r#"{"containers":[{"$patch":"replace"}]}"#,
        r#"{"containers":[]}"#,
    );
    // Nested: the ports of one container.
    story(
        r#"{"containers":[{"name":"a","ports":[{"containerPort":80},{"containerPort":81}]}]}"#,
        r#"{"containers":[{"name":"a","ports":[{"containerPort":81,"name":"x"}]}]}"#,
        r#"{"containers":[{"name":"a","ports":[{"containerPort":80},{"containerPort":81,"name":"x"}]}]}"#,
    );
    // Twice in one patch: the second is merged into the first.
    story(
        "{\"containers\":[]}",
        r#"{"containers":[{"name":"a","image":"1"},{"name":"a","tty":true}]}"#,
        r#"{"containers":[{"name":"a","image":"1","tty":true}]}"#,
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    story(
        r#"{"tolerations":[{"key":"a"}]}"#,
        r#"{"tolerations":[{"key":"b"}]}"#,
        r#"{"tolerations":[{"key":"b"}]}"#,
    );
    story(
        r#"{"containers":[{"name":"a","args":["1","2"]}]}"#,
        r#"{"containers":[{"name":"a","args":["3"]}]}"#,
        r#"{"containers":[{"name":"a","args":["3"]}]}"#,
    );
}

#[test]
fn lists_of_scalars_are_sets() {
    let meta = |target, patch| patched("meta/v1.ObjectMeta", target, patch);
    assert_eq!(
        meta(r#"{"finalizers":["a","b"]}"#, r#"{"finalizers":["c","a"]}"#),
        r#"{"finalizers":["c","a","b"]}"#
    );
    assert_eq!(
        meta(
            r#"{"finalizers":["a","b","c"]}"#,
            r#"{"$deleteFromPrimitiveList/finalizers":["a","c"]}"#
        ),
        r#"{"finalizers":["b"]}"#
    );
    assert_eq!(
        meta("{}", r#"{"$deleteFromPrimitiveList/finalizers":["a"]}"#),
        "{}"
    );
    assert_eq!(
        meta(
            r#"{"finalizers":["a","b","c"]}"#,
            r#"{"$setElementOrder/finalizers":["c","d","a"],"$deleteFromPrimitiveList/finalizers":["b"],"finalizers":["d"]}"#
        ),
        r#"{"finalizers":["c","d","a"]}"#
    );
    assert_eq!(
        meta("{}", r#"{"$deleteFromPrimitiveListX":["a"]}"#),
        "BadRequest: invalid patch format of primitive list"
    );
}

#[test]
fn the_order_of_a_list_can_be_set() {
    let three = r#"{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}"#;
    story(
        three,
        r#"{"$setElementOrder/containers":[{"name":"c"},{"name":"a"},{"name":"b"}]}"#,
        r#"{"containers":[{"name":"c"},{"name":"a"},{"name":"b"}]}"#,
    );
    // What the patch does not know of stays where it was among the others.
    story(
        three,
        r#"{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"containers":[{"name":"a","tty":true}]}"#,
        r#"{"containers":[{"name":"b"},{"name":"c"},{"name":"a","tty":true}]}"#,
    );
    story(
        three,
        r#"{"$setElementOrder/containers":[{"name":"d"},{"name":"a"}],"containers":[{"name":"d"},{"name":"b","$patch":"delete"}]}"#,
        r#"{"containers":[{"name":"d"},{"name":"a"},{"name":"c"}]}"#,
    );
    story(
        "{}",
        r#"{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b"},{"name":"a"}]}"#,
        r#"{"containers":[{"name":"b"},{"name":"a"}]}"#,
    );
    let wrong = r#"{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"b"}]}"#;
    assert!(
        spec(three, wrong).contains("doesn't match $setElementOrder list"),
        "{}",
        spec(three, wrong)
    );
}

#[test]
fn keys_that_are_not_retained_go() {
    // A volume's source is a union: the new one drives the old one out.
    story(
        r#"{"volumes":[{"name":"v","emptyDir":{}},{"name":"w","emptyDir":{}}]}"#,
        r#"{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/x"}}]}"#,
        r#"{"volumes":[{"name":"v","hostPath":{"path":"/x"}},{"name":"w","emptyDir":{}}]}"#,
    );
    let deployment = patched(
        "apps/v1.DeploymentSpec",
        r#"{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}"#,
        r#"{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}"#,
    );
    assert_eq!(deployment, r#"{"strategy":{"type":"Recreate"}}"#);
    let refused = spec(
        r#"{"securityContext":{}}"#,
        r#"{"securityContext":{"$retainKeys":["a"],"b":1}}"#,
    );
    assert_eq!(refused, "BadRequest: invalid patch format of retainKeys");
}

#[test]
fn a_field_with_the_replace_strategy_is_replaced() {
    let budget = patched(
        "policy/v1.PodDisruptionBudgetSpec",
        r#"{"selector":{"matchLabels":{"a":"1"}}}"#,
        r#"{"selector":{"matchLabels":{"b":"2"}}}"#,
    );
    assert_eq!(budget, r#"{"selector":{"matchLabels":{"b":"2"}}}"#);
}

#[test]
fn errors_speak_as_upstream_does() {
    for (target, patch, want) in [
        (
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":[{"image":"x"}]}"#,
            r#"Internal: map: {"image":"x"} does not contain declared merge key: name"#,
        ),
        (
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":["x"]}"#,
            r#"Internal: list element types are not identical: [[{"name":"a"}] ["x"]]"#,
        ),
        (
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":[{"$patch":"delete"}]}"#,
            r#"Internal: map: {"$patch":"delete"} does not contain declared merge key: name"#,
        ),
        (
            r#"{"foo":{"a":1}}"#,
            r#"{"foo":{"a":2}}"#,
            r#"Internal: unable to find api field in struct PodSpec for the json field "foo""#,
        ),
        ("{}", "[]", "BadRequest: invalid JSON document"),
    ] {
        assert_eq!(spec(target, patch), want, "{patch}");
    }
}

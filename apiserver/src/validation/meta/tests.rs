//! One good object, and one wrong field at a time.

use super::*;

struct Plain;

impl Strategy for Plain {}

const SCOPE: Scope = Scope {
    namespaced: true,
    built_in: true,
};

const GOOD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b","uid":"u",
    "resourceVersion":"7","generation":2,"creationTimestamp":"2024-01-01T00:00:00Z",
    "labels":{"a":"b"},"annotations":{"A.b/C":"d"},"finalizers":["a.b/c","orphan"],
    "ownerReferences":[{"apiVersion":"v1","kind":"K","name":"n","uid":"u","controller":true}],
    "managedFields":[{"manager":"m","operation":"Update","fieldsType":"FieldsV1"}]}}"#;

fn changed(path: &[&str], json: &str) -> Doc {
    let mut doc = Doc::literal(GOOD);
    if json.is_empty() {
        let (last, parents) = path.split_last().unwrap();
        let parent = doc.find_path(parents).unwrap();
        doc.remove(parent, last);
        return doc;
    }
    let value = Doc::literal(json);
    let at = doc.set_path(path, "");
    let parent = doc.find_path(&path[..path.len() - 1]).unwrap();
    let value = doc.graft(value.root());
    doc.replace_in(parent, at, value);
    doc
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn wrong_metadata_of_new_objects() {
    assert_eq!(
        texts(&validate_create(&Doc::literal(GOOD), SCOPE, &Plain)),
        Vec::<String>::new()
    );
    for (field, json, want) in [
        (
            "name",
            "",
            "metadata.name: Required value: name or generateName is required",
        ),
        (
            "name",
            r#""A""#,
            r#"metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
        ),
        ("namespace", "", "metadata.namespace: Required value"),
        (
            "namespace",
            r#""a.b""#,
            r#"metadata.namespace: Invalid value: "a.b": must not contain dots"#,
        ),
        (
            "generation",
            "-1",
            "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "finalizers",
            r#"["a"]"#,
            r#"metadata.finalizers[0]: Invalid value: "a": name is neither a standard finalizer name nor is it fully qualified"#,
        ),
        (
            "finalizers",
            r#"["orphan","foregroundDeletion"]"#,
            r#"metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#,
        ),
        (
            "ownerReferences",
            r#"[{"apiVersion":"g/","kind":"K","name":"n","uid":"u"}]"#,
            r#"metadata.ownerReferences.apiVersion: Invalid value: "g/": version must not be empty"#,
        ),
        (
            "ownerReferences",
            r#"[{"apiVersion":"v1","kind":"K","name":"n","uid":""}]"#,
            r#"metadata.ownerReferences.uid: Invalid value: "": must not be empty"#,
        ),
        (
            "ownerReferences",
            r#"[{"apiVersion":"v1","kind":"Event","name":"n","uid":"u"}]"#,
            r#"metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"n","uid":"u"}: /v1, Kind=Event is disallowed from being an owner"#,
        ),
        (
            "managedFields",
            r#"[{"operation":"Delete"}]"#,
            "metadata.managedFields[0].operation: Invalid value: \"Delete\": must be `Apply` or `Update`",
        ),
        (
            "managedFields",
            r#"[{"operation":"Apply","manager":"a\nb"}]"#,
            r#"metadata.managedFields[0].manager: Invalid value: "a\nb": invalid character U+000A (at position 1)"#,
        ),
    ] {
        let doc = changed(&["metadata", field], json);
        assert_eq!(texts(&validate_create(&doc, SCOPE, &Plain)), [want]);
    }
    let two = changed(
        &["metadata", "ownerReferences"],
        r#"[{"apiVersion":"v1","kind":"K","name":"n","uid":"u","controller":true},{"apiVersion":"v1","kind":"L","name":"m","uid":"u","controller":true}]"#,
    );
    let errors = texts(&validate_create(&two, SCOPE, &Plain));
    assert!(
        errors[0].ends_with(
            r#": Only one reference can have Controller set to true. Found "true" in references for K/n and L/m"#
        ),
        "{errors:?}"
    );
    let cluster = Scope {
        namespaced: false,
        built_in: false,
    };
    assert_eq!(
        texts(&validate_create(&Doc::literal(GOOD), cluster, &Plain)),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
    let big = changed(
        &["metadata", "annotations"],
        &format!(r#"{{"a":"{}"}}"#, "x".repeat(256 * 1024)),
    );
    assert_eq!(
        texts(&validate_create(&big, SCOPE, &Plain)),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
}

#[test]
fn what_may_not_change() {
    let old = Doc::literal(GOOD);
    assert_eq!(
        texts(&validate_update(&old, &old, SCOPE)),
        Vec::<String>::new()
    );
    for (field, json, want) in [
        (
            "uid",
            r#""v""#,
            r#"metadata.uid: Invalid value: "v": field is immutable"#,
        ),
        (
            "name",
            r#""v""#,
            r#"metadata.name: Invalid value: "v": field is immutable"#,
        ),
        (
            "deletionGracePeriodSeconds",
            "3",
            "metadata.deletionGracePeriodSeconds: Invalid value: 3: field is immutable",
        ),
        (
            "creationTimestamp",
            "",
            "metadata.creationTimestamp: Invalid value: null: field is immutable",
        ),
        (
            "generation",
            "1",
            "metadata.generation: Invalid value: 1: must not be decremented",
        ),
        (
            "resourceVersion",
            "",
            r#"metadata.resourceVersion: Invalid value: "": must be specified for an update"#,
        ),
    ] {
        let new = changed(&["metadata", field], json);
        assert_eq!(texts(&validate_update(&new, &old, SCOPE)), [want]);
    }
    let deleted = changed(
        &["metadata", "deletionTimestamp"],
        r#""2024-01-01T00:00:00Z""#,
    );
    let mut more = deleted.clone();
    let list = more.find_path(&["metadata", "finalizers"]).unwrap();
    more.push(list, "x/z");
    more.push(list, "x/y");
    assert_eq!(
        texts(&validate_update(&more, &deleted, SCOPE)),
        [
            r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/y", "x/z"}"#
        ]
    );
}

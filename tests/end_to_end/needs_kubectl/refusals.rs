//! What is wrong is refused, in the words that people and programs know.

use crate::support::Dev;

#[test]
fn what_is_wrong_is_refused_in_upstreams_words() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_apis(dir.path());
    let kubectl = dev.kubectl();
    let create = ["create", "-f", "-"];
    let unknown = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containrs: []}\n";
    let said = kubectl.feed_refused(&create, unknown);
    let want = r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containrs""#;
    assert!(said.contains(want), "{said}");

    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: A}\nspec: {containers: [{name: c}]}\n";
    let said = kubectl.feed_refused(&["create", "--validate=false", "-f", "-"], bad);
    for want in [
        r#"The Pod "A" is invalid"#,
        r#"metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of"#,
        "spec.containers[0].image: Required value",
    ] {
        assert!(said.contains(want), "{want}\n{said}");
    }

    kubectl.must(&["create", "cm", "c", "--from-literal=a=b"]);
    let said = kubectl.refused(&["create", "cm", "c"]);
    assert!(said.contains(r#"configmaps "c" already exists"#), "{said}");
    let said = kubectl.refused(&["get", "cm", "none"]);
    assert!(
        said.contains(r#"(NotFound): configmaps "none" not found"#),
        "{said}"
    );

    let stale = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, resourceVersion: '1'}\n";
    let said = kubectl.feed_refused(&["replace", "-f", "-"], stale);
    assert!(
        said.contains("the object has been modified; please apply your changes"),
        "{said}"
    );
    let said = kubectl.refused(&[
        "delete",
        "--raw",
        "/api/v1/namespaces/default/configmaps/none",
    ]);
    assert!(said.contains("not found"), "{said}");
    let said = kubectl.refused(&["get", "pods", "--field-selector=spec.none=1"]);
    assert!(
        said.contains("field label not supported: spec.none"),
        "{said}"
    );
    let said = kubectl.refused(&["get", "--raw", "/apis/apps/v1/nothing"]);
    assert!(
        said.contains("the server could not find the requested resource"),
        "{said}"
    );

    kubectl.must(&["create", "secret", "generic", "s", "--from-literal=a=b"]);
    let said = kubectl.refused(&["patch", "secret", "s", "-p", r#"{"type":"other"}"#]);
    assert!(said.contains("field is immutable"), "{said}");
    dev.stop();
}

//! Who may do what: certificates, tokens, roles, impersonation.

use crate::support::{Dev, eventually};

#[test]
fn roles_decide_what_a_token_may() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_apis(dir.path());
    let kubectl = dev.kubectl();
    kubectl.must(&["create", "sa", "builder"]);
    let token = kubectl.must(&["create", "token", "builder"]);
    let token = format!("--token={}", token.trim());
    // The certificate of the administrator must not count for the bearer of a token.
    let empty = dir.path().join("token-only");
    let server = kubectl.must(&[
        "config",
        "view",
        "--raw",
        "-ojsonpath={.clusters[0].cluster.server}",
    ]);
    let authority = dir.path().join("pki/api-ca.crt");
    std::fs::write(&empty, "").unwrap();
    let bearer = kubectl.with(&[
        "--kubeconfig",
        empty.to_str().unwrap(),
        "--server",
        &server,
        "--certificate-authority",
        authority.to_str().unwrap(),
        &token,
    ]);
    let said = bearer.refused(&["get", "pods"]);
    let want = r#"pods is forbidden: User "system:serviceaccount:default:builder" cannot list resource "pods" in API group "" in the namespace "default""#;
    assert!(said.contains(want), "{said}");

    kubectl.must(&[
        "create",
        "role",
        "reader",
        "--verb=get,list",
        "--resource=pods",
    ]);
    kubectl.must(&[
        "create",
        "rolebinding",
        "reads",
        "--role=reader",
        "--serviceaccount=default:builder",
    ]);
    eventually("the binding counts", || {
        bearer.succeeds(&["get", "pods"]).then_some(())
    });
    assert!(
        bearer
            .refused(&["delete", "pod", "x"])
            .contains("cannot delete resource")
    );
    assert!(
        bearer
            .refused(&["get", "pods", "-n", "kube-system"])
            .contains("forbidden")
    );
    assert!(bearer.refused(&["get", "secrets"]).contains("forbidden"));

    let acting = ["--as", "system:serviceaccount:default:builder"];
    let may = |what: &[&str]| kubectl.succeeds(&[&["auth", "can-i"], what, &acting].concat());
    assert!(may(&["list", "pods"]) && !may(&["create", "pods"]));
    // Nobody gives away what they have not got.
    let said = bearer.refused(&["create", "role", "more", "--verb=*", "--resource=*"]);
    assert!(said.contains("forbidden"), "{said}");
    assert!(
        kubectl
            .must(&["auth", "whoami"])
            .contains("kubernetes-admin")
    );
    let said = bearer.with(&["--token=nonsense"]).refused(&["get", "pods"]);
    assert!(
        said.contains("Unauthorized") || said.contains("must be logged in"),
        "{said}"
    );
    dev.stop();
}

//! Authorization as a whole, on objects in memory.

use super::*;
use crate::storage::fake::Fake;

pub(super) fn role(rules: &str) -> String {
    format!(r#"{{"metadata":{{"name":"r","namespace":"a"}},"rules":{rules}}}"#)
}

pub(super) fn binding(kind: &str, role: &str, subjects: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"b","namespace":"a"}},"roleRef":{{"apiGroup":"{}","kind":"{kind}","name":"{role}"}},"subjects":{subjects}}}"#,
        rbac::GROUP
    )
}

pub(super) const ALICE: &str = r#"[{"kind":"User","name":"alice"}]"#;

async fn decide(chain: &Authorizer, attributes: &Attributes<'_>) -> Decision {
    chain.authorize(attributes).await
}

#[tokio::test]
async fn reasons_name_binding_role_and_subject() {
    let fake = Fake::with_bootstrap_policy();
    fake.literal(
        rbac::GROUP,
        "roles",
        &role(r#"[{"verbs":["get"],"apiGroups":[""],"resources":["pods","*/log"],"resourceNames":["x"]}]"#),
    );
    fake.literal(
        rbac::GROUP,
        "rolebindings",
        &binding("Role", "r", r#"[{"kind":"ServiceAccount","name":"s"}]"#),
    );
    let chain = Authorizer::new(vec![Mode::Rbac(Arc::new(Rbac::new(fake)))]);
    let account = User::new("system:serviceaccount:a:s", &[]);
    let pods = Attributes {
        namespace: "a",
        name: "x",
        ..Attributes::resource(&account, "get", "", "pods")
    };
    let reason = r#"RBAC: allowed by RoleBinding "b/a" of Role "r" to ServiceAccount "s/a""#;
    assert_eq!(decide(&chain, &pods).await, Decision::Allow(reason.into()));
    let log = Attributes {
        subresource: "log",
        ..pods.clone()
    };
    assert!(decide(&chain, &log).await.is_allowed());
    for refused in [
        Attributes {
            name: "y",
            ..pods.clone()
        },
        Attributes {
            name: "",
            ..pods.clone()
        },
        Attributes {
            namespace: "b",
            ..pods.clone()
        },
        Attributes {
            namespace: "",
            ..pods.clone()
        },
        Attributes {
            verb: "list",
            ..pods.clone()
        },
        Attributes {
            group: "apps",
            ..pods.clone()
        },
        Attributes {
            subresource: "exec",
            ..pods.clone()
        },
        Attributes {
            resource: "secrets",
            ..pods.clone()
        },
    ] {
        assert_eq!(
            decide(&chain, &refused).await,
            Decision::NONE,
            "{refused:?}"
        );
    }
    let scheduler = User::new("system:kube-scheduler", &["system:authenticated"]);
    let bind = Attributes {
        subresource: "binding",
        namespace: "b",
        ..Attributes::resource(&scheduler, "create", "", "pods")
    };
    let reason = r#"RBAC: allowed by ClusterRoleBinding "system:kube-scheduler" of ClusterRole "system:kube-scheduler" to User "system:kube-scheduler""#;
    assert_eq!(decide(&chain, &bind).await, Decision::Allow(reason.into()));
    let version = Attributes::path(&scheduler, "get", "/openapi/v3");
    let reason = r#"RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated""#;
    assert_eq!(
        decide(&chain, &version).await,
        Decision::Allow(reason.into())
    );
}

/// Every resource and verb there is, for somebody who is merely known, and for nobody.
#[tokio::test]
async fn the_unprivileged_may_do_nothing() {
    let chain = Authorizer::new(vec![
        Mode::Node(Arc::new(NodeAuthorizer::new(Fake::with_bootstrap_policy()))),
        Mode::Rbac(Arc::new(Rbac::new(Fake::with_bootstrap_policy()))),
    ]);
    let own = [
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "selfsubjectreviews",
    ];
    let verbs = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "impersonate",
        "bind",
        "escalate",
        "approve",
        "use",
        "*",
    ];
    let known = User::new(
        "mallory",
        &["system:authenticated", "system:serviceaccounts:a"],
    );
    let mut asked = 0;
    for user in [&known, &User::anonymous()] {
        for resource in api::resources::resources() {
            for verb in verbs {
                for (namespace, subresource) in [
                    ("", ""),
                    ("kube-system", ""),
                    ("a", "status"),
                    ("a", "token"),
                ] {
                    let attributes = Attributes {
                        namespace,
                        subresource,
                        name: "x",
                        ..Attributes::resource(user, verb, resource.group, resource.name)
                    };
                    let is_own = user.name == "mallory"
                        && verb == "create"
                        && subresource.is_empty()
                        && own.contains(&resource.name);
                    let allowed = decide(&chain, &attributes).await.is_allowed();
                    assert_eq!(allowed, is_own, "{attributes:?}");
                    asked += 1;
                }
            }
        }
        for path in [
            "/",
            "/metrics",
            "/logs",
            "/debug/pprof",
            "/healthz/etcd",
            "/versionx",
        ] {
            let attributes = Attributes::path(user, "get", path);
            assert!(!decide(&chain, &attributes).await.is_allowed(), "{path}");
        }
        let version = Attributes::path(user, "get", "/version");
        assert!(decide(&chain, &version).await.is_allowed());
    }
    assert!(asked > 5_000);
    let attributes = Attributes {
        namespace: "a",
        ..Attributes::resource(&known, "list", "", "pods")
    };
    let status = chain.require(&attributes).await.unwrap_err();
    assert_eq!(
        status.message,
        r#"pods is forbidden: User "mallory" cannot list resource "pods" in API group "" in the namespace "a""#
    );
    let master = User::new("root", &["system:masters"]);
    let attributes = Attributes {
        user: &master,
        verb: "anything",
        ..attributes
    };
    assert!(decide(&chain, &attributes).await.is_allowed());
}

#[test]
fn refusals_read_as_upstreams_do() {
    let user = User::new("a<b>&", &[]);
    let cluster = Attributes {
        subresource: "status",
        name: "n",
        ..Attributes::resource(&user, "update", "", "nodes")
    };
    assert_eq!(
        forbidden(&cluster, "no relationship").message,
        r#"nodes "n" is forbidden: User "a&lt;b&gt;&amp;" cannot update resource "nodes/status" in API group "" at the cluster scope: no relationship"#
    );
    let path = Attributes::path(&user, "post", "/metrics");
    assert_eq!(
        forbidden(&path, "").message,
        r#"forbidden: User "a&lt;b&gt;&amp;" cannot post path "/metrics""#
    );
}

/// What is written is in force at once, and what is taken away too.
#[tokio::test]
async fn the_index_follows_the_objects() {
    let fake = Arc::new(Fake::default());
    let chain = Authorizer::new(vec![Mode::Rbac(Arc::new(Rbac::new(fake.clone())))]);
    let alice = User::new("alice", &[]);
    let get = Attributes {
        namespace: "a",
        ..Attributes::resource(&alice, "get", "", "pods")
    };
    assert_eq!(decide(&chain, &get).await, Decision::NONE);
    fake.literal(rbac::GROUP, "rolebindings", &binding("Role", "r", ALICE));
    let missing = r#"RBAC: role.rbac.authorization.k8s.io "r" not found"#;
    assert_eq!(
        decide(&chain, &get).await,
        Decision::NoOpinion(missing.into())
    );
    fake.literal(
        rbac::GROUP,
        "roles",
        &role(r#"[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]"#),
    );
    assert!(decide(&chain, &get).await.is_allowed());
    fake.literal(rbac::GROUP, "roles", &role("[]"));
    assert_eq!(decide(&chain, &get).await, Decision::NONE);
    fake.remove(rbac::GROUP, "rolebindings", ("a", "b"));
    assert_eq!(decide(&chain, &get).await, Decision::NONE);
}

/// Compiled rules decide in well under two microseconds in a release build; here it only must not be
/// a walk over all bindings.
#[test]
fn a_request_does_not_look_at_other_subjects() {
    let fake = Fake::with_bootstrap_policy();
    for at in 0..5_000 {
        let doc = binding(
            "ClusterRole",
            "edit",
            &format!(r#"[{{"kind":"User","name":"u{at}"}}]"#),
        );
        fake.literal(
            rbac::GROUP,
            "rolebindings",
            &doc.replace(r#""name":"b""#, &format!(r#""name":"b{at}""#)),
        );
    }
    let rbac = Rbac::new(fake);
    let user = User::new("u17", &["system:authenticated"]);
    let attributes = Attributes {
        namespace: "a",
        ..Attributes::resource(&user, "get", "", "pods")
    };
    assert_eq!(
        rbac.authorize(&attributes),
        Decision::NONE,
        "edit is filled by aggregation only"
    );
    let start = tokio::time::Instant::now();
    for _ in 0..1_000 {
        rbac.authorize(&attributes);
    }
    assert!(
        start.elapsed() < std::time::Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
}

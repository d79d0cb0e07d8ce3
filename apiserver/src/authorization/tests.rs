//! Authorization as a whole, on objects in memory.

use api::doc::Doc;

use super::escalation::{Escalation, Writer};
use super::node::graph::{Graph, Kind};
use super::*;
use crate::storage::fake::Fake;

fn role(rules: &str) -> String {
    format!(r#"{{"metadata":{{"name":"r","namespace":"a"}},"rules":{rules}}}"#)
}

fn binding(kind: &str, role: &str, subjects: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"b","namespace":"a"}},"roleRef":{{"apiGroup":"{}","kind":"{kind}","name":"{role}"}},"subjects":{subjects}}}"#,
        rbac::GROUP
    )
}

const ALICE: &str = r#"[{"kind":"User","name":"alice"}]"#;

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

fn escalation(fake: &Arc<Fake>) -> Escalation {
    let rbac = Arc::new(Rbac::new(fake.clone()));
    Escalation::new(Authorizer::new(vec![Mode::Rbac(rbac.clone())]), rbac)
}

fn writer<'a>(user: &'a User, resource: &'a str) -> Writer<'a> {
    Writer {
        user,
        namespace: "a",
        resource,
        name: "",
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let fake = Fake::with_bootstrap_policy();
    fake.literal(
        rbac::GROUP,
        "roles",
        &role(r#"[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]},{"verbs":["create"],"apiGroups":["*"],"resources":["roles","rolebindings"]}]"#),
    );
    fake.literal(rbac::GROUP, "rolebindings", &binding("Role", "r", ALICE));
    let escalation = escalation(&fake);
    let alice = User::new("alice", &["staff", "system:authenticated"]);
    let held = Doc::literal(&role(
        r#"[{"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["x"]}]"#,
    ));
    escalation
        .check(&writer(&alice, "roles"), &held, None)
        .await
        .unwrap();

    let more = Doc::literal(&role(
        r#"[{"verbs":["get","list","delete"],"apiGroups":[""],"resources":["pods","secrets"]},{"verbs":["get"],"nonResourceURLs":["/metrics"]}]"#,
    ));
    let status = escalation
        .check(&writer(&alice, "roles"), &more, None)
        .await
        .unwrap_err();
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"alice\" (groups=[\"staff\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"delete\"]}\n\
         {NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}"
    );
    // Garbage collection may still be helped.
    let mut collected = more.clone();
    collected.set_path(&["metadata", "deletionGracePeriodSeconds"], 0);
    assert!(
        escalation
            .check(&writer(&alice, "roles"), &collected, Some(&more))
            .await
            .is_err()
    );
    let mut collected = more.clone();
    let metadata = collected.find_path(&["metadata"]).unwrap();
    collected.list(metadata, "finalizers");
    escalation
        .check(&writer(&alice, "roles"), &collected, Some(&more))
        .await
        .unwrap();

    let masters = User::new("root", &["system:masters"]);
    escalation
        .check(&writer(&masters, "roles"), &more, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn bindings_need_the_role_or_the_verb() {
    let fake = Fake::with_bootstrap_policy();
    let escalation = escalation(&fake);
    let alice = User::new("alice", &[]);
    let to = |kind: &str, name: &str| Doc::literal(&binding(kind, name, ALICE));
    let at = writer(&alice, "rolebindings");
    let status = escalation
        .check(&at, &to("ClusterRole", "cluster-admin"), None)
        .await
        .unwrap_err();
    assert!(
        status.message.ends_with(
            "not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"
        ),
        "{}",
        status.message
    );
    let status = escalation
        .check(&at, &to("Role", "none"), None)
        .await
        .unwrap_err();
    assert_eq!(
        status.message,
        r#"roles.rbac.authorization.k8s.io "none" not found"#
    );
    fake.literal(
        rbac::GROUP,
        "roles",
        &role(r#"[{"verbs":["bind"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"resourceNames":["edit"]}]"#),
    );
    fake.literal(rbac::GROUP, "rolebindings", &binding("Role", "r", ALICE));
    escalation
        .check(&at, &to("ClusterRole", "edit"), None)
        .await
        .unwrap();
    assert!(
        escalation
            .check(&at, &to("ClusterRole", "cluster-admin"), None)
            .await
            .is_err()
    );
    // The verb holds in its namespace only.
    let elsewhere = Writer {
        namespace: "",
        resource: "clusterrolebindings",
        ..at
    };
    let empty = to("ClusterRole", "system:aggregate-to-view");
    assert!(escalation.check(&elsewhere, &empty, None).await.is_err());
}

#[tokio::test]
async fn aggregation_needs_everything() {
    let fake = Fake::with_bootstrap_policy();
    let escalation = escalation(&fake);
    let alice = User::new("alice", &[]);
    let doc = Doc::literal(
        r#"{"metadata":{"name":"x"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]},"rules":[]}"#,
    );
    let at = Writer {
        namespace: "",
        ..writer(&alice, "clusterroles")
    };
    let status = escalation.check(&at, &doc, None).await.unwrap_err();
    assert_eq!(
        status.message,
        "clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    fake.literal(
        rbac::GROUP,
        "clusterrolebindings",
        r#"{"metadata":{"name":"b"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"alice"}]}"#,
    );
    escalation.check(&at, &doc, None).await.unwrap();
}

fn cluster_of_two_nodes() -> Arc<Fake> {
    let fake = Fake::default();
    fake.literal("", "pods", r#"{"metadata":{"name":"p","namespace":"a"},"spec":{"nodeName":"one","serviceAccountName":"sa",
        "imagePullSecrets":[{"name":"pull"}],
        "containers":[{"envFrom":[{"secretRef":{"name":"env"}},{"configMapRef":{"name":"env"}}],"env":[{"valueFrom":{"secretKeyRef":{"name":"key"}}}]}],
        "volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"claim"}},{"name":"e","ephemeral":{}},{"projected":{"sources":[{"configMap":{"name":"proj"}}]}}],
        "resourceClaims":[{"name":"gpu","resourceClaimTemplateName":"t"},{"name":"n","resourceClaimName":"named"}]},
        "status":{"resourceClaimStatuses":[{"name":"gpu","resourceClaimName":"p-gpu-1"}]}}"#);
    fake.literal("", "pods", r#"{"metadata":{"name":"q","namespace":"a"},"spec":{"nodeName":"two","serviceAccountName":"other","volumes":[{"secret":{"secretName":"theirs"}}]}}"#);
    fake.literal("", "pods", r#"{"metadata":{"name":"m","namespace":"a","annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{"nodeName":"one","volumes":[{"secret":{"secretName":"theirs"}}]}}"#);
    fake.literal("", "pods", r#"{"metadata":{"name":"unbound","namespace":"a"},"spec":{"volumes":[{"secret":{"secretName":"later"}}]}}"#);
    fake.literal("", "persistentvolumes", r#"{"metadata":{"name":"pv"},"spec":{"claimRef":{"namespace":"a","name":"claim"},"csi":{"nodeStageSecretRef":{"namespace":"s","name":"stage"},"controllerPublishSecretRef":{"namespace":"s","name":"ctl"}},"cephfs":{"secretRef":{"name":"ceph"}}}}"#);
    fake.literal(
        "storage.k8s.io",
        "volumeattachments",
        r#"{"metadata":{"name":"va"},"spec":{"nodeName":"one"}}"#,
    );
    fake.literal(
        "resource.k8s.io",
        "resourceslices",
        r#"{"metadata":{"name":"slice"},"spec":{"nodeName":"one"}}"#,
    );
    Arc::new(fake)
}

/// Node, verb, group, resource/subresource, namespace, name and the answer: `yes`, or why not.
const NODE_CASES: &[(&str, &str, &str, &str, &str, &str, &str)] = &[
    ("one", "get", "", "secrets", "a", "pull", "yes"),
    ("one", "list", "", "secrets", "a", "env", "yes"),
    ("one", "watch", "", "secrets", "a", "key", "yes"),
    ("one", "get", "", "secrets", "s", "stage", "yes"),
    ("one", "get", "", "secrets", "a", "ceph", "yes"),
    (
        "one",
        "get",
        "",
        "secrets",
        "s",
        "ctl",
        "no relationship found between node 'one' and this object",
    ),
    (
        "one",
        "get",
        "",
        "secrets",
        "a",
        "theirs",
        "no relationship found between node 'one' and this object",
    ),
    (
        "one",
        "get",
        "",
        "secrets",
        "a",
        "later",
        "no relationship found between node 'one' and this object",
    ),
    ("two", "get", "", "secrets", "a", "theirs", "yes"),
    (
        "two",
        "get",
        "",
        "secrets",
        "a",
        "pull",
        "no relationship found between node 'two' and this object",
    ),
    (
        "two",
        "get",
        "",
        "secrets",
        "s",
        "stage",
        "no relationship found between node 'two' and this object",
    ),
    (
        "one",
        "get",
        "",
        "secrets",
        "b",
        "pull",
        "no relationship found between node 'one' and this object",
    ),
    (
        "one",
        "list",
        "",
        "secrets",
        "a",
        "",
        "No Object name found",
    ),
    (
        "one",
        "list",
        "",
        "secrets",
        "",
        "",
        "can only read namespaced object of this type",
    ),
    (
        "one",
        "update",
        "",
        "secrets",
        "a",
        "pull",
        "can only read resources of this type",
    ),
    ("one", "get", "", "configmaps", "a", "env", "yes"),
    ("one", "get", "", "configmaps", "a", "proj", "yes"),
    (
        "two",
        "get",
        "",
        "configmaps",
        "a",
        "env",
        "no relationship found between node 'two' and this object",
    ),
    (
        "one",
        "get",
        "",
        "persistentvolumeclaims",
        "a",
        "claim",
        "yes",
    ),
    (
        "one",
        "get",
        "",
        "persistentvolumeclaims",
        "a",
        "p-e",
        "yes",
    ),
    (
        "one",
        "list",
        "",
        "persistentvolumeclaims",
        "a",
        "claim",
        "can only get individual resources of this type",
    ),
    (
        "one",
        "patch",
        "",
        "persistentvolumeclaims/status",
        "a",
        "claim",
        "yes",
    ),
    (
        "two",
        "patch",
        "",
        "persistentvolumeclaims/status",
        "a",
        "claim",
        "no relationship found between node 'two' and this object",
    ),
    ("one", "get", "", "persistentvolumes", "", "pv", "yes"),
    (
        "two",
        "get",
        "",
        "persistentvolumes",
        "",
        "pv",
        "no relationship found between node 'two' and this object",
    ),
    (
        "one",
        "get",
        "storage.k8s.io",
        "volumeattachments",
        "",
        "va",
        "yes",
    ),
    (
        "two",
        "get",
        "storage.k8s.io",
        "volumeattachments",
        "",
        "va",
        "no relationship found between node 'two' and this object",
    ),
    (
        "one",
        "get",
        "resource.k8s.io",
        "resourceclaims",
        "a",
        "p-gpu-1",
        "yes",
    ),
    (
        "one",
        "get",
        "resource.k8s.io",
        "resourceclaims",
        "a",
        "named",
        "yes",
    ),
    (
        "one",
        "delete",
        "resource.k8s.io",
        "resourceslices",
        "",
        "slice",
        "yes",
    ),
    (
        "two",
        "delete",
        "resource.k8s.io",
        "resourceslices",
        "",
        "slice",
        "no relationship found between node 'two' and this object",
    ),
    (
        "one",
        "list",
        "resource.k8s.io",
        "resourceslices",
        "",
        "",
        "can only list/watch/deletecollection resourceslices with nodeName field selector",
    ),
    (
        "one",
        "create",
        "",
        "serviceaccounts/token",
        "a",
        "sa",
        "yes",
    ),
    (
        "two",
        "create",
        "",
        "serviceaccounts/token",
        "a",
        "sa",
        "no relationship found between node 'two' and this object",
    ),
    ("one", "get", "", "serviceaccounts", "a", "sa", "yes"),
    (
        "one",
        "delete",
        "",
        "serviceaccounts",
        "a",
        "sa",
        "can only create tokens for individual service accounts",
    ),
    (
        "one",
        "get",
        "coordination.k8s.io",
        "leases",
        "kube-node-lease",
        "one",
        "yes",
    ),
    (
        "one",
        "get",
        "coordination.k8s.io",
        "leases",
        "kube-node-lease",
        "two",
        "can only access node lease with the same name as the requesting node",
    ),
    (
        "one",
        "get",
        "coordination.k8s.io",
        "leases",
        "kube-system",
        "one",
        "can only access leases in the \"kube-node-lease\" system namespace",
    ),
    (
        "one",
        "list",
        "coordination.k8s.io",
        "leases",
        "kube-node-lease",
        "",
        "can only get, create, update, patch, or delete a node lease",
    ),
    (
        "one",
        "update",
        "storage.k8s.io",
        "csinodes",
        "",
        "two",
        "can only access CSINode with the same name as the requesting node",
    ),
    ("one", "get", "", "nodes", "", "one", "yes"),
    (
        "one",
        "get",
        "",
        "nodes",
        "",
        "two",
        "node 'one' cannot read 'two', only its own Node object",
    ),
    (
        "one",
        "list",
        "",
        "nodes",
        "",
        "",
        "node 'one' cannot read all nodes, only its own Node object",
    ),
    ("one", "patch", "", "nodes/status", "", "one", "yes"),
    ("one", "delete", "", "nodes", "", "one", ""),
    ("one", "get", "", "pods", "a", "p", "yes"),
    (
        "one",
        "get",
        "",
        "pods",
        "a",
        "q",
        "no relationship found between node 'one' and this object",
    ),
    (
        "one",
        "list",
        "",
        "pods",
        "",
        "",
        "can only list/watch pods with spec.nodeName field selector",
    ),
    ("one", "create", "", "pods/eviction", "a", "p", "yes"),
    ("one", "create", "", "pods/exec", "a", "p", ""),
    ("one", "list", "", "services", "", "", "yes"),
    ("one", "create", "", "services", "a", "", ""),
    (
        "one",
        "create",
        "authorization.k8s.io",
        "subjectaccessreviews",
        "",
        "",
        "yes",
    ),
    (
        "one",
        "get",
        "certificates.k8s.io",
        "podcertificaterequests",
        "a",
        "x",
        "",
    ),
];

#[test]
fn a_node_reaches_only_its_own() {
    let node = NodeAuthorizer::new(cluster_of_two_nodes());
    for (name, verb, group, resource, namespace, object, want) in NODE_CASES {
        let user = User::new(&format!("system:node:{name}"), &["system:nodes"]);
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = Attributes {
            subresource,
            namespace,
            name: object,
            ..Attributes::resource(&user, verb, group, resource)
        };
        let got = node.authorize(&attributes);
        match *want {
            "yes" => assert!(got.is_allowed(), "{attributes:?}: {got:?}"),
            why => assert_eq!(got, Decision::NoOpinion(why.into()), "{attributes:?}"),
        }
        let not_a_node = User::new(&user.name, &["system:authenticated"]);
        let attributes = Attributes {
            user: &not_a_node,
            ..attributes
        };
        assert_eq!(node.authorize(&attributes), Decision::NONE);
    }
}

#[test]
fn a_node_lists_its_own_pods() {
    let node = NodeAuthorizer::new(cluster_of_two_nodes());
    let user = User::new("system:node:one", &["system:nodes"]);
    for (selector, want) in [
        ("spec.nodeName=one", true),
        ("spec.nodeName=two", false),
        ("spec.nodeName!=one", false),
        ("metadata.name=one", false),
    ] {
        let selector = FieldSelector::parse(selector).unwrap();
        let attributes = Attributes {
            field_selector: Some(&selector),
            ..Attributes::resource(&user, "watch", "", "pods")
        };
        assert_eq!(node.authorize(&attributes).is_allowed(), want, "{selector}");
    }
}

#[test]
fn the_graph_follows_what_changes() {
    let fake = cluster_of_two_nodes();
    let node = NodeAuthorizer::new(fake.clone());
    let user = User::new("system:node:one", &["system:nodes"]);
    let stage = Attributes {
        namespace: "s",
        name: "stage",
        ..Attributes::resource(&user, "get", "", "secrets")
    };
    assert!(node.authorize(&stage).is_allowed());
    fake.remove("", "pods", ("a", "p"));
    assert!(!node.authorize(&stage).is_allowed());

    let fed = Graph::default();
    let pod = |node: &str| {
        Doc::literal(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"a"}},"spec":{{"nodeName":"{node}","volumes":[{{"secret":{{"secretName":"s"}}}},{{"secret":{{"secretName":"s"}}}}]}}}}"#
        ))
    };
    fed.put("", "pods", &pod("one"));
    assert!(fed.leads_to("one", Kind::Secret, "a", "s"));
    fed.put("", "pods", &pod("two"));
    assert!(!fed.leads_to("one", Kind::Secret, "a", "s"));
    assert!(fed.leads_to("two", Kind::Secret, "a", "s"));
    fed.remove("", "pods", "a", "p");
    assert!(!fed.leads_to("two", Kind::Secret, "a", "s"));
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

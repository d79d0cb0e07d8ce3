//! What nodes reach on a cluster of two.

use api::doc::Doc;
use api::selector::FieldSelector;

use super::*;
use crate::storage::fake::Fake;

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

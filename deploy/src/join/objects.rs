//! The objects of a cluster by which machines join: who may ask what with a bootstrap token, the
//! ConfigMap that tokens sign, the tokens themselves, and what masters hand each other. Names and
//! rules are kubeadm's, so that machines that it sets up join as well.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::bootstrap_token::{
    CLUSTER_INFO, CLUSTER_INFO_NAMESPACE, KUBECONFIG_KEY, SECRET_NAMESPACE, SECRET_TYPE, Token,
};
use serde_json::{Value, json};

/// The group of those who join by a token.
pub const JOINERS: &str = "system:bootstrappers:kubeadm:default-node-token";

/// The Secret with the sealed bundle of masters.
pub const BUNDLE_SECRET: &str = "trireme-certs";
/// Its key.
pub const BUNDLE_KEY: &str = "bundle";

/// An object, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The path of its collection.
    pub collection: String,
    /// The object.
    pub object: Value,
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

impl Object {
    fn new(collection: impl Into<String>, object: Value) -> Object {
        Object {
            collection: collection.into(),
            object,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// What every cluster needs so that machines can join; the kubeconfig names the cluster and nobody.
pub fn of_cluster(kubeconfig: &str) -> Vec<Object> {
    let core = |namespace: &str, kind: &str| format!("/api/v1/namespaces/{namespace}/{kind}");
    let info = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CLUSTER_INFO, "namespace": CLUSTER_INFO_NAMESPACE},
        "data": {KUBECONFIG_KEY: kubeconfig},
    });
    let binding = |name: &str, role: &str, group: &str| {
        let object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
        });
        Object::new(format!("{RBAC}/clusterrolebindings"), object)
    };
    let mut all = vec![
        Object::new(core(CLUSTER_INFO_NAMESPACE, "configmaps"), info),
        binding(
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            JOINERS,
        ),
        binding(
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            JOINERS,
        ),
        binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            "system:nodes",
        ),
    ];
    // Everyone may read what is signed: nobody has credentials before.
    all.extend(reader(
        CLUSTER_INFO_NAMESPACE,
        "kubeadm:bootstrap-signer-clusterinfo",
        "configmaps",
        CLUSTER_INFO,
        &json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"}),
    ));
    all.extend(reader(
        SECRET_NAMESPACE,
        "trireme:certs",
        "secrets",
        BUNDLE_SECRET,
        &json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": JOINERS}),
    ));
    all
}

/// A role that reads one object, and who has it.
fn reader(namespace: &str, name: &str, resource: &str, object: &str, who: &Value) -> [Object; 2] {
    let at = |kind: &str| format!("{RBAC}/namespaces/{namespace}/{kind}");
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [{"apiGroups": [""], "resources": [resource], "resourceNames": [object], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [who],
    });
    [
        Object::new(at("roles"), role),
        Object::new(at("rolebindings"), binding),
    ]
}

/// A token: what it is for, and until when, as RFC 3339; for ever if that is empty.
pub fn token(token: &Token, description: &str, expiration: &str) -> Object {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": token.secret_name(), "namespace": SECRET_NAMESPACE},
        "type": SECRET_TYPE,
        "stringData": {
            "token-id": token.id,
            "token-secret": token.secret,
            "description": description,
            "expiration": expiration,
            "auth-extra-groups": JOINERS,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
        },
    });
    Object::new(
        format!("/api/v1/namespaces/{SECRET_NAMESPACE}/secrets"),
        object,
    )
}

/// The sealed bundle of masters; it goes with the Secret that owns it, a token's.
pub fn bundle(sealed: &[u8], owner_name: &str, owner_uid: &str) -> Object {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": BUNDLE_SECRET,
            "namespace": SECRET_NAMESPACE,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Secret", "name": owner_name, "uid": owner_uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "data": {BUNDLE_KEY: STANDARD.encode(sealed)},
    });
    Object::new(
        format!("/api/v1/namespaces/{SECRET_NAMESPACE}/secrets"),
        object,
    )
}

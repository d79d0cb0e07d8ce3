//! What secrets of service accounts' tokens are to hold.

use std::collections::BTreeMap;

use client::View as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::{Value, json};

/// The type of the secrets.
pub(crate) const TYPE: &str = "kubernetes.io/service-account-token";
/// The account that a secret is for, and its uid: annotations.
pub(crate) const ACCOUNT: &str = "kubernetes.io/service-account.name";
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const NAMESPACE: &str = "namespace";
const ROOT_CA: &str = "ca.crt";

/// Name and uid of the account that a secret is for; the uid may be empty.
pub(crate) fn account(secret: &Secret) -> (&str, &str) {
    let annotation = |key| {
        let annotations = secret.metadata.annotations.as_ref();
        annotations
            .and_then(|found| found.get(key))
            .map_or("", String::as_str)
    };
    (annotation(ACCOUNT), annotation(ACCOUNT_UID))
}

/// Whether an account is the one that a secret is for.
pub(crate) fn is_for(uid: &str, account: &ServiceAccount) -> bool {
    uid.is_empty() || uid == account.uid()
}

/// What a secret lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lack {
    root_ca: bool,
    namespace: bool,
    pub(crate) token: bool,
}

/// What a secret lacks, if anything.
pub(crate) fn lack(secret: &Secret, root_ca: &str) -> Option<Lack> {
    let value = |key| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map_or(&[][..], |ByteString(bytes)| bytes.as_slice())
    };
    let lack = Lack {
        root_ca: !root_ca.is_empty() && value(ROOT_CA) != root_ca.as_bytes(),
        namespace: value(NAMESPACE).is_empty(),
        token: value(TOKEN).is_empty(),
    };
    (lack.root_ca || lack.namespace || lack.token).then_some(lack)
}

/// The claims of a secret's token.
pub(crate) fn claims(account: &ServiceAccount, secret: &str) -> Value {
    let (namespace, name) = (account.namespace(), account.name());
    json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret,
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    })
}

/// The patch that gives a secret what it lacks, as long as it is as it was read.
pub(crate) fn patch(
    secret: &Secret,
    account: &ServiceAccount,
    lack: Lack,
    root_ca: &str,
    token: Option<String>,
) -> Value {
    let mut data = BTreeMap::new();
    if lack.root_ca {
        data.insert(ROOT_CA, ByteString(root_ca.into()));
    }
    if lack.namespace {
        data.insert(NAMESPACE, ByteString(secret.namespace().into()));
    }
    if let Some(token) = token {
        data.insert(TOKEN, ByteString(token.into_bytes()));
    }
    let annotations = json!({ACCOUNT: account.name(), ACCOUNT_UID: account.uid()});
    let metadata = json!({
        "uid": secret.uid(),
        "resourceVersion": secret.metadata.resource_version,
        "annotations": annotations,
    });
    json!({"metadata": metadata, "data": data})
}

/// The patch that takes a secret from those that an account names; none if it does not name it.
pub(crate) fn without(account: &ServiceAccount, secret: &str) -> Option<Value> {
    let all = account.secrets.as_deref().unwrap_or_default();
    let rest = all
        .iter()
        .filter(|found| found.name.as_deref() != Some(secret));
    let rest: Vec<_> = rest.collect();
    let metadata =
        json!({"uid": account.uid(), "resourceVersion": account.metadata.resource_version});
    (rest.len() < all.len()).then(|| json!({"metadata": metadata, "secrets": rest}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> ServiceAccount {
        serde_json::from_value(
            json!({"metadata": {"namespace": "ns", "name": "sa", "uid": "u"},
            "secrets": [{"name": "one"}, {"name": "two"}]}),
        )
        .unwrap()
    }

    fn secret(data: Value) -> Secret {
        serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "s", "annotations": {ACCOUNT: "sa"}}, "data": data})).unwrap()
    }

    #[test]
    fn a_secret_gets_what_it_lacks() {
        let bare = secret(json!({}));
        let lack_all = lack(&bare, "ca").unwrap();
        let patch = patch(&bare, &account(), lack_all, "ca", Some("t".to_string()));
        assert_eq!(
            patch["data"],
            json!({"ca.crt": "Y2E=", "namespace": "bnM=", "token": "dA=="})
        );
        assert_eq!(
            patch["metadata"]["annotations"],
            json!({ACCOUNT: "sa", ACCOUNT_UID: "u"})
        );
        assert_eq!(lack(&secret(patch["data"].clone()), "ca"), None);
        assert!(lack(&secret(patch["data"].clone()), "new").is_some_and(|lack| !lack.token));
        assert_eq!(
            lack(&secret(json!({"namespace": "eA==", "token": "dA=="})), ""),
            None
        );
    }

    #[test]
    fn claims_are_those_of_legacy_tokens() {
        let claims = claims(&account(), "s");
        assert_eq!(claims["sub"], "system:serviceaccount:ns:sa");
        assert_eq!(claims["kubernetes.io/serviceaccount/secret.name"], "s");
    }

    #[test]
    fn references_to_secrets_that_are_gone_go() {
        assert_eq!(
            without(&account(), "one").unwrap()["secrets"],
            json!([{"name": "two"}])
        );
        assert!(without(&account(), "three").is_none());
    }
}

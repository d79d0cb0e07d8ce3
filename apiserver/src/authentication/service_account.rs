//! Tokens of service accounts: those that the server issues for a time and binds to an object, and
//! old ones that stand in secrets and never expire.

use std::sync::Arc;
use std::time::SystemTime;

use api::doc::{Doc, Node};
use api::values::time::{self, Precision};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seams::Clock;

use super::jwt::{KeySet, LEEWAY_SECONDS, Token, numeric_date};
use super::{CREDENTIAL_ID, Found, Identity, TokenCheck, common, is_same_secret};
use crate::storage::Lookup;
use crate::user::{SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, User};

/// Issuer of the tokens in secrets.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// The label of a secret whose token was taken out of use.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const INVALIDATED: &str = "service account token has been invalidated";

/// The user that a service account is.
pub fn user(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
        uid: uid.to_string(),
        groups: vec![
            SERVICE_ACCOUNTS.to_string(),
            format!("{SERVICE_ACCOUNTS}:{namespace}"),
        ],
        ..User::default()
    }
}

/// How a token's id is written where credentials are named.
pub fn credential_id(jti: &str) -> String {
    format!("JTI={jti}")
}

/// Checks tokens of service accounts.
pub(super) struct ServiceAccounts {
    pub(super) issuers: Vec<String>,
    pub(super) keys: Arc<KeySet>,
    pub(super) api_audiences: Vec<String>,
    pub(super) lookup: Lookup,
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl TokenCheck for ServiceAccounts {
    async fn check(&self, text: &str, audiences: &[String]) -> Found {
        let Some(token) = Token::parse(text) else {
            return Ok(None);
        };
        let is_legacy = token.issuer() == LEGACY_ISSUER;
        if !is_legacy && !self.issuers.iter().any(|issuer| issuer == token.issuer()) {
            return Ok(None);
        }
        self.verify(&token)?;
        let meant = self.audiences(&token, audiences)?;
        let now = self.clock.wall();
        let mut identity = match is_legacy {
            true => self.legacy(text, &token.claims).await?,
            false => self.bound(&token.claims, seconds(now)).await?,
        };
        identity.audiences = meant;
        if token.audiences().is_empty() {
            let subject = token.claims.root().text(&["sub"]).to_string();
            let annotation = ("authentication.k8s.io/legacy-token", subject);
            identity.annotations.push(annotation);
        }
        Ok(Some(identity))
    }
}

impl ServiceAccounts {
    fn verify(&self, token: &Token<'_>) -> Result<(), String> {
        let keys = self.keys.candidates(&token.key_id);
        if keys.is_empty() {
            return Err("invalid signature, no keys found".to_string());
        }
        match keys.into_iter().any(|key| token.is_signed_by(key)) {
            true => Ok(()),
            false => Err("square/go-jose: error in cryptographic primitive".to_string()),
        }
    }

    /// For whom the token is of those that were asked for.
    fn audiences(&self, token: &Token<'_>, wanted: &[String]) -> Result<Vec<String>, String> {
        let mut tokens = token.audiences();
        if tokens.is_empty() {
            tokens.clone_from(&self.api_audiences);
        }
        let wanted = if wanted.is_empty() {
            &self.api_audiences
        } else {
            wanted
        };
        let meant = common(&tokens, wanted);
        if meant.is_empty() && !self.api_audiences.is_empty() {
            let (tokens, wanted) = (go_list(&tokens), go_list(wanted));
            return Err(format!(
                "token audiences {tokens} is invalid for the target audiences {wanted}"
            ));
        }
        Ok(meant)
    }

    async fn bound(&self, claims: &Doc, now: i64) -> Result<Identity, String> {
        check_times(claims, now)?;
        let private = claims.root().get("kubernetes.io");
        let text = |path: &[&str]| private.map_or("", |node| node.text(path)).to_string();
        let namespace = text(&["namespace"]);
        let (name, uid) = (
            text(&["serviceaccount", "name"]),
            text(&["serviceaccount", "uid"]),
        );
        self.check_account(&namespace, &name, &uid, now).await?;

        let reference = |kind: &str| private?.get(kind).filter(|node| !node.is_null());
        let mut user = user(&namespace, &name, &uid);
        if let Some(secret) = reference("secret") {
            self.check_bound("secret", &namespace, Reference::of(secret), now)
                .await?;
        }
        if let Some(pod) = reference("pod") {
            let pod = Reference::of(pod);
            self.check_bound("pod", &namespace, pod.clone(), now)
                .await?;
            if !pod.name.is_empty() && !pod.uid.is_empty() {
                user.extra.insert(POD_NAME.to_string(), vec![pod.name]);
                user.extra.insert(POD_UID.to_string(), vec![pod.uid]);
            }
        }
        if let Some(node) = reference("node") {
            let node = Reference::of(node);
            // A pod's token goes with the pod, whatever becomes of its node.
            if reference("pod").is_none() {
                self.check_bound("node", "", node.clone(), now).await?;
            }
            if !node.name.is_empty() {
                user.extra.insert(NODE_NAME.to_string(), vec![node.name]);
                if !node.uid.is_empty() {
                    user.extra.insert(NODE_UID.to_string(), vec![node.uid]);
                }
            }
        }
        let jti = claims.root().text(&["jti"]);
        if !jti.is_empty() {
            user.extra
                .insert(CREDENTIAL_ID.to_string(), vec![credential_id(jti)]);
        }
        let mut identity = Identity::of(user);
        identity.annotations.extend(stale(claims, now));
        Ok(identity)
    }

    async fn check_account(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        now: i64,
    ) -> Result<(), String> {
        let account = self
            .lookup
            .get("", "serviceaccounts", namespace, name)
            .await;
        let account = account
            .ok_or_else(|| format!("serviceaccounts {name:?} not found"))?
            .doc();
        let found = account.root().text(&["metadata", "uid"]);
        if found != uid {
            return Err(format!(
                "service account UID ({found}) does not match claim ({uid})"
            ));
        }
        match is_gone(&account, now - LEEWAY_SECONDS) {
            true => Err(format!(
                "service account {namespace}/{name} has been deleted"
            )),
            false => Ok(()),
        }
    }

    async fn check_bound(
        &self,
        kind: &str,
        namespace: &str,
        wanted: Reference,
        now: i64,
    ) -> Result<(), String> {
        let resource = format!("{kind}s");
        let object = self
            .lookup
            .get("", &resource, namespace, &wanted.name)
            .await;
        let object = object.ok_or(INVALIDATED)?.doc();
        let found = object.root().text(&["metadata", "uid"]);
        if found != wanted.uid {
            return Err(format!(
                "{kind} UID ({found}) does not match service account {kind} ref claim ({})",
                wanted.uid
            ));
        }
        match is_gone(&object, now - LEEWAY_SECONDS) {
            true => Err(INVALIDATED.to_string()),
            false => Ok(()),
        }
    }

    async fn legacy(&self, token: &str, claims: &Doc) -> Result<Identity, String> {
        let LegacyClaims {
            namespace,
            secret,
            name,
            uid,
        } = LegacyClaims::of(claims)?;
        let stored = self.lookup.get("", "secrets", &namespace, &secret).await;
        let stored = stored.ok_or("Token has been invalidated")?.doc();
        if is_deleting(&stored) {
            return Err("Token has been invalidated".to_string());
        }
        let copy = STANDARD
            .decode(stored.root().text(&["data", "token"]))
            .unwrap_or_default();
        if !is_same_secret(&copy, token.as_bytes()) {
            return Err("Token does not match server's copy".to_string());
        }
        let account = self
            .lookup
            .get("", "serviceaccounts", &namespace, &name)
            .await;
        let account = account
            .ok_or_else(|| format!("serviceaccounts {name:?} not found"))?
            .doc();
        if is_deleting(&account) {
            return Err(format!(
                "ServiceAccount {namespace}/{name} has been deleted"
            ));
        }
        let found = account.root().text(&["metadata", "uid"]);
        if found != uid {
            return Err(format!(
                "ServiceAccount UID ({found}) does not match claim ({uid})"
            ));
        }
        if !stored
            .root()
            .text(&["metadata", "labels", INVALID_SINCE])
            .is_empty()
        {
            return Err(format!(
                "the token in secret {namespace}/{secret} for service account {namespace}/{name} has \
                 been marked invalid. Use tokens from the TokenRequest API or manually created \
                 secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to \
                 temporarily allow use of this token"
            ));
        }
        let mut identity = Identity::of(user(&namespace, &name, &uid));
        let secrets = account.root().get("secrets");
        let mut secrets = secrets.into_iter().flat_map(Node::children);
        let is_generated = secrets.any(|one| one.text(&["name"]) == secret);
        let key = match is_generated {
            true => "authentication.k8s.io/legacy-token-autogenerated-secret",
            false => "authentication.k8s.io/legacy-token-manual-secret",
        };
        identity.annotations.push((key, secret));
        if is_generated {
            let text = "Use tokens from the TokenRequest API or manually created secret-based tokens \
                        instead of auto-generated secret-based tokens.";
            identity.warnings.push(text.to_string());
        }
        Ok(identity)
    }
}

/// An object that a token is bound to.
#[derive(Clone)]
struct Reference {
    name: String,
    uid: String,
}

impl Reference {
    fn of(node: Node<'_>) -> Self {
        Self {
            name: node.text(&["name"]).to_string(),
            uid: node.text(&["uid"]).to_string(),
        }
    }
}

struct LegacyClaims {
    namespace: String,
    secret: String,
    name: String,
    uid: String,
}

impl LegacyClaims {
    fn of(claims: &Doc) -> Result<Self, String> {
        let get = |key: &str, shown: &str| match claims.root().text(&[key]) {
            "" => Err(format!("{shown} claim is missing")),
            text => Ok(text.to_string()),
        };
        let subject = get("sub", "sub")?;
        let found = Self {
            namespace: get("kubernetes.io/serviceaccount/namespace", "namespace")?,
            secret: get("kubernetes.io/serviceaccount/secret.name", "secretName")?,
            name: get(
                "kubernetes.io/serviceaccount/service-account.name",
                "serviceAccountName",
            )?,
            uid: get(
                "kubernetes.io/serviceaccount/service-account.uid",
                "serviceAccountUID",
            )?,
        };
        let wanted = format!("{SERVICE_ACCOUNT_PREFIX}{}:{}", found.namespace, found.name);
        match subject == wanted {
            true => Ok(found),
            false => Err("sub claim is invalid".to_string()),
        }
    }
}

fn check_times(claims: &Doc, now: i64) -> Result<(), String> {
    let at = |key: &str| numeric_date(claims, &[key]);
    let error = if at("nbf").is_some_and(|at| now + LEEWAY_SECONDS < at) {
        "service account token is not valid yet"
    } else if at("exp").is_some_and(|at| now - LEEWAY_SECONDS > at) {
        "service account token has expired"
    } else if at("iat").is_some_and(|at| now + LEEWAY_SECONDS < at) {
        "service account token is issued in the future"
    } else {
        return Ok(());
    };
    Err(error.to_string())
}

/// What the audit log should know of a token that lives on only because it was extended.
fn stale(claims: &Doc, now: i64) -> Option<(&'static str, String)> {
    let warn_after = numeric_date(claims, &["kubernetes.io", "warnafter"])?;
    let late = now - warn_after;
    let subject = claims.root().text(&["sub"]);
    let text = format!("subject: {subject}, seconds after warning threshold: {late}");
    (warn_after != 0 && late > 0).then_some(("authentication.k8s.io/stale-token", text))
}

fn is_deleting(object: &Doc) -> bool {
    !object
        .root()
        .text(&["metadata", "deletionTimestamp"])
        .is_empty()
}

/// Whether its deletion was due before a time.
fn is_gone(object: &Doc, before: i64) -> bool {
    let at = object.root().text(&["metadata", "deletionTimestamp"]);
    time::parse(at, Precision::Seconds).is_ok_and(|at| at.seconds < before)
}

/// Seconds since 1970.
pub(crate) fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// A list of texts as Go's `%q` writes it.
pub(crate) fn go_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

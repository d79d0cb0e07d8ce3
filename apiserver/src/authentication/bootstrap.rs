//! Tokens by which nodes join: `ID.SECRET`, kept in secrets of kube-system.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::doc::Doc;
use api::values::time::{self, Precision};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seams::Clock;

use super::service_account::seconds;
use super::{Found, Identity, TokenCheck, is_same_secret};
use crate::storage::Lookup;
use crate::user::User;

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const USER_PREFIX: &str = "system:bootstrap:";
const GROUP: &str = "system:bootstrappers";

/// Checks tokens by which nodes join.
pub(super) struct BootstrapTokens {
    pub(super) lookup: Lookup,
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl TokenCheck for BootstrapTokens {
    async fn check(&self, token: &str, _audiences: &[String]) -> Found {
        let Some((id, secret)) = token
            .split_once('.')
            .filter(|(id, secret)| is_word(id, 6) && is_word(secret, 16))
        else {
            return Ok(None);
        };
        let name = format!("bootstrap-token-{id}");
        let stored = self.lookup.get("", "secrets", NAMESPACE, &name).await;
        let stored = stored.map(|stored| stored.doc());
        let now = seconds(self.clock.wall());
        Ok(
            stored.and_then(|stored| match judge(&stored, id, secret, now) {
                Ok(groups) => Some(Identity::of(User {
                    name: format!("{USER_PREFIX}{id}"),
                    groups,
                    ..User::default()
                })),
                Err(why) => {
                    tracing::info!(secret = name, "bootstrap secret that matches a token {why}");
                    None
                }
            }),
        )
    }
}

/// Lower case letters and digits.
fn is_word(text: &str, length: usize) -> bool {
    let is_in = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() == length && text.bytes().all(is_in)
}

/// The groups that a token makes a member of, or why it is no good.
fn judge(stored: &Doc, id: &str, secret: &str, now: i64) -> Result<Vec<String>, String> {
    let root = stored.root();
    let data = |key: &str| {
        let bytes = STANDARD
            .decode(root.text(&["data", key]))
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let invalid = |key: &str| Err(format!("has invalid value for key {key}"));
    if !root.text(&["metadata", "deletionTimestamp"]).is_empty() {
        return Err("is deleted and awaiting removal".to_string());
    }
    if root.text(&["type"]) != SECRET_TYPE {
        return Err(format!("has invalid type, expected {SECRET_TYPE}"));
    }
    if !is_same_secret(data("token-secret").as_bytes(), secret.as_bytes()) {
        return invalid("token-secret");
    }
    if data("token-id") != id {
        return invalid("token-id");
    }
    let expiration = data("expiration");
    let ends = time::parse(&expiration, Precision::Seconds);
    if !expiration.is_empty() && !ends.is_ok_and(|ends| ends.seconds > now) {
        return Err("has expired".to_string());
    }
    if data("usage-bootstrap-authentication") != "true" {
        return Err("not marked usage-bootstrap-authentication=true".to_string());
    }
    let extra = data("auth-extra-groups");
    let mut groups = BTreeSet::from([GROUP.to_string()]);
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !is_group(group) {
            return invalid("auth-extra-groups");
        }
        groups.insert(group.to_string());
    }
    Ok(groups.into_iter().collect())
}

/// `system:bootstrappers:` and up to 255 of `a-z0-9:-`, the last a letter or digit.
fn is_group(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = rest.as_bytes();
    let ends_well = bytes.last().is_some_and(|last| is_plain(*last));
    ends_well && rest.len() <= 256 && bytes.iter().all(|c| is_plain(*c) || b":-".contains(c))
}

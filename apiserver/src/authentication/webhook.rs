//! Tokens that another server knows: it is asked with a TokenReview.

use std::sync::Arc;
use std::time::Duration;

use api::doc::{Doc, New, Node};
use async_trait::async_trait;
use seams::Seams;

use super::bearer::Cache;
use super::jwt::texts;
use super::{Found, Identity, TokenCheck, common};
use crate::outbound::Client;
use crate::user::User;

/// How long its answers hold by default.
pub const TTL: Duration = Duration::from_secs(120);

struct Webhook {
    client: Client,
    url: String,
    api_audiences: Vec<String>,
}

/// Asks the server at `url`; answers are kept for `ttl`, failures are not.
pub fn webhook(
    client: Client,
    url: &str,
    api_audiences: &[String],
    ttl: Duration,
    seams: &Seams,
) -> Arc<dyn TokenCheck> {
    let webhook = Webhook {
        client,
        url: url.to_string(),
        api_audiences: api_audiences.to_vec(),
    };
    Arc::new(Cache::new(Arc::new(webhook), false, ttl, ttl, seams))
}

#[async_trait]
impl TokenCheck for Webhook {
    async fn check(&self, token: &str, audiences: &[String]) -> Found {
        let mut review = Doc::literal(
            r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{}}"#,
        );
        review.set_path(&["spec", "token"], token);
        if !audiences.is_empty() {
            let list = review.set_path(&["spec", "audiences"], New::List);
            for audience in audiences {
                review.push(list, audience);
            }
        }
        let answer = self.client.post(&self.url, &review).await?;
        let status = answer
            .root()
            .get("status")
            .ok_or("the answer has no status")?;
        let said = status.get("audiences").map(texts).unwrap_or_default();
        let meant = match said.is_empty() {
            true => common(audiences, &self.api_audiences),
            false => common(audiences, &said),
        };
        if meant.is_empty() && !audiences.is_empty() {
            return Ok(None);
        }
        if status.get("authenticated").and_then(Node::as_bool) != Some(true) {
            return match status.text(&["error"]) {
                "" => Ok(None),
                error => Err(error.to_string()),
            };
        }
        let user = status.get("user");
        let text = |key: &str| user.map_or("", |user| user.text(&[key])).to_string();
        let extra = user.and_then(|user| user.get("extra"));
        let extra = extra.into_iter().flat_map(Node::children);
        let groups = user.and_then(|user| user.get("groups"));
        Ok(Some(Identity {
            audiences: meant,
            ..Identity::of(User {
                name: text("username"),
                uid: text("uid"),
                groups: groups.map(texts).unwrap_or_default(),
                extra: extra
                    .map(|entry| (entry.key().to_string(), texts(entry)))
                    .collect(),
            })
        }))
    }
}

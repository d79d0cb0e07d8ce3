//! Tokens of identity providers (OpenID Connect). A provider says where its keys are; what a token
//! claims is mapped to a user by plain claims.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use api::doc::{Doc, Node};
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use seams::{Clock, Seams, Tasks};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

pub use config::{Claim, Config, parse, read};

use super::jwt::{KeySet, LEEWAY_SECONDS, Token, numeric_date, texts};
use super::service_account::{credential_id, go_list, seconds};
use super::{CREDENTIAL_ID, Found, Identity, TokenCheck};
use crate::outbound::Client;
use crate::user::User;

/// Between attempts to reach a provider, and between looks at keys because of a token.
const RETRY: Duration = Duration::from_secs(10);
/// Keys are looked at so often without any reason.
const REFRESH: Duration = Duration::from_secs(3600);

/// A provider and its keys.
pub struct Provider {
    config: Config,
    client: Client,
    clock: Arc<dyn Clock>,
    keys: ArcSwapOption<KeySet>,
    /// When the keys were asked for because of a token.
    asked: Mutex<Option<Instant>>,
}

impl Provider {
    /// A provider that has not been reached yet.
    pub fn new(config: Config, client: Client, seams: &Seams) -> Arc<Self> {
        Arc::new(Self {
            config,
            client,
            clock: seams.clock.clone(),
            keys: ArcSwapOption::empty(),
            asked: Mutex::default(),
        })
    }

    /// Keeps the keys up to date until the tasks end.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let (provider, owner) = (self.clone(), tasks.clone());
        tasks.spawn("oidc-keys", async move {
            loop {
                let pause = match provider.refresh().await {
                    Ok(()) => REFRESH,
                    Err(error) => {
                        let issuer = &provider.config.issuer;
                        tracing::warn!(issuer, error, "identity provider not reached");
                        RETRY
                    }
                };
                tokio::select! {
                    () = sleep(pause) => {}
                    () = owner.cancelled() => return,
                }
            }
        });
    }

    /// Asks for the keys.
    ///
    /// # Errors
    ///
    /// If the provider does not answer, or is another one.
    pub async fn refresh(&self) -> Result<(), String> {
        let issuer = &self.config.issuer;
        let usual = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let url = self.config.discovery_url.as_ref().unwrap_or(&usual);
        let configuration = self.client.get(url).await?;
        let found = configuration.root().text(&["issuer"]);
        if found != issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {issuer:?} got \
                 {found:?}"
            ));
        }
        let jwks = self
            .client
            .get(configuration.root().text(&["jwks_uri"]))
            .await?;
        self.keys.store(Some(Arc::new(KeySet::from_jwks(&jwks))));
        Ok(())
    }

    /// A token that no known key signed may be signed by a new one.
    async fn verify(&self, token: &Token<'_>) -> Result<(), String> {
        let keys = self
            .keys
            .load_full()
            .ok_or("oidc: authenticator not initialized")?;
        let is_signed = |keys: &KeySet| {
            let mut candidates = keys.candidates(&token.key_id).into_iter();
            candidates.any(|key| token.is_signed_by(key))
        };
        if !self.config.algorithms.contains(&token.algorithm()) {
            let signed = token.algorithm();
            let known = go_list(&self.config.algorithms);
            return Err(format!(
                "oidc: verify token: oidc: id token signed with unsupported algorithm, expected \
                 {known} got {signed:?}"
            ));
        }
        if is_signed(&keys) {
            return Ok(());
        }
        let mut asked = self.asked.lock().await;
        let now = self.clock.now();
        if asked.is_none_or(|at| now >= at + RETRY) {
            *asked = Some(now);
            self.refresh()
                .await
                .map_err(|error| format!("oidc: verify token: {error}"))?;
        }
        let keys = self.keys.load_full();
        match keys.is_some_and(|keys| is_signed(&keys)) {
            true => Ok(()),
            false => Err(
                "oidc: verify token: failed to verify signature: failed to verify id token \
                          signature"
                    .to_string(),
            ),
        }
    }

    fn judge(&self, token: &Token<'_>) -> Result<User, String> {
        let claims = &token.claims;
        let audiences = token.audiences();
        if !audiences
            .iter()
            .any(|one| self.config.audiences.contains(one))
        {
            let wanted = go_list(&self.config.audiences);
            let got = go_list(&audiences);
            return Err(format!(
                "oidc: verify token: oidc: expected audience in {wanted} got {got}"
            ));
        }
        let now = seconds(self.clock.wall());
        if numeric_date(claims, &["exp"]).is_none_or(|at| now > at) {
            return Err("oidc: verify token: oidc: token is expired".to_string());
        }
        if numeric_date(claims, &["nbf"]).is_some_and(|at| now + 5 * LEEWAY_SECONDS < at) {
            let error = "oidc: verify token: oidc: current time before the nbf (not before) time";
            return Err(error.to_string());
        }
        let user = self.user(claims)?;
        for (claim, want) in &self.config.required {
            let found = claims.root().get(claim);
            let found = found
                .ok_or_else(|| format!("oidc: required claim {claim} not present in ID token"))?;
            let got = found.as_str();
            let got = got.ok_or_else(|| format!("oidc: parse claim {claim}: it is no string"))?;
            if got != want {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {got}, want = {want}"
                ));
            }
        }
        Ok(user)
    }

    fn user(&self, claims: &Doc) -> Result<User, String> {
        let root = claims.root();
        let config = &self.config;
        let name = root.get(&config.username.claim).ok_or("claim not present");
        let name = name.and_then(|name| name.as_str().ok_or("it is no string"));
        let name = name.map_err(|error| {
            format!(
                "oidc: parse username claims {:?}: {error}",
                config.username.claim
            )
        })?;
        if config.username.claim == "email" {
            match root.get("email_verified").map(Node::as_bool) {
                None | Some(Some(true)) => {}
                Some(Some(false)) => return Err("oidc: email not verified".to_string()),
                Some(None) => {
                    return Err("oidc: parse 'email_verified' claim: it is no boolean".to_string());
                }
            }
        }
        let mut user = User::new(&format!("{}{name}", config.username.prefix), &[]);
        if let Some(mapping) = &config.groups {
            let groups = root.get(&mapping.claim).map(texts).unwrap_or_default();
            user.groups.extend(
                groups
                    .iter()
                    .map(|group| format!("{}{group}", mapping.prefix)),
            );
        }
        if let Some(claim) = &config.uid {
            let uid = root.get(claim).and_then(Node::as_str);
            let uid =
                uid.ok_or_else(|| format!("oidc: parse uid claim {claim:?}: claim not present"))?;
            user.uid = uid.to_string();
        }
        let jti = root.text(&["jti"]);
        if !jti.is_empty() {
            user.extra
                .insert(CREDENTIAL_ID.to_string(), vec![credential_id(jti)]);
        }
        Ok(user)
    }
}

/// Several providers, each for its issuer.
pub(super) struct Providers(pub(super) Vec<Arc<Provider>>);

#[async_trait]
impl TokenCheck for Providers {
    async fn check(&self, text: &str, _audiences: &[String]) -> Found {
        let Some(token) = Token::parse(text) else {
            return Ok(None);
        };
        let mut providers = self.0.iter();
        let Some(provider) = providers.find(|one| one.config.issuer == token.issuer()) else {
            return Ok(None);
        };
        provider.verify(&token).await?;
        Ok(Some(Identity::of(provider.judge(&token)?)))
    }
}

//! Who sends a request, by the credentials that it shows. The order is upstream's: the front proxy,
//! client certificates, bearer tokens; nobody at all is anonymous, where that is allowed. Wrong
//! credentials never are.
//!
//! - [`certificate`]: client certificates; [`front_proxy`]: headers of the front proxy
//! - [`bearer`]: the token of a request, and the cache of what tokens turned out to be
//! - [`static_tokens`], [`service_account`], [`bootstrap`], [`oidc`], [`webhook`]: kinds of tokens
//! - [`jwt`]: what service accounts and OIDC have in common
//! - [`impersonation`]: asking in another's name

pub mod bearer;
pub mod bootstrap;
pub mod certificate;
pub mod front_proxy;
pub mod impersonation;
pub mod jwt;
pub mod oidc;
pub mod service_account;
pub mod static_tokens;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use seams::Seams;

use crate::storage::Lookup;
use crate::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};
use bearer::Tokens;
use certificate::Trust;
use front_proxy::FrontProxy;
use jwt::KeySet;

/// The key of an extra value that names the credential.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// What a request shows.
pub struct Credentials<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The client's certificate and what it sent along; nothing of it is verified.
    pub peer: &'a [CertificateDer<'static>],
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Name, groups and so on.
    pub user: User,
    /// For whom the credential is good, of those that were asked for; empty if it does not say.
    pub audiences: Vec<String>,
    /// What the client should know about its credential.
    pub warnings: Vec<String>,
    /// What the audit log should know about it.
    pub annotations: Vec<(&'static str, String)>,
}

impl Identity {
    /// Nothing but a user.
    pub fn of(user: User) -> Self {
        Self {
            user,
            ..Self::default()
        }
    }
}

/// An identity; nothing if there are no credentials of the kind; or what is wrong with them.
pub type Found = Result<Option<Identity>, String>;

/// One kind of bearer token.
#[async_trait]
pub trait TokenCheck: Send + Sync + 'static {
    /// Whose token it is, for at least one of some audiences.
    async fn check(&self, token: &str, audiences: &[String]) -> Found;
}

/// Where nobody in particular may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    /// Nowhere.
    Nowhere,
    /// Everywhere; authorization decides the rest.
    Everywhere,
    /// On these paths.
    On(Vec<String>),
}

/// Which credentials count.
pub struct Config {
    /// The names under which tokens must mean this server.
    pub api_audiences: Vec<String>,
    /// The front proxy.
    pub front_proxy: Option<FrontProxy>,
    /// The authorities of client certificates.
    pub client_ca: Option<Arc<Trust>>,
    /// Tokens from a file.
    pub static_tokens: Option<static_tokens::StaticTokens>,
    /// Issuers of service account tokens, the first being this server.
    pub service_account_issuers: Vec<String>,
    /// The keys of service account tokens.
    pub service_account_keys: Option<Arc<KeySet>>,
    /// Whether tokens by which nodes join count.
    pub bootstrap_tokens: bool,
    /// Identity providers; somebody must [start](oidc::Provider::start) them.
    pub oidc: Vec<Arc<oidc::Provider>>,
    /// A server that knows further tokens: [`webhook::webhook`].
    pub webhook: Option<Arc<dyn TokenCheck>>,
    /// Where nobody in particular may ask.
    pub anonymous: Anonymous,
    /// How long a good token is believed without another look.
    pub success_ttl: Duration,
    /// How long a bad one is refused without another look.
    pub failure_ttl: Duration,
}

impl Default for Config {
    /// No credentials but anonymity, and upstream's times.
    fn default() -> Self {
        Self {
            api_audiences: Vec::new(),
            front_proxy: None,
            client_ca: None,
            static_tokens: None,
            service_account_issuers: Vec::new(),
            service_account_keys: None,
            bootstrap_tokens: false,
            oidc: Vec::new(),
            webhook: None,
            anonymous: Anonymous::Everywhere,
            success_ttl: Duration::from_secs(10),
            failure_ttl: Duration::ZERO,
        }
    }
}

/// Finds out who sends a request.
pub struct Authenticator {
    seams: Seams,
    api_audiences: Vec<String>,
    front_proxy: Option<FrontProxy>,
    standard_headers: FrontProxyHeaders,
    client_ca: Option<Arc<Trust>>,
    tokens: Option<Tokens>,
    anonymous: Anonymous,
}

/// The headers that are removed whether or not there is a front proxy.
struct FrontProxyHeaders {
    plain: [&'static str; 3],
    prefixes: Vec<String>,
}

impl Authenticator {
    /// `lookup` finds service accounts, pods and secrets.
    pub fn new(config: Config, lookup: &Lookup, seams: &Seams) -> Self {
        Self {
            seams: seams.clone(),
            tokens: Tokens::new(token_kinds(&config, lookup, seams), &config, seams),
            api_audiences: config.api_audiences,
            front_proxy: config.front_proxy,
            standard_headers: FrontProxyHeaders {
                plain: ["x-remote-user", "x-remote-uid", "x-remote-group"],
                prefixes: vec!["x-remote-extra-".to_string()],
            },
            client_ca: config.client_ca,
            anonymous: config.anonymous,
        }
    }

    /// Who sends a request to a path.
    ///
    /// # Errors
    ///
    /// What is wrong with the credentials. That and no identity are both answered with
    /// `Status::unauthorized`.
    pub async fn authenticate(&self, credentials: &Credentials<'_>, path: &str) -> Found {
        if let Some(identity) = self.known(credentials, &self.api_audiences).await? {
            return Ok(self.is_acceptable(&identity).then_some(identity));
        }
        let is_allowed = match &self.anonymous {
            Anonymous::Nowhere => false,
            Anonymous::Everywhere => true,
            Anonymous::On(paths) => paths.iter().any(|allowed| allowed == path),
        };
        Ok(is_allowed.then(|| Identity::of(User::anonymous())))
    }

    /// Whose bearer token it is, as TokenReview asks: for some audiences, or this server's.
    ///
    /// # Errors
    ///
    /// What is wrong with the token.
    pub async fn review(&self, token: &str, audiences: &[String]) -> Found {
        let Some(tokens) = &self.tokens else {
            return Ok(None);
        };
        let found = tokens.bearer(token, audiences).await;
        found.map(|found| found.map(with_authenticated))
    }

    /// The names under which tokens mean this server.
    pub fn api_audiences(&self) -> &[String] {
        &self.api_audiences
    }

    /// Removes credentials from a request, so that nothing behind authentication passes them on.
    pub fn clear(&self, headers: &mut HeaderMap) {
        headers.remove(http::header::AUTHORIZATION);
        for name in self.standard_headers.plain {
            headers.remove(name);
        }
        front_proxy::remove_prefixed(headers, &self.standard_headers.prefixes);
        if let Some(proxy) = &self.front_proxy {
            proxy.clear(headers);
        }
        bearer::clear_subprotocol(headers);
    }

    async fn known(&self, credentials: &Credentials<'_>, audiences: &[String]) -> Found {
        let now = self.seams.clock.wall();
        let mut errors = Vec::new();
        let mut keep = |found: Found| match found {
            Ok(found) => found,
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let mut found = None;
        if let Some(proxy) = &self.front_proxy {
            found = keep(proxy.authenticate(credentials, now));
        }
        if let (None, Some(trust)) = (&found, &self.client_ca) {
            found = keep(certificate::authenticate(trust, credentials.peer, now));
        }
        if let (None, Some(tokens)) = (&found, &self.tokens) {
            found = keep(tokens.of_request(credentials.headers, audiences).await);
        }
        match found {
            Some(identity) => Ok(Some(with_authenticated(identity))),
            None if errors.is_empty() => Ok(None),
            None => Err(aggregate(&errors)),
        }
    }

    fn is_acceptable(&self, identity: &Identity) -> bool {
        let ours = &self.api_audiences;
        ours.is_empty()
            || identity.audiences.is_empty()
            || !common(ours, &identity.audiences).is_empty()
    }
}

fn token_kinds(config: &Config, lookup: &Lookup, seams: &Seams) -> Vec<Arc<dyn TokenCheck>> {
    let audiences = &config.api_audiences;
    let mut kinds: Vec<Arc<dyn TokenCheck>> = Vec::new();
    if let Some(tokens) = &config.static_tokens {
        kinds.push(bearer::unaware(audiences, Arc::new(tokens.clone())));
    }
    if let Some(keys) = &config.service_account_keys {
        kinds.push(Arc::new(service_account::ServiceAccounts {
            issuers: config.service_account_issuers.clone(),
            keys: keys.clone(),
            api_audiences: audiences.clone(),
            lookup: lookup.clone(),
            clock: seams.clock.clone(),
        }));
    }
    if config.bootstrap_tokens {
        let check = bootstrap::BootstrapTokens {
            lookup: lookup.clone(),
            clock: seams.clock.clone(),
        };
        kinds.push(bearer::unaware(audiences, Arc::new(check)));
    }
    if !config.oidc.is_empty() {
        let check = oidc::Providers(config.oidc.clone());
        kinds.push(bearer::unaware(audiences, Arc::new(check)));
    }
    kinds.extend(config.webhook.clone());
    kinds
}

fn with_authenticated(mut identity: Identity) -> Identity {
    let user = &mut identity.user;
    let is_settled =
        user.name == ANONYMOUS || user.is_in(AUTHENTICATED) || user.is_in(UNAUTHENTICATED);
    if !is_settled {
        user.groups.push(AUTHENTICATED.to_string());
    }
    identity
}

/// What both have, in the order of the first.
pub(crate) fn common(these: &[String], those: &[String]) -> Vec<String> {
    let both = these.iter().filter(|one| those.contains(one));
    both.cloned().collect()
}

/// Errors as one, each once.
pub(crate) fn aggregate(errors: &[String]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for error in errors {
        if !once.contains(&error.as_str()) {
            once.push(error);
        }
    }
    match &once[..] {
        [one] => (*one).to_string(),
        all => format!("[{}]", all.join(", ")),
    }
}

/// Compares secrets in a time that does not depend on where they differ.
pub(crate) fn is_same_secret(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

//! Bearer tokens: where a request carries one, and a cache of what tokens turned out to be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use seams::{Clock, Seams};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::front_proxy::values;
use super::{Config, Found, TokenCheck, aggregate, common};

/// What a WebSocket subprotocol that carries a token starts with.
const SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
/// More tokens than any cluster uses at a time.
const CACHED_MAX: usize = 32_768;

/// All kinds of tokens, with the cache before them.
pub(super) struct Tokens {
    cache: Cache,
}

impl Tokens {
    pub(super) fn new(
        kinds: Vec<Arc<dyn TokenCheck>>,
        config: &Config,
        seams: &Seams,
    ) -> Option<Self> {
        if kinds.is_empty() {
            return None;
        }
        let cache = Cache::new(
            Arc::new(AnyOf(kinds)),
            true,
            config.success_ttl,
            config.failure_ttl,
            seams,
        );
        Some(Self { cache })
    }

    /// The token of a request: in its Authorization header, or in a subprotocol, since browsers
    /// cannot set headers of a WebSocket.
    pub(super) async fn of_request(&self, headers: &HeaderMap, audiences: &[String]) -> Found {
        let mut errors = Vec::new();
        for token in [Ok(header_token(headers)), subprotocol_token(headers)] {
            let found = match token {
                Ok(None) => continue,
                Ok(Some(token)) => self.bearer(&token, audiences).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => return Ok(found),
                Err(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            true => Ok(None),
            false => Err(aggregate(&errors)),
        }
    }

    /// A token that nobody knows is wrong.
    pub(super) async fn bearer(&self, token: &str, audiences: &[String]) -> Found {
        match self.cache.check(token, audiences).await {
            Ok(None) => Err("invalid bearer token".to_string()),
            found => found,
        }
    }
}

fn header_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut parts = text.trim().split(' ');
    let is_bearer = parts.next()?.eq_ignore_ascii_case("bearer");
    let token = parts.next()?;
    (is_bearer && !token.is_empty()).then(|| token.to_string())
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        let values = values(headers, name);
        let mut words = values.iter().flat_map(|value| value.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    has("connection", "upgrade") && has("upgrade", "websocket")
}

/// The subprotocols that a client offers.
fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    let values = values(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str());
    let words = values.iter().flat_map(|value| value.split(','));
    words.map(|word| word.trim().to_string()).collect()
}

fn subprotocol_token(headers: &HeaderMap) -> Result<Option<String>, String> {
    if !is_websocket(headers) {
        return Ok(None);
    }
    let offered = subprotocols(headers);
    let tokens = offered
        .iter()
        .filter_map(|word| word.strip_prefix(SUBPROTOCOL));
    let tokens: Vec<&str> = tokens.collect();
    let token = match &tokens[..] {
        [] => return Ok(None),
        [token] => URL_SAFE_NO_PAD.decode(token),
        _ => return Err("multiple base64.bearer.authorization tokens specified".to_string()),
    };
    let token =
        token.map_err(|_| "invalid base64.bearer.authorization token encoding".to_string())?;
    let token = String::from_utf8(token)
        .map_err(|_| "invalid base64.bearer.authorization token".to_string())?;
    match token.is_empty() {
        true => Ok(None),
        // One must be left to be chosen.
        false if offered.len() == 1 => Err("missing additional subprotocol".to_string()),
        false => Ok(Some(token)),
    }
}

/// Takes the token out of the offered subprotocols.
pub(super) fn clear_subprotocol(headers: &mut HeaderMap) {
    if !is_websocket(headers) {
        return;
    }
    let offered = subprotocols(headers);
    let kept: Vec<String> = offered
        .iter()
        .filter(|word| !word.starts_with(SUBPROTOCOL))
        .cloned()
        .collect();
    if let (true, Ok(value)) = (
        kept.len() < offered.len(),
        HeaderValue::from_str(&kept.join(",")),
    ) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// Kinds of tokens in order: the first that knows one counts.
struct AnyOf(Vec<Arc<dyn TokenCheck>>);

#[async_trait]
impl TokenCheck for AnyOf {
    async fn check(&self, token: &str, audiences: &[String]) -> Found {
        let mut errors = Vec::new();
        for kind in &self.0 {
            match kind.check(token, audiences).await {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            true => Ok(None),
            false => Err(aggregate(&errors)),
        }
    }
}

/// A kind of tokens that knows no audiences: its tokens are good for this server.
pub(super) fn unaware(api_audiences: &[String], kind: Arc<dyn TokenCheck>) -> Arc<dyn TokenCheck> {
    Arc::new(Unaware {
        api_audiences: api_audiences.to_vec(),
        kind,
    })
}

struct Unaware {
    api_audiences: Vec<String>,
    kind: Arc<dyn TokenCheck>,
}

#[async_trait]
impl TokenCheck for Unaware {
    async fn check(&self, token: &str, audiences: &[String]) -> Found {
        let meant = common(&self.api_audiences, audiences);
        if meant.is_empty() && !audiences.is_empty() {
            return Ok(None);
        }
        let mut found = self.kind.check(token, audiences).await?;
        if let Some(identity) = &mut found {
            identity.audiences = meant;
        }
        Ok(found)
    }
}

/// Remembers answers for a while. Of several who ask for the same token at the same time one does
/// the work.
pub(super) struct Cache {
    kind: Arc<dyn TokenCheck>,
    keeps_errors: bool,
    success_ttl: Duration,
    failure_ttl: Duration,
    clock: Arc<dyn Clock>,
    /// So that nobody can prepare tokens that collide.
    salt: [u8; 32],
    answers: Mutex<HashMap<[u8; 32], Arc<OnceCell<Answer>>>>,
}

struct Answer {
    found: Found,
    until: Instant,
}

impl Cache {
    pub(super) fn new(
        kind: Arc<dyn TokenCheck>,
        keeps_errors: bool,
        success_ttl: Duration,
        failure_ttl: Duration,
        seams: &Seams,
    ) -> Self {
        let mut salt = [0; 32];
        seams.rng.fill(&mut salt);
        Self {
            kind,
            keeps_errors,
            success_ttl,
            failure_ttl,
            clock: seams.clock.clone(),
            salt,
            answers: Mutex::default(),
        }
    }

    fn key(&self, token: &str, audiences: &[String]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.salt);
        for text in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }

    /// The answer for a key that is still good, or a place for a new one.
    fn cell(&self, key: [u8; 32]) -> Arc<OnceCell<Answer>> {
        let now = self.clock.now();
        let is_good = |cell: &Arc<OnceCell<Answer>>| cell.get().is_none_or(|one| one.until > now);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = answers.get(&key).filter(|cell| is_good(cell)) {
            return cell.clone();
        }
        if answers.len() >= CACHED_MAX {
            answers.retain(|_, cell| is_good(cell));
        }
        if answers.len() >= CACHED_MAX {
            answers.clear();
        }
        let cell = Arc::<OnceCell<Answer>>::default();
        answers.insert(key, cell.clone());
        cell
    }
}

#[async_trait]
impl TokenCheck for Cache {
    async fn check(&self, token: &str, audiences: &[String]) -> Found {
        let cell = self.cell(self.key(token, audiences));
        let answer = cell
            .get_or_init(|| async {
                let found = self.kind.check(token, audiences).await;
                let ttl = match &found {
                    Ok(Some(_)) => self.success_ttl,
                    Err(_) if !self.keeps_errors => Duration::ZERO,
                    _ => self.failure_ttl,
                };
                let until = self.clock.now() + ttl;
                Answer { found, until }
            })
            .await;
        answer.found.clone()
    }
}

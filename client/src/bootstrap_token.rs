//! Bootstrap tokens: the short secrets with which machines join, their Secrets, and the signatures
//! by which the two sides recognise each other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::hmac;
use seams::Rng;
use serde::Deserialize;
use thiserror::Error;

/// The type of the Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where the Secrets are.
pub const SECRET_NAMESPACE: &str = "kube-system";
/// A Secret's name is this and the token's id.
pub const SECRET_PREFIX: &str = "bootstrap-token-";
/// Where the signed ConfigMap is, for everyone to read.
pub const CLUSTER_INFO_NAMESPACE: &str = "kube-public";
/// The signed ConfigMap's name.
pub const CLUSTER_INFO: &str = "cluster-info";
/// Its key with what is signed.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
/// Its keys with signatures are this and a token's id.
pub const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a token looks like abcdef.0123456789abcdef: [a-z0-9]{{6}}, a dot, [a-z0-9]{{16}}")]
pub struct NotAToken;

/// A token: `ID.SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is called; no secret.
    pub id: String,
    /// What proves it.
    pub secret: String,
}

impl Token {
    /// Draws a token.
    pub fn generate(rng: &dyn Rng) -> Token {
        let draw = |length: usize| -> String {
            let letter = |_| char::from(ALPHABET[rng.below(ALPHABET.len() as u64) as usize]);
            (0..length).map(letter).collect()
        };
        Token {
            id: draw(ID_LENGTH),
            secret: draw(SECRET_LENGTH),
        }
    }

    /// The name of its Secret.
    pub fn secret_name(&self) -> String {
        format!("{SECRET_PREFIX}{}", self.id)
    }

    /// A detached JSON web signature of a text (HMAC with SHA-256), as kubeadm expects it.
    pub fn sign(&self, content: &str) -> String {
        sign(&self.id, &self.secret, content)
    }

    /// Whether a signature is this token's for a text.
    pub fn has_signed(&self, content: &str, signature: &str) -> bool {
        let expected = self.sign(content);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        // Compared by way of their own authentication codes, which takes the same time always.
        let code = hmac::sign(&key, expected.as_bytes());
        hmac::verify(&key, signature.as_bytes(), code.as_ref()).is_ok()
    }
}

/// A detached JSON web signature of a text by an id and a secret.
fn sign(id: &str, secret: &str, content: &str) -> String {
    let header = format!(r#"{{"alg":"HS256","kid":"{id}"}}"#);
    let header = URL_SAFE_NO_PAD.encode(header);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{header}..{signature}")
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Token, NotAToken> {
        let (id, secret) = text.split_once('.').ok_or(NotAToken)?;
        let is_part = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte))
        };
        match is_part(id, ID_LENGTH) && is_part(secret, SECRET_LENGTH) {
            true => Ok(Token {
                id: id.into(),
                secret: secret.into(),
            }),
            false => Err(NotAToken),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

/// Logs get the id alone.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

/// The Secret of a token, as far as it says something about the token.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TokenSecret {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// [`SECRET_TYPE`], or it is none.
    #[serde(rename = "type")]
    pub type_: String,
    /// What it says.
    pub data: TokenData,
}

crate::view!(TokenSecret, k8s_openapi::api::core::v1::Secret);

/// What the Secret of a token says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TokenData {
    /// The token's id.
    pub token_id: Bytes,
    /// Its secret.
    pub token_secret: Bytes,
    /// When it ends, as RFC 3339; never if it is empty.
    pub expiration: Bytes,
    /// What it is for.
    pub description: Bytes,
    /// Groups of those who use it, with commas between them.
    pub auth_extra_groups: Bytes,
    /// `true` if it signs.
    pub usage_bootstrap_signing: Bytes,
    /// `true` if it opens the API.
    pub usage_bootstrap_authentication: Bytes,
}

/// A value of a Secret, which is text in all that matters here.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub String);

/// It may be secret.
impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = k8s_openapi::ByteString::deserialize(from)?;
        Ok(Bytes(String::from_utf8_lossy(&bytes.0).into_owned()))
    }
}

/// How long a token is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remaining {
    /// For ever.
    Always,
    /// For so long.
    For(Duration),
    /// It has ended, or nobody can read when it ends.
    Nothing,
}

impl TokenSecret {
    /// How long the token is still good.
    pub fn remaining(&self, now: Timestamp) -> Remaining {
        let text = &self.data.expiration.0;
        if text.is_empty() {
            return Remaining::Always;
        }
        let end: Option<Timestamp> = text.parse().ok();
        let rest = end.and_then(|end| Duration::try_from(end.duration_since(now)).ok());
        match rest.filter(|rest| !rest.is_zero()) {
            Some(rest) => Remaining::For(rest),
            None => Remaining::Nothing,
        }
    }

    /// The id and the secret of a token that signs now.
    pub fn signing(&self, now: Timestamp) -> Option<Token> {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let id = name.strip_prefix(SECRET_PREFIX)?;
        let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| ALPHABET.contains(&byte));
        let data = &self.data;
        let is_good = self.type_ == SECRET_TYPE
            && is_id
            && data.token_id.0 == id
            && !data.token_secret.0.is_empty()
            && data.usage_bootstrap_signing.0 == "true"
            && self.remaining(now) != Remaining::Nothing;
        is_good.then(|| Token {
            id: id.into(),
            secret: data.token_secret.0.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use seams::SeededRng;

    use super::*;

    #[test]
    fn a_signature_is_upstreams() {
        let content = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            sign("joshua", "my voice is my passcode", content),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..\
             VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let token = Token::generate(&SeededRng::new(3));
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        assert!(token.has_signed("x", &token.sign("x")));
        assert!(!token.has_signed("y", &token.sign("x")));
        for wrong in [
            "",
            "abcdef",
            "abcdef.short",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcdeg!",
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(NotAToken), "{wrong}");
        }
    }

    fn secret(expiration: &str, signing: &str) -> TokenSecret {
        let bytes = |text: &str| Bytes(text.into());
        TokenSecret {
            metadata: ObjectMeta {
                name: Some("bootstrap-token-abcdef".into()),
                ..ObjectMeta::default()
            },
            type_: SECRET_TYPE.into(),
            data: TokenData {
                token_id: bytes("abcdef"),
                token_secret: bytes("0123456789abcdef"),
                expiration: bytes(expiration),
                usage_bootstrap_signing: bytes(signing),
                ..TokenData::default()
            },
        }
    }

    #[test]
    fn a_token_signs_until_it_ends() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert!(secret("", "true").signing(now).is_some());
        assert!(secret("", "false").signing(now).is_none());
        assert!(
            secret("2026-01-01T00:00:00Z", "true")
                .signing(now)
                .is_none()
        );
        assert!(secret("sometime", "true").signing(now).is_none());
        let later = secret("2026-01-01T01:00:00+00:00", "true");
        assert_eq!(
            later.remaining(now),
            Remaining::For(Duration::from_secs(3600))
        );
        let mut other = secret("", "true");
        other.metadata.name = Some("bootstrap-token-zzzzzz".into());
        assert!(other.signing(now).is_none());
    }
}

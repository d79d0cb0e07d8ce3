//! Tokens of service accounts: the keys, what a token claims, and the documents by which others can
//! verify them. Who shows such a token is [`crate::authentication::service_account`]'s to find out.

mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use api::doc::{Doc, New};
use rustls::SignatureScheme;
use rustls::sign::SigningKey as Signing;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::der_parser::der::parse_der;

pub use request::{Bound, BoundObject, Issued};

use crate::authentication::jwt::{self, KeySet, PublicKey};
use crate::authentication::service_account::LEGACY_ISSUER;
use crate::user::SERVICE_ACCOUNT_PREFIX;

/// Where the configuration of the issuer is served.
pub const OPENID_CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// Where the issuer's keys are served.
pub const JWKS_PATH: &str = "/openid/v1/jwks";
/// How long both may be kept, in seconds.
pub const MAX_AGE_SECONDS: u32 = 3600;

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    key: Arc<dyn Signing>,
    scheme: SignatureScheme,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKey({})", self.public.id)
    }
}

impl SigningKey {
    /// The first private key of a PEM file: RSA, or ECDSA on P-256 or P-384.
    ///
    /// # Errors
    ///
    /// If there is none that can be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let unusable = "data does not contain a valid RSA or ECDSA private key";
        let key = PrivateKeyDer::pem_slice_iter(pem).find_map(Result::ok);
        let key = key.ok_or(unusable)?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| unusable)?;
        let der = key.public_key().ok_or(unusable)?;
        let public = PublicKey::from_der(&der).ok_or(unusable)?;
        let scheme = match public.algorithm() {
            "ES256" => SignatureScheme::ECDSA_NISTP256_SHA256,
            "ES384" => SignatureScheme::ECDSA_NISTP384_SHA384,
            _ => SignatureScheme::RSA_PKCS1_SHA256,
        };
        drop(der);
        Ok(Self {
            key,
            scheme,
            public,
        })
    }

    /// The half that verifies.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A token with these claims.
    ///
    /// # Errors
    ///
    /// If the key fails to sign.
    pub fn sign(&self, claims: &Doc) -> Result<String, String> {
        let mut header = Doc::new();
        let top = header.top();
        header.set(top, "alg", self.public.algorithm());
        header.set(top, "kid", &self.public.id);
        let token = jwt::compact(&header, claims, |message| self.signature(message));
        token.ok_or_else(|| "failed to generate token".to_string())
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signer = self.key.choose_scheme(&[self.scheme])?;
        let signature = signer.sign(message).ok()?;
        match self.scheme {
            SignatureScheme::ECDSA_NISTP256_SHA256 => fixed(&signature, 32),
            SignatureScheme::ECDSA_NISTP384_SHA384 => fixed(&signature, 48),
            _ => Some(signature),
        }
    }
}

/// The two numbers of an ECDSA signature in DER, each in `width` bytes, as tokens have them.
fn fixed(der: &[u8], width: usize) -> Option<Vec<u8>> {
    let (_, sequence) = parse_der(der).ok()?;
    let mut bytes = Vec::with_capacity(2 * width);
    for number in sequence.as_sequence().ok()? {
        let number = number.as_slice().ok()?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        bytes.resize(bytes.len() + width.checked_sub(number.len())?, 0);
        bytes.extend_from_slice(number);
    }
    Some(bytes)
}

/// How this server issues tokens.
#[derive(Debug, Clone)]
pub struct Config {
    /// The issuer's URL.
    pub issuer: String,
    /// For whom a token is if the request does not say: the API server.
    pub api_audiences: Vec<String>,
    /// The longest time that a token may live, in seconds; longer ones are shortened.
    pub max_expiration_seconds: Option<i64>,
    /// Whether tokens for the API server that pods get by default live for a year, with a warning
    /// after their time.
    pub extends_expiration: bool,
    /// Where the keys are published, if not on this server.
    pub jwks_uri: Option<String>,
    /// Host and port under which this server is known.
    pub external_address: String,
}

/// Issues tokens of service accounts.
pub struct Issuer {
    config: Config,
    signing: SigningKey,
    keys: Arc<KeySet>,
}

impl Issuer {
    /// `keys` are those that verify; the signing key's public half is added to them.
    pub fn new(config: Config, signing: SigningKey, keys: Vec<PublicKey>) -> Self {
        let keys = [vec![signing.public.clone()], keys].concat();
        Self {
            config,
            signing,
            keys: Arc::new(KeySet::new(keys)),
        }
    }

    /// The keys that verify tokens.
    pub fn keys(&self) -> Arc<KeySet> {
        self.keys.clone()
    }

    /// The token that stands in a secret of type `kubernetes.io/service-account-token`.
    ///
    /// # Errors
    ///
    /// If the key fails to sign.
    pub fn legacy_token(&self, account: &Doc, secret: &str) -> Result<String, String> {
        let metadata = |key: &str| account.root().text(&["metadata", key]).to_string();
        let (namespace, name) = (metadata("namespace"), metadata("name"));
        let mut claims = Doc::new();
        let top = claims.top();
        let subject = format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}");
        for (key, value) in [
            ("iss", LEGACY_ISSUER),
            ("kubernetes.io/serviceaccount/namespace", &namespace),
            ("kubernetes.io/serviceaccount/secret.name", secret),
            ("kubernetes.io/serviceaccount/service-account.name", &name),
            (
                "kubernetes.io/serviceaccount/service-account.uid",
                &metadata("uid"),
            ),
            ("sub", &subject),
        ] {
            claims.set(top, key, value);
        }
        self.signing.sign(&claims)
    }

    /// The document at [`OPENID_CONFIGURATION_PATH`].
    ///
    /// # Errors
    ///
    /// If the issuer is no https URL without query and fragment, which OIDC demands.
    pub fn openid_configuration(&self) -> Result<String, String> {
        let issuer = &self.config.issuer;
        check_issuer(issuer)?;
        let own = format!("https://{}{JWKS_PATH}", self.config.external_address);
        let mut doc = Doc::new();
        let top = doc.top();
        doc.set(top, "issuer", issuer);
        doc.set(
            top,
            "jwks_uri",
            self.config.jwks_uri.as_ref().unwrap_or(&own),
        );
        let mut algorithms: Vec<&str> = self.keys.all().iter().map(PublicKey::algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        for (key, values) in [
            ("response_types_supported", vec!["id_token"]),
            ("subject_types_supported", vec!["public"]),
            ("id_token_signing_alg_values_supported", algorithms),
        ] {
            let list = doc.list(top, key);
            for value in values {
                doc.push(list, value);
            }
        }
        Ok(doc.to_string())
    }

    /// The document at [`JWKS_PATH`].
    pub fn jwks(&self) -> String {
        let mut doc = Doc::new();
        let list = doc.set(doc.top(), "keys", New::List);
        for key in self.keys.all() {
            key.write_jwk(&mut doc, list);
        }
        doc.to_string()
    }
}

fn check_issuer(issuer: &str) -> Result<(), String> {
    let what = if issuer.is_empty() {
        return Err("empty issuer URL".to_string());
    } else if !issuer.starts_with("https://") {
        "must use https scheme"
    } else if issuer.contains('?') {
        "may not include a query"
    } else if issuer.contains('#') {
        "may not include a fragment"
    } else {
        return Ok(());
    };
    Err(format!("issuer URL {what}, got: {issuer}"))
}

//! JSON web tokens: parts, public keys and signatures. What the claims mean is the caller's.

use api::codec::json;
use api::doc::{Doc, New, Node};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key;

/// How far clocks may disagree, in seconds.
pub const LEEWAY_SECONDS: i64 = 60;

/// A token in its parts; nothing of it is verified.
pub struct Token<'t> {
    /// What is signed: header and payload as they were sent.
    signed: &'t str,
    signature: &'t str,
    algorithm: Algorithm,
    /// The key that signed it, if it says so, else empty.
    pub key_id: String,
    /// What it claims.
    pub claims: Doc,
}

impl<'t> Token<'t> {
    /// Takes the compact form apart; none if it is something else.
    pub fn parse(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header = part(header)?;
        Some(Self {
            signed,
            signature,
            algorithm: header.root().text(&["alg"]).parse().ok()?,
            key_id: header.root().text(&["kid"]).to_string(),
            claims: part(payload)?,
        })
    }

    /// Who says that it issued it.
    pub fn issuer(&self) -> &str {
        self.claims.root().text(&["iss"])
    }

    /// For whom it is: a text or a list of texts.
    pub fn audiences(&self) -> Vec<String> {
        let found = self.claims.root().get("aud");
        found.map(texts).unwrap_or_default()
    }

    /// The name of the signature's algorithm.
    pub fn algorithm(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        // The key says which algorithms make sense: a token must not choose, say, to take a public
        // key for a shared secret.
        key.shape.algorithms().contains(&self.algorithm)
            && crypto::verify(
                self.signature,
                self.signed.as_bytes(),
                &key.shape.decoding(),
                self.algorithm,
            )
            .unwrap_or(false)
    }
}

fn part(encoded: &str) -> Option<Doc> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    json::parse(bytes).ok()
}

/// A text as a list of one, or the texts of a list.
pub(crate) fn texts(node: Node<'_>) -> Vec<String> {
    match node.as_str() {
        Some(text) => vec![text.to_string()],
        None => node
            .children()
            .filter_map(|item| item.as_str().map(str::to_string))
            .collect(),
    }
}

/// A time in claims, in seconds since 1970.
pub(crate) fn numeric_date(claims: &Doc, path: &[&str]) -> Option<i64> {
    let node = claims.root().path(path)?;
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds suffice")]
    node.as_i64().or_else(|| node.as_f64().map(|at| at as i64))
}

/// Header, payload and signature in the compact form.
pub(crate) fn compact(
    header: &Doc,
    claims: &Doc,
    sign: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<String> {
    let encode = |doc: &Doc| URL_SAFE_NO_PAD.encode(doc.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(signed.as_bytes())?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A key that verifies signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// How tokens and key sets name it.
    pub id: String,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
}

impl Shape {
    fn algorithms(&self) -> &'static [Algorithm] {
        use Algorithm::{ES256, ES384, PS256, PS384, PS512, RS256, RS384, RS512};
        match self {
            Self::Rsa { .. } => &[RS256, RS384, RS512, PS256, PS384, PS512],
            Self::P256(_) => &[ES256],
            Self::P384(_) => &[ES384],
        }
    }

    fn decoding(&self) -> DecodingKey {
        match self {
            Self::Rsa { modulus, exponent } => {
                DecodingKey::from_rsa_raw_components(modulus, exponent)
            }
            Self::P256(point) | Self::P384(point) => DecodingKey::from_ec_der(point),
        }
    }

    /// A curve by the length of its coordinates.
    fn from_point(point: &[u8]) -> Option<Self> {
        match (point.first(), point.len()) {
            (Some(4), 65) => Some(Self::P256(point.to_vec())),
            (Some(4), 97) => Some(Self::P384(point.to_vec())),
            _ => None,
        }
    }
}

impl PublicKey {
    /// A key in DER (SubjectPublicKeyInfo), named by the digest of that, so that the name does not
    /// give the key away. None if its kind is not supported.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let shape = match info.parsed().ok()? {
            public_key::PublicKey::RSA(rsa) => Shape::Rsa {
                modulus: unsigned(rsa.modulus),
                exponent: unsigned(rsa.exponent),
            },
            public_key::PublicKey::EC(point) => Shape::from_point(point.data())?,
            _ => return None,
        };
        Some(Self {
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(der)),
            shape,
        })
    }

    /// The public keys in a PEM file: public keys, private keys and certificates.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn from_pem(pem: &[u8]) -> Result<Vec<Self>, String> {
        let mut keys = Vec::new();
        for found in SubjectPublicKeyInfoDer::pem_slice_iter(pem).flatten() {
            keys.extend(Self::from_der(&found));
        }
        for found in PrivateKeyDer::pem_slice_iter(pem).flatten() {
            let key = rustls::crypto::ring::sign::any_supported_type(&found).ok();
            let public = key.as_ref().and_then(|key| key.public_key());
            keys.extend(public.and_then(|public| Self::from_der(&public)));
        }
        for found in CertificateDer::pem_slice_iter(pem).flatten() {
            let certificate = x509_parser::parse_x509_certificate(&found).ok();
            keys.extend(certificate.and_then(|(_, it)| Self::from_der(it.public_key().raw)));
        }
        match keys.is_empty() {
            true => Err("data does not contain any valid RSA or ECDSA public keys".to_string()),
            false => Ok(keys),
        }
    }

    /// A key of a key set; none if its kind or use is not supported.
    pub fn from_jwk(jwk: Node<'_>) -> Option<Self> {
        let bytes = |key: &str| URL_SAFE_NO_PAD.decode(jwk.text(&[key])).ok();
        if !matches!(jwk.text(&["use"]), "" | "sig") {
            return None;
        }
        let shape = match (jwk.text(&["kty"]), jwk.text(&["crv"])) {
            ("RSA", _) => Shape::Rsa {
                modulus: unsigned(&bytes("n").filter(|n| !n.is_empty())?),
                exponent: unsigned(&bytes("e").filter(|e| !e.is_empty())?),
            },
            ("EC", "P-256" | "P-384") => {
                Shape::from_point(&[vec![4], bytes("x")?, bytes("y")?].concat())?
            }
            _ => return None,
        };
        Some(Self {
            id: jwk.text(&["kid"]).to_string(),
            shape,
        })
    }

    /// The algorithm that the server signs with when it has the private half.
    pub fn algorithm(&self) -> &'static str {
        match self.shape {
            Shape::Rsa { .. } => "RS256",
            Shape::P256(_) => "ES256",
            Shape::P384(_) => "ES384",
        }
    }

    /// Appends it to the list of a key set.
    pub(crate) fn write_jwk(&self, doc: &mut Doc, list: api::doc::Id) {
        let object = doc.push(list, New::Object);
        let mut set = |key: &str, value: &str| {
            doc.set(object, key, value);
        };
        set("use", "sig");
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.shape {
            Shape::Rsa { modulus, exponent } => {
                set("kty", "RSA");
                set("kid", &self.id);
                set("alg", self.algorithm());
                set("n", &encode(modulus));
                set("e", &encode(exponent));
            }
            Shape::P256(point) | Shape::P384(point) => {
                let half = point.len() / 2;
                set("kty", "EC");
                set("kid", &self.id);
                set("crv", if half == 32 { "P-256" } else { "P-384" });
                set("alg", self.algorithm());
                set("x", &encode(&point[1..=half]));
                set("y", &encode(&point[half + 1..]));
            }
        }
    }
}

/// Big-endian bytes without leading zeros.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0);
    bytes[start.unwrap_or(bytes.len().saturating_sub(1))..].to_vec()
}

/// Keys by their names.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

impl KeySet {
    /// Keys, each once.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        let mut set = Self::default();
        for key in keys {
            if !set.keys.contains(&key) {
                set.keys.push(key);
            }
        }
        set
    }

    /// A key set as providers publish it; keys that are not supported are left out.
    pub fn from_jwks(jwks: &Doc) -> Self {
        let keys = jwks.root().get("keys");
        let keys = keys.into_iter().flat_map(Node::children);
        Self::new(keys.filter_map(PublicKey::from_jwk).collect())
    }

    /// All of them.
    pub fn all(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Those that a token may be signed by: all of its name, or all if it names none.
    pub fn candidates(&self, key_id: &str) -> Vec<&PublicKey> {
        let keys = self.keys.iter();
        keys.filter(|key| key_id.is_empty() || key.id == key_id)
            .collect()
    }
}

//! The cluster's signing authority: its certificate and key, and the certificates it makes.

use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::Pem;

use super::der;
use super::request::Request;

/// Why an authority cannot be used.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The certificate's file does not hold exactly one certificate.
    #[error("expected 1 certificate, found {0}")]
    Count(usize),
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The key cannot be read, or is of a kind that is not supported.
    #[error("the private key cannot be used: {0}")]
    Key(String),
}

/// Why no certificate was made.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum SignError {
    #[error("unable to verify certificate request signature")]
    Signature,
    #[error("unrecognized usage values: {0:?}")]
    Usages(Vec<String>),
    #[error("the signer has expired: NotAfter={0}")]
    Expired(Timestamp),
    #[error("refusing to sign a certificate that expired in the past: NotAfter={0}")]
    Past(Timestamp),
    #[error("failed to sign certificate")]
    Key,
}

/// For how long and for what a certificate is good.
pub(super) struct Terms<'a> {
    pub(super) life: SignedDuration,
    pub(super) usages: &'a [String],
    pub(super) now: Timestamp,
    /// 128 random bits.
    pub(super) serial: [u8; 16],
}

/// How far back a certificate begins, since clocks differ.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// Certificates with shorter lives get the backdated minutes on top: they are about a hundredth
/// of eight hours.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// An authority that signs leaf certificates.
pub struct Authority {
    key: Key,
    /// The DER of its own subject.
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Authority {
    /// Takes the PEM of a certificate and of its key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Authority, AuthorityError> {
        let blocks: Vec<Pem> = Pem::iter_from_buffer(certificate)
            .filter_map(Result::ok)
            .filter(|block| block.label == "CERTIFICATE")
            .collect();
        let [block] = blocks.as_slice() else {
            return Err(AuthorityError::Count(blocks.len()));
        };
        let parsed = block
            .parse_x509()
            .map_err(|error| AuthorityError::Certificate(error.to_string()))?;
        let key_id =
            parsed
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                });
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|error| AuthorityError::Certificate(error.to_string()))?;
        Ok(Authority {
            key: Key::from_pem(key)?,
            subject: parsed.subject().as_raw().to_vec(),
            key_id,
            not_after,
        })
    }

    /// Makes the certificate that a request asks for, as PEM.
    pub(super) fn sign(&self, request: &Request, terms: &Terms<'_>) -> Result<String, SignError> {
        if !request.is_signed {
            return Err(SignError::Signature);
        }
        let usages = Usages::parse(terms.usages)?;
        let (not_before, not_after) = self.validity(terms)?;
        let algorithm = self.key.algorithm();
        let body = der::sequence([
            der::explicit(0, &der::unsigned(&[2])),
            der::unsigned(&terms.serial),
            algorithm.clone(),
            self.subject.clone(),
            der::sequence([der::time(not_before), der::time(not_after)]),
            request.subject.clone(),
            request.public_key.clone(),
            der::explicit(3, &der::sequence(self.extensions(request, &usages))),
        ]);
        let signature = self.key.sign(&body).ok_or(SignError::Key)?;
        let certificate = der::sequence([body, algorithm, der::bits(&signature)]);
        Ok(pem("CERTIFICATE", &certificate))
    }

    fn validity(&self, terms: &Terms<'_>) -> Result<(Timestamp, Timestamp), SignError> {
        let not_before = terms.now - BACKDATE;
        let life = match terms.life < SHORT {
            true => terms.life,
            false => terms.life - BACKDATE,
        };
        if not_before >= self.not_after {
            return Err(SignError::Expired(self.not_after));
        }
        if terms.now >= self.not_after {
            return Err(SignError::Past(self.not_after));
        }
        Ok((not_before, (terms.now + life).min(self.not_after)))
    }

    fn extensions(&self, request: &Request, usages: &Usages) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        if usages.bits != 0 {
            all.push(extension(&[2, 5, 29, 15], true, &key_usage(usages.bits)));
        }
        if !usages.extended.is_empty() {
            let oids = usages.extended.iter().map(|oid| object_identifier(oid));
            all.push(extension(&[2, 5, 29, 37], false, &der::sequence(oids)));
        }
        let not_an_authority = der::sequence::<[u8; 0]>([]);
        all.push(extension(&[2, 5, 29, 19], true, &not_an_authority));
        if let Some(id) = &self.key_id {
            let id = der::sequence([der::implicit(0, id)]);
            all.push(extension(&[2, 5, 29, 35], false, &id));
        }
        let names = alternative_names(request);
        if !names.is_empty() {
            // Without a subject the names are all there is to identify the holder.
            let is_critical = request.subject == der::sequence::<[u8; 0]>([]);
            all.push(extension(
                &[2, 5, 29, 17],
                is_critical,
                &der::sequence(names),
            ));
        }
        all
    }
}

impl Key {
    fn from_pem(pem: &[u8]) -> Result<Key, AuthorityError> {
        let wrong = |why: &str| AuthorityError::Key(why.into());
        let found = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|error| AuthorityError::Key(error.to_string()))?;
        match &found {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der())
                .map(|key| Key::Rsa(Box::new(key)))
                .map_err(|error| AuthorityError::Key(error.to_string())),
            PrivateKeyDer::Sec1(key) => [P256, P384]
                .iter()
                .find_map(|curve| Key::from_pkcs8(&wrap_sec1(key.secret_sec1_der(), curve)))
                .ok_or_else(|| wrong("an EC key of P-256 or P-384 is expected")),
            PrivateKeyDer::Pkcs8(key) => Key::from_pkcs8(key.secret_pkcs8_der())
                .ok_or_else(|| wrong("an RSA, EC (P-256, P-384) or Ed25519 key is expected")),
            _ => Err(wrong("its format is not known")),
        }
    }

    fn from_pkcs8(key: &[u8]) -> Option<Key> {
        let random = SystemRandom::new();
        let elliptic = |curve| EcdsaKeyPair::from_pkcs8(curve, key, &random).ok();
        if let Ok(rsa) = RsaKeyPair::from_pkcs8(key) {
            return Some(Key::Rsa(Box::new(rsa)));
        }
        if let Some(key) = elliptic(&ECDSA_P256_SHA256_ASN1_SIGNING) {
            return Some(Key::P256(key));
        }
        if let Some(key) = elliptic(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            return Some(Key::P384(key));
        }
        let edwards = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).ok()?;
        Some(Key::Ed25519(edwards))
    }

    /// The DER of the signature's AlgorithmIdentifier.
    fn algorithm(&self) -> Vec<u8> {
        const NULL: [u8; 2] = [0x05, 0x00];
        match self {
            Key::Rsa(_) => der::sequence([
                object_identifier(&[1, 2, 840, 113_549, 1, 1, 11]),
                NULL.to_vec(),
            ]),
            Key::P256(_) => der::sequence([object_identifier(&[1, 2, 840, 10_045, 4, 3, 2])]),
            Key::P384(_) => der::sequence([object_identifier(&[1, 2, 840, 10_045, 4, 3, 3])]),
            Key::Ed25519(_) => der::sequence([object_identifier(&[1, 3, 101, 112])]),
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .ok()?;
                Some(signature)
            }
            Key::P256(key) | Key::P384(key) => {
                let signature = key.sign(&random, message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Key::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
        }
    }
}

const P256: &[u32] = &[1, 2, 840, 10_045, 3, 1, 7];
const P384: &[u32] = &[1, 3, 132, 0, 34];

/// A SEC1 key as PKCS#8.
fn wrap_sec1(key: &[u8], curve: &[u32]) -> Vec<u8> {
    let algorithm = der::sequence([
        object_identifier(&[1, 2, 840, 10_045, 2, 1]),
        object_identifier(curve),
    ]);
    der::sequence([
        der::unsigned(&[0]),
        algorithm,
        der::value(der::OCTET_STRING, key),
    ])
}

/// What the certificate may be used for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usages {
    /// Bit n of RFC 5280's KeyUsage is bit n here.
    bits: u16,
    /// Sorted as upstream sorts them.
    extended: Vec<&'static [u32]>,
}

/// Names of key usages and their bits.
const KEY_USAGES: [(&str, u16); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Names of extended key usages and their object identifiers, in the order they are written.
const EXTENDED_KEY_USAGES: [(&str, &[u32]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

impl Usages {
    fn parse(names: &[String]) -> Result<Usages, SignError> {
        let is_extended = |name: &str| EXTENDED_KEY_USAGES.iter().any(|(known, _)| *known == name);
        let mut usages = Usages::default();
        let mut unknown = Vec::new();
        for name in names {
            match KEY_USAGES.iter().find(|(known, _)| known == name) {
                Some((_, bit)) => usages.bits |= 1 << bit,
                None if is_extended(name) => {}
                None => unknown.push(name.clone()),
            }
        }
        if !unknown.is_empty() {
            return Err(SignError::Usages(unknown));
        }
        for (name, oid) in EXTENDED_KEY_USAGES {
            if names.iter().any(|asked| asked == name) && !usages.extended.contains(&oid) {
                usages.extended.push(oid);
            }
        }
        Ok(usages)
    }
}

/// The BIT STRING of a KeyUsage: its first bit is the highest of the first byte, and zeros at the
/// end are left out.
fn key_usage(bits: u16) -> Vec<u8> {
    let reversed = bits.reverse_bits().to_be_bytes();
    let used = if reversed[1] == 0 {
        &reversed[..1]
    } else {
        &reversed[..]
    };
    let unused = used.last().map_or(0, |byte| byte.trailing_zeros() as u8);
    der::value(der::BIT_STRING, &[&[unused][..], used].concat())
}

fn extension(oid: &[u32], is_critical: bool, content: &[u8]) -> Vec<u8> {
    let critical = if is_critical {
        der::BOOLEAN_TRUE.to_vec()
    } else {
        Vec::new()
    };
    der::sequence([
        object_identifier(oid),
        critical,
        der::value(der::OCTET_STRING, content),
    ])
}

fn alternative_names(request: &Request) -> Vec<Vec<u8>> {
    let text = |tag: u8, names: &[String]| -> Vec<Vec<u8>> {
        let name = |name: &String| der::implicit(tag, name.as_bytes());
        names.iter().map(name).collect()
    };
    let mut names = text(2, &request.dns_names);
    names.extend(text(1, &request.email_addresses));
    names.extend(request.ip_addresses.iter().map(|ip| der::implicit(7, ip)));
    names.extend(text(6, &request.uris));
    names
}

fn object_identifier(components: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut push = |component: u32| {
        let digits = (0..5).map(|n| ((component >> (7 * (4 - n))) & 0x7f) as u8);
        let digits: Vec<u8> = digits.skip_while(|digit| *digit == 0).collect();
        let Some((last, rest)) = digits.split_last() else {
            out.push(0);
            return;
        };
        out.extend(rest.iter().map(|digit| digit | 0x80));
        out.push(*last);
    };
    if let [first, second, rest @ ..] = components {
        push(first * 40 + second);
        rest.iter().for_each(|component| push(*component));
    }
    der::value(der::OBJECT_IDENTIFIER, &out)
}

fn pem(label: &str, content: &[u8]) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let text = STANDARD.encode(content);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

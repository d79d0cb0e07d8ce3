//! How a machine that joins learns which cluster it talks to: what everyone may read is believed only
//! if it is signed with the token and holds an authority that the operator pinned.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::bootstrap_token::{KUBECONFIG_KEY, SIGNATURE_PREFIX, Token};
use ring::digest::{SHA256, digest};
use serde_yaml_ng::Value;
use thiserror::Error;
use x509_parser::pem::Pem;

/// The hash of an authority's public key: `sha256:` and 64 hexadecimal digits, as kubeadm has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin(String);

/// Why what was read is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DiscoveryError {
    /// There is nothing to believe.
    #[error("the cluster publishes nothing to join by: run `trireme token create` on a master")]
    Nothing,
    /// The token signed nothing: it has ended, or is another cluster's.
    #[error("the cluster does not know the token {0} (any more): have a new one made")]
    Unknown(String),
    /// Somebody signed with another secret.
    #[error(
        "what the cluster publishes is not signed with the token: this may be another cluster, or an attack"
    )]
    Forged,
    /// It is signed, and its authority is not the one that was pinned.
    #[error(
        "no authority of the cluster has a pin that was given: this may be another cluster, or an attack"
    )]
    Unpinned,
    /// It is signed, and makes no sense.
    #[error("what the cluster publishes cannot be used: {0}")]
    Content(String),
    /// A pin that is none.
    #[error("a pin looks like sha256: and 64 hexadecimal digits")]
    NotAPin,
}

impl Pin {
    /// The pin of each certificate in a PEM file.
    pub fn of(authority: &[u8]) -> Vec<Pin> {
        let blocks = Pem::iter_from_buffer(authority).filter_map(Result::ok);
        let pins = blocks.filter_map(|block| {
            let parsed = block.parse_x509().ok()?;
            let hash = digest(&SHA256, parsed.public_key().raw);
            let digits = hash.as_ref().iter();
            Some(Pin(digits.fold("sha256:".to_string(), |text, byte| {
                format!("{text}{byte:02x}")
            })))
        });
        pins.collect()
    }
}

impl FromStr for Pin {
    type Err = DiscoveryError;

    fn from_str(text: &str) -> Result<Pin, DiscoveryError> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.strip_prefix("sha256:").unwrap_or_default();
        match digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            true => Ok(Pin(lower)),
            false => Err(DiscoveryError::NotAPin),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The cluster that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where its API is.
    pub server: String,
    /// The authorities of its certificate, as PEM.
    pub authority: Vec<u8>,
}

/// Judges the data of the ConfigMap `cluster-info`. Without pins the signature alone decides, which
/// everyone who knows the token can make.
///
/// # Errors
/// Why it is not believed.
pub fn judge(
    data: &BTreeMap<String, String>,
    token: &Token,
    pins: &[Pin],
) -> Result<Found, DiscoveryError> {
    let content = data.get(KUBECONFIG_KEY).ok_or(DiscoveryError::Nothing)?;
    let signature = data
        .get(&format!("{SIGNATURE_PREFIX}{}", token.id))
        .ok_or_else(|| DiscoveryError::Unknown(token.id.clone()))?;
    if !token.has_signed(content, signature) {
        return Err(DiscoveryError::Forged);
    }
    let found = parse(content)?;
    let known = Pin::of(&found.authority);
    match pins.is_empty() || pins.iter().any(|pin| known.contains(pin)) {
        true => Ok(found),
        false => Err(DiscoveryError::Unpinned),
    }
}

/// The only cluster of a kubeconfig.
fn parse(content: &str) -> Result<Found, DiscoveryError> {
    let wrong = |why: &str| DiscoveryError::Content(why.into());
    let file: Value =
        serde_yaml_ng::from_str(content).map_err(|error| wrong(&error.to_string()))?;
    let cluster = &file["clusters"][0]["cluster"];
    let server = cluster["server"].as_str();
    let server = server.ok_or_else(|| wrong("it names no server"))?;
    let authority = cluster["certificate-authority-data"].as_str();
    let authority = authority.and_then(|text| STANDARD.decode(text).ok());
    Ok(Found {
        server: server.into(),
        authority: authority.ok_or_else(|| wrong("it holds no authority"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig::{Credentials, Entry};
    use crate::pki::Authority;

    #[test]
    fn a_cluster_is_believed_by_signature_and_pin() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let authority = Authority::open_or_create(dir.path(), name, "kubernetes").unwrap();
            std::fs::read(authority.certificate()).unwrap()
        };
        let (ca, other) = (read("ca"), read("other"));
        let entry = Entry {
            name: "trireme".into(),
            server: "https://10.0.0.1:6443".into(),
            authority: ca.clone(),
            user: Credentials::Nobody,
        };
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let content = entry.text();
        let signature = token.sign(&content);
        let mut data = BTreeMap::from([
            (KUBECONFIG_KEY.to_string(), content.clone()),
            ("jws-kubeconfig-abcdef".to_string(), signature),
        ]);
        let pins = Pin::of(&ca);
        let found = judge(&data, &token, &pins).unwrap();
        assert_eq!(
            (found.server.as_str(), &found.authority),
            ("https://10.0.0.1:6443", &ca)
        );
        assert_eq!(pins[0].to_string().parse(), Ok(pins[0].clone()));
        assert_eq!(
            judge(&data, &token, &Pin::of(&other)),
            Err(DiscoveryError::Unpinned)
        );
        let stranger: Token = "zzzzzz.0123456789abcdef".parse().unwrap();
        assert_eq!(
            judge(&data, &stranger, &pins),
            Err(DiscoveryError::Unknown("zzzzzz".into()))
        );
        let guesser: Token = "abcdef.0000000000000000".parse().unwrap();
        assert_eq!(judge(&data, &guesser, &pins), Err(DiscoveryError::Forged));
        data.insert(
            KUBECONFIG_KEY.into(),
            content.replace("10.0.0.1", "10.6.6.6"),
        );
        assert_eq!(judge(&data, &token, &pins), Err(DiscoveryError::Forged));
        assert_eq!(
            judge(&BTreeMap::new(), &token, &pins),
            Err(DiscoveryError::Nothing)
        );
    }
}

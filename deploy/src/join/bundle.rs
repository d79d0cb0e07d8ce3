//! What one master hands to another: the authorities and the key of service accounts, sealed with a
//! key that is told to the operator and stored nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use seams::Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The key that opens a bundle: 32 bytes, written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct BundleKey([u8; 32]);

/// A bundle that cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BundleError {
    /// The key is no key.
    #[error("a certificate key has 64 hexadecimal digits")]
    Key,
    /// It is another bundle's key, or the bundle was changed.
    #[error("the certificate key does not open what the cluster holds: have a new one made")]
    Sealed,
    /// What is in it cannot be read.
    #[error("the bundle was written by another version of this program")]
    Content,
}

/// What a master needs from the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Of this format.
    pub format: u32,
    /// Files by their names below the directory of certificates.
    pub files: BTreeMap<String, String>,
    /// Where peers of the store reach its members.
    pub peer_urls: Vec<String>,
}

/// The format of bundles that this version writes.
pub const FORMAT: u32 = 1;

impl BundleKey {
    /// Draws a key.
    pub fn generate(rng: &dyn Rng) -> BundleKey {
        let mut key = [0; 32];
        rng.fill(&mut key);
        BundleKey(key)
    }

    fn cipher(&self) -> Result<LessSafeKey, BundleError> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0).map_err(|_| BundleError::Key)?;
        Ok(LessSafeKey::new(key))
    }
}

impl FromStr for BundleKey {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<BundleKey, BundleError> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
            .collect();
        let digits = digits.ok_or(BundleError::Key)?;
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|two| two[0] << 4 | two[1])
            .collect();
        match (digits.len(), bytes.try_into()) {
            (64, Ok(bytes)) => Ok(BundleKey(bytes)),
            _ => Err(BundleError::Key),
        }
    }
}

impl fmt::Display for BundleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Logs do not get it.
impl fmt::Debug for BundleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BundleKey(…)")
    }
}

impl Bundle {
    /// Seals the bundle: a nonce, then AES-256-GCM.
    ///
    /// # Errors
    /// If it cannot be written, which does not happen.
    pub fn seal(&self, key: &BundleKey, rng: &dyn Rng) -> Result<Vec<u8>, BundleError> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut sealed = serde_json::to_vec(self).map_err(|_| BundleError::Content)?;
        key.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .map_err(|_| BundleError::Sealed)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens a sealed bundle.
    ///
    /// # Errors
    /// If the key is not its key, or its format is not known.
    pub fn open(sealed: &[u8], key: &BundleKey) -> Result<Bundle, BundleError> {
        let (nonce, rest) = sealed
            .split_at_checked(NONCE_LEN)
            .ok_or(BundleError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| BundleError::Sealed)?;
        let mut rest = rest.to_vec();
        let plain = key
            .cipher()?
            .open_in_place(nonce, Aad::empty(), &mut rest)
            .map_err(|_| BundleError::Sealed)?;
        let bundle: Bundle = serde_json::from_slice(plain).map_err(|_| BundleError::Content)?;
        match bundle.format {
            FORMAT => Ok(bundle),
            _ => Err(BundleError::Content),
        }
    }
}

#[cfg(test)]
mod tests {
    use seams::SeededRng;

    use super::*;

    #[test]
    fn only_its_key_opens_a_bundle() {
        let rng = SeededRng::new(1);
        let (key, other) = (BundleKey::generate(&rng), BundleKey::generate(&rng));
        let bundle = Bundle {
            format: FORMAT,
            files: BTreeMap::from([("ca.key".into(), "secret".into())]),
            ..Bundle::default()
        };
        let mut sealed = bundle.seal(&key, &rng).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        assert_eq!(Bundle::open(&sealed, &key), Ok(bundle));
        assert_eq!(Bundle::open(&sealed, &other), Err(BundleError::Sealed));
        sealed[20] ^= 1;
        assert_eq!(Bundle::open(&sealed, &key), Err(BundleError::Sealed));
        assert_eq!("12".parse::<BundleKey>(), Err(BundleError::Key));
    }
}

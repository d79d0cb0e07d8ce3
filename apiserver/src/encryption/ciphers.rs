//! The ciphers whose keys the server has: bytes in, bytes out, as kube-apiserver writes them.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, KeyIvInit};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use seams::Rng;

/// The size of a block of AES, and of what comes before CBC's first.
const BLOCK: usize = 16;
const SECRETBOX_NONCE: usize = 24;
/// The size of a seed, of the keys made from it, and of what is stored to make them again.
pub const SEED: usize = 32;

/// A cipher with its key.
pub enum Cipher {
    /// AES in Galois counter mode: a random nonce, then the sealed data.
    AesGcm(Box<LessSafeKey>),
    /// AES in cipher block chaining: a random first block, then padded data. Nothing protects the
    /// data from changes, so that it is only read.
    AesCbc(Vec<u8>),
    /// NaCl's secretbox: a random nonce, then the sealed data.
    Secretbox(Box<XSalsa20Poly1305>),
    /// AES-GCM with a key for every object, derived from a seed and random bytes, which come first.
    Seeded(Box<Prk>),
}

impl Cipher {
    /// AES-GCM; keys have 16 or 32 bytes.
    ///
    /// # Errors
    ///
    /// If the key has another size.
    pub fn aes_gcm(key: &[u8]) -> Result<Self, String> {
        Ok(Self::AesGcm(Box::new(gcm_key(key)?)))
    }

    /// AES-CBC; keys have 16, 24 or 32 bytes.
    ///
    /// # Errors
    ///
    /// If the key has another size.
    pub fn aes_cbc(key: &[u8]) -> Result<Self, String> {
        match key.len() {
            16 | 24 | 32 => Ok(Self::AesCbc(key.to_vec())),
            other => Err(format!(
                "keys of AES-CBC have 16, 24 or 32 bytes, not {other}"
            )),
        }
    }

    /// Secretbox; keys have 32 bytes.
    ///
    /// # Errors
    ///
    /// If the key has another size.
    pub fn secretbox(key: &[u8]) -> Result<Self, String> {
        let cipher = XSalsa20Poly1305::new_from_slice(key);
        let cipher =
            cipher.map_err(|_| format!("keys of secretbox have 32 bytes, not {}", key.len()))?;
        Ok(Self::Secretbox(Box::new(cipher)))
    }

    /// Keys from a seed.
    ///
    /// # Errors
    ///
    /// If the seed is too short.
    pub fn seeded(seed: &[u8]) -> Result<Self, String> {
        if seed.len() < SEED {
            return Err(format!(
                "invalid seed length {} used for key generation",
                seed.len()
            ));
        }
        Ok(Self::Seeded(Box::new(Prk::new_less_safe(
            HKDF_SHA256,
            seed,
        ))))
    }

    /// Encrypts data that belongs to a key of the store.
    ///
    /// # Errors
    ///
    /// If the cipher is for reading only.
    pub fn seal(&self, data: &[u8], belongs_to: &[u8], rng: &dyn Rng) -> Result<Vec<u8>, String> {
        match self {
            Self::AesGcm(key) => gcm_seal(key, data, belongs_to, rng, Vec::new()),
            Self::AesCbc(_) => Err("aescbc is read and not written".to_string()),
            Self::Secretbox(cipher) => {
                let mut out = vec![0; SECRETBOX_NONCE];
                rng.fill(&mut out);
                let sealed = cipher.encrypt(out.as_slice().into(), data);
                out.extend(sealed.map_err(|error| error.to_string())?);
                Ok(out)
            }
            Self::Seeded(seed) => {
                let mut info = vec![0; SEED];
                rng.fill(&mut info);
                let key = derive(seed, &info)?;
                gcm_seal(&key, data, belongs_to, rng, info)
            }
        }
    }

    /// Decrypts data that belongs to a key of the store.
    ///
    /// # Errors
    ///
    /// If it was not encrypted with this key, or not for this place.
    pub fn open(&self, data: &[u8], belongs_to: &[u8]) -> Result<Vec<u8>, String> {
        let short = || "the stored data was shorter than the required size".to_string();
        match self {
            Self::AesGcm(key) => gcm_open(key, data, belongs_to),
            Self::AesCbc(key) => {
                let (first, data) = data.split_at_checked(BLOCK).ok_or_else(short)?;
                cbc_open(key, first, data)
            }
            Self::Secretbox(cipher) => {
                let (nonce, data) = data.split_at_checked(SECRETBOX_NONCE).ok_or_else(short)?;
                let opened = cipher.decrypt(nonce.into(), data);
                opened.map_err(|_| "the stored data cannot be decrypted".to_string())
            }
            Self::Seeded(seed) => {
                let (info, data) = data.split_at_checked(SEED).ok_or_else(short)?;
                gcm_open(&derive(seed, info)?, data, belongs_to)
            }
        }
    }
}

fn gcm_key(key: &[u8]) -> Result<LessSafeKey, String> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        32 => &AES_256_GCM,
        other => return Err(format!("keys of AES-GCM have 16 or 32 bytes, not {other}")),
    };
    let key = UnboundKey::new(algorithm, key).map_err(|error| error.to_string())?;
    Ok(LessSafeKey::new(key))
}

fn gcm_seal(
    key: &LessSafeKey,
    data: &[u8],
    belongs_to: &[u8],
    rng: &dyn Rng,
    mut out: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let mut nonce = [0; NONCE_LEN];
    rng.fill(&mut nonce);
    let mut sealed = data.to_vec();
    let nonce_of = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce_of, Aad::from(belongs_to), &mut sealed)
        .map_err(|error| error.to_string())?;
    out.extend(nonce);
    out.extend(sealed);
    Ok(out)
}

fn gcm_open(key: &LessSafeKey, data: &[u8], belongs_to: &[u8]) -> Result<Vec<u8>, String> {
    let failed = || "cipher: message authentication failed".to_string();
    let (nonce, data) = data.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
    let mut data = data.to_vec();
    let opened = key.open_in_place(nonce, Aad::from(belongs_to), &mut data);
    let len = opened.map_err(|_| failed())?.len();
    data.truncate(len);
    Ok(data)
}

fn cbc_open(key: &[u8], first: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
    let failed = || "invalid padding on input".to_string();
    let opened = match key.len() {
        16 => cbc::Decryptor::<aes::Aes128>::new_from_slices(key, first)
            .map(|cipher| cipher.decrypt_padded_vec_mut::<Pkcs7>(data)),
        24 => cbc::Decryptor::<aes::Aes192>::new_from_slices(key, first)
            .map(|cipher| cipher.decrypt_padded_vec_mut::<Pkcs7>(data)),
        _ => cbc::Decryptor::<aes::Aes256>::new_from_slices(key, first)
            .map(|cipher| cipher.decrypt_padded_vec_mut::<Pkcs7>(data)),
    };
    opened.map_err(|_| failed())?.map_err(|_| failed())
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        SEED
    }
}

fn derive(seed: &Prk, info: &[u8]) -> Result<LessSafeKey, String> {
    let mut key = [0; SEED];
    let info = [info];
    let made = seed.expand(&info, KeyLength);
    made.and_then(|made| made.fill(&mut key))
        .map_err(|error| error.to_string())?;
    gcm_key(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::cipher::BlockEncryptMut;

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn what_was_sealed_is_opened_in_its_place_only() {
        let rng = seams::SeededRng::new(1);
        let ciphers = [
            (Cipher::aes_gcm(&[1; 16]).unwrap(), 28, true),
            (Cipher::aes_gcm(&[1; 32]).unwrap(), 28, true),
            (Cipher::secretbox(&[1; 32]).unwrap(), 40, false),
            (Cipher::seeded(&[1; 32]).unwrap(), 60, true),
        ];
        for (cipher, more, is_bound) in ciphers {
            let sealed = cipher.seal(b"secret", b"/registry/a", &rng).unwrap();
            assert_eq!(sealed.len(), 6 + more);
            assert_eq!(cipher.open(&sealed, b"/registry/a").unwrap(), b"secret");
            assert_eq!(cipher.open(&sealed, b"/registry/b").is_err(), is_bound);
            let again = cipher.seal(b"secret", b"/registry/a", &rng).unwrap();
            assert_ne!(sealed, again);
            let mut changed = sealed.clone();
            changed[more - 1] ^= 1;
            assert!(cipher.open(&changed, b"/registry/a").is_err());
            assert!(cipher.open(&sealed[..10], b"/registry/a").is_err());
        }
    }

    #[test]
    fn secretbox_is_nacls() {
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let stored = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37\
             f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476f\
             b8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee3\
             14a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5\
             f9b37973f622a43d14a6599b1f654cb45a74e355a5");
        let opened = Cipher::secretbox(&key).unwrap().open(&stored, b"").unwrap();
        assert_eq!(opened[..8], hex("be075fc53c81f2d5"));
        assert_eq!(opened.len(), 131);
    }

    #[test]
    fn cbc_is_read() {
        let (key, first) = ([7; 32], [9; 16]);
        let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(&key, &first).unwrap();
        let mut stored = first.to_vec();
        stored.extend(cipher.encrypt_padded_vec_mut::<Pkcs7>(b"sixteen bytes ok"));
        let cipher = Cipher::aes_cbc(&key).unwrap();
        assert_eq!(cipher.open(&stored, b"x").unwrap(), b"sixteen bytes ok");
        assert!(cipher.open(&stored[..40], b"x").is_err());
        assert!(cipher.seal(b"a", b"x", &seams::SeededRng::new(1)).is_err());
    }

    #[test]
    fn keys_have_their_sizes() {
        assert!(Cipher::aes_gcm(&[0; 24]).is_err());
        assert!(Cipher::aes_cbc(&[0; 8]).is_err());
        assert!(Cipher::secretbox(&[0; 16]).is_err());
        assert!(Cipher::seeded(&[0; 31]).is_err());
    }
}

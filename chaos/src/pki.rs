//! Certificates for one run: one authority, one certificate for every member and client.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::client::Tls;

/// Makes an authority and a certificate for these addresses, as files in `dir`.
///
/// # Errors
///
/// When a key cannot be made or a file not be written.
pub fn make(dir: &Path, addresses: &[IpAddr]) -> Result<Tls> {
    std::fs::create_dir_all(dir)?;
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let ca = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let names = addresses.iter().map(IpAddr::to_string);
    let mut leaf = CertificateParams::new(names.collect::<Vec<_>>())?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = leaf.signed_by(&key, &issuer)?;

    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        anyhow::Ok(path)
    };
    Ok(Tls {
        ca: write("ca.crt", ca.pem())?,
        cert: write("node.crt", certificate.pem())?,
        key: write("node.key", key.serialize_pem())?,
    })
}

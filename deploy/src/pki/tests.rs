//! Tests of certificates.

use super::*;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn request(usage: Usage) -> Request {
    Request {
        common_name: "m1".into(),
        organizations: vec!["members".into()],
        names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
        usage,
        life: LEAF_LIFE,
    }
}

struct Side {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn side(pair: &Pair) -> Side {
    let chain = vec![CertificateDer::from_pem_file(&pair.cert).unwrap()];
    Side {
        chain,
        key: PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
    }
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.certificate()).unwrap())
        .unwrap();
    Arc::new(roots)
}

/// A mutual TLS handshake in memory.
fn handshake(
    authority: &Authority,
    server: &Pair,
    client: &Pair,
    name: &str,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority), provider.clone())
        .build()
        .unwrap();
    let server = side(server);
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain, server.key)
        .unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let client = side(client);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(authority))
        .with_client_auth_cert(client.chain, client.key)
        .unwrap();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

#[test]
fn certificates_work_for_what_they_were_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), "ca", "test authority").unwrap();
    let make = |name: &str, usage| authority.ensure(dir.path(), name, &request(usage)).unwrap();
    let (server, client, peer) = (
        make("server", Usage::Server),
        make("client", Usage::Client),
        make("peer", Usage::Peer),
    );
    for name in ["localhost", "127.0.0.1", "::1"] {
        handshake(&authority, &server, &client, name).unwrap();
    }
    handshake(&authority, &peer, &peer, "localhost").unwrap();
    assert!(
        handshake(&authority, &server, &server, "localhost").is_err(),
        "no client"
    );
    assert!(
        handshake(&authority, &client, &client, "localhost").is_err(),
        "no server"
    );
    assert!(
        handshake(&authority, &server, &client, "elsewhere").is_err(),
        "other name"
    );
}

#[test]
fn certificates_of_another_authority_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let one = Authority::open_or_create(dir.path(), "ca", "test authority").unwrap();
    let other = Authority::open_or_create(dir.path(), "other-ca", "test authority").unwrap();
    let server = one
        .ensure(dir.path(), "server", &request(Usage::Server))
        .unwrap();
    let stranger = other
        .ensure(dir.path(), "client", &request(Usage::Client))
        .unwrap();
    assert!(handshake(&one, &server, &stranger, "localhost").is_err());
}

#[test]
fn what_exists_is_never_overwritten_and_keys_are_secret() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let everything = || {
        let authority = Authority::open_or_create(&pki, "ca", "test authority").unwrap();
        authority.ensure(&pki, "m1", &request(Usage::Peer)).unwrap();
        ["ca.crt", "ca.key", "m1.crt", "m1.key"].map(|f| fs::read(pki.join(f)).unwrap())
    };
    assert_eq!(everything(), everything());
    for key in ["ca.key", "m1.key"] {
        let mode = fs::metadata(pki.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn half_a_pair_and_a_strange_key_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), "ca", "test authority").unwrap();
    let pair = authority
        .ensure(dir.path(), "m1", &request(Usage::Peer))
        .unwrap();
    fs::copy(dir.path().join("ca.key"), &pair.key).unwrap();
    let late = SystemTime::now() + LEAF_LIFE;
    let error = authority
        .renew(&pair, &request(Usage::Peer), late)
        .unwrap_err();
    assert!(
        error.to_string().contains("it is not the key of"),
        "{error}"
    );
    fs::remove_file(&pair.key).unwrap();
    let error = authority
        .ensure(dir.path(), "m1", &request(Usage::Peer))
        .unwrap_err();
    assert!(matches!(error, PkiError::Half { .. }), "{error}");
}

#[test]
fn a_leaf_is_no_authority() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), "ca", "test authority").unwrap();
    let leaf = authority
        .ensure(dir.path(), "m1", &request(Usage::Peer))
        .unwrap();
    assert!(matches!(
        Authority::open(leaf),
        Err(PkiError::Content { .. })
    ));
}

#[test]
fn renewal_waits_until_it_is_due_and_keeps_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), "ca", "test authority").unwrap();
    let short = Request {
        life: 30 * DAY,
        ..request(Usage::Peer)
    };
    let pair = authority.ensure(dir.path(), "m1", &short).unwrap();
    let (cert, key) = (fs::read(&pair.cert).unwrap(), fs::read(&pair.key).unwrap());
    let now = SystemTime::now();
    assert!(!authority.renew(&pair, &short, now + 19 * DAY).unwrap());
    assert_eq!(fs::read(&pair.cert).unwrap(), cert);
    assert!(
        authority
            .renew(&pair, &request(Usage::Peer), now + 21 * DAY)
            .unwrap()
    );
    assert_ne!(fs::read(&pair.cert).unwrap(), cert);
    assert_eq!(fs::read(&pair.key).unwrap(), key);
    assert!(Validity::of(&pair.cert).unwrap().until > now + 300 * DAY);
    handshake(&authority, &pair, &pair, "localhost").unwrap();
}

#[test]
fn a_name_that_is_missing_is_reason_to_renew() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), "ca", "test authority").unwrap();
    let mut request = request(Usage::Peer);
    let pair = authority.ensure(dir.path(), "m1", &request).unwrap();
    let now = SystemTime::now();
    for name in ["192.0.2.1", "2001:db8::1", "elsewhere"] {
        request.names.push(name.to_string());
        assert!(authority.renew(&pair, &request, now).unwrap(), "{name}");
        assert!(!authority.renew(&pair, &request, now).unwrap(), "{name}");
    }
}

#[test]
fn what_a_server_shows_says_the_same_as_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), "ca", "test").unwrap();
    let text = fs::read_to_string(authority.certificate()).unwrap();
    let (_, pem) = parse_x509_pem(text.as_bytes()).unwrap();
    let of_file = Validity::of(authority.certificate()).unwrap();
    assert_eq!(Validity::of_der(&pem.contents), Ok(of_file));
    assert!(Validity::of_der(b"x").is_err());
    let life = of_file.until.duration_since(of_file.from).unwrap();
    assert!(!of_file.is_overdue(of_file.until - life / 9));
    assert!(of_file.is_overdue(of_file.until - life / 11));
}

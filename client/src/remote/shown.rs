//! The certificate that a server shows, whoever signed it and however old it is: for those who look after
//! certificates.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_pki_types::ServerName;
use seams::Net;
use tokio_rustls::TlsConnector;

use super::any_server::AnyServer;

/// Shakes hands with a server at `HOST:PORT` and hangs up; yields its certificate in DER. Nothing is
/// shown to it, so it may refuse, but only after it has shown its own. The caller brings the deadline.
///
/// # Errors
///
/// If it cannot be reached, or does not speak TLS.
pub async fn certificate(server: &str, net: &dyn Net) -> io::Result<Vec<u8>> {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer::new()));
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let stream = net.connect(server).await?;
    let stream = connector.connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let first = shown.and_then(|chain| chain.first());
    let first = first.ok_or_else(|| io::Error::other("no certificate is shown"))?;
    Ok(first.to_vec())
}

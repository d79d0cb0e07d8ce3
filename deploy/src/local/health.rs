//! Whether a member serves: its `/health`, which is true once a linearizable read succeeds.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::values::Url;
use crate::pki::Pair;

/// A member answers within milliseconds, or waits for a leader.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Answers are some hundred bytes, but for lists of nodes.
const ANSWER_MAX: u64 = 64 << 20;

/// A list as a table of its columns.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Asks members for their health; with a certificate where they want one.
#[derive(Clone)]
pub struct Probe {
    tls: Option<TlsConnector>,
}

impl Probe {
    /// A probe of members that serve plain text.
    pub fn plain() -> Probe {
        Probe { tls: None }
    }

    /// A probe that connects with a certificate.
    ///
    /// # Errors
    /// Text saying which file cannot be used.
    pub fn with_certificate(authority: &Path, pair: &Pair) -> Result<Probe, String> {
        let wrong = |path: &Path, error: &dyn std::fmt::Display| {
            format!("{} cannot be used: {error}", path.display())
        };
        let mut roots = RootCertStore::empty();
        for certificate in
            CertificateDer::pem_file_iter(authority).map_err(|e| wrong(authority, &e))?
        {
            let certificate = certificate.map_err(|e| wrong(authority, &e))?;
            roots.add(certificate).map_err(|e| wrong(authority, &e))?;
        }
        let chain = CertificateDer::pem_file_iter(&pair.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| wrong(&pair.cert, &e))?;
        let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|e| wrong(&pair.key, &e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_root_certificates(roots)
                    .with_client_auth_cert(chain, key)
            })
            .map_err(|e| wrong(&pair.cert, &e))?;
        Ok(Probe {
            tls: Some(TlsConnector::from(Arc::new(config))),
        })
    }

    /// Whether the member at a client URL serves.
    ///
    /// # Errors
    /// Text saying why it does not.
    pub async fn check(&self, url: &Url) -> Result<(), String> {
        judge(&self.ask(url, "/health").await?)
    }

    /// Whether the API server at a URL is ready.
    ///
    /// # Errors
    /// Text saying why it is not.
    pub async fn check_api(&self, url: &Url) -> Result<(), String> {
        let answer = self.ask(url, "/readyz").await?;
        match status(&answer).as_deref() {
            Some("200") => Ok(()),
            other => Err(format!(
                "the API is not ready: {}",
                other.unwrap_or("no answer")
            )),
        }
    }

    /// How many nodes an API server knows to be ready.
    ///
    /// # Errors
    /// Text saying why it does not tell.
    pub async fn ready_nodes(&self, url: &Url) -> Result<usize, String> {
        let answer = self.ask(url, "/api/v1/nodes?includeObject=None").await?;
        let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let body = body.map_or(&answer[..0], |at| &answer[at + 4..]);
        let table: serde_json::Value =
            serde_json::from_slice(body).map_err(|error| format!("no list of nodes: {error}"))?;
        let rows = table["rows"].as_array().map(Vec::as_slice);
        // Of a node's columns, the second is its status, such as `Ready,SchedulingDisabled`.
        let is_ready = |row: &&serde_json::Value| {
            let status = row["cells"][1].as_str().unwrap_or_default();
            status.split(',').any(|word| word == "Ready")
        };
        Ok(rows.unwrap_or_default().iter().filter(is_ready).count())
    }

    /// The first of some paths at which an API server has nothing.
    ///
    /// # Errors
    /// Text saying why it does not tell.
    pub async fn lacks<'p>(&self, url: &Url, paths: &[&'p str]) -> Result<Option<&'p str>, String> {
        for path in paths {
            match status(&self.ask(url, path).await?).as_deref() {
                Some("200") => {}
                Some("404") => return Ok(Some(path)),
                other => return Err(format!("{path}: {}", other.unwrap_or("no answer"))),
            }
        }
        Ok(None)
    }

    async fn ask(&self, url: &Url, path: &str) -> Result<Vec<u8>, String> {
        match timeout(TIMEOUT, self.get(url, path)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }

    async fn get(&self, url: &Url, path: &str) -> io::Result<Vec<u8>> {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
        match &self.tls {
            None => exchange(stream, url, path).await,
            Some(tls) => {
                let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
                exchange(tls.connect(name, stream).await?, url, path).await
            }
        }
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    url: &Url,
    path: &str,
) -> io::Result<Vec<u8>> {
    let host = url.authority();
    // In this version bodies come whole.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {TABLE}, */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_MAX).read_to_end(&mut answer).await {
        // Some servers close the connection without TLS's own farewell.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        read => drop(read?),
    }
    Ok(answer)
}

/// The code of an answer.
fn status(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let code = text.lines().next()?.split(' ').nth(1)?;
    Some(code.to_string())
}

/// Reads `{"health":"true"}`, or the reason in `{"health":"false","reason":"…"}`.
fn judge(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or("the answer is not HTTP")?;
    let object = body
        .find('{')
        .zip(body.rfind('}'))
        .map(|(from, to)| &body[from..=to]);
    let json: Option<serde_json::Value> = object.and_then(|o| serde_json::from_str(o).ok());
    let field = |name: &str| Some(json.as_ref()?.get(name)?.as_str()?.to_string());
    if field("health").as_deref() == Some("true") {
        return Ok(());
    }
    let status = head.lines().next().unwrap_or_default().to_string();
    Err(field("reason")
        .filter(|reason| !reason.is_empty())
        .unwrap_or(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let ok = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}";
        assert_eq!(judge(ok), Ok(()));
        let chunked = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n11\r\n{\"health\":\"true\"}\r\n0\r\n\r\n";
        assert_eq!(judge(chunked), Ok(()));
        let no = b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"health\":\"false\",\"reason\":\"no leader\"}";
        assert_eq!(judge(no), Err("no leader".into()));
        assert_eq!(
            judge(b"HTTP/1.1 404 Not Found\r\n\r\n"),
            Err("HTTP/1.1 404 Not Found".into())
        );
        assert!(judge(b"SSH-2.0").is_err());
        assert_eq!(
            status(b"HTTP/1.0 404 Not Found\r\n\r\n").as_deref(),
            Some("404")
        );
        assert_eq!(status(b""), None);
    }
}

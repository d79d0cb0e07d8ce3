//! A node double: what a kubelet and the pods of its node answer, over TLS and plain.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use seams::{BoxedStream, Listener, Net, RealNet, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::spdy;
use crate::body::{Body, Pieces};

/// Where the node says that it is.
pub(super) const ADDRESS: &str = "10.0.0.9";

/// A network in which [`ADDRESS`] is this machine.
pub(super) struct NodeNet;

#[async_trait]
impl Net for NodeNet {
    async fn connect(&self, addr: &str) -> io::Result<BoxedStream> {
        RealNet.connect(&addr.replace(ADDRESS, "127.0.0.1")).await
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        RealNet.resolve(host).await
    }

    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        RealNet.listen(addr).await
    }
}

/// Authorities and certificates, in files.
pub(super) struct Pki {
    pub(super) dir: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

impl Pki {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |usage: ExtendedKeyUsagePurpose| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![ADDRESS.to_string()]).unwrap();
            params.extended_key_usages = vec![usage];
            (params.signed_by(&key, &ca).unwrap(), key)
        };
        let (client, client_key) = issue(ExtendedKeyUsagePurpose::ClientAuth);
        let (server, server_key) = issue(ExtendedKeyUsagePurpose::ServerAuth);
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca", ca.pem()),
            ("crt", client.pem()),
            ("key", client_key.serialize_pem()),
        ] {
            #[expect(clippy::disallowed_methods, reason = "a file of a test")]
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let key = server_key.serialize_pem();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        Self {
            dir,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Serves the kubelet's endpoints over TLS, or those of a pod plain; returns the port.
pub(super) async fn serve(tls: Option<&Pki>, tasks: &Tasks) -> u16 {
    let mut listener = RealNet.listen("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, owner) = (tls.map(|pki| pki.acceptor.clone()), tasks.clone());
    tasks.spawn("node", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = owner.cancelled() => return,
            };
            let (stream, _): (BoxedStream, SocketAddr) = accepted.unwrap();
            let (acceptor, tasks) = (acceptor.clone(), owner.clone());
            owner.spawn("node-connection", async move {
                let stream: BoxedStream = match acceptor {
                    None => stream,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                let owner = tasks.clone();
                let service = service_fn(move |request| answer(request, owner.clone()));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    _ = connection.with_upgrades() => {}
                    () = tasks.cancelled() => {}
                }
            });
        }
    });
    port
}

async fn answer(
    mut request: Request<Incoming>,
    tasks: Tasks,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_string();
    let query = request.uri().query().unwrap_or_default().to_string();
    let headers = request.headers().clone();
    if headers.contains_key("upgrade") && !path.contains("refuse") {
        return Ok(upgrade(&mut request, &headers, &path, &query, &tasks));
    }
    let mut reply = Response::new(Body::empty());
    let set = |reply: &mut Response<Body>, name: &'static str, value: &str| {
        reply.headers_mut().insert(name, value.parse().unwrap());
    };
    *reply.body_mut() = match &*path {
        "/containerLogs/n/p/broken" => {
            *reply.status_mut() = http::StatusCode::NOT_FOUND;
            Body::from("no such container")
        }
        // A first line at once, and then never an end.
        _ if path.starts_with("/containerLogs/") && query.contains("follow") => {
            let first = futures::stream::iter([Ok(Bytes::from("first\n"))]);
            let pieces: Pieces = Box::pin(first.chain(futures::stream::pending()));
            Body::Pieces(pieces)
        }
        _ if path.starts_with("/containerLogs/") => Body::from(format!("{path}?{query}\n")),
        "/redirect" => {
            *reply.status_mut() = http::StatusCode::FOUND;
            set(&mut reply, "location", "/elsewhere?a=b");
            Body::empty()
        }
        "/html" => {
            set(&mut reply, "content-type", "text/html; charset=utf-8");
            set(&mut reply, "access-control-allow-origin", "*");
            Body::from("<a href=/x>y</a>")
        }
        _ => {
            let name = |name| {
                let value = headers.get(name).map(|value| value.to_str().unwrap());
                value.unwrap_or("-").to_string()
            };
            let head = format!(
                "{} {path}?{query} uri={} for={} auth={} te={}",
                request.method(),
                name("x-forwarded-uri"),
                name("x-forwarded-for"),
                name("authorization"),
                name("keep-alive"),
            );
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Body::from(format!("{head} {}", String::from_utf8_lossy(&body)))
        }
    };
    if path.contains("refuse") {
        *reply.status_mut() = http::StatusCode::FORBIDDEN;
        *reply.body_mut() = Body::from("not here");
    }
    Ok(reply)
}

fn upgrade(
    request: &mut Request<Incoming>,
    headers: &HeaderMap,
    path: &str,
    query: &str,
    tasks: &Tasks,
) -> Response<Body> {
    let greeting = format!("{} {path}?{query}\n", request.method());
    let upgrade = hyper::upgrade::on(request);
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let out = reply.headers_mut();
    out.insert("connection", "Upgrade".parse().unwrap());
    out.insert("upgrade", headers["upgrade"].clone());
    for name in ["x-stream-protocol-version", "sec-websocket-protocol"] {
        if let Some(value) = headers.get(name) {
            out.insert(name, value.clone());
        }
    }
    tasks.spawn("node-upgraded", async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        if greeting.contains("command=spdy") {
            spdy::serve(stream, &greeting).await.unwrap();
            return;
        }
        stream.write_all(greeting.as_bytes()).await.unwrap();
        // Echoes until a dot.
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() && byte != *b"." {
            stream.write_all(&byte).await.unwrap();
        }
        let _ = stream.shutdown().await;
    });
    reply
}

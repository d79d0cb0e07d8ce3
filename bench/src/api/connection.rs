//! HTTP/1.1 over TLS: one connection, one request at a time; bodies are counted and dropped.

use anyhow::{Context, Result};
use bench::masters::Target;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A request that can be sent again.
pub(crate) struct Request {
    method: &'static str,
    path: String,
    content_type: &'static str,
    accept: &'static str,
    body: String,
}

impl Request {
    pub(crate) fn get(path: &str, accept: &'static str) -> Self {
        Self {
            method: "GET",
            path: path.to_string(),
            content_type: "",
            accept,
            body: String::new(),
        }
    }

    pub(crate) fn post(path: &str, body: String) -> Self {
        Self {
            method: "POST",
            path: path.to_string(),
            content_type: "application/json",
            accept: "application/json",
            body,
        }
    }

    pub(crate) fn patch(path: &str, body: String) -> Self {
        Self {
            method: "PATCH",
            content_type: "application/merge-patch+json",
            ..Self::post(path, body)
        }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) is_success: bool,
    pub(crate) bytes: usize,
    /// The beginning of the body, if it is an error.
    pub(crate) complaint: String,
}

/// A connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let connector = TlsConnector::from(target.tls.clone());
        let stream = connector.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            // Whoever waits for an answer hears of the end.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    pub(crate) async fn send(&mut self, request: &Request) -> Result<hyper::Response<Incoming>> {
        let mut builder = hyper::Request::builder()
            .method(request.method)
            .uri(&request.path)
            .header("host", "localhost")
            .header("user-agent", "api-bench/1.0")
            .header("accept", request.accept);
        if !request.content_type.is_empty() {
            builder = builder.header("content-type", request.content_type);
        }
        let body = Full::new(Bytes::from(request.body.clone()));
        self.sender.ready().await?;
        Ok(self.sender.send_request(builder.body(body)?).await?)
    }

    pub(crate) async fn call(&mut self, request: &Request) -> Result<Answer> {
        let response = self.send(request).await?;
        let is_success = response.status().is_success();
        let mut body = response.into_body();
        let (mut bytes, mut complaint) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.context("the answer broke off")?.into_data() {
                bytes += data.len();
                if !is_success {
                    complaint.extend_from_slice(&data);
                }
            }
        }
        Ok(Answer {
            is_success,
            bytes,
            complaint: String::from_utf8_lossy(&complaint).into_owned(),
        })
    }
}

//! HTTP/2 over TLS: requests side by side on one connection, and watches.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::masters::Target;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::StatusCode;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Windows large enough that flow control is never what is measured.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// A request that can be sent again.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self::of("GET", path, String::new())
    }

    pub(crate) fn post(path: &str, body: String) -> Self {
        Self::of("POST", path, body)
    }

    /// A merge patch.
    pub(crate) fn patch(path: &str, body: String) -> Self {
        Self::of("PATCH", path, body)
    }

    pub(crate) fn delete(path: &str) -> Self {
        Self::of("DELETE", path, String::new())
    }

    fn of(method: &'static str, path: &str, body: String) -> Self {
        let path = path.to_string();
        Self { method, path, body }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body of a success; an error says what the server said.
    pub(crate) fn success(self) -> Result<Bytes> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        bail!("{}: {}", self.status, String::from_utf8_lossy(&self.body));
    }
}

/// One connection; its task ends when the last clone and stream are dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
}

impl Connection {
    /// Connects. Must be called within a `LocalSet`.
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let opened = tokio::time::timeout(CONNECT_TIME, Self::connect(target)).await;
        opened.with_context(|| format!("connect to {}", target.address))?
    }

    async fn connect(target: &Target) -> Result<Self> {
        let socket = TcpStream::connect(&target.address).await?;
        socket.set_nodelay(true)?;
        let mut tls = (*target.tls).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(tls));
        let name = ServerName::try_from("localhost")?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake::<_, Bytes>(connector.connect(name, socket).await?)
            .await?;
        // The task is the connection: it ends with it, and errors reach the calls.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Self { send })
    }

    /// Connections to all of them.
    pub(crate) async fn open_all(targets: &[Target]) -> Result<Vec<Self>> {
        futures::future::try_join_all(targets.iter().map(Self::open)).await
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn call(&self, request: &Request) -> Result<Answer> {
        let response = self.send(request).await?;
        let status = response.status();
        let mut stream = response.into_body();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            body.extend_from_slice(&chunk);
            stream.flow_control().release_capacity(chunk.len())?;
        }
        let body = body.freeze();
        Ok(Answer { status, body })
    }

    /// Opens a watch: what is there already comes first.
    pub(crate) async fn watch(&self, path: &str, selector: &str) -> Result<Events> {
        let path = format!("{path}?watch=1&resourceVersion=0&timeoutSeconds=7200&{selector}");
        let response = self.send(&Request::get(&path)).await?;
        if !response.status().is_success() {
            bail!("a watch of {path} was refused: {}", response.status());
        }
        Ok(Events {
            body: response.into_body(),
            rest: BytesMut::new(),
        })
    }

    async fn send(&self, request: &Request) -> Result<http::Response<RecvStream>> {
        let content_type = match request.method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let head = http::Request::builder()
            .method(request.method)
            .uri(format!("https://localhost{}", request.path))
            .header("user-agent", "control-plane-bench/1.0")
            .header("accept", "application/json")
            .header("content-type", content_type)
            .body(())?;
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(head, request.body.is_empty())?;
        if !request.body.is_empty() {
            stream.send_data(Bytes::from(request.body.clone()), true)?;
        }
        Ok(response.await?)
    }
}

/// The events of a watch, each a line of JSON.
pub(crate) struct Events {
    body: RecvStream,
    rest: BytesMut,
}

impl Events {
    /// Waits for more and hands over every complete line. False at the end of the stream.
    pub(crate) async fn next(&mut self, mut see: impl FnMut(&[u8])) -> Result<bool> {
        let Some(chunk) = self.body.data().await else {
            return Ok(false);
        };
        let chunk = chunk?;
        self.body.flow_control().release_capacity(chunk.len())?;
        self.rest.extend_from_slice(&chunk);
        let mut used = 0;
        while let Some(length) = self.rest[used..].iter().position(|byte| *byte == b'\n') {
            see(&self.rest[used..used + length]);
            used += length + 1;
        }
        let _ = self.rest.split_to(used);
        Ok(true)
    }
}

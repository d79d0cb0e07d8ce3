//! gRPC calls straight on HTTP/2 streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use tokio::net::TcpStream;

/// Windows large enough that flow control is never what is measured.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Rpc {
    Put,
    Range,
    Txn,
    Watch,
    Status,
}

impl Rpc {
    fn path(self) -> &'static str {
        match self {
            Rpc::Put => "/etcdserverpb.KV/Put",
            Rpc::Range => "/etcdserverpb.KV/Range",
            Rpc::Txn => "/etcdserverpb.KV/Txn",
            Rpc::Watch => "/etcdserverpb.Watch/Watch",
            Rpc::Status => "/etcdserverpb.Maintenance/Status",
        }
    }
}

/// One connection; its task ends when the last clone and stream are dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
    address: String,
    headers: HeaderMap,
    uris: RefCell<HashMap<Rpc, Uri>>,
}

impl Connection {
    /// Connects to `host:port`. Must be called within a `LocalSet`.
    pub(crate) async fn open(address: &str) -> Result<Connection> {
        let socket = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address))
            .await
            .with_context(|| format!("connect to {address}"))??;
        socket.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_reset_streams(0)
            .enable_push(false)
            .handshake::<_, Bytes>(socket)
            .await?;
        // The task is the connection: it ends with it, and errors reach the calls.
        tokio::task::spawn_local(async move { drop(connection.await) });
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        Ok(Connection {
            send,
            address: address.to_owned(),
            headers,
            uris: RefCell::new(HashMap::new()),
        })
    }

    fn request(&self, method: Rpc) -> Result<Request<()>> {
        let mut uris = self.uris.borrow_mut();
        let uri = match uris.get(&method) {
            Some(uri) => uri.clone(),
            None => {
                let uri: Uri = format!("http://{}{}", self.address, method.path()).parse()?;
                uris.insert(method, uri.clone());
                uri
            }
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    /// Sends one message and drains the answer without looking at it. Returns its size.
    pub(crate) async fn call(&self, method: Rpc, message: Bytes) -> Result<usize> {
        let mut size = 0;
        self.exchange(method, message, |chunk| size += chunk.len())
            .await?;
        Ok(size)
    }

    /// Sends one message and returns the answer's bytes without its prefix.
    pub(crate) async fn fetch(&self, method: Rpc, message: Bytes) -> Result<Bytes> {
        let mut body = BytesMut::new();
        self.exchange(method, message, |chunk| body.extend_from_slice(chunk))
            .await?;
        if body.len() < 5 {
            bail!("an answer without a message");
        }
        Ok(body.freeze().slice(5..))
    }

    async fn exchange(
        &self,
        method: Rpc,
        message: Bytes,
        mut see: impl FnMut(&[u8]),
    ) -> Result<()> {
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(self.request(method)?, false)?;
        stream.send_data(message, true)?;
        let response = response.await?;
        check_status(response.headers())?;
        let mut body = response.into_body();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            see(&chunk);
            body.flow_control().release_capacity(chunk.len())?;
        }
        let trailers = body.trailers().await?;
        trailers.as_ref().map_or(Ok(()), check_status)
    }

    /// Opens a watch stream. The requests are sent at once; the sender is kept open.
    pub(crate) async fn watch(
        &self,
        requests: Vec<Bytes>,
    ) -> Result<(h2::SendStream<Bytes>, Frames)> {
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(self.request(Rpc::Watch)?, false)?;
        for request in requests {
            stream.send_data(request, false)?;
        }
        let response = response.await?;
        check_status(response.headers())?;
        Ok((
            stream,
            Frames {
                body: response.into_body(),
                rest: BytesMut::new(),
            },
        ))
    }
}

fn check_status(headers: &HeaderMap) -> Result<()> {
    let Some(status) = headers.get("grpc-status") else {
        return Ok(());
    };
    if status == "0" {
        return Ok(());
    }
    let message = headers
        .get("grpc-message")
        .and_then(|m| m.to_str().ok())
        .unwrap_or_default();
    Err(anyhow!(
        "status {}: {message}",
        status.to_str().unwrap_or("?")
    ))
}

/// Messages of a stream.
pub(crate) struct Frames {
    body: RecvStream,
    rest: BytesMut,
}

impl Frames {
    /// Waits for more and hands over every complete message, without its prefix. False at the
    /// end of the stream.
    pub(crate) async fn next(&mut self, mut see: impl FnMut(&[u8])) -> Result<bool> {
        let Some(chunk) = self.body.data().await else {
            return Ok(false);
        };
        let chunk = chunk?;
        self.body.flow_control().release_capacity(chunk.len())?;
        if self.rest.is_empty() {
            let used = messages(&chunk, &mut see);
            self.rest.extend_from_slice(&chunk[used..]);
        } else {
            self.rest.extend_from_slice(&chunk);
            let used = messages(&self.rest, &mut see);
            self.rest.advance(used);
        }
        Ok(true)
    }
}

/// Hands over the complete messages in `bytes`; returns how many bytes they take.
fn messages(bytes: &[u8], see: &mut impl FnMut(&[u8])) -> usize {
    let mut used = 0;
    while let Some(&[_, a, b, c, d]) = bytes.get(used..used + 5) {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(message) = bytes.get(used + 5..used + 5 + length) else {
            break;
        };
        see(message);
        used += 5 + length;
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_whole_and_in_order() {
        let bytes = [0, 0, 0, 0, 2, 8, 9, 0, 0, 0, 0, 1, 7, 0, 0, 0];
        let mut seen = Vec::new();
        assert_eq!(
            messages(&bytes, &mut |message| seen.push(message.to_vec())),
            13
        );
        assert_eq!(seen, [vec![8, 9], vec![7]]);
    }
}

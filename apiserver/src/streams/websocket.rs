//! WebSockets as a server speaks them (RFC 6455): the handshake and frames. Messages are not put
//! together: their pieces are handed on as they come, so that none is too long.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader};

use super::outbox::{Outbox, outbox};
use super::upgrade;
use crate::body::Body;
use crate::respond::Reply;

/// What the answer of the handshake mixes into the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Of a message no more is handed on at once.
const PIECE_MAX: usize = 32 << 10;
/// Control frames are short.
const CONTROL_MAX: u64 = 125;

/// Whether a client wants a WebSocket.
pub fn is_requested(headers: &HeaderMap) -> bool {
    let value = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        && upgrade::is_requested(headers)
}

/// The subprotocols that a client offers, the preferred ones first.
pub fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.map(str::trim).filter(|name| !name.is_empty())
}

/// The answer to a client that wants a WebSocket, with the subprotocol: the first of those offered
/// that is known. The empty one is for clients that offer none. Without any there is no WebSocket,
/// and the answer says so.
pub fn accept<'k>(headers: &HeaderMap, known: &[&'k str]) -> (Reply, Option<&'k str>) {
    let refuse = |code: StatusCode| {
        let mut reply = Response::new(Body::empty());
        *reply.status_mut() = code;
        reply
    };
    let is_13 = headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_some_and(|v| v == "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_13);
    let Some(key) = key.filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16)) else {
        let mut reply = refuse(StatusCode::BAD_REQUEST);
        let version = HeaderValue::from_static("13");
        reply.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        return (reply, None);
    };
    let mut wanted: Vec<&str> = offered(headers).collect();
    if wanted.is_empty() {
        wanted.push("");
    }
    let mut wanted = wanted.into_iter();
    let chosen = wanted.find_map(|name| known.iter().find(|known| **known == name));
    let Some(chosen) = chosen.copied() else {
        return (refuse(StatusCode::FORBIDDEN), None);
    };
    let mixed = [key.as_bytes(), GUID.as_bytes()].concat();
    let mixed = digest(&SHA1_FOR_LEGACY_USE_ONLY, &mixed);
    let mut reply = refuse(StatusCode::SWITCHING_PROTOCOLS);
    let out = reply.headers_mut();
    out.insert(UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(mixed)) {
        out.insert(SEC_WEBSOCKET_ACCEPT, value);
    }
    if let (false, Ok(value)) = (chosen.is_empty(), HeaderValue::from_str(chosen)) {
        out.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    (reply, Some(chosen))
}

/// What messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Bytes.
    Binary,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The message begins with it.
    pub is_first: bool,
    /// The message ends with it.
    pub is_last: bool,
    /// Some of its bytes.
    pub data: Bytes,
}

/// What a client sends.
pub struct Reader<R> {
    from: BufReader<R>,
    pongs: Outbox,
    /// The frame that is being read.
    left: u64,
    mask: [u8; 4],
    at: usize,
    ends_message: bool,
    /// The next bytes are the first of a message.
    is_first: bool,
}

/// What is sent to a client.
#[derive(Clone)]
pub struct Writer {
    out: Outbox,
}

/// A connection after the handshake: what to read from, what to write to, and what moves the bytes
/// that are written, which must be polled.
pub fn open<R, W>(
    from: R,
    to: W,
) -> (
    Reader<R>,
    Writer,
    impl Future<Output = io::Result<()>> + Send,
)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send,
{
    let (out, moving) = outbox(to);
    let reader = Reader {
        from: BufReader::new(from),
        pongs: out.clone(),
        left: 0,
        mask: [0; 4],
        at: 0,
        ends_message: true,
        is_first: true,
    };
    (reader, Writer { out }, moving)
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl<R: AsyncRead + Unpin> Reader<R> {
    /// The next piece of a message; none once the client has said goodbye. Pings are answered.
    ///
    /// Not cancel safe: poll it to its end.
    ///
    /// # Errors
    ///
    /// If the connection breaks or the client breaks the protocol.
    pub async fn next(&mut self) -> io::Result<Option<Piece>> {
        while self.left == 0 {
            let Some((opcode, is_final)) = self.header().await? else {
                return Ok(None);
            };
            match opcode {
                TEXT | BINARY | CONTINUATION => {
                    if (opcode == CONTINUATION) == self.ends_message {
                        return Err(invalid("a message continues that did not begin"));
                    }
                    self.is_first = opcode != CONTINUATION;
                    self.ends_message = is_final;
                    if self.left == 0 {
                        return Ok(Some(self.piece(Vec::new())));
                    }
                }
                _ if !is_final || self.left > CONTROL_MAX => {
                    return Err(invalid("a control frame is too long"));
                }
                control => {
                    let data = self.data(CONTROL_MAX).await?;
                    match control {
                        CLOSE => return Ok(None),
                        PING => self.pongs.urgent(frame(PONG, &[&data])),
                        _ => {}
                    }
                }
            }
        }
        let data = self.data(PIECE_MAX as u64).await?;
        Ok(Some(self.piece(data)))
    }

    fn piece(&mut self, data: Vec<u8>) -> Piece {
        Piece {
            is_first: std::mem::take(&mut self.is_first),
            is_last: self.left == 0 && self.ends_message,
            data: data.into(),
        }
    }

    /// Opcode of the next frame, and whether the message ends with it; none at the end.
    async fn header(&mut self) -> io::Result<Option<(u8, bool)>> {
        let first = match self.from.read_u8().await {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let second = self.from.read_u8().await?;
        if first & 0x70 != 0 {
            return Err(invalid("a frame has an extension that nobody asked for"));
        }
        if second & 0x80 == 0 {
            return Err(invalid("a frame of a client is not masked"));
        }
        self.left = match second & 0x7f {
            126 => self.from.read_u16().await?.into(),
            127 => self.from.read_u64().await?,
            short => short.into(),
        };
        self.from.read_exact(&mut self.mask).await?;
        self.at = 0;
        Ok(Some((first & 0x0f, first & 0x80 != 0)))
    }

    async fn data(&mut self, max: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.left.min(max)).unwrap_or(PIECE_MAX);
        let mut data = vec![0; length];
        self.from.read_exact(&mut data).await?;
        for byte in &mut data {
            *byte ^= self.mask[self.at % 4];
            self.at += 1;
        }
        self.left -= length as u64;
        Ok(data)
    }
}

impl Writer {
    /// Sends a message, once there is room for it.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub async fn send(&self, kind: Kind, parts: &[&[u8]]) -> io::Result<()> {
        let opcode = match kind {
            Kind::Text => TEXT,
            Kind::Binary => BINARY,
        };
        self.out.send(frame(opcode, parts)).await
    }

    /// Says goodbye.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub async fn close(&self) -> io::Result<()> {
        const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
        self.out.send(frame(CLOSE, &[&NORMAL])).await
    }
}

/// A frame that is a whole message.
fn frame(opcode: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 10);
    out.push(0x80 | opcode);
    match length {
        0..126 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// A frame as clients send it.
    pub(crate) fn masked(first: u8, data: &[u8]) -> Vec<u8> {
        let plain = frame(0, &[data]);
        let mut out = plain[..plain.len() - data.len()].to_vec();
        out[0] = first;
        out[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        out.extend_from_slice(&mask);
        out.extend(data.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        out
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn handshakes() {
        let mut given = headers(&[
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        assert!(is_requested(&given));
        let (reply, chosen) = accept(&given, &["", "a"]);
        assert_eq!(chosen, Some(""));
        let answer = &reply.headers()[SEC_WEBSOCKET_ACCEPT];
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        given.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("x, b ,a"));
        let (reply, chosen) = accept(&given, &["", "a", "b"]);
        assert_eq!(chosen, Some("b"));
        assert_eq!(reply.headers()[SEC_WEBSOCKET_PROTOCOL], "b");
        let (reply, chosen) = accept(&given, &[""]);
        assert_eq!((reply.status().as_u16(), chosen), (403, None));
        given.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        let (reply, chosen) = accept(&given, &["b"]);
        assert_eq!((reply.status().as_u16(), chosen), (400, None));
    }

    #[tokio::test]
    async fn messages_come_in_pieces() {
        let long = vec![7; PIECE_MAX + 1];
        let sent = [
            masked(0x02, b"ab"),
            masked(0x89, b"?"),
            masked(0x80, b"c"),
            masked(0x82, b""),
            masked(0x82, &long),
            masked(0x88, b""),
        ];
        let (mut client, ours) = tokio::io::duplex(1 << 20);
        client.write_all(&sent.concat()).await.unwrap();
        let (from, to) = tokio::io::split(ours);
        let (mut reader, writer, moving) = open(from, to);
        let reading = async move {
            let mut found = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                found.push((piece.is_first, piece.is_last, piece.data.len()));
            }
            let want = [
                (true, false, 2),
                (false, true, 1),
                (true, true, 0),
                (true, false, PIECE_MAX),
                (false, true, 1),
            ];
            assert_eq!(found, want);
            writer.send(Kind::Binary, &[b"x", b"y"]).await.unwrap();
            writer.close().await.unwrap();
        };
        let (_, moved) = tokio::join!(reading, moving);
        moved.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"\x8a\x01?\x82\x02xy\x88\x02\x03\xe8");
    }
}

//! SPDY/3.1 as kubelets and container runtimes speak it: frames, both ways.
//!
//! Nobody there counts windows: a sender that waited for one would wait for ever, and one that is
//! granted is not looked at. What holds a fast sender back is the connection itself.

use std::io;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};

/// What headers are compressed against.
const DICTIONARY: &[u8] = include_bytes!("spdy/dictionary.bin");
const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
/// A control frame that is longer is an attack.
const CONTROL_MAX: usize = 64 << 10;
/// So are headers.
const HEADERS_MAX: usize = 256 << 10;
/// Of a data frame no more is handed on at once.
const PIECE_MAX: usize = 32 << 10;
/// Room for what compression adds.
const SLACK: usize = 256;

/// Names and values.
pub type Headers = Vec<(String, String)>;

/// A frame, or a piece of one with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    Open {
        /// The stream.
        id: u32,
        /// What it is for.
        headers: Headers,
        /// Whoever began it sends nothing.
        is_last: bool,
    },
    /// A stream is accepted.
    Reply {
        /// The stream.
        id: u32,
        /// Whoever accepts it sends nothing.
        is_last: bool,
    },
    /// A stream is torn down.
    Reset {
        /// The stream.
        id: u32,
    },
    /// Some bytes of a stream.
    Data {
        /// The stream.
        id: u32,
        /// The bytes.
        data: Bytes,
        /// The sender sends no more.
        is_last: bool,
    },
    /// A sign of life, which the other side sends back.
    Ping(u32),
    /// The other side takes no more streams.
    GoAway,
    /// Anything that changes nothing here: settings, windows, more headers.
    Other,
}

/// Reads frames.
pub struct Decoder<R> {
    from: BufReader<R>,
    inflate: Decompress,
    /// The data frame that is being read: its stream, what is left, whether it is the last.
    current: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Decoder<R> {
    /// A decoder for one side of a connection.
    pub fn new(from: R) -> Self {
        Self {
            from: BufReader::new(from),
            inflate: Decompress::new(true),
            current: None,
        }
    }

    /// The next frame; none at the end.
    ///
    /// Not cancel safe: poll it to its end.
    ///
    /// # Errors
    ///
    /// If the connection breaks or the other side breaks the protocol.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        if let Some(current) = self.current.take() {
            return self.data(current).await.map(Some);
        }
        let first = match self.from.read_u32().await {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let second = self.from.read_u32().await?;
        let is_last = (second >> 24) as u8 & FIN != 0;
        let length = (second & 0x00ff_ffff) as usize;
        if first >> 31 == 0 {
            return self.data((first, length, is_last)).await.map(Some);
        }
        let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
        if version != VERSION || length > CONTROL_MAX {
            return Err(invalid("a control frame is malformed"));
        }
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload).await?;
        self.control(kind, &payload, is_last).map(Some)
    }

    async fn data(&mut self, (id, left, is_last): (u32, usize, bool)) -> io::Result<Frame> {
        let length = left.min(PIECE_MAX);
        let mut data = vec![0; length];
        self.from.read_exact(&mut data).await?;
        let left = left - length;
        if left > 0 {
            self.current = Some((id, left, is_last));
        }
        Ok(Frame::Data {
            id,
            data: data.into(),
            is_last: is_last && left == 0,
        })
    }

    fn control(&mut self, kind: u16, payload: &[u8], is_last: bool) -> io::Result<Frame> {
        let number = || {
            let bytes = payload.first_chunk().copied();
            let bytes = bytes.ok_or_else(|| invalid("a control frame is too short"))?;
            Ok::<_, io::Error>(u32::from_be_bytes(bytes) & 0x7fff_ffff)
        };
        Ok(match kind {
            SYN_STREAM => Frame::Open {
                id: number()?,
                headers: self.headers(payload.get(10..))?,
                is_last,
            },
            // Whatever headers say, they must pass the decompressor, which remembers them.
            SYN_REPLY => {
                self.headers(payload.get(4..))?;
                Frame::Reply {
                    id: number()?,
                    is_last,
                }
            }
            HEADERS => {
                self.headers(payload.get(4..))?;
                Frame::Other
            }
            RST_STREAM => Frame::Reset { id: number()? },
            PING => Frame::Ping(number()?),
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }

    fn headers(&mut self, compressed: Option<&[u8]>) -> io::Result<Headers> {
        let compressed = compressed.ok_or_else(|| invalid("a control frame is too short"))?;
        let plain = self.inflated(compressed)?;
        let short = || invalid("headers are malformed");
        let mut rest = &plain[..];
        let number = |rest: &mut &[u8]| {
            let (bytes, after) = rest.split_first_chunk().ok_or_else(short)?;
            *rest = after;
            Ok::<_, io::Error>(u32::from_be_bytes(*bytes) as usize)
        };
        let count = number(&mut rest)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            let mut text = || {
                let length = number(&mut rest)?;
                let (text, after) = rest.split_at_checked(length).ok_or_else(short)?;
                rest = after;
                Ok::<_, io::Error>(String::from_utf8_lossy(text).into_owned())
            };
            headers.push((text()?, text()?));
        }
        Ok(headers)
    }

    fn inflated(&mut self, mut compressed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        loop {
            if plain.len() > HEADERS_MAX {
                return Err(invalid("headers are too long"));
            }
            plain.reserve(4 * compressed.len() + SLACK);
            let before = self.inflate.total_in();
            let sync = FlushDecompress::Sync;
            let result = self.inflate.decompress_vec(compressed, &mut plain, sync);
            let consumed = usize::try_from(self.inflate.total_in() - before).unwrap_or_default();
            compressed = &compressed[consumed..];
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.inflate.set_dictionary(DICTIONARY);
                    set.map_err(|_| invalid("headers have another dictionary"))?;
                }
                Err(_) => return Err(invalid("headers are not compressed well")),
                Ok(_) if plain.len() < plain.capacity() => return Ok(plain),
                Ok(_) => {}
            }
        }
    }
}

/// Writes frames with headers, which must be sent in the order in which they are written.
pub struct Encoder {
    deflate: Compress,
}

impl Encoder {
    /// An encoder for one side of a connection.
    ///
    /// # Errors
    ///
    /// If the compressor does not take the dictionary.
    pub fn new() -> io::Result<Self> {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(DICTIONARY)?;
        Ok(Self { deflate })
    }

    /// A stream begins.
    ///
    /// # Errors
    ///
    /// If the headers cannot be compressed.
    pub fn open(&mut self, id: u32, headers: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        let mut payload = id.to_be_bytes().to_vec();
        // No stream above it, the highest priority, no slot for certificates.
        payload.extend_from_slice(&[0; 6]);
        self.compress(headers, &mut payload)?;
        Ok(control(SYN_STREAM, 0, &payload))
    }

    /// A stream is accepted.
    ///
    /// # Errors
    ///
    /// If the headers cannot be compressed.
    pub fn reply(&mut self, id: u32) -> io::Result<Vec<u8>> {
        let mut payload = id.to_be_bytes().to_vec();
        self.compress(&[], &mut payload)?;
        Ok(control(SYN_REPLY, 0, &payload))
    }

    fn compress(&mut self, headers: &[(&str, &str)], out: &mut Vec<u8>) -> io::Result<()> {
        let mut plain = Vec::new();
        let number = |plain: &mut Vec<u8>, length: usize| {
            plain.extend_from_slice(&(length as u32).to_be_bytes());
        };
        number(&mut plain, headers.len());
        for (name, value) in headers {
            for text in [name, value] {
                number(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut rest = &plain[..];
        loop {
            out.reserve(rest.len() + SLACK);
            let before = self.deflate.total_in();
            self.deflate
                .compress_vec(rest, out, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            let consumed = usize::try_from(self.deflate.total_in() - before).unwrap_or_default();
            rest = &rest[consumed..];
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }
}

/// Some bytes of a stream, at most as many as a frame holds.
pub fn data(id: u32, data: &[u8], is_last: bool) -> Vec<u8> {
    let flags = if is_last { FIN } else { 0 };
    frame(id, flags, data)
}

/// A sign of life.
pub fn ping(id: u32) -> Vec<u8> {
    control(PING, 0, &id.to_be_bytes())
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let first = 1 << 31 | u32::from(VERSION) << 16 | u32::from(kind);
    frame(first, flags, payload)
}

fn frame(first: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.extend_from_slice(&first.to_be_bytes());
    let second = u32::from(flags) << 24 | (payload.len() as u32 & 0x00ff_ffff);
    out.extend_from_slice(&second.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn decoded(bytes: &[u8]) -> io::Result<Vec<Frame>> {
        let mut decoder = Decoder::new(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let mut encoder = Encoder::new().unwrap();
        let long = "x".repeat(100_000);
        let headers = |of: &[(&str, &str)]| {
            let of = of.iter();
            of.map(|(n, v)| (n.to_string(), v.to_string())).collect()
        };
        let bytes = [
            encoder.open(1, &[("streamtype", "error")]).unwrap(),
            encoder
                .open(3, &[("streamtype", "stdin"), ("a", &long)])
                .unwrap(),
            encoder.reply(2).unwrap(),
            data(1, b"abc", false),
            data(3, &vec![1; PIECE_MAX + 1], true),
            ping(7),
            control(GOAWAY, 0, &[0; 8]),
            control(RST_STREAM, 0, &[0, 0, 0, 5, 0, 0, 0, 1]),
            control(9, 0, &[0; 8]),
        ];
        let found = decoded(&bytes.concat()).await.unwrap();
        let piece = |length, is_last| Frame::Data {
            id: 3,
            data: vec![1; length].into(),
            is_last,
        };
        let want = [
            Frame::Open {
                id: 1,
                headers: headers(&[("streamtype", "error")]),
                is_last: false,
            },
            Frame::Open {
                id: 3,
                headers: headers(&[("streamtype", "stdin"), ("a", &long)]),
                is_last: false,
            },
            Frame::Reply {
                id: 2,
                is_last: false,
            },
            Frame::Data {
                id: 1,
                data: Bytes::from("abc"),
                is_last: false,
            },
            piece(PIECE_MAX, false),
            piece(1, true),
            Frame::Ping(7),
            Frame::GoAway,
            Frame::Reset { id: 5 },
            Frame::Other,
        ];
        assert_eq!(found, want);
    }

    #[tokio::test]
    async fn what_is_malformed_is_refused() {
        for bytes in [
            &control(SYN_STREAM, 0, &[0; 4])[..],
            &control(SYN_REPLY, 0, &[0, 0, 0, 1, 9, 9, 9]),
            &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
            &data(1, b"abc", false)[..10],
        ] {
            assert!(decoded(bytes).await.is_err(), "{bytes:?}");
        }
    }
}

//! Lets clients in whose `:authority` is a URL.
//!
//! etcdctl 3.4 names `http://127.0.0.1:2379` as the authority of its maintenance calls when its
//! endpoints are given in that form. Go's HTTP/2 takes that; h2 resets the stream with
//! PROTOCOL_ERROR before anybody here sees the request. The header is therefore put right in the
//! bytes, on plain connections only: with TLS such a client names the host.
//!
//! The header is compressed (HPACK), and both sides keep a table of what was sent, in which sizes
//! count. So the three offending characters are exchanged for three that take the same room in
//! either coding: `://` for `B33`. Nobody reads the authority.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length (3 bytes), type, flags, stream (4 bytes).
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Header blocks are short; a longer frame is passed on as it is.
const HEADERS_MAX: usize = 16 << 10;
/// The entry of HPACK's static table that is `:authority`.
const AUTHORITY: usize = 1;
/// `http://` as it stands.
const PLAIN: &[u8] = b"http://";
/// The same in Huffman's code (RFC 7541, appendix B): 41 bits, so that the rest of the last byte
/// belongs to what follows.
const CODED: [u8; 6] = [0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x00];
const CODED_BITS: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0xff, 0x80];
/// The bits in which `B33` differs.
const FLIPPED: [u8; 6] = [0, 0, 0, 0x08, 0x20, 0x80];

/// A plain connection from a client.
pub(super) struct Lenient<S> {
    stream: S,
    /// What was read and is not passed on yet, because it may have to be changed.
    held: BytesMut,
    /// How many bytes at the front of `held` are settled.
    settled: usize,
    /// Bytes still to come that belong to a frame of no interest.
    skip: usize,
    state: State,
}

enum State {
    Preface,
    /// The first request tells whether the client needs help.
    First,
    Frames,
    /// This client needs no help, or does not speak HTTP/2.
    Done,
}

impl<S> Lenient<S> {
    pub(super) fn new(stream: S) -> Lenient<S> {
        Lenient {
            stream,
            held: BytesMut::new(),
            settled: 0,
            skip: 0,
            state: State::Preface,
        }
    }

    /// Settles as much of what is held as can be.
    fn settle(&mut self) {
        loop {
            let rest = &mut self.held[self.settled..];
            match self.state {
                State::Done => {
                    self.settled = self.held.len();
                    return;
                }
                State::Preface => {
                    let known = rest.len().min(PREFACE.len());
                    if rest[..known] != PREFACE[..known] {
                        self.state = State::Done;
                    } else if known < PREFACE.len() {
                        return;
                    } else {
                        self.settled += known;
                        self.state = State::First;
                    }
                }
                State::First | State::Frames => {
                    let skipped = self.skip.min(rest.len());
                    self.skip -= skipped;
                    self.settled += skipped;
                    let rest = &mut rest[skipped..];
                    if self.skip > 0 || rest.len() < FRAME_HEAD {
                        return;
                    }
                    let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
                    if rest[3] != HEADERS || length > HEADERS_MAX {
                        self.skip = FRAME_HEAD + length;
                        continue;
                    }
                    let Some(frame) = rest.get_mut(..FRAME_HEAD + length) else {
                        return;
                    };
                    self.settled += frame.len();
                    let corrected = correct(frame).unwrap_or(false);
                    self.state = match self.state {
                        State::First if !corrected => State::Done,
                        _ => State::Frames,
                    };
                }
            }
        }
    }
}

/// Corrects the authority in a frame with a header block. Yields whether there was one to
/// correct; `None` for a block that is cut off, which is for others to refuse.
fn correct(frame: &mut [u8]) -> Option<bool> {
    let flags = frame[4];
    let mut at = FRAME_HEAD;
    at += usize::from(flags & PADDED != 0);
    at += if flags & PRIORITY != 0 { 5 } else { 0 };
    while at < frame.len() {
        let first = frame[at];
        if first & 0x80 != 0 {
            // A whole field of the table.
            at = integer(frame, at, 7)?.1;
            continue;
        }
        if first & 0xe0 == 0x20 {
            // A new size of the table.
            at = integer(frame, at, 5)?.1;
            continue;
        }
        // A field with its value, and its name unless that is in the table.
        let prefix = if first & 0x40 != 0 { 6 } else { 4 };
        let (name, after) = integer(frame, at, prefix)?;
        at = after;
        if name == 0 {
            let (length, after) = integer(frame, at, 7)?;
            at = after + length;
        }
        let is_coded = *frame.get(at)? & 0x80 != 0;
        let (length, value) = integer(frame, at, 7)?;
        at = value + length;
        if name == AUTHORITY {
            return Some(exchange(frame.get_mut(value..at)?, is_coded));
        }
    }
    Some(false)
}

/// Exchanges the characters if the value begins as a URL does.
fn exchange(value: &mut [u8], is_coded: bool) -> bool {
    if !is_coded {
        let is_url = value.starts_with(PLAIN);
        if is_url {
            value[PLAIN.len() - 3..PLAIN.len()].copy_from_slice(b"B33");
        }
        return is_url;
    }
    let mut bits = CODED.iter().zip(CODED_BITS);
    let is_url = value.len() >= CODED.len()
        && value.iter().all(|byte| match bits.next() {
            Some((wanted, mask)) => byte & mask == *wanted,
            None => true,
        });
    if is_url {
        for (byte, flipped) in value.iter_mut().zip(FLIPPED) {
            *byte ^= flipped;
        }
    }
    is_url
}

/// An integer whose first bits share a byte with others (RFC 7541, 5.1), and the place after it.
fn integer(bytes: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let most = (1usize << prefix) - 1;
    let mut value = usize::from(*bytes.get(at)?) & most;
    let mut at = at + 1;
    if value < most {
        return Some((value, at));
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(*bytes.get(at)?);
        at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    // Longer than any frame.
    None
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.settled == 0 {
            if matches!(this.state, State::Done) && this.held.is_empty() {
                return Pin::new(&mut this.stream).poll_read(context, buffer);
            }
            let mut space = [0; 4096];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // The end, perhaps within a frame.
                this.state = State::Done;
                if this.held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            this.held.extend_from_slice(read.filled());
            this.settle();
        }
        let count = this.settled.min(buffer.remaining());
        buffer.put_slice(&this.held[..count]);
        this.held.advance(count);
        this.settled -= count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A request of etcdctl 3.4: `:method POST`, `:scheme http`, `:path /a` and the authority.
    fn request(authority: &[u8], coded: bool) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x44, 2];
        block.extend_from_slice(b"/a");
        block.push(0x41);
        block.push(authority.len() as u8 | if coded { 0x80 } else { 0 });
        block.extend_from_slice(authority);
        let mut frame = vec![0, 0, block.len() as u8, HEADERS, 4, 0, 0, 0, 1];
        frame.extend_from_slice(&block);
        frame
    }

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const DATA: [u8; 12] = [0, 0, 3, 0, 0, 0, 0, 0, 1, b'a', b'b', b'c'];

    /// What comes out when this goes in, in pieces of every size.
    async fn through(sent: &[u8]) -> Vec<u8> {
        let mut last = None;
        for size in 1..sent.len() {
            let (mut client, server) = tokio::io::duplex(size);
            let sent = sent.to_vec();
            let writer = async move {
                client.write_all(&sent).await.unwrap();
            };
            let mut got = Vec::new();
            let mut lenient = Lenient::new(server);
            let (_, read) = tokio::join!(writer, lenient.read_to_end(&mut got));
            read.unwrap();
            assert!(last.is_none_or(|last| last == got), "pieces of {size}");
            last = Some(got);
        }
        last.unwrap()
    }

    #[tokio::test]
    async fn a_url_becomes_a_name_of_the_same_length() {
        // `http://127.0.0.1:23810` in Huffman's code, as etcdctl sends it.
        let coded = [
            0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x04, 0x4e, 0xae, 0x05, 0xc0, 0xb8, 0x17, 0x70, 0x99,
        ];
        for (authority, is_coded) in [(&coded[..], true), (b"http://127.0.0.1:1", false)] {
            let mut sent = PREFACE.to_vec();
            for part in [&SETTINGS[..], &request(authority, is_coded), &DATA] {
                sent.extend_from_slice(part);
            }
            sent.extend_from_slice(&request(authority, is_coded));
            let got = through(&sent).await;
            assert_eq!(got.len(), sent.len());
            let changed: u32 = got
                .iter()
                .zip(&sent)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            if is_coded {
                assert_eq!(changed, 2 * 3, "the last bit of three characters, twice");
            } else {
                assert!(got.windows(9).any(|part| part == b"httpB3312"));
            }
        }
    }

    #[tokio::test]
    async fn everything_else_passes_as_it_is() {
        let mut sent = PREFACE.to_vec();
        sent.extend_from_slice(&SETTINGS);
        sent.extend_from_slice(&request(b"http:3280", false));
        // Not even looked at any more.
        sent.extend_from_slice(&request(b"http://a:1", false));
        assert_eq!(through(&sent).await, sent);
        let get = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(through(get).await, get);
        let cut = &sent[..sent.len() - 30];
        assert_eq!(through(cut).await, cut);
    }
}

//! Encoded responses on their way out.
//!
//! A response is a gRPC frame: a zero byte, the length, then header, watch ID and events. Where
//! many watchers get the same events, only the ID differs; frames are written when the connection
//! asks for them, a chunk at a time, so that a thousand copies never exist at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::pb::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::watch::{Change, Revision};

/// Field tags of `WatchResponse`.
const HEADER_TAG: u8 = 1 << 3 | 2;
const WATCH_ID_TAG: u8 = 2 << 3;
const FRAGMENT_TAG: u8 = 7 << 3;

/// What precedes a message: whether it is compressed and its length.
const PREFIX_LEN: usize = 5;
/// Chunks end at this size: some HTTP/2 frames' worth.
const CHUNK_BYTES: usize = 32 << 10;
/// Events of this size are handed out as shared bytes, smaller ones are copied into the chunk:
/// below it, another HTTP/2 frame costs more than the copy.
const SHARE_BYTES: usize = 16 << 10;

/// Responses that wait to be sent, in order.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Item>,
    buffer: BytesMut,
    /// Events that follow the buffer.
    shared: Option<Bytes>,
}

enum Item {
    Message(WatchResponse),
    Fan(Fan),
}

/// The same events for many watchers.
pub(super) struct Fan {
    /// The watchers, not empty.
    pub(super) ids: Vec<i64>,
    /// The header of their responses.
    pub(super) header: ResponseHeader,
    /// Where the events are.
    pub(super) batch: Arc<Vec<Arc<Revision>>>,
    /// Which of them: index of the revision, index of the change. Not empty.
    pub(super) matched: Vec<(u32, u32)>,
    /// Whether the previous versions go along; they are known by now.
    pub(super) prev_kv: bool,
    /// From which size a response is split.
    pub(super) fragment_bytes: Option<usize>,
    /// How far it is written.
    pub(super) progress: Written,
}

/// How far a fan is written.
#[derive(Default)]
pub(super) struct Written {
    encoded: Option<Encoded>,
    watchers: usize,
    parts: usize,
}

/// What the responses of a fan have in common.
struct Encoded {
    header: Bytes,
    /// The events of each response; more than one only if fragmented.
    parts: Vec<Bytes>,
}

impl Outbox {
    pub(super) fn push(&mut self, message: WatchResponse) {
        self.queue.push_back(Item::Message(message));
    }

    pub(super) fn push_fan(&mut self, fan: Fan) {
        self.queue.push_back(Item::Fan(fan));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.shared.is_none()
    }

    /// The next bytes to send.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(shared) = self.shared.take() {
            return Some(shared);
        }
        while self.buffer.len() < CHUNK_BYTES && self.shared.is_none() {
            match self.queue.front_mut() {
                None => break,
                Some(Item::Message(message)) => write_message(message, &mut self.buffer),
                Some(Item::Fan(fan)) => {
                    self.shared = fan.write(&mut self.buffer);
                    if !fan.is_done() {
                        continue;
                    }
                }
            }
            self.queue.pop_front();
        }
        (!self.buffer.is_empty()).then(|| self.buffer.split().freeze())
    }
}

impl Fan {
    fn is_done(&self) -> bool {
        self.progress.watchers == self.ids.len()
    }

    /// Writes one response. Large events are returned instead, to be sent after the buffer.
    fn write(&mut self, buffer: &mut BytesMut) -> Option<Bytes> {
        let encoded = match self.progress.encoded.take() {
            Some(encoded) => encoded,
            None => self.encode(),
        };
        let Written {
            watchers, parts, ..
        } = &mut self.progress;
        let id = self.ids[*watchers];
        let events = encoded.parts[*parts].clone();
        *parts += 1;
        let more = *parts < encoded.parts.len();
        if !more {
            *parts = 0;
            *watchers += 1;
        }

        let id_len = if id == 0 {
            0
        } else {
            1 + encoded_len_varint(id as u64)
        };
        let flag_len = if more { 2 } else { 0 };
        let len = encoded.header.len() + id_len + flag_len + events.len();
        let share = events.len() >= SHARE_BYTES;
        let here = PREFIX_LEN + len - if share { events.len() } else { 0 };
        if buffer.capacity() - buffer.len() < here {
            // Room for the responses that follow as well, up to a chunk.
            let follow = (self.ids.len() - *watchers) * here;
            buffer.reserve(here + follow.min(CHUNK_BYTES));
        }
        put_prefix(len, buffer);
        buffer.put_slice(&encoded.header);
        if id != 0 {
            buffer.put_u8(WATCH_ID_TAG);
            encode_varint(id as u64, buffer);
        }
        if more {
            buffer.put_slice(&[FRAGMENT_TAG, 1]);
        }
        if !share {
            buffer.put_slice(&events);
        }
        self.progress.encoded = Some(encoded);
        share.then_some(events)
    }

    fn encode(&self) -> Encoded {
        let header_len = self.header.encoded_len();
        let mut header = BytesMut::with_capacity(2 + header_len);
        header.put_u8(HEADER_TAG);
        encode_varint(header_len as u64, &mut header);
        self.header.encode_raw(&mut header);

        let mut parts = Vec::with_capacity(1);
        let mut rest: &[(u32, u32)] = &self.matched;
        while !rest.is_empty() {
            let count = self.part_len(rest, header.len());
            let (part, after) = rest.split_at(count);
            parts.push(self.join(part));
            rest = after;
        }
        Encoded {
            header: header.freeze(),
            parts,
        }
    }

    /// How many of the events go into the next response: all, unless it is to be split.
    fn part_len(&self, events: &[(u32, u32)], header_len: usize) -> usize {
        let Some(limit) = self.fragment_bytes else {
            return events.len();
        };
        let mut bytes = header_len;
        let fits = events.iter().take_while(|at| {
            bytes += self.event(**at).len();
            bytes < limit
        });
        // A single event is never split, however large.
        fits.count().max(1)
    }

    fn join(&self, events: &[(u32, u32)]) -> Bytes {
        if let [only] = events {
            return self.event(*only);
        }
        let len = events.iter().map(|at| self.event(*at).len()).sum();
        let mut joined = BytesMut::with_capacity(len);
        for at in events {
            joined.put_slice(&self.event(*at));
        }
        joined.freeze()
    }

    fn event(&self, (revision, change): (u32, u32)) -> Bytes {
        let change: &Change = &self.batch[revision as usize].changes[change as usize];
        match self.prev_kv {
            true => change.encoded_with_previous(),
            false => change.encoded().clone(),
        }
    }
}

fn write_message(message: &WatchResponse, buffer: &mut BytesMut) {
    let len = message.encoded_len();
    buffer.reserve(PREFIX_LEN + len);
    put_prefix(len, buffer);
    message.encode_raw(buffer);
}

fn put_prefix(len: usize, buffer: &mut BytesMut) {
    buffer.put_u8(0);
    // One revision holds at most the operations of one request, far below 4 GiB.
    buffer.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

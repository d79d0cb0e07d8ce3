//! Requests as bytes, written by hand into one growing buffer: no allocation per request.

use bytes::{BufMut, Bytes, BytesMut};

/// Length of the prefix that gRPC puts before a message: a flag and a 32-bit length.
const PREFIX_BYTES: usize = 5;

/// Fresh memory is taken from the allocator in pieces of this size.
const CHUNK_BYTES: usize = 64 << 10;

/// Encodes requests one after the other.
#[derive(Default)]
pub(crate) struct Encoder {
    buffer: BytesMut,
}

/// A key of the benchmarks: a letter for its space and a number of eleven digits.
pub(crate) fn key(space: u8, number: u64) -> [u8; 12] {
    let mut key = [b'0'; 12];
    key[0] = space;
    let mut rest = number;
    for digit in key[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// How many bytes a number takes in protobuf's variable-length form.
fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn varint(buffer: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        buffer.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.put_u8(number as u8);
}

/// Length of a field of bytes with a one-byte tag.
fn field_len(bytes: usize) -> usize {
    1 + varint_len(bytes as u64) + bytes
}

fn head(buffer: &mut BytesMut, field: u8, length: usize) {
    buffer.put_u8(field << 3 | 2);
    varint(buffer, length as u64);
}

fn field(buffer: &mut BytesMut, number: u8, bytes: &[u8]) {
    head(buffer, number, bytes.len());
    buffer.put_slice(bytes);
}

fn number(buffer: &mut BytesMut, field: u8, value: u64) {
    buffer.put_u8(field << 3);
    varint(buffer, value);
}

impl Encoder {
    fn message(&mut self, length: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        let whole = PREFIX_BYTES + length;
        if self.buffer.capacity() < whole {
            self.buffer.reserve(whole.max(CHUNK_BYTES));
        }
        self.buffer.put_u8(0);
        self.buffer.put_u32(length as u32);
        write(&mut self.buffer);
        debug_assert_eq!(self.buffer.len(), whole);
        self.buffer.split().freeze()
    }

    /// `PutRequest { key, value }`.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Bytes {
        self.message(put_len(key, value), |buffer| put_body(buffer, key, value))
    }

    /// `RangeRequest { key, range_end, serializable }`.
    pub(crate) fn range(&mut self, key: &[u8], range_end: &[u8], serializable: bool) -> Bytes {
        let end = if range_end.is_empty() {
            0
        } else {
            field_len(range_end.len())
        };
        let length = field_len(key.len()) + end + if serializable { 2 } else { 0 };
        self.message(length, |buffer| {
            field(buffer, 1, key);
            if !range_end.is_empty() {
                field(buffer, 2, range_end);
            }
            if serializable {
                number(buffer, 7, 1);
            }
        })
    }

    /// A transaction that reads one key.
    pub(crate) fn read_txn(&mut self, key: &[u8]) -> Bytes {
        let range = field_len(key.len());
        let operation = field_len(range);
        self.message(field_len(operation), |buffer| {
            head(buffer, 2, operation);
            head(buffer, 1, range);
            field(buffer, 1, key);
        })
    }

    /// A transaction that puts if the key's create revision is greater than -1 (it always is)
    /// and reads it otherwise.
    pub(crate) fn write_txn(&mut self, key: &[u8], value: &[u8]) -> Bytes {
        const MINUS_ONE: u64 = u64::MAX;
        // result = GREATER, target = CREATE, key, create_revision.
        let compare = 2 + 2 + field_len(key.len()) + 1 + varint_len(MINUS_ONE);
        let put = put_len(key, value);
        let success = field_len(put);
        let range = field_len(key.len());
        let failure = field_len(range);
        let length = field_len(compare) + field_len(success) + field_len(failure);
        self.message(length, |buffer| {
            head(buffer, 1, compare);
            number(buffer, 1, 1);
            number(buffer, 2, 1);
            field(buffer, 3, key);
            number(buffer, 5, MINUS_ONE);
            head(buffer, 2, success);
            head(buffer, 2, put);
            put_body(buffer, key, value);
            head(buffer, 3, failure);
            head(buffer, 1, range);
            field(buffer, 1, key);
        })
    }

    /// A transaction of many puts, for loading data: keys `from..to` of a space.
    pub(crate) fn put_many(&mut self, space: u8, from: u64, to: u64, value: &[u8]) -> Bytes {
        let put = put_len(&key(space, 0), value);
        let operation = field_len(put);
        let length = field_len(operation) * (to - from) as usize;
        self.message(length, |buffer| {
            for at in from..to {
                head(buffer, 2, operation);
                head(buffer, 2, put);
                put_body(buffer, &key(space, at), value);
            }
        })
    }

    /// `WatchRequest` that creates a watch on one key from the next revision on.
    pub(crate) fn watch(&mut self, key: &[u8]) -> Bytes {
        let create = field_len(key.len());
        self.message(field_len(create), |buffer| {
            head(buffer, 1, create);
            field(buffer, 1, key);
        })
    }

    /// A message without fields.
    pub(crate) fn empty(&mut self) -> Bytes {
        self.message(0, |_| {})
    }
}

fn put_len(key: &[u8], value: &[u8]) -> usize {
    field_len(key.len()) + field_len(value.len())
}

fn put_body(buffer: &mut BytesMut, key: &[u8], value: &[u8]) {
    field(buffer, 1, key);
    field(buffer, 2, value);
}

/// Calls `see(field, bytes)` for each length-delimited field of a message and skips the rest.
/// `None` when it is not a message.
pub(crate) fn fields<'a>(mut message: &'a [u8], mut see: impl FnMut(u64, &'a [u8])) -> Option<()> {
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        match tag & 7 {
            0 => drop(take_varint(&mut message)?),
            1 => message = message.get(8..)?,
            2 => {
                let length = take_varint(&mut message)? as usize;
                see(tag >> 3, message.get(..length)?);
                message = &message[length..];
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(())
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift.min(63);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use raft_store::pb::etcdserverpb as pb;

    fn body(message: &Bytes) -> Bytes {
        assert_eq!(message[0], 0);
        assert_eq!(
            u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize,
            message.len() - 5
        );
        message.slice(5..)
    }

    #[test]
    fn what_is_written_by_hand_is_what_prost_reads() {
        let mut encoder = Encoder::default();
        let value = vec![7; 256];
        let put = pb::PutRequest::decode(body(&encoder.put(b"k1", &value))).unwrap();
        assert_eq!((&put.key[..], &put.value[..]), (&b"k1"[..], &value[..]));
        let range = pb::RangeRequest::decode(body(&encoder.range(b"k1", b"k2", true))).unwrap();
        assert_eq!(
            (&range.key[..], &range.range_end[..]),
            (&b"k1"[..], &b"k2"[..])
        );
        assert!(range.serializable);
        let txn = pb::TxnRequest::decode(body(&encoder.write_txn(b"k1", &value))).unwrap();
        let expected = pb::Compare {
            result: 1,
            target: 1,
            key: Bytes::from_static(b"k1"),
            range_end: Bytes::new(),
            target_union: Some(pb::compare::TargetUnion::CreateRevision(-1)),
        };
        assert_eq!(txn.compare, [expected]);
        assert_eq!((txn.success.len(), txn.failure.len()), (1, 1));
        let txn = pb::TxnRequest::decode(body(&encoder.read_txn(b"k1"))).unwrap();
        assert_eq!((txn.success.len(), txn.failure.len()), (1, 0));
        let many = pb::TxnRequest::decode(body(&encoder.put_many(b'b', 5, 69, &value))).unwrap();
        assert_eq!(many.success.len(), 64);
        let watch = pb::WatchRequest::decode(body(&encoder.watch(b"w"))).unwrap();
        assert!(watch.request_union.is_some());
    }

    #[test]
    fn fields_are_found_and_others_skipped() {
        let event = raft_store::pb::mvccpb::Event {
            r#type: 1,
            kv: Some(raft_store::pb::mvccpb::KeyValue {
                key: Bytes::from_static(b"k"),
                mod_revision: 1 << 40,
                ..Default::default()
            }),
            prev_kv: None,
        };
        let response = pb::WatchResponse {
            events: vec![event; 3],
            watch_id: -1,
            ..Default::default()
        };
        let mut events = 0;
        fields(&response.encode_to_vec(), |field, _| {
            events += u32::from(field == 11)
        })
        .unwrap();
        assert_eq!(events, 3);
        assert_eq!(fields(&[0x0a, 5, 1], |_, _| {}), None);
    }
}

//! A long list of keys as the body of an answer, encoded piece by piece while it is sent.
//!
//! One buffer for all of it would be tens of megabytes of memory that is touched once and given
//! back to the system: a third of the cost of listing 10 000 keys was page faults.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::message;

use super::grpc::PREFIX_BYTES;
use crate::pb::etcdserverpb::RangeResponse;
use crate::pb::mvccpb::KeyValue;

/// A piece ends once it has this many bytes: some frames of HTTP/2, and still in a core's cache
/// when it is written to the socket.
const PIECE_BYTES: usize = 64 << 10;
/// Shorter lists go in one piece.
const LONG_KEYS: usize = 128;

/// The number of `kvs` in `RangeResponse`.
const KVS: u32 = 2;

/// A framed `RangeResponse` on its way. The keys come last, which protobuf leaves open.
pub(super) struct Listing {
    /// Prefix, header, `more` and `count`; then what is left of the room is for keys.
    piece: BytesMut,
    keys: std::vec::IntoIter<KeyValue>,
    len: usize,
}

impl Listing {
    /// Whether a list is long enough to be worth it.
    pub(super) fn is_long(list: &RangeResponse) -> bool {
        list.kvs.len() >= LONG_KEYS
    }

    pub(super) fn new(mut list: RangeResponse) -> Listing {
        let len = list.encoded_len();
        let keys = std::mem::take(&mut list.kvs);
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        piece.put_u8(0);
        piece.put_u32(len as u32);
        list.encode_raw(&mut piece);
        Listing {
            piece,
            keys: keys.into_iter(),
            len: PREFIX_BYTES + len,
        }
    }

    /// How many bytes all pieces have together.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The next piece.
    pub(super) fn next(&mut self) -> Bytes {
        let mut piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            piece.reserve(PIECE_BYTES);
        }
        while piece.len() < PIECE_BYTES
            && let Some(key) = self.keys.next()
        {
            message::encode(KVS, &key, &mut piece);
        }
        piece.freeze()
    }

    /// Whether every piece has been taken.
    pub(super) fn is_done(&self) -> bool {
        self.piece.is_empty() && self.keys.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::ResponseHeader;

    #[test]
    fn the_pieces_are_the_whole() {
        for keys in [0, 1, LONG_KEYS, 3000] {
            let list = RangeResponse {
                header: Some(ResponseHeader {
                    revision: 7,
                    ..ResponseHeader::default()
                }),
                kvs: (0..keys)
                    .map(|i| KeyValue {
                        key: format!("key {i}").into(),
                        value: vec![i as u8; 100].into(),
                        mod_revision: i as i64,
                        ..KeyValue::default()
                    })
                    .collect(),
                more: true,
                count: keys as i64,
            };
            let mut listing = Listing::new(list.clone());
            let mut sent = BytesMut::new();
            while !listing.is_done() {
                let piece = listing.next();
                assert!(!piece.is_empty() && piece.len() < PIECE_BYTES + 200);
                sent.extend_from_slice(&piece);
            }
            assert_eq!(sent.len(), listing.len());
            let (prefix, body) = sent.split_at(PREFIX_BYTES);
            assert_eq!(prefix[0], 0);
            assert_eq!(prefix[1..], (body.len() as u32).to_be_bytes());
            assert_eq!(RangeResponse::decode(body).unwrap(), list);
        }
    }
}

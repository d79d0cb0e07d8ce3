//! A revision and its changes as every watcher shares them, and where older ones come from.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::error::{Error, Result};
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};

/// `WatchResponse.events` on the wire: field 11, length delimited.
const EVENTS_TAG: u8 = 11 << 3 | 2;
/// `Event.prev_kv` on the wire: field 3, length delimited.
const PREV_KV_TAG: u8 = 3 << 3 | 2;
/// What an event occupies besides its key and value: the structs, the `Arc`s, the headers of the
/// buffers. Measured generously, because the ring's bound is a promise.
const OVERHEAD_BYTES: usize = 320;

/// Everything that one write, transaction or revocation changed.
#[derive(Debug)]
pub struct Revision {
    /// The main revision.
    pub revision: i64,
    /// At least one change; no key twice. In the order of the operations.
    pub changes: Vec<Change>,
}

impl Revision {
    /// A revision with its changes.
    pub fn new(revision: i64, changes: Vec<Change>) -> Revision {
        Revision { revision, changes }
    }

    /// What the revision may come to occupy in memory once its encodings exist, in bytes.
    pub fn weight(&self) -> usize {
        self.changes.iter().map(Change::weight).sum()
    }
}

/// One change of one key, with its encodings, which all watchers share.
#[derive(Debug)]
pub struct Change {
    /// Kind and new version, without `prev_kv`. A deletion carries only the key and the revision.
    pub event: Event,
    /// The `mod_revision` of the version before; 0 when there was none (a create).
    pub prev_revision: i64,
    previous: OnceLock<Option<KeyValue>>,
    encoded: OnceLock<Bytes>,
    encoded_with_previous: OnceLock<Bytes>,
}

impl Change {
    /// A change; `prev_revision` is the `mod_revision` of the version before, or 0.
    pub fn new(event: Event, prev_revision: i64) -> Change {
        Change {
            event,
            prev_revision,
            previous: OnceLock::new(),
            encoded: OnceLock::new(),
            encoded_with_previous: OnceLock::new(),
        }
    }

    /// The key that changed.
    pub fn key(&self) -> &Bytes {
        static NO_KEY: Bytes = Bytes::new();
        self.event.kv.as_ref().map_or(&NO_KEY, |kv| &kv.key)
    }

    /// Whether the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.event.r#type == EventType::Delete as i32
    }

    /// The version before this change, as far as it is known already.
    pub fn known_previous(&self) -> Option<Option<&KeyValue>> {
        if self.prev_revision == 0 {
            return Some(None);
        }
        self.previous.get().map(Option::as_ref)
    }

    /// The version before this change; `None` when there was none or it has been compacted.
    ///
    /// The first caller reads it (from the ring when it is there, else from `history`); all later
    /// ones, of any watcher, share it.
    pub fn previous(
        &self,
        find: impl FnOnce(&[u8], i64) -> Result<Option<KeyValue>>,
    ) -> Result<Option<&KeyValue>> {
        if let Some(known) = self.known_previous() {
            return Ok(known);
        }
        let found = match find(self.key(), self.prev_revision) {
            // etcd leaves prev_kv out when the version is gone.
            Err(Error::Compacted { .. }) => None,
            other => other?,
        };
        Ok(self.previous.get_or_init(|| found).as_ref())
    }

    /// The event as a `WatchResponse` carries it: tag, length and message, without `prev_kv`.
    pub fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| encode_field(&self.event, None))
    }

    /// Like [`Change::encoded`], with `prev_kv`, which must be known (see [`Change::previous`]);
    /// an unknown one is left out and nothing is remembered.
    pub fn encoded_with_previous(&self) -> Bytes {
        match self.known_previous() {
            None | Some(None) => self.encoded().clone(),
            Some(previous) => self
                .encoded_with_previous
                .get_or_init(|| encode_field(&self.event, previous))
                .clone(),
        }
    }

    /// The event with its `prev_kv`, if that is known and there is one.
    pub fn event_with_previous(&self) -> Event {
        Event {
            prev_kv: self.known_previous().flatten().cloned(),
            ..self.event.clone()
        }
    }

    /// The new version, its encoding and the previous version: about three times the key and
    /// value. What is not made yet is counted too, so that the ring's bound holds when it is.
    fn weight(&self) -> usize {
        let kv = self.event.kv.as_ref();
        OVERHEAD_BYTES + 3 * kv.map_or(0, |kv| kv.key.len() + kv.value.len())
    }
}

/// Encodes one element of `WatchResponse.events`. The previous version is the last field of an
/// event, so it is appended instead of being cloned into the message.
fn encode_field(event: &Event, previous: Option<&KeyValue>) -> Bytes {
    let previous_len = previous.map(Message::encoded_len);
    let appended = previous_len.map_or(0, |len| 1 + encoded_len_varint(len as u64) + len);
    let len = event.encoded_len() + appended;
    let mut buffer = BytesMut::with_capacity(1 + encoded_len_varint(len as u64) + len);
    buffer.put_u8(EVENTS_TAG);
    encode_varint(len as u64, &mut buffer);
    event.encode_raw(&mut buffer);
    if let (Some(previous), Some(previous_len)) = (previous, previous_len) {
        buffer.put_u8(PREV_KV_TAG);
        encode_varint(previous_len as u64, &mut buffer);
        previous.encode_raw(&mut buffer);
    }
    buffer.freeze()
}

/// Where revisions older than the ring come from: the applied state on disk.
///
/// Every method reads a consistent state and never waits for apply.
pub trait History: Send + Sync + 'static {
    /// The revision of the applied state.
    fn current_revision(&self) -> i64;

    /// The lowest revision that can still be read; 0 or less when nothing was ever compacted.
    fn compact_revision(&self) -> i64;

    /// Whole revisions from `from` on, ascending, leaving out none that exists: about `max_bytes`
    /// of them, at least one if there is any. Every revision up to
    /// [`History::current_revision`], as returned before the call, is visible.
    ///
    /// Fails with `Compacted` if `from` is below the compact revision. Starting at the compact
    /// revision itself yields its changes, deletions included.
    fn revisions(&self, from: i64, max_bytes: usize) -> Result<Vec<Arc<Revision>>>;

    /// The version of `key` that was written at exactly `mod_revision`; `None` (or `Compacted`)
    /// when it is gone.
    fn version_at(&self, key: &[u8], mod_revision: i64) -> Result<Option<KeyValue>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::WatchResponse;

    fn kv(value: &'static str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"key"),
            value: Bytes::from_static(value.as_bytes()),
            create_revision: 2,
            mod_revision,
            version: mod_revision - 1,
            lease: 0,
        }
    }

    fn put(value: &'static str, mod_revision: i64, prev_revision: i64) -> Change {
        let event = Event {
            r#type: EventType::Put as i32,
            kv: Some(kv(value, mod_revision)),
            prev_kv: None,
        };
        Change::new(event, prev_revision)
    }

    #[test]
    fn an_encoded_event_is_an_element_of_a_watch_response() {
        let change = put("b", 3, 2);
        let plain = WatchResponse::decode(change.encoded().clone()).expect("decodes");
        assert_eq!(plain.events, vec![change.event.clone()]);

        change.previous(|_, _| Ok(Some(kv("a", 2)))).expect("found");
        let full = WatchResponse::decode(change.encoded_with_previous()).expect("decodes");
        assert_eq!(full.events, vec![change.event_with_previous()]);
        assert_eq!(full.events[0].prev_kv, Some(kv("a", 2)));
    }

    #[test]
    fn the_previous_version_is_read_once() {
        let change = put("b", 3, 2);
        let mut reads = 0;
        for _ in 0..3 {
            let previous = change.previous(|key, revision| {
                reads += 1;
                assert_eq!((key, revision), (&b"key"[..], 2));
                Ok(Some(kv("a", 2)))
            });
            assert_eq!(previous, Ok(Some(&kv("a", 2))));
        }
        assert_eq!(reads, 1);
    }

    #[test]
    fn a_create_has_no_previous_version_and_reads_none() {
        let change = put("a", 2, 0);
        assert_eq!(change.previous(|_, _| panic!("no read")), Ok(None));
    }

    #[test]
    fn a_failed_read_is_not_remembered() {
        let change = put("b", 3, 2);
        let failed = change.previous(|_, _| Err(Error::Internal("disk".into())));
        assert_eq!(failed, Err(Error::Internal("disk".into())));
        assert_eq!(change.encoded_with_previous(), *change.encoded());
        assert!(matches!(
            change.previous(|_, _| Ok(Some(kv("a", 2)))),
            Ok(Some(_))
        ));
        assert_ne!(change.encoded_with_previous(), *change.encoded());
    }
}

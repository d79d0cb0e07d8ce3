//! The most recent revisions in memory, for all watchers at once.
//!
//! One writer (apply) appends; any number of readers copy pointers out without a lock: revisions
//! lie in chunks whose slots are written once, and the list of chunks is swapped as a whole. The
//! oldest chunk is dropped when the bytes exceed the bound.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::event::Revision;

/// Revisions per chunk at most: large enough that a swap of the chunk list is rare, small enough
/// that dropping one chunk is short work for apply.
const CHUNK_REVISIONS: usize = 128;
/// A chunk is closed at this share of the ring's bytes, so that large events leave one by one.
const CHUNK_SHARE: usize = 32;

/// The recent revisions, without gaps, bounded by bytes.
#[derive(Debug)]
pub struct EventRing {
    view: ArcSwap<View>,
    head: AtomicI64,
    writer: Mutex<Writer>,
    published: Notify,
    max_bytes: usize,
}

/// What the ring had for a reader.
#[derive(Debug)]
pub enum RingRead {
    /// Consecutive revisions, the first being the one asked for. Never empty.
    Revisions(Vec<Arc<Revision>>),
    /// Nothing yet: the revision asked for is the reader's limit or has not been published.
    CaughtUp,
    /// The revision asked for has left the ring (or was never in it): read the history.
    Behind,
}

/// What readers see: every revision from `floor` to the last filled slot.
#[derive(Debug)]
struct View {
    floor: i64,
    chunks: Vec<Arc<Chunk>>,
}

/// Consecutive revisions from `first` on; slots fill from the left.
#[derive(Debug)]
struct Chunk {
    first: i64,
    slots: Box<[OnceLock<Arc<Revision>>]>,
}

/// What only the writer needs to know: the weights of the view's chunks.
#[derive(Debug, Default)]
struct Writer {
    weights: VecDeque<usize>,
    total: usize,
    filled: usize,
}

impl EventRing {
    /// An empty ring of at most about `max_bytes`, as if at revision 0.
    pub fn new(max_bytes: usize) -> EventRing {
        EventRing {
            view: ArcSwap::from_pointee(View {
                floor: 1,
                chunks: Vec::new(),
            }),
            head: AtomicI64::new(0),
            writer: Mutex::default(),
            published: Notify::new(),
            max_bytes,
        }
    }

    /// The highest revision that the ring covers: published, or skipped by a reset.
    pub fn head(&self) -> i64 {
        self.head.load(Ordering::Acquire)
    }

    /// The lowest revision that can still be read here.
    pub fn floor(&self) -> i64 {
        self.view.load().floor
    }

    /// Appends revisions in order; for apply alone. They are visible to readers on return.
    ///
    /// Revisions up to the head are ignored. After a gap the ring starts anew, so that readers
    /// take what lies in the gap from the history.
    pub fn publish(&self, revisions: Vec<Arc<Revision>>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for revision in revisions {
            let number = revision.revision;
            let head = self.head();
            if number <= head {
                continue;
            }
            if number != head + 1 {
                self.clear(&mut writer, number - 1);
            }
            self.append(&mut writer, revision);
            self.head.store(number, Ordering::Release);
        }
        drop(writer);
        self.published.notify_one();
    }

    /// Drops everything and jumps to `revision`: the state was replaced by a snapshot, or has
    /// just been opened. Readers take what they miss from the history. The head never falls.
    pub fn reset(&self, revision: i64) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let head = revision.max(self.head());
        self.clear(&mut writer, head);
        self.head.store(head, Ordering::Release);
        drop(writer);
        self.published.notify_one();
    }

    /// Copies the revisions from `from` on and below `until`: about `max_bytes` by weight, at
    /// least one if there is any.
    pub fn read(&self, from: i64, until: i64, max_bytes: usize) -> RingRead {
        if from >= until || from > self.head() {
            return RingRead::CaughtUp;
        }
        let view = self.view.load();
        if from < view.floor {
            return RingRead::Behind;
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        for revision in view.from(from) {
            if revision.revision >= until || (bytes >= max_bytes && !found.is_empty()) {
                break;
            }
            bytes += revision.weight();
            found.push(revision.clone());
        }
        if found.is_empty() {
            return RingRead::CaughtUp;
        }
        RingRead::Revisions(found)
    }

    /// The revision with that number, if it is in the ring.
    pub fn find(&self, revision: i64) -> Option<Arc<Revision>> {
        let view = self.view.load();
        if revision < view.floor {
            return None;
        }
        view.from(revision).next().cloned()
    }

    /// Waits until something was published or reset since the last call returned. For the hub's
    /// dispatcher, the only one to wait here.
    pub(crate) async fn published(&self) {
        self.published.notified().await;
    }

    fn clear(&self, writer: &mut Writer, head: i64) {
        *writer = Writer::default();
        self.view.store(Arc::new(View {
            floor: head + 1,
            chunks: Vec::new(),
        }));
    }

    fn append(&self, writer: &mut Writer, revision: Arc<Revision>) {
        let weight = revision.weight();
        let closed = writer
            .weights
            .back()
            .is_none_or(|open| *open >= self.max_bytes / CHUNK_SHARE);
        if closed || writer.filled == CHUNK_REVISIONS {
            self.open_chunk(writer, revision.revision);
        }
        if let Some(open) = writer.weights.back_mut() {
            *open += weight;
        }
        writer.total += weight;
        let view = self.view.load();
        let slot = view.chunks.last().and_then(|c| c.slots.get(writer.filled));
        // The slot exists and is empty: a chunk was opened above if there was none.
        let written = slot.is_some_and(|slot| slot.set(revision).is_ok());
        assert!(written, "the ring's open chunk has a free slot");
        writer.filled += 1;
    }

    /// Adds an empty chunk, dropping the oldest ones above the bound.
    fn open_chunk(&self, writer: &mut Writer, first: i64) {
        let view = self.view.load();
        let mut dropped = 0;
        while writer.total > self.max_bytes
            && let Some(weight) = writer.weights.pop_front()
        {
            writer.total -= weight;
            dropped += 1;
        }
        let mut chunks = Vec::with_capacity(view.chunks.len() + 1 - dropped);
        chunks.extend_from_slice(&view.chunks[dropped..]);
        chunks.push(Arc::new(Chunk::new(first)));
        let floor = match dropped {
            0 => view.floor,
            _ => chunks[0].first,
        };
        writer.weights.push_back(0);
        writer.filled = 0;
        self.view.store(Arc::new(View { floor, chunks }));
    }
}

impl View {
    /// The revisions from `from` on, which is at least the floor.
    fn from(&self, from: i64) -> impl Iterator<Item = &Arc<Revision>> {
        let after = self.chunks.partition_point(|chunk| chunk.first <= from);
        let start = after.saturating_sub(1);
        let skip = self.chunks.get(start).map_or(0, |c| from - c.first);
        self.chunks[start.min(self.chunks.len())..]
            .iter()
            .flat_map(|chunk| chunk.slots.iter().map_while(OnceLock::get))
            .skip(usize::try_from(skip).unwrap_or(0))
    }
}

impl Chunk {
    fn new(first: i64) -> Chunk {
        Chunk {
            first,
            slots: (0..CHUNK_REVISIONS).map(|_| OnceLock::new()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::event::Change;
    use super::*;
    use crate::pb::mvccpb::{Event, KeyValue};

    fn revision(revision: i64, value_bytes: usize) -> Arc<Revision> {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from(vec![0; value_bytes]),
            mod_revision: revision,
            ..KeyValue::default()
        };
        let event = Event {
            kv: Some(kv),
            ..Event::default()
        };
        Arc::new(Revision::new(revision, vec![Change::new(event, 0)]))
    }

    fn numbers(read: RingRead) -> Vec<i64> {
        match read {
            RingRead::Revisions(found) => found.iter().map(|r| r.revision).collect(),
            RingRead::CaughtUp => Vec::new(),
            RingRead::Behind => panic!("behind"),
        }
    }

    #[test]
    fn reads_start_at_any_revision_and_stop_at_the_limits() {
        let ring = EventRing::new(1 << 20);
        ring.reset(1);
        ring.publish((2..=1000).map(|n| revision(n, 1)).collect());
        assert_eq!(ring.head(), 1000);
        for from in [2, 3, 128, 129, 130, 131, 999, 1000] {
            let expected: Vec<i64> = (from..=1000).collect();
            assert_eq!(numbers(ring.read(from, i64::MAX, usize::MAX)), expected);
        }
        assert_eq!(numbers(ring.read(5, 8, usize::MAX)), [5, 6, 7]);
        assert_eq!(numbers(ring.read(5, 5, usize::MAX)), [0; 0]);
        assert_eq!(numbers(ring.read(5, i64::MAX, 0)), [5]);
        assert_eq!(numbers(ring.read(1001, i64::MAX, usize::MAX)), [0; 0]);
        assert!(matches!(ring.read(1, i64::MAX, 1), RingRead::Behind));
        assert_eq!(ring.find(77).map(|r| r.revision), Some(77));
        assert!(ring.find(1).is_none() && ring.find(1001).is_none());
    }

    #[test]
    fn the_oldest_leave_when_the_bytes_run_out() {
        let max = 1 << 20;
        let ring = EventRing::new(max);
        let mut written = 0;
        for n in 1..=5000 {
            let revision = revision(n, 1000);
            written += revision.weight();
            ring.publish(vec![revision]);
            let held = numbers(ring.read(ring.floor(), i64::MAX, usize::MAX));
            assert_eq!(held, (ring.floor()..=n).collect::<Vec<_>>());
        }
        assert!(written > 10 * max);
        let weight = revision(1, 1000).weight();
        let held = usize::try_from(5000 - ring.floor()).expect("positive") * weight;
        assert!(held > max / 2 && held < max + max / 8, "{held} of {max}");
    }

    #[test]
    fn a_revision_larger_than_the_ring_is_still_delivered() {
        let ring = EventRing::new(1000);
        ring.publish(vec![revision(1, 5000), revision(2, 5000)]);
        assert_eq!(numbers(ring.read(2, i64::MAX, 1)), [2]);
    }

    #[test]
    fn a_reset_and_a_gap_send_readers_to_the_history() {
        let ring = EventRing::new(1 << 20);
        ring.publish(vec![revision(1, 1), revision(2, 1)]);
        ring.reset(10);
        assert_eq!(ring.head(), 10);
        assert!(matches!(ring.read(3, i64::MAX, 1), RingRead::Behind));
        assert!(matches!(ring.read(11, i64::MAX, 1), RingRead::CaughtUp));
        ring.reset(4);
        assert_eq!(ring.head(), 10, "the head never falls");
        ring.publish(vec![revision(10, 1), revision(11, 1), revision(15, 1)]);
        assert!(matches!(ring.read(11, i64::MAX, 1), RingRead::Behind));
        assert_eq!(numbers(ring.read(15, i64::MAX, 1)), [15]);
    }

    // Real threads are the point.
    #[allow(clippy::disallowed_methods, reason = "a test on real threads and time")]
    #[test]
    fn readers_run_beside_the_writer() {
        let ring = Arc::new(EventRing::new(64 << 10));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let ring = ring.clone();
                std::thread::spawn(move || {
                    let mut next = 1;
                    while next <= 20_000 {
                        match ring.read(next, i64::MAX, 4096) {
                            RingRead::Revisions(found) => {
                                for revision in found {
                                    assert_eq!(revision.revision, next);
                                    next += 1;
                                }
                            }
                            RingRead::CaughtUp => std::thread::yield_now(),
                            RingRead::Behind => next = ring.floor().max(next),
                        }
                    }
                })
            })
            .collect();
        for n in 1..=20_000 {
            ring.publish(vec![revision(n, 10)]);
        }
        for reader in readers {
            reader.join().expect("no reader failed");
        }
    }
}

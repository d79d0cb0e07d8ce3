//! The objects of one resource in memory: a tree of what is, and a ring of what happened.
//!
//! The tree is persistent: a reader takes its root and reads on while writers go on. Older states
//! are made by walking the ring back from the present one, so that they cost nothing until somebody
//! asks. Watchers hold a place in the ring and pull; whoever falls behind the ring has to list again.
//!
//! Where many watch, they are not woken for every event: those that come shortly after each other are
//! found together, and leave in one piece.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use imbl::OrdMap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Object;

/// Objects by `namespace/name`, or `name`.
pub type Tree = OrdMap<Arc<str>, Arc<Object>>;

/// The objects of a namespace, or all if it is empty.
pub fn within<'t>(
    tree: &'t Tree,
    namespace: &str,
) -> impl Iterator<Item = (&'t Arc<str>, &'t Arc<Object>)> + use<'t> {
    from(tree, namespace, "")
}

/// The objects of a namespace, or all if it is empty, from a key on.
pub fn from<'t>(
    tree: &'t Tree,
    namespace: &str,
    start: &str,
) -> impl Iterator<Item = (&'t Arc<str>, &'t Arc<Object>)> + use<'t> {
    let prefix = match namespace {
        "" => String::new(),
        namespace => format!("{namespace}/"),
    };
    let start = if start > &*prefix { start } else { &*prefix };
    tree.range::<_, str>((Bound::Included(start), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(&*prefix))
}

/// Events that a ring keeps at most; at a thousand writes a second a watcher has half a minute.
const RING_EVENTS_MAX: usize = 32 * 1024;
/// Changes of late whose frames are kept: who is further behind than this makes them anew.
const FRAMES_KEPT: usize = 1024;
/// What waking one watcher is taken to cost: all of a resource's together are woken so seldom that
/// this fills the time in between...
const WAKE: Duration = Duration::from_micros(20);
/// ... but not less often than this. Less than the clock can tell is no pause at all.
const PAUSE_MAX: Duration = Duration::from_millis(20);
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// A state that a paged list goes on in is kept this long after its last page.
const PIN_TIME: Duration = Duration::from_secs(300);
/// States that are kept for paged lists.
const PINS_MAX: usize = 64;

/// What happened to an object.
#[derive(Debug)]
pub struct Change {
    /// The store's revision of the write.
    pub revision: u64,
    /// `namespace/name`, or `name`.
    pub key: Arc<str>,
    /// What it was before; none if it was not.
    pub before: Option<Arc<Object>>,
    /// What it is now; none if it is no more.
    pub now: Option<Arc<Object>>,
    /// What a deletion reports: the last state at the revision of its end.
    pub last: Option<Arc<Object>>,
    /// The event as JSON and as protobuf, made for the first watcher that sends it unchanged.
    frames: Mutex<[Option<Bytes>; 2]>,
}

impl Change {
    /// The event as watchers of one kind send it, made if it is not there.
    pub fn frame(&self, kind: usize, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut frames[kind] {
            Some(frame) => frame.clone(),
            empty => empty.insert(make()).clone(),
        }
    }

    fn forget_frames(&self) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        *frames = Default::default();
    }

    fn size(&self) -> usize {
        // What is now counts in the tree; what was before lives on only here.
        self.before.as_ref().map_or(0, |object| object.size()) + 128
    }
}

/// What the store says of one object.
pub struct Update<'k> {
    /// The revision of the write.
    pub revision: u64,
    /// `namespace/name`, or `name`.
    pub key: &'k str,
    /// What it is now; none if it is no more.
    pub now: Option<Arc<Object>>,
}

/// The objects of one resource.
pub struct Collection {
    inner: RwLock<Inner>,
    /// Counts changes.
    version: AtomicU64,
    /// Rung for those who watch: says up to which version they were told.
    bell: watch::Sender<u64>,
    rung: Mutex<Option<Instant>>,
    ring_bytes: AtomicUsize,
    received: AtomicU64,
    fillings: AtomicU64,
}

#[derive(Default)]
struct Inner {
    tree: Tree,
    bytes: usize,
    ring: VecDeque<Arc<Change>>,
    ring_bytes: usize,
    /// The number of the first change in the ring.
    first: u64,
    /// The ring is complete above this revision.
    complete_above: u64,
    /// The revision of the last change.
    latest: u64,
    pins: VecDeque<Pin>,
}

struct Pin {
    revision: u64,
    tree: Tree,
    until: Instant,
}

/// A watcher's place: the number of the next change that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

/// What a watcher finds at its place.
pub enum Pulled {
    /// Changes in order, none if there are none yet.
    Changes(Vec<Arc<Change>>),
    /// The ring has gone on without it.
    Behind,
}

impl Default for Collection {
    fn default() -> Self {
        Self {
            inner: RwLock::default(),
            version: AtomicU64::new(0),
            bell: watch::Sender::new(0),
            rung: Mutex::default(),
            ring_bytes: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            fillings: AtomicU64::new(0),
        }
    }
}

impl Collection {
    /// Starts anew with all objects at a revision: nothing is known of what happened before.
    pub fn reset(&self, objects: impl IntoIterator<Item = (Arc<str>, Arc<Object>)>, revision: u64) {
        let mut inner = self.write();
        let first = inner.first + inner.ring.len() as u64 + 1;
        let tree: Tree = objects.into_iter().collect();
        let pins = std::mem::take(&mut inner.pins);
        *inner = Inner {
            pins,
            bytes: tree.values().map(|object| object.size()).sum(),
            tree,
            first,
            complete_above: revision,
            latest: revision,
            ..Inner::default()
        };
        drop(inner);
        self.ring_bytes.store(0, Ordering::Relaxed);
        self.fillings.fetch_add(1, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
        self.ring_bell(Instant::now());
    }

    /// Takes in what happened, in the order of revisions; whole revisions at a time, so that no
    /// reader sees half of one. If watchers were woken a moment ago, this is when they are to be woken
    /// again, by [`Self::ring_if_due`].
    pub fn apply<'k>(&self, updates: impl IntoIterator<Item = Update<'k>>) -> Option<Instant> {
        self.apply_at(updates, Instant::now())
    }

    fn apply_at<'k>(
        &self,
        updates: impl IntoIterator<Item = Update<'k>>,
        now: Instant,
    ) -> Option<Instant> {
        let mut inner = self.write();
        let mut count = 0;
        for update in updates {
            inner.take_in(update);
            count += 1;
        }
        self.received.fetch_add(count, Ordering::Relaxed);
        self.ring_bytes.store(inner.ring_bytes, Ordering::Relaxed);
        drop(inner);
        self.version.fetch_add(1, Ordering::Release);
        self.ring_if_due(now)
    }

    /// Wakes the watchers if they were not told of everything, and it is time; else says when it is.
    pub fn ring_if_due(&self, now: Instant) -> Option<Instant> {
        if *self.bell.borrow() == self.version() {
            return None;
        }
        let pause = WAKE * u32::try_from(self.watchers()).unwrap_or(u32::MAX);
        let pause = Some(pause.min(PAUSE_MAX)).filter(|pause| *pause >= PAUSE_MIN);
        let rung = *self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let due = rung.zip(pause).map(|(rung, pause)| rung + pause);
        if due.is_none_or(|due| due <= now) {
            self.ring_bell(now);
            return None;
        }
        due
    }

    fn ring_bell(&self, now: Instant) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.bell.send_replace(self.version());
    }

    /// Something that changes whenever an object does.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Bytes of objects that only the ring keeps alive.
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes.load(Ordering::Relaxed)
    }

    /// Changes in the ring.
    pub fn history(&self) -> usize {
        self.read().ring.len()
    }

    /// Changes that were taken in so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How often it was started anew.
    pub fn fillings(&self) -> u64 {
        self.fillings.load(Ordering::Relaxed)
    }

    /// Forgets the oldest changes until the ring keeps no more bytes alive.
    pub fn trim(&self, bytes: usize) {
        let mut inner = self.write();
        inner.trim(bytes);
        self.ring_bytes.store(inner.ring_bytes, Ordering::Relaxed);
    }

    /// Drops what was made of objects for readers who have not come again since the last call.
    pub fn forget_unused(&self) {
        for object in self.tree().values() {
            object.forget_unused();
        }
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.bell.receiver_count()
    }

    /// Tells of changes.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// The present state.
    pub fn tree(&self) -> Tree {
        self.read().tree.clone()
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.read().tree.get(key).cloned()
    }

    /// Bytes of all objects and of the ring, about.
    pub fn bytes(&self) -> usize {
        let inner = self.read();
        inner.bytes + inner.ring_bytes
    }

    /// The present state, the revision of its last change and the place after it.
    pub fn state(&self) -> (Tree, u64, Cursor) {
        let inner = self.read();
        (inner.tree.clone(), inner.latest, inner.end())
    }

    /// The place of the first change above a revision; none if the ring does not reach that far.
    pub fn cursor_after(&self, revision: u64) -> Option<Cursor> {
        let inner = self.read();
        if revision < inner.complete_above {
            return None;
        }
        let at = inner
            .ring
            .partition_point(|change| change.revision <= revision);
        Some(Cursor(inner.first + at as u64))
    }

    /// The changes at a place, at most `most`, and moves it behind them.
    pub fn pull(&self, cursor: &mut Cursor, most: usize) -> Pulled {
        let inner = self.read();
        let Some(at) = cursor.0.checked_sub(inner.first) else {
            return Pulled::Behind;
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let changes: Vec<_> = inner.ring.iter().skip(at).take(most).cloned().collect();
        cursor.0 += changes.len() as u64;
        Pulled::Changes(changes)
    }

    /// The state at a revision that is not in the future; none if it is forgotten. `pin` keeps it for
    /// the next pages of a list.
    pub fn tree_at(&self, revision: u64, pin: bool) -> Option<Tree> {
        let mut inner = self.write();
        let now = Instant::now();
        inner.pins.retain(|pin| pin.until > now);
        if let Some(found) = inner.pins.iter_mut().find(|pin| pin.revision == revision) {
            found.until = now + PIN_TIME;
            return Some(found.tree.clone());
        }
        let tree = inner.tree_at(revision)?;
        if pin {
            inner.pin(revision, tree.clone(), now);
        }
        Some(tree)
    }

    /// Keeps a state for the next pages of a list.
    pub fn pin(&self, revision: u64, tree: Tree) {
        let mut inner = self.write();
        if !inner.pins.iter().any(|pin| pin.revision == revision) {
            inner.pin(revision, tree, Instant::now());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_in(&mut self, update: Update<'_>) {
        let Update { revision, key, now } = update;
        let known = self.tree.get_key_value(key).map(|(key, _)| key.clone());
        let key = known.unwrap_or_else(|| key.into());
        let before = match &now {
            Some(object) => self.tree.insert(key.clone(), object.clone()),
            None => self.tree.remove(&key),
        };
        if before.is_none() && now.is_none() {
            return;
        }
        let size = |object: &Option<Arc<Object>>| object.as_ref().map_or(0, |o| o.size());
        self.bytes = (self.bytes + size(&now)).saturating_sub(size(&before));
        let last = match (&before, &now) {
            (Some(before), None) => Some(before.at(revision)),
            _ => None,
        };
        self.latest = revision;
        self.push(Change {
            revision,
            key,
            before,
            now,
            last,
            frames: Default::default(),
        });
    }

    fn push(&mut self, change: Change) {
        self.ring_bytes += change.size();
        self.ring.push_back(Arc::new(change));
        if let Some(old) = self.ring.len().checked_sub(FRAMES_KEPT + 1) {
            self.ring[old].forget_frames();
        }
        self.trim(usize::MAX);
    }

    fn trim(&mut self, bytes: usize) {
        while self.ring.len() > RING_EVENTS_MAX || self.ring_bytes > bytes {
            let Some(gone) = self.ring.pop_front() else {
                break;
            };
            self.ring_bytes = self.ring_bytes.saturating_sub(gone.size());
            self.first += 1;
            self.complete_above = gone.revision;
        }
    }

    fn end(&self) -> Cursor {
        Cursor(self.first + self.ring.len() as u64)
    }

    fn tree_at(&self, revision: u64) -> Option<Tree> {
        if revision < self.complete_above {
            return None;
        }
        let mut tree = self.tree.clone();
        for change in self.ring.iter().rev() {
            if change.revision <= revision {
                break;
            }
            match &change.before {
                Some(before) => tree.insert(change.key.clone(), before.clone()),
                None => tree.remove(&change.key),
            };
        }
        Some(tree)
    }

    fn pin(&mut self, revision: u64, tree: Tree, now: Instant) {
        if self.pins.len() == PINS_MAX {
            self.pins.pop_front();
        }
        self.pins.push_back(Pin {
            revision,
            tree,
            until: now + PIN_TIME,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(revision: u64) -> Arc<Object> {
        let json = format!(
            r#"{{"kind":"A","apiVersion":"v1","metadata":{{"resourceVersion":"{revision}","name":"a"}}}}"#
        );
        Arc::new(Object::new(revision, json))
    }

    fn change(collection: &Collection, revision: u64, key: &str, now: Option<Arc<Object>>) {
        collection.apply([Update { revision, key, now }]);
    }

    fn revisions(tree: &Tree) -> Vec<(&str, u64)> {
        let entries = tree.iter().map(|(key, object)| (&**key, object.revision));
        entries.collect()
    }

    fn pulled(collection: &Collection, cursor: &mut Cursor) -> Vec<u64> {
        match collection.pull(cursor, 100) {
            Pulled::Changes(changes) => changes.iter().map(|c| c.revision).collect(),
            Pulled::Behind => panic!("behind"),
        }
    }

    #[test]
    fn the_past_is_found_as_far_as_the_ring_reaches() {
        let collection = Collection::default();
        collection.reset([("a".into(), object(3))], 5);
        change(&collection, 6, "b", Some(object(6)));
        change(&collection, 7, "a", Some(object(7)));
        change(&collection, 9, "b", None);
        assert_eq!(revisions(&collection.tree()), [("a", 7)]);
        assert_eq!(
            revisions(&collection.tree_at(7, false).unwrap()),
            [("a", 7), ("b", 6)]
        );
        assert_eq!(
            revisions(&collection.tree_at(5, false).unwrap()),
            [("a", 3)]
        );
        assert!(collection.tree_at(4, false).is_none());
        let mut cursor = collection.cursor_after(6).unwrap();
        assert_eq!(pulled(&collection, &mut cursor), [7, 9]);
        assert!(pulled(&collection, &mut cursor).is_empty());
        assert!(collection.cursor_after(4).is_none());
    }

    #[test]
    fn many_watchers_are_woken_together() {
        let collection = Collection::default();
        let start = Instant::now();
        let write = |revision, millis| {
            let now = Some(object(revision));
            let key = "a";
            let when = start + Duration::from_millis(millis);
            collection.apply_at([Update { revision, key, now }], when)
        };
        let few: Vec<_> = (0..10).map(|_| collection.bell()).collect();
        assert_eq!((write(1, 0), write(2, 0)), (None, None));
        let many: Vec<_> = (0..490).map(|_| collection.bell()).collect();
        assert_eq!(write(3, 10), None);
        let due = start + Duration::from_millis(20);
        assert_eq!(write(4, 11), Some(due));
        assert_eq!(write(5, 19), Some(due));
        assert_eq!(*few[0].borrow(), 3);
        assert_eq!(collection.ring_if_due(due), None);
        assert_eq!((*few[0].borrow(), *many[0].borrow()), (5, 5));
        assert_eq!(collection.ring_if_due(due), None);
    }

    #[test]
    fn a_ring_forgets_its_oldest_changes_for_others() {
        let collection = Collection::default();
        for revision in 1..=100 {
            change(&collection, revision, "a", Some(object(revision)));
        }
        let bytes = collection.ring_bytes();
        collection.trim(bytes / 2);
        assert!(collection.ring_bytes() <= bytes / 2);
        assert!(collection.cursor_after(40).is_none());
        assert!(collection.cursor_after(60).is_some());
    }

    #[test]
    fn whoever_falls_behind_is_told() {
        let collection = Collection::default();
        let (_, _, mut cursor) = collection.state();
        for revision in 1..=(RING_EVENTS_MAX as u64 + 5) {
            change(&collection, revision, "a", Some(object(revision)));
        }
        assert!(matches!(collection.pull(&mut cursor, 1), Pulled::Behind));
        assert!(collection.tree_at(3, false).is_none());
        let mut cursor = collection.cursor_after(RING_EVENTS_MAX as u64).unwrap();
        assert_eq!(pulled(&collection, &mut cursor).len(), 5);
        collection.reset([], RING_EVENTS_MAX as u64 + 9);
        assert!(matches!(collection.pull(&mut cursor, 1), Pulled::Behind));
    }

    #[test]
    fn a_pinned_state_outlives_the_ring() {
        let collection = Collection::default();
        change(&collection, 1, "a", Some(object(1)));
        collection.tree_at(1, true).unwrap();
        collection.reset([], 50);
        assert_eq!(
            revisions(&collection.tree_at(1, false).unwrap()),
            [("a", 1)]
        );
    }

    #[test]
    fn a_deletion_reports_the_last_state_at_its_own_revision() {
        let collection = Collection::default();
        let (_, _, mut cursor) = collection.state();
        change(&collection, 1, "a", Some(object(1)));
        change(&collection, 2, "a", None);
        let Pulled::Changes(changes) = collection.pull(&mut cursor, 9) else {
            panic!("behind");
        };
        assert_eq!(changes[1].last.as_ref().unwrap().revision, 2);
    }
}

//! The meeting place of apply and the watchers: who is interested in what, and who is woken.
//!
//! Apply only publishes into the ring. One task, the dispatcher, follows the ring, looks up who is
//! interested in each changed key and rings their bells; when it is behind, it takes many
//! revisions at once and rings each bell once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seams::Tasks;

use super::bell::Bell;
use super::event::{Change, History, Revision};
use super::interest::Interest;
use super::range::KeyRange;
use super::ring::{EventRing, RingRead};
use crate::error::{Error, Result};
use crate::pb::mvccpb::KeyValue;

/// How much the dispatcher looks at before it lets other tasks run, in weight of the ring.
const DISPATCH_BYTES: usize = 4 << 20;
/// How often a read retries when the history does not have a revision that the ring skipped: a
/// snapshot is being installed. 20 ms apart, for 10 s in all.
const INSTALL_RETRIES: usize = 500;

/// The watch side of one member. Clones share it.
#[derive(Clone)]
pub struct WatchHub {
    shared: Arc<Shared>,
}

struct Shared {
    ring: Arc<EventRing>,
    history: Arc<dyn History>,
    tasks: Tasks,
    index: Mutex<Index>,
    /// Every revision up to here has been looked up, and the bells it concerns are marked.
    dispatched: AtomicI64,
    stopped: AtomicBool,
    suspended: AtomicBool,
    /// How often all streams were ended at once.
    cuts: AtomicU64,
    watchers: AtomicU64,
    history_reads: AtomicU64,
    lagging: AtomicU64,
    events: AtomicU64,
    #[cfg(feature = "mutants")]
    mutants: std::sync::OnceLock<WatchMutants>,
}

/// Guarded by a lock that apply never takes.
#[derive(Default)]
struct Index {
    interest: Interest<BTreeMap<u64, Arc<Bell>>>,
    bells: BTreeMap<u64, Arc<Bell>>,
    next_stream: u64,
    /// The revision that each stream waits for the dispatcher to reach.
    awaiting: BTreeMap<u64, (i64, Arc<Bell>)>,
}

/// Planted bugs, to show that the checks notice them.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchMutants {
    /// A watch that starts at a revision misses that one.
    pub drop_on_resume: bool,
    /// Progress is reported as soon as it is asked for, whatever is still on its way.
    pub early_progress: bool,
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchStats {
    /// Open streams, embedded ones included.
    pub streams: usize,
    /// Open watchers.
    pub watchers: u64,
    /// Batches that had to come from disk because a watcher was behind the ring.
    pub history_reads: u64,
    /// Streams that wait for such a batch now.
    pub lagging: u64,
    /// Events handed to watchers, embedded ones excluded.
    pub events: u64,
}

/// One more, for as long as it lives.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Counted<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a lagging watcher has read.
#[derive(Debug)]
pub struct Past {
    /// Ascending. There may be none: numbers are skipped by a restore, and nothing has revision 1.
    pub revisions: Vec<Arc<Revision>>,
    /// Where to read on: all that happened before is in the revisions.
    pub next: i64,
}

impl Past {
    /// Revisions that were read from `from` on.
    pub fn of(revisions: Vec<Arc<Revision>>, from: i64) -> Past {
        let next = revisions.last().map_or(from, |last| last.revision + 1);
        Past { revisions, next }
    }
}

impl WatchHub {
    /// A hub over a ring and the history behind it. Its dispatcher runs until `tasks` end; then
    /// every stream ends with `Stopped`.
    pub fn new(ring: Arc<EventRing>, history: Arc<dyn History>, tasks: &Tasks) -> WatchHub {
        let shared = Arc::new(Shared {
            dispatched: AtomicI64::new(ring.head()),
            ring,
            history,
            tasks: tasks.clone(),
            index: Mutex::default(),
            stopped: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            watchers: AtomicU64::new(0),
            history_reads: AtomicU64::new(0),
            lagging: AtomicU64::new(0),
            events: AtomicU64::new(0),
            #[cfg(feature = "mutants")]
            mutants: std::sync::OnceLock::new(),
        });
        tasks.core("watch dispatcher", run_dispatcher(shared.clone()));
        WatchHub { shared }
    }

    /// The ring.
    pub fn ring(&self) -> &EventRing {
        &self.shared.ring
    }

    /// The applied state.
    pub fn history(&self) -> &dyn History {
        &*self.shared.history
    }

    /// Plants bugs, once.
    #[cfg(feature = "mutants")]
    pub fn plant(&self, mutants: WatchMutants) {
        let _ = self.shared.mutants.set(mutants);
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn mutants(&self) -> WatchMutants {
        self.shared.mutants.get().copied().unwrap_or_default()
    }

    /// Whether the member is stopping.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Ends all streams, because what they were told may be wrong, and takes no new ones until
    /// [`resume`](Self::resume).
    pub fn suspend(&self) {
        self.shared.suspended.store(true, Ordering::Release);
        self.shared.cuts.fetch_add(1, Ordering::AcqRel);
        self.shared
            .index()
            .bells
            .values()
            .for_each(|bell| bell.ring());
    }

    /// Takes streams again.
    pub fn resume(&self) {
        self.shared.suspended.store(false, Ordering::Release);
    }

    /// Whether no streams are taken.
    pub fn is_suspended(&self) -> bool {
        self.shared.suspended.load(Ordering::Acquire)
    }

    /// What a stream remembers from its beginning; see [`is_cut`](Self::is_cut).
    pub(crate) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Acquire)
    }

    /// Whether a stream was ended since it began.
    pub(crate) fn is_cut(&self, began: u64) -> bool {
        self.is_suspended() || self.cuts() != began
    }

    /// Figures for metrics.
    pub fn stats(&self) -> WatchStats {
        WatchStats {
            streams: self.shared.index().bells.len(),
            watchers: self.shared.watchers.load(Ordering::Relaxed),
            history_reads: self.shared.history_reads.load(Ordering::Relaxed),
            lagging: self.shared.lagging.load(Ordering::Relaxed),
            events: self.shared.events.load(Ordering::Relaxed),
        }
    }

    /// Counts events that are on their way to watchers.
    pub(crate) fn count_events(&self, events: usize) {
        self.shared
            .events
            .fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Adds a stream. It gets no marks before it registers interest.
    pub fn join(&self) -> Membership {
        let bell = Bell::new();
        let mut index = self.shared.index();
        let stream = index.next_stream;
        index.next_stream += 1;
        index.bells.insert(stream, bell.clone());
        drop(index);
        Membership {
            hub: self.clone(),
            stream,
            bell,
        }
    }

    /// Every revision up to this one has been looked up in the interest index.
    pub(super) fn dispatched(&self) -> i64 {
        self.shared.dispatched.load(Ordering::Acquire)
    }

    pub(crate) fn count_watcher(&self) {
        self.shared.watchers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn uncount_watchers(&self, count: u64) {
        self.shared.watchers.fetch_sub(count, Ordering::Relaxed);
    }

    /// Reads what a lagging watcher misses: revisions from `from` on and below `until`, about
    /// `max_bytes` of them. From the ring if they are there, else from disk, away from the async
    /// threads. The previous versions of the changes in `with_previous` are fetched on the way.
    ///
    /// Fails with `Compacted` if `from` is below the compact revision.
    pub async fn catch_up(
        self,
        from: i64,
        until: i64,
        max_bytes: usize,
        with_previous: Vec<KeyRange>,
    ) -> Result<Past> {
        let _lagging = Counted::new(&self.shared.lagging);
        for _ in 0..INSTALL_RETRIES {
            let shared = self.shared.clone();
            let ranges = with_previous.clone();
            let read = move || shared.read_past(from, until, max_bytes, &ranges);
            let past = self.shared.tasks.blocking(read).await?;
            if past.next > from {
                return Ok(past);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(Error::Internal(format!(
            "the history ends before revision {from}, which has been published"
        )))
    }

    /// Fetches the version before a change, unless it is known: from the ring if it is there, else
    /// from disk.
    pub fn fetch_previous(&self, change: &Change) -> Result<()> {
        self.shared.fetch_previous(change)
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_past(
        &self,
        from: i64,
        until: i64,
        max_bytes: usize,
        with_previous: &[KeyRange],
    ) -> Result<Past> {
        let compact_revision = self.history.compact_revision();
        if from < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        let mut past = match self.ring.read(from, until, max_bytes) {
            RingRead::Revisions(revisions) => Past::of(revisions, from),
            RingRead::CaughtUp | RingRead::Behind => {
                self.history_reads.fetch_add(1, Ordering::Relaxed);
                // Before the read, which shows at least this.
                let current = self.history.current_revision();
                let revisions = self.history.revisions(from, max_bytes)?;
                match revisions.is_empty() {
                    true => Past::of(revisions, from.max(current + 1)),
                    false => Past::of(revisions, from),
                }
            }
        };
        past.revisions.retain(|revision| revision.revision < until);
        past.next = past.next.min(until);
        if !with_previous.is_empty() {
            let changes = past.revisions.iter().flat_map(|r| &r.changes);
            for change in changes {
                if with_previous.iter().any(|r| r.contains(change.key())) {
                    self.fetch_previous(change)?;
                }
            }
        }
        Ok(past)
    }

    fn fetch_previous(&self, change: &Change) -> Result<()> {
        change
            .previous(|key, revision| match self.in_ring(key, revision) {
                Some(found) => Ok(Some(found)),
                None => self.history.version_at(key, revision),
            })
            .map(drop)
    }

    fn in_ring(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let revision = self.ring.find(revision)?;
        let change = revision.changes.iter().find(|c| c.key() == key)?;
        change.event.kv.clone()
    }

    /// Looks up one batch of revisions; false if there was none.
    fn dispatch(&self) -> bool {
        let next = self.dispatched.load(Ordering::Acquire) + 1;
        let (reached, revisions) = match self.ring.read(next, i64::MAX, DISPATCH_BYTES) {
            RingRead::Revisions(found) => (next - 1 + found.len() as i64, found),
            RingRead::CaughtUp => return false,
            // The ring jumped (a snapshot was installed) or moved on faster than this task:
            // whatever was missed may matter to anybody.
            RingRead::Behind => (self.ring.floor() - 1, Vec::new()),
        };
        let mut index = self.index();
        if revisions.is_empty() {
            index.bells.values().for_each(|bell| bell.mark(next));
        }
        for revision in &revisions {
            for change in &revision.changes {
                index.interest.around(change.key(), |bells| {
                    bells.values().for_each(|b| b.mark(revision.revision));
                });
            }
        }
        // After the marks: who reads this finds the marks of every revision up to here.
        self.dispatched.store(reached, Ordering::Release);
        index.awaiting.retain(|_, (revision, bell)| {
            let waits = *revision > reached;
            if !waits {
                bell.ring();
            }
            waits
        });
        true
    }
}

async fn run_dispatcher(shared: Arc<Shared>) {
    let token = shared.tasks.token();
    while !token.is_cancelled() {
        if shared.dispatch() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = shared.ring.published() => {}
            () = token.cancelled() => {}
        }
    }
    shared.stopped.store(true, Ordering::Release);
    shared.index().bells.values().for_each(|bell| bell.ring());
}

/// A stream's place in the hub; it leaves when dropped.
pub struct Membership {
    hub: WatchHub,
    stream: u64,
    bell: Arc<Bell>,
}

impl Membership {
    /// The hub.
    pub fn hub(&self) -> &WatchHub {
        &self.hub
    }

    /// The stream's bell.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// A number that no other stream of the hub has.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// From now on changes in the range mark the bell. Registering a range twice is one
    /// registration.
    ///
    /// Revisions from `from` on that the dispatcher has looked up already are marked right away,
    /// as nobody compared them with this range.
    pub(super) fn register(&self, range: &KeyRange, from: i64) {
        let mut index = self.hub.shared.index();
        let bells = index.interest.entry(range);
        bells.insert(self.stream, self.bell.clone());
        // Under the lock: the dispatcher looks up everything after this with the range in place.
        if from <= self.hub.dispatched() {
            self.bell.mark(from);
        }
    }

    /// Changes in the range no longer mark the bell.
    pub(super) fn unregister(&self, range: &KeyRange) {
        self.hub.shared.index().interest.retain(range, |bells| {
            bells.remove(&self.stream);
            !bells.is_empty()
        });
    }

    /// Rings the bell once the dispatcher has reached the revision; at once if it has. A stream
    /// waits for one revision at a time: a later call replaces an earlier one.
    pub(crate) fn await_dispatch(&self, revision: i64) {
        let mut index = self.hub.shared.index();
        if self.hub.dispatched() >= revision {
            self.bell.ring();
        } else {
            let waiting = (revision, self.bell.clone());
            index.awaiting.insert(self.stream, waiting);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut index = self.hub.shared.index();
        index.bells.remove(&self.stream);
        index.awaiting.remove(&self.stream);
    }
}

//! The watch cache: every object of the cluster in memory, kept by one ordered stream from the store.
//!
//! One watch on the whole key space feeds all resources, so that any commit advances every one of
//! them. A reader that must not be behind asks the store which revision is the latest and waits until
//! the stream has come that far: no read ever scans the store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raft_store::pb::etcdserverpb::{RangeRequest, WatchCreateRequest};
use raft_store::pb::mvccpb::{Event, KeyValue, event::EventType};
use raft_store::{Error, Store, WatchItem};
use seams::{Seams, Tasks};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::collection::Update;
use super::keys::{self, ROOT};
use super::{Collection, Object};
use api::schema::Type;

/// Objects that are read at once while the cache fills.
const PAGE: i64 = 2000;
/// Revisions of history that the cache reads when it starts, so that watches which were open at
/// another server, or at this one before it restarted, go on.
const HISTORY: i64 = 10_000;
/// Between two attempts to follow the store.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
const RETRY_FIRST_MAX: Duration = Duration::from_millis(200);
/// Bytes of former states that all rings together keep alive; whichever has most gives first.
const RINGS_BYTES_MAX: usize = 32 << 20;
/// What nobody has asked for during so long is made anew for who does.
const UNUSED: Duration = Duration::from_secs(60);
/// A stream that has not brought an awaited revision after this long is asked how far it is.
const PATIENCE: Duration = Duration::from_millis(20);

/// An object under its key.
type Entry = (Arc<str>, Arc<Object>);

/// What the cache knows about a resource.
pub struct Source {
    /// Prefix of its keys in the store.
    pub prefix: String,
    /// The type of its objects as they are stored.
    pub schema: &'static Type,
    /// Where its objects are held.
    pub collection: Arc<Collection>,
}

/// All objects, by the prefixes of their keys.
pub struct Cache {
    sources: BTreeMap<String, Source>,
    store: Arc<dyn Store>,
    /// The revision up to which everything has been taken in; 0 until the cache is filled.
    applied: watch::Sender<u64>,
    /// The same while the cache fills, which readers must not see yet.
    position: AtomicU64,
    /// What the store had when the cache began to fill: readers see nothing older.
    floor: AtomicU64,
    /// Somebody waits for a revision that the stream has not brought.
    impatient: Notify,
}

/// Why a read had to be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// The store does not answer.
    Store(Error),
    /// The stream did not bring the revision in time; this is how far it is.
    Late(u64),
}

impl Cache {
    /// A cache of some resources, empty until [`Self::follow`] has filled it.
    pub fn new(store: Arc<dyn Store>, sources: Vec<Source>) -> Arc<Self> {
        let sources = sources
            .into_iter()
            .map(|source| (source.prefix.clone(), source));
        Arc::new(Self {
            sources: sources.collect(),
            store,
            applied: watch::Sender::new(0),
            position: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            impatient: Notify::new(),
        })
    }

    /// The revision up to which everything has been taken in; 0 until the cache is filled.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Tells how far the cache is.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Waits until the cache has everything that was written before this call.
    ///
    /// # Errors
    ///
    /// If the store does not answer or the deadline passes first.
    pub async fn catch_up(&self, deadline: Instant) -> Result<u64, Behind> {
        let revision = timeout_at(deadline, self.store.progress())
            .await
            .map_err(|_| Behind::Late(self.applied()))?
            .map_err(Behind::Store)?;
        let revision = u64::try_from(revision).unwrap_or_default();
        self.wait_for(revision, deadline).await?;
        Ok(revision)
    }

    /// Waits until the cache has a revision.
    ///
    /// # Errors
    ///
    /// If the deadline passes first.
    pub async fn wait_for(&self, revision: u64, deadline: Instant) -> Result<(), Behind> {
        if self.applied() >= revision {
            return Ok(());
        }
        let mut progress = self.applied.subscribe();
        let mut ask = Instant::now() + PATIENCE;
        loop {
            let until = ask.min(deadline);
            match timeout_at(until, progress.wait_for(|applied| *applied >= revision)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(Behind::Late(self.applied())),
                Err(_) if until == deadline => return Err(Behind::Late(self.applied())),
                Err(_) => {
                    self.impatient.notify_one();
                    ask = Instant::now() + PATIENCE * 5;
                }
            }
        }
    }

    /// Fills the cache and follows the store until the tasks end.
    pub fn follow(self: &Arc<Self>, seams: &Seams, tasks: &Tasks) {
        let (cache, seams, owner) = (self.clone(), seams.clone(), tasks.clone());
        tasks.spawn("watch-cache", async move {
            tokio::select! {
                () = cache.run(&seams) => {}
                () = owner.cancelled() => {}
            }
        });
    }

    async fn run(&self, seams: &Seams) {
        let mut pause = RETRY_MIN;
        let mut is_filled = false;
        loop {
            let started = Instant::now();
            let result = if is_filled {
                self.resume().await
            } else {
                match self.fill().await {
                    Ok(()) => {
                        is_filled = true;
                        continue;
                    }
                    Err(error) => Err(error),
                }
            };
            if let Err(error) = result {
                tracing::warn!(%error, applied = self.applied(), "the stream from the store broke");
                // History is gone: start anew, which ends the watches that it would have served.
                is_filled &= !matches!(error, Error::Compacted { .. } | Error::FutureRevision);
            }
            if started.elapsed() > RETRY_MAX {
                pause = RETRY_MIN;
            }
            let jitter = seams.rng.next_u64() % 1000;
            sleep(pause + pause * u32::try_from(jitter).unwrap_or_default() / 1000).await;
            // Before the cache is filled for the first time, everybody waits for it.
            let most = if is_filled {
                RETRY_MAX
            } else {
                RETRY_FIRST_MAX
            };
            pause = (pause * 2).min(most);
        }
    }

    /// Reads everything at one revision, a little way back where the store still has it.
    async fn fill(&self) -> Result<(), Error> {
        let latest = self.store.progress().await?;
        let wanted = (latest - HISTORY).max(1);
        let revision = match self.read_all(wanted).await {
            Ok(()) => wanted,
            Err(Error::Compacted { compact_revision }) if compact_revision > 0 => {
                let oldest = compact_revision.min(latest);
                match self.read_all(oldest).await {
                    Ok(()) => oldest,
                    Err(Error::Compacted { .. }) => {
                        self.read_all(latest).await?;
                        latest
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(Error::Compacted { .. }) => {
                self.read_all(latest).await?;
                latest
            }
            Err(error) => return Err(error),
        };
        self.floor.store(latest.unsigned_abs(), Ordering::Relaxed);
        self.position
            .store(revision.unsigned_abs(), Ordering::Relaxed);
        self.reach(revision.unsigned_abs());
        Ok(())
    }

    /// Everything up to a revision has been taken in.
    fn reach(&self, revision: u64) {
        self.position.fetch_max(revision, Ordering::Relaxed);
        if revision < self.floor.load(Ordering::Relaxed) {
            return;
        }
        self.applied.send_if_modified(|applied| {
            let is_later = revision > *applied;
            *applied = revision.max(*applied);
            is_later
        });
    }

    async fn read_all(&self, revision: i64) -> Result<(), Error> {
        let mut found: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
        let mut start = ROOT.as_bytes().to_vec();
        loop {
            let request = RangeRequest {
                key: start.into(),
                range_end: keys::end(ROOT.as_bytes()).into(),
                revision,
                limit: PAGE,
                ..RangeRequest::default()
            };
            let page = self.store.range(request).await?;
            for pair in &page.kvs {
                if let Some((source, local)) = self.source_of(&pair.key)
                    && let Some(object) = read(source, pair)
                {
                    let objects = found.entry(&source.prefix).or_default();
                    objects.push((local.into(), object));
                }
            }
            match page.kvs.last() {
                Some(last) if page.more => {
                    start = last.key.to_vec();
                    start.push(0);
                }
                _ => break,
            }
        }
        let revision = u64::try_from(revision).unwrap_or_default();
        for source in self.sources.values() {
            let objects = found.remove(&*source.prefix).unwrap_or_default();
            source.collection.reset(objects, revision);
        }
        Ok(())
    }

    /// Follows the store from where the cache is, until the stream ends.
    async fn resume(&self) -> Result<(), Error> {
        let position = self.position.load(Ordering::Relaxed);
        let next = i64::try_from(position).unwrap_or(i64::MAX - 1) + 1;
        let request = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: next,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let mut stream = self.store.watch(request).await?;
        let mut unused = Instant::now() + UNUSED;
        // When watchers are to be woken that were woken a moment ago.
        let mut due: Option<Instant> = None;
        let _rest = Rest(self);
        loop {
            let alarm = due.map_or(unused, |due| due.min(unused));
            let item = tokio::select! {
                item = stream.next() => item?,
                () = self.impatient.notified() => {
                    // Older etcds cannot be asked. Every revision is an event of this watch, so that
                    // what somebody waits for comes anyway.
                    if let Err(error) = stream.request_progress().await {
                        tracing::debug!(%error, "the store does not say how far its stream is");
                    }
                    continue;
                }
                () = sleep_until(alarm) => {
                    let now = Instant::now();
                    due = self.ring_due(now);
                    if now >= unused {
                        unused = now + UNUSED;
                        self.collections().for_each(Collection::forget_unused);
                    }
                    continue;
                }
            };
            let revision = match item {
                WatchItem::Events { revision, events } => {
                    let next = self.take_in(&events);
                    due = due.into_iter().chain(next).min();
                    revision
                }
                WatchItem::Progress { revision } => revision,
            };
            self.reach(revision.unsigned_abs());
        }
    }

    fn collections(&self) -> impl Iterator<Item = &Collection> {
        self.sources.values().map(|source| &*source.collection)
    }

    /// Wakes watchers whose time has come; says when the next ones are to be woken.
    fn ring_due(&self, now: Instant) -> Option<Instant> {
        self.collections()
            .filter_map(|collection| collection.ring_if_due(now))
            .min()
    }

    /// Takes the oldest history from the longest rings until all fit together.
    fn trim(&self) {
        let sizes = || self.collections().map(|one| (one.ring_bytes(), one));
        let total: usize = sizes().map(|(bytes, _)| bytes).sum();
        let excess = total.saturating_sub(RINGS_BYTES_MAX);
        if excess > 0
            && let Some((most, longest)) = sizes().max_by_key(|(bytes, _)| *bytes)
        {
            longest.trim(most.saturating_sub(excess));
        }
    }

    /// Takes in whole revisions; says when the watchers are to be woken that were not yet.
    fn take_in(&self, events: &[Event]) -> Option<Instant> {
        let mut updates: BTreeMap<&str, Vec<Update<'_>>> = BTreeMap::new();
        for event in events {
            let Some(pair) = &event.kv else { continue };
            let Some((source, key)) = self.source_of(&pair.key) else {
                continue;
            };
            let now = match event.r#type() {
                EventType::Delete => None,
                EventType::Put => match read(source, pair) {
                    Some(object) => Some(object),
                    None => continue,
                },
            };
            let revision = u64::try_from(pair.mod_revision).unwrap_or_default();
            let update = Update { revision, key, now };
            updates.entry(&source.prefix).or_default().push(update);
        }
        let updates = updates.into_iter();
        let due = updates
            .filter_map(|(prefix, updates)| self.sources[prefix].collection.apply(updates))
            .min();
        self.trim();
        due
    }

    /// The resource that a key belongs to, and the key below its prefix.
    fn source_of<'k>(&self, key: &'k [u8]) -> Option<(&Source, &'k str)> {
        let key = std::str::from_utf8(key).ok()?;
        // The longest prefix that is not above the key in order is the only candidate.
        let (prefix, source) = self
            .sources
            .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        let local = key.strip_prefix(prefix.as_str())?;
        (!local.is_empty()).then_some((source, local))
    }
}

/// The stream has ended: nobody is left waiting for what it brought.
struct Rest<'c>(&'c Cache);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let later = Instant::now() + Duration::from_secs(1);
        self.0.ring_due(later);
    }
}

fn read(source: &Source, pair: &KeyValue) -> Option<Arc<Object>> {
    let revision = u64::try_from(pair.mod_revision).unwrap_or_default();
    match Object::from_stored(revision, &pair.value, source.schema) {
        Ok(object) => Some(Arc::new(object)),
        Err(error) => {
            let key = String::from_utf8_lossy(&pair.key);
            tracing::error!(%key, revision, error, "a stored object cannot be read and is passed over");
            None
        }
    }
}

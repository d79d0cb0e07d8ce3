//! The applied state: revisions, keys, leases, alarms; what the log's entries made of the data.
//!
//! One writer, [`Mvcc::apply`]; any number of readers, which neither wait for it nor hold it up.
//! Apply gathers the changes of a batch of entries, hands them to the engine as one write batch
//! together with the position of the last entry, and then publishes: first the new state, then the
//! events, then the applied index. Readers load the published state, which never changes, and pin
//! the revision they read while they need more than one value.
//!
//! What holds for revisions is etcd's: a fresh store is at revision 1, a request that changes
//! anything takes one revision, and a key changes at most once in a revision.
//!
//! - `keys`: what lies where in the engine, on one page.
//! - `index`, `leases`: what is kept in memory.
//! - `decoded`, `apply`, `write`: entries to changes to one batch; `txn`: compares and paths.
//! - `state`, `range`, `history`, `chunks`: reads, now and at older revisions.
//! - `gc`: forgetting; [`Builder`]: stores from the outside.
//! - [`check`]: what is wrong with a request before it is proposed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use self::gc::{Pin, Pins};
use self::state::{Failure, Published, Source};
use self::write::Writer;
use crate::engine::{Engine, EngineError, Space};
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::{
    AlarmMember, AlarmResponse, AlarmType, CompactionResponse, DeleteRangeResponse,
    LeaseGrantResponse, LeaseRevokeResponse, PutResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse,
};
use crate::position::LogPosition;
use crate::watch::{EventRing, Revision};

pub use builder::{Builder, Origin};
pub use chunks::{Export, RangeChunks};
pub use decoded::Decoded;
pub use leases::{LeaseEvent, LeaseInfo, MAX_LEASE_TTL};

mod apply;
mod builder;
pub mod check;
mod chunks;
mod decoded;
mod gc;
mod history;
mod index;
mod keys;
mod leases;
mod range;
mod span;
mod state;
#[cfg(test)]
mod testing;
mod txn;
mod write;

/// Lease events that a lessor may lag behind before it has to read all leases anew.
const LEASE_EVENTS: usize = 4096;

/// So many keys are read within a millisecond or two.
const LONG_RANGE_KEYS: usize = 512;

/// How a store is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MvccConfig {
    /// How many bytes of keys and values the store may hold before it counts as full.
    pub quota_bytes: u64,
    /// How many bytes of recent events are kept in memory for watchers.
    pub ring_bytes: usize,
}

impl Default for MvccConfig {
    fn default() -> Self {
        MvccConfig {
            quota_bytes: 16 << 30,
            ring_bytes: 128 << 20,
        }
    }
}

/// A committed log entry, as the state machine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A leader's first entry; changes nothing.
    Blank,
    /// An encoded [`crate::pb::log::Command`]. Keys and values stay slices of it.
    Command(Bytes),
    /// A membership, opaque here.
    Membership(Bytes),
}

/// What came of one entry: a response, or the error that the client gets. Both are the same on
/// every member.
pub type Outcome = Result<Response>;

/// The response to one entry. Headers carry only the revision.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// Blank entries, memberships and lease checkpoints.
    None,
    /// A put.
    Put(PutResponse),
    /// A deletion.
    DeleteRange(DeleteRangeResponse),
    /// A transaction.
    Txn(TxnResponse),
    /// A compaction.
    Compact(CompactionResponse),
    /// A lease grant.
    LeaseGrant(LeaseGrantResponse),
    /// Lease revocations.
    LeaseRevoke(LeaseRevokeResponse),
    /// An alarm request.
    Alarm(AlarmResponse),
    /// A member ID that was never used before in this cluster; never 0.
    MemberId(u64),
}

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry applied to it.
    pub applied: Option<LogPosition>,
    /// The membership, and the entry that set it.
    pub membership: Option<(LogPosition, Bytes)>,
    /// Its revision.
    pub revision: i64,
}

/// How much the store holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Keys and values of all versions that are not collected yet, and a little for each.
    pub live_bytes: u64,
    /// Files of the engine, and what becomes files with the next flush.
    pub disk_bytes: u64,
    /// What `live_bytes` may grow to.
    pub quota_bytes: u64,
    /// Living keys.
    pub keys: u64,
}

impl Sizes {
    /// Whether the store is so full that its operator should act: 90 % of the quota.
    pub fn is_nearly_full(&self) -> bool {
        self.live_bytes >= self.quota_bytes / 10 * 9
    }

    /// Whether the store is full: time for the NOSPACE alarm.
    pub fn is_full(&self) -> bool {
        self.live_bytes >= self.quota_bytes
    }
}

/// What was applied since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys put, in transactions too.
    pub puts: u64,
    /// Keys deleted, by the end of their lease too.
    pub deletes: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases revoked or expired.
    pub leases_revoked: u64,
    /// Records of history that compaction removed.
    pub collected: u64,
}

#[derive(Default)]
struct CountsSoFar {
    puts: AtomicU64,
    deletes: AtomicU64,
    leases_granted: AtomicU64,
    leases_revoked: AtomicU64,
}

impl CountsSoFar {
    fn add(&self, revisions: &[Arc<Revision>], leases: &[LeaseEvent]) {
        let changes = || revisions.iter().flat_map(|revision| &revision.changes);
        let deletes = changes().filter(|change| change.is_delete()).count();
        let puts = changes().count() - deletes;
        let of_leases =
            |wanted: fn(&LeaseEvent) -> bool| leases.iter().filter(|e| wanted(e)).count();
        let granted = of_leases(|event| matches!(event, LeaseEvent::Granted { .. }));
        let revoked = of_leases(|event| matches!(event, LeaseEvent::Revoked { .. }));
        for (count, more) in [
            (&self.puts, puts),
            (&self.deletes, deletes),
            (&self.leases_granted, granted),
            (&self.leases_revoked, revoked),
        ] {
            count.fetch_add(more as u64, Ordering::Relaxed);
        }
    }
}

/// The chained hash of all changes up to a revision. Members that applied the same entries have the
/// same hash at the same revision, whatever they compacted, restarted or installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashAt {
    /// The hash.
    pub hash: u64,
    /// The revision it is of.
    pub revision: i64,
    /// The lowest readable revision; 0 while nothing was compacted.
    pub compact_revision: i64,
}

/// The applied state. Clones share it.
#[derive(Clone)]
pub struct Mvcc(Arc<Inner>);

struct Inner {
    published: ArcSwap<Published>,
    writer: Mutex<Writer>,
    /// What the current engine has made durable.
    flushed: Mutex<Option<LogPosition>>,
    pins: Arc<Pins>,
    ring: Arc<EventRing>,
    applied: watch::Sender<u64>,
    compacted: watch::Sender<i64>,
    leases: broadcast::Sender<LeaseEvent>,
    counts: CountsSoFar,
    config: MvccConfig,
}

/// The last entry that a database holds, whether it is live or not.
pub fn applied_of(engine: &dyn Engine) -> Result<Option<LogPosition>, EngineError> {
    let record = engine.get(Space::Meta, keys::STATE)?;
    let state = record.map(|record| keys::StateRecord::decode(&record));
    Ok(state.transpose()?.and_then(|state| state.applied))
}

impl Mvcc {
    /// Opens the state in an engine, which may be empty. Rebuilds the index: about a second for a
    /// few million keys.
    pub fn open(engine: Arc<dyn Engine>, config: MvccConfig) -> Result<Mvcc, EngineError> {
        let state = Published::load(engine)?;
        let ring = EventRing::new(config.ring_bytes);
        ring.reset(state.record.revision);
        Ok(Mvcc(Arc::new(Inner {
            writer: Mutex::new(Writer::new(&state)),
            flushed: Mutex::new(state.record.applied),
            pins: Arc::default(),
            ring: Arc::new(ring),
            applied: watch::Sender::new(applied_index(&state)),
            compacted: watch::Sender::new(state.record.compact),
            leases: broadcast::Sender::new(LEASE_EVENTS),
            counts: CountsSoFar::default(),
            published: ArcSwap::from_pointee(state),
            config,
        })))
    }

    // === Writing ===

    /// Applies entries, in order and without gaps, and says what came of each.
    ///
    /// All of them become visible at once. An error is fatal: what the state holds is unknown and
    /// every later call fails.
    pub fn apply(&self, entries: impl Into<Decoded>) -> Result<Vec<Outcome>, EngineError> {
        let mut writer = self.writer();
        if writer.failed {
            return Err(EngineError::Failed);
        }
        let outcomes = writer.apply(entries.into());
        writer.failed = outcomes.is_err();
        let outcomes = outcomes?;
        let (revisions, lease_events) = writer.take_events();
        self.0.published.store(Arc::new(writer.published()));
        self.0.counts.add(&revisions, &lease_events);
        self.0.ring.publish(revisions);
        for event in lease_events {
            // No receiver is no error: nobody here leads.
            let _ = self.0.leases.send(event);
        }
        self.announce(&writer);
        Ok(outcomes)
    }

    /// Whether [`apply`](Mvcc::apply) may take long, for what the entries do or because the disk
    /// does not keep up: it blocks its thread meanwhile.
    pub fn is_long(&self, entries: &Decoded) -> bool {
        !entries.is_light() || self.load().engine.is_congested()
    }

    /// Goes on with another engine: a snapshot was installed. Readers under way finish with the
    /// old one; watchers take what they miss from the new one.
    ///
    /// Yields the engine that was replaced: readers may still hold it.
    pub fn replace(&self, engine: Arc<dyn Engine>) -> Result<Weak<dyn Engine>, EngineError> {
        let state = Published::load(engine)?;
        let mut writer = self.writer();
        *writer = Writer::new(&state);
        *self.flushed_lock() = state.record.applied;
        let revision = state.record.revision;
        let replaced = self.0.published.swap(Arc::new(state));
        self.0.ring.reset(revision);
        let _ = self.0.leases.send(LeaseEvent::Replaced);
        self.announce(&writer);
        Ok(Arc::downgrade(&replaced.engine))
    }

    /// Makes what is applied durable; returns the position up to which it is.
    pub fn flush(&self) -> Result<Option<LogPosition>, EngineError> {
        let state = self.load();
        state.engine.flush()?;
        let mut flushed = self.flushed_lock();
        // A snapshot may have been installed meanwhile; then this flush says nothing about it.
        if Arc::ptr_eq(&state.engine, &self.load().engine) {
            *flushed = (*flushed).max(state.record.applied);
        }
        Ok(*flushed)
    }

    /// Collects about `budget` changes below the compact revision; says whether more are left.
    /// Never waits for apply or readers.
    pub fn gc_step(&self, budget: usize) -> Result<bool, EngineError> {
        gc::step(&self.load(), &self.0.pins, budget)
    }

    /// Copies the state, durably, into a directory that does not exist yet, while apply goes on;
    /// says what the copy holds.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, EngineError> {
        let wanted = [(Space::Meta, keys::STATE), (Space::Meta, keys::MEMBERSHIP)];
        let mut found = self.load().engine.checkpoint(dir, &wanted)?.into_iter();
        let mut next = || found.next().flatten();
        let state = match next() {
            Some(record) => keys::StateRecord::decode(&record)?,
            None => keys::StateRecord::default(),
        };
        Ok(Checkpoint {
            applied: state.applied,
            membership: next().map(keys::decode_membership).transpose()?,
            revision: state.revision,
        })
    }

    // === Where the state stands ===

    /// The last applied entry.
    pub fn applied(&self) -> Option<LogPosition> {
        self.0.published.load().record.applied
    }

    /// The last applied entry that a crash cannot lose: the log may be purged up to here.
    pub fn flushed(&self) -> Option<LogPosition> {
        *self.flushed_lock()
    }

    /// The applied index as it advances; 0 as long as nothing is applied.
    pub fn applied_watch(&self) -> watch::Receiver<u64> {
        self.0.applied.subscribe()
    }

    /// The last applied membership and the entry that set it.
    pub fn membership(&self) -> Option<(LogPosition, Bytes)> {
        self.0.published.load().membership.clone()
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.0.published.load().revision()
    }

    /// The lowest readable revision; 0 while nothing was compacted.
    pub fn compact_revision(&self) -> i64 {
        self.0.published.load().compact_revision()
    }

    /// The compact revision as it advances: when there is history to collect.
    pub fn compact_watch(&self) -> watch::Receiver<i64> {
        self.0.compacted.subscribe()
    }

    /// Every revision below this one is collected: a physical compaction at `r` is done when this
    /// has reached `r`.
    pub fn collected_revision(&self) -> i64 {
        self.load().progress.next()
    }

    /// The recent events, for the watch hub.
    pub fn ring(&self) -> &Arc<EventRing> {
        &self.0.ring
    }

    /// How much the store holds.
    pub fn sizes(&self) -> Sizes {
        let state = self.load();
        let collected = state.progress.collected();
        Sizes {
            live_bytes: state.record.written.saturating_sub(collected),
            disk_bytes: state.engine.disk_bytes(),
            quota_bytes: self.0.config.quota_bytes,
            keys: state.index.len() as u64,
        }
    }

    /// What was applied here since the store was opened.
    pub fn counts(&self) -> Counts {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let so_far = &self.0.counts;
        Counts {
            puts: now(&so_far.puts),
            deletes: now(&so_far.deletes),
            leases_granted: now(&so_far.leases_granted),
            leases_revoked: now(&so_far.leases_revoked),
            collected: self.load().progress.versions(),
        }
    }

    /// The raised alarms.
    pub fn alarms(&self) -> Vec<AlarmMember> {
        apply::select(&*self.load().alarms, AlarmType::None as i32)
    }

    /// The chained hash at a revision; 0 means the current one.
    pub fn hash(&self, revision: i64) -> Result<HashAt> {
        let (state, _pin) = self.pinned(revision)?;
        let revision = if revision <= 0 {
            state.revision()
        } else {
            revision
        };
        let compact_revision = state.compact_revision();
        match history::hash_at(&state, revision) {
            Ok(hash) => Ok(HashAt {
                hash,
                revision,
                compact_revision,
            }),
            Err(Failure::Gone) => Err(Error::Compacted { compact_revision }),
            Err(failure) => Err(history::fatal(failure)),
        }
    }

    // === Reading ===

    /// Reads keys at one revision.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        if request.range_end.is_empty() && request.revision <= 0 {
            match range::range(&*self.load(), request) {
                // Superseded, compacted and collected since the state was loaded.
                Err(Failure::Gone) => {}
                other => return other.map_err(history::fatal),
            }
        }
        let (state, _pin) = self.pinned(request.revision)?;
        range::range(&*state, request).map_err(history::fatal)
    }

    /// Whether a range takes so many keys that reading them holds up other requests of a thread.
    pub fn is_long_range(&self, request: &RangeRequest) -> bool {
        let limited = (1..=LONG_RANGE_KEYS as i64).contains(&request.limit);
        if request.range_end.is_empty() || request.count_only || limited {
            return false;
        }
        let span = span::Span::new(&request.key, &request.range_end);
        span.count(&self.load().index) > LONG_RANGE_KEYS
    }

    /// Reads a long range in chunks of about `chunk_bytes`, all at one revision.
    pub fn range_chunks(&self, request: RangeRequest, chunk_bytes: usize) -> Result<RangeChunks> {
        RangeChunks::new(self, request, chunk_bytes)
    }

    /// Runs a transaction that only reads; see [`check::check_txn`].
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse> {
        // Which revisions it reads is known only once its branch is chosen: hold all there are.
        let (state, _pin) = loop {
            match self.pinned(self.compact_revision().max(1)) {
                Err(Error::Compacted { .. }) => {}
                held => break held?,
            }
        };
        txn::read(&*state, request).map_err(history::fatal)
    }

    /// Everything at one revision (0: the current one), for a backup, in chunks of about
    /// `chunk_bytes`.
    pub fn export(&self, revision: i64, chunk_bytes: usize) -> Result<Export> {
        Export::new(self, revision, chunk_bytes)
    }

    // === Leases ===

    /// The IDs of all leases, ascending as unsigned numbers.
    pub fn leases(&self) -> Vec<i64> {
        self.load().leases.iter().map(|(id, _)| id).collect()
    }

    /// What the log says about a lease.
    pub fn lease(&self, id: i64) -> Option<LeaseInfo> {
        self.load().leases.get(id).map(LeaseInfo::from)
    }

    /// The keys attached to a lease, ascending.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.load().leases.keys(id)
    }

    /// Grants, revocations and checkpoints as they are applied. A receiver that lags reads all
    /// leases anew.
    pub fn lease_events(&self) -> broadcast::Receiver<LeaseEvent> {
        self.0.leases.subscribe()
    }

    // === Inside ===

    /// Makes this state differ from what the log says, as a bit that flips in memory does.
    #[cfg(test)]
    pub(crate) fn garble(&self) {
        self.writer().record.hash ^= 1;
    }

    fn load(&self) -> Arc<Published> {
        self.0.published.load_full()
    }

    /// The state, with a revision in it that stays readable while the pin lives. Revisions of 0
    /// and below mean the current one.
    fn pinned(&self, revision: i64) -> Result<(Arc<Published>, Pin)> {
        loop {
            let state = self.load();
            let at = range::resolve(&*state, revision)?;
            let pin = self.0.pins.pin(at);
            let compact_revision = self.compact_revision();
            if compact_revision <= at {
                return Ok((state, pin));
            }
            if revision > 0 {
                return Err(Error::Compacted { compact_revision });
            }
        }
    }

    fn announce(&self, writer: &Writer) {
        let compact = writer.record.compact;
        self.0
            .compacted
            .send_if_modified(|seen| std::mem::replace(seen, compact) != compact);
        let index = writer.record.applied.map_or(0, |applied| applied.index);
        self.0.applied.send_replace(index);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flushed_lock(&self) -> MutexGuard<'_, Option<LogPosition>> {
        self.0
            .flushed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn applied_index(state: &Published) -> u64 {
    state.record.applied.map_or(0, |applied| applied.index)
}

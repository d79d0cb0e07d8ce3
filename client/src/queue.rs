//! The queue between informers and workers, with the properties of client-go's workqueue:
//!
//! - a key that waits is not added a second time;
//! - no two workers have one key at a time: one that is added while a worker has it comes again once
//!   the worker is done;
//! - keys come in the order in which they were added;
//! - a key may come later, and after failures ever later: each waits 5 ms, doubled with every failure
//!   up to 1000 s, and all failures together pass a bucket of 100 that refills by 10 a second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seams::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::metrics::{QueueSeries, Ticket, metrics};

/// The first wait after a failure, and the longest.
const FAILURE_WAIT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1000));
/// How many failures in a row are told apart: more would be longer than the longest wait.
const FAILURES_MAX: u32 = 20;
/// All retries together, as upstream's default controller rate limiter.
const BUCKET: f64 = 100.0;
const BUCKET_PER_SECOND: f64 = 10.0;

/// Keys that want to be worked on. Clones are the same queue.
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<K> {
    rng: Arc<dyn Rng>,
    state: Mutex<State<K>>,
    /// A key can be taken, or one comes earlier than those who wait know.
    wake: Notify,
    series: QueueSeries,
}

struct State<K> {
    /// Those that can be taken, in order; all of them are in `dirty`.
    ready: VecDeque<K>,
    /// Those that want to be worked on, and since when.
    dirty: BTreeMap<K, Instant>,
    /// Those that a worker has, and since when.
    processing: BTreeMap<K, Ticket>,
    /// Those that come later, by time; the number keeps equal times apart.
    later: BTreeMap<(Instant, u64), K>,
    later_at: BTreeMap<K, (Instant, u64)>,
    number: u64,
    failures: BTreeMap<K, u32>,
    tokens: f64,
    tokens_at: Instant,
    is_closed: bool,
}

impl<K: Clone + Ord + Send + 'static> Queue<K> {
    /// An empty queue. Metrics have its name.
    pub fn new(name: &str, rng: Arc<dyn Rng>) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: BTreeMap::new(),
            processing: BTreeMap::new(),
            later: BTreeMap::new(),
            later_at: BTreeMap::new(),
            number: 0,
            failures: BTreeMap::new(),
            tokens: BUCKET,
            tokens_at: Instant::now(),
            is_closed: false,
        };
        let inner = Inner {
            rng,
            state: Mutex::new(state),
            wake: Notify::new(),
            series: metrics().queue(name),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        let state = self.inner.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key, unless it waits already.
    pub fn add(&self, key: K) {
        let mut state = self.state();
        if self.make_ready(&mut state, key, Instant::now()) {
            self.inner.wake.notify_one();
        }
    }

    /// Adds a key after a while; the earliest of several times counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let at = Instant::now() + delay;
        if let Some(known) = state.later_at.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            state.later.remove(&known);
        }
        state.number += 1;
        let place = (at, state.number);
        state.later.insert(place, key.clone());
        state.later_at.insert(key, place);
        self.inner.wake.notify_one();
    }

    /// Adds a key that failed, after a while that grows with its failures.
    pub fn retry(&self, key: K) {
        let delay = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_default();
            let wait = FAILURE_WAIT.0 * (1 << (*failures).min(FAILURES_MAX));
            *failures = failures.saturating_add(1);
            let own = self.inner.rng.jitter(wait.min(FAILURE_WAIT.1));
            own.max(state.take_token(Instant::now()))
        };
        self.inner.series.retries.inc();
        self.add_after(key, delay);
    }

    /// A key failed no more: its next failure is its first.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// How often a key failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.state().failures.get(key).copied().unwrap_or_default()
    }

    /// The next key, once there is one; none after the queue was closed. Whoever gets one says when it is
    /// [done](Self::done).
    pub async fn next(&self) -> Option<K> {
        loop {
            let woken = self.inner.wake.notified();
            tokio::pin!(woken);
            // From here on no waking is missed.
            woken.as_mut().enable();
            let later = {
                let mut state = self.state();
                if state.is_closed {
                    return None;
                }
                let now = Instant::now();
                self.collect_due(&mut state, now);
                if let Some(key) = state.ready.pop_front() {
                    let since = state.dirty.remove(&key);
                    let ticket = self.inner.series.took(since.map(|since| now - since), now);
                    state.processing.insert(key.clone(), ticket);
                    if !state.ready.is_empty() {
                        self.inner.wake.notify_one();
                    }
                    return Some(key);
                }
                state.later.keys().next().map(|(at, _)| *at)
            };
            match later {
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = sleep_until(at) => {}
                },
                None => woken.await,
            }
        }
    }

    /// The worker that had a key is done with it.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(ticket) = state.processing.remove(key) {
            self.inner.series.worked(ticket, now);
        }
        if state.dirty.contains_key(key) {
            state.ready.push_back(key.clone());
            self.inner.wake.notify_one();
        }
    }

    /// Ends the queue: whoever waits gets nothing, and nothing is added any more.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.inner.series.depth.add(-count(&state.dirty));
        state.ready.clear();
        state.dirty.clear();
        state.later.clear();
        state.later_at.clear();
        self.inner.wake.notify_waiters();
    }

    /// How many keys can be taken now.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    /// No key can be taken now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Marks a key as wanting work; whether it can be taken now and could not before.
    fn make_ready(&self, state: &mut State<K>, key: K, now: Instant) -> bool {
        if state.is_closed || state.dirty.contains_key(&key) {
            return false;
        }
        self.inner.series.added();
        state.dirty.insert(key.clone(), now);
        if state.processing.contains_key(&key) {
            return false;
        }
        state.ready.push_back(key);
        true
    }

    fn collect_due(&self, state: &mut State<K>, now: Instant) {
        while let Some(entry) = state.later.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            state.later_at.remove(&key);
            self.make_ready(state, key, now);
        }
    }
}

impl<K> State<K> {
    /// Takes a token out of the bucket; how long until it is there.
    fn take_token(&mut self, now: Instant) -> Duration {
        let refilled = (now - self.tokens_at).as_secs_f64() * BUCKET_PER_SECOND;
        self.tokens = (self.tokens + refilled).min(BUCKET) - 1.0;
        self.tokens_at = now;
        Duration::from_secs_f64((-self.tokens / BUCKET_PER_SECOND).max(0.0))
    }
}

impl<K> Drop for Inner<K> {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        self.series.depth.add(-count(&state.dirty));
        for ticket in state.processing.values() {
            self.series.gave_up(*ticket);
        }
    }
}

fn count<K, V>(map: &BTreeMap<K, V>) -> i64 {
    i64::try_from(map.len()).unwrap_or_default()
}

impl<K: fmt::Debug + Ord> fmt::Debug for Queue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let waiting: BTreeSet<&K> = state.dirty.keys().collect();
        f.debug_struct("Queue")
            .field("waiting", &waiting)
            .field("later", &state.later_at.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

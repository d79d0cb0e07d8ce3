//! Watches inside the process, over the naive store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use seams::{Tasks, Threads};
use tokio::time::timeout;

use super::local::{LocalOptions, LocalWatch};
use super::testing::{RANGES, StoreStep, TestStore, store_step};
use super::{History, KeyRange, LeaderWatch, WatchHub};
use crate::error::Error;
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::pb::mvccpb::Event;
use crate::store::{WatchItem, WatchStream};

const LONG: Duration = Duration::from_secs(30);

struct World {
    store: Arc<TestStore>,
    hub: WatchHub,
    tasks: Tasks,
}

impl World {
    fn new(ring_bytes: usize) -> World {
        let tasks = Tasks::new(Threads::Simulated);
        let store = TestStore::new(ring_bytes);
        let hub = WatchHub::new(store.ring(), store.clone(), &tasks);
        World { store, hub, tasks }
    }

    fn watch(&self, key: &'static str, end: &'static str, start_revision: i64) -> LocalWatch {
        let request = request(key, end, start_revision);
        let options = LocalOptions::default();
        self.hub.watch(&request, options).expect("the watch opens")
    }
}

fn request(key: &'static str, end: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(end.as_bytes()),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

async fn next(watch: &mut LocalWatch) -> WatchItem {
    let item = timeout(LONG, watch.next()).await.expect("within the bound");
    item.expect("the watch goes on")
}

async fn events(watch: &mut LocalWatch) -> Vec<Event> {
    match next(watch).await {
        WatchItem::Events { events, .. } => events,
        progress => panic!("{progress:?} instead of events"),
    }
}

fn values(events: &[Event]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let value = |e: &Event| e.kv.as_ref().map_or(String::new(), |kv| text(&kv.value));
    events.iter().map(value).collect()
}

#[tokio::test(start_paused = true)]
async fn events_arrive_from_now_or_from_a_revision() {
    let world = World::new(1 << 20);
    world.store.put("a", "1");
    let second = world.store.put("a", "2");
    let mut now = world.watch("a", "", 0);
    let mut past = world.watch("a", "", second);
    let mut future = world.watch("a", "", second + 2);
    world.store.put("b", "x");
    world.store.put("a", "3");
    assert_eq!(values(&events(&mut now).await), ["3"]);
    assert_eq!(values(&events(&mut past).await), ["2", "3"]);
    assert_eq!(values(&events(&mut future).await), ["3"]);
    assert!(timeout(LONG, now.next()).await.is_err(), "and nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_revision_one_sees_everything() {
    let world = World::new(1 << 20);
    let mut watch = world.watch("a", "", 1);
    assert!(timeout(LONG, watch.next()).await.is_err());
    world.store.put("a", "1");
    assert_eq!(values(&events(&mut watch).await), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_stays_in_the_ring_however_much_passes_by() {
    let world = World::new(4 << 10);
    let mut watch = world.watch("a", "", 0);
    for _ in 0..1000 {
        world.store.put("b", "something else");
        tokio::task::yield_now().await;
    }
    assert!(world.store.ring().floor() > 100);
    world.store.put("a", "1");
    assert_eq!(values(&events(&mut watch).await), ["1"]);
    assert_eq!(world.hub.stats().history_reads, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_watch_reads_on_from_the_history_and_rejoins_the_ring() {
    let world = World::new(4 << 10);
    let mut watch = world.watch("a", "z", 0);
    for n in 0..1000 {
        world.store.put("a", &n.to_string());
        tokio::task::yield_now().await;
    }
    let mut seen = Vec::new();
    while seen.len() < 1000 {
        seen.extend(events(&mut watch).await);
    }
    let range = KeyRange::of_watch(&"a".into(), &"z".into()).expect("a range");
    assert_eq!(seen, world.store.events(&range, 0));
    let reads = world.hub.stats().history_reads;
    assert!(reads > 0);
    world.store.put("a", "live");
    assert_eq!(values(&events(&mut watch).await), ["live"]);
    assert_eq!(world.hub.stats().history_reads, reads);
}

#[tokio::test(start_paused = true)]
async fn compaction_ends_what_needs_it_and_spares_its_own_revision() {
    let world = World::new(1 << 10);
    world.store.put("a", "1");
    let deleted = world.store.delete("a");
    for _ in 0..100 {
        world.store.put("b", "x");
    }
    let mut late = world.watch("a", "", deleted - 1);
    world.store.compact(deleted);
    let compact_revision = deleted;
    let refused = world
        .hub
        .watch(&request("a", "", deleted - 1), LocalOptions::default());
    assert_eq!(refused.err(), Some(Error::Compacted { compact_revision }));
    let negative = world
        .hub
        .watch(&request("a", "", -1), LocalOptions::default());
    assert_eq!(negative.err(), Some(Error::Compacted { compact_revision }));
    assert_eq!(
        late.next().await,
        Err(Error::Compacted { compact_revision })
    );

    let mut watch = world.watch("a", "", deleted);
    let found = events(&mut watch).await;
    assert_eq!(found.len(), 1, "the deletion at the compact revision");
    assert_eq!(
        found[0].kv.as_ref().map(|kv| kv.mod_revision),
        Some(deleted)
    );
}

#[tokio::test(start_paused = true)]
async fn progress_comes_after_the_events_and_not_below_the_start() {
    let world = World::new(1 << 20);
    let mut watch = world.watch("a", "", 0);
    // A watch from now on is complete at once, even where nothing is ever written again.
    let revision = world.store.current_revision();
    watch.request_progress().await.expect("asked");
    assert_eq!(next(&mut watch).await, WatchItem::Progress { revision });
    world.store.put("a", "1");
    let revision = world.store.put("b", "x");
    watch.request_progress().await.expect("asked");
    assert_eq!(values(&events(&mut watch).await), ["1"]);
    assert_eq!(next(&mut watch).await, WatchItem::Progress { revision });

    let mut future = world.watch("a", "", revision + 2);
    future.request_progress().await.expect("asked");
    assert!(timeout(LONG, future.next()).await.is_err());
    world.store.put("b", "x");
    assert!(timeout(LONG, future.next()).await.is_err());
    let revision = world.store.put("b", "x");
    assert_eq!(next(&mut future).await, WatchItem::Progress { revision });
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_reports_by_itself_if_asked_to() {
    let world = World::new(1 << 20);
    let notify = WatchCreateRequest {
        progress_notify: true,
        ..request("a", "", 0)
    };
    let watch = world.hub.watch(&notify, LocalOptions::default());
    let mut watch = watch.expect("the watch opens");
    for _ in 0..3 {
        let revision = world.store.put("b", "x");
        assert_eq!(next(&mut watch).await, WatchItem::Progress { revision });
    }
    world.store.put("a", "1");
    assert_eq!(values(&events(&mut watch).await), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn watches_end_with_the_member_and_without_a_leader() {
    let world = World::new(1 << 20);
    let (leader, follow) = tokio::sync::watch::channel(Some(1));
    let options = LocalOptions {
        leader: Some(LeaderWatch::new(follow, Duration::from_secs(10))),
        ..LocalOptions::default()
    };
    let watch = world.hub.watch(&request("a", "", 0), options);
    let mut led = watch.expect("the watch opens");
    let mut other = world.watch("a", "", 0);
    assert_eq!(world.hub.stats().watchers, 2);
    leader.send_replace(None);
    assert_eq!(led.next().await, Err(Error::NoLeader));
    drop(led);
    assert_eq!(
        (world.hub.stats().watchers, world.hub.stats().streams),
        (1, 1)
    );
    world.tasks.cancel();
    assert_eq!(other.next().await, Err(Error::Stopped));
}

/// Real threads: a busy writer, a ring too small for it, watches that come, sleep and read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_threads() {
    let tasks = Tasks::new(Threads::Real);
    let store = TestStore::new(16 << 10);
    let hub = WatchHub::new(store.ring(), store.clone(), &tasks);
    let mut watches = Vec::new();
    for n in 0..100 {
        let key = if n % 2 == 0 { "rare" } else { "often" };
        let start = if n % 3 == 0 {
            store.current_revision()
        } else {
            0
        };
        let from = store.current_revision() + i64::from(start == 0);
        let watch = hub.watch(&request(key, "", start), LocalOptions::default());
        let mut watch = watch.expect("the watch opens");
        let (range, model) = (KeyRange::Key(key.into()), store.clone());
        let handle = tasks.spawn("watch", async move {
            let mut seen = Vec::new();
            let last = |seen: &[Event]| seen.last().cloned().and_then(|e: Event| e.kv);
            while last(&seen).is_none_or(|kv| kv.value != "end") {
                seen.extend(events(&mut watch).await);
            }
            assert_eq!(seen, model.events(&range, from));
        });
        watches.push(handle);
        for m in 0..20 {
            store.put("often", "x");
            if (n + m) % 7 == 0 {
                store.put("rare", "x");
            }
        }
        tokio::task::yield_now().await;
    }
    store.put("often", "end");
    store.put("rare", "end");
    for watch in watches {
        watch.await.expect("everything arrived");
    }
}

/// One step of the random test.
#[derive(Debug, Clone)]
enum Do {
    Store(StoreStep),
    /// Lets the dispatcher run.
    Dispatch,
    /// Opens a watch so many revisions before (or after) the current one; 0 is from now.
    Open(&'static str, &'static str, i64),
    /// Takes up to so many items from a watch.
    Take(usize, usize),
    Progress(usize),
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let ranges = RANGES.to_vec();
    let step = prop_oneof![
        12 => store_step().prop_map(Do::Store),
        4 => Just(Do::Dispatch),
        2 => (prop::sample::select(ranges), -5i64..20).prop_map(|((k, e), b)| Do::Open(k, e, b)),
        5 => (0usize..8, 1usize..4).prop_map(|(w, n)| Do::Take(w, n)),
        1 => (0usize..8).prop_map(Do::Progress),
    ];
    prop::collection::vec(step, 1..120)
}

/// A watch and what it has seen.
struct Seen {
    watch: LocalWatch,
    range: KeyRange,
    /// As in the request.
    start: i64,
    from: i64,
    events: Vec<Event>,
    ended: bool,
}

impl Seen {
    /// Takes one item if there is one, and checks what can be checked at once.
    fn take(&mut self, store: &TestStore) -> bool {
        let Some(item) = (!self.ended)
            .then(|| self.watch.next().now_or_never())
            .flatten()
        else {
            return false;
        };
        match item {
            Ok(WatchItem::Events { revision, events }) => {
                assert!(!events.is_empty());
                self.events.extend(events);
                self.complete_up_to(store, revision);
                let last = self.events.last().and_then(|e| e.kv.as_ref());
                assert_eq!(last.map(|kv| kv.mod_revision), Some(revision));
            }
            Ok(WatchItem::Progress { revision }) => {
                assert!(revision >= self.start);
                self.complete_up_to(store, revision);
            }
            Err(Error::Compacted { compact_revision }) => {
                assert_eq!(compact_revision, store.compact_revision());
                assert!(self.next() < compact_revision);
                self.ended = true;
            }
            Err(error) => panic!("{error}"),
        }
        true
    }

    fn next(&self) -> i64 {
        let last = self.events.last().and_then(|e| e.kv.as_ref());
        last.map_or(self.from, |kv| kv.mod_revision + 1)
    }

    /// All events up to a revision, in order, each once, whole revisions, with what was before.
    fn complete_up_to(&self, store: &TestStore, revision: i64) {
        let revision_of = |e: &Event| e.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let mut expected = store.events(&self.range, self.from);
        expected.retain(|e| revision_of(e) <= revision);
        assert_eq!(self.events.len(), expected.len());
        for (seen, expected) in self.events.iter().zip(expected) {
            // A previous version may have been compacted away, and only then may it be missing.
            if seen.prev_kv.is_none() && revision_of(seen) <= store.compact_revision() {
                assert_eq!(seen.kv, expected.kv);
            } else {
                assert_eq!(*seen, expected);
            }
        }
    }
}

async fn run(steps: Vec<Do>, ring_bytes: usize) {
    let world = World::new(ring_bytes);
    let store = &world.store;
    let mut all: Vec<Seen> = Vec::new();
    for step in steps {
        match step {
            Do::Store(step) => store.take(&step),
            Do::Dispatch => settle().await,
            Do::Open(key, end, back) => {
                let start = (store.current_revision() - back).max(0);
                let watch = world
                    .hub
                    .watch(&request(key, end, start), LocalOptions::default());
                match watch {
                    Ok(watch) => all.push(Seen {
                        watch,
                        range: KeyRange::of_watch(&key.into(), &end.into()).expect("a range"),
                        start,
                        from: if start == 0 {
                            store.current_revision() + 1
                        } else {
                            start
                        },
                        events: Vec::new(),
                        ended: false,
                    }),
                    Err(error) => {
                        let compact_revision = store.compact_revision();
                        assert_eq!(error, Error::Compacted { compact_revision });
                        assert!(start < compact_revision);
                    }
                }
            }
            Do::Take(watch, items) => {
                if let Some(seen) = all.get_mut(watch) {
                    let _ = (0..items).take_while(|_| seen.take(store)).count();
                }
            }
            Do::Progress(watch) => {
                if let Some(seen) = all.get_mut(watch) {
                    seen.watch.request_progress().await.expect("asked");
                }
            }
        }
    }
    store.publish();
    settle().await;
    for seen in &mut all {
        while seen.take(store) {}
        if !seen.ended {
            seen.complete_up_to(store, store.current_revision());
        }
    }
    drop(all);
    assert_eq!(
        (world.hub.stats().watchers, world.hub.stats().streams),
        (0, 0)
    );
}

/// Lets the dispatcher do all there is to do.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

proptest! {
    #[test]
    fn every_watch_sees_what_happened(steps in steps(), ring in 0usize..30_000) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(run(steps, ring));
    }
}

//! One stream with many watchers, driven step by step at random against the naive store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use seams::{Tasks, Threads};
use tokio::sync::watch;

use super::super::session::Session;
use super::super::{WatchConfig, WatchParts};
use crate::pb::etcdserverpb::watch_create_request::FilterType;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::pb::mvccpb::Event;
use crate::pb::mvccpb::event::EventType;
use crate::watch::testing::{RANGES, StoreStep, TestStore, store_step};
use crate::watch::{History, KeyRange, WatchHub};

#[derive(Debug, Clone)]
enum Do {
    Store(StoreStep),
    /// Lets the dispatcher run.
    Dispatch,
    Create(WatchCreateRequest, i64),
    Cancel(i64),
    Progress,
    /// The connection takes up to so many chunks.
    Take(usize),
}

fn create() -> impl Strategy<Value = WatchCreateRequest> {
    let ranges = RANGES.to_vec();
    let filters = prop::collection::vec(prop::sample::select(vec![0, 1]), 0..2);
    (prop::sample::select(ranges), filters, any::<[bool; 2]>()).prop_map(
        |((key, end), filters, [prev_kv, fragment])| WatchCreateRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            filters,
            prev_kv,
            fragment,
            ..WatchCreateRequest::default()
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let step = prop_oneof![
        12 => store_step().prop_map(Do::Store),
        4 => Just(Do::Dispatch),
        3 => (create(), -5i64..20).prop_map(|(request, back)| Do::Create(request, back)),
        1 => (0i64..10).prop_map(Do::Cancel),
        2 => Just(Do::Progress),
        6 => (1usize..4).prop_map(Do::Take),
    ];
    prop::collection::vec(step, 1..150)
}

/// What the client knows of one watcher.
struct Seen {
    request: WatchCreateRequest,
    range: KeyRange,
    from: i64,
    created: bool,
    ended: bool,
    events: Vec<Event>,
}

struct Run {
    store: Arc<TestStore>,
    hub: WatchHub,
    session: Session,
    /// What was asked for and not answered yet, in order.
    asked: Vec<(WatchCreateRequest, i64)>,
    seen: BTreeMap<i64, Seen>,
    cancelled: Vec<Seen>,
    bytes: Vec<u8>,
}

impl Run {
    fn new(ring_bytes: usize) -> Run {
        let tasks = Tasks::new(Threads::Simulated);
        let store = TestStore::new(ring_bytes);
        let hub = WatchHub::new(store.ring(), store.clone(), &tasks);
        let parts = WatchParts {
            hub: hub.clone(),
            leader: watch::channel(None).1,
            header: Arc::new(super::header),
            config: WatchConfig {
                fragment_bytes: 150,
                ..WatchConfig::default()
            },
        };
        Run {
            store,
            session: Session::new(Arc::new(parts)),
            hub,
            asked: Vec::new(),
            seen: BTreeMap::new(),
            cancelled: Vec::new(),
            bytes: Vec::new(),
        }
    }

    fn ask(&mut self, request: RequestUnion) {
        let request_union = Some(request);
        self.session.handle(WatchRequest { request_union });
    }

    /// Does what the connection does when it wants more; false if there is nothing.
    fn take(&mut self) -> bool {
        for _ in 0..10 {
            if let Some(chunk) = self.session.outbox().next_chunk() {
                self.bytes.extend_from_slice(&chunk);
                self.receive();
                return true;
            }
            let mut cx = Context::from_waker(Waker::noop());
            self.session.poll_waits(&mut cx).expect("no failure");
            self.session.advance().expect("no failure");
        }
        false
    }

    fn receive(&mut self) {
        while let [0, a, b, c, d, rest @ ..] = &self.bytes[..] {
            let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            if rest.len() < len {
                return;
            }
            let message = WatchResponse::decode(&rest[..len]).expect("a response");
            self.bytes.drain(..5 + len);
            self.check(message);
        }
    }

    fn check(&mut self, response: WatchResponse) {
        let revision = response.header.as_ref().expect("a header").revision;
        if response.created {
            let (request, from) = self.asked.remove(0);
            let range = KeyRange::of_watch(&request.key, &request.range_end);
            let seen = Seen {
                range: range.expect("no empty ranges here"),
                request,
                from,
                created: true,
                ended: false,
                events: Vec::new(),
            };
            assert!(self.seen.insert(response.watch_id, seen).is_none());
            return;
        }
        if response.watch_id == -1 {
            assert!(!self.seen.is_empty());
            for seen in self.seen.values() {
                assert!(seen.request.start_revision <= revision);
                seen.complete_up_to(&self.store, revision);
            }
            return;
        }
        let seen = self
            .seen
            .get_mut(&response.watch_id)
            .expect("created before");
        assert!(seen.created && !seen.ended);
        if response.canceled {
            if response.compact_revision > 0 {
                assert!(response.compact_revision <= self.store.compact_revision());
                assert!(seen.next() < response.compact_revision);
            }
            seen.ended = true;
            self.cancelled.extend(self.seen.remove(&response.watch_id));
            return;
        }
        assert!(!response.events.is_empty());
        assert!(!response.fragment || seen.request.fragment);
        seen.events.extend(response.events);
        if !response.fragment {
            assert_eq!(seen.next() - 1, revision);
            seen.complete_up_to(&self.store, revision);
        }
    }
}

impl Seen {
    fn next(&self) -> i64 {
        let last = self.events.last().and_then(|e| e.kv.as_ref());
        last.map_or(self.from, |kv| kv.mod_revision + 1)
    }

    /// All events up to a revision, in order, each once, whole revisions, with what was before.
    fn complete_up_to(&self, store: &TestStore, revision: i64) {
        let revision_of = |e: &Event| e.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let filtered = |kind: FilterType| self.request.filters.contains(&(kind as i32));
        let mut expected = store.events(&self.range, self.from);
        expected.retain(|e| match e.r#type == EventType::Put as i32 {
            true => !filtered(FilterType::Noput),
            false => !filtered(FilterType::Nodelete),
        });
        expected.retain(|e| revision_of(e) <= revision);
        assert_eq!(self.events.len(), expected.len());
        for (seen, expected) in self.events.iter().zip(expected) {
            assert_eq!((&seen.kv, seen.r#type), (&expected.kv, expected.r#type));
            if !self.request.prev_kv {
                assert_eq!(seen.prev_kv, None);
            } else if seen.prev_kv.is_some() || revision_of(seen) > store.compact_revision() {
                // Only a previous version that was compacted away may be missing.
                assert_eq!(seen.prev_kv, expected.prev_kv);
            }
        }
    }
}

async fn run(steps: Vec<Do>, ring_bytes: usize) {
    go(Run::new(ring_bytes), steps).await;
}

async fn go(mut run: Run, steps: Vec<Do>) {
    for step in steps {
        let store = run.store.clone();
        match step {
            Do::Store(step) => store.take(&step),
            Do::Dispatch => settle().await,
            Do::Create(request, back) => {
                let start_revision = (store.current_revision() - back).max(0);
                let request = WatchCreateRequest {
                    start_revision,
                    ..request
                };
                let from = match start_revision {
                    0 => store.current_revision() + 1,
                    start => start,
                };
                run.asked.push((request.clone(), from));
                run.ask(RequestUnion::CreateRequest(request));
            }
            Do::Cancel(watch_id) => {
                run.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            }
            Do::Progress => run.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})),
            Do::Take(chunks) => {
                let _ = (0..chunks).take_while(|_| run.take()).count();
            }
        }
    }
    run.store.publish();
    settle().await;
    while run.take() {}
    // Nothing is left over, and everybody who is still there has everything.
    assert!(run.bytes.is_empty() && run.asked.is_empty());
    for seen in run.seen.values() {
        seen.complete_up_to(&run.store, run.store.current_revision());
    }
    assert_eq!(run.hub.stats().watchers, run.seen.len() as u64);
    drop(run.session);
    assert_eq!((run.hub.stats().watchers, run.hub.stats().streams), (0, 0));
}

/// Lets the dispatcher do all there is to do.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

proptest! {
    #[test]
    fn every_watcher_of_a_stream_sees_what_happened(
        steps in steps(),
        ring in 0usize..30_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(run(steps, ring));
    }
}

/// A watcher that was fine when it was created, and has not read yet.
#[tokio::test]
async fn compaction_overtakes_a_lagging_watcher() {
    let mut run = Run::new(1 << 20);
    run.store.put("a", "1");
    settle().await;
    while run.take() {}
    let request = WatchCreateRequest {
        key: Bytes::from_static(b"a"),
        start_revision: 2,
        ..WatchCreateRequest::default()
    };
    run.asked.push((request.clone(), 2));
    run.ask(RequestUnion::CreateRequest(request));
    run.store.put("a", "2");
    run.store.compact(3);
    settle().await;
    while run.take() {}
    assert!(run.seen.is_empty());
    assert!(run.cancelled[0].ended && run.cancelled[0].events.is_empty());
}

/// The checks above are worth something: they notice the planted bugs.
#[cfg(feature = "mutants")]
mod planted {
    use super::*;
    use crate::watch::WatchMutants;

    /// A watch that is opened in the past and asked for progress.
    async fn resume(mutants: WatchMutants) {
        let run = Run::new(1 << 20);
        run.hub.plant(mutants);
        let watch = WatchCreateRequest {
            key: Bytes::from_static(b"a"),
            ..WatchCreateRequest::default()
        };
        let write = || Do::Store(StoreStep::Write(vec![("a", Some(b"x".to_vec()))]));
        let steps = vec![write(), Do::Create(watch, 0), write(), Do::Progress];
        go(run, steps).await;
    }

    #[tokio::test]
    async fn nothing_planted_nothing_found() {
        resume(WatchMutants::default()).await;
    }

    #[tokio::test]
    #[should_panic = "left == right"]
    async fn an_event_dropped_on_resume_is_noticed() {
        let drop_on_resume = true;
        resume(WatchMutants {
            drop_on_resume,
            ..WatchMutants::default()
        })
        .await;
    }

    #[tokio::test]
    #[should_panic = "left == right"]
    async fn early_progress_is_noticed() {
        let early_progress = true;
        resume(WatchMutants {
            early_progress,
            ..WatchMutants::default()
        })
        .await;
    }
}

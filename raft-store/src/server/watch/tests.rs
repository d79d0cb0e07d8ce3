//! The service with a real client over TCP, one test per promise; `model` has the random ones.

mod bench;
mod model;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seams::{Tasks, Threads};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::{WatchConfig, WatchParts, WatchService};
use crate::pb::etcdserverpb::watch_client::WatchClient;
use crate::pb::etcdserverpb::watch_create_request::FilterType;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{
    ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse,
};
use crate::pb::mvccpb::Event;
use crate::watch::testing::TestStore;
use crate::watch::{History, WatchHub};

const LONG: Duration = Duration::from_secs(20);
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// A member's watch side, served on a port of its own.
struct Server {
    store: Arc<TestStore>,
    hub: WatchHub,
    leader: watch::Sender<Option<u64>>,
    tasks: Tasks,
    channel: Channel,
}

fn header() -> ResponseHeader {
    ResponseHeader {
        cluster_id: 7,
        member_id: u64::MAX,
        revision: 0,
        raft_term: 3,
    }
}

impl Server {
    async fn new() -> Server {
        Server::with(1 << 20, WatchConfig::default()).await
    }

    // The tests use real sockets.
    #[allow(clippy::disallowed_methods, reason = "a test on real threads and time")]
    async fn with(ring_bytes: usize, config: WatchConfig) -> Server {
        let tasks = Tasks::new(Threads::Real);
        let store = TestStore::new(ring_bytes);
        let hub = WatchHub::new(store.ring(), store.clone(), &tasks);
        let (leader, follow) = watch::channel(Some(1));
        let service = WatchService::new(WatchParts {
            hub: hub.clone(),
            leader: follow,
            header: Arc::new(header),
            config,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("binds");
        let address = listener.local_addr().expect("bound");
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        let token = tasks.token();
        tasks.spawn("server", async move {
            tokio::select! {
                served = serving => served.expect("the server runs"),
                // Later than the streams, so that they can tell their clients why they end.
                () = async { token.cancelled().await; tokio::time::sleep(LONG / 4).await } => {}
            }
        });
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("connects");
        Server {
            store,
            hub,
            leader,
            tasks,
            channel,
        }
    }

    async fn open(&self) -> Client {
        self.try_open(false).await.expect("the stream opens")
    }

    async fn try_open(&self, require_leader: bool) -> Result<Client, Status> {
        let (requests, outgoing) = mpsc::channel(1024);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if require_leader {
            let value = "true".parse().expect("a header value");
            request.metadata_mut().insert("hasleader", value);
        }
        let mut client = WatchClient::new(self.channel.clone());
        client = client.max_decoding_message_size(usize::MAX);
        let responses = client.watch(request).await?.into_inner();
        Ok(Client {
            requests,
            responses,
        })
    }

    async fn open_watch(&self, request: WatchCreateRequest) -> Client {
        let mut client = self.open().await;
        client.create(request).await;
        client
    }
}

struct Client {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Client {
    async fn send(&self, request: RequestUnion) {
        let request_union = Some(request);
        let sent = self.requests.send(WatchRequest { request_union }).await;
        sent.expect("the stream is open");
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(request)).await;
        let response = self.next().await;
        assert!(response.created, "{response:?}");
        response
    }

    async fn progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    async fn cancel(&self, watch_id: i64) {
        let cancel = WatchCancelRequest { watch_id };
        self.send(RequestUnion::CancelRequest(cancel)).await;
    }

    async fn result(&mut self) -> Result<WatchResponse, Status> {
        let message = timeout(LONG, self.responses.message()).await;
        let message = message.expect("a response within the bound")?;
        Ok(message.expect("the stream does not end without a status"))
    }

    async fn next(&mut self) -> WatchResponse {
        let response = self.result().await.expect("a response");
        let header = response.header.expect("every response has a header");
        let revision = header.revision;
        assert_eq!(
            header,
            ResponseHeader {
                revision,
                ..self::header()
            }
        );
        response
    }

    async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await;
            assert!(!response.events.is_empty(), "{response:?}");
            events.extend(response.events);
        }
        assert_eq!(events.len(), count);
        events
    }
}

fn on(key: &'static str, end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(end.as_bytes()),
        ..WatchCreateRequest::default()
    }
}

fn since(key: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..on(key, "")
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().expect("a header").revision
}

fn brief(events: &[Event]) -> Vec<(i64, String)> {
    let kv = |e: &Event| e.kv.clone().expect("every event has a key");
    let brief = |e: &Event| {
        let kv = kv(e);
        (
            kv.mod_revision,
            String::from_utf8_lossy(&kv.value).into_owned(),
        )
    };
    events.iter().map(brief).collect()
}

#[tokio::test]
async fn created_comes_first_then_one_response_per_revision() {
    let server = Server::new().await;
    server.store.put("a", "old");
    let mut client = server.open().await;
    let created = client.create(on("a", "")).await;
    assert_eq!((created.watch_id, revision(&created)), (0, 2));
    assert!(!created.canceled && created.events.is_empty());
    for n in 3..10 {
        server.store.put("a", "new");
        let response = client.next().await;
        assert_eq!((response.watch_id, revision(&response)), (0, n));
        assert_eq!(brief(&response.events), [(n, "new".to_owned())]);
    }
}

#[tokio::test]
async fn ids_are_given_from_zero_and_kept_apart() {
    let server = Server::new().await;
    let mut client = server.open().await;
    let with_id = |watch_id| WatchCreateRequest {
        watch_id,
        ..on("a", "")
    };
    for (asked, given) in [(0, 0), (2, 2), (0, 1), (0, 3), (-7, -7)] {
        let created = client.create(with_id(asked)).await;
        assert_eq!((created.watch_id, created.canceled), (given, false));
    }
    let refused = client.create(with_id(2)).await;
    assert_eq!((refused.watch_id, refused.canceled), (-1, true));
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(refused.cancel_reason, reason);

    client.cancel(2).await;
    let canceled = client.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled), (2, true));
    assert_eq!(client.create(with_id(2)).await.watch_id, 2, "free again");
}

#[tokio::test]
async fn senseless_requests_are_refused_one_by_one() {
    let server = Server::new().await;
    let mut client = server.open().await;
    let negative = client.create(since("a", -1)).await;
    assert_eq!((negative.watch_id, negative.canceled), (-1, true));
    assert_eq!(negative.cancel_reason, COMPACTED);
    for (key, end) in [("b", "a"), ("b", "b")] {
        let empty = client.create(on(key, end)).await;
        assert_eq!((empty.watch_id, empty.canceled), (-1, true));
        assert_eq!(empty.cancel_reason, "mvcc: watcher range is empty");
    }
    let nothing = WatchRequest {
        request_union: None,
    };
    client.requests.send(nothing).await.expect("sent");
    assert_eq!(
        client.create(on("a", "")).await.watch_id,
        0,
        "the stream goes on"
    );
}

#[tokio::test]
async fn ranges_mean_what_they_mean_in_etcd() {
    let server = Server::new().await;
    let mut client = server.open().await;
    let ranges = [
        ("b", ""),
        ("b", "c"),
        ("b", "\0"),
        ("\0", "\0"),
        ("", "\0"),
        ("", ""),
    ];
    for range in ranges {
        client.create(on(range.0, range.1)).await;
    }
    server
        .store
        .write(&["a", "b", "ba", "c"].map(|key| (key, Some(Vec::new()))));
    let mut seen = vec![String::new(); ranges.len()];
    for _ in 0..5 {
        let response = client.next().await;
        for kv in response.events.into_iter().filter_map(|e| e.kv) {
            seen[response.watch_id as usize] += &format!("{} ", String::from_utf8_lossy(&kv.key));
        }
    }
    assert_eq!(
        seen,
        ["b ", "b ba ", "b ba c ", "a b ba c ", "a b ba c ", ""]
    );
}

#[tokio::test]
async fn a_watch_starts_in_the_past_or_in_the_future() {
    let server = Server::with(1, WatchConfig::default()).await;
    for n in 2..300 {
        server.store.put("a", &n.to_string());
    }
    let expected: Vec<_> = (100..300).map(|n| (n, n.to_string())).collect();
    let mut past = server.open_watch(since("a", 100)).await;
    assert_eq!(brief(&past.events(200).await), expected);
    assert!(server.hub.stats().history_reads > 0);

    let mut future = server.open_watch(since("a", 302)).await;
    for n in 300..305 {
        server.store.put("a", &n.to_string());
    }
    let expected: Vec<_> = (302..305).map(|n| (n, n.to_string())).collect();
    assert_eq!(brief(&future.events(3).await), expected);
}

#[tokio::test]
async fn a_watch_from_revision_one_sees_everything() {
    let server = Server::new().await;
    let mut client = server.open_watch(since("a", 1)).await;
    client.progress().await;
    let progress = client.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (-1, 1));
    server.store.put("a", "2");
    assert_eq!(brief(&client.events(1).await), [(2, "2".to_owned())]);
}

#[tokio::test]
async fn filters_and_previous_versions() {
    let server = Server::new().await;
    server.store.put("a", "1");
    let mut client = server.open().await;
    let filtered = |filters: &[FilterType], prev_kv| WatchCreateRequest {
        filters: filters.iter().map(|f| *f as i32).collect(),
        prev_kv,
        ..on("a", "")
    };
    client.create(filtered(&[FilterType::Noput], true)).await;
    client
        .create(filtered(&[FilterType::Nodelete], false))
        .await;
    client
        .create(filtered(&[FilterType::Nodelete, FilterType::Noput], true))
        .await;
    client.create(filtered(&[], true)).await;
    server.store.put("a", "2");
    server.store.delete("a");
    server.store.put("a", "3");
    let mut seen = vec![Vec::new(); 4];
    while seen.iter().map(Vec::len).sum::<usize>() < 6 {
        let response = client.next().await;
        seen[response.watch_id as usize].extend(response.events);
    }
    assert_eq!(brief(&seen[0]), [(4, String::new())]);
    assert_eq!(brief(&seen[1]), [(3, "2".to_owned()), (5, "3".to_owned())]);
    assert_eq!(brief(&seen[2]), []);
    assert_eq!(
        brief(&seen[3]),
        [(3, "2".into()), (4, String::new()), (5, "3".into())]
    );
    let previous = |event: &Event| event.prev_kv.as_ref().map(|kv| kv.value.clone());
    assert!(seen[1].iter().all(|event| event.prev_kv.is_none()));
    assert_eq!(previous(&seen[0][0]), Some(Bytes::from_static(b"2")));
    let all: Vec<_> = seen[3].iter().map(previous).collect();
    assert_eq!(all, [Some("1".into()), Some("2".into()), None]);
    let deleted = seen[3][1].kv.as_ref().expect("a key");
    assert_eq!((deleted.create_revision, deleted.version), (0, 0));
}

#[tokio::test]
async fn a_cancelled_watch_gets_nothing_more() {
    let server = Server::new().await;
    let mut client = server.open().await;
    client.create(on("a", "")).await;
    client.create(on("a", "")).await;
    server.store.put("a", "1");
    let both = [client.next().await.watch_id, client.next().await.watch_id];
    assert_eq!(both, [0, 1]);
    client.cancel(0).await;
    client.cancel(0).await;
    client.cancel(99).await;
    let canceled = client.next().await;
    assert!(canceled.canceled && !canceled.created);
    assert_eq!((canceled.watch_id, revision(&canceled)), (0, 2));
    assert_eq!(
        (canceled.compact_revision, &*canceled.cancel_reason),
        (0, "")
    );
    server.store.put("a", "2");
    assert_eq!(client.next().await.watch_id, 1);
    assert_eq!(server.hub.stats().watchers, 1);
}

#[tokio::test]
async fn compaction_cancels_what_starts_below_it() {
    let server = Server::with(1, WatchConfig::default()).await;
    server.store.put("a", "1");
    let deleted = server.store.delete("a");
    server.store.put("a", "2");
    server.store.compact(deleted);
    let mut client = server.open().await;
    assert!(!client.create(since("a", deleted - 1)).await.canceled);
    let canceled = client.next().await;
    assert!(canceled.canceled && canceled.events.is_empty());
    assert_eq!((canceled.watch_id, canceled.compact_revision), (0, deleted));

    let at = WatchCreateRequest {
        prev_kv: true,
        ..since("a", deleted)
    };
    client.create(at).await;
    let events = client.events(2).await;
    let expected = [(deleted, String::new()), (deleted + 1, "2".to_owned())];
    assert_eq!(brief(&events), expected);
    assert_eq!(server.hub.stats().watchers, 1);
}

#[tokio::test]
async fn large_responses_are_split_only_for_those_who_asked() {
    let config = WatchConfig {
        fragment_bytes: 1000,
        ..WatchConfig::default()
    };
    let server = Server::with(1 << 20, config).await;
    let mut client = server.open().await;
    let fragment = WatchCreateRequest {
        fragment: true,
        ..on("a", "z")
    };
    client.create(fragment).await;
    client.create(on("a", "z")).await;
    let keys = ["a", "b", "c", "d", "e"];
    server
        .store
        .write(&keys.map(|key| (key, Some(vec![b'x'; 400]))));
    let mut parts = Vec::new();
    let mut whole = Vec::new();
    while parts.len() + whole.len() < 10 {
        let response = client.next().await;
        let last = parts.len() + response.events.len() == 5;
        assert_eq!(response.fragment, response.watch_id == 0 && !last);
        match response.watch_id {
            0 => {
                assert!(response.events.len() <= 2);
                parts.extend(response.events);
            }
            _ => {
                assert_eq!(response.events.len(), 5);
                whole.extend(response.events);
            }
        }
    }
    assert_eq!(parts, whole);
    server.store.write(&[("a", Some(vec![b'x'; 4000]))]);
    for _ in 0..2 {
        let single = client.next().await;
        assert!(!single.fragment && single.events.len() == 1);
    }
}

#[tokio::test]
async fn large_events_arrive_whole_at_every_watcher() {
    let server = Server::with(64 << 20, WatchConfig::default()).await;
    let mut client = server.open().await;
    for _ in 0..3 {
        client.create(on("a", "")).await;
    }
    for (n, size) in [(0, 20_000), (1, 1_500_000), (2, 10), (3, 40_000)] {
        server.store.write(&[("a", Some(vec![n; size]))]);
        for id in 0..3 {
            let response = client.next().await;
            assert_eq!(response.watch_id, id);
            let kv = response.events[0].kv.clone().expect("a key");
            assert!(kv.value.len() == size && kv.value.iter().all(|byte| *byte == n));
        }
    }
}

#[tokio::test]
async fn asked_for_progress_comes_after_all_events() {
    let server = Server::with(1, WatchConfig::default()).await;
    for n in 2..1000 {
        server.store.put("a", &n.to_string());
    }
    let mut client = server.open().await;
    client.progress().await;
    client.create(since("a", 2)).await;
    client.progress().await;
    let mut events = Vec::new();
    let progress = loop {
        let response = client.next().await;
        if response.events.is_empty() {
            break response;
        }
        events.extend(response.events);
    };
    assert_eq!(events.len(), 998);
    assert_eq!((progress.watch_id, revision(&progress)), (-1, 999));
    assert!(!progress.created && !progress.canceled);

    // Every request of a quiet stream is answered, with the newest revision.
    for _ in 0..3 {
        let current = server.store.put("b", "elsewhere");
        client.progress().await;
        let progress = client.next().await;
        assert_eq!((progress.watch_id, revision(&progress)), (-1, current));
    }
}

#[tokio::test]
async fn no_progress_without_watchers_or_before_a_future_start() {
    let server = Server::new().await;
    let mut client = server.open().await;
    client.progress().await;
    client.create(since("a", 4)).await;
    client.progress().await;
    server.store.put("b", "2");
    client.progress().await;
    // Answers come in the order of the requests: there was none in between.
    assert_eq!(client.create(on("b", "")).await.watch_id, 1);
    server.store.put("b", "3");
    assert_eq!(brief(&client.events(1).await), [(3, "3".to_owned())]);
    client.progress().await;
    assert_eq!(client.create(on("c", "")).await.watch_id, 2);
    server.store.put("c", "4");
    assert_eq!(brief(&client.events(1).await), [(4, "4".to_owned())]);
    client.progress().await;
    let progress = client.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (-1, 4));
}

#[tokio::test]
async fn quiet_watchers_hear_of_progress_by_themselves() {
    let config = WatchConfig {
        progress_interval: Duration::ZERO,
        ..WatchConfig::default()
    };
    let server = Server::with(1 << 20, config).await;
    let mut client = server.open().await;
    let notify = |key| WatchCreateRequest {
        progress_notify: true,
        ..on(key, "")
    };
    client.create(on("a", "")).await;
    client.create(notify("a")).await;
    client.create(notify("b")).await;
    client
        .create(WatchCreateRequest {
            start_revision: 1000,
            ..notify("c")
        })
        .await;
    let mut reports = [0, 0, 0, 0];
    for n in 2..12 {
        server.store.put("x", "elsewhere");
        while reports[1].min(reports[2]) < n {
            let response = client.next().await;
            assert!(response.events.is_empty());
            let report = &mut reports[response.watch_id as usize];
            assert!(*report <= revision(&response), "progress never falls");
            *report = revision(&response);
        }
    }
    assert_eq!((reports[0], reports[3]), (0, 0));
}

#[tokio::test]
async fn a_stream_may_require_a_leader() {
    let config = WatchConfig {
        leader_grace: Duration::from_millis(200),
        ..WatchConfig::default()
    };
    let server = Server::with(1 << 20, config).await;
    let mut led = server.try_open(true).await.expect("there is a leader");
    led.create(on("a", "")).await;
    let mut other = server.open_watch(on("a", "")).await;
    server.leader.send_replace(None);
    server.store.put("a", "1");
    assert_eq!(led.events(1).await.len(), 1, "it lives on for a while");
    let lost = led.result().await.expect_err("the grace is over");
    assert_eq!(
        (lost.code(), lost.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    let refused = server.try_open(true).await.err().expect("no leader");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    assert_eq!(other.events(1).await.len(), 1);
    server.store.put("a", "2");
    assert_eq!(
        other.events(1).await.len(),
        1,
        "nobody asked it to require one"
    );
}

#[tokio::test]
async fn revisions_are_not_torn_and_come_together_when_behind() {
    let server = Server::new().await;
    let mut client = server.open().await;
    client.create(on("a", "z")).await;
    for _ in 0..500 {
        server
            .store
            .write(&["a", "b", "c"].map(|key| (key, Some(b"x".to_vec()))));
    }
    let (mut events, mut responses) = (0, 0);
    while events < 1500 {
        let response = client.next().await;
        assert_eq!(response.events.len() % 3, 0);
        let last = response
            .events
            .last()
            .and_then(|e| e.kv.clone())
            .expect("an event");
        assert_eq!(revision(&response), last.mod_revision);
        events += response.events.len();
        responses += 1;
    }
    assert!(responses < 500, "{responses} responses");
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_nobody_else_anything() {
    let server = Server::with(1 << 20, WatchConfig::default()).await;
    let mut slow = server.open_watch(on("a", "")).await;
    let mut fast = server.open_watch(on("a", "")).await;
    let value = "x".repeat(10_000);
    for n in 2..2000 {
        server.store.put("a", &value);
        let events = fast.events(1).await;
        assert_eq!(events[0].kv.as_ref().map(|kv| kv.mod_revision), Some(n));
    }
    assert_eq!(server.hub.stats().history_reads, 0);
    let revisions: Vec<i64> = brief(&slow.events(1998).await)
        .iter()
        .map(|e| e.0)
        .collect();
    assert_eq!(revisions, (2..2000).collect::<Vec<_>>());
    assert!(server.hub.stats().history_reads > 0);
}

#[tokio::test]
async fn a_lagging_watcher_does_not_hold_up_its_stream() {
    let server = Server::with(1 << 10, WatchConfig::default()).await;
    for n in 0..20_000 {
        server.store.put("a", &n.to_string());
    }
    let mut client = server.open().await;
    client.create(on("b", "")).await;
    client.create(since("a", 2)).await;
    server.store.put("b", "now");
    let mut before = 0;
    loop {
        let response = client.next().await;
        match response.watch_id {
            0 => break,
            _ => before += response.events.len(),
        }
    }
    assert!(
        before < 20_000,
        "the live event did not wait for the others"
    );
    client.events(20_000 - before).await;
}

#[tokio::test]
async fn a_snapshot_neither_rewinds_nor_skips() {
    let server = Server::new().await;
    let mut live = server.open_watch(on("a", "")).await;
    let mut future = server.open_watch(since("a", 10)).await;
    server.store.put("a", "2");
    assert_eq!(brief(&live.events(1).await), [(2, "2".to_owned())]);
    let writes = (3..15).map(|n: i64| vec![("a", Some(n.to_string().into_bytes()))]);
    server.store.install(&writes.collect::<Vec<_>>());
    server.store.put("a", "15");
    let expected: Vec<_> = (3..=15).map(|n| (n, n.to_string())).collect();
    assert_eq!(brief(&live.events(13).await), expected);
    assert_eq!(brief(&future.events(6).await), expected[7..]);
}

#[tokio::test]
async fn a_thousand_watchers_of_one_stream_get_the_same_event() {
    let server = Server::new().await;
    let mut client = server.open().await;
    for id in 0..1000 {
        assert_eq!(client.create(on("a", "z")).await.watch_id, id);
    }
    for n in 2..5 {
        server.store.put("b", "x");
        for id in 0..1000 {
            let response = client.next().await;
            assert_eq!((response.watch_id, revision(&response)), (id, n));
            assert_eq!(brief(&response.events), [(n, "x".to_owned())]);
        }
    }
}

#[tokio::test]
async fn streams_end_with_the_member_and_leave_nothing_behind() {
    let server = Server::new().await;
    let gone = server.open_watch(on("a", "")).await;
    drop(gone);
    let mut client = server.open_watch(on("a", "")).await;
    let left = async {
        while server.hub.stats().streams > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, left)
        .await
        .expect("the dropped stream leaves");
    assert_eq!(server.hub.stats().watchers, 1);
    server.tasks.cancel();
    let stopped = client.result().await.expect_err("the member stops");
    let expected = (Code::Unavailable, "etcdserver: server stopped");
    assert_eq!((stopped.code(), stopped.message()), expected);
}

#[tokio::test]
async fn a_half_closed_stream_goes_on() {
    let server = Server::new().await;
    let mut client = server.open_watch(on("a", "")).await;
    client.requests = mpsc::channel(1).0;
    server.store.put("a", "1");
    assert_eq!(client.events(1).await.len(), 1);
    assert_eq!(server.store.current_revision(), 2);
}

//! Watches: ordered, unique, complete, atomic per revision, resumable, bookmarkable.

use std::time::Duration;

use bytes::Bytes;
use raft_store::pb::etcdserverpb::WatchCreateRequest;
use raft_store::pb::etcdserverpb::watch_create_request::FilterType;
use raft_store::pb::mvccpb::Event;
use raft_store::pb::mvccpb::event::EventType;
use raft_store::{Error, Result, WatchItem, WatchStream};
use tokio::time::{Instant, timeout};

use crate::backend::Feature;
use crate::harness::{
    Ctx, Outcome, SOON, always, cases, delete_op, next, put_op, put_request, silent, text,
};

cases! {
    a_watch_tells_what_happens_from_now_on,
    a_delete_tells_the_key_and_the_revision_only,
    a_watch_tells_what_happened_before,
    a_watch_of_one_key_tells_of_no_other,
    a_watch_of_a_range_ends_where_it_ends,
    a_watch_from_here_has_no_end,
    a_txn_is_told_at_once,
    filters_leave_events_out,
    the_state_before_is_told_on_request,
    a_watch_from_the_future_waits,
    a_watch_is_resumed_without_gap_or_duplicate,
    many_events_come_in_order_and_once,
    an_interrupted_wait_loses_nothing,
    watches_do_not_disturb_each_other,
    a_watch_below_the_compaction_is_refused,
    a_watch_from_the_compaction_is_served,
    a_delete_at_the_compaction_is_told,
    progress_comes_on_request,
    progress_follows_the_events,
    progress_comes_by_itself,
}

type Watch = Box<dyn WatchStream>;

fn all(t: &Ctx) -> WatchCreateRequest {
    WatchCreateRequest {
        key: t.key(""),
        range_end: t.end(),
        ..Default::default()
    }
}

fn from(t: &Ctx, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..all(t)
    }
}

async fn open(t: &Ctx, request: WatchCreateRequest) -> Watch {
    t.store.watch(request).await.expect("a watch")
}

/// Events until there are `count`; checks that revisions ascend from item to item.
async fn events(watch: &mut Watch, count: usize) -> Vec<Event> {
    let (mut all, mut last) = (Vec::new(), 0);
    while all.len() < count {
        match next(watch).await {
            Ok(WatchItem::Events { revision, events }) => {
                let revisions: Vec<i64> = events.iter().map(mod_revision).collect();
                assert!(
                    revisions.is_sorted() && revisions.first() > Some(&last),
                    "{revisions:?}"
                );
                assert_eq!(revisions.last(), Some(&revision));
                last = revision;
                all.extend(events);
            }
            Ok(WatchItem::Progress { .. }) => {}
            Err(error) => panic!("the watch failed: {error}"),
        }
    }
    assert_eq!(all.len(), count);
    all
}

fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().expect("a key").mod_revision
}

/// Events as `+name=value` and `-name`.
fn told(t: &Ctx, events: &[Event]) -> Vec<String> {
    let tell = |event: &Event| {
        let kv = event.kv.clone().expect("a key");
        let name = t.names(std::slice::from_ref(&kv)).remove(0);
        match event.r#type() {
            EventType::Put => format!("+{name}={}", text(&kv.value)),
            EventType::Delete => format!("-{name}"),
        }
    };
    events.iter().map(tell).collect()
}

async fn a_watch_tells_what_happens_from_now_on(t: &Ctx) -> Outcome {
    t.put("before", "x").await;
    let mut watch = open(t, all(t)).await;
    let first = t.put_revision("a", "1").await;
    t.put("a", "2").await;
    t.delete("a").await;
    let events = events(&mut watch, 3).await;
    assert_eq!(told(t, &events), ["+a=1", "+a=2", "-a"]);
    let kv = events[1].kv.as_ref().expect("a key");
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (first, first + 1, 2)
    );
    silent(&mut watch).await;
    Ok(())
}

async fn a_delete_tells_the_key_and_the_revision_only(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    let mut watch = open(t, all(t)).await;
    t.delete("a").await;
    let deleted = t.revision().await;
    let event = events(&mut watch, 1).await.remove(0);
    let kv = event.kv.expect("a key");
    assert_eq!((kv.key, kv.mod_revision), (t.key("a"), deleted));
    assert_eq!(
        (kv.create_revision, kv.version, kv.lease, kv.value.len()),
        (0, 0, 0, 0)
    );
    assert_eq!(event.prev_kv, None);
    Ok(())
}

async fn a_watch_tells_what_happened_before(t: &Ctx) -> Outcome {
    let first = t.put_revision("a", "1").await;
    t.put("b", "1").await;
    t.delete("a").await;
    let mut watch = open(t, from(t, first)).await;
    assert_eq!(
        told(t, &events(&mut watch, 3).await),
        ["+a=1", "+b=1", "-a"]
    );
    t.put("c", "now").await;
    assert_eq!(told(t, &events(&mut watch, 1).await), ["+c=now"]);
    let mut later = open(t, from(t, first + 2)).await;
    assert_eq!(told(t, &events(&mut later, 2).await), ["-a", "+c=now"]);
    Ok(())
}

async fn a_watch_of_one_key_tells_of_no_other(t: &Ctx) -> Outcome {
    let request = WatchCreateRequest {
        key: t.key("a"),
        ..Default::default()
    };
    let mut watch = open(t, request).await;
    t.put("aa", "x").await;
    t.put("a", "1").await;
    t.put("b", "x").await;
    assert_eq!(told(t, &events(&mut watch, 1).await), ["+a=1"]);
    silent(&mut watch).await;
    Ok(())
}

async fn a_watch_of_a_range_ends_where_it_ends(t: &Ctx) -> Outcome {
    let request = WatchCreateRequest {
        key: t.key("b"),
        range_end: t.key("d"),
        ..Default::default()
    };
    let mut watch = open(t, request).await;
    for name in ["a", "b", "c", "d", "bz"] {
        t.put(name, "x").await;
    }
    assert_eq!(
        told(t, &events(&mut watch, 3).await),
        ["+b=x", "+c=x", "+bz=x"]
    );
    silent(&mut watch).await;
    Ok(())
}

async fn a_watch_from_here_has_no_end(t: &Ctx) -> Outcome {
    let range_end = Bytes::from_static(&[0]);
    let request = WatchCreateRequest {
        key: t.key("b"),
        range_end,
        ..Default::default()
    };
    let mut watch = open(t, request).await;
    for name in ["a", "b", "z"] {
        t.put(name, "x").await;
    }
    assert_eq!(told(t, &events(&mut watch, 2).await), ["+b=x", "+z=x"]);
    Ok(())
}

async fn a_txn_is_told_at_once(t: &Ctx) -> Outcome {
    t.put("old", "x").await;
    let mut watch = open(t, all(t)).await;
    let operations = vec![
        put_op(t.key("a"), "1"),
        delete_op(t.key("old"), Bytes::new()),
        put_op(t.key("b"), "1"),
    ];
    t.txn(always(operations)).await;
    let now = t.revision().await;
    let Ok(WatchItem::Events { revision, events }) = next(&mut watch).await else {
        panic!("no events");
    };
    assert_eq!(revision, now);
    assert_eq!(told(t, &events), ["+a=1", "-old", "+b=1"]);
    // From history it is one revision as well.
    let mut again = open(t, from(t, now)).await;
    let item = next(&mut again).await;
    assert_eq!(item, Ok(WatchItem::Events { revision, events }));
    Ok(())
}

async fn filters_leave_events_out(t: &Ctx) -> Outcome {
    let filtered = |filter: FilterType, start_revision| WatchCreateRequest {
        filters: vec![filter as i32],
        ..from(t, start_revision)
    };
    let now = t.revision().await;
    let mut no_puts = open(t, filtered(FilterType::Noput, 0)).await;
    let mut no_deletes = open(t, filtered(FilterType::Nodelete, 0)).await;
    t.put("a", "1").await;
    t.delete("a").await;
    t.put("b", "1").await;
    assert_eq!(told(t, &events(&mut no_puts, 1).await), ["-a"]);
    assert_eq!(told(t, &events(&mut no_deletes, 2).await), ["+a=1", "+b=1"]);
    let mut from_history = open(t, filtered(FilterType::Noput, now + 1)).await;
    assert_eq!(told(t, &events(&mut from_history, 1).await), ["-a"]);
    silent(&mut no_puts).await;
    Ok(())
}

async fn the_state_before_is_told_on_request(t: &Ctx) -> Outcome {
    let now = t.revision().await;
    let request = |start_revision| WatchCreateRequest {
        prev_kv: true,
        ..from(t, start_revision)
    };
    let mut live = open(t, request(0)).await;
    t.put("a", "1").await;
    let first = t.get("a").await;
    t.put("a", "2").await;
    let second = t.get("a").await;
    t.delete("a").await;
    let live = events(&mut live, 3).await;
    let before: Vec<_> = live.iter().map(|event| event.prev_kv.clone()).collect();
    assert_eq!(before, [None, first, second]);
    let mut history = open(t, request(now + 1)).await;
    assert_eq!(events(&mut history, 3).await, live);
    Ok(())
}

async fn a_watch_from_the_future_waits(t: &Ctx) -> Outcome {
    let now = t.revision().await;
    let mut watch = open(t, from(t, now + 3)).await;
    for value in ["1", "2", "3", "4"] {
        t.put("a", value).await;
    }
    assert_eq!(told(t, &events(&mut watch, 2).await), ["+a=3", "+a=4"]);
    Ok(())
}

async fn a_watch_is_resumed_without_gap_or_duplicate(t: &Ctx) -> Outcome {
    let mut watch = open(t, all(t)).await;
    t.put("a", "1").await;
    let seen = events(&mut watch, 1).await;
    drop(watch);
    t.put("a", "2").await;
    let mut watch = open(t, from(t, mod_revision(&seen[0]) + 1)).await;
    t.put("a", "3").await;
    assert_eq!(told(t, &events(&mut watch, 2).await), ["+a=2", "+a=3"]);
    silent(&mut watch).await;
    Ok(())
}

async fn many_events_come_in_order_and_once(t: &Ctx) -> Outcome {
    let start = t.revision().await + 1;
    let mut live = open(t, all(t)).await;
    for i in 0..300 {
        t.put(&format!("{}", i % 7), &i.to_string()).await;
    }
    let mut history = open(t, from(t, start)).await;
    let expected: Vec<i64> = (start..start + 300).collect();
    for watch in [&mut live, &mut history] {
        let revisions: Vec<i64> = events(watch, 300).await.iter().map(mod_revision).collect();
        assert_eq!(revisions, expected);
    }
    Ok(())
}

async fn an_interrupted_wait_loses_nothing(t: &Ctx) -> Outcome {
    let mut watch = open(t, all(t)).await;
    let store = t.store.clone();
    let key = t.key("a");
    let writer = async {
        for i in 0..100 {
            let put = put_request(key.clone(), &i.to_string());
            store.put(put, Bytes::new()).await.expect("a put");
        }
    };
    let mut values = Vec::new();
    let reader = async {
        let deadline = Instant::now() + SOON;
        while values.len() < 100 && Instant::now() < deadline {
            let wait = timeout(Duration::from_micros(200), watch.next()).await;
            if let Ok(Ok(WatchItem::Events { events, .. })) = wait {
                values.extend(
                    events
                        .iter()
                        .map(|e| text(&e.kv.as_ref().expect("a key").value)),
                );
            }
        }
    };
    tokio::join!(writer, reader);
    assert_eq!(values, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
    Ok(())
}

async fn watches_do_not_disturb_each_other(t: &Ctx) -> Outcome {
    let mut one = open(t, all(t)).await;
    let dropped = open(t, all(t)).await;
    let _never_read = open(t, all(t)).await;
    t.put("a", "1").await;
    drop(dropped);
    t.put("a", "2").await;
    let mut two = open(t, from(t, t.revision().await)).await;
    assert_eq!(told(t, &events(&mut one, 2).await), ["+a=1", "+a=2"]);
    assert_eq!(told(t, &events(&mut two, 1).await), ["+a=2"]);
    Ok(())
}

/// What a watch says first: on opening or, where the store finds out later, on reading.
async fn first_answer(t: &Ctx, request: WatchCreateRequest) -> Result<WatchItem> {
    let mut watch = t.store.watch(request).await?;
    next(&mut watch).await
}

async fn a_watch_below_the_compaction_is_refused(t: &Ctx) -> Outcome {
    let first = t.put_revision("a", "1").await;
    t.put("a", "2").await;
    let last = t.put_revision("a", "3").await;
    t.compact(last).await.expect("a compaction");
    let refused = first_answer(t, from(t, first)).await;
    assert_eq!(
        refused,
        Err(Error::Compacted {
            compact_revision: last
        })
    );
    Ok(())
}

async fn a_watch_from_the_compaction_is_served(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    let last = t.put_revision("a", "2").await;
    t.compact(last).await.expect("a compaction");
    let mut watch = open(t, from(t, last)).await;
    assert_eq!(told(t, &events(&mut watch, 1).await), ["+a=2"]);
    Ok(())
}

async fn a_delete_at_the_compaction_is_told(t: &Ctx) -> Outcome {
    t.needs(Feature::DeleteAtCompactRevision)?;
    t.put("a", "1").await;
    t.delete("a").await;
    let last = t.revision().await;
    t.put("b", "1").await;
    t.compact(last).await.expect("a compaction");
    let mut watch = open(t, from(t, last)).await;
    assert_eq!(told(t, &events(&mut watch, 2).await), ["-a", "+b=1"]);
    Ok(())
}

async fn progress_comes_on_request(t: &Ctx) -> Outcome {
    t.needs(Feature::ManualProgress)?;
    let mut watch = open(t, all(t)).await;
    // Nothing of this watch happens; its progress moves all the same.
    let elsewhere = put_request(Bytes::from_static(b"/elsewhere"), "x");
    t.try_put(elsewhere).await.expect("a put");
    let now = t.revision().await;
    for _ in 0..3 {
        watch.request_progress().await.expect("a request");
        let item = next(&mut watch).await.expect("an item");
        assert!(
            matches!(item, WatchItem::Progress { revision } if revision >= now),
            "{item:?}"
        );
    }
    Ok(())
}

async fn progress_follows_the_events(t: &Ctx) -> Outcome {
    t.needs(Feature::ManualProgress)?;
    let start = t.revision().await + 1;
    for i in 0..200 {
        t.put("a", &i.to_string()).await;
    }
    let mut watch = open(t, from(t, start)).await;
    watch.request_progress().await.expect("a request");
    let mut told = 0;
    loop {
        match next(&mut watch).await.expect("an item") {
            WatchItem::Events { events, .. } => told += events.len(),
            WatchItem::Progress { revision } => {
                assert_eq!(told, 200, "progress {revision} overtook events");
                assert!(revision >= start + 199);
                return Ok(());
            }
        }
    }
}

async fn progress_comes_by_itself(t: &Ctx) -> Outcome {
    t.needs(Feature::FrequentProgress)?;
    let request = WatchCreateRequest {
        progress_notify: true,
        ..all(t)
    };
    let mut watch = open(t, request).await;
    let now = t.revision().await;
    let item = next(&mut watch).await.expect("an item");
    assert!(
        matches!(item, WatchItem::Progress { revision } if revision >= now),
        "{item:?}"
    );
    Ok(())
}

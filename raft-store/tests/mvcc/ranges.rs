//! Revisions and reads.

use bytes::Bytes;
use raft_store::Error;
use raft_store::mvcc::Entry;
use raft_store::pb::etcdserverpb::compare::{CompareResult, TargetUnion};
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::mvccpb::KeyValue;
use raft_store::watch::History;

use crate::model::Model;
use crate::support::*;

// === Revisions ===

#[test]
fn a_fresh_store_is_at_revision_1() {
    on_both(|store| {
        assert_eq!(store.mvcc.revision(), 1);
        assert_eq!(store.mvcc.applied(), None);
        assert_eq!(store.mvcc.hash(0).unwrap().hash, 0);
        assert_eq!(store.put("a", "1"), 2);
        let kv = store.get("a").unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 2, 1));
        assert_eq!(store.mvcc.hash(1).unwrap().hash, 0);
        assert_ne!(store.mvcc.hash(2).unwrap().hash, 0);
    });
}

#[test]
fn only_changes_take_a_revision() {
    on_both(|store| {
        assert_eq!(store.put("a", "1"), 2);
        assert_eq!(store.put("a", "1"), 3, "an equal value is a change");
        assert_eq!(store.delete("x", ""), 0);
        assert_eq!(store.mvcc.revision(), 3, "nothing matched");
        let no = compare("a", TargetUnion::Version(9), CompareResult::Equal);
        let response = store.txn(txn(vec![no], vec![op_put("a", "2")], vec![]));
        let response = response.unwrap();
        assert!(!response.succeeded);
        assert_eq!(revision(&response.header), 3);
        let two = txn(vec![], vec![op_put("b", "1"), op_put("c", "1")], vec![]);
        assert_eq!(revision(&store.txn(two).unwrap().header), 4);
        assert_eq!(store.delete("b", "\0"), 2);
        assert_eq!(store.mvcc.revision(), 5, "two keys, one revision");
        store.apply_entries(vec![Entry::Blank, Entry::Membership("m".into())]);
        assert_eq!(store.mvcc.revision(), 5);
    });
}

#[test]
fn a_key_starts_over_after_its_deletion() {
    on_both(|store| {
        store.put("a", "1");
        store.put("a", "2");
        store.delete("a", "");
        store.put("a", "3");
        let kv = store.get("a").unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
        let events = store.mvcc.revisions(2, usize::MAX).unwrap();
        let previous: Vec<_> = events.iter().map(|r| r.changes[0].prev_revision).collect();
        assert_eq!(previous, [0, 2, 3, 0]);
        let gone = events[2].changes[0].event.kv.clone().unwrap();
        let bare = KeyValue {
            key: "a".into(),
            mod_revision: 4,
            ..KeyValue::default()
        };
        assert_eq!(gone, bare, "a tombstone has only key and revision");
    });
}

// === Range ===

#[test]
fn ranges_cover_what_their_end_says() {
    on_both(|store| {
        for key in ["a", "a\0", "ab", "b", "c"] {
            store.put(key, "v");
        }
        let keys = |key, end| -> Vec<String> {
            let response = store.mvcc.range(&range(key, end)).unwrap();
            assert_eq!(response.count as usize, response.kvs.len());
            let text = |kv: &KeyValue| String::from_utf8_lossy(&kv.key).into_owned();
            response.kvs.iter().map(text).collect()
        };
        assert_eq!(keys("a", ""), ["a"]);
        assert_eq!(keys("a", "a\0"), ["a"]);
        assert_eq!(keys("a", "b"), ["a", "a\0", "ab"]);
        assert_eq!(keys("ab", "\0"), ["ab", "b", "c"]);
        assert_eq!(keys("\0", "\0").len(), 5);
        assert!(keys("c", "a").is_empty());
        assert!(keys("b", "b").is_empty());
    });
}

#[test]
fn old_revisions_are_readable_until_compacted() {
    on_both(|store| {
        store.put("a", "1");
        store.put("a", "2");
        store.delete("a", "");
        store.put("b", "1");
        assert!(store.dump(1).is_empty());
        assert_eq!(store.dump(2), ["a=1"]);
        assert_eq!(store.dump(3), ["a=2"]);
        assert!(store.dump(4).is_empty());
        let old = RangeRequest {
            revision: 2,
            ..range("a", "")
        };
        let response = store.mvcc.range(&old).unwrap();
        assert_eq!(revision(&response.header), 5, "the header is of now");
        let future = RangeRequest {
            revision: 6,
            ..range("a", "")
        };
        assert_eq!(store.mvcc.range(&future), Err(Error::FutureRevision));

        store.compact(3).unwrap();
        let compacted = Error::Compacted {
            compact_revision: 3,
        };
        assert_eq!(store.mvcc.range(&old), Err(compacted.clone()));
        assert_eq!(store.dump(3), ["a=2"], "the compact revision itself stays");
        assert_eq!(store.compact(3), Err(compacted.clone()));
        assert_eq!(store.compact(2), Err(compacted));
        assert_eq!(store.compact(6), Err(Error::FutureRevision));
        store.collect_all();
        assert_eq!(store.dump(3), ["a=2"]);
        assert!(store.dump(4).is_empty());
    });
}

#[test]
fn count_ignores_limit_and_filters() {
    on_both(|store| {
        for n in 1..=5 {
            store.put(&format!("k{n}"), &n.to_string());
        }
        let request = RangeRequest {
            limit: 2,
            ..range("k", "l")
        };
        let response = store.mvcc.range(&request).unwrap();
        assert_eq!(show(&response.kvs), ["k1=1", "k2=2"]);
        assert!(response.more);
        assert_eq!(response.count, 5);
        let request = RangeRequest {
            limit: 2,
            min_mod_revision: 5,
            ..range("k", "l")
        };
        let response = store.mvcc.range(&request).unwrap();
        assert_eq!(show(&response.kvs), ["k4=4", "k5=5"]);
        assert!(!response.more, "filters come before the limit");
        assert_eq!(response.count, 5);
        let request = RangeRequest {
            limit: 1,
            count_only: true,
            ..range("k", "l")
        };
        let response = store.mvcc.range(&request).unwrap();
        assert!(response.kvs.is_empty() && !response.more);
        assert_eq!(response.count, 5);
    });
}

#[test]
fn orders_come_before_the_limit_unless_left_open() {
    on_both(|store| {
        for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("a", "4")] {
            store.put(key, value);
        }
        let sorted = |order: range_request::SortOrder, target: range_request::SortTarget| {
            let request = RangeRequest {
                limit: 2,
                sort_order: order as i32,
                sort_target: target as i32,
                ..range("a", "z")
            };
            show(&store.mvcc.range(&request).unwrap().kvs)
        };
        use range_request::{SortOrder::*, SortTarget::*};
        assert_eq!(sorted(Descend, Key), ["c=1", "b=2"]);
        assert_eq!(sorted(Ascend, Value), ["c=1", "b=2"]);
        assert_eq!(sorted(Ascend, Mod), ["b=2", "c=1"]);
        assert_eq!(sorted(Descend, Version), ["a=4", "b=2"]);
        assert_eq!(sorted(Descend, Create), ["c=1", "b=2"]);
        // The quirk: three keys are fetched in key order, then sorted, then cut.
        assert_eq!(sorted(None, Mod), ["b=2", "c=1"]);
        store.put("d", "0");
        let request = RangeRequest {
            limit: 2,
            sort_target: Value as i32,
            ..range("a", "z")
        };
        let response = store.mvcc.range(&request).unwrap();
        assert_eq!(show(&response.kvs), ["c=1", "b=2"], "d was never looked at");
    });
}

#[test]
fn keys_only_leaves_values_out_and_nothing_else() {
    on_both(|store| {
        store.one(grant(1, 10)).unwrap();
        store.one(put_leased("a", "1", 1)).unwrap();
        let request = RangeRequest {
            keys_only: true,
            ..range("a", "")
        };
        let mut expected = store.get("a").unwrap();
        expected.value = Bytes::new();
        assert_eq!(store.mvcc.range(&request).unwrap().kvs, [expected.clone()]);
        store.put("b", "1");
        let request = RangeRequest {
            revision: 2,
            ..request
        };
        assert_eq!(store.mvcc.range(&request).unwrap().kvs, [expected]);
    });
}

#[test]
fn the_far_past_is_counted_and_listed_rightly() {
    on_both(|store| {
        // Few keys and many revisions: old reads go through the versions themselves.
        let mut model = Model::default();
        for round in 0..40 {
            let ops: Vec<_> = (0..20)
                .map(|n| match (round + n) % 5 {
                    0 => delete(&format!("k{}", n % 7), ""),
                    _ => put(&format!("k{}", n % 7), &format!("{round}.{n}")),
                })
                .collect();
            let expected: Vec<_> = ops.iter().map(|op| model.apply(op)).collect();
            assert_eq!(store.apply(ops), expected);
        }
        let last = model.revision();
        assert!(last > 600);
        for revision in (1..=last).step_by(7) {
            for limit in [0, 2] {
                for count_only in [false, true] {
                    let request = RangeRequest {
                        revision,
                        limit,
                        count_only,
                        ..range("k1", "k6")
                    };
                    assert_eq!(store.mvcc.range(&request), model.range(&request));
                }
            }
            let mut chunks = store.mvcc.range_chunks(
                RangeRequest {
                    revision,
                    ..range("k", "l")
                },
                1,
            );
            let mut keys = 0;
            let chunks = chunks.as_mut().unwrap();
            let mut count = 0;
            while let Some(chunk) = chunks.next().unwrap() {
                assert!(chunk.kvs.len() <= 1);
                keys += chunk.kvs.len() as i64;
                count = chunk.count;
            }
            let expected = RangeRequest {
                revision,
                ..range("k", "l")
            };
            assert_eq!((keys, keys), (count, model.range(&expected).unwrap().count));
        }
    });
}

#[test]
fn large_ranges_read_every_value() {
    on_both(|store| {
        // Several versions of each key, so that a scan has something to step over.
        for round in 0..4 {
            let ops = (0..300).map(|n| put(&format!("k{n:03}"), &format!("{round}-{n}")));
            store.apply(ops.collect::<Vec<_>>());
        }
        for n in 0..10 {
            for round in 0..20 {
                store.put("k150", &format!("{n}-{round}"));
            }
        }
        let all = store.mvcc.range(&range("k", "l")).unwrap().kvs;
        assert_eq!(all.len(), 300);
        for kv in all {
            let one = store.mvcc.range(&RangeRequest {
                key: kv.key.clone(),
                ..RangeRequest::default()
            });
            assert_eq!(one.unwrap().kvs, [kv]);
        }
        let request = RangeRequest {
            sort_order: range_request::SortOrder::Descend as i32,
            limit: 100,
            ..range("k", "l")
        };
        let kvs = store.mvcc.range(&request).unwrap().kvs;
        assert_eq!(show(&kvs[..2]), ["k299=3-299", "k298=3-298"]);
    });
}

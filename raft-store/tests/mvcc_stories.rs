//! What the applied state promises, told one case at a time, on both engines.
#![allow(clippy::disallowed_methods, reason = "tests look at real files")]
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use raft_store::engine::{Batch, EngineError, Space};
use raft_store::mvcc::{Builder, Entry, LeaseEvent, LeaseInfo, Mvcc, Origin, Response};
use raft_store::pb::etcdserverpb::compare::{CompareResult, TargetUnion};
use raft_store::pb::etcdserverpb::request_op::Request;
use raft_store::pb::etcdserverpb::response_op::Response as OpResponse;
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::log::command::Op;
use raft_store::pb::log::lease_checkpoint::Remaining;
use raft_store::pb::log::{AllocateMemberId, LeaseCheckpoint};
use raft_store::pb::mvccpb::KeyValue;
use raft_store::watch::{History, RingRead};
use raft_store::{Error, LogPosition};

use mvcc_support::model::Model;
use mvcc_support::*;

mod mvcc_support;

fn on_both(story: impl Fn(&mut Store)) {
    for kind in KINDS {
        story(&mut Store::new(kind));
    }
}

fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().unwrap().revision
}

fn alarm(action: alarm_request::AlarmAction, member_id: u64, alarm: AlarmType) -> Op {
    Op::Alarm(AlarmRequest {
        action: action as i32,
        member_id,
        alarm: alarm as i32,
    })
}

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

// === Txn ===

#[test]
fn missing_keys_compare_as_zeros_but_never_by_value() {
    on_both(|store| {
        use CompareResult::*;
        let mut succeeds = |compare: Compare| {
            let response = store.txn(txn(vec![compare], vec![], vec![]));
            response.unwrap().succeeded
        };
        assert!(succeeds(compare("x", TargetUnion::Version(0), Equal)));
        assert!(succeeds(compare("x", TargetUnion::ModRevision(1), Less)));
        assert!(!succeeds(compare(
            "x",
            TargetUnion::CreateRevision(0),
            Greater
        )));
        assert!(succeeds(compare("x", TargetUnion::Lease(0), Equal)));
        assert!(!succeeds(compare(
            "x",
            TargetUnion::Value("".into()),
            Equal
        )));
        assert!(!succeeds(compare(
            "x",
            TargetUnion::Value("v".into()),
            NotEqual
        )));
        let mut mismatched = compare("x", TargetUnion::Lease(7), Equal);
        mismatched.target = compare::CompareTarget::Version as i32;
        assert!(
            succeeds(mismatched),
            "a number for another target counts as 0"
        );
    });
}

#[test]
fn range_compares_hold_for_all_keys() {
    on_both(|store| {
        store.put("a", "1");
        store.put("b", "2");
        let mut holds = |target: TargetUnion, result| {
            let compare = Compare {
                range_end: "c".into(),
                ..compare("a", target, result)
            };
            let response = store.txn(txn(vec![compare], vec![], vec![]));
            response.unwrap().succeeded
        };
        assert!(holds(TargetUnion::Version(1), CompareResult::Equal));
        assert!(!holds(TargetUnion::ModRevision(2), CompareResult::Equal));
        assert!(holds(
            TargetUnion::Value("0".into()),
            CompareResult::Greater
        ));
        assert!(!holds(
            TargetUnion::Value("1".into()),
            CompareResult::Greater
        ));
    });
}

#[test]
fn a_transaction_reads_its_own_writes() {
    on_both(|store| {
        store.put("a", "1");
        let old = RangeRequest {
            revision: 2,
            ..range("a", "")
        };
        let request = txn(
            vec![],
            vec![
                op_get("a", ""),
                op_put("a", "2"),
                op_get("a", "z"),
                op_delete("b", ""),
                op_put("b", "1"),
                op(Request::RequestRange(old)),
                op_get("\0", "\0"),
            ],
            vec![],
        );
        // The delete finds nothing, but overlaps the put.
        assert_eq!(store.txn(request.clone()), Err(Error::DuplicateKey));
        let mut request = request;
        request.success.remove(3);
        let response = store.txn(request).unwrap();
        assert_eq!(revision(&response.header), 3);
        let seen: Vec<_> = response
            .responses
            .iter()
            .filter_map(|op| match op.response.as_ref().unwrap() {
                OpResponse::ResponseRange(range) => {
                    Some((revision(&range.header), show(&range.kvs).join(" ")))
                }
                _ => None,
            })
            .collect();
        let seen: Vec<_> = seen.iter().map(|(rev, kvs)| (*rev, &kvs[..])).collect();
        assert_eq!(seen, [(2, "a=1"), (3, "a=2"), (3, "a=1"), (3, "a=2 b=1")]);
        assert_eq!(store.mvcc.revision(), 3);
    });
}

#[test]
fn the_nested_path_is_decided_before_any_effect() {
    on_both(|store| {
        let missing = || compare("a", TargetUnion::Version(0), CompareResult::Equal);
        let nested = txn(
            vec![missing()],
            vec![op_put("n", "then")],
            vec![op_put("n", "else")],
        );
        let request = txn(
            vec![missing()],
            vec![op_put("a", "1"), op(Request::RequestTxn(nested))],
            vec![],
        );
        let response = store.txn(request).unwrap();
        assert_eq!(store.dump(0), ["a=1", "n=then"]);
        let Some(OpResponse::ResponseTxn(inner)) = &response.responses[1].response else {
            panic!("no nested response");
        };
        assert!(inner.succeeded);
        assert_eq!(inner.header, Some(ResponseHeader::default()));
    });
}

#[test]
fn a_failing_operation_stops_the_transaction_before_any_effect() {
    on_both(|store| {
        store.put("a", "1");
        store.put("a", "2");
        store.compact(3).unwrap();
        let keep = PutRequest {
            ignore_value: true,
            ..put_request("missing", "")
        };
        let at = |revision| {
            op(Request::RequestRange(RangeRequest {
                revision,
                ..range("a", "")
            }))
        };
        let leased = PutRequest {
            lease: 5,
            ..put_request("b", "1")
        };
        let failing = [
            (op(Request::RequestPut(leased)), Error::LeaseNotFound),
            (op(Request::RequestPut(keep)), Error::KeyNotFound),
            (at(4), Error::FutureRevision),
            (
                at(2),
                Error::Compacted {
                    compact_revision: 3,
                },
            ),
            (
                at(-1),
                Error::Compacted {
                    compact_revision: 3,
                },
            ),
        ];
        for (op, error) in failing {
            let nested = txn(vec![], vec![op.clone()], vec![]);
            let request = txn(vec![], vec![op_put("x", "1"), op], vec![]);
            assert_eq!(store.txn(request), Err(error.clone()));
            let nested = RequestOp {
                request: Some(Request::RequestTxn(nested)),
            };
            let request = txn(vec![], vec![op_put("x", "1"), nested], vec![]);
            assert_eq!(store.txn(request), Err(error));
        }
        assert_eq!(store.mvcc.revision(), 3);
        assert_eq!(store.dump(0), ["a=2"]);
        // On the branch that is not taken, nothing is wrong.
        let request = txn(vec![], vec![op_put("x", "1")], vec![at(99)]);
        assert!(store.txn(request).unwrap().succeeded);
    });
}

#[test]
fn reading_transactions_need_no_log_entry() {
    on_both(|store| {
        store.put("a", "1");
        store.put("a", "2");
        let value = compare("a", TargetUnion::Value("2".into()), CompareResult::Equal);
        let old = RangeRequest {
            revision: 2,
            ..range("a", "")
        };
        let request = txn(
            vec![value],
            vec![op_get("a", ""), op(Request::RequestRange(old))],
            vec![],
        );
        assert!(raft_store::mvcc::check::check_txn(&request).unwrap());
        let response = store.mvcc.read_txn(&request).unwrap();
        assert_eq!(revision(&response.header), 3);
        assert_eq!(
            response,
            store.txn(request).unwrap(),
            "the log's answer is the same"
        );
        store.compact(3).unwrap();
        let request = txn(vec![], vec![op_get("a", "")], vec![]);
        assert!(store.mvcc.read_txn(&request).unwrap().succeeded);
    });
}

#[test]
fn puts_can_keep_and_return_what_was_there() {
    on_both(|store| {
        store.one(grant(1, 10)).unwrap();
        store.one(put_leased("a", "1", 1)).unwrap();
        let keep = PutRequest {
            ignore_lease: true,
            prev_kv: true,
            ..put_request("a", "2")
        };
        let Response::Put(response) = store.one(Op::Put(keep)).unwrap() else {
            panic!("not a put");
        };
        assert_eq!(show(response.prev_kv.as_slice()), ["a=1"]);
        assert_eq!(store.get("a").unwrap().lease, 1);
        let keep = PutRequest {
            ignore_value: true,
            ..put_request("a", "")
        };
        store.one(Op::Put(keep.clone())).unwrap();
        let kv = store.get("a").unwrap();
        assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"2"[..], 0, 3));
        assert!(store.mvcc.lease_keys(1).is_empty(), "lease 0 detaches");
        let missing = PutRequest {
            key: "x".into(),
            ..keep
        };
        assert_eq!(store.one(Op::Put(missing)), Err(Error::KeyNotFound));
        // The value of an earlier entry of the same batch, which the engine does not have yet.
        let previous = Op::Put(PutRequest {
            prev_kv: true,
            ..put_request("a", "4")
        });
        let outcomes = store.apply([put("a", "3"), previous]);
        let Ok(Response::Put(response)) = &outcomes[1] else {
            panic!("not a put");
        };
        assert_eq!(show(response.prev_kv.as_slice()), ["a=3"]);
    });
}

// === Compaction and collection ===

#[test]
fn a_watch_may_start_at_the_compact_revision() {
    on_both(|store| {
        store.put("a", "1"); // 2
        store.put("b", "1"); // 3
        store.delete("a", ""); // 4
        store.put("b", "2"); // 5
        store.compact(4).unwrap();
        store.collect_all();
        let events = store.mvcc.revisions(4, usize::MAX).unwrap();
        let seen: Vec<_> = events
            .iter()
            .map(|r| (r.revision, r.changes[0].is_delete()))
            .collect();
        assert_eq!(seen, [(4, true), (5, false)]);
        let early = store.mvcc.revisions(3, usize::MAX);
        assert!(matches!(
            early,
            Err(Error::Compacted {
                compact_revision: 4
            })
        ));
        assert!(store.mvcc.revisions(6, usize::MAX).unwrap().is_empty());
        // The next compaction collects the tombstone that this one had to keep.
        store.compact(5).unwrap();
        store.collect_all();
        assert_eq!(
            versions(store),
            2,
            "b's two, of which the older goes next time"
        );
        store.put("c", "1");
        store.compact(6).unwrap();
        store.collect_all();
        assert_eq!(versions(store), 2);
        assert_eq!(store.dump(0), ["b=2", "c=1"]);
    });
}

/// How many versions the engine holds.
fn versions(store: &Store) -> usize {
    let mut cursor = store.engine.cursor(Space::Kv);
    cursor.seek(&[]);
    let mut count = 0;
    while cursor.entry().unwrap().is_some() {
        count += 1;
        cursor.next();
    }
    count
}

#[test]
fn collection_is_bounded_and_goes_on_after_a_crash() {
    on_both(|store| {
        let many: Vec<_> = (0..50).map(|n| op_put(&format!("k{n:02}"), "1")).collect();
        for _ in 0..4 {
            store.txn(txn(vec![], many.clone(), vec![])).unwrap();
        }
        store.delete("k", "l"); // 6: fifty tombstones
        let last = store.put("z", "1"); // 7
        store.compact(last).unwrap();
        assert_eq!(versions(store), 251);
        assert!(store.mvcc.gc_step(75).unwrap());
        // Fifty creates free nothing; of the second transaction half is done.
        assert_eq!(versions(store), 226);
        assert_eq!(store.mvcc.collected_revision(), 3);
        store.reopen();
        assert_eq!(versions(store), 226);
        assert_eq!(store.mvcc.collected_revision(), 3);
        store.collect_all();
        assert_eq!(versions(store), 1);
        assert_eq!(store.mvcc.collected_revision(), last);
        assert_eq!(store.dump(0), ["z=1"]);
        assert!(!store.mvcc.gc_step(1).unwrap());
    });
}

#[test]
fn collection_waits_for_readers() {
    on_both(|store| {
        for n in 0..30 {
            store.put(&format!("k{n:02}"), "old");
        }
        let at = store.mvcc.revision();
        let mut chunks = store.mvcc.range_chunks(range("k", "l"), 1).unwrap();
        let mut export = store.mvcc.export(0, 1).unwrap();
        let mut seen = chunks.next().unwrap().unwrap().kvs;
        store.apply(
            (0..30)
                .map(|n| put(&format!("k{n:02}"), "new"))
                .collect::<Vec<_>>(),
        );
        store.compact(store.mvcc.revision()).unwrap();
        store.collect_all();
        assert_eq!(store.mvcc.collected_revision(), at);
        while let Some(chunk) = chunks.next().unwrap() {
            seen.extend(chunk.kvs);
        }
        assert!(seen.len() == 30 && seen.iter().all(|kv| kv.value == "old"));
        drop(chunks);
        store.collect_all();
        assert_eq!(
            store.mvcc.collected_revision(),
            at,
            "the export still reads"
        );
        let mut exported = Vec::new();
        while let Some(kvs) = export.next().unwrap() {
            exported.extend(kvs);
        }
        assert_eq!(exported, seen);
        drop(export);
        store.collect_all();
        assert_eq!(store.mvcc.collected_revision(), store.mvcc.revision());
        assert_eq!(
            versions(store),
            31,
            "one was superseded at the watermark itself"
        );
    });
}

#[test]
fn live_bytes_follow_what_is_kept() {
    on_both(|store| {
        let value = "x".repeat(1000);
        for _ in 0..10 {
            store.put("a", &value);
        }
        let full = store.mvcc.sizes().live_bytes;
        assert!((10_000..11_500).contains(&full), "{full}");
        let last = store.put("b", "");
        store.compact(last).unwrap();
        assert!(store.mvcc.sizes().live_bytes >= full);
        store.collect_all();
        let kept = store.mvcc.sizes().live_bytes;
        assert!((1000..1300).contains(&kept), "{kept}");
        store.reopen();
        assert_eq!(store.mvcc.sizes().live_bytes, kept);
        store.delete("a", "c");
        let last = store.put("c", "");
        store.compact(last).unwrap();
        store.collect_all();
        assert!(store.mvcc.sizes().live_bytes < 100, "only c is left");
        assert_eq!(store.mvcc.sizes().keys, 1);
    });
}

#[test]
fn the_quota_warns_before_it_is_used_up() {
    on_both(|store| {
        let value = "x".repeat(1 << 10);
        let mut warned = 0;
        while !store.mvcc.sizes().is_full() {
            warned += u64::from(store.mvcc.sizes().is_nearly_full());
            store.apply((0..10).map(|_| put("a", &value)).collect::<Vec<_>>());
        }
        assert!(warned > 5);
        assert!(store.mvcc.sizes().is_nearly_full());
    });
}

// === Leases ===

#[test]
fn revoking_deletes_the_keys_in_one_revision_in_order() {
    on_both(|store| {
        let mut events = store.mvcc.lease_events();
        store.one(grant(7, 60)).unwrap();
        assert_eq!(store.one(grant(7, 60)), Err(Error::LeaseExists));
        assert_eq!(store.one(grant(0, 60)), Err(Error::LeaseNotFound));
        let long = store.one(grant(8, 9_000_000_001));
        assert_eq!(long, Err(Error::LeaseTtlTooLarge));
        for key in ["c", "a", "b", "kept"] {
            store.one(put_leased(key, "1", 7)).unwrap();
        }
        store.put("kept", "2");
        assert_eq!(store.mvcc.lease_keys(7), ["a", "b", "c"]);
        assert_eq!(
            store.one(put_leased("x", "1", 9)),
            Err(Error::LeaseNotFound)
        );
        store.one(grant(8, 5)).unwrap();
        let Response::LeaseRevoke(response) = store.one(revoke(&[7, 99, 8])).unwrap() else {
            panic!("not a revocation");
        };
        assert_eq!(revision(&response.header), 7);
        let last = store.mvcc.revisions(7, usize::MAX).unwrap().remove(0);
        let deleted: Vec<_> = last.changes.iter().map(|c| c.key().clone()).collect();
        assert_eq!(deleted, ["a", "b", "c"]);
        assert!(last.changes.iter().all(|change| change.is_delete()));
        assert_eq!(store.dump(0), ["kept=2"]);
        assert!(store.mvcc.leases().is_empty());
        assert_eq!(store.one(revoke(&[7])), Err(Error::LeaseNotFound));
        assert_eq!(
            store.mvcc.revision(),
            7,
            "a lease without keys takes no revision"
        );
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            seen.push(event);
        }
        let granted = |id, ttl| LeaseEvent::Granted { id, ttl };
        let revoked = |id| LeaseEvent::Revoked { id };
        assert_eq!(
            seen,
            [granted(7, 60), granted(8, 5), revoked(7), revoked(8)]
        );
    });
}

#[test]
fn each_of_many_revoked_leases_takes_a_revision() {
    on_both(|store| {
        for id in [1, 2] {
            store.one(grant(id, 60)).unwrap();
            store.one(put_leased(&format!("k{id}"), "1", id)).unwrap();
        }
        store.one(revoke(&[2, 1])).unwrap();
        assert_eq!(store.mvcc.revision(), 5);
        assert_eq!(store.dump(4), ["k1=1"]);
    });
}

#[test]
fn leases_survive_with_what_is_left_of_them() {
    on_both(|store| {
        store.one(grant(7, 60)).unwrap();
        store.one(put_leased("a", "1", 7)).unwrap();
        let leases = [(7, 25), (99, 1)]
            .map(|(id, remaining_ttl)| Remaining { id, remaining_ttl })
            .to_vec();
        store
            .one(Op::LeaseCheckpoint(LeaseCheckpoint { leases }))
            .unwrap();
        let lease = LeaseInfo {
            granted_ttl: 60,
            remaining_ttl: 25,
        };
        for _ in 0..2 {
            assert_eq!(store.mvcc.lease(7), Some(lease));
            assert_eq!(store.mvcc.leases(), [7]);
            assert_eq!(store.mvcc.lease_keys(7), ["a"]);
            store.reopen();
        }
        store.one(revoke(&[7])).unwrap();
        store.reopen();
        assert!(store.mvcc.leases().is_empty() && store.dump(0).is_empty());
    });
}

// === Alarms, member IDs, membership ===

#[test]
fn a_full_store_takes_no_more_but_can_be_emptied() {
    use alarm_request::AlarmAction::*;
    on_both(|store| {
        store.one(grant(1, 10)).unwrap();
        store.put("a", "1");
        store.put("b", "1");
        store.one(alarm(Activate, 5, AlarmType::Nospace)).unwrap();
        store.reopen();
        let raised = AlarmMember {
            member_id: 5,
            alarm: AlarmType::Nospace as i32,
        };
        assert_eq!(store.mvcc.alarms(), [raised]);
        assert_eq!(store.one(put("c", "1")), Err(Error::NoSpace));
        assert_eq!(store.one(grant(2, 10)), Err(Error::NoSpace));
        let putting = txn(vec![], vec![], vec![op_put("c", "1")]);
        assert_eq!(store.txn(putting), Err(Error::NoSpace), "on either branch");
        let deleting = txn(vec![], vec![op_delete("a", "")], vec![]);
        assert!(store.txn(deleting).is_ok());
        assert_eq!(store.delete("b", ""), 1);
        store.compact(store.mvcc.revision()).unwrap();
        store.one(revoke(&[1])).unwrap();
        store.one(alarm(Deactivate, 6, AlarmType::Nospace)).unwrap();
        assert_eq!(
            store.one(put("c", "1")),
            Err(Error::NoSpace),
            "another member's"
        );
        store.one(alarm(Deactivate, 5, AlarmType::Nospace)).unwrap();
        assert!(store.one(put("c", "1")).is_ok());
        assert!(store.mvcc.alarms().is_empty());
    });
}

#[test]
fn a_corrupt_cluster_changes_nothing() {
    use alarm_request::AlarmAction::*;
    on_both(|store| {
        store.put("a", "1");
        store.one(alarm(Activate, 5, AlarmType::Corrupt)).unwrap();
        store.one(alarm(Activate, 4, AlarmType::Nospace)).unwrap();
        for op in [
            put("a", "2"),
            delete("a", ""),
            compact(2),
            grant(1, 1),
            revoke(&[1]),
        ] {
            assert_eq!(store.one(op), Err(Error::Corrupt));
        }
        let read = txn(vec![], vec![op_get("a", "")], vec![]);
        assert_eq!(store.txn(read), Err(Error::Corrupt));
        let told = |store: &mut Store, kind| match store.one(alarm(Get, 0, kind)).unwrap() {
            Response::Alarm(response) => response.alarms.len(),
            other => panic!("not alarms: {other:?}"),
        };
        assert_eq!(told(store, AlarmType::None), 2);
        assert_eq!(told(store, AlarmType::Corrupt), 1);
        store.one(alarm(Deactivate, 5, AlarmType::Corrupt)).unwrap();
        assert_eq!(store.one(put("a", "2")), Err(Error::NoSpace));
    });
}

#[test]
fn member_ids_are_never_given_twice() {
    on_both(|store| {
        let ids = store.apply((0..100).map(|_| Op::AllocateMemberId(AllocateMemberId {})));
        let mut ids: Vec<u64> = ids
            .into_iter()
            .map(|outcome| match outcome {
                Ok(Response::MemberId(id)) => id,
                other => panic!("no ID: {other:?}"),
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 100);
        assert_ne!(ids[0], 0);
    });
}

#[test]
fn the_membership_is_kept_with_its_entry() {
    on_both(|store| {
        assert_eq!(store.mvcc.membership(), None);
        store.put("a", "1");
        store.apply_entries(vec![Entry::Membership("one".into()), Entry::Blank]);
        let position = LogPosition { term: 1, index: 1 };
        let expected = Some((position, Bytes::from("one")));
        assert_eq!(store.mvcc.membership(), expected);
        store.reopen();
        assert_eq!(store.mvcc.membership(), expected);
        assert_eq!(store.mvcc.applied().unwrap().index, 2);
    });
}

// === The log ===

#[test]
fn entries_come_in_order_and_make_sense() {
    for (entry, index) in [
        (Entry::Blank, 3),
        (Entry::Blank, 0),
        (Entry::Command("\u{1}nonsense".into()), 1),
        (Entry::Command(Bytes::new()), 1),
    ] {
        on_both(|store| {
            store.put("a", "1");
            let position = LogPosition { term: 1, index };
            let error = store
                .mvcc
                .apply(vec![(position, entry.clone())])
                .unwrap_err();
            match entry {
                Entry::Blank => assert!(matches!(error, EngineError::OutOfOrder { .. })),
                _ => assert!(matches!(error, EngineError::UnknownCommand { .. })),
            }
            let next = LogPosition { term: 1, index: 1 };
            let error = store.mvcc.apply(vec![(next, Entry::Blank)]).unwrap_err();
            assert!(matches!(error, EngineError::Failed), "an error is final");
            assert_eq!(store.dump(0), ["a=1"], "reads go on");
        });
    }
}

#[test]
fn what_is_published_is_visible_in_order() {
    on_both(|store| {
        let applied = store.mvcc.applied_watch();
        let compacted = store.mvcc.compact_watch();
        assert_eq!(*applied.borrow(), 0);
        store.apply([put("a", "1"), delete("a", ""), put("b", "1")]);
        assert_eq!(*applied.borrow(), 2);
        let ring = store.mvcc.ring();
        assert_eq!(ring.head(), 4);
        let RingRead::Revisions(revisions) = ring.read(2, i64::MAX, usize::MAX) else {
            panic!("the ring is empty");
        };
        let stored = store.mvcc.revisions(2, usize::MAX).unwrap();
        assert_eq!(revisions.len(), 3);
        for (one, other) in revisions.iter().zip(&stored) {
            assert_eq!(one.revision, other.revision);
            assert_eq!(one.changes[0].event, other.changes[0].event);
            assert_eq!(one.changes[0].prev_revision, other.changes[0].prev_revision);
        }
        store.compact(3).unwrap();
        assert_eq!(*compacted.borrow(), 3);
        let version = store.mvcc.version_at(b"b", 4).unwrap();
        assert_eq!(show(version.as_slice()), ["b=1"]);
        assert_eq!(store.mvcc.version_at(b"b", 3).unwrap(), None);
        assert_eq!(store.mvcc.version_at(b"a", 3).unwrap(), None, "a tombstone");
    });
}

// === Disk ===

#[test]
fn a_crash_loses_what_was_not_flushed_and_the_log_brings_it_back() {
    on_both(|store| {
        store.put("a", "1");
        store.put("b", "1");
        assert_eq!(store.mvcc.flushed(), None);
        store.mvcc.flush().unwrap();
        assert_eq!(store.mvcc.flushed(), store.mvcc.applied());
        let flushed = store.mvcc.flushed();
        store.put("a", "2");
        store.delete("b", "");
        assert_eq!(store.mvcc.flushed(), flushed);
        let (hash, live) = (store.mvcc.hash(0).unwrap(), store.mvcc.sizes().live_bytes);
        let log = std::mem::take(&mut store.log);
        store.log = log[..2].to_vec();
        store.crash();
        assert_eq!(store.mvcc.applied(), flushed);
        assert_eq!(store.mvcc.flushed(), flushed);
        assert_eq!(store.dump(0), ["a=1", "b=1"]);
        store.mvcc.apply(log[2..].to_vec()).unwrap();
        assert_eq!(store.mvcc.hash(0).unwrap(), hash);
        assert_eq!(store.mvcc.sizes().live_bytes, live);
        assert_eq!(store.dump(0), ["a=2"]);
        assert_eq!(store.dump(3), ["a=1", "b=1"]);
    });
}

#[test]
fn a_snapshot_is_swapped_in_under_the_readers() {
    on_both(|store| {
        // A member that is ahead.
        let mut ahead = Store::new(store.kind);
        for n in 0..20 {
            ahead.put(&format!("k{n:02}"), "ahead");
        }
        ahead.one(grant(3, 9)).unwrap();
        ahead.apply_entries(vec![Entry::Membership("m".into())]);
        ahead.compact(11).unwrap();
        let dir = ahead.fresh_dir();
        let checkpoint = ahead.mvcc.checkpoint(&dir).unwrap();
        ahead.put("later", "1");
        assert_eq!(checkpoint.revision, 21);
        assert_eq!(checkpoint.membership, ahead.mvcc.membership());
        let names = std::fs::read_dir(&dir).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name());
        assert!(names.all(|name| !name.to_string_lossy().starts_with("LOG")));

        for n in 0..5 {
            store.put(&format!("k{n:02}"), "behind");
        }
        let mut events = store.mvcc.lease_events();
        let mut reading = store.mvcc.range_chunks(range("k", "l"), 1).unwrap();
        reading.next().unwrap();
        store.mvcc.replace(open_engine(store.kind, &dir)).unwrap();
        assert_eq!(store.mvcc.applied(), checkpoint.applied);
        assert_eq!(store.mvcc.flushed(), checkpoint.applied);
        assert_eq!(store.mvcc.membership(), checkpoint.membership);
        assert_eq!(*store.mvcc.applied_watch().borrow(), 22);
        assert_eq!(store.mvcc.revision(), 21);
        assert_eq!(store.mvcc.compact_revision(), 11);
        assert_eq!(events.try_recv(), Ok(LeaseEvent::Replaced));
        assert_eq!(store.mvcc.leases(), [3]);
        assert_eq!(store.mvcc.ring().head(), 21);
        assert!(matches!(
            store.mvcc.ring().read(12, i64::MAX, 1),
            RingRead::Behind
        ));
        assert_eq!(store.mvcc.revisions(12, usize::MAX).unwrap().len(), 10);
        assert_eq!(store.mvcc.hash(0), ahead.mvcc.hash(21));
        // The reader from before finishes with what it began.
        while let Some(chunk) = reading.next().unwrap() {
            assert!(chunk.kvs.iter().all(|kv| kv.value == "behind"));
        }
        let next = ahead.log[checkpoint.applied.unwrap().index as usize + 1..].to_vec();
        store.mvcc.apply(next).unwrap();
        assert_eq!(store.mvcc.hash(0), ahead.mvcc.hash(0));
    });
}

#[test]
fn a_checkpoint_beside_apply_says_what_it_holds() {
    on_both(|store| {
        store.put("a", "0");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let dirs: Vec<_> = (0..5).map(|_| store.fresh_dir()).collect();
        let (kind, mvcc) = (store.kind, store.mvcc.clone());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut n = 1;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    store.put("a", &n.to_string());
                    n += 1;
                }
            });
            for dir in dirs {
                let checkpoint = mvcc.checkpoint(&dir).unwrap();
                let copy = Mvcc::open(open_engine(kind, &dir), config()).unwrap();
                assert_eq!(copy.applied(), checkpoint.applied);
                assert_eq!(copy.revision(), checkpoint.revision);
                assert_eq!(copy.hash(0), mvcc.hash(checkpoint.revision));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap();
        });
    });
}

#[test]
fn readers_see_whole_transactions_beside_apply_and_collection() {
    on_both(|store| {
        let both = |value: &str| {
            let puts = (0..20)
                .map(|n| op_put(&format!("k{n:02}"), value))
                .collect();
            txn(vec![], puts, vec![])
        };
        store.txn(both("0")).unwrap();
        let mvcc = store.mvcc.clone();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut reads = 0;
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            let kvs = mvcc.range(&range("k", "l")).unwrap().kvs;
                            assert_eq!(kvs.len(), 20);
                            assert!(kvs.iter().all(|kv| kv.value == kvs[0].value));
                            let one = mvcc.range(&range("k07", "")).unwrap().kvs;
                            assert!(one[0].mod_revision >= kvs[0].mod_revision);
                            reads += 1;
                        }
                        reads
                    })
                })
                .collect();
            let collector = scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    mvcc.gc_step(7).unwrap();
                }
            });
            for n in 1..400 {
                store.txn(both(&n.to_string())).unwrap();
                store.compact(store.mvcc.revision()).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            collector.join().unwrap();
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
        store.collect_all();
        assert_eq!(versions(store), 40);
    });
}

#[test]
fn a_damaged_value_is_never_returned() {
    on_both(|store| {
        store.put("a", "1");
        store.put("b", "1");
        let mut cursor = store.engine.cursor(Space::Kv);
        cursor.seek(&[]);
        let (key, record) = cursor.entry().unwrap().unwrap();
        let (key, mut record) = (key.to_vec(), record.to_vec());
        drop(cursor);
        record[4] ^= 1;
        let mut batch = Batch::default();
        batch.put(Space::Kv, &key, &record);
        store.engine.write(&batch).unwrap();
        let error = store.mvcc.range(&range("a", "")).unwrap_err();
        assert!(
            matches!(&error, Error::Internal(text) if text.contains("checksum")),
            "{error}"
        );
        assert!(store.mvcc.range(&range("a", "c")).is_err());
        assert!(store.mvcc.range(&range("b", "")).is_ok());
    });
}

// === Stores from the outside ===

fn exported() -> (Vec<KeyValue>, Vec<(i64, LeaseInfo)>) {
    let mut store = Store::new(Kind::Memory);
    store.one(grant(4, 60)).unwrap();
    store.one(put_leased("b", "1", 4)).unwrap();
    store.put("a", "1");
    store.put("a", "2");
    let mut export = store.mvcc.export(0, 1 << 20).unwrap();
    assert_eq!(export.revision, 4);
    assert_eq!(export.hash, Some(store.mvcc.hash(0).unwrap().hash));
    let kvs = export.next().unwrap().unwrap();
    assert_eq!(export.next().unwrap(), None);
    (kvs, export.leases)
}

#[test]
fn a_built_store_continues_where_it_was_told() {
    let (kvs, leases) = exported();
    on_both(|store| {
        let dir = store.fresh_dir();
        let mut builder = Builder::new(open_engine(store.kind, &dir)).unwrap();
        for (id, lease) in &leases {
            builder.lease(*id, *lease).unwrap();
        }
        for kv in &kvs {
            builder.put(kv).unwrap();
        }
        let position = LogPosition { term: 3, index: 9 };
        builder
            .finish(Origin {
                revision: 1000,
                compact_revision: 1000,
                applied: Some(position),
                membership: Some((position, "m".into())),
                seed: 5,
                hash: None,
            })
            .unwrap();
        store.open_at(dir);
        assert_eq!(store.mvcc.applied(), Some(position));
        assert_eq!(store.mvcc.membership(), Some((position, "m".into())));
        assert_eq!(store.mvcc.revision(), 1000);
        assert_eq!(store.mvcc.range(&range("a", "z")).unwrap().kvs, kvs);
        assert_eq!(store.mvcc.lease_keys(4), ["b"]);
        let early = RangeRequest {
            revision: 4,
            ..range("a", "")
        };
        let compacted = Err(Error::Compacted {
            compact_revision: 1000,
        });
        assert_eq!(store.mvcc.range(&early), compacted);
        assert!(store.mvcc.revisions(1000, 1).unwrap().is_empty());
        let before = store.mvcc.hash(0).unwrap();
        assert_ne!(before.hash, 0);

        let next = LogPosition { term: 4, index: 10 };
        let outcome = store
            .mvcc
            .apply(vec![(next, command(put("a", "3")))])
            .unwrap();
        assert!(outcome[0].is_ok());
        let kv = store.get("a").unwrap();
        assert_eq!(
            (kv.create_revision, kv.mod_revision, kv.version),
            (3, 1001, 3)
        );
        assert_eq!(store.mvcc.hash(1000).unwrap().hash, before.hash);
        assert_eq!(store.mvcc.revisions(1000, 1).unwrap().len(), 1);
        let last = LogPosition { term: 4, index: 11 };
        store
            .mvcc
            .apply(vec![(last, command(put("c", "1")))])
            .unwrap();
        let last = LogPosition { term: 4, index: 12 };
        store
            .mvcc
            .apply(vec![(last, command(compact(1002)))])
            .unwrap();
        store.collect_all();
        assert_eq!(versions(store), 3);
        assert_eq!(store.dump(0), ["a=3", "b=1", "c=1"]);
    });
}

#[test]
fn a_store_that_contradicts_itself_is_not_built() {
    let (kvs, leases) = exported();
    let at = |revision, compact_revision| Origin {
        revision,
        compact_revision,
        ..Origin::default()
    };
    on_both(|store| {
        assert!(Builder::new(store.engine.clone()).is_ok());
        store.put("a", "1");
        assert!(Builder::new(store.engine.clone()).is_err(), "not empty");
        let fresh = |store: &mut Store| {
            let dir = store.fresh_dir();
            Builder::new(open_engine(store.kind, &dir)).unwrap()
        };
        let mut builder = fresh(store);
        assert!(builder.put(&kvs[1]).is_err(), "its lease is missing");
        assert!(builder.put(&KeyValue::default()).is_err());
        for origin in [at(4, 3), at(3, 3), at(4, 5)] {
            let mut builder = fresh(store);
            builder.lease(leases[0].0, leases[0].1).unwrap();
            kvs.iter().for_each(|kv| builder.put(kv).unwrap());
            assert!(builder.finish(origin).is_err());
        }
    });
}

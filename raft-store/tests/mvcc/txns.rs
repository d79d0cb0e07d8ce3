//! Transactions and what puts may keep.

use raft_store::Error;
use raft_store::mvcc::Response;
use raft_store::pb::etcdserverpb::compare::{CompareResult, TargetUnion};
use raft_store::pb::etcdserverpb::request_op::Request;
use raft_store::pb::etcdserverpb::response_op::Response as OpResponse;
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::log::command::Op;

use crate::support::*;

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

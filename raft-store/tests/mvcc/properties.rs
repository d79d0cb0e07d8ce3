//! The applied state on both engines against a naive model, under compaction, collection, crashes,
//! reopening and installed snapshots.

use bytes::Bytes;
use proptest::prelude::*;
use raft_store::pb::etcdserverpb::compare::TargetUnion;
use raft_store::pb::etcdserverpb::request_op::Request;
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::log::LeaseCheckpoint;
use raft_store::pb::log::command::Op;
use raft_store::pb::log::lease_checkpoint::Remaining;
use raft_store::pb::mvccpb::KeyValue;
use raft_store::watch::History;

use crate::model::{Model, ModelChange};
use crate::support::{Kind, Store, compact, grant, op, revoke, txn};

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Op>),
    Collect(usize),
    Flush,
    Crash,
    Replace,
    Look(Box<RangeRequest>),
}

fn key() -> impl Strategy<Value = Bytes> {
    let keys: [&[u8]; 7] = [b"a", b"a\0", b"a\0b", b"ab", b"b", b"c", b"\xff"];
    prop::sample::select(keys.to_vec()).prop_map(Bytes::from_static)
}

fn end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => Just(Bytes::new()),
        2 => Just(Bytes::from_static(b"\0")),
        3 => key(),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "1", "2", "3"]).prop_map(Bytes::from)
}

fn flag() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.2)
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 2 => 1..4i64]
}

fn put() -> impl Strategy<Value = PutRequest> {
    let flags = (flag(), flag(), flag());
    (key(), value(), lease(), flags).prop_map(|(key, value, lease, flags)| {
        let (prev_kv, ignore_value, ignore_lease) = flags;
        PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    })
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![6 => Just(0i64), 1 => 1..30i64];
    let sorting = prop_oneof![2 => Just((0, 0)), 1 => (0..3i32, 0..5i32)];
    (
        (key(), end(), prop_oneof![Just(0i64), 1..4i64]),
        prop_oneof![2 => Just(0i64), 3 => 1..60i64],
        sorting,
        (flag(), flag()),
        (bound(), bound(), bound(), bound()),
    )
        .prop_map(
            |((key, range_end, limit), revision, sort, only, bounds)| RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order: sort.0,
                sort_target: sort.1,
                serializable: false,
                keys_only: only.0,
                count_only: only.1,
                min_mod_revision: bounds.0,
                max_mod_revision: bounds.1,
                min_create_revision: bounds.2,
                max_create_revision: bounds.3,
            },
        )
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0..4i64).prop_map(TargetUnion::Version),
        (0..20i64).prop_map(TargetUnion::CreateRevision),
        (0..20i64).prop_map(TargetUnion::ModRevision),
        value().prop_map(TargetUnion::Value),
        (0..4i64).prop_map(TargetUnion::Lease),
    ];
    (key(), end(), target, 0..4i32).prop_map(|(key, range_end, target, result)| {
        let number = match target {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        };
        Compare {
            result,
            target: number,
            key,
            range_end,
            target_union: Some(target),
        }
    })
}

fn request_op() -> impl Strategy<Value = RequestOp> {
    prop_oneof![
        3 => range().prop_map(|request| op(Request::RequestRange(request))),
        4 => put().prop_map(|request| op(Request::RequestPut(request))),
        2 => delete().prop_map(|request| op(Request::RequestDeleteRange(request))),
    ]
}

fn transaction() -> impl Strategy<Value = TxnRequest> {
    let compares = || prop::collection::vec(compare(), 0..3);
    let ops = || prop::collection::vec(request_op(), 0..3);
    let inner = (compares(), ops(), ops()).prop_map(|(c, s, f)| txn(c, s, f));
    let inner = prop::collection::vec(inner, 0..2);
    (compares(), ops(), ops(), inner, any::<bool>()).prop_map(|(c, s, f, inner, before)| {
        let mut request = txn(c, s, f);
        for nested in inner {
            let nested = op(Request::RequestTxn(nested));
            match before {
                true => request.success.insert(0, nested),
                false => request.failure.push(nested),
            }
        }
        request
    })
}

fn operation() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => put().prop_map(Op::Put),
        5 => delete().prop_map(Op::DeleteRange),
        8 => transaction().prop_map(Op::Txn),
        3 => (1..60i64).prop_map(compact),
        3 => (1..4i64, 1..100i64).prop_map(|(id, ttl)| grant(id, ttl)),
        2 => prop::collection::vec(1..4i64, 1..3).prop_map(|ids| revoke(&ids)),
        1 => (1..4i64, 0..9i64).prop_map(|(id, remaining_ttl)| {
            let leases = vec![Remaining { id, remaining_ttl }];
            Op::LeaseCheckpoint(LeaseCheckpoint { leases })
        }),
        1 => (1..4i32).prop_map(|n| Op::Alarm(AlarmRequest {
            // Mostly off.
            action: if n == 1 { 1 } else { 2 },
            member_id: 7,
            alarm: AlarmType::Nospace as i32,
        })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => prop::collection::vec(operation(), 1..5).prop_map(Step::Apply),
        4 => (1..6usize).prop_map(Step::Collect),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Replace),
        10 => range().prop_map(|request| Step::Look(Box::new(request))),
    ]
}

fn run(kind: Kind, steps: &[Step]) -> Store {
    let mut store = Store::new(kind);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Apply(ops) => {
                let expected: Vec<_> = ops.iter().map(|op| model.apply(op)).collect();
                assert_eq!(store.apply(ops.clone()), expected);
            }
            Step::Collect(budget) => {
                store.mvcc.gc_step(*budget).unwrap();
            }
            Step::Flush => {
                assert_eq!(store.mvcc.flush().unwrap(), store.mvcc.applied());
            }
            Step::Crash => {
                let before = store.mvcc.hash(0).unwrap();
                store.crash();
                assert_eq!(store.mvcc.hash(0).unwrap(), before);
            }
            Step::Replace => store.replace_with_checkpoint(),
            Step::Look(request) => {
                assert_eq!(
                    store.mvcc.range(request),
                    model.range(request),
                    "{request:?}"
                );
            }
        }
        assert_eq!(store.mvcc.revision(), model.revision());
        assert_eq!(store.mvcc.compact_revision(), model.compact);
    }
    compare_all(&store, &model);
    store.collect_all();
    store.reopen();
    compare_all(&store, &model);
    store
}

fn all_at(revision: i64) -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..RangeRequest::default()
    }
}

/// Everything readable: all revisions by range, by chunks, and as events; leases and their keys.
fn compare_all(store: &Store, model: &Model) {
    let mvcc = &store.mvcc;
    for revision in model.compact.max(1)..=model.revision() {
        let expected = model.range(&all_at(revision)).unwrap();
        assert_eq!(mvcc.range(&all_at(revision)).unwrap(), expected);
        for key in model.keys[model.keys.len() - 1].keys() {
            let one = RangeRequest {
                key: key.clone(),
                revision,
                ..RangeRequest::default()
            };
            assert_eq!(mvcc.range(&one), model.range(&one));
        }
        let limited = RangeRequest {
            limit: 3,
            ..all_at(revision)
        };
        for request in [all_at(revision), limited] {
            let expected = model.range(&request).unwrap();
            let mut chunks = mvcc.range_chunks(request, 60).unwrap();
            let mut joined = RangeResponse::default();
            while let Some(chunk) = chunks.next().unwrap() {
                assert_eq!(joined.header, None, "only the last chunk has a header");
                let kvs: Vec<_> = joined.kvs.into_iter().chain(chunk.kvs.clone()).collect();
                joined = RangeResponse { kvs, ..chunk };
            }
            assert_eq!(joined, expected);
        }
    }
    if model.compact > 0 {
        assert!(mvcc.range(&all_at(model.compact - 1)).is_err() || model.compact == 1);
    }
    let from = model.compact.max(1);
    let expected: Vec<_> = model
        .changes
        .range(from..)
        .map(|(revision, changes)| (*revision, changes.clone()))
        .collect();
    assert_eq!(events(mvcc, from), expected);
    let expected: Vec<i64> = model.leases.keys().copied().collect();
    assert_eq!(mvcc.leases(), expected);
    for (id, (granted, remaining)) in &model.leases {
        let lease = mvcc.lease(*id).unwrap();
        assert_eq!(
            (lease.granted_ttl, lease.remaining_ttl),
            (*granted, *remaining)
        );
        let now = model.keys[model.keys.len() - 1].values();
        let keys: Vec<_> = now
            .filter(|kv| kv.lease == *id)
            .map(|kv| kv.key.clone())
            .collect();
        assert_eq!(mvcc.lease_keys(*id), keys);
    }
    assert_eq!(mvcc.alarms().len(), model.nospace.len());
    assert_eq!(
        mvcc.sizes().keys as usize,
        model.keys[model.keys.len() - 1].len()
    );
}

/// All events from a revision on, as the model writes them, read in small pieces.
fn events(history: &impl History, from: i64) -> Vec<(i64, Vec<ModelChange>)> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let some = history.revisions(next, 200).unwrap();
        let Some(last) = some.last() else {
            return found;
        };
        next = last.revision + 1;
        for revision in some {
            let changes = revision.changes.iter().map(|change| {
                let kv: KeyValue = change.event.kv.clone().unwrap();
                assert_eq!(kv.mod_revision, revision.revision);
                let kv = (!change.is_delete()).then_some(kv);
                (change.key().clone(), kv, change.prev_revision)
            });
            found.push((revision.revision, changes.collect()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(256),
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_state_in_memory_is_the_models(steps in prop::collection::vec(step(), 0..60)) {
        run(Kind::Memory, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(24),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_engines_reach_the_same_state(steps in prop::collection::vec(step(), 0..60)) {
        let memory = run(Kind::Memory, &steps);
        let rocks = run(Kind::Rocks, &steps);
        let from = memory.mvcc.compact_revision().max(1);
        for revision in from..=memory.mvcc.revision() {
            let hash = memory.mvcc.hash(revision);
            prop_assert!(hash.is_ok());
            prop_assert_eq!(hash, rocks.mvcc.hash(revision));
        }
        let (one, other) = (memory.mvcc.sizes(), rocks.mvcc.sizes());
        prop_assert_eq!(one.live_bytes, other.live_bytes);
    }
}

fn cases(default: u32) -> u32 {
    let set = std::env::var("PROPTEST_CASES").ok();
    set.and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

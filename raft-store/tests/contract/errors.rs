//! Malformed requests and the errors that they get.

use bytes::Bytes;
use raft_store::Error;
use raft_store::pb::etcdserverpb::request_op::Request as Op;
use raft_store::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::backend::Feature;
use crate::harness::{Ctx, Outcome, always, cases, op, put_op, put_request, txn_op};

cases! {
    an_empty_key_is_refused_everywhere,
    an_ignored_value_or_lease_must_not_be_given,
    an_operation_must_be_something,
    unknown_sort_options_are_refused,
    too_large_a_request_is_refused,
    a_refused_request_changes_nothing,
}

async fn an_empty_key_is_refused_everywhere(t: &Ctx) -> Outcome {
    assert_eq!(
        t.store.range(RangeRequest::default()).await,
        Err(Error::EmptyKey)
    );
    assert_eq!(t.try_put(PutRequest::default()).await, Err(Error::EmptyKey));
    assert_eq!(
        t.try_delete(DeleteRangeRequest::default()).await,
        Err(Error::EmptyKey)
    );
    let compare = TxnRequest {
        compare: vec![Compare::default()],
        ..Default::default()
    };
    assert_eq!(t.try_txn(compare).await, Err(Error::EmptyKey));
    for operation in [
        Op::RequestRange(RangeRequest::default()),
        Op::RequestPut(PutRequest::default()),
        Op::RequestDeleteRange(DeleteRangeRequest::default()),
    ] {
        let operation = op(operation);
        assert_eq!(
            t.try_txn(always(vec![operation.clone()])).await,
            Err(Error::EmptyKey)
        );
        let failure = TxnRequest {
            failure: vec![operation.clone()],
            ..Default::default()
        };
        assert_eq!(t.try_txn(failure).await, Err(Error::EmptyKey));
        let nested = always(vec![txn_op(always(vec![operation]))]);
        assert_eq!(t.try_txn(nested).await, Err(Error::EmptyKey));
    }
    Ok(())
}

async fn an_ignored_value_or_lease_must_not_be_given(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    let value = PutRequest {
        ignore_value: true,
        ..put_request(t.key("a"), "2")
    };
    assert_eq!(t.try_put(value.clone()).await, Err(Error::ValueProvided));
    let in_txn = always(vec![op(Op::RequestPut(value))]);
    assert_eq!(t.try_txn(in_txn).await, Err(Error::ValueProvided));
    let lease = PutRequest {
        ignore_lease: true,
        lease: 5,
        ..put_request(t.key("a"), "2")
    };
    assert_eq!(t.try_put(lease).await, Err(Error::LeaseProvided));
    let absent = PutRequest {
        ignore_lease: true,
        ..put_request(t.key("absent"), "2")
    };
    assert_eq!(t.try_put(absent).await, Err(Error::KeyNotFound));
    Ok(())
}

async fn an_operation_must_be_something(t: &Ctx) -> Outcome {
    let nothing = always(vec![RequestOp { request: None }]);
    assert_eq!(t.try_txn(nothing).await, Err(Error::KeyNotFound));
    Ok(())
}

async fn unknown_sort_options_are_refused(t: &Ctx) -> Outcome {
    t.needs(Feature::SortOptionCheck)?;
    let order = RangeRequest {
        sort_order: 9,
        ..t.all()
    };
    assert_eq!(t.store.range(order).await, Err(Error::InvalidSortOption));
    let target = RangeRequest {
        sort_target: 9,
        ..t.all()
    };
    assert_eq!(t.store.range(target).await, Err(Error::InvalidSortOption));
    Ok(())
}

async fn too_large_a_request_is_refused(t: &Ctx) -> Outcome {
    let large = Bytes::from(vec![1; 1_700_000]);
    let put = PutRequest {
        key: t.key("a"),
        value: large,
        ..Default::default()
    };
    assert_eq!(t.try_put(put.clone()).await, Err(Error::RequestTooLarge));
    let in_txn = always(vec![op(Op::RequestPut(put))]);
    assert_eq!(t.try_txn(in_txn).await, Err(Error::RequestTooLarge));
    Ok(())
}

async fn a_refused_request_changes_nothing(t: &Ctx) -> Outcome {
    let before = t.put_revision("a", "1").await;
    let bad = always(vec![
        put_op(t.key("b"), "x"),
        op(Op::RequestPut(PutRequest::default())),
    ]);
    assert_eq!(t.try_txn(bad).await, Err(Error::EmptyKey));
    assert_eq!(t.revision().await, before);
    assert_eq!(t.get("b").await, None);
    Ok(())
}

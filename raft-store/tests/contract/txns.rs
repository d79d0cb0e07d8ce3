//! Transactions: compares, branches, nesting, and all or nothing.

use bytes::Bytes;
use raft_store::Error;
use raft_store::pb::etcdserverpb::compare::CompareResult::{Equal, Greater, Less, NotEqual};
use raft_store::pb::etcdserverpb::compare::TargetUnion as By;
use raft_store::pb::etcdserverpb::request_op::Request as Op;
use raft_store::pb::etcdserverpb::{
    Compare, LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest,
};

use crate::backend::Feature;
use crate::harness::{
    Ctx, Outcome, always, cases, compare, delete_op, deleted, get_op, nested, op, put_op,
    put_request, ranged, revision, text, txn_op,
};

cases! {
    a_txn_without_compares_succeeds,
    every_target_compares,
    a_missing_key_compares_as_zeros_but_has_no_value,
    a_range_compare_must_hold_for_every_key,
    the_other_branch_runs_when_a_compare_fails,
    all_writes_share_one_revision,
    a_txn_that_changes_nothing_takes_no_revision,
    a_read_sees_the_writes_before_it,
    a_txn_reads_the_past,
    a_delete_in_a_txn_tells_what_was_there,
    create_update_and_delete_as_kubernetes_does,
    a_nested_txn_runs_its_own_branch,
    nested_compares_see_the_state_before_the_txn,
    a_key_may_be_changed_once_only,
    an_open_ended_delete_overlaps_too,
    branches_may_change_the_same_key,
    too_many_operations_are_refused,
    an_error_undoes_everything,
    an_error_in_the_branch_not_taken_does_not_matter,
}

async fn holds(t: &Ctx, compares: Vec<Compare>) -> bool {
    t.txn(TxnRequest {
        compare: compares,
        ..Default::default()
    })
    .await
    .succeeded
}

async fn a_txn_without_compares_succeeds(t: &Ctx) -> Outcome {
    let before = t.revision().await;
    let response = t.txn(TxnRequest::default()).await;
    assert!(response.succeeded && response.responses.is_empty());
    assert_eq!(revision(&response.header), before);
    Ok(())
}

async fn every_target_compares(t: &Ctx) -> Outcome {
    let lease = t
        .store
        .lease_grant(LeaseGrantRequest { ttl: 600, id: 0 })
        .await
        .expect("a lease")
        .id;
    let created = t.put_revision("a", "m").await;
    let put = PutRequest {
        lease,
        ..put_request(t.key("a"), "m")
    };
    t.try_put(put).await.expect("a put");
    let value = |text: &'static str| By::Value(Bytes::from_static(text.as_bytes()));
    for (lower, equal, higher) in [
        (By::Version(1), By::Version(2), By::Version(3)),
        (
            By::CreateRevision(created - 1),
            By::CreateRevision(created),
            By::CreateRevision(created + 1),
        ),
        (
            By::ModRevision(created),
            By::ModRevision(created + 1),
            By::ModRevision(created + 2),
        ),
        (value("l"), value("m"), value("ma")),
        (By::Lease(lease - 1), By::Lease(lease), By::Lease(lease + 1)),
    ] {
        for (union, results) in [
            (
                lower,
                [
                    (Equal, false),
                    (NotEqual, true),
                    (Greater, true),
                    (Less, false),
                ],
            ),
            (
                equal,
                [
                    (Equal, true),
                    (NotEqual, false),
                    (Greater, false),
                    (Less, false),
                ],
            ),
            (
                higher,
                [
                    (Equal, false),
                    (NotEqual, true),
                    (Greater, false),
                    (Less, true),
                ],
            ),
        ] {
            for (result, expected) in results {
                let held = holds(t, vec![compare(t.key("a"), result, union.clone())]).await;
                assert_eq!(held, expected, "{result:?} {union:?}");
            }
        }
    }
    Ok(())
}

async fn a_missing_key_compares_as_zeros_but_has_no_value(t: &Ctx) -> Outcome {
    for zero in [
        By::Version(0),
        By::CreateRevision(0),
        By::ModRevision(0),
        By::Lease(0),
    ] {
        assert!(
            holds(t, vec![compare(t.key("absent"), Equal, zero.clone())]).await,
            "{zero:?}"
        );
        assert!(
            !holds(t, vec![compare(t.key("absent"), Greater, zero.clone())]).await,
            "{zero:?}"
        );
    }
    for result in [Equal, NotEqual, Greater, Less] {
        for value in ["", "x"] {
            let by_value = By::Value(Bytes::from(value));
            assert!(!holds(t, vec![compare(t.key("absent"), result, by_value)]).await);
        }
    }
    Ok(())
}

async fn a_range_compare_must_hold_for_every_key(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    t.put("b", "1").await;
    let all = |result, union| Compare {
        range_end: t.end(),
        ..compare(t.key(""), result, union)
    };
    assert!(holds(t, vec![all(Equal, By::Version(1))]).await);
    assert!(holds(t, vec![all(Equal, By::Value(Bytes::from_static(b"1")))]).await);
    t.put("b", "2").await;
    assert!(!holds(t, vec![all(Equal, By::Version(1))]).await);
    assert!(holds(t, vec![all(Greater, By::Version(0))]).await);
    let none = Compare {
        range_end: t.key("z"),
        ..compare(t.key("y"), Equal, By::ModRevision(0))
    };
    assert!(
        holds(t, vec![none]).await,
        "an empty range compares as a missing key"
    );
    Ok(())
}

async fn the_other_branch_runs_when_a_compare_fails(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    let request = |version| TxnRequest {
        compare: vec![
            compare(t.key("a"), Equal, By::Version(version)),
            compare(t.key("a"), Greater, By::ModRevision(0)),
        ],
        success: vec![put_op(t.key("then"), "x")],
        failure: vec![get_op(t.key("a"))],
    };
    let failed = t.txn(request(7)).await;
    assert!(!failed.succeeded);
    assert_eq!(text(&ranged(&failed.responses[0]).kvs[0].value), "1");
    assert_eq!(t.value("then").await, None);
    assert!(t.txn(request(1)).await.succeeded);
    assert_eq!(t.value("then").await.as_deref(), Some("x"));
    Ok(())
}

async fn all_writes_share_one_revision(t: &Ctx) -> Outcome {
    t.put("old", "x").await;
    let before = t.revision().await;
    let response = t
        .txn(always(vec![
            put_op(t.key("a"), "1"),
            delete_op(t.key("old"), Bytes::new()),
            put_op(t.key("b"), "2"),
        ]))
        .await;
    assert_eq!(revision(&response.header), before + 1);
    for name in ["a", "b"] {
        let kv = t.get(name).await.expect("the key");
        assert_eq!(
            (kv.mod_revision, kv.create_revision, kv.version),
            (before + 1, before + 1, 1)
        );
    }
    assert_eq!(t.value("old").await, None);
    assert_eq!(t.revision().await, before + 1);
    Ok(())
}

async fn a_txn_that_changes_nothing_takes_no_revision(t: &Ctx) -> Outcome {
    let before = t.put_revision("a", "1").await;
    let reads = t.txn(always(vec![get_op(t.key("a"))])).await;
    assert_eq!(revision(&reads.header), before);
    let deletes = t
        .txn(always(vec![delete_op(t.key("absent"), Bytes::new())]))
        .await;
    assert_eq!(deleted(&deletes.responses[0]).deleted, 0);
    assert_eq!(revision(&deletes.header), before);
    let fails = TxnRequest {
        compare: vec![compare(t.key("a"), Equal, By::Version(9))],
        success: vec![put_op(t.key("a"), "2")],
        failure: vec![],
    };
    assert_eq!(revision(&t.txn(fails).await.header), before);
    assert_eq!(t.revision().await, before);
    Ok(())
}

async fn a_read_sees_the_writes_before_it(t: &Ctx) -> Outcome {
    t.put("a", "old").await;
    t.put("b", "old").await;
    let before = t.revision().await;
    let response = t
        .txn(always(vec![
            get_op(t.key("a")),
            put_op(t.key("a"), "new"),
            get_op(t.key("a")),
            delete_op(t.key("b"), Bytes::new()),
            op(Op::RequestRange(t.all())),
        ]))
        .await;
    assert_eq!(text(&ranged(&response.responses[0]).kvs[0].value), "old");
    let new = &ranged(&response.responses[2]).kvs[0];
    assert_eq!(
        (text(&new.value).as_str(), new.mod_revision, new.version),
        ("new", before + 1, 2)
    );
    assert_eq!(t.names(&ranged(&response.responses[4]).kvs), ["a"]);
    Ok(())
}

async fn a_txn_reads_the_past(t: &Ctx) -> Outcome {
    let first = t.put_revision("a", "1").await;
    t.put("a", "2").await;
    let past = RangeRequest {
        key: t.key("a"),
        revision: first,
        ..Default::default()
    };
    let response = t.txn(always(vec![op(Op::RequestRange(past))])).await;
    assert_eq!(text(&ranged(&response.responses[0]).kvs[0].value), "1");
    Ok(())
}

async fn a_delete_in_a_txn_tells_what_was_there(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    t.put("b", "2").await;
    let there = t.range(t.all()).await.kvs;
    let response = t.txn(always(vec![delete_op(t.key(""), t.end())])).await;
    let delete = deleted(&response.responses[0]);
    assert_eq!((delete.deleted, &delete.prev_kvs), (2, &there));
    Ok(())
}

async fn create_update_and_delete_as_kubernetes_does(t: &Ctx) -> Outcome {
    let if_unchanged = |mod_revision, then| TxnRequest {
        compare: vec![compare(t.key("pod"), Equal, By::ModRevision(mod_revision))],
        success: vec![then],
        failure: vec![get_op(t.key("pod"))],
    };
    let created = t.txn(if_unchanged(0, put_op(t.key("pod"), "v1"))).await;
    assert!(created.succeeded);
    let again = t.txn(if_unchanged(0, put_op(t.key("pod"), "v1"))).await;
    assert!(!again.succeeded);
    let first = ranged(&again.responses[0]).kvs[0].mod_revision;
    assert_eq!(first, revision(&created.header));
    let updated = t.txn(if_unchanged(first, put_op(t.key("pod"), "v2"))).await;
    assert!(updated.succeeded);
    let stale = t
        .txn(if_unchanged(first, delete_op(t.key("pod"), Bytes::new())))
        .await;
    assert!(!stale.succeeded);
    assert_eq!(text(&ranged(&stale.responses[0]).kvs[0].value), "v2");
    let second = revision(&updated.header);
    let gone = t
        .txn(if_unchanged(second, delete_op(t.key("pod"), Bytes::new())))
        .await;
    assert!(gone.succeeded);
    assert_eq!(text(&deleted(&gone.responses[0]).prev_kvs[0].value), "v2");
    Ok(())
}

async fn a_nested_txn_runs_its_own_branch(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    let before = t.revision().await;
    let inner = TxnRequest {
        compare: vec![compare(t.key("a"), Equal, By::Version(9))],
        success: vec![put_op(t.key("then"), "x")],
        failure: vec![put_op(t.key("else"), "x"), get_op(t.key("else"))],
    };
    let response = t
        .txn(always(vec![put_op(t.key("outer"), "x"), txn_op(inner)]))
        .await;
    let inner = nested(&response.responses[1]);
    assert!(!inner.succeeded);
    assert_eq!(ranged(&inner.responses[1]).kvs[0].mod_revision, before + 1);
    assert_eq!(revision(&response.header), before + 1);
    assert_eq!(t.names(&t.range(t.all()).await.kvs), ["a", "else", "outer"]);
    Ok(())
}

async fn nested_compares_see_the_state_before_the_txn(t: &Ctx) -> Outcome {
    let inner = TxnRequest {
        compare: vec![compare(t.key("a"), Greater, By::Version(0))],
        success: vec![],
        failure: vec![get_op(t.key("a"))],
    };
    let response = t
        .txn(always(vec![put_op(t.key("a"), "1"), txn_op(inner)]))
        .await;
    let inner = nested(&response.responses[1]);
    assert!(!inner.succeeded, "the key did not exist before the txn");
    assert_eq!(
        ranged(&inner.responses[0]).count,
        1,
        "but its operations see the put"
    );
    Ok(())
}

async fn a_key_may_be_changed_once_only(t: &Ctx) -> Outcome {
    let inner = |operation| txn_op(always(vec![operation]));
    let (a, z) = (t.key("a"), t.key("z"));
    for (name, operations) in [
        (
            "put and put",
            vec![put_op(a.clone(), "1"), put_op(a.clone(), "2")],
        ),
        (
            "put and delete",
            vec![put_op(a.clone(), "1"), delete_op(a.clone(), Bytes::new())],
        ),
        (
            "delete of a range and put",
            vec![delete_op(t.key(""), z.clone()), put_op(a.clone(), "1")],
        ),
        (
            "put and nested put",
            vec![put_op(a.clone(), "1"), inner(put_op(a.clone(), "2"))],
        ),
        (
            "nested put and nested put",
            vec![inner(put_op(a.clone(), "1")), inner(put_op(a.clone(), "2"))],
        ),
        (
            "delete and nested put",
            vec![delete_op(a.clone(), z), inner(put_op(a.clone(), "2"))],
        ),
        (
            "put and nested delete",
            vec![
                put_op(a.clone(), "2"),
                inner(delete_op(a.clone(), Bytes::new())),
            ],
        ),
    ] {
        assert_eq!(
            t.try_txn(always(operations)).await,
            Err(Error::DuplicateKey),
            "{name}"
        );
    }
    let deletes = vec![
        delete_op(a.clone(), Bytes::new()),
        delete_op(t.key(""), t.end()),
    ];
    assert!(
        t.try_txn(always(deletes)).await.is_ok(),
        "deletes may overlap"
    );
    let neighbours = vec![delete_op(t.key("a"), t.key("b")), put_op(t.key("b"), "1")];
    assert!(
        t.try_txn(always(neighbours)).await.is_ok(),
        "a range ends before its end"
    );
    Ok(())
}

async fn an_open_ended_delete_overlaps_too(t: &Ctx) -> Outcome {
    t.needs(Feature::OpenEndedOverlap)?;
    let operations = vec![
        delete_op(t.key(""), Bytes::from_static(&[0])),
        put_op(t.key("a"), "1"),
    ];
    assert_eq!(
        t.try_txn(always(operations)).await,
        Err(Error::DuplicateKey)
    );
    Ok(())
}

async fn branches_may_change_the_same_key(t: &Ctx) -> Outcome {
    let either = TxnRequest {
        compare: vec![compare(t.key("a"), Greater, By::Version(0))],
        success: vec![put_op(t.key("a"), "update")],
        failure: vec![put_op(t.key("a"), "create")],
    };
    t.txn(either.clone()).await;
    assert_eq!(t.value("a").await.as_deref(), Some("create"));
    t.txn(always(vec![txn_op(either)])).await;
    assert_eq!(t.value("a").await.as_deref(), Some("update"));
    Ok(())
}

async fn too_many_operations_are_refused(t: &Ctx) -> Outcome {
    let puts = |count: usize| {
        (0..count)
            .map(|i| put_op(t.key(&i.to_string()), "x"))
            .collect::<Vec<_>>()
    };
    assert!(t.try_txn(always(puts(128))).await.is_ok());
    assert_eq!(t.try_txn(always(puts(129))).await, Err(Error::TooManyOps));
    let failure = TxnRequest {
        failure: puts(129),
        ..Default::default()
    };
    assert_eq!(t.try_txn(failure).await, Err(Error::TooManyOps));
    let compares = (0..129)
        .map(|_| compare(t.key("0"), Equal, By::Version(1)))
        .collect();
    let compares = TxnRequest {
        compare: compares,
        ..Default::default()
    };
    assert_eq!(t.try_txn(compares).await, Err(Error::TooManyOps));
    // Along a path the levels add up.
    assert!(
        t.try_txn(always(vec![txn_op(always(puts(127)))]))
            .await
            .is_ok()
    );
    assert_eq!(
        t.try_txn(always(vec![txn_op(always(puts(128)))])).await,
        Err(Error::TooManyOps)
    );
    Ok(())
}

async fn an_error_undoes_everything(t: &Ctx) -> Outcome {
    let before = t.put_revision("a", "1").await;
    let leased = PutRequest {
        lease: 424_242,
        ..put_request(t.key("c"), "x")
    };
    let keep = PutRequest {
        key: t.key("absent"),
        ignore_value: true,
        ..Default::default()
    };
    let future = RangeRequest {
        revision: before + 1000,
        ..t.all()
    };
    for (operation, error) in [
        (Op::RequestPut(leased), Error::LeaseNotFound),
        (Op::RequestPut(keep), Error::KeyNotFound),
        (Op::RequestRange(future), Error::FutureRevision),
    ] {
        let request = always(vec![put_op(t.key("b"), "x"), op(operation)]);
        assert_eq!(t.try_txn(request).await, Err(error));
    }
    assert_eq!(t.names(&t.range(t.all()).await.kvs), ["a"]);
    assert_eq!(t.revision().await, before);
    Ok(())
}

async fn an_error_in_the_branch_not_taken_does_not_matter(t: &Ctx) -> Outcome {
    let keep = PutRequest {
        key: t.key("absent"),
        ignore_value: true,
        ..Default::default()
    };
    let request = TxnRequest {
        success: vec![put_op(t.key("a"), "1")],
        failure: vec![op(Op::RequestPut(keep))],
        ..Default::default()
    };
    assert!(t.txn(request).await.succeeded);
    Ok(())
}

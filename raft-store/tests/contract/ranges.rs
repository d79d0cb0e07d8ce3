//! Ranges with every option.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft_store::Error;
use raft_store::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use raft_store::pb::etcdserverpb::{PutRequest, RangeRequest};

use crate::harness::{Ctx, Outcome, cases, revision, text};

cases! {
    a_missing_key_is_an_empty_answer,
    a_range_is_half_open,
    an_end_of_zero_means_all_keys_from_here,
    key_and_end_of_zero_mean_all_keys,
    a_reversed_range_is_empty,
    a_limit_cuts_and_tells,
    a_page_follows_a_page,
    counting_needs_no_keys,
    keys_come_without_values,
    every_order_sorts,
    sorting_comes_before_the_limit,
    an_order_of_none_sorts_what_the_limit_let_through,
    filters_by_revision_hide_keys_but_not_their_count,
    filters_come_before_the_limit,
    the_past_can_be_read,
    a_past_page_does_not_change,
    the_future_cannot_be_read,
    a_serializable_range_is_a_range,
    many_keys_fit_into_one_answer,
}

async fn put_all(t: &Ctx, names: &[&str]) {
    for name in names {
        t.put(name, &format!("value of {name}")).await;
    }
}

async fn names(t: &Ctx, request: RangeRequest) -> Vec<String> {
    t.names(&t.range(request).await.kvs)
}

async fn a_missing_key_is_an_empty_answer(t: &Ctx) -> Outcome {
    let request = RangeRequest {
        key: t.key("absent"),
        ..Default::default()
    };
    let response = t.range(request).await;
    assert_eq!(
        (response.kvs.len(), response.count, response.more),
        (0, 0, false)
    );
    assert!(revision(&response.header) > 0);
    Ok(())
}

async fn a_range_is_half_open(t: &Ctx) -> Outcome {
    put_all(t, &["b", "a", "d", "c"]).await;
    let request = RangeRequest {
        key: t.key("a"),
        range_end: t.key("c"),
        ..Default::default()
    };
    assert_eq!(names(t, request).await, ["a", "b"]);
    let single = RangeRequest {
        key: t.key("a"),
        ..Default::default()
    };
    assert_eq!(names(t, single).await, ["a"]);
    Ok(())
}

async fn an_end_of_zero_means_all_keys_from_here(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b", "c"]).await;
    let request = RangeRequest {
        key: t.key("b"),
        range_end: Bytes::from_static(&[0]),
        limit: 2,
        ..Default::default()
    };
    assert_eq!(names(t, request).await, ["b", "c"]);
    Ok(())
}

async fn key_and_end_of_zero_mean_all_keys(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b"]).await;
    let zero = Bytes::from_static(&[0]);
    let request = RangeRequest {
        key: zero.clone(),
        range_end: zero,
        ..Default::default()
    };
    let response = t.range(request).await;
    let keys: BTreeSet<_> = response.kvs.iter().map(|kv| kv.key.clone()).collect();
    assert!(keys.contains(&t.key("a")) && keys.contains(&t.key("b")));
    assert_eq!(response.count, response.kvs.len() as i64);
    Ok(())
}

async fn a_reversed_range_is_empty(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b"]).await;
    let request = RangeRequest {
        key: t.key("b"),
        range_end: t.key("a"),
        ..Default::default()
    };
    let response = t.range(request).await;
    assert_eq!(
        (response.kvs.len(), response.count, response.more),
        (0, 0, false)
    );
    Ok(())
}

async fn a_limit_cuts_and_tells(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b", "c"]).await;
    for (limit, len, more) in [
        (1, 1, true),
        (2, 2, true),
        (3, 3, false),
        (4, 3, false),
        (0, 3, false),
    ] {
        let response = t.range(RangeRequest { limit, ..t.all() }).await;
        assert_eq!(
            (response.kvs.len(), response.more),
            (len, more),
            "limit {limit}"
        );
        assert_eq!(response.count, 3, "limit {limit}");
    }
    Ok(())
}

async fn a_page_follows_a_page(t: &Ctx) -> Outcome {
    let all: Vec<String> = (0..25).map(|i| format!("{i:03}")).collect();
    put_all(t, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut request = RangeRequest {
        limit: 10,
        ..t.all()
    };
    let (mut seen, mut left) = (Vec::new(), 25);
    loop {
        let page = t.range(request.clone()).await;
        assert_eq!(page.count, left);
        request.revision = revision(&page.header);
        let last = page.kvs.last().expect("a full page").key.clone();
        request.key = Bytes::from([&last[..], &[0]].concat());
        left -= page.kvs.len() as i64;
        seen.extend(t.names(&page.kvs));
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, all);
    Ok(())
}

async fn counting_needs_no_keys(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b", "c"]).await;
    for limit in [0, 1] {
        let request = RangeRequest {
            count_only: true,
            limit,
            ..t.all()
        };
        let response = t.range(request).await;
        assert_eq!(
            (response.kvs.len(), response.count, response.more),
            (0, 3, false)
        );
    }
    t.delete("b").await;
    let before_delete = t.revision().await - 1;
    let count = |revision| RangeRequest {
        count_only: true,
        revision,
        ..t.all()
    };
    assert_eq!(t.range(count(0)).await.count, 2);
    assert_eq!(t.range(count(before_delete)).await.count, 3);
    Ok(())
}

async fn keys_come_without_values(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b"]).await;
    let full = t.range(t.all()).await.kvs;
    let bare = t
        .range(RangeRequest {
            keys_only: true,
            ..t.all()
        })
        .await
        .kvs;
    assert_eq!(bare.len(), 2);
    for (full, bare) in full.into_iter().zip(bare) {
        let mut expected = full;
        expected.value = Bytes::new();
        assert_eq!(bare, expected);
    }
    Ok(())
}

/// Keys whose order differs by every target: (key, puts, value).
async fn put_sortable(t: &Ctx) {
    // Created b, c, a; last modified c, a, b; versions a 1, c 2, b 3; values c, b, a.
    for (name, value) in [
        ("b", "x"),
        ("c", "x"),
        ("b", "x"),
        ("c", "1"),
        ("a", "3"),
        ("b", "2"),
    ] {
        t.put(name, value).await;
    }
}

async fn every_order_sorts(t: &Ctx) -> Outcome {
    put_sortable(t).await;
    for (target, ascending) in [
        (SortTarget::Key, ["a", "b", "c"]),
        (SortTarget::Version, ["a", "c", "b"]),
        (SortTarget::Create, ["b", "c", "a"]),
        (SortTarget::Mod, ["c", "a", "b"]),
        (SortTarget::Value, ["c", "b", "a"]),
    ] {
        let sorted = |order: SortOrder| RangeRequest {
            sort_order: order as i32,
            sort_target: target as i32,
            ..t.all()
        };
        assert_eq!(
            names(t, sorted(SortOrder::Ascend)).await,
            ascending,
            "{target:?}"
        );
        assert_eq!(
            names(t, sorted(SortOrder::None)).await,
            ascending,
            "{target:?}"
        );
        let mut descending = ascending;
        descending.reverse();
        assert_eq!(
            names(t, sorted(SortOrder::Descend)).await,
            descending,
            "{target:?}"
        );
    }
    Ok(())
}

async fn sorting_comes_before_the_limit(t: &Ctx) -> Outcome {
    put_sortable(t).await;
    let request = RangeRequest {
        sort_order: SortOrder::Descend as i32,
        sort_target: SortTarget::Key as i32,
        limit: 1,
        ..t.all()
    };
    let response = t.range(request).await;
    assert_eq!(t.names(&response.kvs), ["c"]);
    assert_eq!((response.more, response.count), (true, 3));
    let newest = RangeRequest {
        sort_order: SortOrder::Descend as i32,
        sort_target: SortTarget::Mod as i32,
        limit: 2,
        ..t.all()
    };
    assert_eq!(names(t, newest).await, ["b", "a"]);
    Ok(())
}

async fn an_order_of_none_sorts_what_the_limit_let_through(t: &Ctx) -> Outcome {
    // The oldest key is the last one, which etcd does not look at: with an order of none it
    // takes one key more than the limit in order of the keys, sorts those, and cuts.
    put_all(t, &["d", "b", "c", "a"]).await;
    let request = RangeRequest {
        sort_order: SortOrder::None as i32,
        sort_target: SortTarget::Create as i32,
        limit: 2,
        ..t.all()
    };
    let response = t.range(request).await;
    assert_eq!(t.names(&response.kvs), ["b", "c"]);
    assert_eq!((response.more, response.count), (true, 4));
    Ok(())
}

async fn filters_by_revision_hide_keys_but_not_their_count(t: &Ctx) -> Outcome {
    let a = t.put_revision("a", "1").await;
    t.put("b", "1").await;
    let b = t.put_revision("b", "2").await;
    let c = t.put_revision("c", "1").await;
    let created_b = b - 1;
    let filter = |change: fn(&mut RangeRequest, i64), revision| {
        let mut request = t.all();
        change(&mut request, revision);
        request
    };
    for (request, expected) in [
        (filter(|r, v| r.min_mod_revision = v, b), vec!["b", "c"]),
        (filter(|r, v| r.max_mod_revision = v, b), vec!["a", "b"]),
        (filter(|r, v| r.max_mod_revision = v, a), vec!["a"]),
        (
            filter(|r, v| r.min_create_revision = v, created_b),
            vec!["b", "c"],
        ),
        (filter(|r, v| r.min_create_revision = v, c), vec!["c"]),
        (
            filter(|r, v| r.max_create_revision = v, created_b),
            vec!["a", "b"],
        ),
        (filter(|r, v| r.min_mod_revision = v, c + 1), vec![]),
    ] {
        let response = t.range(request).await;
        assert_eq!(t.names(&response.kvs), expected);
        assert_eq!((response.count, response.more), (3, false));
    }
    Ok(())
}

async fn filters_come_before_the_limit(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    let b = t.put_revision("b", "1").await;
    t.put("c", "1").await;
    let request = RangeRequest {
        min_mod_revision: b,
        limit: 1,
        ..t.all()
    };
    let response = t.range(request.clone()).await;
    assert_eq!(t.names(&response.kvs), ["b"]);
    assert!(response.more);
    let response = t
        .range(RangeRequest {
            limit: 2,
            ..request
        })
        .await;
    assert_eq!(t.names(&response.kvs), ["b", "c"]);
    assert!(!response.more);
    Ok(())
}

async fn the_past_can_be_read(t: &Ctx) -> Outcome {
    let first = t.put_revision("a", "1").await;
    let second = t.put_revision("a", "2").await;
    t.put("b", "1").await;
    t.delete("a").await;
    let deleted = t.revision().await;
    let at = |revision| RangeRequest {
        revision,
        ..t.all()
    };
    for (revision_read, expected) in [
        (first, vec![("a", "1", 1)]),
        (second, vec![("a", "2", 2)]),
        (second + 1, vec![("a", "2", 2), ("b", "1", 1)]),
        (deleted, vec![("b", "1", 1)]),
    ] {
        let response = t.range(at(revision_read)).await;
        let names = t.names(&response.kvs);
        let found: Vec<_> = response
            .kvs
            .iter()
            .zip(&names)
            .map(|(kv, name)| (name.as_str(), text(&kv.value), kv.version))
            .collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(n, v, version)| (n, v.to_owned(), version))
            .collect();
        assert_eq!(found, expected, "at {revision_read}");
        assert_eq!(
            revision(&response.header),
            deleted,
            "the header tells the present"
        );
        assert_eq!(response.count, expected.len() as i64);
    }
    assert!(t.range(at(first - 1)).await.kvs.is_empty());
    Ok(())
}

async fn a_past_page_does_not_change(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b", "c"]).await;
    let first = t
        .range(RangeRequest {
            limit: 1,
            ..t.all()
        })
        .await;
    let pinned = revision(&first.header);
    t.delete("b").await;
    t.put("aa", "new").await;
    t.put("c", "changed").await;
    let rest = RangeRequest {
        key: t.key("a\0"),
        revision: pinned,
        ..t.all()
    };
    let rest = t.range(rest).await;
    assert_eq!(t.names(&rest.kvs), ["b", "c"]);
    assert_eq!(text(&rest.kvs[1].value), "value of c");
    Ok(())
}

async fn the_future_cannot_be_read(t: &Ctx) -> Outcome {
    let now = t.put_revision("a", "1").await;
    let future = RangeRequest {
        revision: now + 100,
        ..t.all()
    };
    assert_eq!(t.store.range(future).await, Err(Error::FutureRevision));
    Ok(())
}

async fn a_serializable_range_is_a_range(t: &Ctx) -> Outcome {
    put_all(t, &["a", "b"]).await;
    // Linearizable first: then every member has applied the puts.
    let linear = t.range(t.all()).await.kvs;
    let serializable = t
        .range(RangeRequest {
            serializable: true,
            ..t.all()
        })
        .await;
    assert_eq!(serializable.kvs, linear);
    Ok(())
}

async fn many_keys_fit_into_one_answer(t: &Ctx) -> Outcome {
    // Together above the 4 MiB that gRPC libraries accept by default.
    let value = Bytes::from(vec![7; 100_000]);
    for i in 0..60 {
        let request = PutRequest {
            key: t.key(&format!("{i:03}")),
            value: value.clone(),
            ..Default::default()
        };
        t.try_put(request).await.expect("a put");
    }
    let response = t.range(t.all()).await;
    assert_eq!((response.kvs.len(), response.count), (60, 60));
    assert!(response.kvs.iter().all(|kv| kv.value == value));
    Ok(())
}

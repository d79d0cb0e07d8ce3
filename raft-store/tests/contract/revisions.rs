//! Revisions and versions: what moves them, and what does not.

use bytes::Bytes;
use raft_store::Error;
use raft_store::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::harness::{Ctx, Outcome, cases, put_request, revision};

cases! {
    a_fresh_store_is_at_revision_one,
    a_put_takes_one_revision,
    a_put_again_keeps_the_creation,
    an_equal_put_counts_too,
    reads_take_no_revision,
    a_delete_takes_one_revision_for_all_its_keys,
    a_delete_of_nothing_takes_none,
    a_key_starts_anew_after_its_delete,
    a_put_can_tell_what_was_there,
    a_delete_can_tell_what_was_there,
    a_put_can_keep_the_value,
    a_put_of_an_empty_value_is_a_value,
    keys_and_values_are_any_bytes,
    a_large_value_survives,
    progress_covers_every_acknowledged_write,
    the_header_and_the_status_name_the_same_member,
}

async fn a_fresh_store_is_at_revision_one(t: &Ctx) -> Outcome {
    assert_eq!(t.revision().await, 1);
    Ok(())
}

async fn a_put_takes_one_revision(t: &Ctx) -> Outcome {
    let before = t.revision().await;
    let response = t.put("a", "1").await;
    assert_eq!(revision(&response.header), before + 1);
    assert_eq!(response.prev_kv, None);
    let kv = t.get("a").await.expect("the key");
    assert_eq!(
        (kv.create_revision, kv.mod_revision),
        (before + 1, before + 1)
    );
    assert_eq!(
        (kv.version, kv.lease, kv.value),
        (1, 0, Bytes::from_static(b"1"))
    );
    assert_eq!(kv.key, t.key("a"));
    Ok(())
}

async fn a_put_again_keeps_the_creation(t: &Ctx) -> Outcome {
    let created = t.put_revision("a", "1").await;
    t.put("b", "other").await;
    let modified = t.put_revision("a", "2").await;
    assert_eq!(modified, created + 2);
    let kv = t.get("a").await.expect("the key");
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (created, modified, 2)
    );
    Ok(())
}

async fn an_equal_put_counts_too(t: &Ctx) -> Outcome {
    let first = t.put_revision("a", "same").await;
    assert_eq!(t.put_revision("a", "same").await, first + 1);
    assert_eq!(t.get("a").await.expect("the key").version, 2);
    Ok(())
}

async fn reads_take_no_revision(t: &Ctx) -> Outcome {
    let put = t.put_revision("a", "1").await;
    for serializable in [false, true] {
        let response = t
            .range(RangeRequest {
                serializable,
                ..t.all()
            })
            .await;
        assert_eq!(revision(&response.header), put);
    }
    assert_eq!(t.revision().await, put);
    Ok(())
}

async fn a_delete_takes_one_revision_for_all_its_keys(t: &Ctx) -> Outcome {
    for name in ["a", "b", "c"] {
        t.put(name, "x").await;
    }
    let before = t.revision().await;
    let request = DeleteRangeRequest {
        key: t.key("a"),
        range_end: t.key("c"),
        ..Default::default()
    };
    let response = t.try_delete(request).await.expect("a delete");
    assert_eq!((response.deleted, response.prev_kvs.len()), (2, 0));
    assert_eq!(revision(&response.header), before + 1);
    assert_eq!(t.names(&t.range(t.all()).await.kvs), ["c"]);
    Ok(())
}

async fn a_delete_of_nothing_takes_none(t: &Ctx) -> Outcome {
    let before = t.put_revision("other", "x").await;
    let response = t.delete("absent").await;
    assert_eq!((response.deleted, revision(&response.header)), (0, before));
    assert_eq!(t.revision().await, before);
    Ok(())
}

async fn a_key_starts_anew_after_its_delete(t: &Ctx) -> Outcome {
    t.put("a", "1").await;
    t.put("a", "2").await;
    assert_eq!(t.delete("a").await.deleted, 1);
    assert_eq!(t.get("a").await, None);
    let created = t.put_revision("a", "3").await;
    let kv = t.get("a").await.expect("the key");
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (created, created, 1)
    );
    Ok(())
}

async fn a_put_can_tell_what_was_there(t: &Ctx) -> Outcome {
    let put = |value| PutRequest {
        prev_kv: true,
        ..put_request(t.key("a"), value)
    };
    assert_eq!(t.try_put(put("1")).await.expect("a put").prev_kv, None);
    let first = t.get("a").await;
    assert_eq!(t.try_put(put("2")).await.expect("a put").prev_kv, first);
    t.delete("a").await;
    assert_eq!(t.try_put(put("3")).await.expect("a put").prev_kv, None);
    Ok(())
}

async fn a_delete_can_tell_what_was_there(t: &Ctx) -> Outcome {
    t.put("b", "2").await;
    t.put("a", "1").await;
    let before = t.range(t.all()).await.kvs;
    let request = DeleteRangeRequest {
        key: t.key(""),
        range_end: t.end(),
        prev_kv: true,
    };
    let response = t.try_delete(request).await.expect("a delete");
    assert_eq!((response.deleted, response.prev_kvs), (2, before));
    Ok(())
}

async fn a_put_can_keep_the_value(t: &Ctx) -> Outcome {
    let keep = || PutRequest {
        key: t.key("a"),
        ignore_value: true,
        ..Default::default()
    };
    assert_eq!(t.try_put(keep()).await, Err(Error::KeyNotFound));
    let first = t.put_revision("a", "kept").await;
    let response = t.try_put(keep()).await.expect("a put");
    assert_eq!(revision(&response.header), first + 1);
    let kv = t.get("a").await.expect("the key");
    assert_eq!((kv.value, kv.version), (Bytes::from_static(b"kept"), 2));
    Ok(())
}

async fn a_put_of_an_empty_value_is_a_value(t: &Ctx) -> Outcome {
    t.put("a", "").await;
    let kv = t.get("a").await.expect("the key");
    assert!(kv.value.is_empty());
    Ok(())
}

async fn keys_and_values_are_any_bytes(t: &Ctx) -> Outcome {
    let tails: [&[u8]; 6] = [b"\0", b"\0\0", b"\0\xff", b"a\0b", b"\xff", b"\xff\xff"];
    for tail in tails {
        let key = Bytes::from([&t.key("")[..], tail].concat());
        let value = Bytes::copy_from_slice(tail);
        let request = PutRequest {
            key,
            value,
            ..Default::default()
        };
        t.try_put(request).await.expect("a put");
    }
    let request = RangeRequest {
        range_end: Bytes::from_static(&[0]),
        ..t.all()
    };
    let kvs = t.range(request).await.kvs;
    let found: Vec<&[u8]> = kvs.iter().map(|kv| &kv.value[..]).collect();
    assert_eq!(found, tails, "in order of their bytes");
    assert!(kvs.iter().all(|kv| kv.key.ends_with(&kv.value)));
    Ok(())
}

async fn a_large_value_survives(t: &Ctx) -> Outcome {
    let value: Bytes = (0..1_400_000_u32).map(|i| (i % 251) as u8).collect();
    let request = PutRequest {
        key: t.key("a"),
        value: value.clone(),
        ..Default::default()
    };
    t.try_put(request).await.expect("a put");
    assert_eq!(t.get("a").await.expect("the key").value, value);
    Ok(())
}

async fn progress_covers_every_acknowledged_write(t: &Ctx) -> Outcome {
    for i in 0..20 {
        let put = t.put_revision("a", &i.to_string()).await;
        assert_eq!(t.revision().await, put);
    }
    Ok(())
}

async fn the_header_and_the_status_name_the_same_member(t: &Ctx) -> Outcome {
    let put = t.put("a", "1").await.header.expect("a header");
    assert!(
        put.cluster_id != 0 && put.member_id != 0 && put.raft_term != 0,
        "{put:?}"
    );
    let status = t.store.status().await.expect("a status");
    let header = status.header.expect("a header");
    assert_eq!(header.cluster_id, put.cluster_id);
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert!(
        status.leader != 0 && status.raft_term >= put.raft_term,
        "{status:?}"
    );
    assert!(status.raft_index > 0 && status.db_size > 0, "{status:?}");
    assert!(!status.is_learner && status.errors.is_empty(), "{status:?}");
    Ok(())
}

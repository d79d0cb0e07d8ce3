//! Leases: grant, attach, renew, expire, revoke.

use std::time::Duration;

use bytes::Bytes;
use raft_store::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest,
    WatchCreateRequest,
};
use raft_store::pb::mvccpb::event::EventType;
use raft_store::{Error, WatchItem};
use tokio::time::{Instant, sleep};

use crate::harness::{Ctx, Outcome, cases, next, put_request, revision};

cases! {
    a_grant_chooses_an_id_or_takes_one,
    an_id_is_granted_once,
    too_long_a_ttl_is_refused,
    a_short_ttl_is_raised_not_refused,
    a_put_needs_an_existing_lease,
    a_lease_knows_its_keys,
    a_put_moves_detaches_or_keeps_the_lease,
    a_delete_detaches,
    a_revoke_deletes_the_keys_in_one_revision,
    a_revoke_of_nothing_is_told,
    a_missing_lease_lives_no_longer,
    a_lease_without_keys_takes_no_revision,
    all_leases_are_listed,
    a_renewal_restores_the_ttl,
    an_expired_lease_takes_its_keys_along,
    a_renewed_lease_does_not_expire,
}

async fn grant(t: &Ctx, ttl: i64) -> i64 {
    let request = LeaseGrantRequest { ttl, id: 0 };
    t.store.lease_grant(request).await.expect("a lease").id
}

async fn put_leased(t: &Ctx, name: &str, lease: i64) -> i64 {
    let request = PutRequest {
        lease,
        ..put_request(t.key(name), "x")
    };
    revision(&t.try_put(request).await.expect("a put").header)
}

async fn ttl(t: &Ctx, id: i64) -> LeaseTimeToLiveResponse {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    t.store
        .lease_time_to_live(request)
        .await
        .expect("a time to live")
}

async fn a_grant_chooses_an_id_or_takes_one(t: &Ctx) -> Outcome {
    let chosen = t
        .store
        .lease_grant(LeaseGrantRequest { ttl: 60, id: 0 })
        .await
        .expect("a lease");
    assert!(
        chosen.id > 0 && chosen.ttl == 60 && chosen.error.is_empty(),
        "{chosen:?}"
    );
    let given = t
        .store
        .lease_grant(LeaseGrantRequest { ttl: 61, id: 7_001 })
        .await;
    let given = given.expect("a lease");
    assert_eq!((given.id, given.ttl), (7_001, 61));
    assert!(revision(&given.header) > 0);
    Ok(())
}

async fn an_id_is_granted_once(t: &Ctx) -> Outcome {
    let request = LeaseGrantRequest { ttl: 60, id: 7_002 };
    t.store.lease_grant(request).await.expect("a lease");
    assert_eq!(t.store.lease_grant(request).await, Err(Error::LeaseExists));
    Ok(())
}

async fn too_long_a_ttl_is_refused(t: &Ctx) -> Outcome {
    let request = LeaseGrantRequest {
        ttl: 9_000_000_001,
        id: 0,
    };
    assert_eq!(
        t.store.lease_grant(request).await,
        Err(Error::LeaseTtlTooLarge)
    );
    let longest = LeaseGrantRequest {
        ttl: 9_000_000_000,
        id: 0,
    };
    assert_eq!(
        t.store.lease_grant(longest).await.expect("a lease").ttl,
        9_000_000_000
    );
    Ok(())
}

async fn a_short_ttl_is_raised_not_refused(t: &Ctx) -> Outcome {
    let granted = t
        .store
        .lease_grant(LeaseGrantRequest { ttl: 1, id: 0 })
        .await
        .expect("a lease");
    assert!((1..=5).contains(&granted.ttl), "{granted:?}");
    Ok(())
}

async fn a_put_needs_an_existing_lease(t: &Ctx) -> Outcome {
    let request = PutRequest {
        lease: 987_654,
        ..put_request(t.key("a"), "x")
    };
    assert_eq!(t.try_put(request).await, Err(Error::LeaseNotFound));
    assert_eq!(t.get("a").await, None);
    Ok(())
}

async fn a_lease_knows_its_keys(t: &Ctx) -> Outcome {
    let id = grant(t, 60).await;
    put_leased(t, "b", id).await;
    put_leased(t, "a", id).await;
    let info = ttl(t, id).await;
    let mut keys = info.keys.clone();
    keys.sort();
    assert_eq!(keys, [t.key("a"), t.key("b")]);
    assert_eq!((info.id, info.granted_ttl), (id, 60));
    assert!((55..=60).contains(&info.ttl), "{info:?}");
    assert_eq!(t.get("a").await.expect("the key").lease, id);
    let request = LeaseTimeToLiveRequest { id, keys: false };
    let without = t
        .store
        .lease_time_to_live(request)
        .await
        .expect("a time to live");
    assert!(without.keys.is_empty());
    Ok(())
}

async fn a_put_moves_detaches_or_keeps_the_lease(t: &Ctx) -> Outcome {
    let (one, two) = (grant(t, 60).await, grant(t, 60).await);
    put_leased(t, "a", one).await;
    put_leased(t, "a", two).await;
    assert!(ttl(t, one).await.keys.is_empty());
    assert_eq!(ttl(t, two).await.keys, [t.key("a")]);
    let keep = PutRequest {
        ignore_lease: true,
        ..put_request(t.key("a"), "y")
    };
    t.try_put(keep).await.expect("a put");
    assert_eq!(t.get("a").await.expect("the key").lease, two);
    t.put("a", "z").await;
    assert_eq!(t.get("a").await.expect("the key").lease, 0);
    assert!(ttl(t, two).await.keys.is_empty());
    Ok(())
}

async fn a_delete_detaches(t: &Ctx) -> Outcome {
    let id = grant(t, 60).await;
    put_leased(t, "a", id).await;
    t.delete("a").await;
    assert!(ttl(t, id).await.keys.is_empty());
    t.put("a", "unleased").await;
    t.store.lease_revoke(id).await.expect("a revoke");
    assert!(t.get("a").await.is_some());
    Ok(())
}

async fn a_revoke_deletes_the_keys_in_one_revision(t: &Ctx) -> Outcome {
    let id = grant(t, 60).await;
    for name in ["b", "c", "a"] {
        put_leased(t, name, id).await;
    }
    t.put("other", "x").await;
    let before = t.revision().await;
    let watch = WatchCreateRequest {
        key: t.key(""),
        range_end: t.end(),
        start_revision: before + 1,
        ..Default::default()
    };
    let mut watch = t.store.watch(watch).await.expect("a watch");
    let response = t.store.lease_revoke(id).await.expect("a revoke");
    assert_eq!(revision(&response.header), before + 1);
    assert_eq!(t.names(&t.range(t.all()).await.kvs), ["other"]);
    let Ok(WatchItem::Events { revision, events }) = next(&mut watch).await else {
        panic!("no events");
    };
    assert_eq!((revision, events.len()), (before + 1, 3));
    let keys: Vec<Bytes> = events
        .iter()
        .map(|e| e.kv.as_ref().expect("a key").key.clone())
        .collect();
    assert_eq!(
        keys,
        [t.key("a"), t.key("b"), t.key("c")],
        "in order of the keys"
    );
    assert!(events.iter().all(|e| e.r#type == EventType::Delete as i32));
    Ok(())
}

async fn a_revoke_of_nothing_is_told(t: &Ctx) -> Outcome {
    assert_eq!(
        t.store.lease_revoke(123_456).await,
        Err(Error::LeaseNotFound)
    );
    let id = grant(t, 60).await;
    t.store.lease_revoke(id).await.expect("a revoke");
    assert_eq!(t.store.lease_revoke(id).await, Err(Error::LeaseNotFound));
    Ok(())
}

async fn a_missing_lease_lives_no_longer(t: &Ctx) -> Outcome {
    let info = ttl(t, 424_242).await;
    assert_eq!((info.ttl, info.granted_ttl, info.id), (-1, 0, 424_242));
    assert!(revision(&info.header) > 0);
    let renewed = t.store.lease_keep_alive(424_242).await.expect("a renewal");
    assert_eq!((renewed.ttl, renewed.id), (0, 424_242));
    Ok(())
}

async fn a_lease_without_keys_takes_no_revision(t: &Ctx) -> Outcome {
    let before = t.revision().await;
    let id = grant(t, 60).await;
    assert_eq!(t.revision().await, before);
    let response = t.store.lease_revoke(id).await.expect("a revoke");
    assert_eq!(revision(&response.header), before);
    Ok(())
}

async fn all_leases_are_listed(t: &Ctx) -> Outcome {
    let (one, two) = (grant(t, 60).await, grant(t, 90).await);
    t.store.lease_revoke(one).await.expect("a revoke");
    let listed: Vec<i64> = t
        .store
        .leases()
        .await
        .expect("a list")
        .leases
        .iter()
        .map(|l| l.id)
        .collect();
    assert!(listed.contains(&two) && !listed.contains(&one));
    Ok(())
}

async fn a_renewal_restores_the_ttl(t: &Ctx) -> Outcome {
    let id = grant(t, 30).await;
    sleep(Duration::from_millis(2100)).await;
    assert!(ttl(t, id).await.ttl <= 28);
    let renewed = t.store.lease_keep_alive(id).await.expect("a renewal");
    assert_eq!((renewed.id, renewed.ttl), (id, 30));
    assert!(ttl(t, id).await.ttl >= 29);
    Ok(())
}

async fn an_expired_lease_takes_its_keys_along(t: &Ctx) -> Outcome {
    let id = grant(t, 2).await;
    let put = put_leased(t, "a", id).await;
    let watch = WatchCreateRequest {
        key: t.key("a"),
        start_revision: put + 1,
        ..Default::default()
    };
    let mut watch = t.store.watch(watch).await.expect("a watch");
    let granted_at = Instant::now();
    let Ok(WatchItem::Events { events, .. }) = next(&mut watch).await else {
        panic!("no events");
    };
    assert_eq!(events[0].r#type, EventType::Delete as i32);
    assert!(
        granted_at.elapsed() > Duration::from_millis(1500),
        "not before its time"
    );
    assert_eq!(t.get("a").await, None);
    assert_eq!(ttl(t, id).await.ttl, -1);
    Ok(())
}

async fn a_renewed_lease_does_not_expire(t: &Ctx) -> Outcome {
    let id = grant(t, 2).await;
    put_leased(t, "a", id).await;
    for _ in 0..10 {
        sleep(Duration::from_millis(500)).await;
        let renewed = t.store.lease_keep_alive(id).await.expect("a renewal");
        assert!(renewed.ttl >= 2, "{renewed:?}");
    }
    assert!(t.get("a").await.is_some());
    Ok(())
}

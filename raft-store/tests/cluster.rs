//! Members together: writes and reads anywhere, leadership, membership, catching up, restarts.
#![allow(clippy::disallowed_methods, reason = "tests look at real files")]

mod support;

use raft_store::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, MemberAddRequest, WatchCreateRequest,
};
use raft_store::pb::peer::peer_client::PeerClient;
use raft_store::pb::peer::{MemberChange, member_change::Change};
use raft_store::{Error, Store, WatchItem};
use support::{Cluster, eventually, get, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_any_member_is_read_on_every_member() {
    let cluster = Cluster::start(3).await;
    for at in 0..3 {
        let (key, value) = (format!("k{at}"), format!("v{at}"));
        put(cluster.member(at), &key, &value).await.unwrap();
        for (_, reader) in cluster.running() {
            assert_eq!(
                get(reader, &key).await.unwrap().as_deref(),
                Some(value.as_str())
            );
        }
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_member_serves_and_keeps_its_data_over_restarts() {
    let mut cluster = Cluster::start(1).await;
    let first = put(cluster.member(0), "a", "1").await.unwrap();
    cluster.stop(0).await;
    cluster.restart(0).await;
    cluster.leader().await;
    assert_eq!(
        get(cluster.member(0), "a").await.unwrap().as_deref(),
        Some("1")
    );
    let second = put(cluster.member(0), "a", "2").await.unwrap();
    assert_eq!(second, first + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_restarts_must_be_elected_anew() {
    // It may have sent out entries that a power cut took from its own log. If it went on in the same
    // term, it would give their places to others.
    let mut cluster = Cluster::start(1).await;
    let before = cluster.member(0).term();
    cluster.stop(0).await;
    cluster.restart(0).await;
    cluster.leader().await;
    let after = cluster.member(0).term();
    assert!(
        after > before,
        "it leads in term {after} after term {before}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_on_request_and_on_shutdown() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let target = (leader + 1) % 3;
    let target_id = cluster.member(target).id();
    let follower_asked = cluster.member(target).move_leader(target_id).await;
    assert_eq!(follower_asked, Err(Error::NotLeader));
    let unknown = cluster.member(leader).move_leader(12345).await;
    assert_eq!(unknown, Err(Error::BadLeaderTransferee));
    eventually("a transfer of leadership", || async {
        cluster.member(leader).move_leader(target_id).await.ok()
    })
    .await;
    assert_eq!(cluster.leader().await, target);
    cluster.stop(target).await;
    let next = cluster.leader().await;
    assert_ne!(next, target);
    put(cluster.member(next), "after", "stop").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_catches_up_from_the_log_and_from_a_snapshot() {
    let mut cluster = Cluster::start_tuned(3, |config| {
        config.limits.log_entries_kept = 10;
        config.limits.checkpoint_log_bytes = 64 << 10;
    })
    .await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.stop(away).await;
    put(cluster.member(leader), "small", "gap").await.unwrap();
    cluster.restart(away).await;
    cluster.converge().await;

    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.stop(away).await;
    let large = "x".repeat(4096);
    for at in 0..200 {
        put(cluster.member(leader), &format!("k{at}"), &large)
            .await
            .unwrap();
    }
    eventually("a log that no longer reaches back", || async {
        let purged = cluster.member(leader).log_start();
        (purged > cluster.member(leader).applied_index() / 2).then_some(())
    })
    .await;
    put(cluster.member(leader), "last", "one").await.unwrap();
    cluster.restart(away).await;
    cluster.converge().await;
    let read = get(cluster.member(away), "last").await.unwrap();
    assert_eq!(read.as_deref(), Some("one"));
    // The database that the snapshot took the place of does not wait for a restart to go.
    let databases = cluster.dir.path().join(format!("m{away}/db"));
    eventually("one database", || async {
        let entries = std::fs::read_dir(&databases).ok()?.flatten();
        (entries.filter(|entry| entry.path().is_dir()).count() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_join_are_promoted_and_removed() {
    let mut cluster = Cluster::start(3).await;
    put(cluster.member(0), "a", "1").await.unwrap();
    let joined = cluster.join(false).await;
    let id = cluster.member(joined).id();
    eventually("the new member to become a voter", || async {
        let members = cluster.member(0).members(true).await.ok()?;
        let own = members.into_iter().find(|member| member.id == id)?;
        (!own.is_learner && own.name == format!("m{joined}")).then_some(())
    })
    .await;
    assert_eq!(
        get(cluster.member(joined), "a").await.unwrap().as_deref(),
        Some("1")
    );

    let promoted = cluster.member(0).member_promote(id).await;
    assert_eq!(promoted, Err(Error::MemberNotLearner));
    let taken = vec![cluster.peer_url(0)];
    let added = cluster.member(0).member_add(taken, true).await;
    assert_eq!(added.unwrap_err(), Error::PeerUrlExists);
    assert_eq!(
        cluster.member(0).member_remove(4711).await,
        Err(Error::MemberNotFound)
    );

    let left = cluster.member(0).member_remove(id).await.unwrap();
    assert_eq!(left.len(), 3);
    cluster.stop(joined).await;
    put(cluster.member(0), "b", "2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_is_asked_for_twice_adds_one_member() {
    let cluster = Cluster::start(1).await;
    let channel = tonic::transport::Endpoint::from_shared(cluster.peer_url(0)).unwrap();
    let peer = PeerClient::new(channel.connect().await.unwrap());
    let add = |request, url: &str| {
        let change = MemberChange {
            change: Some(Change::Add(MemberAddRequest {
                peer_ur_ls: vec![url.to_owned()],
                is_learner: true,
            })),
            request,
        };
        let mut peer = peer.clone();
        async move { peer.change_members(change).await }
    };
    let url = "http://127.0.0.1:9";
    let first = add(77, url).await.unwrap().into_inner();
    // The answer was lost, say.
    let second = add(77, url).await.unwrap().into_inner();
    assert_eq!(first.id, second.id);
    assert_eq!(second.members.len(), 2);
    let another = add(78, url).await.unwrap_err();
    assert!(another.message().contains("Peer URLs already exists"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_can_be_removed() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let id = cluster.member(leader).id();
    let other = (leader + 1) % 3;
    // Refused until the leader has heard of both others.
    let left = eventually("the removal of the leader", || async {
        cluster.member(other).member_remove(id).await.ok()
    })
    .await;
    assert_eq!(left.len(), 2);
    cluster.stop(leader).await;
    cluster.leader().await;
    put(cluster.member(other), "a", "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_member_must_not_cost_the_quorum() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let down = (leader + 1) % 3;
    let up = (leader + 2) % 3;
    let up_id = cluster.member(up).id();
    cluster.stop(down).await;
    // Only two of three are up: without one of them the other two are no majority. That holds from
    // the first moment on.
    let removed = cluster.member(leader).member_remove(up_id).await;
    assert_eq!(removed.unwrap_err(), Error::NotEnoughStartedMembers);
    put(cluster.member(leader), "still", "writable")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founding_member_whose_disk_was_lost_is_refused() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let lost = (leader + 1) % 3;
    let id = cluster.member(lost).id();
    eventually("the member to be published", || async {
        let members = cluster.member(leader).members(true).await.ok()?;
        let own = members.into_iter().find(|member| member.id == id)?;
        (!own.client_ur_ls.is_empty()).then_some(())
    })
    .await;
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.dir.path().join(format!("m{lost}"))).unwrap();
    let refused = cluster.try_restart(lost).await;
    let message = refused
        .expect_err("a wiped member must not come back")
        .to_string();
    assert!(message.contains("member remove"), "{message}");
    cluster.member(leader).member_remove(id).await.unwrap();
    let joined = cluster.rejoin(lost).await;
    assert_ne!(joined, id, "an ID is never used twice");
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_expire_on_the_leader_and_are_renewed_through_any_member() {
    // In this time a busy machine, too, stops one leader and elects another.
    let ttl = 8;
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let granted = cluster
        .member(follower)
        .lease_grant(LeaseGrantRequest { ttl, id: 77 })
        .await
        .unwrap();
    assert_eq!((granted.id, granted.ttl), (77, ttl));
    let put = raft_store::pb::etcdserverpb::PutRequest {
        key: "leased".into(),
        value: "v".into(),
        lease: 77,
        ..Default::default()
    };
    cluster
        .member(follower)
        .put(put, Default::default())
        .await
        .unwrap();
    let renewed = cluster.member(follower).lease_keep_alive(77).await.unwrap();
    assert_eq!(renewed.ttl, ttl);
    let ask = LeaseTimeToLiveRequest { id: 77, keys: true };
    let told = cluster
        .member(follower)
        .lease_time_to_live(ask)
        .await
        .unwrap();
    assert_eq!((told.granted_ttl, told.keys.len()), (ttl, 1));
    // A new leader knows the lease too, and expires it.
    cluster.stop(leader).await;
    let now = cluster.leader().await;
    assert_eq!(
        get(cluster.member(now), "leased").await.unwrap().as_deref(),
        Some("v")
    );
    eventually("the lease to expire", || async {
        get(cluster.member(now), "leased")
            .await
            .ok()?
            .is_none()
            .then_some(())
    })
    .await;
    let gone = cluster.member(now).lease_keep_alive(77).await.unwrap();
    assert_eq!(gone.ttl, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_on_another_member() {
    let cluster = Cluster::start(3).await;
    let request = |start_revision| WatchCreateRequest {
        key: "w".into(),
        start_revision,
        ..Default::default()
    };
    let first = put(cluster.member(0), "w", "1").await.unwrap();
    let mut watch = cluster.member(1).watch(request(first)).await.unwrap();
    let WatchItem::Events { revision, events } = watch.next().await.unwrap() else {
        panic!("events come before progress");
    };
    assert_eq!((revision, events.len()), (first, 1));
    drop(watch);
    let second = put(cluster.member(0), "w", "2").await.unwrap();
    let mut watch = cluster
        .member(2)
        .watch(request(revision + 1))
        .await
        .unwrap();
    let WatchItem::Events { revision, .. } = watch.next().await.unwrap() else {
        panic!("events come before progress");
    };
    assert_eq!(revision, second);
}

//! Members that must not go on under their identity: removed ones, ones whose log was lost, ones
//! whose cluster went on without them.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at real files"
)]

mod support;

use std::fs;
use std::path::Path;

use raft_store::member::{FailureKind, Member, StartError};
use support::{Cluster, eventually, get, put};

/// Waits until a member has stopped by itself; yields why.
async fn stopped(member: &Member) -> String {
    eventually("the member to stop by itself", || async {
        member.failure().map(str::to_owned)
    })
    .await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_stops_and_its_disk_stays_out() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let removed = (leader + 1) % 3;
    let id = cluster.member(removed).id();
    eventually("the removal", || async {
        cluster.member(leader).member_remove(id).await.ok()
    })
    .await;
    let why = stopped(cluster.member(removed)).await;
    assert!(
        why.contains("was removed from its cluster") && why.contains("--join"),
        "{why}"
    );
    assert_eq!(cluster.member(removed).failure_kind(), FailureKind::Removed);
    cluster.stop(removed).await;

    let again = cluster.try_restart(removed).await.unwrap_err();
    assert!(matches!(again, StartError::Removed(_)), "{again}");
    // The others never noticed.
    put(cluster.member(leader), "a", "1").await.unwrap();
    assert_eq!(cluster.member(leader).failure(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_when_it_was_removed_learns_of_it() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    let id = cluster.member(away).id();
    cluster.stop(away).await;
    cluster.member(leader).member_remove(id).await.unwrap();
    cluster.restart(away).await;
    let why = stopped(cluster.member(away)).await;
    assert!(why.contains("was removed from its cluster"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_on_an_old_copy_of_its_disk_stops_and_harms_nobody() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let damaged = (leader + 1) % 3;
    let dir = cluster.dir.path().join(format!("m{damaged}"));
    put(cluster.member(leader), "a", "1").await.unwrap();
    cluster.stop(damaged).await;
    copy(&dir, &cluster.dir.path().join("old"));

    cluster.restart(damaged).await;
    for at in 0..20 {
        put(cluster.member(leader), &format!("k{at}"), "v")
            .await
            .unwrap();
    }
    cluster.converge().await;
    assert_eq!(cluster.leader().await, leader);
    cluster.stop(damaged).await;
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(cluster.dir.path().join("old"), &dir).unwrap();

    cluster.restart(damaged).await;
    let why = stopped(cluster.member(damaged)).await;
    assert!(
        why.contains("lost its log") && why.contains("member remove"),
        "{why}"
    );
    assert_eq!(
        cluster.member(damaged).failure_kind(),
        FailureKind::Directory
    );
    cluster.stop(damaged).await;
    let again = cluster.try_restart(damaged).await.unwrap_err();
    assert!(matches!(again, StartError::Directory(_)), "{again}");

    // The leader is the same one, and it writes with the third.
    put(cluster.member(leader), "b", "2").await.unwrap();
    assert_eq!(cluster.leader().await, leader);
    for (_, member) in cluster.running() {
        assert_eq!(member.failure(), None);
    }

    // And the machine comes back as a new member.
    let id = cluster
        .member(leader)
        .members(true)
        .await
        .unwrap()
        .into_iter()
        .find(|member| member.name == format!("m{damaged}"))
        .unwrap()
        .id;
    eventually("the removal", || async {
        cluster.member(leader).member_remove(id).await.ok()
    })
    .await;
    fs::remove_dir_all(&dir).unwrap();
    cluster.rejoin(damaged).await;
    cluster.converge().await;
    let read = get(cluster.member(damaged), "b").await.unwrap();
    assert_eq!(read.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_was_deleted_stops_and_harms_nobody() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let damaged = (leader + 1) % 3;
    put(cluster.member(leader), "a", "1").await.unwrap();
    cluster.converge().await;
    cluster.stop(damaged).await;
    for at in 0..20 {
        put(cluster.member(leader), &format!("k{at}"), "v")
            .await
            .unwrap();
    }
    cluster.restart(damaged).await;
    cluster.converge().await;
    cluster.stop(damaged).await;
    let wal = cluster.dir.path().join(format!("m{damaged}/wal"));
    for entry in fs::read_dir(&wal).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    // What was applied is in the database; the votes are gone.
    let started = cluster.try_restart(damaged).await;
    let why = started.expect_err("it must not vote").to_string();
    assert!(why.contains("log") && why.contains("--join"), "{why}");
    put(cluster.member(leader), "b", "2").await.unwrap();
    assert_eq!(cluster.leader().await, leader);
}

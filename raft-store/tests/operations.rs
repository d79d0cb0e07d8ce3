//! What a member tells its operators and does about its machine: metrics, full and broken disks.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of real processes' parts"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raft_store::Store;
use raft_store::engine::{MemoryEngine, OpenEngine};
use raft_store::error::Error;
use raft_store::member::config::{Config, Start};
use raft_store::member::{Member, space};
use raft_store::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, TxnRequest,
};
use seams::{Disk, FaultDisk, Open, Seams};
use support::{eventually, free_port, get, put};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: u64 = 1 << 20;

/// The only member of a cluster, on a disk in memory.
async fn alone(disk: &FaultDisk) -> Member {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let start = Start::New {
        members: vec![("m".to_owned(), vec![url.clone()])],
        token: "test".to_owned(),
    };
    let mut config = Config::new("m", "/data", start);
    config.listen_peer = vec![format!("127.0.0.1:{port}")];
    config.listen_client = vec!["127.0.0.1:0".to_owned()];
    config.advertise_peer = vec![url];
    config.advertise_client = vec!["http://m.test:1".to_owned()];
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let seams = Seams {
        disk: disk.clone(),
        ..Seams::real()
    };
    let engine: OpenEngine =
        Arc::new(move |dir| Ok(Arc::new(MemoryEngine::open(disk.clone(), dir)?)));
    Member::start_with(config, seams, engine).await.unwrap()
}

/// Waits until the member has stopped by itself; yields why.
async fn failure(member: &Member) -> String {
    eventually("the member to stop by itself", || async {
        member.failure().map(str::to_owned)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_disk_stops_the_member() {
    let disk = FaultDisk::new(1);
    let member = alone(&disk).await;
    put(&member, "a", "1").await.unwrap();
    let address = member.client_addresses()[0];
    disk.fail_sync_after(1);
    put(&member, "b", "2").await.unwrap_err();
    let reason = failure(&member).await;
    assert!(
        reason.contains("failed") && reason.contains("dmesg"),
        "{reason}"
    );
    assert!(member.tasks().is_cancelled());
    eventually("nobody to listen", || async {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_member_and_loses_nothing() {
    let disk = FaultDisk::new(2);
    disk.set_capacity(Some(200 * MIB));
    let member = alone(&disk).await;
    put(&member, "a", "1").await.unwrap();
    // At once: the member has no time to refuse writes.
    disk.set_capacity(Some(0));
    let value = "v".repeat(1 << 20);
    let mut acknowledged = 0;
    while put(&member, &format!("big{acknowledged}"), &value)
        .await
        .is_ok()
    {
        acknowledged += 1;
    }
    // What is accepted in spite of the alarm, should that come first.
    let delete = DeleteRangeRequest {
        key: value.into(),
        ..Default::default()
    };
    while member.failure().is_none() {
        let _ = member
            .delete_range(delete.clone(), Default::default())
            .await;
    }
    let reason = failure(&member).await;
    assert!(
        reason.contains("is full") && reason.contains("df -h"),
        "{reason}"
    );
    drop(member);
    disk.kill();
    disk.set_capacity(Some(400 * MIB));
    let member = alone(&disk).await;
    assert_eq!(get(&member, "a").await.unwrap().as_deref(), Some("1"));
    for n in 0..acknowledged {
        assert!(
            get(&member, &format!("big{n}")).await.unwrap().is_some(),
            "{n}"
        );
    }
    member.shutdown().await;
}

fn nospace(member: &Member) -> bool {
    member.mvcc().alarms().iter().any(|alarm| alarm.alarm == 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn little_room_refuses_writes_until_there_is_room_again() {
    let disk = FaultDisk::new(3);
    disk.set_capacity(Some(200 * MIB));
    let member = alone(&disk).await;
    let reserve = Path::new("/data").join(space::RESERVE_FILE);
    eventually("the reserve", || async {
        disk.exists(&reserve).then_some(())
    })
    .await;
    put(&member, "a", "1").await.unwrap();
    assert!(!nospace(&member));
    let free = disk.free_bytes(Path::new("/")).unwrap();
    let filler = disk.open(Path::new("/filler"), Open::CREATE_NEW).unwrap();
    filler.allocate(free - 4 * MIB).unwrap();
    eventually("the alarm", || async { nospace(&member).then_some(()) }).await;
    assert!(
        !disk.exists(&reserve),
        "given up for deletes and compactions"
    );
    assert!(matches!(put(&member, "b", "2").await, Err(Error::NoSpace)));
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let deleted = member
        .delete_range(delete, Default::default())
        .await
        .unwrap();
    let compact = CompactionRequest {
        revision: deleted.header.unwrap().revision,
        physical: false,
    };
    member.compact(compact).await.unwrap();
    // Someone who clears the alarm makes no room.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(nospace(&member));
    disk.remove_file(Path::new("/filler")).unwrap();
    drop(filler);
    eventually("the alarm to clear itself", || async {
        (!nospace(&member)).then_some(())
    })
    .await;
    assert!(disk.exists(&reserve));
    put(&member, "b", "2").await.unwrap();
    member.shutdown().await;
}

/// The metrics page as a scraper gets it.
async fn scrape(member: &Member) -> String {
    let mut stream = TcpStream::connect(member.client_addresses()[0])
        .await
        .unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// Complains as `promtool check metrics` does about what no scraper would take.
fn complaints(page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    let mut family = String::new();
    for line in page.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            family = declared.split(' ').next().unwrap().to_owned();
            if !families.insert(family.clone()) {
                complaints.push(format!("{family} is declared twice"));
            }
        } else if !line.starts_with('#') && !line.is_empty() {
            let (name, value) = line.rsplit_once(' ').unwrap();
            if !name.starts_with(&family) {
                complaints.push(format!("{name} is not of {family}"));
            }
            if !series.insert(name.to_owned()) {
                complaints.push(format!("{name} is there twice"));
            }
            if value.parse::<f64>().is_err() {
                complaints.push(format!("{line}: no number"));
            }
        }
    }
    complaints
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_follow_what_happens() {
    let disk = FaultDisk::new(4);
    let member = alone(&disk).await;
    put(&member, "a", "1").await.unwrap();
    put(&member, "a", "2").await.unwrap();
    get(&member, "a").await.unwrap();
    let granted = member
        .lease_grant(LeaseGrantRequest { ttl: 60, id: 7 })
        .await
        .unwrap();
    member.lease_keep_alive(granted.id).await.unwrap();
    member.lease_revoke(granted.id).await.unwrap();
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let deleted = member
        .delete_range(delete, Default::default())
        .await
        .unwrap();
    member
        .txn(TxnRequest::default(), Default::default())
        .await
        .unwrap();
    let compact = CompactionRequest {
        revision: deleted.header.unwrap().revision,
        physical: false,
    };
    member.compact(compact).await.unwrap();
    eventually("the garbage to be collected", || async {
        (member.mvcc().counts().collected > 0).then_some(())
    })
    .await;
    let page = scrape(&member).await;
    assert_eq!(complaints(&page), Vec::<String>::new(), "{page}");
    let value = |name: &str| {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing"))
            .parse::<f64>()
            .unwrap()
    };
    for (name, expected) in [
        ("etcd_mvcc_put_total", 2.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_mvcc_range_total", 1.0),
        ("etcd_mvcc_txn_total", 1.0),
        ("etcd_debugging_lease_granted_total", 1.0),
        ("etcd_debugging_lease_revoked_total", 1.0),
        ("etcd_debugging_lease_renewed_total", 1.0),
        ("etcd_debugging_mvcc_watch_stream_total", 0.0),
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_proposals_pending", 0.0),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "etcd_disk_backend_commit_duration_seconds_count",
        "etcd_server_apply_duration_seconds_count",
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_applied_total",
    ] {
        assert!(value(name) > 0.0, "{name}");
    }
    member.shutdown().await;
}

//! What only the inside of a member can provoke: its data goes wrong under it.
#![allow(
    clippy::disallowed_methods,
    reason = "real members in this process, and tasks of the test's own"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use support::{Cluster, eventually, get, put};
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::Member;
use crate::error::Error;
use crate::pb::etcdserverpb::watch_client::WatchClient;
use crate::pb::etcdserverpb::watch_request::RequestUnion;
use crate::pb::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchRequest};
use crate::store::Store;

#[path = "../../tests/support/mod.rs"]
mod support;

/// Waits until a member was seen to refuse a read because its data is wrong.
async fn refuses(member: Member) {
    eventually("the member to quarantine itself", || async {
        let request = RangeRequest {
            key: "k0".into(),
            serializable: true,
            ..Default::default()
        };
        matches!(member.range(request).await, Err(Error::Corrupt)).then_some(())
    })
    .await;
}

fn all_keys() -> WatchCreateRequest {
    WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    }
}

/// Garbles the data of the leader or a follower, while writes go on.
async fn wrong_data_is_replaced(of_leader: bool) {
    let mut cluster = Cluster::start_tuned(3, |config| {
        config.hash_check_interval = Duration::from_millis(500);
    })
    .await;
    for n in 0..50 {
        put(cluster.member(0), &format!("k{n}"), "v").await.unwrap();
    }
    let leader = cluster.leader().await;
    let wrong = if of_leader { leader } else { (leader + 1) % 3 };
    let spared = (wrong + 1) % 3;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (member, stop) = (cluster.member(spared).clone(), stop.clone());
        async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                put(&member, &format!("w{written}"), "v").await.unwrap();
                written += 1;
            }
            written
        }
    });
    let watched = tokio::spawn(refuses(cluster.member(wrong).clone()));
    // Watches begun before are cut, in the process and over the wire.
    let mut inside = cluster.member(wrong).watch(all_keys()).await.unwrap();
    let address = cluster.member(wrong).client_addresses()[0];
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = WatchClient::new(endpoint.connect().await.unwrap());
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(all_keys())),
    };
    let requests = futures::stream::iter([create]).chain(futures::stream::pending());
    let mut outside = client.watch(requests).await.unwrap().into_inner();
    let cut = tokio::spawn(async move {
        let inside = async {
            loop {
                if let Err(error) = inside.next().await {
                    return error;
                }
            }
        };
        let outside = async {
            loop {
                if let Err(status) = outside.message().await {
                    return status.message().to_owned();
                }
            }
        };
        tokio::join!(inside, outside)
    });
    cluster.member(wrong).mvcc().garble();
    watched.await.unwrap();
    let (inside, outside) = timeout(support::PATIENCE, cut).await.unwrap().unwrap();
    assert_eq!(inside, Error::Corrupt);
    assert_eq!(outside, Error::Corrupt.to_string());
    eventually("the member to serve again", || async {
        get(cluster.member(wrong), "k0").await.ok().flatten()
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert!(written > 10, "the others went on: {written}");
    cluster.converge().await;
    let last = format!("w{}", written - 1);
    let found = get(cluster.member(wrong), &last).await.unwrap();
    assert_eq!(found.as_deref(), Some("v"));
    // What was fetched is what it has after a restart.
    cluster.stop(wrong).await;
    put(cluster.member(spared), "later", "v").await.unwrap();
    cluster.restart(wrong).await;
    assert_eq!(
        get(cluster.member(wrong), &last).await.unwrap().as_deref(),
        Some("v")
    );
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_replaces_the_wrong_data_of_a_follower() {
    wrong_data_is_replaced(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_replaces_the_wrong_data_of_its_leader() {
    wrong_data_is_replaced(true).await;
}

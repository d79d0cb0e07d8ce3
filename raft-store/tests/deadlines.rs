//! A call ends when its client has said that it gives up: the header `grpc-timeout`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a client of the test's own"
)]

mod support;

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use raft_store::pb::etcdserverpb::PutRequest;
use support::Cluster;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_deadline_passes_is_given_up() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    // Without a quorum a put would wait for the server's own 7 s.
    cluster.stop((leader + 1) % 3).await;
    cluster.stop((leader + 2) % 3).await;
    let address = cluster.member(leader).client_addresses()[0];
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let put = PutRequest {
        key: "a".into(),
        value: "b".into(),
        ..PutRequest::default()
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(put.encoded_len() as u32);
    put.encode(&mut message).unwrap();
    let request = Request::post(format!("http://{address}/etcdserverpb.KV/Put"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "400m")
        .body(Full::<Bytes>::new(message.freeze()))
        .unwrap();
    let begun = Instant::now();
    let response = sender.send_request(request).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(response.headers()["grpc-status"], "4", "{response:?}");
    assert!(
        took >= Duration::from_millis(400) && took < Duration::from_secs(3),
        "{took:?}"
    );
    connection.abort();
}

//! The generated protocol types: etcd's client API, our log format and our peer protocol.
//!
//! The store uses the etcd messages as its own request and response types, so that a request
//! travels from the socket to the state machine without being translated.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]

/// etcd's data types.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// etcd's client API.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The payload of log entries, format 1.
pub mod trireme_log_v1 {
    tonic::include_proto!("trireme_log_v1");
}

/// The protocol between members, version 1.
pub mod trireme_peer_v1 {
    tonic::include_proto!("trireme_peer_v1");
}

pub use trireme_log_v1 as log;
pub use trireme_peer_v1 as peer;

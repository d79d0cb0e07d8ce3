//! The generated protocol types: etcd's client API, our log format and our peer protocol.
//!
//! The store uses the etcd messages as its own request and response types, so that a request
//! travels from the socket to the state machine without being translated.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from proto/")]

/// etcd's data types.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// etcd's client API.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The payload of log entries.
pub mod log {
    tonic::include_proto!("trireme.log.v1");
}

/// The protocol between members.
pub mod peer {
    tonic::include_proto!("trireme.peer.v1");
}

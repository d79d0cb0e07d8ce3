//! The replicated store: an etcd v3 store on Raft. Bytes and revisions; no Kubernetes.
//!
//! In reading order:
//!
//! - [`store`]: the `Store` trait that every user programs against, with [`error`] and the
//!   protocol types in [`pb`].
//! - [`wal`]: the Raft log on disk; [`engine`]: the ordered key-value engine under the applied
//!   state; [`mvcc`]: the applied state itself.
//! - [`watch`]: how events reach watchers.
//! - [`consensus`]: openraft behind our own types and disk format.
//! - [`member`]: one member of a cluster, composed of all of these; the in-process `Store`.
//! - [`server`]: the etcd v3 services over gRPC and HTTP; [`remote`]: a `Store` over any etcd v3
//!   endpoint.
//! - [`backup`]: backup, restore, import from etcd, recovery from quorum loss.

pub mod backup;
pub mod consensus;
pub mod engine;
pub mod error;
pub mod member;
pub mod metrics;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod mvcc;
pub mod pb;
pub mod position;
pub mod remote;
pub mod server;
pub mod store;
pub mod wal;
pub mod watch;

// The helpers in tests/ serve unit tests too.
#[cfg(test)]
extern crate self as raft_store;

pub use error::{Error, Result};
pub use position::LogPosition;
pub use store::{Store, WatchItem, WatchStream};

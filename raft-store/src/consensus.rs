//! Consensus: openraft behind our own types, disk format and wire protocol.
//!
//! Nothing outside this module names an openraft type, so that an upgrade of openraft touches
//! neither the disks nor the rest of the store.
//!
//! - [`types`]: the type configuration and the conversions to log records and messages.
//! - [`log_store`]: the Raft log on the write-ahead log; [`state_machine`]: the applied state.
//! - [`network`]: what a member sends to its peers; [`peer_server`]: what it answers;
//!   `traffic`: how much of it; `reach`: what the log says of peers that do not answer.
//! - [`snapshot`]: checkpoints as directories, and their resumable transfer.
//! - [`raft`]: the handle that the member uses: propose, read barrier, membership, leadership;
//!   `pace`: when it is woken though nobody calls it; `heartbeats`: how a leader is heard.

pub mod databases;
mod forward;
mod heartbeats;
pub mod log_store;
pub mod network;
mod pace;
pub mod peer_server;
pub mod peers;
pub mod raft;
mod reach;
mod read_index;
pub mod runtime;
pub mod snapshot;
pub mod state_machine;
mod traffic;
pub mod types;

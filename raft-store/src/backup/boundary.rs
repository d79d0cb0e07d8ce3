//! The boundary to the rest of the crate: all that backups know of a member's own files.
//!
//! A member's data directory holds `identity.json`, `wal/`, `db/` and `LOCK`. The module `member`
//! owns the identity's and the membership's encoding ([`MemberFormat`]); the applied state's
//! directory is made through [`States`].

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use seams::Disk;

use crate::backup::{Result, Sink};
use crate::position::LogPosition;

/// The identity file's name in a data directory. Written last: a directory without it is no
/// member.
pub const IDENTITY_FILE: &str = "identity.json";
/// The Raft log's directory.
pub const WAL_DIR: &str = "wal";
/// The directory of the applied state's databases.
pub const DB_DIR: &str = "db";
/// A new member's only database in it: the live one as long as no pointer file names another.
pub const FIRST_DB: &str = "0";
/// The lock file: held by whoever uses the directory.
pub const LOCK_FILE: &str = "LOCK";

/// The log position that the state of a new cluster counts as: that of the first entry of a log,
/// the membership that a cluster is initialised with.
pub const FIRST_POSITION: LogPosition = LogPosition { term: 0, index: 0 };

/// A member as its cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// The member's ID, never 0.
    pub id: u64,
    /// Its name, unique in the cluster.
    pub name: String,
    /// The URLs at which the other members reach it.
    pub peer_urls: Vec<String>,
}

/// Whose a data directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's ID: members of different clusters do not talk to each other.
    pub cluster_id: u64,
    /// This member's ID.
    pub member_id: u64,
    /// This member's name.
    pub name: String,
    /// The members when this one was created, itself included.
    pub members: Vec<MemberInfo>,
}

/// How `member` writes down who it is. Implemented there.
pub trait MemberFormat: Send + Sync {
    /// The contents of `identity.json`.
    fn encode_identity(&self, identity: &Identity) -> Vec<u8>;
    /// Reads `identity.json`; the error says what is wrong with it.
    fn decode_identity(&self, bytes: &[u8]) -> Result<Identity, String>;
    /// The membership (all given members voters) as the applied state keeps it.
    fn encode_membership(&self, members: &[MemberInfo]) -> Bytes;
    /// The path of the live database of a data directory; it need not exist.
    fn live_database(&self, disk: &dyn Disk, data_dir: &Path) -> io::Result<PathBuf>;
    /// All members, learners too, of a membership in the applied state.
    fn decode_membership(&self, bytes: &Bytes) -> Result<Vec<MemberInfo>, String>;
}

/// What a fresh applied state starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// The current revision.
    pub revision: i64,
    /// The compaction watermark.
    pub compact_revision: i64,
    /// The last applied log position, also that of the membership.
    pub applied: LogPosition,
    /// The encoded membership.
    pub membership: Bytes,
}

/// Makes fresh directories of applied state.
pub trait States: Send + Sync {
    /// Starts a new state in a directory that does not exist yet.
    fn create(&self, dir: &Path, start: &Start) -> Result<Box<dyn Sink>>;
}

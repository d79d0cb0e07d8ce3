//! Planted bugs, each with a place in the code that asks for it. The tests of `chaos/` run a
//! cluster with one of them and must notice; a build without the feature `mutants` has none.

use crate::wal::WalMutants;
use crate::watch::WatchMutants;

/// The bugs to run with; the default is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mutants {
    /// In the write-ahead log: no fsync, or torn records accepted.
    pub wal: WalMutants,
    /// In watches: events dropped on resume, early progress.
    pub watch: WatchMutants,
    /// A follower answers linearizable reads from its own state, without asking the leader.
    pub local_follower_reads: bool,
    /// A read that arrives while a round of heartbeats is under way is answered with that
    /// round's index, although the round may have begun before a write that the reader knows of.
    pub reused_read_index: bool,
    /// The leader acknowledges a put once it is in its own log.
    pub ack_before_quorum: bool,
    /// The log is purged up to a checkpoint although the live database was not flushed.
    pub purge_before_flush: bool,
    /// A founding member whose disk was wiped does not ask whether it has been here before.
    pub wiped_member_keeps_identity: bool,
}

//! A position in the Raft log.

use std::fmt;

/// Which log entry: the leader that wrote it and its index.
///
/// Positions order by term, then by node, then by index, as openraft orders log IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition {
    /// The term of the leader that appended the entry.
    pub term: u64,
    /// The member ID of that leader.
    pub node: u64,
    /// The index; the first entry of a log has index 0.
    pub index: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:x}/{}", self.term, self.node, self.index)
    }
}

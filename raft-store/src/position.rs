//! A position in the Raft log.

use std::fmt;

/// Which log entry: the term of the leader that wrote it, and its index.
///
/// Positions order by term, then by index, as Raft compares logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition {
    /// The term of the leader that appended the entry.
    pub term: u64,
    /// The index; the first entry of a log has index 0.
    pub index: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

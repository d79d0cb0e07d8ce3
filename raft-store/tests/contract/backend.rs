//! What the suite needs from an implementation.

use std::sync::Arc;

use async_trait::async_trait;
use raft_store::Store;

/// Why something was not run.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

/// Starts stores of one kind.
#[async_trait]
pub(crate) trait Backend: Sync {
    /// Its name in messages.
    fn name(&self) -> &'static str;

    /// Starts a fresh, empty store.
    async fn start(&self) -> Result<Running, Skipped>;
}

/// A store that runs until this is dropped.
pub(crate) struct Running {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// What it lacks, with the reason.
    pub(crate) lacks: &'static [(Feature, &'static str)],
    /// Whatever has to live as long as the store.
    pub(crate) _keep: Box<dyn Send + Sync>,
}

/// What not every backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Progress on request that never overtakes events.
    ManualProgress,
    /// A watch from the compact revision delivers a delete of that revision.
    DeleteAtCompactRevision,
    /// A delete up to the end of all keys is seen to overlap a put of the same transaction.
    OpenEndedOverlap,
    /// Unknown sort orders and targets are refused.
    SortOptionCheck,
    /// `progress_notify` within seconds.
    FrequentProgress,
}

//! How events reach watchers.
//!
//! Apply appends every revision to one shared [`EventRing`] in memory; each watcher reads it at
//! its own pace and falls back to [`History`] (the disk) when the ring has moved past it. Nothing
//! is queued per watcher, so a slow one costs nobody else anything, and apply never waits.
//!
//! - [`event`]: a revision, its changes, and their encodings, made once for all watchers.
//! - [`ring`]: the recent revisions, bounded by bytes, read without locks.

pub mod event;
pub mod ring;

pub use event::{Change, History, Revision};
pub use ring::{EventRing, RingRead};

//! How events reach watchers.
//!
//! Apply appends every revision to one shared [`EventRing`] in memory; each watcher reads it at
//! its own pace and falls back to [`History`] (the disk) when the ring has moved past it. Nothing
//! is queued per watcher, so a slow one costs nobody else anything, and apply never waits.
//!
//! - [`event`]: a revision, its changes, and their encodings, made once for all watchers;
//!   [`ring`]: the recent revisions, bounded by bytes, read without locks.
//! - [`range`], [`interest`]: which keys, and who is interested in a key.
//! - [`hub`]: wakes the streams that an event concerns, by their [`bell`]; [`cursor`]: a stream's
//!   position.
//! - [`leader`]: gives up watches that are without a leader for too long.
//! - [`local`]: a watch inside the process. `server::watch` serves them over gRPC.

pub mod bell;
pub mod cursor;
pub mod event;
pub mod hub;
pub mod interest;
pub mod leader;
pub mod local;
pub mod range;
pub mod ring;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use cursor::{Cursor, Step};
pub use event::{Change, History, Revision};
#[cfg(feature = "mutants")]
pub use hub::WatchMutants;
pub use hub::{Past, WatchHub, WatchStats};
pub use leader::LeaderWatch;
pub use local::{LocalOptions, LocalWatch};
pub use range::KeyRange;
pub use ring::{EventRing, RingRead};

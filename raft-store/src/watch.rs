//! How events reach watchers.

pub mod leader;

pub use leader::LeaderWatch;

//! Workloads, faults, histories and checkers: what is done to a store to find out whether it
//! keeps its promises. Never shipped.
//!
//! In reading order:
//!
//! - [`ops`]: what clients ask; [`history`]: what they were told, as files; [`model`]: what a
//!   correct store would have said.
//! - [`checkers`]: verdicts; [`evidence`]: a run's files with the checkers they are held against.
//! - [`synthetic`] and [`mutations`]: valid histories without a store, and ways to break them.

pub mod checkers;
pub mod client;
pub mod dice;
pub mod evidence;
pub mod history;
pub mod model;
pub mod mutations;
pub mod ops;
pub mod synthetic;

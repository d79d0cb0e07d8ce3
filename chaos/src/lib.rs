//! Workloads, faults, histories and checkers: what is done to a store to find out whether it
//! keeps its promises. Never shipped.
//!
//! In reading order:
//!
//! - [`ops`]: what clients ask; [`history`]: what they were told, as files; [`model`]: what a
//!   correct store would have said.
//! - [`checkers`]: verdicts; [`evidence`]: a run's files with the checkers they are held against.
//! - [`synthetic`] and [`mutations`]: valid histories without a store, and ways to break them;
//!   [`plants`]: faults for runs that must be found.
//! - [`client`] and [`workloads`]: who asks; [`cluster`] and [`sandbox`]: who is asked, and where;
//!   [`pki`] for their certificates; [`faults`]: what happens to them.
//! - [`scenarios`]: the table of all that; [`run`]: one row of it.
#![allow(
    clippy::disallowed_methods,
    reason = "it drives real processes in real time; nothing here is ever simulated"
)]

pub mod checkers;
pub mod client;
pub mod cluster;
pub mod dice;
pub mod evidence;
pub mod faults;
pub mod history;
pub mod model;
pub mod mutations;
pub mod ops;
pub mod pki;
pub mod plants;
pub mod run;
pub mod sandbox;
pub mod scenarios;
pub mod synthetic;
pub mod workloads;

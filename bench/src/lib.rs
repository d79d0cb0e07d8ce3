//! What the load generators share.
//!
//! - [`masters`]: masters under `trireme dev`: started, measured, killed, started again.
//! - [`only`]: which measurements are wanted.
#![allow(
    clippy::disallowed_methods,
    reason = "it drives real processes in real time; nothing here is ever simulated"
)]

pub mod masters;
pub mod only;

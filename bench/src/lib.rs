//! What the load generators of whole masters share.
//!
//! - [`masters`]: masters under `trireme dev`: started, measured, killed, started again.
#![allow(
    clippy::disallowed_methods,
    reason = "it drives real processes in real time; nothing here is ever simulated"
)]

pub mod masters;

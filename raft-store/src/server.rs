//! Under construction.

pub mod status;
pub mod watch;

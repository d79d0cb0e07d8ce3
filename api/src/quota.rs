//! What quotas count: how much objects use, and which objects a quota is about.
//!
//! The API server counts what is new in the transaction that writes it; a controller counts
//! everything again when something is gone. Both count by this.
//!
//! - [`usage`]: what objects use; [`scopes`]: which objects a quota counts
//! - [`amounts`]: sums and bounds of resources; [`qos`]: a pod's class; [`walk`]: ways through a pod

pub mod amounts;
pub mod qos;
mod scopes;
pub mod usage;
pub mod walk;

pub use amounts::Amounts;
pub use usage::Kind;

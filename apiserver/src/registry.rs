//! The generic path of every kind: create, update, patch, delete; and what kinds add to it.
//!
//! - [`row`]: a resource, as it is served and stored
//! - [`strategy`]: what its kind adds
//! - [`call`]: a request to it; [`own`]: one of the server's own
//! - [`object`] and [`metadata`]: documents between request and store
//! - [`write`](mod@write) with [`live`] and [`change`], and [`delete`]: the verbs that write

pub mod call;
pub mod change;
pub mod delete;
mod live;
pub mod metadata;
pub mod object;
pub mod own;
pub mod row;
pub mod strategy;
pub mod write;

pub use call::{Call, Outcome};
pub use own::{Own, myself};
pub use row::{Registry, Row};
pub use strategy::{Cx, Strategy};

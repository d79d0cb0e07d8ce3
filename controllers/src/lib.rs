//! The loops that make the cluster what its objects say: those of kube-controller-manager and of
//! cloud-controller-manager.
//!
//! Every controller observes, plans and applies: the plan is a pure function, one place applies any
//! plan.
//!
//! - [`manager`]: the table of controllers, and what runs them; [`settings`]
//! - [`controller`]: what a controller is; [`context`]: what it gets
//!
//! It leaves reaching the API server, informers and leadership to `client`, placing pods to
//! `scheduler`, and running them to `node`.

pub mod context;
pub mod controller;
pub mod manager;
pub mod settings;
#[cfg(test)]
pub(crate) mod testing;

pub use context::Context;
pub use controller::{Again, Controller, Error, Row};
pub use settings::Settings;

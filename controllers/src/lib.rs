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

pub mod adoption;
pub mod apps;
mod catalog;
mod cluster_role_aggregation;
pub mod context;
pub mod controller;
mod cronjob;
pub mod expectations;
mod garbage_collector;
mod job;
pub mod manager;
mod merge;
mod namespace;
pub mod pod;
pub mod pod_control;
mod pod_gc;
pub mod ranking;
mod raw;
mod root_ca;
pub mod selector;
mod service_account;
pub mod settings;
pub mod template;
mod ttl_after_finished;
mod view;
#[cfg(test)]
pub(crate) mod testing;

pub use context::Context;
pub use controller::{Again, Controller, Error, Row};
pub use settings::Settings;

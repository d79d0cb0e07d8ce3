//! The loops that make the cluster what its objects say: those of kube-controller-manager and of
//! cloud-controller-manager.
//!
//! Every controller observes, plans and applies: the plan is a pure function, one place applies any
//! plan.
//!
//! - [`manager`]: the table of controllers, and what runs them; [`settings`]
//! - [`controller`]: what a controller is; [`context`]: what it gets
//! - Views, shared by all: [`pod`], [`node`], [`apps`], with [`selector`] and [`template`]
//! - Owners and what they own: [`adoption`], [`expectations`], [`pod_control`], [`ranking`],
//!   [`history`], [`status`]
//! - Workloads: [`replicaset`] (and ReplicationController), [`deployment`], [`statefulset`],
//!   [`daemonset`]
//!
//! It leaves reaching the API server, informers and leadership to `client`, placing pods to
//! `scheduler`, and running them to `node`.

pub mod adoption;
pub mod apps;
pub mod context;
pub mod controller;
pub mod daemonset;
pub mod deployment;
pub mod expectations;
pub mod history;
pub mod manager;
pub mod node;
pub mod pod;
pub mod pod_control;
pub mod ranking;
pub mod replicaset;
pub mod selector;
pub mod settings;
pub mod statefulset;
pub mod status;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;
mod view;

pub use context::Context;
pub use controller::{Again, Controller, Error, Row};
pub use settings::Settings;

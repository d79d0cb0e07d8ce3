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
pub mod cloud;
pub mod context;
pub mod controller;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod expectations;
pub mod go;
pub mod history;
pub mod horizontal_pod_autoscaling;
pub mod manager;
pub mod node;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod note;
pub mod pod;
pub mod pod_control;
pub mod ranking;
pub mod replicaset;
pub mod scale;
pub mod selector;
pub mod service_cidr;
pub mod service_endpoints;
pub mod settings;
pub mod statefulset;
pub mod status;
pub mod taint;
pub mod taint_eviction;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;
pub mod ttl;
mod view;

pub use context::Context;
pub use controller::{Again, Controller, Error, Row};
pub use settings::Settings;

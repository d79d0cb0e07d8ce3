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
//! - Storage and devices: [`volumes`], [`devices`]; how nodes join: [`certificates`], [`bootstrap`]
//! - Used by many: [`note`], what is said of objects; [`fresh`], objects that are to be changed
//!
//! - Work that ends: [`job`], [`cronjob`], [`ttl_after_finished`]
//! - What goes: [`garbage_collector`], [`namespace`], [`pod_gc`]; [`catalog`] says what there is
//! - What every namespace has: [`service_account`] (with [`service_account_token`]
//!   and [`legacy_token_cleaner`]), [`root_ca`]; quotas: [`resource_quota`];
//!   roles: [`cluster_role_aggregation`]
//!
//! It leaves reaching the API server, informers and leadership to `client`, placing pods to
//! `scheduler`, and running them to `node`.

pub mod adoption;
pub mod apps;
pub mod bootstrap;
mod catalog;
pub mod certificates;
pub mod cloud;
mod cluster_role_aggregation;
pub mod context;
pub mod controller;
mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod devices;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod expectations;
pub mod fresh;
mod garbage_collector;
pub mod go;
pub mod history;
pub mod horizontal_pod_autoscaling;
mod job;
mod legacy_token_cleaner;
pub mod manager;
mod merge;
mod metadata;
mod namespace;
pub mod node;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod note;
pub mod pod;
pub mod pod_control;
mod pod_gc;
pub mod ranking;
mod raw;
pub mod replicaset;
mod resource_quota;
mod root_ca;
pub mod scale;
pub mod selector;
mod service_account;
mod service_account_token;
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
mod ttl_after_finished;
pub mod volumes;

pub use context::Context;
pub use controller::{Again, Controller, Error, Row};
pub use settings::Settings;

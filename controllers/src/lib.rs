//! The loops that make the cluster what its objects say: those of kube-controller-manager and of
//! cloud-controller-manager.
//!
//! Every controller observes, plans and applies: the plan is a pure function, one place applies any
//! plan.
//!
//! It leaves reaching the API server, informers and leadership to `client`, placing pods to
//! `scheduler`, and running them to `node`.

pub mod apps;
pub mod context;
pub mod controller;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
mod go;
pub mod manager;
pub mod settings;
pub mod horizontal_pod_autoscaling;
pub mod node;
pub mod node_ipam;
pub mod node_lifecycle;
mod note;
pub mod pod;
mod scale;
pub mod selector;
pub mod service_cidr;
mod service_endpoints;
mod taint;
pub mod taint_eviction;
pub mod ttl;
mod view;

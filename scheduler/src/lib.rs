//! Places pods on nodes: queue, cache, cycle, plugins, preemption, binding.
//!
//! A scheduling cycle is a pure function of a pod and a snapshot of the nodes.
//!
//! - [`views`]: what is kept of each object; `intern` and `selector`: labels as numbers
//! - [`snapshot`]: the cluster with all counts kept ready; [`cache`]: who is on which node
//! - [`framework`]: what plugins are; `filters` and `scores`: a file each; [`profile`]: which run
//! - [`cycle`]: where a pod goes; [`preemption`]: who makes way
//! - [`queue`]: which pod is next; [`config`]: KubeSchedulerConfiguration
//! - [`run`]: the loop; `inbox`: what changed; `binding`: what is written; [`metrics`]
//! - [`explain`]: why a pod is pending, node by node
//!
//! It leaves reaching the API server, informers and leadership to `client`, and everything that
//! happens to a pod after it was bound to `node`.

mod binding;
pub mod cache;
pub mod config;
pub mod cycle;
mod devices;
pub mod explain;
mod filters;
pub mod framework;
mod inbox;
mod intern;
pub mod metrics;
pub mod preemption;
pub mod profile;
pub mod queue;
pub mod run;
mod scores;
mod selector;
pub mod snapshot;
#[cfg(test)]
mod testing;
pub mod views;
mod volumes;
mod workloads;

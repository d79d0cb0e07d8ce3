//! Deployments.
mod plan;

//! Replicasets.
mod plan;

//! Daemonsets.
mod plan;

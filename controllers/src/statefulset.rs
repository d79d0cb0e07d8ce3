//! Statefulsets.
mod plan;

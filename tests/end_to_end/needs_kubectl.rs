//! Whole masters, looked at through an unmodified kubectl of another release.

mod access;
mod failover;
mod ha;
mod metrics;
mod objects;
mod refusals;
mod upkeep;
mod workloads;

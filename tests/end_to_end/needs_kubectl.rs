//! Whole masters, looked at through an unmodified kubectl of another release.

mod access;
mod failover;
mod objects;
mod refusals;

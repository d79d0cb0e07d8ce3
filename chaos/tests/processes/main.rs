//! Clusters of real processes that are hurt while clients work, as `chaos run` does it: every run
//! is judged by all checkers. The long ones are for `make soak`.
//!
//! - [`harness`]: how a run is made from here, and the binary it is made with.
//! - [`crashes`], [`churn`], [`needs_netns`]: what happens to the members.
//! - [`planted`]: every checker finds a fault that was planted into such a run.
//! - [`control`]: the harness finds etcd valid.
//! - [`catching_up`]: a new member gets a large database.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and these run real processes in real time"
)]

mod catching_up;
mod churn;
mod control;
mod crashes;
mod harness;
mod needs_netns;
mod planted;

//! End-to-end tests: the real binary in real processes, with Debian's etcdctl and etcd beside it.
//!
//! - [`support`]: clusters, members, etcdctl; everything ends with the test that started it.
//! - [`command_line`]: what the binary does alone.
//! - [`needs_etcdctl`]: everything that is looked at through etcdctl; counted as skipped where it is
//!   missing (`deploy/skips.sh`).
//! - [`needs_kubectl`]: whole masters, looked at through an unmodified kubectl; likewise.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "real processes and files are what is tested"
)]

mod command_line;
mod needs_etcdctl;
mod needs_kubectl;
mod support;

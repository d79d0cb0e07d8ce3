//! What it takes to run Trireme's processes: configuration, certificates and local clusters.
//!
//! In reading order:
//!
//! - [`config`]: how a process gets its settings: a YAML file, then `TRIREME_*` variables, then
//!   flags; [`config::StoreConfig`] are those of a store member.
//! - [`pki`]: certificate authorities, and certificates that are made once and renewed in place.
//! - [`master`]: the files of a master on a machine of its own; [`join`]: how machines become part
//!   of a cluster; [`kubeconfig`]: how people reach it.
//! - [`local`]: a cluster of processes on this machine, for `trireme dev`, tests and chaos.
//!
//! It leaves what a process does with its settings to the components, and composing them to the
//! binary. Beside the source lie what an operator copies (`systemd/`) and the set-up of a build
//! machine (`setup.sh`, `skips.sh`).
#![allow(
    clippy::disallowed_methods,
    reason = "operates a real machine: no part of it ever runs inside a simulation"
)]

pub mod config;
mod files;
pub mod join;
pub mod kubeconfig;
pub mod local;
pub mod master;
pub mod pki;

//! A cluster of processes on this machine: for `trireme dev`, for tests and for chaos.
//!
//! - [`Options`] say what cluster; [`Layout`] knows its files, addresses and ports.
//! - [`Supervisor`] starts the processes, tells when they serve, and stops them.
//! - [`control`]: what another process may ask of a running supervisor.
//! - [`health`]: whether a member serves; [`process`]: one child process.
//!
//! The directory of a cluster:
//!
//! ```text
//! DIR/cluster.yaml            what the cluster consists of
//! DIR/etcdctl.env             ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY
//! DIR/pki/                    authorities and certificates
//! DIR/control.sock            requests to the supervisor
//! DIR/lock                    held by the supervisor
//! DIR/master-N/store.yaml     the member's configuration, written anew at every start
//! DIR/master-N/data/          the member's data
//! DIR/master-N/log            what it wrote to stdout and stderr (older: log.1)
//! DIR/master-N/pid            its process, while it runs
//! ```
//!
//! Ports: master N takes those from `port_base + 10 * N` on. The first is for clients, the second
//! for peers; the rest is kept for the other roles of a master.

pub mod control;
pub mod health;
mod layout;
pub mod process;
mod supervisor;

pub use layout::{DEFAULT_PORT_BASE, Layout, LocalError, Options, PORTS_PER_MASTER};
pub use supervisor::{Event, Launch, Supervisor};

//! A cluster of processes on this machine: for `trireme dev`, for tests and for chaos.
//!
//! - [`Options`] say what cluster; [`Layout`] knows its files, addresses and ports.
//! - [`Supervisor`] starts the processes, tells when they serve, and stops them.
//! - [`control`]: what another process may ask of a running supervisor.
//! - [`health`]: whether a master serves; [`process`]: one child process.
//! - [`temporary`]: whether the directory goes when the cluster stops.
//! - `balancer`: one address for the APIs of all masters; `kubeconfig`: how kubectl gets there.
//!
//! The directory of a cluster:
//!
//! ```text
//! DIR/cluster.yaml            what the cluster consists of
//! DIR/temporary               is there if DIR goes when the cluster stops
//! DIR/etcdctl.env             ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY
//! DIR/kubeconfig              for kubectl, with a context per master
//! DIR/pki/                    authorities and certificates
//! DIR/control.sock            requests to the supervisor
//! DIR/lock                    held by the supervisor
//! DIR/master-N/server.yaml    the master's configuration, written anew at every start
//! DIR/master-N/store.yaml     the same where there is only a store
//! DIR/master-N/data/          the member's data
//! DIR/master-N/log            what it wrote to stdout and stderr (older: log.1)
//! DIR/master-N/pid            its process, while it runs
//! DIR/node-N/node.yaml        the same of hollow nodes: each has a process of its own, or all share one
//! DIR/node-N/kubeconfig       how it reaches the API
//! DIR/node-N/log, pid         as a master's
//! ```
//!
//! Ports: `port_base` is the API of whichever master is up. Master N takes those from
//! `port_base + 10 * N` on: the first for clients of the store, the second for its peers, the third
//! for the API; the rest is kept for other roles.

mod balancer;
pub mod control;
pub mod health;
mod kubeconfig;
mod layout;
pub mod process;
mod supervisor;
pub mod temporary;

pub use layout::{DEFAULT_PORT_BASE, Layout, LocalError, Options, PORTS_PER_MASTER, Unit};
pub use supervisor::{Event, Launch, Supervisor};

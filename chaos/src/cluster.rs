//! The cluster under test: processes, each in a network of its own where the run needs it.

mod command;
mod disks;
mod logs;
mod network;
mod processes;
mod questions;

pub use command::{Launch, System};
pub use disks::Disks;
pub use network::Network;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;

use anyhow::Result;

use crate::client::{Target, Tls};
use crate::evidence::Trouble;
use crate::pki;

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is made of.
    pub system: System,
    /// Number of members.
    pub members: usize,
    /// Places for members that join later.
    pub spares: usize,
    /// Whether each member gets a network namespace; needs a sandbox.
    pub networks: bool,
    /// What members' data lies on; all but the shared one need a sandbox.
    pub disks: Disks,
    /// A library that is loaded into members before any other: for planted faults.
    pub preload: Option<PathBuf>,
    /// Directory of data and logs.
    pub dir: PathBuf,
}

/// A running cluster. Dropping it kills it.
///
/// Members are known by their place, from 0. A place can be empty: members come and go.
pub struct Cluster {
    plan: Plan,
    network: Network,
    tls: Tls,
    places: Vec<Place>,
    /// What went wrong by itself.
    pub troubles: Vec<Trouble>,
}

#[derive(Default)]
struct Place {
    /// Whether a member belongs here, running or not.
    taken: bool,
    /// It came later: it is told whom to join, not whom to found a cluster with.
    joined: bool,
    child: Option<Child>,
    paused: bool,
    /// An exit by itself is expected: its disk is full.
    may_exit: bool,
}

impl Cluster {
    /// Makes the networks and disks and starts all members.
    ///
    /// # Errors
    ///
    /// When one of them cannot be made, or the members do not serve in time.
    pub async fn start(plan: Plan) -> Result<Cluster> {
        std::fs::create_dir_all(plan.dir.join("logs"))?;
        let places = plan.members + plan.spares;
        let network = if plan.networks {
            Network::namespaces(places)?
        } else {
            Network::loopback(places)?
        };
        let tls = pki::make(&plan.dir.join("pki"), &network.addresses())?;
        let mut cluster = Cluster {
            plan,
            network,
            tls,
            places: (0..places).map(|_| Place::default()).collect(),
            troubles: Vec::new(),
        };
        for member in 0..cluster.plan.members {
            cluster.make_disk(member)?;
            cluster.places[member].taken = true;
        }
        cluster.start_all()?;
        cluster.wait_serving().await?;
        Ok(cluster)
    }

    /// The members there are, running or not.
    pub fn members(&self) -> Vec<usize> {
        (0..self.places.len())
            .filter(|place| self.places[*place].taken)
            .collect()
    }

    /// A place where a member can join.
    pub fn spare(&self) -> Option<usize> {
        self.places.iter().position(|place| !place.taken)
    }

    /// The system the members are of.
    pub fn system(&self) -> &System {
        &self.plan.system
    }

    /// The members' networks.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Directory of a member's data.
    pub fn data(&self, member: usize) -> PathBuf {
        self.plan.dir.join(format!("data-{member}"))
    }

    fn make_disk(&self, member: usize) -> Result<()> {
        self.plan.disks.make(&self.data(member))
    }

    fn log(&self, member: usize) -> PathBuf {
        self.plan.dir.join(format!("logs/member-{member}.log"))
    }

    /// Where clients find a member.
    pub fn target(&self, member: usize) -> Target {
        Target {
            net: std::sync::Arc::new(seams::RealNet),
            node: u32::try_from(member).unwrap_or(u32::MAX),
            address: self.network.client_address(member),
            tls: Some(self.tls.clone()),
        }
    }

    /// Where clients find all members.
    pub fn targets(&self) -> Vec<Target> {
        let members = self.members();
        members.into_iter().map(|at| self.target(at)).collect()
    }

    /// Where clients may find members now or later.
    pub fn possible_targets(&self) -> Vec<Target> {
        (0..self.places.len()).map(|at| self.target(at)).collect()
    }

    /// Says that a member may end by itself from now until it is started again.
    pub fn excuse_exit(&mut self, member: usize) {
        self.places[member].may_exit = true;
    }

    /// Whether a member's process runs. One that ended by itself is noted as a trouble, once.
    pub fn is_up(&mut self, member: usize) -> bool {
        let place = &mut self.places[member];
        let Some(child) = &mut place.child else {
            return false;
        };
        match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                place.child = None;
                if !place.may_exit {
                    let how = match (status.code(), status.signal()) {
                        (Some(code), _) => format!("with code {code}"),
                        (None, signal) => format!("by signal {signal:?}"),
                    };
                    let message = format!("member {member} ended by itself {how}");
                    self.troubles.push(Trouble {
                        of_store: true,
                        message,
                    });
                }
                false
            }
            Err(_) => false,
        }
    }

    /// The most memory that a member's process has held so far, in bytes.
    pub fn peak_memory_bytes(&self, member: usize) -> Option<u64> {
        let pid = self.places[member].child.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    }

    /// Kills all members and removes their data.
    pub fn destroy(mut self) {
        for member in self.members() {
            let _ = self.leave(member);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in 0..self.places.len() {
            let _ = self.kill(member);
        }
    }
}

//! Hollow nodes: nodes that say they run pods, and run nothing. Thousands live in one process, for
//! trying a control plane without containers and for tests of scale.
//!
//! - [`behaviour`]: how their pods behave, and what is wrong with a node
//! - `lifecycle`: the life of a pod, as a pure plan; `script`: how long its containers would run
//! - [`node`]: what a node says of itself, likewise; `addresses`: where it and its pods would be
//! - [`agent`]: watches, timers and writes; [`voice`]: in whose name
//!
//! Each node has an identity of its own (`system:node:NAME` in the group `system:nodes`), registers its
//! Node, renews its Lease and reports its pods, as a kubelet would. What they leave out: containers,
//! volumes, probes, logs, and the kubelet's own port.

mod addresses;
mod agent;
pub mod behaviour;
mod lifecycle;
pub mod node;
pub mod pod;
mod script;
#[cfg(test)]
mod tests;
pub mod voice;

use std::collections::BTreeMap;
use std::time::Duration;

use api::values::ip::Cidr;
use serde_json::Value;

pub use agent::Agent;
pub use behaviour::{Behaviour, Failure};
pub use voice::Voices;

/// What hollow nodes a process runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names are this, a dash and the number.
    pub prefix: String,
    /// The number of the first one, from 1.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// The name of the only one, instead of a prefix and a number.
    pub name: Option<String>,
    /// Node N has its Nth address.
    pub addresses: Cidr,
    /// Node N has its Nth block of [`POD_BITS`], unless the Node names another one.
    pub pod_addresses: Cidr,
    /// Further labels of all nodes.
    pub labels: BTreeMap<String, String>,
    /// Taints of all nodes, as their API has them, given at registration.
    pub taints: Vec<Value>,
    /// Quantities by resource.
    pub capacity: BTreeMap<String, String>,
    /// How pods behave.
    pub behaviour: Behaviour,
    /// What is wrong with all nodes, until the annotation of one says otherwise.
    pub failure: Failure,
    /// Between two signs of life in the Node's status.
    pub report_interval: Duration,
    /// For so long a renewal of a node's Lease holds; it is renewed four times as often.
    pub lease_duration: Duration,
    /// How many writes are under way at a time.
    pub writers: usize,
}

/// The length of the prefix of a node's block of pod addresses, where nobody else gives one.
pub const POD_BITS: u8 = 24;

impl Default for Config {
    fn default() -> Config {
        let block = |base: [u8; 4], bits| Cidr {
            address: base.into(),
            bits,
        };
        let capacity = [
            ("cpu", "8"),
            ("memory", "32Gi"),
            ("pods", "110"),
            ("ephemeral-storage", "100Gi"),
        ];
        Config {
            prefix: "node".into(),
            first: 1,
            count: 1,
            name: None,
            // Set aside for measurements: nobody is there.
            addresses: block([198, 18, 0, 0], 15),
            pod_addresses: block([10, 128, 0, 0], 9),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            capacity: capacity.map(|(k, v)| (k.to_string(), v.to_string())).into(),
            behaviour: Behaviour::default(),
            failure: Failure::None,
            report_interval: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
            writers: 64,
        }
    }
}

impl Config {
    /// The names of all nodes.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let numbers = self.first..self.first.saturating_add(self.count);
        numbers.map(|number| match &self.name {
            Some(name) => name.clone(),
            None => format!("{}-{number}", self.prefix),
        })
    }

    /// What makes it unusable.
    ///
    /// # Errors
    /// Text saying what would be right.
    pub fn check(&self) -> Result<(), String> {
        let last = u128::from(self.first) + u128::from(self.count);
        if addresses::nth(&self.addresses, last).is_none() {
            return Err(format!(
                "{} has no address for node {last}",
                self.addresses.canonical()
            ));
        }
        if addresses::subnet(&self.pod_addresses, POD_BITS, last).is_none() {
            let block = self.pod_addresses.canonical();
            return Err(format!(
                "{block} has no block of /{POD_BITS} for the pods of node {last}"
            ));
        }
        Ok(())
    }
}

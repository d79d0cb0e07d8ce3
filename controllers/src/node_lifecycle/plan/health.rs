//! Whether a node is alive: it has to renew its lease or post its status within a grace period,
//! both measured by when news arrived here, never by the node's own clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use crate::node::Node;

/// The conditions that are unknown once nothing is heard of a node.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long nodes may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace {
    /// Nodes that have posted a status.
    pub running: Duration,
    /// Nodes that have not yet.
    pub starting: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        Grace {
            running: Duration::from_secs(50),
            starting: Duration::from_secs(60),
        }
    }
}

/// What was last heard of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// When news arrived.
    pub heard: Timestamp,
    /// The heartbeat of its condition Ready, if it has one.
    heartbeat: Option<Option<Time>>,
    /// When it renewed its lease, by its own clock.
    renewed: Option<MicroTime>,
}

impl Health {
    /// Starts the grace period anew.
    pub fn forgive(&mut self, now: Timestamp) {
        self.heard = now;
    }
}

/// What a look at a node's health comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What to remember.
    pub health: Health,
    /// The conditions to write, if the node is silent and they do not say so yet.
    pub write: Option<Vec<NodeCondition>>,
    /// The status of Ready before this look.
    pub observed: Ready,
    /// The status of Ready after it; none if there never was one and the node still has time.
    pub current: Option<Ready>,
}

/// Whether a node is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// It is.
    True,
    /// It says that it is not.
    False,
    /// Nothing is heard of it.
    Unknown,
}

impl Ready {
    /// The status of a node's condition Ready.
    pub fn of(node: &Node) -> Option<Ready> {
        Some(match node.condition("Ready")?.status.as_str() {
            "True" => Ready::True,
            "False" => Ready::False,
            _ => Ready::Unknown,
        })
    }
}

/// Looks at a node's health.
pub fn look(
    node: &Node,
    renewed: Option<&MicroTime>,
    known: Option<&Health>,
    grace: Grace,
    now: Timestamp,
) -> Look {
    let ready = node.condition("Ready");
    let observed = Ready::of(node);
    let created = node
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let heartbeat = ready.map(|ready| ready.last_heartbeat_time.clone());
    let mut health = match known {
        Some(known) if known.heartbeat == heartbeat => known.clone(),
        // A node that never posted a status has had its time since it was created.
        None if ready.is_none() => Health {
            heard: created,
            heartbeat,
            renewed: None,
        },
        known => Health {
            heard: now,
            heartbeat,
            renewed: known.and_then(|known| known.renewed.clone()),
        },
    };
    if let Some(renewed) = renewed
        && health
            .renewed
            .as_ref()
            .is_none_or(|before| before.0 < renewed.0)
    {
        health.renewed = Some(renewed.clone());
        health.heard = now;
    }
    let patience = if ready.is_some() {
        grace.running
    } else {
        grace.starting
    };
    let silence = now.duration_since(health.heard);
    let is_silent = silence > patience.try_into().unwrap_or(jiff::SignedDuration::MAX);
    let write = (is_silent && observed.is_none_or(|ready| ready != Ready::Unknown))
        .then(|| unknown(node, created, now));
    Look {
        health,
        current: if is_silent {
            Some(Ready::Unknown)
        } else {
            observed
        },
        write,
        observed: observed.unwrap_or(Ready::Unknown),
    }
}

/// The conditions of a node of which nothing is heard, those that change.
fn unknown(node: &Node, created: Timestamp, now: Timestamp) -> Vec<NodeCondition> {
    let condition = |kind: &str| {
        let (reason, message, heartbeat) = match node.condition(kind) {
            None => (
                "NodeStatusNeverUpdated",
                "Kubelet never posted node status.",
                Some(Time(created)),
            ),
            Some(old) if old.status == "Unknown" => return None,
            Some(old) => (
                "NodeStatusUnknown",
                "Kubelet stopped posting node status.",
                old.last_heartbeat_time.clone(),
            ),
        };
        Some(NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: heartbeat,
            last_transition_time: Some(Time(now)),
        })
    };
    CONDITIONS
        .iter()
        .filter_map(|kind| condition(kind))
        .collect()
}

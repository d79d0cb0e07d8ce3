//! What clients do meanwhile: each workload is a stream of calls for one client.

mod actor;
mod calls;
mod compactor;
mod lease;
pub mod watcher;

pub use actor::Actor;
pub use compactor::compact;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::Target;
use crate::evidence::Check;
use crate::plants::Plant;

/// The members that clients and watchers may go to; it changes when one is gone for good.
pub type Targets = watch::Receiver<Vec<Target>>;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Reads, writes, swaps and deletions of registers.
    Register,
    /// Elements added, each under a key of its own.
    Set,
    /// List-append transactions over a few keys.
    Append,
    /// Many keys written, deleted and written together, for watchers.
    Watch,
    /// Leases granted, renewed, abandoned and revoked.
    Lease,
}

/// All workloads.
pub const WORKLOADS: &[Workload] = &[
    Workload::Register,
    Workload::Set,
    Workload::Append,
    Workload::Watch,
    Workload::Lease,
];

impl Workload {
    /// Its name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Register => "register",
            Workload::Set => "set",
            Workload::Append => "append",
            Workload::Watch => "watch",
            Workload::Lease => "lease",
        }
    }

    /// The checkers that understand it, beyond those that always run.
    pub fn checks(self) -> Vec<Check> {
        match self {
            Workload::Register => vec![Check::Wgl],
            Workload::Set => vec![Check::Set],
            Workload::Append => vec![Check::Append],
            Workload::Watch => vec![],
            Workload::Lease => vec![Check::Lease],
        }
    }
}

/// What all clients of a run share.
#[derive(Debug)]
pub struct Shared {
    /// Source of unique values.
    unique: AtomicU64,
    /// Values are padded to this many bytes.
    value_bytes: usize,
    /// Faults planted into clients.
    plants: Vec<Plant>,
}

impl Shared {
    /// For a run whose values have at least so many bytes.
    pub fn new(value_bytes: usize, plants: impl IntoIterator<Item = Plant>) -> Arc<Shared> {
        Arc::new(Shared {
            unique: AtomicU64::new(1),
            value_bytes,
            plants: plants.into_iter().collect(),
        })
    }

    /// Whether this fault was planted.
    pub fn is_planted(&self, plant: Plant) -> bool {
        self.plants.contains(&plant)
    }

    /// A number nobody else gets.
    pub fn number(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    /// A value nobody else writes.
    pub fn value(&self) -> String {
        let mut value = format!("v{}", self.number());
        if value.len() < self.value_bytes {
            value.push('-');
            value.extend(std::iter::repeat_n('x', self.value_bytes - value.len()));
        }
        value
    }
}

/// Keeps one client busy until `stop` is true. `pause` is the mean time between calls.
pub async fn drive(
    workload: Workload,
    mut actor: Actor,
    shared: Arc<Shared>,
    pause: Duration,
    stop: watch::Receiver<bool>,
) {
    if workload == Workload::Lease {
        lease::drive(&mut actor, &shared, &stop).await;
        return;
    }
    let mut calls = calls::Calls::new(workload, shared);
    while !*stop.borrow() {
        let call = calls.next(&mut actor.dice);
        let answer = actor.perform(&call).await;
        calls.learn(&call, answer.as_ref());
        if answer.is_none() {
            // A member that is down must not be hammered.
            sleep(Duration::from_millis(30 + actor.dice.below(100) as u64)).await;
        }
        let pause = actor.dice.exponential(pause);
        sleep(pause).await;
    }
}

//! The table of scenarios: workload by fault by checkers.

use crate::evidence::Check;
use crate::faults::{FAULTS, Fault};
use crate::workloads::{WORKLOADS, Workload};

/// What a run does.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// `workload-fault`.
    pub name: String,
    /// What clients do.
    pub workload: Workload,
    /// What strikes, in turn.
    pub faults: Vec<Fault>,
    /// Checkers beyond those that always run.
    pub checks: Vec<Check>,
    /// Least size of values: large where a disk is to fill.
    pub value_bytes: usize,
}

/// tmpfs of each member where disks fill: room for preallocated logs and an emergency reserve.
pub const DISK_BYTES: u64 = 768 << 20;

/// All scenarios: every workload without faults, with each fault, with `partitions`,
/// `crashes` and with `mixed`.
pub fn all() -> Vec<Scenario> {
    let single = FAULTS.iter().map(|fault| (fault.name(), vec![*fault]));
    let named = [
        ("none", vec![]),
        (
            "crashes",
            FAULTS
                .iter()
                .copied()
                .filter(|fault| is_crash(*fault))
                .collect(),
        ),
        (
            "partitions",
            FAULTS
                .iter()
                .copied()
                .filter(|fault| fault.needs_networks())
                .collect(),
        ),
        (
            "mixed",
            FAULTS
                .iter()
                .copied()
                .filter(|fault| !fault.needs_disks())
                .collect(),
        ),
    ];
    let faults: Vec<(&str, Vec<Fault>)> = single.chain(named).collect();
    let mut all = Vec::new();
    for workload in WORKLOADS {
        for (name, faults) in &faults {
            let fills = faults.iter().any(|fault| fault.needs_disks());
            all.push(Scenario {
                name: format!("{}-{name}", workload.name()),
                workload: *workload,
                faults: faults.clone(),
                checks: workload.checks(),
                value_bytes: if fills { 16 << 10 } else { 0 },
            });
        }
    }
    all
}

fn is_crash(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::KillOne | Fault::KillLeader | Fault::KillAll | Fault::TornTail
    )
}

/// The scenario of this name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Whether members need networks of their own.
    pub fn needs_networks(&self) -> bool {
        self.faults.iter().any(|fault| fault.needs_networks())
    }

    /// Whether members need small disks.
    pub fn needs_disks(&self) -> bool {
        self.faults.iter().any(|fault| fault.needs_disks())
    }

    /// Whether it can run only in a sandbox.
    pub fn needs_sandbox(&self) -> bool {
        self.needs_networks() || self.needs_disks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let all = all();
        let names: std::collections::BTreeSet<_> = all.iter().map(|s| &s.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(find("register-isolate-leader").is_some_and(|s| s.needs_networks()));
        assert!(find("set-kill-all").is_some_and(|s| !s.needs_sandbox()));
    }
}

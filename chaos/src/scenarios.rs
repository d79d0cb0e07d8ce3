//! The table of scenarios: workload by fault by checkers.

use crate::cluster::Disks;
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
    /// Whether history is compacted all the time.
    pub compacts: bool,
}

/// Each member's disk where it has one: room for preallocated logs and an emergency reserve.
const DISK_BYTES: u64 = 768 << 20;

/// All scenarios: every workload, and `compaction`, without faults, with each fault, and with
/// groups of faults: `partitions`, `crashes`, `churn` and `mixed`.
pub fn all() -> Vec<Scenario> {
    let faults = groups();
    let mut all = Vec::new();
    for (name, faults) in &faults {
        let scenario = |name: String, workload: Workload, compacts| Scenario {
            name,
            workload,
            faults: faults.clone(),
            checks: workload.checks(),
            value_bytes: if faults.contains(&Fault::DiskFull) {
                16 << 10
            } else {
                0
            },
            compacts,
        };
        for workload in WORKLOADS {
            let name = format!("{}-{name}", workload.name());
            all.push(scenario(name, *workload, false));
        }
        all.push(scenario(
            format!("compaction-{name}"),
            Workload::Watch,
            true,
        ));
    }
    all
}

fn groups() -> Vec<(&'static str, Vec<Fault>)> {
    let all = |wanted: &dyn Fn(Fault) -> bool| -> Vec<Fault> {
        let faults = FAULTS.iter().copied();
        faults.filter(|fault| wanted(*fault)).collect()
    };
    let mut groups: Vec<_> = FAULTS.iter().map(|f| (f.name(), vec![*f])).collect();
    groups.extend([
        ("none", vec![]),
        ("crashes", all(&is_crash)),
        ("partitions", all(&Fault::needs_networks)),
        ("churn", all(&|f| f.needs_spare() || f == Fault::MoveLeader)),
        // A disk is small or mortal.
        ("mixed", all(&|f| !f.needs_small_disks())),
    ]);
    groups
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

    /// The disks that members need.
    pub fn disks(&self) -> Disks {
        if self.faults.iter().any(|fault| fault.needs_small_disks()) {
            Disks::Small(DISK_BYTES)
        } else if self.faults.iter().any(|fault| fault.needs_mortal_disks()) {
            Disks::Mortal(DISK_BYTES)
        } else {
            Disks::Shared
        }
    }

    /// Places that members need to join.
    pub fn spares(&self) -> usize {
        usize::from(self.faults.iter().any(|fault| fault.needs_spare()))
    }

    /// Whether it can run only in a sandbox.
    pub fn needs_sandbox(&self) -> bool {
        self.needs_networks() || self.disks() != Disks::Shared
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
        assert!(find("compaction-partitions").is_some_and(|s| s.compacts));
        assert!(find("append-mixed").is_some_and(|s| s.faults.len() == FAULTS.len() - 1));
    }
}

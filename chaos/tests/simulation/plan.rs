//! What a seed stands for: sizes, speeds, a workload, and the faults that may strike.

use std::time::Duration;

use chaos::dice::Dice;
use chaos::workloads::{WORKLOADS, Workload};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    CrashOne,
    CrashLeader,
    CrashAll,
    Split,
    IsolateLeader,
    OneWay,
    Flap,
    Stall,
    CutClients,
    Delay,
    SlowDisk,
    Transfer,
    Stop,
    Compact,
    Replace,
    Join,
}

impl Fault {
    /// Its name among the situations.
    pub fn name(self) -> String {
        format!("fault {self:?}")
    }
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault::CrashOne,
    Fault::CrashLeader,
    Fault::CrashAll,
    Fault::Split,
    Fault::IsolateLeader,
    Fault::OneWay,
    Fault::Flap,
    Fault::Stall,
    Fault::CutClients,
    Fault::Delay,
    Fault::SlowDisk,
    Fault::Transfer,
    Fault::Stop,
    Fault::Compact,
    Fault::Replace,
    Fault::Join,
];

/// A simulation, before it runs. The seed and the number of members say it all.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub members: usize,
    pub workload: Workload,
    pub faults: Vec<Fault>,
    /// Mean time between two faults.
    pub between: Duration,
    /// How long faults strike.
    pub span: Duration,
    pub latency_max: Duration,
    pub clients: u64,
    pub pause: Duration,
    /// Values are padded to so many bytes.
    pub value_bytes: usize,
    pub log_entries_kept: u64,
    pub checkpoint_log_bytes: u64,
    pub log_segment_bytes: u64,
    pub log_cache_bytes: usize,
    pub ring_bytes: usize,
    /// Whether a crash can tear a write into blocks.
    pub torn_writes: bool,
    /// Whether one member stays down when the others must serve again.
    pub one_stays_down: bool,
    pub mutants: raft_store::mutants::Mutants,
}

impl Plan {
    /// What the seed stands for.
    pub fn new(seed: u64, members: usize) -> Plan {
        let mut dice = Dice::new(seed).fork(members as u64);
        let mut pick = |choices: &[u64]| choices[dice.below(choices.len())];
        let millis = Duration::from_millis;
        let mut plan = Plan {
            seed,
            members,
            workload: WORKLOADS[pick(&[0, 0, 1, 2, 3, 4]) as usize],
            faults: Vec::new(),
            between: millis(pick(&[300, 600, 1200])),
            span: millis(pick(&[4000, 6000, 8000])),
            latency_max: millis(pick(&[2, 5, 20, 50])),
            clients: pick(&[3, 5, 8]),
            pause: millis(pick(&[20, 60, 120])),
            // Some span several blocks of a disk, which a crash can tear apart.
            value_bytes: pick(&[0, 1500, 5000]) as usize,
            log_entries_kept: pick(&[3, 20, 1000]),
            checkpoint_log_bytes: pick(&[1 << 10, 8 << 10, 1 << 20]),
            log_segment_bytes: pick(&[4 << 10, 16 << 10, 256 << 10]),
            log_cache_bytes: pick(&[256, 4 << 10, 1 << 20]) as usize,
            ring_bytes: pick(&[2 << 10, 16 << 10, 1 << 20]) as usize,
            torn_writes: pick(&[0, 1, 1]) == 1,
            one_stays_down: pick(&[0, 0, 1]) == 1,
            mutants: raft_store::mutants::Mutants::default(),
        };
        let share = [20, 40, 70][dice.below(3)];
        plan.faults = FAULTS
            .iter()
            .copied()
            .filter(|_| dice.chance(share))
            .collect();
        plan
    }
}

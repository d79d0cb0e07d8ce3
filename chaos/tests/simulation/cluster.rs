//! The members as hosts of the simulation: how each life begins, and the handles to those alive.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use raft_store::Store;
use raft_store::engine::{MemoryEngine, OpenEngine};
use raft_store::error::Error;
use raft_store::member::Member;
use raft_store::member::config::{Config, Start};
use raft_store::pb::etcdserverpb::CompactionRequest;
use seams::Seams;
use seams::sim::SimDisk;
use tokio::sync::mpsc;

use crate::plan::Plan;

pub const PEER_PORT: u16 = 2380;
pub const CLIENT_PORT: u16 = 2379;

/// What the nemesis asks of a member's process.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    /// Hand leadership to another member.
    Transfer(u64),
    /// Remove a member from the cluster.
    Remove(u64),
    /// Forget the history up to so many revisions before now.
    Compact(i64),
    /// Stop in good order.
    Stop,
}

/// How the next life of a host begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Not at all.
    Absent,
    /// As a founding member.
    Found,
    /// By joining the others.
    Join {
        /// Without a vote for good.
        learner: bool,
    },
}

/// One host.
pub struct Slot {
    pub member: Option<Member>,
    pub disk: Option<Arc<SimDisk>>,
    pub commands: Option<mpsc::UnboundedSender<Command>>,
    pub begin: Begin,
    /// Counts up when the disk is replaced.
    pub incarnation: u64,
    lives: u64,
    /// The ID it had when it last ran.
    pub last_id: Option<u64>,
    /// Why its last start failed.
    pub refused: Option<String>,
}

/// All hosts.
pub struct Slots {
    pub slots: Vec<Slot>,
    /// Members whose removal was carried out.
    pub removed: BTreeSet<u64>,
}

/// Shared by the simulation's hosts, which run on one thread.
pub type Shared = Rc<RefCell<Slots>>;

/// Hosts for the plan's members and one more that may join.
pub fn hosts(plan: &Plan) -> Shared {
    let slots = (0..=plan.members).map(|at| Slot {
        member: None,
        disk: None,
        commands: None,
        begin: if at < plan.members {
            Begin::Found
        } else {
            Begin::Absent
        },
        incarnation: 0,
        lives: 0,
        last_id: None,
        refused: None,
    });
    Rc::new(RefCell::new(Slots {
        slots: slots.collect(),
        removed: BTreeSet::new(),
    }))
}

pub fn host_name(at: usize) -> String {
    format!("m{at}")
}

fn peer_url(at: usize) -> String {
    format!("http://m{at}:{PEER_PORT}")
}

fn config(plan: &Plan, at: usize, slot: &Slot) -> Config {
    let start = match slot.begin {
        Begin::Found | Begin::Absent => Start::New {
            members: (0..plan.members)
                .map(|at| (host_name(at), vec![peer_url(at)]))
                .collect(),
            token: "simulation".to_owned(),
        },
        Begin::Join { learner } => Start::Join {
            peers: (0..=plan.members)
                .filter(|peer| *peer != at)
                .map(peer_url)
                .collect(),
            learner,
        },
    };
    let data = format!("/data-{}", slot.incarnation);
    let mut config = Config::new(host_name(at), data, start);
    config.listen_peer = vec![format!("0.0.0.0:{PEER_PORT}")];
    config.listen_client = vec![format!("0.0.0.0:{CLIENT_PORT}")];
    config.advertise_peer = vec![peer_url(at)];
    config.advertise_client = vec![format!("http://m{at}:{CLIENT_PORT}")];
    config.limits.log_entries_kept = plan.log_entries_kept;
    config.limits.checkpoint_log_bytes = plan.checkpoint_log_bytes;
    config.limits.log_segment_bytes = plan.log_segment_bytes;
    config.limits.log_cache_bytes = plan.log_cache_bytes;
    config.limits.ring_bytes = plan.ring_bytes;
    config.watch_progress_interval = Duration::from_millis(500);
    config.hash_check_interval = Duration::from_secs(2);
    config.lease_checkpoint_interval = Duration::from_millis(1100);
    config.mutants = plan.mutants;
    config
}

/// One life of a host, until it is crashed or told to stop.
pub async fn live(slots: Shared, plan: Plan, at: usize) -> turmoil::Result {
    let (config, seams, mut commands) = {
        let mut all = slots.borrow_mut();
        let slot = &mut all.slots[at];
        if slot.begin == Begin::Absent {
            return Ok(());
        }
        slot.lives += 1;
        slot.refused = None;
        let seed = plan.seed.wrapping_mul(1009) + at as u64 * 101 + slot.lives;
        let disk = Arc::new(SimDisk::new(seed));
        let seams = Seams {
            disk: disk.clone(),
            ..Seams::simulated(seed)
        };
        slot.disk = Some(disk);
        let (sender, receiver) = mpsc::unbounded_channel();
        slot.commands = Some(sender);
        (config(&plan, at, slot), seams, receiver)
    };
    let disk = seams.disk.clone();
    let open: OpenEngine =
        Arc::new(move |dir| Ok(Arc::new(MemoryEngine::open(disk.clone(), dir)?)));
    let member = match Member::start_with(config, seams, open).await {
        Ok(member) => member,
        Err(error) => {
            slots.borrow_mut().slots[at].refused = Some(format!("{error}"));
            return Ok(());
        }
    };
    {
        let slot = &mut slots.borrow_mut().slots[at];
        slot.last_id = Some(member.id());
        slot.member = Some(member.clone());
    }
    while let Some(command) = commands.recv().await {
        let member = member.clone();
        match command {
            Command::Stop => {
                // Raft says that it has stopped, which it was told to.
                slots.borrow_mut().slots[at].member = None;
                member.shutdown().await;
                return Ok(());
            }
            Command::Transfer(target) => {
                tokio::task::spawn_local(async move { member.move_leader(target).await });
            }
            Command::Compact(behind) => {
                let revision = member.mvcc().revision() - behind;
                let request = CompactionRequest {
                    revision,
                    physical: false,
                };
                tokio::task::spawn_local(async move { member.compact(request).await });
            }
            Command::Remove(id) => {
                let slots = slots.clone();
                tokio::task::spawn_local(async move {
                    let removed = member.member_remove(id).await;
                    if matches!(removed, Ok(_) | Err(Error::MemberNotFound)) {
                        slots.borrow_mut().removed.insert(id);
                    }
                });
            }
        }
    }
    Ok(())
}

impl Slots {
    /// The members that run, with their places.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Member)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| Some((at, slot.member.as_ref()?)))
    }

    /// Where the newest leader is.
    pub fn leader(&self) -> Option<usize> {
        self.running()
            .map(|(at, member)| (member.standing(), at))
            .filter(|(standing, _)| standing.leads)
            .max_by_key(|(standing, _)| standing.term)
            .map(|(_, at)| at)
    }

    /// Sends a command to a member, if it runs.
    pub fn tell(&self, at: usize, command: Command) {
        if let Some(commands) = &self.slots[at].commands {
            let _ = commands.send(command);
        }
    }

    /// Forgets the handles of a host that is about to crash.
    pub fn forget(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.member = None;
        slot.disk = None;
        slot.commands = None;
    }
}

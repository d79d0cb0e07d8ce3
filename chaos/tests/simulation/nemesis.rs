//! Who hurts the members: one fault after the other, several at a time, by seed.

use std::collections::{BTreeSet, VecDeque};
use std::task::Poll;
use std::time::Duration;

use chaos::dice::Dice;
use futures::FutureExt as _;
use raft_store::member::Member;
use turmoil::Sim;

use crate::cluster::{Begin, Command, Shared, host_name};
use crate::invariants::Invariants;
use crate::plan::{Fault, Plan};
use crate::situations::Situations;

/// The clients' host.
pub const CLIENTS: &str = "clients";

/// Something to do later.
#[derive(Debug, Clone)]
enum Deed {
    /// Crashes a host that is up.
    Crash(usize),
    /// Starts a host that is down.
    Start(usize),
    /// Cuts or mends links.
    Links(Links, bool),
    /// Latency as planned.
    Prompt,
    /// Disks as fast as usual.
    FastDisk(usize),
    /// The next step of replacing a member whose disk is lost.
    Replace(usize, Replacing),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replacing {
    /// It was started without its disk and must have been refused.
    Refused,
    /// It is being removed from the cluster.
    Removing,
}

#[derive(Debug, Clone)]
struct Links {
    how: How,
    pairs: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Drop,
    OneWay,
    Hold,
}

pub struct Nemesis {
    plan: Plan,
    dice: Dice,
    hosts: Shared,
    next: Duration,
    later: VecDeque<(Duration, Deed)>,
    /// One fault of the network at a time: they share the links' state.
    network_busy: bool,
    /// Hosts that are down, or on their way to a new identity.
    down: Vec<bool>,
    pub deeds: Vec<String>,
    pub situations: Situations,
    pub now: Duration,
    founded: bool,
}

impl Nemesis {
    pub fn new(plan: &Plan, hosts: Shared) -> Nemesis {
        Nemesis {
            dice: Dice::new(plan.seed).fork(0x4E4D),
            hosts,
            next: Duration::ZERO,
            later: VecDeque::new(),
            network_busy: false,
            down: (0..=plan.members).map(|at| at == plan.members).collect(),
            deeds: Vec::new(),
            situations: Situations::default(),
            now: Duration::ZERO,
            founded: false,
            plan: plan.clone(),
        }
    }

    fn note(&mut self, deed: String) {
        tracing::info!(target: "raft_store::nemesis", deed);
        self.deeds
            .push(format!("{:>7.3} {deed}", self.now.as_secs_f64()));
    }

    fn after(&mut self, delay: Duration, deed: Deed) {
        self.later.push_back((self.now + delay, deed));
    }

    fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.dice.below(to - from)) as u64)
    }

    /// Does what is due. New faults only while `striking`.
    pub fn act(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants, striking: bool) {
        self.now = sim.elapsed();
        let due: Vec<Deed> = {
            let now = self.now;
            let (due, later) = self.later.drain(..).partition(|(at, _)| *at <= now);
            self.later = later;
            let due: VecDeque<(Duration, Deed)> = due;
            due.into_iter().map(|(_, deed)| deed).collect()
        };
        for deed in due {
            self.finish(sim, invariants, deed);
        }
        if !striking || self.now < self.next {
            return;
        }
        if !self.founded {
            self.founded = self.hosts.borrow().leader().is_some();
            self.next = self.now
                + if self.founded {
                    self.plan.between
                } else {
                    Duration::from_millis(20)
                };
            return;
        }
        self.next = self.now + self.dice.exponential(self.plan.between);
        let faults = self.plan.faults.clone();
        if let Some(fault) = self.dice.pick(&faults).copied() {
            let before = self.deeds.len();
            self.strike(sim, invariants, fault);
            if self.deeds.len() > before {
                self.situations.add(&fault.name(), 1);
            }
        }
    }

    /// Mends everything but what takes time.
    pub fn heal(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants) {
        let later: Vec<_> = self.later.drain(..).collect();
        for (_, deed) in later {
            self.finish(sim, invariants, deed);
        }
    }

    /// Takes one member down for good, if that is planned, and says which: pending as long as
    /// members join or leave, which a majority of the old ones may be needed for.
    pub fn bereave(
        &mut self,
        sim: &mut Sim<'_>,
        invariants: &mut Invariants,
    ) -> Poll<Option<usize>> {
        if !self.plan.one_stays_down {
            return Poll::Ready(None);
        }
        let founders = {
            let hosts = self.hosts.borrow();
            let begun = hosts.slots.iter().map(|slot| slot.begin);
            begun
                .take(self.plan.members + 1)
                .all(|begin| !matches!(begin, Begin::Join { .. }))
        };
        if !founders && !self.is_settled() {
            return Poll::Pending;
        }
        let at = self.dice.below(self.plan.members);
        self.note(format!("m{at} stays down"));
        self.crash(sim, invariants, at);
        Poll::Ready(Some(at))
    }

    /// Whether everything that was begun is done.
    pub fn is_idle(&self) -> bool {
        self.later.is_empty()
    }

    fn up(&self) -> Vec<usize> {
        (0..self.down.len()).filter(|at| !self.down[*at]).collect()
    }

    fn crash(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants, at: usize) {
        self.down[at] = true;
        self.hosts.borrow_mut().forget(at);
        invariants.ended(at);
        sim.crash(host_name(at));
    }

    fn start(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants, at: usize) {
        if sim.is_host_running(host_name(at)) {
            self.crash(sim, invariants, at);
        }
        self.down[at] = false;
        self.hosts.borrow_mut().forget(at);
        invariants.ended(at);
        sim.bounce(host_name(at));
    }

    fn strike(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants, fault: Fault) {
        let up = self.up();
        let one = self.dice.pick(&up).copied();
        let leader = self.hosts.borrow().leader().filter(|at| !self.down[*at]);
        match fault {
            Fault::CrashOne | Fault::CrashLeader => {
                let victim = if fault == Fault::CrashOne {
                    one
                } else {
                    leader
                };
                let Some(at) = victim else { return };
                self.finish(sim, invariants, Deed::Crash(at));
            }
            Fault::CrashAll => {
                self.note("crash all".to_owned());
                for at in up {
                    self.crash(sim, invariants, at);
                    let pause = self.millis(1, 800);
                    self.after(pause, Deed::Start(at));
                }
            }
            Fault::Stop => {
                let Some(at) = one else { return };
                self.note(format!("stop m{at}"));
                self.down[at] = true;
                self.hosts.borrow().tell(at, Command::Stop);
                let pause = self.millis(1000, 3000);
                self.after(pause, Deed::Start(at));
            }
            Fault::Transfer => {
                if let (Some(from), Some(to)) = (leader, one) {
                    let hosts = self.hosts.borrow();
                    let target = hosts.slots[to].last_id.unwrap_or(0);
                    hosts.tell(from, Command::Transfer(target));
                    drop(hosts);
                    self.note(format!("transfer from m{from} to m{to}"));
                }
            }
            Fault::Compact => {
                if let Some(at) = one {
                    // Often without mercy for watchers that are just about to resume.
                    let behind = [0, 0, 3, 40][self.dice.below(4)];
                    self.hosts.borrow().tell(at, Command::Compact(behind));
                    self.note(format!("compact but {behind} revisions"));
                }
            }
            Fault::SlowDisk => {
                let Some(at) = one else { return };
                let worst = [30, 100, 400][self.dice.below(3)];
                if let Some(disk) = &self.hosts.borrow().slots[at].disk {
                    disk.set_sync_latency_max_ms(worst);
                }
                self.note(format!("disk of m{at} takes up to {worst} ms"));
                // With writes on their way to the disk.
                if self.dice.chance(50) {
                    let pause = self.millis(50, 400);
                    self.after(pause, Deed::Crash(at));
                }
                let pause = self.millis(200, 2000);
                self.after(pause, Deed::FastDisk(at));
            }
            Fault::Delay => {
                let worst = self.millis(20, 300);
                sim.set_max_message_latency(worst);
                self.note(format!("messages take up to {worst:?}"));
                let pause = self.millis(200, 1500);
                self.after(pause, Deed::Prompt);
            }
            Fault::Join => self.join(sim, invariants),
            Fault::Replace => self.lose_disk(sim, invariants, one),
            _ => self.cut(sim, fault, leader, one),
        }
    }

    /// Lets the spare host join.
    fn join(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants) {
        let at = self.plan.members;
        if self.hosts.borrow().slots[at].begin != Begin::Absent {
            return;
        }
        // As a voter: clients read from every member, and learners refuse most reads, as etcd's.
        let learner = false;
        self.note(format!("m{at} joins"));
        self.hosts.borrow_mut().slots[at].begin = Begin::Join { learner };
        self.start(sim, invariants, at);
    }

    /// A member loses its disk. Only one at a time, and only when the others are well: what is
    /// lost with a majority is lost.
    fn lose_disk(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants, one: Option<usize>) {
        let Some(at) = one else { return };
        let replacing = self
            .later
            .iter()
            .any(|(_, deed)| matches!(deed, Deed::Replace(..)));
        if replacing || self.network_busy || !self.is_settled() {
            return;
        }
        self.crash(sim, invariants, at);
        let refused = {
            let mut hosts = self.hosts.borrow_mut();
            let slot = &mut hosts.slots[at];
            slot.incarnation += 1;
            slot.begin == Begin::Found && self.dice.chance(70)
        };
        self.note(format!(
            "m{at} loses its disk{}",
            if refused { " and comes back" } else { "" }
        ));
        let next = if refused {
            self.start(sim, invariants, at);
            self.down[at] = true;
            Replacing::Refused
        } else {
            Replacing::Removing
        };
        self.after(Duration::from_millis(200), Deed::Replace(at, next));
    }

    /// Whether every host that has begun runs, and all of them agree that they are the members,
    /// voters every one, that each has started, and that this is not about to change.
    fn is_settled(&self) -> bool {
        let hosts = self.hosts.borrow();
        let slots = hosts.slots.iter();
        let begun = slots.filter(|slot| slot.begin != Begin::Absent);
        let running: Option<BTreeSet<u64>> =
            begun.map(|slot| Some(slot.member.as_ref()?.id())).collect();
        let Some(running) = running else {
            return false;
        };
        let agrees = |member: &Member| {
            let members = member.members(false).now_or_never();
            let members = members.and_then(Result::ok).unwrap_or_default();
            !member.standing().is_joint
                && members.len() == running.len()
                && members.iter().all(|known| {
                    running.contains(&known.id)
                        && !known.is_learner
                        && !known.client_ur_ls.is_empty()
                })
        };
        hosts.running().all(|(_, member)| agrees(member))
    }

    fn replace(
        &mut self,
        sim: &mut Sim<'_>,
        invariants: &mut Invariants,
        at: usize,
        step: Replacing,
    ) {
        let old = self.hosts.borrow().slots[at].last_id.unwrap_or(0);
        if step == Replacing::Refused {
            let hosts = self.hosts.borrow();
            let slot = &hosts.slots[at];
            if slot.member.is_some() {
                let planted = self.plan.mutants.wiped_member_keeps_identity;
                drop(hosts);
                if !planted {
                    invariants.problems.push(format!(
                        "invariant identity: m{at} came back under its old identity without its disk"
                    ));
                }
                self.down[at] = false;
                return;
            }
            let refused = slot.refused.is_some();
            drop(hosts);
            if refused {
                self.situations.add("wiped member refused", 1);
            }
            let next = if refused { Replacing::Removing } else { step };
            self.after(Duration::from_millis(100), Deed::Replace(at, next));
            return;
        }
        if self.hosts.borrow().removed.contains(&old) {
            self.note(format!("m{at} joins anew"));
            {
                let mut hosts = self.hosts.borrow_mut();
                hosts.slots[at].incarnation += 1;
                hosts.slots[at].begin = Begin::Join { learner: false };
            }
            self.start(sim, invariants, at);
            return;
        }
        let up = self.up();
        if let Some(asked) = self.dice.pick(&up).copied() {
            self.hosts.borrow().tell(asked, Command::Remove(old));
        }
        self.after(
            Duration::from_millis(300),
            Deed::Replace(at, Replacing::Removing),
        );
    }

    fn cut(&mut self, sim: &mut Sim<'_>, fault: Fault, leader: Option<usize>, one: Option<usize>) {
        if self.network_busy {
            return;
        }
        let all: Vec<String> = (0..self.down.len()).map(host_name).collect();
        let mut side: Vec<String> = match fault {
            Fault::IsolateLeader => leader.map(host_name).into_iter().collect(),
            Fault::CutClients => vec![CLIENTS.to_owned()],
            _ => all
                .iter()
                .filter(|_| self.dice.chance(50))
                .cloned()
                .collect(),
        };
        if side.is_empty() {
            side.extend(one.map(host_name));
        }
        let mut other: Vec<String> = all
            .iter()
            .filter(|name| !side.contains(name))
            .cloned()
            .collect();
        match fault {
            Fault::CutClients => other.retain(|_| self.dice.chance(60)),
            // Clients stay with either side, or reach both.
            _ => match self.dice.below(3) {
                0 => other.push(CLIENTS.to_owned()),
                1 => side.push(CLIENTS.to_owned()),
                _ => {}
            },
        }
        let pairs: Vec<(String, String)> = side
            .iter()
            .flat_map(|a| other.iter().map(move |b| (a.clone(), b.clone())))
            .collect();
        let how = match fault {
            Fault::OneWay => How::OneWay,
            Fault::Stall => How::Hold,
            _ => How::Drop,
        };
        let pairs = if how == How::OneWay && self.dice.chance(50) {
            pairs.into_iter().map(|(a, b)| (b, a)).collect()
        } else {
            pairs
        };
        self.note(format!("{fault:?}: {how:?} between {side:?} and {other:?}"));
        let links = Links { how, pairs };
        self.network_busy = true;
        let mut at = Duration::ZERO;
        let rounds = if fault == Fault::Flap {
            2 + self.dice.below(6)
        } else {
            1
        };
        for round in 0..rounds {
            if round == 0 {
                set_links(sim, &links, true);
            } else {
                self.after(at, Deed::Links(links.clone(), true));
            }
            at += if fault == Fault::Flap {
                self.millis(50, 400)
            } else {
                self.millis(100, 2500)
            };
            self.after(at, Deed::Links(links.clone(), false));
            at += self.millis(20, 300);
        }
    }

    fn finish(&mut self, sim: &mut Sim<'_>, invariants: &mut Invariants, deed: Deed) {
        match deed {
            Deed::Crash(at) if self.down[at] => {}
            Deed::Crash(at) => {
                self.note(format!("crash m{at}"));
                self.crash(sim, invariants, at);
                let pause = self.millis(1, 1500);
                self.after(pause, Deed::Start(at));
            }
            Deed::Start(at) => {
                self.note(format!("start m{at}"));
                self.start(sim, invariants, at);
            }
            Deed::Links(links, cut) => {
                set_links(sim, &links, cut);
                let more = self
                    .later
                    .iter()
                    .any(|(_, deed)| matches!(deed, Deed::Links(..)));
                if !more {
                    set_links(sim, &links, false);
                    self.network_busy = false;
                    self.note("links are whole".to_owned());
                }
            }
            Deed::Prompt => sim.set_max_message_latency(self.plan.latency_max),
            Deed::FastDisk(at) => {
                if let Some(disk) = &self.hosts.borrow().slots[at].disk {
                    disk.set_sync_latency_max_ms(10);
                }
            }
            Deed::Replace(at, step) => self.replace(sim, invariants, at, step),
        }
    }
}

fn set_links(sim: &mut Sim<'_>, links: &Links, cut: bool) {
    for (a, b) in &links.pairs {
        let (a, b) = (a.as_str(), b.as_str());
        match (links.how, cut) {
            (How::Drop, true) => sim.partition(a, b),
            (How::Drop, false) => sim.repair(a, b),
            (How::OneWay, true) => sim.partition_oneway(a, b),
            (How::OneWay, false) => sim.repair_oneway(a, b),
            (How::Hold, true) => sim.hold(a, b),
            (How::Hold, false) => sim.release(a, b),
        }
    }
}

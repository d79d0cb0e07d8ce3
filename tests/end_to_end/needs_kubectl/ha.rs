//! Masters that lead are killed, frozen and restarted under load; then everything that clients were told
//! and everything that watches saw is judged.
//!
//! - [`arena`]: a cluster under load, who leads it, and the judgement at its end
//! - [`server`]: requests over HTTPS, as programs send them
//! - [`load`]: what is written, and what was acknowledged of it
//! - [`witness`]: what watches saw; [`judge`]: what they must not see
//!
//! - [`needs_netns`]: a master that is cut off from the others
//!
//! Every scenario runs once; `soak_…` runs it 50 times.

mod arena;
mod judge;
mod load;
mod needs_netns;
mod server;
mod witness;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use self::arena::{Arena, Role};

const SOAK: usize = 50;

/// Whoever leads something dies: one after the other, and then all of them at once.
fn leaders_are_killed() {
    let arena = Arena::start();
    for role in Role::ALL {
        let master = arena.leader(role);
        arena.note(&format!(
            "kill -9 of master-{master}, which leads the {role:?}"
        ));
        arena.dev.kill(master);
        arena.others_lead(master);
        arena.work_is_done();
        arena.restart(master);
    }
    let all: BTreeSet<u16> = Role::ALL
        .into_iter()
        .map(|role| arena.leader(role))
        .collect();
    arena.note(&format!("kill -9 of all that lead: {all:?}"));
    all.iter().for_each(|master| arena.dev.kill(*master));
    all.iter().for_each(|master| arena.restart(*master));
    arena.work_is_done();
    arena.finish();
}

/// A master stops while it leads, and goes on once others lead: it must change nothing.
fn a_leader_is_frozen(at_least: Duration) {
    let arena = Arena::start();
    for role in Role::ALL {
        let master = arena.leader(role);
        let leads = Role::LEASES.map(|lease| (lease, arena.leader(lease) == master));
        arena.note(&format!(
            "master-{master}, which leads the {role:?}, is frozen"
        ));
        let pid = arena.dev.pid(master).unwrap();
        let terms = leads.map(|(lease, led)| led.then(|| arena.terms_ended(master, lease)));
        let frozen = Instant::now();
        crate::support::signal(pid, Signal::SIGSTOP);
        arena.others_lead(master);
        arena.work_is_done();
        thread::sleep(at_least.saturating_sub(frozen.elapsed()));
        crate::support::signal(pid, Signal::SIGCONT);
        arena.note("it goes on");
        for ((lease, _), before) in leads.into_iter().zip(terms) {
            if let Some(before) = before {
                // It believed that it led until now.
                arena.notices_its_end(master, lease, before);
            }
        }
        arena.serves(master);
        arena.former_terms_write_nothing();
    }
    arena.finish();
}

/// Masters are restarted one by one, as an upgrade does it.
fn masters_are_restarted_in_turn() {
    let arena = Arena::start();
    for master in 1..=3 {
        arena.note(&format!("master-{master} is restarted"));
        let pid = arena.dev.pid(master).unwrap();
        crate::support::signal(pid, Signal::SIGTERM);
        crate::support::until("it ends", || !crate::support::alive(pid));
        arena.restart(master);
        arena.work_is_done();
    }
    arena.finish();
}

#[test]
fn leaders_may_be_killed() {
    leaders_are_killed();
}

#[test]
fn frozen_leaders_change_nothing_when_they_go_on() {
    a_leader_is_frozen(Duration::ZERO);
}

#[test]
fn masters_may_be_restarted_in_turn() {
    masters_are_restarted_in_turn();
}

#[test]
#[ignore = "50 times the same"]
fn soak_leaders_killed() {
    (0..SOAK).for_each(|_| leaders_are_killed());
}

#[test]
#[ignore = "50 times the same, half a minute each"]
fn soak_leaders_frozen() {
    (0..SOAK).for_each(|_| a_leader_is_frozen(Duration::from_secs(30)));
}

#[test]
#[ignore = "50 times the same"]
fn soak_masters_restarted() {
    (0..SOAK).for_each(|_| masters_are_restarted_in_turn());
}

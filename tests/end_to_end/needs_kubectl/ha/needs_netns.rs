//! A master that nobody hears any more and that hears nobody, while it goes on running.
//!
//! Each master runs under a group of its own, by which a packet filter knows what it sends. Everything is in
//! a network of its own, which ends with the test.

use std::cell::RefCell;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::SOAK;
use super::arena::{Arena, Role};
use crate::support::{Dev, Talk, must, succeeded, until};

/// Set where the network is the test's own.
const MARK: &str = "END_TO_END_SANDBOX";
/// The group of the first master.
const GROUP: u16 = 61_001;

/// Runs a test of this program in a network of its own.
fn sandboxed(test: &str, run: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        system("ip", &["link", "set", "lo", "up"]);
        return run();
    }
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ]);
    command.arg(std::env::current_exe().unwrap());
    let name = format!("needs_kubectl::ha::needs_netns::{test}");
    command.args([&name, "--exact", "--include-ignored", "--nocapture"]);
    let status = command
        .env(MARK, "1")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{test} in a network of its own: {status}");
}

fn system(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    succeeded(&format!("{program} {arguments:?}"), &output)
}

fn nft(rule: &str) {
    system("nft", &[rule]);
}

/// Masters that can be cut off.
struct Apart {
    base: u16,
    processes: Vec<Talk>,
}

impl Apart {
    /// Starts the masters of a cluster again, each under its group.
    fn start(dev: &Dev) -> Apart {
        nft("add table inet cut");
        nft("add chain inet cut input { type filter hook input priority 0; }");
        nft("add chain inet cut output { type filter hook output priority 0; }");
        let definition = fs::read_to_string(dev.dir.join("cluster.yaml")).unwrap();
        let base = definition
            .lines()
            .find_map(|line| line.strip_prefix("port-base: ")?.parse().ok())
            .unwrap();
        let processes = (1..=3).map(|master| {
            let name = format!("master-{master}");
            must(&["dev", "stop", &name, "--data", dev.data()]);
            let group = (GROUP + master).to_string();
            let mut command = Command::new("setpriv");
            command.args(["--regid", &group, "--clear-groups", "--"]);
            command.args([env!("CARGO_BIN_EXE_trireme"), "server", "--config"]);
            command.arg(dev.dir.join(&name).join("server.yaml"));
            let path = dev.dir.join(&name).join("log");
            let log = fs::File::options().append(true).open(path).unwrap();
            command.stdin(Stdio::null()).stderr(log);
            let process = Talk::start(command);
            let there = dev.kubectl().with(&["--context", &name]);
            until("the master serves again", || {
                there.succeeds(&["get", "--raw", "/readyz"])
            });
            process
        });
        Apart {
            base,
            processes: processes.collect(),
        }
    }

    /// From now on nothing that a master sends arrives, and nothing reaches it.
    fn cut_off(&self, master: u16) {
        let group = GROUP + master;
        let first = self.base + 10 * master;
        nft(&format!("add rule inet cut output meta skgid {group} drop"));
        nft(&format!(
            "add rule inet cut input tcp dport {first}-{} drop",
            first + 9
        ));
    }

    fn heal(&self) {
        nft("flush chain inet cut input");
        nft("flush chain inet cut output");
    }
}

/// Whoever leads something is cut off until others lead, and must change nothing when it is back.
fn leaders_are_cut_off(at_least: Duration) {
    let apart = RefCell::new(None);
    let arena = Arena::prepared(|dev| *apart.borrow_mut() = Some(Apart::start(dev)));
    let mut apart = apart.into_inner().unwrap();
    for role in Role::ALL {
        let master = arena.leader(role);
        arena.note(&format!(
            "master-{master}, which leads the {role:?}, is cut off"
        ));
        let began = Instant::now();
        apart.cut_off(master);
        arena.others_lead(master);
        arena.work_is_done();
        thread::sleep(at_least.saturating_sub(began.elapsed()));
        apart.heal();
        arena.note("it is heard again");
        arena.serves(master);
        arena.former_terms_write_nothing();
    }
    until("nobody ended", || {
        apart.processes.iter_mut().all(Talk::is_running)
    });
    arena.finish();
}

#[test]
fn leaders_may_be_cut_off() {
    sandboxed("leaders_may_be_cut_off", || {
        leaders_are_cut_off(Duration::ZERO)
    });
}

#[test]
#[ignore = "50 times the same, ten seconds each"]
fn soak_leaders_cut_off() {
    sandboxed("soak_leaders_cut_off", || {
        (0..SOAK).for_each(|_| leaders_are_cut_off(Duration::from_secs(10)));
    });
}

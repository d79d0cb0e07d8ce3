//! The contract for scripts of `trireme dev`, with the real binary and Debian's etcdctl.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "real processes and files are what is tested"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BOUND: Duration = Duration::from_secs(60);

/// A local cluster in the foreground of a child process.
struct Cluster {
    dir: PathBuf,
    dev: Child,
}

impl Cluster {
    /// Runs `trireme dev` and waits for its line `ready`.
    fn start(dir: &Path, further: &[&str]) -> Cluster {
        let mut dev = trireme(&["dev", "--store-only"])
            .arg("--data")
            .arg(dir)
            .args(further)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(dev.stdout.take().unwrap()).lines();
        let (sender, ready) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line == "ready" {
                    // The test may have failed meanwhile.
                    let _ = sender.send(());
                }
            }
        });
        let cluster = Cluster {
            dir: dir.to_path_buf(),
            dev,
        };
        ready.recv_timeout(BOUND).expect("`trireme dev` says ready");
        cluster
    }

    fn pid(&self, master: u16) -> Option<i32> {
        let path = self.dir.join(format!("master-{master}/pid"));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// etcdctl with the variables that the cluster wrote for it.
    fn etcdctl(&self, arguments: &[&str]) -> Output {
        let env = fs::read_to_string(self.dir.join("etcdctl.env")).unwrap();
        let variables = env.lines().filter_map(|line| line.split_once('='));
        Command::new("etcdctl")
            .args(arguments)
            .envs(variables)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends it as a service manager would; yields its exit status.
    fn stop(mut self) -> std::process::ExitStatus {
        signal(self.dev.id().try_into().unwrap(), Signal::SIGTERM);
        self.dev.wait().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A failed test leaves no processes: members end with their supervisor.
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}

fn trireme(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trireme"));
    command.args(arguments);
    command
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// A base whose ports were free a moment ago.
fn port_base() -> String {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let any = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let base = any.clamp(10_000, 60_000);
        if (1..=3).all(|n| free(base + 10 * n) && free(base + 10 * n + 1)) {
            return base.to_string();
        }
    }
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < BOUND, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_dev_cluster_keeps_the_contract_for_scripts() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("cluster");
    let base = port_base();
    let options = ["--masters", "3", "--port-base", base.as_str()];
    let cluster = Cluster::start(&dir, &options);
    cluster.must(&["put", "hello", "world"]);
    cluster.must(&["endpoint", "health"]);

    // A killed master stays down, and the others go on.
    signal(cluster.pid(1).unwrap(), Signal::SIGKILL);
    until("the pid file goes", || cluster.pid(1).is_none());
    until("the others write", || {
        cluster.etcdctl(&["put", "still", "here"]).status.success()
    });
    assert_eq!(cluster.pid(1), None);

    // It comes back on request.
    let started = trireme(&["dev", "start", "master-1", "--data"])
        .arg(&dir)
        .status()
        .unwrap();
    assert!(started.success());
    until("all are well again", || {
        cluster.etcdctl(&["endpoint", "health"]).status.success()
    });

    // SIGTERM stops everything, and the same command resumes it with its data.
    let pids: Vec<i32> = (1..=3).map(|n| cluster.pid(n).unwrap()).collect();
    assert!(cluster.stop().success());
    assert!(
        pids.iter()
            .all(|pid| kill(Pid::from_raw(*pid), None).is_err())
    );
    let cluster = Cluster::start(&dir, &options);
    assert_eq!(
        cluster.must(&["get", "still", "--print-value-only"]),
        "here\n"
    );
    assert!(cluster.stop().success());
}

#[test]
fn a_plain_text_cluster_answers_the_commands() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("cluster");
    let cluster = Cluster::start(&dir, &["--insecure", "--port-base", &port_base()]);
    let ask = |arguments: &[&str]| {
        let output = trireme(arguments).arg("--data").arg(&dir).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let list = ask(&["member", "list"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    assert_eq!(list.matches("leader").count(), 1, "{list}");
    assert_eq!(ask(&["status"]).lines().count(), 4);
    let follower = list.lines().find(|line| line.contains("follower")).unwrap();
    let name = follower.split_whitespace().nth(1).unwrap();
    ask(&["member", "move-leader", name]);
    until("it leads", || {
        let list = ask(&["member", "list"]);
        list.lines()
            .any(|line| line.contains(name) && line.contains("leader"))
    });

    cluster.must(&["put", "kept", "safe"]);
    let file = temporary.path().join("one.backup");
    ask(&["backup", "save", file.to_str().unwrap()]);
    let verified = trireme(&["backup", "verify"]).arg(&file).output().unwrap();
    assert!(verified.status.success());
    assert!(cluster.stop().success());
}

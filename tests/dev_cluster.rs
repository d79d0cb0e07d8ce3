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

    fn endpoints(&self) -> String {
        let env = fs::read_to_string(self.dir.join("etcdctl.env")).unwrap();
        env.lines()
            .find_map(|line| line.strip_prefix("ETCDCTL_ENDPOINTS="))
            .unwrap()
            .to_string()
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
        if (1..=5).all(|n| free(base + 10 * n) && free(base + 10 * n + 1)) {
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

/// Runs a command of the binary that must succeed; yields its output.
#[track_caller]
fn ask(arguments: &[&str]) -> String {
    let output = trireme(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "trireme {arguments:?}: {text}{errors}"
    );
    text
}

/// Members other than those of the supervisor, and their logs.
#[derive(Default)]
struct Extra {
    members: Vec<Child>,
    logs: Vec<PathBuf>,
}

impl Extra {
    /// Runs a member with plain text on the two ports from `port` on.
    fn run(&mut self, name: &str, dir: &Path, port: u16, further: &[&str]) {
        let mut command = trireme(&["store", "--insecure", "--name", name, "--data-dir"]);
        command.arg(dir).args(further);
        command.args(["--listen-client-urls", &format!("http://127.0.0.1:{port}")]);
        command.args([
            "--listen-peer-urls",
            &format!("http://127.0.0.1:{}", port + 1),
        ]);
        let path = dir.with_extension("log");
        let log = fs::File::create(&path).unwrap();
        self.logs.push(path);
        self.members.push(command.stderr(log).spawn().unwrap());
    }

    /// Ends the member that was started last.
    fn stop(&mut self) {
        let mut member = self.members.pop().unwrap();
        signal(member.id().try_into().unwrap(), Signal::SIGTERM);
        assert!(member.wait().unwrap().success());
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in &self.logs {
                eprintln!(
                    "{}:\n{}",
                    log.display(),
                    fs::read_to_string(log).unwrap_or_default()
                );
            }
        }
        for member in &mut self.members {
            // It may have ended by itself.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

#[test]
fn the_members_of_a_cluster_can_be_listed_moved_added_and_replaced() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("cluster");
    let data = dir.to_str().unwrap();
    let base = port_base();
    let cluster = Cluster::start(&dir, &["--insecure", "--port-base", &base]);
    let list = || ask(&["member", "list", "--data", data]);
    let has = |name: &str, role: &str| {
        list()
            .lines()
            .any(|line| line.contains(name) && line.contains(role))
    };
    assert_eq!(list().lines().count(), 4);
    assert_eq!(list().matches("leader").count(), 1);
    assert_eq!(ask(&["status", "--data", data]).lines().count(), 4);

    let followers = list();
    let follower = followers
        .lines()
        .find(|line| line.contains("follower"))
        .unwrap();
    let name = follower.split_whitespace().nth(1).unwrap().to_string();
    ask(&["member", "move-leader", &name, "--data", data]);
    until("it leads", || has(&name, "leader"));

    // One command joins: a learner first, with a vote once it has caught up.
    cluster.must(&["put", "old", "news"]);
    let base: u16 = base.parse().unwrap();
    let peer = |master: u16| format!("http://127.0.0.1:{}", base + 10 * master + 1);
    let mut extra = Extra::default();
    let home = temporary.path().join("four");
    extra.run("four", &home, base + 40, &["--join", &peer(1)]);
    until("it has a vote", || has("four", "follower"));
    let fourth = format!("127.0.0.1:{}", base + 40);
    let read = Command::new("etcdctl")
        .args(["--endpoints", &fourth, "get", "old"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "old\nnews\n");

    // A replacement waits for the new member, then removes the old one.
    let mut replacing = trireme(&["member", "replace", "four", &peer(5), "--data", data])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(replacing.stdout.take().unwrap()).lines();
    let waits = told
        .map_while(Result::ok)
        .find(|line| line.contains("waiting"));
    assert!(waits.is_some());
    extra.run(
        "five",
        &temporary.path().join("five"),
        base + 50,
        &["--join", &peer(1)],
    );
    assert!(replacing.wait().unwrap().success());
    assert!(has("five", "follower") && !has("four", ""), "{}", list());
    assert_eq!(ask(&["status", "--data", data]).lines().count(), 5);
    assert!(cluster.stop().success());
}

#[test]
fn a_cluster_comes_back_from_backups_snapshots_and_the_loss_of_its_quorum() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("cluster");
    let path = |name: &str| temporary.path().join(name).to_str().unwrap().to_string();
    let data = dir.to_str().unwrap();
    let base = port_base();
    let cluster = Cluster::start(&dir, &["--insecure", "--port-base", &base]);
    cluster.must(&["put", "kept", "safe"]);
    let lease = cluster.must(&["lease", "grant", "1000"]);
    let lease = lease.split_whitespace().nth(1).unwrap();
    cluster.must(&["put", "leased", "thing", "--lease", lease]);

    let file = path("one.backup");
    ask(&["backup", "save", &file, "--data", data]);
    assert!(ask(&["backup", "verify", &file]).contains("complete and undamaged"));
    assert!(ask(&["backup", "status", &file, "-o", "json"]).contains("\"keys\":2"));
    // etcdctl's own way yields the same kind of file.
    let endpoint = cluster.endpoints().split(',').next().unwrap().to_string();
    let snapshot = path("two.backup");
    let saved = Command::new("etcdctl")
        .args(["--endpoints", &endpoint, "snapshot", "save", &snapshot])
        .output()
        .unwrap();
    assert!(
        saved.status.success(),
        "{}",
        String::from_utf8_lossy(&saved.stderr)
    );
    assert!(ask(&["backup", "verify", &snapshot]).contains("complete and undamaged"));
    assert!(cluster.stop().success());

    let port: u16 = base.parse().unwrap();
    let (client, peer) = (port + 10, port + 11);
    let (restored, endpoint) = (path("restored"), format!("127.0.0.1:{client}"));
    let cluster_of = |name: &str| format!("{name}=http://127.0.0.1:{peer}");
    let mut extra = Extra::default();
    let mut serves = |name: &str, home: &str| {
        extra.run(name, Path::new(home), client, &[]);
        let get = |key: &str| {
            let mut etcdctl = Command::new("etcdctl");
            etcdctl.args(["--endpoints", &endpoint, "get", key, "--print-value-only"]);
            String::from_utf8(etcdctl.output().unwrap().stdout).unwrap()
        };
        until("it serves what it had", || get("kept") == "safe\n");
        assert_eq!(get("leased"), "thing\n");
        extra.stop();
    };
    ask(&[
        "backup",
        "restore",
        &file,
        "--name",
        "a",
        "--data-dir",
        &restored,
        "--initial-cluster",
        &cluster_of("a"),
    ]);
    serves("a", &restored);

    // An etcd moves over with its keys and leases.
    let (etcd_snapshot, imported) = (path("etcd.snapshot"), path("imported"));
    snapshot_of_etcd(&path("etcd"), client, &etcd_snapshot);
    ask(&[
        "backup",
        "import",
        &etcd_snapshot,
        "--name",
        "b",
        "--data-dir",
        &imported,
        "--initial-cluster",
        &cluster_of("b"),
    ]);
    serves("b", &imported);

    // Two of three are gone for good: nothing is done unasked, and then all is there.
    let left = dir.join("master-1/data").to_str().unwrap().to_string();
    let unasked = trireme(&["recover", &left])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!unasked.status.success());
    assert!(String::from_utf8_lossy(&unasked.stdout).contains("last log entry"));
    ask(&[
        "recover",
        &left,
        "--initial-cluster",
        &cluster_of("master-1"),
        "--yes",
    ]);
    serves("master-1", &left);
}

/// Puts the same two keys into Debian's etcd and saves its snapshot.
fn snapshot_of_etcd(dir: &str, port: u16, file: &str) {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", port + 1),
    );
    let mut etcd = Command::new("etcd")
        .args([
            "--data-dir",
            dir,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let run = |arguments: &[&str]| {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl
            .args(["--endpoints", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .output()
            .unwrap()
    };
    until("etcd serves", || {
        run(&["put", "kept", "safe"]).status.success()
    });
    let granted = String::from_utf8(run(&["lease", "grant", "1000"]).stdout).unwrap();
    let lease = granted.split_whitespace().nth(1).unwrap();
    assert!(
        run(&["put", "leased", "thing", "--lease", lease])
            .status
            .success()
    );
    let saved = run(&["snapshot", "save", file]);
    signal(etcd.id().try_into().unwrap(), Signal::SIGTERM);
    etcd.wait().unwrap();
    assert!(
        saved.status.success(),
        "{}",
        String::from_utf8_lossy(&saved.stderr)
    );
}

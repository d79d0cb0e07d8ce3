//! How members begin and how they end that cannot go on: what the service manager hears, the exit
//! code and the last words of the real binary.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{BOUND, Etcdctl, eventually, must, signal, text, trireme, until};

/// A port with a free one behind it.
fn ports() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if port < 65_000 && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// A member in plain text with its log in a file; dropping it kills it.
struct Member {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Member {
    fn start(home: &Path, name: &str, port: u16, further: &[&str]) -> Member {
        let mut command = trireme(&arguments(home, name, port));
        command.args(further);
        Member::run(command, home, name, port)
    }

    fn run(mut command: Command, home: &Path, name: &str, port: u16) -> Member {
        let log = home.join(format!("{name}.log"));
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command.stderr(file).spawn().unwrap();
        Member { child, log, port }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    #[track_caller]
    fn wait_for_log(&self, wanted: &str) {
        let started = Instant::now();
        while !self.log().contains(wanted) {
            assert!(
                started.elapsed() < BOUND,
                "no `{wanted}` in\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it ends by itself; yields its code and its log.
    #[track_caller]
    fn ended(&mut self) -> (Option<i32>, String) {
        let status = eventually("the member ends", || self.child.try_wait().unwrap());
        (status.code(), self.log())
    }

    #[track_caller]
    fn stop(mut self) {
        signal(self.child.id(), Signal::SIGTERM);
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(home: &Path, name: &str, port: u16) -> Vec<String> {
    let data = home.join(name).to_str().unwrap().to_owned();
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", port + 1);
    [
        "store",
        "--insecure",
        "--name",
        name,
        "--data-dir",
        &data,
        "--listen-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Three founders, and the setting that makes them so.
fn three(home: &Path) -> (Vec<Member>, String) {
    let ports: Vec<u16> = (0..3).map(|_| ports()).collect();
    let founders = ports.iter().enumerate();
    let founders = founders.map(|(n, port)| format!("m{n}=http://127.0.0.1:{}", port + 1));
    let founders = founders.collect::<Vec<_>>().join(",");
    let start = |(n, port): (usize, &u16)| {
        Member::start(
            home,
            &format!("m{n}"),
            *port,
            &["--initial-cluster", &founders],
        )
    };
    let members: Vec<Member> = ports.iter().enumerate().map(start).collect();
    for member in &members {
        serves(&member.endpoint());
    }
    (members, founders)
}

#[track_caller]
fn serves(endpoint: &str) {
    until("the member serves", || {
        let mut status = trireme(&["status", "--endpoints", endpoint]);
        let asked = status.stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().unwrap().success()
    });
}

/// A start that must fail; yields its code and its words.
#[track_caller]
fn refused(home: &Path, name: &str, port: u16, further: &[&str]) -> (Option<i32>, String) {
    let output: Output = trireme(&arguments(home, name, port))
        .args(further)
        .output()
        .unwrap();
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_member_is_ready_once_it_serves() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let socket = home.join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let founders: Vec<u16> = (0..2).map(|_| ports()).collect();
    let cluster = format!(
        "m0=http://127.0.0.1:{},m1=http://127.0.0.1:{}",
        founders[0] + 1,
        founders[1] + 1
    );
    let further = ["--initial-cluster", &*cluster];
    let mut command = trireme(&arguments(home, "m0", founders[0]));
    command.args(further).env("NOTIFY_SOCKET", &socket);
    let first = Member::run(command, home, "m0", founders[0]);
    // It listens, but has no quorum to catch up with.
    until("it listens", || {
        TcpStream::connect(("127.0.0.1", first.port)).is_ok()
    });
    let mut heard = [0; 64];
    manager
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    assert!(manager.recv(&mut heard).is_err(), "too early");
    let _second = Member::start(home, "m1", founders[1], &further);
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let length = manager.recv(&mut heard).unwrap();
    assert_eq!(&heard[..length], b"READY=1");
    serves(&first.endpoint());
}

#[test]
fn settings_that_cannot_work_end_with_2() {
    let home = tempfile::tempdir().unwrap();
    let (code, said) = refused(home.path(), "m", ports(), &["--election-timeout", "soon"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("election-timeout"), "{said}");
    let (code, said) = refused(home.path(), "m", ports(), &["--no-such-flag"]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_directory_in_use_ends_with_1_and_an_unusable_one_with_3() {
    let home = tempfile::tempdir().unwrap();
    let (home, port) = (home.path(), ports());
    let member = Member::start(home, "m", port, &[]);
    serves(&member.endpoint());
    let (code, said) = refused(home, "m", ports(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    // Damage in the middle of the log, with records after it.
    let etcdctl = Etcdctl::plain(&member.endpoint());
    for n in 0..20 {
        etcdctl.must(&["put", &format!("key {n}"), &format!("value {n}")]);
    }
    member.kill();
    let segment = home.join("m/wal/0000000001.wal");
    let bytes = fs::read(&segment).unwrap();
    let at = bytes
        .windows(8)
        .position(|window| window == b"value 10")
        .unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    fs::write(&segment, damaged).unwrap();
    let (code, said) = refused(home, "m", port, &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("the Raft log is damaged") && said.contains("add it again"),
        "{said}"
    );
    fs::write(&segment, bytes).unwrap();

    // A format of the future.
    let path = home.join("m/identity.json");
    let identity = fs::read_to_string(&path).unwrap();
    let newer = identity.replace("\"format\": 1", "\"format\": 99");
    assert_ne!(identity, newer);
    fs::write(&path, newer).unwrap();
    let (code, said) = refused(home, "m", port, &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("format 99") && said.contains("newer trireme"),
        "{said}"
    );

    // Whole again, it starts; and with --join as well, which is passed over.
    fs::write(&path, identity).unwrap();
    let join = ["--join", "http://127.0.0.1:1"];
    let member = Member::start(home, "m", port, &join);
    serves(&member.endpoint());
    member.wait_for_log("join is passed over");
    member.stop();
}

#[test]
fn removed_and_foreign_members_of_a_cluster_end_by_themselves() {
    let home = tempfile::tempdir().unwrap();
    let (mut members, founders) = three(home.path());
    let all: Vec<String> = members.iter().map(Member::endpoint).collect();
    let all = all.join(",");

    // One that dies is said to be gone once, by the leader, and to be back once.
    let dead = members.pop().unwrap();
    let port = dead.port;
    until("m2 follows", || {
        trireme(&["member", "move-leader", "m0", "--endpoints", &all])
            .output()
            .unwrap()
            .status
            .success()
    });
    dead.kill();
    members[0].wait_for_log("peer m2 unreachable: Connection refused");
    members.push(Member::start(
        home.path(),
        "m2",
        port,
        &["--initial-cluster", &founders],
    ));
    members[0].wait_for_log("peer m2 is back after ");
    let log = members[0].log();
    let lines = |wanted: &str| log.lines().filter(|line| line.contains(wanted)).count();
    assert_eq!(lines("peer m2 unreachable"), 1, "{log}");
    assert_eq!(lines("openraft"), 0, "{log}");

    // A removed one stops serving, says so once, and stays out.
    must(&["member", "remove", "m2", "--endpoints", &all]);
    let (code, said) = members[2].ended();
    assert_eq!(code, Some(4), "{said}");
    let words = "was removed from its cluster";
    assert_eq!(said.matches(words).count(), 1, "{said}");
    let (code, said) = refused(home.path(), "m2", port, &["--initial-cluster", &founders]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains(words) && said.contains("--join"), "{said}");
    // On an empty disk it may join, with the settings that once founded the cluster.
    fs::remove_dir_all(home.path().join("m2")).unwrap();
    let peer = format!("http://127.0.0.1:{}", members[0].port + 1);
    let further = ["--initial-cluster", &founders, "--join", &peer];
    let joined = Member::start(home.path(), "m2", port, &further);
    serves(&joined.endpoint());

    // The cluster is recovered from m0 alone, and m2 joins that one: m1 comes back to strangers.
    let ports: Vec<u16> = members.iter().map(|member| member.port).collect();
    drop((members, joined));
    let left = home.path().join("m0");
    let cluster = format!("m0=http://127.0.0.1:{}", ports[0] + 1);
    let left = left.to_str().unwrap();
    must(&["recover", left, "--initial-cluster", &cluster, "--yes"]);
    fs::remove_dir_all(home.path().join("m2")).unwrap();
    let recovered = Member::start(home.path(), "m0", ports[0], &[]);
    serves(&recovered.endpoint());
    let joined = Member::start(home.path(), "m2", port, &["--join", &peer]);
    serves(&joined.endpoint());
    let mut old = Member::start(home.path(), "m1", ports[1], &[]);
    let (code, said) = old.ended();
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("belongs to another cluster") && said.contains("--join"),
        "{said}"
    );
}

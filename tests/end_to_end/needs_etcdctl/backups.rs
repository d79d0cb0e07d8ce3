//! Backups of a cluster over mTLS, restored into another; etcd's own files, imported.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::{Dev, Etcdctl, Members, Talk, must, port_base, refused, text, until};

/// Names and peer URLs of a new cluster in plain text whose ports follow `base`.
fn cluster_of(base: u16, size: u16) -> String {
    let member = |n| format!("m{n}=http://127.0.0.1:{}", base + 10 * n + 1);
    (1..=size).map(member).collect::<Vec<_>>().join(",")
}

/// Makes every member's directory by `backup restore` or `backup import`, and starts them.
fn bring_up(how: &str, file: &Path, dir: &Path, base: u16, size: u16) -> (Members, Etcdctl) {
    let (cluster, mut members) = (cluster_of(base, size), Members::default());
    fs::create_dir_all(dir).unwrap();
    for n in 1..=size {
        let (name, home) = (format!("m{n}"), dir.join(format!("m{n}")));
        let file = file.to_str().unwrap();
        let target = ["--name", &name, "--data-dir", home.to_str().unwrap()];
        let made = must(
            &[
                &["backup", how, file, "--initial-cluster", &cluster],
                &target[..],
            ]
            .concat(),
        );
        assert!(made.contains(&format!("member {name} ")), "{made}");
        // A second time nothing is overwritten.
        let again = [
            &["backup", how, file, "--initial-cluster", &cluster],
            &target[..],
        ]
        .concat();
        assert!(refused(&again).contains("empty"), "{}", refused(&again));
        members.run_plain(&name, &home, base + 10 * n, &[]);
    }
    let endpoints = (1..=size).map(|n| format!("127.0.0.1:{}", base + 10 * n));
    let etcdctl = Etcdctl::plain(&endpoints.collect::<Vec<_>>().join(","));
    until("the new cluster serves", || {
        etcdctl.succeeds(&["endpoint", "health"])
    });
    (members, etcdctl)
}

/// What the fixtures below have in common, on any cluster; yields the lease.
fn fill(etcdctl: &Etcdctl) -> String {
    etcdctl.must(&["put", "changed", "1"]);
    etcdctl.must(&["put", "gone", "1"]);
    etcdctl.must(&["put", "changed", "2"]);
    etcdctl.must(&["del", "gone"]);
    let granted = etcdctl.must(&["lease", "grant", "1000"]);
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    etcdctl.must(&["put", "leased", "thing", "--lease", &lease]);
    lease
}

/// What [`fill`] left is there, far above its revisions, and its history is not.
fn holds(etcdctl: &Etcdctl, lease: &str, old_kv: &serde_json::Value, old_revision: i64) {
    assert_eq!(etcdctl.get("changed"), "2");
    assert_eq!(etcdctl.get("gone"), "");
    let told = etcdctl.must(&["lease", "timetolive", lease, "--keys"]);
    assert!(
        told.contains("TTL(1000s)") && told.contains("[leased]"),
        "{told}"
    );
    let kv = &etcdctl.json(&["get", "changed"])["kvs"][0];
    for name in ["key", "value", "version", "create_revision", "mod_revision"] {
        assert_eq!(kv[name], old_kv[name], "{name}");
    }
    assert!(
        etcdctl.revision() > old_revision + 900_000_000,
        "{}",
        etcdctl.revision()
    );
    let past = etcdctl.refused(&["get", "changed", "--rev", &old_revision.to_string()]);
    assert!(
        past.contains("required revision has been compacted"),
        "{past}"
    );
    etcdctl.must(&["put", "new", "life"]);
    etcdctl.must(&["lease", "revoke", lease]);
    assert_eq!(etcdctl.get("leased"), "");
}

fn until_equal(etcdctl: &Etcdctl) {
    until("all members hold the same", || {
        let all = etcdctl.json(&["endpoint", "hashkv"]);
        let hash = |one: &serde_json::Value| one["HashKV"]["hash"].clone();
        all.as_array()
            .unwrap()
            .windows(2)
            .all(|pair| hash(&pair[0]) == hash(&pair[1]))
    });
}

#[test]
fn a_backup_is_checked_and_restored_into_clusters_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (cluster, _) = Dev::of_three(&path("cluster"));
    let etcdctl = cluster.etcdctl();
    let lease = fill(&etcdctl);
    let kv = etcdctl.json(&["get", "changed"])["kvs"][0].clone();
    let revision = etcdctl.revision();

    let (file, snapshot) = (path("one.backup"), path("two.backup"));
    let name = file.to_str().unwrap();
    let saved = must(&["backup", "save", name, "--data", cluster.data()]);
    assert!(saved.contains(&format!("saved to {name}")), "{saved}");
    // Secrets are in there: nobody else reads it.
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let one = etcdctl.at(&etcdctl.endpoints()[1]);
    one.must(&["snapshot", "save", snapshot.to_str().unwrap()]);
    for file in [&file, &snapshot] {
        let file = file.to_str().unwrap();
        assert!(must(&["backup", "verify", file]).contains("complete and undamaged"));
        let status = must(&["backup", "status", file, "-o", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["keys"], 2, "{status}");
        assert_eq!(status["leases"], 1, "{status}");
        assert_eq!(status["revision"], revision, "{status}");
    }

    // A damaged or cut file is found out, and not restored.
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path("damaged"), &bytes).unwrap();
    bytes[middle] ^= 1;
    bytes.truncate(bytes.len() - 10);
    fs::write(path("cut"), &bytes).unwrap();
    for bad in ["damaged", "cut"] {
        let bad = path(bad);
        let bad = bad.to_str().unwrap();
        refused(&["backup", "verify", bad]);
        let target = path("never");
        refused(&[
            "backup",
            "restore",
            bad,
            "--data-dir",
            target.to_str().unwrap(),
        ]);
        assert!(!target.exists(), "nothing is left of a restore that failed");
    }
    cluster.stop();

    let (members, etcdctl) = bring_up("restore", &file, &path("alone"), port_base(), 1);
    holds(&etcdctl, &lease, &kv, revision);
    drop(members);
    let (members, etcdctl) = bring_up("restore", &snapshot, &path("three"), port_base(), 3);
    holds(&etcdctl, &lease, &kv, revision);
    until_equal(&etcdctl);
    drop(members);
}

/// Debian's etcd, alone, on two ports.
fn etcd(dir: &Path, port: u16) -> (Talk, Etcdctl) {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", port + 1),
    );
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(dir)
        .args(["--name", "default"]);
    command.args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    command.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
    let process = Talk::start({
        command.stderr(Stdio::null());
        command
    });
    let etcdctl = Etcdctl::plain(&format!("127.0.0.1:{port}"));
    until("etcd serves", || etcdctl.succeeds(&["endpoint", "health"]));
    (process, etcdctl)
}

#[test]
fn needs_etcd_server_an_etcd_moves_over_with_its_snapshot_or_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (process, etcdctl) = etcd(&path("etcd"), port_base() + 10);
    let lease = fill(&etcdctl);
    for n in 0..50 {
        etcdctl.must(&["put", &format!("/registry/pods/{n}"), &"x".repeat(2000)]);
    }
    etcdctl.must(&[
        "compaction",
        &(etcdctl.revision() - 20).to_string(),
        "--physical",
    ]);
    let kv = etcdctl.json(&["get", "changed"])["kvs"][0].clone();
    let pod = etcdctl.json(&["get", "/registry/pods/7"])["kvs"][0].clone();
    let revision = etcdctl.revision();
    let snapshot = path("etcd.snapshot");
    etcdctl.must(&["snapshot", "save", snapshot.to_str().unwrap()]);
    assert!(process.end(Signal::SIGTERM).code().is_some() || cfg!(unix));

    let (members, etcdctl) = bring_up("import", &snapshot, &path("three"), port_base(), 3);
    assert_eq!(
        etcdctl
            .must(&["get", "/registry/", "--prefix", "--keys-only"])
            .matches("pods")
            .count(),
        50
    );
    assert_eq!(etcdctl.json(&["get", "/registry/pods/7"])["kvs"][0], pod);
    holds(&etcdctl, &lease, &kv, revision);
    until_equal(&etcdctl);
    drop(members);

    // The file of a stopped etcd has no hash of its own, which is said.
    let file = path("etcd").join("member/snap/db");
    let target = path("noted");
    let arguments = [
        "backup",
        "import",
        file.to_str().unwrap(),
        "--data-dir",
        target.to_str().unwrap(),
    ];
    let output = crate::support::trireme(&arguments).output().unwrap();
    assert!(text(&output.stderr).contains("has no hash"), "{output:?}");
    let (members, etcdctl) = bring_up("import", &file, &path("alone"), port_base(), 1);
    holds(&etcdctl, &lease, &kv, revision);
    drop(members);
}

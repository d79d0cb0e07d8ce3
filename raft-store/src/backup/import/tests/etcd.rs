//! Debian's etcd as the reference: what etcdctl reads from it is what an import must yield.
#![allow(
    clippy::disallowed_methods,
    reason = "drives real processes, never simulated"
)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use prost::Message;

use super::*;
use crate::pb::etcdserverpb::RangeResponse;

#[path = "../../../../tests/support/etcd.rs"]
mod debian;

/// An etcd that is worked with by etcdctl.
struct Etcd(debian::Etcd);

impl Etcd {
    /// None, with a message, when the machine has no etcd.
    fn start() -> Option<Etcd> {
        if !debian::Etcd::is_installed() || !Path::new("/usr/bin/etcdctl").exists() {
            eprintln!("SKIPPED: needs Debian's etcd-server and etcd-client");
            return None;
        }
        Some(Etcd(debian::Etcd::start(&["--unsafe-no-fsync"])))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.0.endpoint])
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Vec<u8> {
        self.run_with(args, b"")
    }

    fn run_with(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {args:?}: {errors}");
        output.stdout
    }

    /// One transaction without compares: one revision with many sub-revisions.
    fn txn(&self, operations: &str) {
        self.run_with(&["txn"], format!("\n{operations}\n\n").as_bytes());
    }

    fn grant(&self, ttl: i64) -> i64 {
        let text = String::from_utf8(self.run(&["lease", "grant", &ttl.to_string()])).unwrap();
        i64::from_str_radix(text.split(' ').nth(1).unwrap(), 16).unwrap()
    }

    /// Everything as etcd itself tells it.
    fn dump(&self) -> RangeResponse {
        let bytes = self.run(&["get", "", "--from-key", "--write-out", "protobuf"]);
        RangeResponse::decode(Bytes::from(bytes)).unwrap()
    }

    fn snapshot(&self) -> std::path::PathBuf {
        let path = self.0.home.path().join("x.snapshot");
        self.run(&["snapshot", "save", path.to_str().unwrap()]);
        path
    }

    /// Puts, transactions, overwrites, deletes, re-creations, leases, large values, compaction.
    /// Returns the leases that live.
    fn work(&self) -> Vec<(i64, i64)> {
        let leases: Vec<(i64, i64)> = [300, 600, 900].map(|ttl| (self.grant(ttl), ttl)).into();
        let revoked = self.grant(300);
        for batch in 0..20 {
            let puts: String = (0..100)
                .map(|i| format!("put /k/{batch:02}/{i:03} v{i}\n"))
                .collect();
            self.txn(&puts);
        }
        for round in 0..5 {
            self.run(&["put", "/overwritten", &format!("round {round}")]);
        }
        for (i, (lease, _)) in leases.iter().enumerate() {
            let lease = format!("{lease:x}");
            self.run(&["put", &format!("/leased/{i}"), "here", "--lease", &lease]);
            self.run(&["put", &format!("/detached/{i}"), "here", "--lease", &lease]);
            self.run(&["put", &format!("/detached/{i}"), "no more"]);
        }
        self.run(&[
            "put",
            "/revoked",
            "soon",
            "--lease",
            &format!("{revoked:x}"),
        ]);
        self.run(&["lease", "revoke", &format!("{revoked:x}")]);
        // Values of many pages, and an empty one.
        self.run_with(&["put", "/large/1"], &vec![b'x'; 1_000_000]);
        self.run_with(&["put", "/large/2"], &vec![b'y'; 70_000]);
        self.run(&["put", "/empty", ""]);
        self.run(&["del", "/k/03/", "--prefix"]);
        self.run(&["put", "/k/03/050", "again"]);
        let revision = self.dump().header.unwrap().revision;
        self.run(&["compaction", &(revision - 3).to_string()]);
        self.run(&["del", "/k/05/010"]);
        self.run(&["put", "/k/06/010", "newer"]);
        self.txn("put /last/1 a\nput /last/2 b\ndel /k/07/001\n");
        self.run(&["del", "/last/1"]);
        leases
    }
}

fn assert_same(path: &Path, hashed: bool, dump: &RangeResponse, leases: &[(i64, i64)]) {
    let mut snapshot = EtcdSnapshot::open(&Seams::real(), path, &mut quiet).unwrap();
    let report = snapshot.report().clone();
    assert_eq!(report.revision, dump.header.as_ref().unwrap().revision);
    assert_eq!(report.keys, dump.count as u64);
    assert_eq!((report.hash_checked, report.orphans), (hashed, 0));
    assert!(report.applied_index > 0 && !report.auth_enabled);
    let state = State::read(&mut snapshot).unwrap();
    assert_eq!(state.keys.len(), dump.kvs.len());
    for (ours, etcds) in state.keys.iter().zip(&dump.kvs) {
        assert!(ours == etcds, "key {:?} differs", ours.key);
    }
    let mut found: Vec<(i64, i64)> = state.leases.iter().map(|l| (l.id, l.ttl)).collect();
    let mut leases = leases.to_vec();
    found.sort();
    leases.sort();
    assert_eq!(found, leases);
}

#[test]
fn an_etcd_comes_over_whole() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let leases = etcd.work();
    let dump = etcd.dump();
    assert!(dump.kvs.len() > 1800 && dump.kvs.iter().any(|kv| kv.version == 5));
    let snapshot = etcd.snapshot();
    assert_same(&snapshot, true, &dump, &leases);

    // A copy that was damaged on the way.
    let mut bytes = std::fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, &bytes).unwrap();
    let damaged = EtcdSnapshot::open(&Seams::real(), &snapshot, &mut quiet);
    assert!(matches!(damaged, Err(BackupError::EtcdDamaged { .. })));

    let database = etcd.0.stop();
    assert_same(&database, false, &dump, &leases);
}

/// Many revisions of the same keys between compactions: freed pages are used again, so that the
/// file holds old pages, and its trees have several levels.
#[test]
fn a_worn_etcd_comes_over_whole() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    for round in 0..12 {
        let value = "z".repeat(100 + 37 * round);
        for half in 0..4 {
            let puts: String = (0..100)
                .map(|i| {
                    format!(
                        "put /worn/{:04} {value}\n",
                        half * 100 + (i * 7 + round) % 100
                    )
                })
                .collect();
            etcd.txn(&puts);
        }
        etcd.run(&[
            "del",
            &format!("/worn/{:04}", round * 5),
            &format!("/worn/{:04}", round * 9),
        ]);
        if round % 3 == 2 {
            let revision = etcd.dump().header.unwrap().revision;
            etcd.run(&["compaction", "--physical", &revision.to_string()]);
        }
    }
    let dump = etcd.dump();
    assert_same(&etcd.snapshot(), true, &dump, &[]);
    assert_same(&etcd.0.stop(), false, &dump, &[]);
}

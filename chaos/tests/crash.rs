//! Crashes of real members under load: killed one by one and all at once, logs with a torn tail,
//! full disks. Every acknowledged write must be there afterwards, no revision may go back, and
//! the members' hashes must agree: `chaos run` checks that.
//!
//! The binary is the one beside the harness: `cargo nextest run --workspace` builds both.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use chaos::sandbox;

/// The binary under test; `None`, with a reason, when it was not built.
fn trireme() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_chaos")).with_file_name("trireme");
    if !path.exists() {
        eprintln!(
            "skipped: {} is not there (cargo build --bin trireme)",
            path.display()
        );
        return None;
    }
    Some(path)
}

/// Runs scenarios one after the other; fails with what the checkers say.
#[track_caller]
fn survives(scenarios: &str, seconds: u32, seed: u64) {
    let Some(binary) = trireme() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["run", "--scenario", scenarios])
        .args(["--seconds", &seconds.to_string()])
        .args(["--seed", &seed.to_string()])
        .arg("--binary")
        .arg(binary)
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    let code = output.status.code();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if code != Some(0) {
        // The evidence is worth more than a clean /tmp.
        let kept = dir.keep();
        panic!(
            "exit code {code:?}, evidence in {}\n{text}{errors}",
            kept.display()
        );
    }
}

#[test]
fn a_cluster_survives_kills_of_single_members() {
    survives("set-kill-one", 10, 1);
}

#[test]
fn a_cluster_survives_kills_of_its_leaders() {
    survives("append-kill-leader", 10, 2);
}

#[test]
fn a_cluster_survives_kills_of_all_members() {
    survives("watch-kill-all", 10, 3);
}

#[test]
fn a_cluster_survives_torn_logs() {
    survives("set-torn-tail", 10, 4);
}

#[test]
fn a_cluster_survives_full_disks() {
    if sandbox::is_possible() {
        survives("set-disk-full", 16, 5);
    } else {
        eprintln!("skipped: no file systems can be mounted here (root is needed)");
    }
}

#[test]
#[ignore = "an hour: make soak"]
fn soak_crashes() {
    for seed in 0..10 {
        survives(
            "set-crashes,append-crashes,register-crashes,watch-crashes,lease-crashes",
            60,
            seed,
        );
    }
}

#[test]
#[ignore = "some ten minutes: make soak"]
fn soak_full_disks() {
    if !sandbox::is_possible() {
        eprintln!("skipped: no file systems can be mounted here (root is needed)");
        return;
    }
    for seed in 0..5 {
        survives("set-disk-full,append-disk-full", 60, seed);
    }
}

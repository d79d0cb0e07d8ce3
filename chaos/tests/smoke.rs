//! Short runs of the harness against etcd, the control: it must find it valid, and must find
//! its own planted lies. Without etcd, or without the right to make namespaces, they say so and
//! do nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use chaos::sandbox;

/// Runs `chaos run` against etcd and returns its exit code and what it printed; `None` when
/// this machine lacks what it takes.
fn run(scenario: &str, seconds: u32, more: &[&str]) -> Option<(i32, String)> {
    if !Path::new("/usr/bin/etcd").exists() {
        eprintln!("skipped: /usr/bin/etcd is not installed (apt install etcd-server)");
        return None;
    }
    if !sandbox::is_possible() {
        eprintln!("skipped: no namespaces can be made here (root is needed)");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["run", "--control", "etcd", "--scenario", scenario])
        .args(["--seconds", &seconds.to_string()])
        .arg("--dir")
        .arg(dir.path())
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Some((output.status.code().unwrap_or(-1), text + &errors))
}

#[test]
fn cluster_of_etcd_is_valid_under_crashes() {
    if let Some((code, text)) = run("watch-kill-all", 6, &[]) {
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn netns_etcd_is_valid_under_partitions() {
    if let Some((code, text)) = run("register-isolate-leader", 8, &[]) {
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn netns_stale_reads_are_caught() {
    if let Some((code, text)) = run("register-isolate-one", 8, &["--plant", "stale-reads"]) {
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("stale-read") && text.contains("not-linearizable"),
            "{text}"
        );
    }
}

#[test]
fn cluster_late_resumption_is_caught() {
    if let Some((code, text)) = run("watch-none", 6, &["--plant", "late-resume"]) {
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("lost-"), "{text}");
    }
}

#[test]
fn cluster_false_refusals_are_caught() {
    if let Some((code, text)) = run("register-none", 4, &["--plant", "false-refusal"]) {
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("refused-write-happened"), "{text}");
    }
}

//! What the binary does without a cluster: versions, completion, and complaints that help.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{must, refused, text, trireme};

#[test]
fn the_version_names_the_commit() {
    let version = must(&["--version"]);
    assert!(
        version.starts_with("trireme ") && version.contains('('),
        "{version}"
    );
    assert_eq!(version.lines().count(), 1);
    assert_eq!(
        must(&["store", "--version"]).split_once(' ').unwrap().1,
        version.split_once(' ').unwrap().1
    );
}

#[test]
fn every_help_shows_examples() {
    for command in [
        vec![],
        vec!["store"],
        vec!["dev"],
        vec!["member"],
        vec!["backup"],
        vec!["recover"],
        vec!["status"],
    ] {
        let help = must(&[command.clone(), vec!["--help"]].concat());
        assert!(
            help.contains("Examples:") && help.contains("Usage:"),
            "{command:?}: {help}"
        );
    }
}

#[test]
fn completion_scripts_are_read_by_their_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = must(&["completion", shell]);
        assert!(script.contains("move-leader"), "{shell}: {script}");
    }
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin
        .take()
        .unwrap()
        .write_all(must(&["completion", "bash"]).as_bytes())
        .unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn a_setting_that_means_nothing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("store.yaml");
    fs::write(&config, "data-dri: /tmp/x\ninsecure: true\n").unwrap();
    let complaint = refused(&["store", "--config", config.to_str().unwrap()]);
    assert!(
        complaint.contains("data-dri") && complaint.contains("data-dir"),
        "{complaint}"
    );

    let output = trireme(&["store", "--insecure"])
        .env("TRIREME_DATA_DRI", "/tmp/x")
        .output()
        .unwrap();
    let complaint = text(&output.stderr);
    assert!(!output.status.success());
    assert!(
        complaint.contains("TRIREME_DATA_DRI") && complaint.contains("TRIREME_DATA_DIR"),
        "{complaint}"
    );

    let complaint = refused(&["store", "--insecure", "--election-timeout", "soon"]);
    assert!(
        complaint.contains("election-timeout") && complaint.contains("soon"),
        "{complaint}"
    );
    let missing = dir.path().join("none.yaml");
    let complaint = refused(&["store", "--config", missing.to_str().unwrap()]);
    assert!(complaint.contains("none.yaml"), "{complaint}");
}

#[test]
fn plain_text_stays_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let far = ["--listen-client-urls", "http://0.0.0.0:0"];
    let complaint = refused(&[&["store", "--insecure", "--data-dir", data], &far[..]].concat());
    assert!(
        complaint.contains("loopback") && complaint.contains("0.0.0.0"),
        "{complaint}"
    );
    // Without the flag, TLS is wanted, and its files are asked for by name.
    let complaint = refused(&["store", "--data-dir", data]);
    assert!(complaint.contains("cert-file"), "{complaint}");
    assert!(!dir.path().join("data").exists(), "nothing was touched");
}

#[test]
fn a_cluster_that_is_not_there_is_said_to_be_unreachable() {
    // One that refuses connections, and one that answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for (nowhere, bound) in [("http://127.0.0.1:1", 2), (&*silent, 5)] {
        let begun = Instant::now();
        let complaint = refused(&["status", "--endpoints", nowhere]);
        assert!(
            complaint.contains("1 of 1 members are not well"),
            "{complaint}"
        );
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(bound), "{nowhere}: {took:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let complaint = refused(&["dev", "status", "--data", dir.path().to_str().unwrap()]);
    assert!(complaint.contains("no cluster runs"), "{complaint}");
    let complaint = refused(&["backup", "verify", "/nonexistent.backup"]);
    assert!(complaint.contains("/nonexistent.backup"), "{complaint}");
}

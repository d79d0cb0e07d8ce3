//! What the binary does without a cluster: versions, completion, and complaints that help; and what
//! `trireme dev`, `status` and `explain` do with one.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Talk, eventually, must, port_base, refused, signal, text, trireme, until};

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
        vec!["explain"],
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

/// A cluster under `trireme dev` with its own home, once it says that it is ready.
fn dev(home: &Path, options: &[&str]) -> Talk {
    let mut command = trireme(&["dev", "--masters", "1"]);
    command.args(options).env("XDG_STATE_HOME", home);
    let talk = Talk::start(command);
    while talk.line() != "ready" {}
    talk
}

#[test]
fn the_data_of_a_cluster_go_unless_they_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let base = port_base().to_string();
    let dir = home.path().join("trireme/dev");
    let options = ["--store-only", "--insecure", "--port-base", &base];
    let stop = |talk: Talk| assert!(talk.end(Signal::SIGTERM).success());
    stop(dev(home.path(), &options));
    assert!(!dir.exists(), "nobody asked to keep it");
    stop(dev(home.path(), &[&options[..], &["--keep"]].concat()));
    let id = fs::read_to_string(dir.join("master-1/data/identity.json")).unwrap();
    stop(dev(home.path(), &options));
    let again = fs::read_to_string(dir.join("master-1/data/identity.json")).unwrap();
    assert_eq!(again, id, "what was kept once stays");
}

/// The command, told by a kubeconfig which cluster.
fn asked(kubeconfig: &Path, arguments: &[&str]) -> Output {
    let mut command = trireme(arguments);
    command.arg("--kubeconfig").arg(kubeconfig);
    command.output().unwrap()
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec:\n  containers:\n  \
    - {name: c, image: i, resources: {requests: {cpu: '1000'}}}\n";

#[test]
fn a_cluster_applies_manifests_explains_pods_and_says_how_it_is() {
    let home = tempfile::tempdir().unwrap();
    let (data, manifests) = (home.path().join("data"), home.path().join("manifests"));
    let kubeconfig = home.path().join("kubeconfig");
    fs::write(&kubeconfig, "users: [{name: other, user: {token: t}}]").unwrap();
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("pod.yaml"), POD).unwrap();
    let base = port_base().to_string();
    let write = format!("--write-kubeconfig={}", kubeconfig.display());
    let (data, manifests) = (data.to_str().unwrap(), manifests.to_str().unwrap());
    let places = ["--data", data, "--manifests", manifests, &write];
    let sizes = ["--hollow", "1", "--port-base", &base];
    let cluster = dev(home.path(), &[&places[..], &sizes[..]].concat());
    assert!(
        fs::read_to_string(&kubeconfig)
            .unwrap()
            .contains("token: t")
    );

    let explain = || asked(&kubeconfig, &["explain", "pod", "big", "-o", "json"]);
    let explained = eventually("the pod is applied", || {
        let output = explain();
        let json = || serde_json::from_slice::<Value>(&output.stdout).unwrap();
        output.status.success().then(json)
    });
    assert_eq!(explained["nodes"][0]["node"], "node-1");
    let rejection = &explained["nodes"][0]["rejections"][0];
    assert_eq!(rejection["plugin"], "NodeResourcesFit");
    assert_eq!(rejection["reason"], "Insufficient cpu");
    let summary = explained["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("0/1 nodes are available: 1 Insufficient cpu."),
        "{summary}"
    );
    fs::remove_file(Path::new(manifests).join("pod.yaml")).unwrap();
    until("the pod is deleted", || {
        text(&explain().stderr).contains("pods \"big\" not found")
    });

    let status = || {
        trireme(&["status", "--data", data, "-o", "json"])
            .output()
            .unwrap()
    };
    let well = status();
    assert!(well.status.success(), "{}", text(&well.stderr));
    let well: Value = serde_json::from_slice(&well.stdout).unwrap();
    let leaders = well["leaders"].as_array().unwrap();
    assert!(
        leaders.iter().any(|one| one["lease"] == "kube-scheduler"),
        "{well}"
    );
    assert_eq!(well["members"][0]["behindLeader"], 0);
    assert_eq!(well["apiServers"][1]["readyz"]["ok"], true, "{well}");
    assert_eq!(well["certificates"].as_array().unwrap().len(), 3, "{well}");
    let pid = fs::read_to_string(Path::new(data).join("master-1/pid")).unwrap();
    signal(pid.trim().parse().unwrap(), Signal::SIGKILL);
    let unwell = status();
    assert!(!unwell.status.success());
    let said = text(&unwell.stderr);
    assert!(said.contains("1 of 1 members are not well"), "{said}");
    let unwell: Value = serde_json::from_slice(&unwell.stdout).unwrap();
    assert_eq!(unwell["apiServers"][1]["livez"]["ok"], false, "{unwell}");
    assert!(cluster.end(Signal::SIGTERM).success());
}

//! Any master may die: what was acknowledged is there, and whoever watches goes on.

use std::io::BufRead;
use std::process::Stdio;
use std::thread;

use crate::support::{Dev, eventually, until};

#[test]
fn any_master_may_be_killed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_masters(dir.path());
    let kubectl = dev.kubectl();
    let mut written = Vec::new();
    for victim in 1..=3 {
        for at in 0..3 {
            let name = format!("c-{victim}-{at}");
            if at == 1 {
                dev.kill(victim);
            }
            // An attempt may meet the death of its server; what it says is what counts.
            eventually("a write is acknowledged", || {
                kubectl.succeeds(&["create", "cm", &name]).then_some(())?;
                written.push(name.clone());
                Some(())
            });
        }
        crate::support::must(&[
            "dev",
            "start",
            &format!("master-{victim}"),
            "--data",
            dev.data(),
        ]);
        let context = format!("--context=master-{victim}");
        let direct = kubectl.with(&[&context]);
        until("the master serves again", || {
            direct.succeeds(&["get", "--raw", "/readyz"])
        });
        // It has everything that was acknowledged, whoever acknowledged it.
        let names = direct.must(&["get", "cm", "-o", "name"]);
        for name in &written {
            assert!(
                names.contains(name),
                "{name} is missing at master-{victim}:\n{names}"
            );
        }
    }
    dev.stop();
}

#[test]
fn a_watch_goes_on_at_another_master() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::of_masters(dir.path());
    let kubectl = dev.kubectl();
    kubectl.must(&["create", "cm", "a"]);
    let version = kubectl.path(&["cm", "a"], "{.metadata.resourceVersion}");
    dev.kill(1);
    kubectl
        .with(&["--context=master-2"])
        .must(&["create", "cm", "b"]);
    // What a client saw at one server, it can go on from at another.
    let path = format!(
        "/api/v1/namespaces/default/configmaps?watch=1&fieldSelector=metadata.name%3Db\
         &timeoutSeconds=20&resourceVersion={version}"
    );
    let other = kubectl.with(&["--context=master-3"]);
    let mut watch = other
        .command(&["get", "--raw", &path])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    let deletes = thread::spawn({
        let kubectl = kubectl.with(&["--context=master-2"]);
        move || kubectl.must(&["delete", "cm", "b"])
    });
    let mut next = || lines.next().unwrap().unwrap();
    let added = next();
    assert!(
        added.starts_with(r#"{"type":"ADDED""#) && added.contains(r#""name":"b""#),
        "{added}"
    );
    let deleted = next();
    assert!(deleted.starts_with(r#"{"type":"DELETED""#), "{deleted}");
    deletes.join().unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    dev.stop();
}

//! The loss of a quorum: what is left becomes a new cluster, and the old members stay outside.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::{Dev, Members, must, refused, signal, text, trireme, until};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn a_new_cluster_of_what_is_left_serves_and_fences_the_old_members() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, base) = Dev::of_three(dir.path());
    let etcdctl = cluster.etcdctl();
    etcdctl.must(&["put", "kept", "safe"]);
    let data = |n: u16| dir.path().join(format!("master-{n}/data"));
    let config = |n: u16| {
        dir.path()
            .join(format!("master-{n}/store.yaml"))
            .to_str()
            .unwrap()
            .to_owned()
    };
    let one = data(1).to_str().unwrap().to_owned();

    // A member that runs is not touched.
    let running = refused(&["recover", &one, "--dry-run"]);
    assert!(
        running.contains("running") || running.contains("in use"),
        "{running}"
    );
    let revision = etcdctl.revision();
    // master-3 misses the last writes.
    signal(cluster.pid(3).unwrap(), Signal::SIGKILL);
    let two = etcdctl.at(&etcdctl.endpoints()[..2].join(","));
    until("the others write", || {
        two.succeeds(&["put", "last", "words"])
    });
    until("master-1 has applied it", || {
        let read = ["get", "last", "--consistency", "s", "--print-value-only"];
        two.at(&two.endpoints()[0]).run(&read).stdout == b"words\n"
    });
    cluster.stop();
    let lost = dir.path().join("lost");
    copy(&data(2), &lost);
    fs::remove_dir_all(data(2)).unwrap();

    // Both that can be read are compared; the one with the newer log is chosen.
    let three = data(3).to_str().unwrap().to_owned();
    let plan = must(&["recover", &three, &one, "--dry-run"]);
    assert_eq!(plan.matches("last log entry").count(), 2, "{plan}");
    assert!(
        plan.contains("* member master-1") && plan.contains("Chosen: master-1"),
        "{plan}"
    );
    assert!(plan.contains("Not looked at: member master-2"), "{plan}");
    let output = trireme(&["recover", &one])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("--yes"));
    fs::remove_dir_all(data(3)).unwrap();
    let done = must(&["recover", &one, "--yes"]);
    assert!(done.contains("of the new cluster"), "{done}");

    // It serves alone at once, far above the old revisions.
    let mut members = Members::default();
    members.run(
        "master-1",
        dir.path().join("one.log"),
        &["--config", &config(1)],
    );
    let alone = etcdctl.at(&etcdctl.endpoints()[0]);
    until("it serves", || alone.succeeds(&["endpoint", "health"]));
    assert_eq!(
        (alone.get("kept"), alone.get("last")),
        ("safe".to_owned(), "words".to_owned())
    );
    assert!(alone.revision() > revision + 900_000_000);
    assert_eq!(
        alone.json(&["member", "list"])["members"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // The old member comes back with its old disk: it gets nowhere, and nothing is disturbed.
    copy(&lost, &data(2));
    let term = |of: &crate::support::Etcdctl| {
        of.json(&["endpoint", "status"])[0]["Status"]["raftTerm"].clone()
    };
    let before = term(&alone);
    let log = dir.path().join("two.log");
    members.run("master-2", log.clone(), &["--config", &config(2)]);
    until("it is told that it does not belong", || {
        fs::read_to_string(&log)
            .unwrap()
            .contains("belongs to another cluster")
    });
    let old = etcdctl.at(&etcdctl.endpoints()[1]);
    assert!(!old.succeeds(&["put", "kept", "lost", "--command-timeout", "1s"]));
    assert_eq!(alone.get("kept"), "safe");
    assert_eq!(term(&alone), before);
    members.stop("master-2");

    // With an empty disk it joins anew, although its file still has the founding members.
    fs::remove_dir_all(data(2)).unwrap();
    let peer = format!("https://127.0.0.1:{}", base + 11);
    members.run("master-2", log, &["--config", &config(2), "--join", &peer]);
    until("it has a vote", || {
        let list = alone.json(&["member", "list"]);
        let mut members = list["members"].as_array().unwrap().iter();
        members.any(|member| member["name"] == "master-2" && member["isLearner"] != true)
    });
    assert_eq!(old.get("last"), "words");
    assert!(members.is_running("master-1"));
}

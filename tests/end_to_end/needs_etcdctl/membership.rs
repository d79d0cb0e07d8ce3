//! Members that join, get a vote, are replaced and removed, over mTLS.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Dev, Etcdctl, Members, Talk, must, port_base, refused, signal, trireme, until,
};

/// Runs a member with the certificates of master-1, which hold for every loopback address.
fn run(members: &mut Members, cluster: &Path, name: &str, port: u16, further: &[&str]) {
    let pki = |file: &str| cluster.join("pki").join(file).to_str().unwrap().to_owned();
    let mut arguments = vec!["--name".to_owned(), name.to_owned()];
    let home = cluster.join(name);
    arguments.extend(["--data-dir".to_owned(), home.to_str().unwrap().to_owned()]);
    arguments.extend(["--listen-client-urls".to_owned(), url(port)]);
    arguments.extend(["--listen-peer-urls".to_owned(), url(port + 1)]);
    for (flag, file) in [
        ("--cert-file", "master-1.crt"),
        ("--key-file", "master-1.key"),
        ("--trusted-ca-file", "ca.crt"),
        ("--peer-cert-file", "master-1-peer.crt"),
        ("--peer-key-file", "master-1-peer.key"),
        ("--peer-trusted-ca-file", "peer-ca.crt"),
    ] {
        arguments.extend([flag.to_owned(), pki(file)]);
    }
    arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
    members.run(name, home.with_extension("log"), &arguments);
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// The member with this name, if it is known.
fn member(etcdctl: &Etcdctl, name: &str) -> Option<Value> {
    let list = etcdctl.json(&["member", "list"]);
    list["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["name"] == name)
        .cloned()
}

fn id(member: &Value) -> String {
    format!("{:x}", member["ID"].as_u64().unwrap())
}

fn is_learner(member: &Value) -> bool {
    member["isLearner"] == true
}

#[test]
fn one_command_joins_and_one_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, base) = Dev::of_three(dir.path());
    let etcdctl = cluster.etcdctl();
    etcdctl.must(&["put", "old", "news"]);
    let mut members = Members::default();
    let peers = url(base + 11);
    run(
        &mut members,
        dir.path(),
        "four",
        base + 40,
        &["--join", &peers],
    );
    until("it has a vote", || {
        member(&etcdctl, "four").is_some_and(|four| !is_learner(&four))
    });
    assert_eq!(etcdctl.at(&url(base + 40)).get("old"), "news");

    // A learner stays one if that is wanted; it reads its own state and forwards nothing.
    run(
        &mut members,
        dir.path(),
        "five",
        base + 50,
        &["--join", &peers, "--learner"],
    );
    until("it is known", || member(&etcdctl, "five").is_some());
    let learner = etcdctl.at(&url(base + 50));
    until("it has the data", || {
        let read = ["get", "old", "--consistency", "s", "--print-value-only"];
        learner.run(&read).stdout == b"news\n"
    });
    assert!(is_learner(&member(&etcdctl, "five").unwrap()));
    must(&["member", "promote", "five", "--data", cluster.data()]);
    assert!(!is_learner(&member(&etcdctl, "five").unwrap()));
    let again = refused(&["member", "promote", "five", "--data", cluster.data()]);
    assert!(again.contains("can only promote a learner"), "{again}");

    // Leadership moves to a newcomer, and away again when it is removed.
    must(&["member", "move-leader", "four", "--data", cluster.data()]);
    until("it leads", || {
        must(&["member", "list", "--data", cluster.data()])
            .lines()
            .any(|line| line.contains("four") && line.contains("leader"))
    });
    must(&["member", "remove", "four", "--data", cluster.data()]);
    assert_eq!(member(&etcdctl, "four"), None);
    etcdctl.must(&["put", "old", "story"]);
    assert_eq!(etcdctl.at(&url(base + 50)).get("old"), "story");
    // Its directory is of no use any more.
    let removed = etcdctl.at(&url(base + 40));
    assert!(!removed.succeeds(&["put", "a", "b", "--command-timeout", "2s"]));
    cluster.stop();
}

#[test]
fn a_replacement_waits_for_the_new_member_and_removes_the_old_one() {
    let temporary = tempfile::tempdir().unwrap();
    let base = port_base();
    let dir = temporary.path().join("cluster");
    let options = ["--insecure", "--port-base", &base.to_string()];
    let cluster = Dev::start(&dir, &options);
    let list = || must(&["member", "list", "--data", cluster.data()]);
    let has = |name: &str, role: &str| {
        list()
            .lines()
            .any(|line| line.contains(name) && line.contains(role))
    };
    assert_eq!(list().lines().count(), 4);
    assert_eq!(list().matches("leader").count(), 1);
    let status = || must(&["status", "--data", cluster.data()]);
    assert_eq!(status().lines().count(), 4);

    let peer = |master: u16| format!("http://127.0.0.1:{}", base + 10 * master + 1);
    let replace = ["member", "replace", "master-3", &peer(5), "--data"];
    let mut replacing = trireme(&replace);
    let replacing = Talk::start({
        replacing.arg(cluster.data());
        replacing
    });
    replacing.read_to("waiting");
    let mut members = Members::default();
    let home = temporary.path().join("five");
    members.run_plain("five", &home, base + 50, &["--join", &peer(1)]);
    assert!(replacing.ended().success());
    assert!(has("five", "") && !has("master-3", ""), "{}", list());
    assert_eq!(status().lines().count(), 4);
    cluster.stop();
}

#[test]
fn etcdctl_adds_promotes_updates_and_removes() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, base) = Dev::of_three(dir.path());
    let etcdctl = cluster.etcdctl();
    let mut members = Members::default();
    let (fourth, peers) = (url(base + 41), url(base + 11));
    let added = etcdctl.must(&["member", "add", "four", "--learner", "--peer-urls", &fourth]);
    assert!(added.contains("added to cluster"), "{added}");
    let taken = etcdctl.refused(&["member", "add", "five", "--peer-urls", &fourth]);
    assert!(taken.contains("Peer URLs already exists"), "{taken}");
    let unready = etcdctl.json(&["member", "list"]);
    let unready = unready["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| is_learner(m))
        .unwrap();
    let early = etcdctl.refused(&["member", "promote", &id(unready)]);
    assert!(early.contains("in sync with leader"), "{early}");

    // It takes the place that was made for it.
    run(
        &mut members,
        dir.path(),
        "four",
        base + 40,
        &["--join", &peers],
    );
    until("it is known", || member(&etcdctl, "four").is_some());
    let four = member(&etcdctl, "four").unwrap();
    assert_eq!(id(&four), id(unready));
    assert!(is_learner(&four));
    until("it has caught up", || {
        etcdctl.succeeds(&["member", "promote", &id(&four)])
    });
    assert!(!is_learner(&member(&etcdctl, "four").unwrap()));

    // An address that an operator gives holds until the member says otherwise at its next start.
    let localhost = format!("https://localhost:{}", base + 41);
    etcdctl.must(&["member", "update", &id(&four), "--peer-urls", &localhost]);
    etcdctl.must(&["put", "a", "1"]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(member(&etcdctl, "four").unwrap()["peerURLs"][0], *localhost);
    until("it is reached there", || {
        etcdctl.at(&url(base + 40)).get("a") == "1"
    });

    let removed = etcdctl.must(&["member", "remove", &id(&four)]);
    assert!(removed.contains("removed from cluster"), "{removed}");
    assert_eq!(
        etcdctl.json(&["member", "list"])["members"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert!(
        etcdctl
            .refused(&["member", "remove", &id(&four)])
            .contains("member not found")
    );

    // With one of three down, removing another would cost the quorum.
    signal(cluster.pid(3).unwrap(), Signal::SIGKILL);
    let rest = etcdctl.at(&etcdctl.endpoints()[..2].join(","));
    until("the rest lead", || rest.succeeds(&["put", "a", "2"]));
    let status = rest.json(&["endpoint", "status"]);
    let leader = status[0]["Status"]["leader"].as_u64().unwrap();
    let follower = (0..2)
        .map(|at| {
            status[at]["Status"]["header"]["member_id"]
                .as_u64()
                .unwrap()
        })
        .find(|id| *id != leader)
        .unwrap();
    // The dead one counts as there for some seconds after its last answer.
    until("the dead one counts as gone", || {
        let refusal = rest.refused(&["member", "remove", &format!("{follower:x}")]);
        refusal.contains("not enough started members")
    });
    let dead = member(&rest, "master-3").unwrap();
    rest.must(&["member", "remove", &id(&dead)]);
    rest.must(&["put", "a", "3"]);
    cluster.stop();
}

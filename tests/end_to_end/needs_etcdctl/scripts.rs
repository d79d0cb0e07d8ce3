//! The contract of `trireme dev` for scripts.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Dev, Etcdctl, alive, must, port_base, refused, signal, until};

#[test]
fn a_dev_cluster_keeps_the_contract_for_scripts() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("cluster");
    let base = port_base().to_string();
    let options = ["--masters", "3", "--port-base", base.as_str()];
    let cluster = Dev::start(&dir, &options);
    let etcdctl = cluster.etcdctl();
    etcdctl.must(&["put", "hello", "world"]);
    etcdctl.must(&["endpoint", "health"]);

    // A killed master stays down, and the others go on.
    signal(cluster.pid(1).unwrap(), Signal::SIGKILL);
    until("the pid file goes", || cluster.pid(1).is_none());
    until("the others write", || {
        etcdctl.succeeds(&["put", "still", "here"])
    });
    assert_eq!(cluster.pid(1), None);

    // It comes back on request.
    must(&["dev", "start", "master-1", "--data", cluster.data()]);
    until("all are well again", || {
        etcdctl.succeeds(&["endpoint", "health"])
    });

    // SIGTERM stops everything, and the same command resumes it with its data.
    let pids: Vec<u32> = (1..=3).map(|n| cluster.pid(n).unwrap()).collect();
    cluster.stop();
    assert!(!pids.iter().any(|pid| alive(*pid)));
    let cluster = Dev::start(&dir, &options);
    assert_eq!(cluster.etcdctl().get("still"), "here");
    cluster.stop();
}

#[test]
fn etcdctl_may_name_plain_endpoints_by_url() {
    let dir = tempfile::tempdir().unwrap();
    let base = port_base();
    let options = ["--masters", "1", "--insecure", "--port-base"];
    let cluster = Dev::start(dir.path(), &[&options[..], &[&base.to_string()]].concat());
    let url = format!("http://127.0.0.1:{}", base + 10);
    let etcdctl = Etcdctl::plain(&url);
    etcdctl.must(&["put", "a", "b"]);
    assert_eq!(etcdctl.get("a"), "b");
    // Of these calls etcdctl 3.4 makes the URL the authority.
    for call in [
        &["endpoint", "status"][..],
        &["endpoint", "hashkv"],
        &["alarm", "list"],
        &["defrag"],
        &["snapshot", "save", dir.path().join("s").to_str().unwrap()],
    ] {
        etcdctl.must(call);
    }
    cluster.stop();
}

#[test]
fn the_files_for_scripts_are_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, base) = Dev::of_three(dir.path());
    let expected: Vec<String> = (1..=3)
        .map(|n| format!("https://127.0.0.1:{}", base + 10 * n))
        .collect();
    assert_eq!(
        cluster.etcdctl().endpoints(),
        expected,
        "port P+10*N, in the members' order"
    );
    let env = fs::read_to_string(dir.path().join("etcdctl.env")).unwrap();
    let names: Vec<&str> = env
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    assert_eq!(
        names,
        [
            "ETCDCTL_ENDPOINTS",
            "ETCDCTL_CACERT",
            "ETCDCTL_CERT",
            "ETCDCTL_KEY"
        ]
    );
    assert!((1..=3).all(|n| alive(cluster.pid(n).unwrap())));
    let status = must(&["dev", "status", "--data", cluster.data()]);
    assert!(
        (1..=3).all(|n| status.contains(&format!("master-{n}"))),
        "{status}"
    );

    // Without a client certificate nobody gets in.
    let mut stranger = std::process::Command::new("etcdctl");
    stranger
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &expected[0]]);
    stranger.args(["--cacert", dir.path().join("pki/ca.crt").to_str().unwrap()]);
    stranger.args([
        "--dial-timeout",
        "1s",
        "--command-timeout",
        "2s",
        "get",
        "a",
    ]);
    assert!(!stranger.output().unwrap().status.success());

    // The directory has one supervisor.
    let second = refused(&["dev", "--store-only", "--data", cluster.data()]);
    assert!(second.contains("another process"), "{second}");

    // One that was stopped stays down, too.
    must(&["dev", "stop", "master-2", "--data", cluster.data()]);
    until("its pid file goes", || cluster.pid(2).is_none());
    let rest = cluster
        .etcdctl()
        .at(&format!("{},{}", expected[0], expected[2]));
    until("the others write", || rest.succeeds(&["put", "a", "1"]));
    must(&["dev", "start", "master-2", "--data", cluster.data()]);
    until("it catches up", || {
        cluster.etcdctl().at(&expected[1]).get("a") == "1"
    });
    cluster.stop();
}

#[test]
fn what_was_acknowledged_survives_the_death_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, base) = Dev::of_three(dir.path());
    let etcdctl = cluster.etcdctl();
    let writer = etcdctl.clone();
    let pids: Vec<u32> = (1..=3).map(|n| cluster.pid(n).unwrap()).collect();
    let written = std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut written = 0;
            while writer.succeeds(&[
                "put",
                &format!("k{written}"),
                "v",
                "--command-timeout",
                "2s",
            ]) {
                written += 1;
            }
            written
        });
        until("some writes", || {
            etcdctl.succeeds(&["get", "k20"]) && !etcdctl.get("k20").is_empty()
        });
        for pid in &pids {
            signal(*pid, Signal::SIGKILL);
        }
        writing.join().unwrap()
    });
    assert!(written > 20);
    until("all pid files go", || {
        (1..=3).all(|n| cluster.pid(n).is_none())
    });
    must(&[
        "dev",
        "start",
        "master-1",
        "master-2",
        "master-3",
        "--data",
        cluster.data(),
    ]);
    until("it serves", || etcdctl.succeeds(&["endpoint", "health"]));
    let keys = etcdctl.must(&["get", "k", "--prefix", "--keys-only"]);
    for n in 0..written {
        assert!(
            keys.contains(&format!("k{n}\n")),
            "k{n} of {written} is lost"
        );
    }

    // The supervisor's death takes its members along, and the same command resumes.
    let pids: Vec<u32> = (1..=3).map(|n| cluster.pid(n).unwrap()).collect();
    signal(cluster.supervisor(), Signal::SIGKILL);
    until("its members end", || !pids.iter().any(|pid| alive(*pid)));
    drop(cluster);
    let cluster = Dev::start(
        dir.path(),
        &["--masters", "3", "--port-base", &base.to_string()],
    );
    assert_eq!(cluster.etcdctl().get("k0"), "v");
    cluster.stop();
}

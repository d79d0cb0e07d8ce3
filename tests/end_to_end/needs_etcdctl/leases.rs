//! Leases, and what etcdctl builds on them: locks and elections.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Dev, Etcdctl, until};

fn grant(etcdctl: &Etcdctl, ttl: &str) -> String {
    let granted = etcdctl.must(&["lease", "grant", ttl]);
    assert!(
        granted.contains(&format!("granted with TTL({ttl}s)")),
        "{granted}"
    );
    granted.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn leases_hold_keys_until_they_are_revoked_or_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _) = Dev::of_three(dir.path());
    let etcdctl = cluster.etcdctl();

    let long = grant(&etcdctl, "100");
    etcdctl.must(&["put", "l/a", "1", "--lease", &long]);
    etcdctl.must(&["put", "l/b", "2", "--lease", &long]);
    etcdctl.must(&["put", "l/free", "3"]);
    let told = etcdctl.must(&["lease", "timetolive", &long, "--keys"]);
    assert!(
        told.contains("granted with TTL(100s)") && told.contains("[l/a l/b]"),
        "{told}"
    );
    assert!(etcdctl.must(&["lease", "list"]).contains(&long));
    let kept = etcdctl.must(&["lease", "keep-alive", "--once", &long]);
    assert!(kept.contains("keepalived with TTL(100)"), "{kept}");
    assert!(
        etcdctl
            .must(&["lease", "revoke", &long])
            .contains("revoked")
    );
    assert_eq!(
        etcdctl.must(&["get", "l/", "--prefix", "--keys-only"]),
        "l/free\n\n"
    );
    let gone = etcdctl.must(&["lease", "timetolive", &long]);
    assert!(gone.contains("already expired"), "{gone}");
    let unknown = "requested lease not found";
    assert!(
        etcdctl
            .refused(&["lease", "revoke", &long])
            .contains(unknown)
    );
    assert!(
        etcdctl
            .refused(&["put", "x", "y", "--lease", &long])
            .contains(unknown)
    );

    // A lease that is kept alive outlives its time, even when the leader dies; then it expires.
    let short = grant(&etcdctl, "2");
    etcdctl.must(&["put", "s", "1", "--lease", &short]);
    let keeper = etcdctl.start(&["lease", "keep-alive", &short]);
    keeper.read_to("keepalived with TTL(2)");
    let granted_at = Instant::now();
    let status = etcdctl.json(&["endpoint", "status"]);
    let leader = status[0]["Status"]["leader"].clone();
    let ids = (0..3).map(|at| status[at]["Status"]["header"]["member_id"].clone());
    let master = ids.into_iter().position(|id| id == leader).unwrap();
    crate::support::signal(cluster.pid(master as u16 + 1).unwrap(), Signal::SIGKILL);
    let mut others = etcdctl.endpoints();
    others.remove(master);
    let others = etcdctl.at(&others.join(","));
    until("the others lead", || {
        others.succeeds(&["put", "after", "death"])
    });
    while granted_at.elapsed() < Duration::from_secs(4) {
        assert_eq!(others.get("s"), "1", "after {:?}", granted_at.elapsed());
    }
    drop(keeper);
    until("it expires", || others.get("s").is_empty());
    cluster.stop();
}

#[test]
fn a_lock_is_held_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _) = Dev::of_three(dir.path());
    let etcdctl = cluster.etcdctl();
    let first = etcdctl.start(&["lock", "door"]);
    assert!(first.line().starts_with("door/"));
    let mut second = etcdctl.start(&["lock", "door", "echo", "mine"]);
    until("the second one waits", || {
        etcdctl
            .must(&["get", "door/", "--prefix", "--keys-only"])
            .matches("door/")
            .count()
            == 2
    });
    assert!(second.is_running());
    assert!(first.end(Signal::SIGINT).success());
    assert_eq!(second.line(), "mine");
    assert!(second.child.wait().unwrap().success());
    until("nobody holds it", || {
        etcdctl.must(&["get", "door/", "--prefix"]).is_empty()
    });
    cluster.stop();
}

#[test]
fn an_election_has_one_winner_after_another() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _) = Dev::of_three(dir.path());
    let etcdctl = cluster.etcdctl();
    let listener = etcdctl.start(&["elect", "--listen", "chair"]);
    let alice = etcdctl.start(&["elect", "chair", "alice"]);
    alice.read_to("alice");
    listener.read_to("alice");
    let bob = etcdctl.start(&["elect", "chair", "bob"]);
    until("bob stands for it too", || {
        etcdctl
            .must(&["get", "chair/", "--prefix", "--keys-only"])
            .matches("chair/")
            .count()
            == 2
    });
    assert!(alice.end(Signal::SIGINT).success());
    bob.read_to("bob");
    listener.read_to("bob");
    cluster.stop();
}

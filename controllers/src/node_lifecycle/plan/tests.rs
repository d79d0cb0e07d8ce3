//! Stories of nodes that fall silent, alone and together.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::health::{Grace, Health, Look, Ready, look};
use super::zones::{Count, Rates, Verdict, Zones};
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn condition(kind: &str, status: &str, heartbeat: i64) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        last_heartbeat_time: Some(Time(at(heartbeat))),
        ..NodeCondition::default()
    }
}

fn node(conditions: Vec<NodeCondition>) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some("n".to_owned());
    node.metadata.creation_timestamp = Some(Time(at(0)));
    node.status.conditions = conditions;
    node
}

fn look_at(node: &Node, lease: Option<i64>, known: Option<&Health>, now: i64) -> Look {
    let lease = lease.map(|second| MicroTime(at(second)));
    look(node, lease.as_ref(), known, Grace::default(), at(now))
}

#[test]
fn conditions_and_cordons_keep_new_pods_away() {
    let keys = |taints: Vec<Taint>| taints.into_iter().map(|t| t.key).collect::<Vec<_>>();
    let plan = |node: &Node| {
        let (add, remove) = no_schedule(node);
        (keys(add), keys(remove))
    };
    let none = Vec::<String>::new;
    let cases = [
        (condition("Ready", "True", 0), none()),
        (
            condition("Ready", "False", 0),
            vec![taint::NOT_READY.to_owned()],
        ),
        (
            condition("Ready", "Unknown", 0),
            vec![taint::UNREACHABLE.to_owned()],
        ),
        (
            condition("MemoryPressure", "True", 0),
            vec![taint::MEMORY_PRESSURE.to_owned()],
        ),
        (
            condition("DiskPressure", "True", 0),
            vec![taint::DISK_PRESSURE.to_owned()],
        ),
        (
            condition("PIDPressure", "True", 0),
            vec![taint::PID_PRESSURE.to_owned()],
        ),
        (
            condition("NetworkUnavailable", "True", 0),
            vec![taint::NETWORK_UNAVAILABLE.to_owned()],
        ),
        (condition("DiskPressure", "Unknown", 0), none()),
    ];
    for (condition, wanted) in cases {
        let mut one = node(vec![condition.clone()]);
        assert_eq!(plan(&one), (wanted.clone(), none()), "{condition:?}");
        one.spec.taints = wanted
            .iter()
            .map(|key| taint::taint(key, NO_SCHEDULE))
            .collect();
        assert_eq!(plan(&one), (none(), none()), "already there");
        one.status.conditions.clear();
        assert_eq!(plan(&one), (none(), wanted), "no longer wanted");
    }
    let mut cordoned = node(Vec::new());
    cordoned.spec.unschedulable = true;
    cordoned.spec.taints = vec![taint::taint("mine", NO_SCHEDULE)];
    assert_eq!(
        plan(&cordoned),
        (vec![taint::UNSCHEDULABLE.to_owned()], none())
    );
}

#[test]
fn renamed_labels_follow() {
    let mut one = node(Vec::new());
    let labels = [
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "arm64"),
        ("beta.kubernetes.io/arch", "x"),
    ];
    one.metadata.labels = Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let stale = stale_labels(&one);
    let wanted = BTreeMap::from([
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", "arm64"),
    ]);
    assert_eq!(stale, wanted);
    assert!(stale_labels(&node(Vec::new())).is_empty());
}

#[test]
fn a_node_that_posts_or_renews_stays_alive() {
    let mut one = node(vec![condition("Ready", "True", 10)]);
    let first = look_at(&one, None, None, 100);
    assert_eq!(
        first.health.heard,
        at(100),
        "what is new here counts from now"
    );
    assert_eq!(
        (first.observed, first.current, &first.write),
        (Ready::True, Some(Ready::True), &None)
    );

    let quiet = look_at(&one, None, Some(&first.health), 150);
    assert_eq!(quiet.write, None, "50 s are not over");
    let renewed = look_at(&one, Some(20), Some(&quiet.health), 150);
    assert_eq!(renewed.health.heard, at(150));
    let same_lease = look_at(&one, Some(20), Some(&renewed.health), 160);
    assert_eq!(
        same_lease.health.heard,
        at(150),
        "the same renewal is no news"
    );
    one.status.conditions = vec![condition("Ready", "True", 30)];
    let posted = look_at(&one, Some(20), Some(&same_lease.health), 170);
    assert_eq!(posted.health.heard, at(170));
    assert_eq!(posted.write, None);
}

#[test]
fn a_silent_node_is_unknown() {
    let one = node(vec![
        condition("Ready", "True", 10),
        condition("DiskPressure", "False", 10),
    ]);
    let first = look_at(&one, None, None, 100);
    let silent = look_at(&one, None, Some(&first.health), 151);
    assert_eq!(
        (silent.observed, silent.current),
        (Ready::True, Some(Ready::Unknown))
    );
    let written = silent.write.unwrap();
    let told: Vec<_> = written
        .iter()
        .map(|c| {
            (
                c.type_.as_str(),
                c.status.as_str(),
                c.reason.as_deref().unwrap(),
                c.message.as_deref().unwrap(),
            )
        })
        .collect();
    let stopped = ("NodeStatusUnknown", "Kubelet stopped posting node status.");
    let never = (
        "NodeStatusNeverUpdated",
        "Kubelet never posted node status.",
    );
    assert_eq!(
        told,
        [
            ("Ready", "Unknown", stopped.0, stopped.1),
            ("MemoryPressure", "Unknown", never.0, never.1),
            ("DiskPressure", "Unknown", stopped.0, stopped.1),
            ("PIDPressure", "Unknown", never.0, never.1),
        ]
    );
    assert_eq!(
        written[0].last_heartbeat_time,
        Some(Time(at(10))),
        "its own last word stays"
    );
    assert_eq!(written[1].last_heartbeat_time, Some(Time(at(0))));
    assert_eq!(written[0].last_transition_time, Some(Time(at(151))));

    let known = node(vec![condition("Ready", "Unknown", 10)]);
    let again = look_at(&known, None, Some(&silent.health), 200);
    assert_eq!(
        (again.write, again.current),
        (None, Some(Ready::Unknown)),
        "said once"
    );
}

#[test]
fn a_node_that_never_posted_has_its_startup_time() {
    let one = node(Vec::new());
    let first = look_at(&one, None, None, 30);
    assert_eq!(
        (first.observed, first.current, first.write),
        (Ready::Unknown, None, None)
    );
    let late = look_at(&one, None, Some(&first.health), 61);
    assert_eq!(late.write.map(|c| c.len()), Some(4));
    let renewing = look_at(&one, Some(55), Some(&first.health), 61);
    assert_eq!(renewing.write, None, "its lease is a sign of life");
    let posted = node(vec![condition("Ready", "True", 62)]);
    let alive = look_at(&posted, None, Some(&late.health), 200);
    assert_eq!((alive.health.heard, alive.write), (at(200), None));
}

fn counts(zones: &[(&str, usize, usize)]) -> BTreeMap<String, Count> {
    let counts = zones.iter().map(|(zone, ready, unready)| {
        (
            zone.to_string(),
            Count {
                ready: *ready,
                unready: *unready,
            },
        )
    });
    counts.collect()
}

/// How many nodes of a zone are tainted in so many seconds.
fn tainted(zones: &mut Zones, from: i64, seconds: i64) -> usize {
    let mut count = 0;
    for tenth in 0..seconds * 10 {
        let now = at(from) + SignedDuration::from_millis(tenth * 100);
        for node in zones.due(now) {
            zones.unqueue(&node);
            count += 1;
        }
    }
    count
}

fn with_queue(zone: &str, nodes: usize, before: &[(&str, usize, usize)]) -> Zones {
    let mut zones = Zones::new(Rates::default());
    zones.update(&counts(before), at(0));
    for node in 0..nodes {
        zones.queue(zone, &format!("{zone}{node}"), at(0));
    }
    zones
}

#[test]
fn a_healthy_zone_loses_a_node_per_ten_seconds() {
    let mut zones = with_queue("a", 20, &[("a", 80, 20)]);
    assert_eq!(tainted(&mut zones, 0, 60), 6);
}

#[test]
fn an_unhealthy_small_zone_loses_none_and_a_large_one_few() {
    let mut small = with_queue("a", 20, &[("a", 10, 20)]);
    assert_eq!(tainted(&mut small, 0, 600), 0);
    let mut large = with_queue("a", 40, &[("a", 20, 40)]);
    assert_eq!(tainted(&mut large, 0, 300), 3);
    let mut two = with_queue("a", 2, &[("a", 0, 2), ("b", 9, 0)]);
    assert_eq!(
        tainted(&mut two, 0, 20),
        2,
        "a lost zone while others live is given up"
    );
    let mut few = with_queue("a", 2, &[("a", 1, 2)]);
    assert_eq!(tainted(&mut few, 0, 20), 2, "two are never much of a zone");
}

#[test]
fn when_all_is_lost_nothing_is_given_up() {
    let mut zones = with_queue("a", 3, &[("a", 3, 3), ("b", 2, 0)]);
    let lost = counts(&[("a", 0, 6), ("b", 0, 2)]);
    assert_eq!(zones.update(&lost, at(5)), Verdict::EveryoneIsLost);
    for node in 0..6 {
        zones.queue("a", &format!("a{node}"), at(5));
    }
    assert_eq!(tainted(&mut zones, 5, 600), 0);
    assert_eq!(zones.update(&lost, at(600)), Verdict::Nothing);
    let back = counts(&[("a", 1, 5), ("b", 0, 2)]);
    assert_eq!(zones.update(&back, at(601)), Verdict::SomeoneIsBack);
    assert_eq!(
        zones.update(&counts(&[("a", 6, 0), ("b", 2, 0)]), at(602)),
        Verdict::Nothing
    );
    assert!(tainted(&mut zones, 602, 20) > 0);
}

#[test]
fn a_node_waits_once_and_moves_with_its_zone() {
    let mut zones = Zones::new(Rates::default());
    zones.update(&counts(&[("a", 3, 0), ("b", 3, 0)]), at(0));
    assert!(zones.queue("a", "n", at(0)));
    assert!(!zones.queue("a", "n", at(0)));
    assert!(zones.queue("b", "n", at(0)), "it was relabelled");
    assert_eq!(zones.due(at(0)), ["n"]);
    zones.unqueue("n");
    assert_eq!(zones.due(at(60)), Vec::<String>::new());
    assert_eq!(zone_of(&node(Vec::new())), "");
    let grace = Grace::default();
    assert_eq!(
        (grace.running, grace.starting),
        (Duration::from_secs(50), Duration::from_secs(60))
    );
}

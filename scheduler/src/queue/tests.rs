//! The queue, told as stories.

use serde_json::json;

use super::*;
use crate::testing::{merged, node, on, pod, pod_of};

fn open(pod: &Pod) -> Option<Plugin> {
    (!pod.gates.is_empty()).then_some(Plugin::SchedulingGates)
}

fn rejectors(plugin: Plugin) -> Plugins {
    [plugin].into_iter().collect()
}

fn queue() -> (Queue, Instant) {
    let epoch = Instant::now();
    (
        Queue::new(epoch, Duration::from_secs(1), Duration::from_secs(10)),
        epoch,
    )
}

fn pop(queue: &mut Queue) -> Option<String> {
    queue.pop().map(|queued| queued.pod.name().to_string())
}

#[test]
fn priority_goes_before_age() {
    let (mut queue, now) = queue();
    for (at, (name, priority)) in [("old", 0), ("young", 0), ("high", 5)]
        .into_iter()
        .enumerate()
    {
        let at = now + Duration::from_millis(at as u64);
        queue.add(
            &pod(name, json!({"spec": {"priority": priority}})),
            at,
            &open,
        );
    }
    assert_eq!(
        [
            pop(&mut queue),
            pop(&mut queue),
            pop(&mut queue),
            pop(&mut queue)
        ]
        .map(|one| one.unwrap_or_default()),
        ["high", "old", "young", ""]
    );
}

#[test]
fn errors_back_off_longer_and_longer() {
    let (mut queue, now) = queue();
    queue.add(&pod("p", json!({})), now, &open);
    let mut at = now;
    for want in [1, 2, 4, 8, 10, 10] {
        let queued = queue.pop().unwrap();
        queue.reject(queued, Plugins::default(), at, &open);
        assert!(
            queue.pop().is_none(),
            "errors are not taken out of backoff early"
        );
        queue.flush(at + Duration::from_secs(want), &open);
        assert!(queue.pop().is_none(), "{want} s are not over");
        at += Duration::from_secs(want + 1);
        assert_eq!(queue.next_flush(), Some(at));
        queue.flush(at, &open);
    }
}

#[test]
fn only_what_helps_moves_a_pod() {
    let (mut queue, now) = queue();
    queue.add(&pod_of("p", "2", json!({})), now, &open);
    let queued = queue.pop().unwrap();
    queue.reject(queued, rejectors(Plugin::NodeResourcesFit), now, &open);
    assert_eq!(queue.sizes().unschedulable, 1);
    let small = node("small", json!({"status": {"allocatable": {"cpu": "1"}}}));
    let large = node("large", json!({}));
    let later = now + Duration::from_secs(60);
    let added = |node: &crate::views::Node, queue: &mut Queue| {
        let object = Object::Node(Change {
            old: None,
            new: Some(node),
        });
        queue.happened(
            &Event {
                action: Action::ADD,
                object,
            },
            |_| true,
            later,
            &open,
        )
    };
    assert_eq!(added(&small, &mut queue), 0);
    assert_eq!(added(&large, &mut queue), 1);
    assert_eq!(pop(&mut queue).as_deref(), Some("p"));
}

#[test]
fn a_pod_that_leaves_makes_room() {
    let (mut queue, now) = queue();
    queue.add(&pod_of("p", "2", json!({})), now, &open);
    let queued = queue.pop().unwrap();
    queue.reject(queued, rejectors(Plugin::NodeResourcesFit), now, &open);
    let gone = pod_of("gone", "1", on("a", json!({})));
    let object = Object::Pod(Change {
        old: Some(&gone),
        new: None,
    });
    let event = Event {
        action: Action::DELETE,
        object,
    };
    assert_eq!(event.label(), "AssignedPodDelete");
    assert_eq!(queue.happened(&event, |_| true, now, &open), 1);
    assert_eq!(queue.sizes().backoff, 1, "it failed just now");
    assert_eq!(
        pop(&mut queue).as_deref(),
        Some("p"),
        "but there is nothing better to do"
    );
}

#[test]
fn gates_keep_a_pod_out_until_they_are_gone() {
    let (mut queue, now) = queue();
    let gated = pod("p", json!({"spec": {"schedulingGates": [{"name": "g"}]}}));
    queue.add(&gated, now, &open);
    assert_eq!((queue.pop().is_none(), queue.sizes().gated), (true, 1));
    queue.update(&gated, &pod("p", json!({})), now, &open);
    assert_eq!(pop(&mut queue).as_deref(), Some("p"));
}

#[test]
fn an_update_that_matters_moves_a_pod_and_another_does_not() {
    let (mut queue, now) = queue();
    let before = pod("p", json!({}));
    queue.add(&before, now, &open);
    let queued = queue.pop().unwrap();
    queue.reject(queued, rejectors(Plugin::TaintToleration), now, &open);
    let noted = pod("p", json!({"metadata": {"labels": {"a": "b"}}}));
    queue.update(&before, &noted, now, &open);
    assert_eq!(queue.sizes().unschedulable, 1);
    let tolerant = pod(
        "p",
        json!({"spec": {"tolerations": [{"operator": "Exists"}]}}),
    );
    queue.update(&noted, &tolerant, now + Duration::from_secs(60), &open);
    assert_eq!(pop(&mut queue).as_deref(), Some("p"));
}

#[test]
fn time_alone_moves_a_pod_after_five_minutes() {
    let (mut queue, now) = queue();
    queue.add(&pod("p", json!({})), now, &open);
    let queued = queue.pop().unwrap();
    queue.reject(queued, rejectors(Plugin::NodeName), now, &open);
    queue.flush(now + Duration::from_secs(300), &open);
    assert_eq!(queue.sizes().unschedulable, 1);
    queue.flush(now + Duration::from_secs(301), &open);
    assert!(queue.pop().unwrap().was_flushed);
}

#[test]
fn nominations_follow_the_status_and_survive_other_updates() {
    let (mut queue, now) = queue();
    let before = pod("p", json!({}));
    queue.add(&before, now, &open);
    queue.nominations.add(&before, Some("a"));
    queue.update(
        &before,
        &pod("p", json!({"metadata": {"labels": {"x": "y"}}})),
        now,
        &open,
    );
    assert_eq!(queue.nominations.node_of("p"), Some("a"));
    let elsewhere = pod(
        "p",
        merged(json!({}), json!({"status": {"nominatedNodeName": "b"}})),
    );
    queue.update(&before, &elsewhere, now, &open);
    assert_eq!(
        (
            queue.nominations.of("a").len(),
            queue.nominations.of("b").len()
        ),
        (0, 1)
    );
    queue.delete("p");
    assert!(queue.nominations.is_empty());
}

//! Stories of budgets.

use serde_json::{Value, json};

use super::*;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn budget(spec: Value) -> PodDisruptionBudget {
    from(json!({"metadata": {"name": "b", "namespace": "ns", "generation": 1}, "spec": spec}))
}

fn pods(ready: usize, unready: usize) -> Vec<Arc<Pod>> {
    let pod = |number: usize| {
        let status = if number < ready { "True" } else { "False" };
        Arc::new(from(json!({
            "metadata": {"name": format!("p{number}"), "namespace": "ns", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": true}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
        })))
    };
    (0..ready + unready).map(pod).collect()
}

fn scales(wanted: i32) -> Result<Scales, String> {
    Ok(Scales {
        wanted: [("rs".to_owned(), wanted)].into(),
        ..Scales::default()
    })
}

/// Expected, healthy, wanted healthy, allowed.
fn numbers(plan: &Plan) -> (i32, i32, i32, i32) {
    let status = plan.status.as_ref().unwrap();
    (
        status.expected_pods.unwrap(),
        status.current_healthy.unwrap(),
        status.desired_healthy.unwrap(),
        status.disruptions_allowed.unwrap(),
    )
}

#[test]
fn a_budget_allows_what_is_above_it() {
    let cases = [
        (json!({"minAvailable": 1}), pods(3, 0), (3, 3, 1, 2)),
        (json!({"minAvailable": 3}), pods(3, 1), (4, 3, 3, 0)),
        (json!({"minAvailable": 5}), pods(3, 0), (3, 3, 5, 0)),
        (json!({"minAvailable": "30%"}), pods(7, 0), (10, 7, 3, 4)),
        (json!({"minAvailable": "25%"}), pods(3, 0), (10, 3, 3, 0)),
        (json!({"maxUnavailable": 1}), pods(10, 0), (10, 10, 9, 1)),
        (json!({"maxUnavailable": "30%"}), pods(8, 2), (10, 8, 7, 1)),
        (json!({"maxUnavailable": "100%"}), pods(2, 0), (10, 2, 0, 2)),
        (json!({"maxUnavailable": 20}), pods(2, 0), (10, 2, 0, 2)),
        (json!({}), pods(2, 0), (0, 2, 0, 0)),
        (json!({"minAvailable": 0}), pods(0, 0), (0, 0, 0, 0)),
    ];
    for (spec, pods, wanted) in cases {
        assert_eq!(
            numbers(&plan(&budget(spec.clone()), &pods, &scales(10), at(0))),
            wanted,
            "{spec}"
        );
    }
}

#[test]
fn the_condition_says_whether_there_is_room() {
    let mut budget = budget(json!({"minAvailable": 1}));
    let told = |plan: &Plan| {
        let condition = &plan.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
        (
            condition.status.clone(),
            condition.reason.clone(),
            condition.last_transition_time.0,
        )
    };
    let first = plan(&budget, &pods(2, 0), &scales(2), at(5));
    assert_eq!(
        told(&first),
        ("True".to_owned(), "SufficientPods".to_owned(), at(5))
    );
    budget.status = first.status;
    assert_eq!(
        plan(&budget, &pods(2, 0), &scales(2), at(6)).status,
        None,
        "nothing changed"
    );
    let more = plan(&budget, &pods(3, 0), &scales(2), at(7));
    assert_eq!(told(&more).2, at(5), "it still holds since then");
    let less = plan(&budget, &pods(1, 0), &scales(2), at(8));
    assert_eq!(
        told(&less),
        ("False".to_owned(), "InsufficientPods".to_owned(), at(8))
    );
    budget.metadata.generation = Some(2);
    assert_eq!(
        plan(&budget, &pods(2, 0), &scales(2), at(9))
            .status
            .unwrap()
            .observed_generation,
        Some(2)
    );
}

#[test]
fn evicted_pods_do_not_count_until_they_should_be_gone() {
    let mut budget = budget(json!({"minAvailable": 1}));
    budget.status = from(
        json!({"disruptedPods": {"p0": "1970-01-01T00:01:40Z", "gone": "1970-01-01T00:01:40Z"}}),
    );
    let pods = pods(3, 0);
    let soon = plan(&budget, &pods, &scales(3), at(110));
    assert_eq!(numbers(&soon), (3, 2, 1, 1));
    let disrupted: Vec<_> = soon
        .status
        .unwrap()
        .disrupted_pods
        .unwrap()
        .into_keys()
        .collect();
    assert_eq!(disrupted, ["p0"], "those that are gone are forgotten");
    assert_eq!(soon.again, Some(Duration::from_secs(110)));
    let late = plan(&budget, &pods, &scales(3), at(300));
    assert_eq!(numbers(&late), (3, 3, 1, 2));
    let (pod, note) = &late.pod_notes[0];
    assert_eq!(pod.name(), "p0");
    assert_eq!(
        *note,
        Note::warning(
            "NotDeleted",
            "Pod was expected by PDB ns/ns to be deleted but it wasn't"
        )
    );
}

#[test]
fn nothing_may_be_disrupted_if_numbers_are_not_known() {
    let wanted = budget(json!({"maxUnavailable": 1}));
    let lost = plan(&wanted, &pods(3, 0), &Ok(Scales::default()), at(5));
    assert_eq!(
        lost.failure.as_deref(),
        Some("found no controllers for pod \"p0\"")
    );
    let status = lost.status.unwrap();
    assert_eq!(status.disruptions_allowed, Some(0));
    let condition = &status.conditions.unwrap()[0];
    assert_eq!(
        (condition.reason.as_str(), condition.message.as_str()),
        ("SyncFailed", "found no controllers for pod \"p0\"")
    );
    assert_eq!(lost.notes[0].reason, "CalculateExpectedPodCountFailed");
    let mut alone = Pod::clone(&pods(1, 0)[0]);
    alone.metadata.owner_references = None;
    let unmanaged = plan(&wanted, &[Arc::new(alone)], &Ok(Scales::default()), at(5));
    assert_eq!(unmanaged.notes[0].reason, "UnmanagedPods");
    let none = plan(&wanted, &[], &Ok(Scales::default()), at(5));
    assert_eq!(
        none.notes,
        [Note::normal("NoPods", "No matching pods found")]
    );
}

#[test]
fn a_wish_that_controllers_share_counts_once() {
    let shared = Scales {
        wanted: [
            ("a".to_owned(), 5),
            ("b".to_owned(), 5),
            ("c".to_owned(), 2),
        ]
        .into(),
        shared: [
            ("a".to_owned(), "d".to_owned()),
            ("b".to_owned(), "d".to_owned()),
        ]
        .into(),
    };
    assert_eq!(shared.total(), 7);
}

#[test]
fn a_pod_may_be_about_to_be_disrupted_for_two_minutes() {
    let pod = |reason: &str, phase: &str| -> Pod {
        from(
            json!({"status": {"phase": phase, "conditions": [{"type": "DisruptionTarget", "status": "True",
            "reason": reason, "lastTransitionTime": "1970-01-01T00:00:10Z"}]}}),
        )
    };
    assert_eq!(
        stale_in(&pod("EvictionByEvictionAPI", "Running"), at(20)),
        Some(Duration::from_secs(110))
    );
    assert_eq!(
        stale_in(&pod("EvictionByEvictionAPI", "Running"), at(500)),
        Some(Duration::ZERO)
    );
    assert_eq!(
        stale_in(&pod("TerminationByKubelet", "Running"), at(500)),
        None
    );
    assert_eq!(
        stale_in(&pod("EvictionByEvictionAPI", "Failed"), at(500)),
        None
    );
    assert_eq!(stale_in(&Pod::default(), at(500)), None);
}

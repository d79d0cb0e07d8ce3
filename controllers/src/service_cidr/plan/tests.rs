//! Stories of blocks of service addresses.

use std::sync::Arc;

use serde_json::json;

use super::*;

fn cidr(name: &str, blocks: &[&str], is_going: bool) -> Arc<ServiceCIDR> {
    let going = is_going.then_some("2026-01-01T00:00:00Z");
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "finalizers": [FINALIZER], "deletionTimestamp": going},
            "spec": {"cidrs": blocks},
        }))
        .unwrap(),
    )
}

fn address(text: &str) -> IPAddress {
    serde_json::from_value(json!({
        "metadata": {"name": text, "labels": {MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": {"name": "s", "resource": "services"}},
    }))
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second)
}

#[test]
fn a_new_block_is_protected_and_ready() {
    let mut one = ServiceCIDR::clone(&cidr("a", &["10.0.0.0/24"], false));
    one.metadata.finalizers = None;
    let steps = plan(&one, &[Arc::new(one.clone())], [], at(0));
    assert_eq!(steps, [Step::Protect, Step::Tell(READY)]);
    one.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    one.status = serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True",
        "reason": "", "message": READY.message, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
    .unwrap();
    assert_eq!(plan(&one, &[Arc::new(one.clone())], [], at(0)), []);
}

#[test]
fn a_block_waits_for_its_addresses_and_then_a_while() {
    let going = cidr("a", &["10.0.0.0/24"], true);
    let all = [going.clone()];
    let used = address("10.0.0.7");
    assert_eq!(
        plan(&going, &all, [&used], at(60)),
        [Step::Tell(TERMINATING)]
    );
    assert_eq!(
        plan(&going, &all, [&address("10.0.1.7")], at(4)),
        [Step::Wait(Duration::from_secs(6))]
    );
    assert_eq!(plan(&going, &all, [], at(10)), [Step::Release]);
}

#[test]
fn a_block_within_another_may_go() {
    let going = cidr("a", &["10.0.0.0/24"], true);
    let used = address("10.0.0.7");
    let larger = [going.clone(), cidr("b", &["10.0.0.0/16"], false)];
    assert_eq!(plan(&going, &larger, [&used], at(60)), [Step::Release]);
    let smaller = [going.clone(), cidr("b", &["10.0.0.0/28"], false)];
    assert_eq!(
        plan(&going, &smaller, [&used], at(60)),
        [Step::Release],
        "its only address is in b too"
    );
    assert_eq!(
        plan(&going, &smaller, [&address("10.0.0.99")], at(60)),
        [Step::Tell(TERMINATING)]
    );
    assert!(overlap(&going, &smaller[1]) && !overlap(&going, &cidr("c", &["fd00::/64"], false)));
}

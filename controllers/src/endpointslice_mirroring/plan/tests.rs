//! Stories of Endpoints made by hand.

use serde_json::{Value, json};

use super::*;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn endpoints(subsets: Value) -> Endpoints {
    from(json!({
        "metadata": {"name": "e", "namespace": "ns", "uid": "u", "labels": {"a": "b"},
            "annotations": {"c": "d", LAST_APPLIED: "x", TRIGGER_TIME_ANNOTATION: "y"}},
        "subsets": subsets,
    }))
}

fn one() -> Value {
    json!([{"addresses": [{"ip": "10.0.0.1", "hostname": "h"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]}])
}

fn named(mut slice: EndpointSlice, name: &str) -> Arc<EndpointSlice> {
    slice.metadata.name = Some(name.to_owned());
    Arc::new(slice)
}

#[test]
fn a_slice_says_what_the_endpoints_say() {
    let plan = plan(&endpoints(one()), &[], 1000);
    let [slice] = plan.create.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("e-"));
    let labels = [
        ("a", "b"),
        (MANAGED_BY_LABEL, NAME),
        (SERVICE_NAME_LABEL, "e"),
    ];
    assert_eq!(
        *strings(&slice.metadata.labels),
        labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!(
        *strings(&slice.metadata.annotations),
        [("c".to_owned(), "d".to_owned())].into()
    );
    let found: Vec<_> = slice
        .endpoints
        .iter()
        .flatten()
        .map(|e| {
            (
                e.addresses[0].as_str(),
                e.conditions.as_ref().unwrap().ready,
                e.hostname.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("10.0.0.1", Some(true), Some("h")),
            ("10.0.0.2", Some(false), None)
        ]
    );
}

#[test]
fn what_is_mirrored_is_left_alone_until_it_changes() {
    let first = plan(&endpoints(one()), &[], 1000).create.remove(0);
    let slices = [named(first, "s")];
    let same = plan(&endpoints(one()), &slices, 1000);
    assert!(same.create.is_empty() && same.update.is_empty() && same.delete.is_empty());
    assert_eq!(same.kept.len(), 1);
    let mut changed = endpoints(one());
    changed.metadata.labels = None;
    let after = plan(&changed, &slices, 1000);
    assert_eq!(after.update[0].metadata.name.as_deref(), Some("s"));
    let mut anew = endpoints(one());
    anew.metadata.uid = Some("other".to_owned());
    assert_eq!(
        plan(&anew, &slices, 1000).update.len(),
        1,
        "made again under its name"
    );
    assert_eq!(plan(&endpoints(json!([])), &slices, 1000).delete.len(), 1);
}

#[test]
fn other_ports_take_over_the_slice() {
    let first = plan(&endpoints(one()), &[], 1000).create.remove(0);
    let mut subsets = one();
    subsets[0]["ports"][0]["port"] = json!(81);
    let after = plan(&endpoints(subsets), &[named(first, "s")], 1000);
    assert_eq!((after.create.len(), after.delete.len()), (0, 0));
    assert_eq!(after.update[0].metadata.name.as_deref(), Some("s"));
}

#[test]
fn families_are_kept_apart_and_nonsense_is_told() {
    let subsets =
        json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "nonsense"}]}]);
    let plan = plan(&endpoints(subsets), &[], 1000);
    let families: Vec<_> = plan
        .create
        .iter()
        .map(|slice| slice.address_type.as_str())
        .collect();
    assert_eq!(families, [IPV4, IPV6]);
    let told = Note::warning(
        "InvalidIPAddress",
        "Skipped 1 invalid IP addresses when mirroring to EndpointSlices",
    );
    assert_eq!(plan.notes, [told]);
}

#[test]
fn too_many_are_cut() {
    let addresses: Vec<_> = (0..12)
        .map(|n| json!({"ip": format!("10.0.0.{n}")}))
        .collect();
    let plan = plan(&endpoints(json!([{"addresses": addresses}])), &[], 10);
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), 10);
    let told = "A max of 10 addresses can be mirrored to EndpointSlices per Endpoints subset. 2 addresses were skipped";
    assert_eq!(
        plan.notes,
        [Note::warning("TooManyAddressesToMirror", told)]
    );
}

#[test]
fn locks_and_those_that_say_so_are_not_mirrored() {
    assert!(wants_mirror(&endpoints(one())));
    let with = |metadata: Value| wants_mirror(&from(json!({"metadata": metadata})));
    assert!(!with(json!({"labels": {SKIP_MIRROR: "true"}})));
    assert!(with(json!({"labels": {SKIP_MIRROR: "false"}})));
    assert!(!with(json!({"annotations": {LEADER_ANNOTATION: ""}})));
}

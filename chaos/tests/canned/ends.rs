//! What is compared when a run is over: sets, members, coverage; and the history files.

use super::*;
use chaos::checkers::coverage::Required;
use chaos::checkers::{agreement, coverage, set};
use chaos::history::{Kind, Record, operations};
use chaos::ops::Item;

fn element(number: u64, outcome: Outcome) -> Operation {
    let call = Call::Put {
        key: format!("set/{number}"),
        value: "v".into(),
        lease: 0,
    };
    operation(number, (number, number + 1), call, outcome)
}

fn final_set(node: u32, numbers: &[u64]) -> Operation {
    let item = |number| Item {
        key: format!("set/{number}"),
        value: "v".into(),
        create: 2,
        modified: 2,
        version: 1,
        lease: 0,
    };
    let list = Call::List {
        prefix: String::new(),
        serializable: true,
        revision: 0,
    };
    let read = ok(
        0,
        (900, 901),
        list,
        Reply::Items(numbers.iter().map(item).collect()),
        2,
    );
    Operation {
        process: Process::Named(format!("final-{node}")),
        node: Some(node),
        ..read
    }
}

#[test]
fn set_compares_every_member_with_what_was_told() {
    let told = [
        element(1, Outcome::Ok),
        element(2, Outcome::Unknown),
        element(3, Outcome::Fail),
    ];
    let check = |finals: &[Operation]| set::check(&[&told[..], finals].concat(), 2);
    valid(&check(&[final_set(0, &[1, 2]), final_set(1, &[1, 2])]));
    valid(&check(&[final_set(0, &[1]), final_set(1, &[1])]));
    caught(
        &check(&[final_set(0, &[1]), final_set(1, &[2])]),
        "lost-element",
    );
    caught(
        &check(&[final_set(0, &[1, 3]), final_set(1, &[1])]),
        "refused-element-present",
    );
    caught(
        &check(&[final_set(0, &[1, 8]), final_set(1, &[1])]),
        "phantom-element",
    );
    assert_eq!(check(&[final_set(0, &[1])]).verdict, Verdict::Unknown);
}

#[test]
fn agreement_wants_everybody_with_one_history_and_one_hash() {
    let hash = |node: u32, hash| {
        let reply = Reply::Hash { hash, compacted: 0 };
        let read = ok(0, (900, 901), Call::Hash { revision: 2 }, reply, 2);
        Operation {
            process: Process::Named(format!("final-{node}")),
            node: Some(node),
            ..read
        }
    };
    let logs = |second: &[&str]| [(0, log(&["a"])), (1, log(second))];
    let check = |hashes: [u32; 2], second: &[&str]| {
        agreement::check(&[hash(0, hashes[0]), hash(1, hashes[1])], &logs(second), 2).0
    };
    valid(&check([5, 5], &["a"]));
    caught(&check([5, 6], &["a"]), "hashes-differ");
    caught(&check([5, 5], &["b"]), "members-disagree");
    caught(&check([5, 5], &["a", "b"]), "members-disagree");
    let missing = agreement::check(&[hash(0, 5), hash(1, 5)], &logs(&["a"])[..1], 2).0;
    assert_eq!(missing.verdict, Verdict::Unknown);
}

#[test]
fn coverage_is_unknown_without_its_situations() {
    let nemesis = |f: &str, time_ns| Record {
        index: 0,
        time_ns,
        kind: Kind::Info,
        process: Process::Named("nemesis".into()),
        f: f.into(),
        value: serde_json::Value::Null,
        node: None,
        rev: None,
        fence: None,
        trace: None,
        error: None,
    };
    let required = Required {
        writes: 1,
        faults: vec!["kill-one".into()],
        faults_min: 1,
        recovery: true,
    };
    let history = [put(0, (5, 6), "a", 2)];
    valid(&coverage::check(
        &[nemesis("kill-one", 1)],
        &history,
        &required,
    ));
    assert_eq!(
        coverage::check(&[], &history, &required).verdict,
        Verdict::Unknown
    );
    assert_eq!(
        coverage::check(&[nemesis("kill-one", 1)], &[], &required).verdict,
        Verdict::Invalid
    );
    let after = [nemesis("kill-one", 7_000_000_000)];
    caught(&coverage::check(&after, &history, &required), "no-recovery");
}

#[test]
fn a_history_is_read_back_as_it_was_written() {
    let line = |text: &str| serde_json::from_str::<Record>(text).unwrap();
    let records = [
        line(
            r#"{"index":0,"time_ns":1,"type":"invoke","process":0,"f":"put","value":{"key":"k","value":"v"},"node":1}"#,
        ),
        line(
            r#"{"index":1,"time_ns":2,"type":"invoke","process":1,"f":"get","value":{"key":"k"},"node":0}"#,
        ),
        line(
            r#"{"index":2,"time_ns":3,"type":"ok","process":0,"f":"put","value":"done","node":1,"rev":2}"#,
        ),
        line(r#"{"index":3,"time_ns":4,"type":"info","process":1,"f":"get","error":"gone"}"#),
        line(r#"{"index":4,"time_ns":5,"type":"info","process":"nemesis","f":"kill-one"}"#),
    ];
    let operations = operations(&records).unwrap();
    assert_eq!(operations.len(), 2);
    assert_eq!(
        (operations[0].outcome, operations[0].rev, operations[0].end),
        (Outcome::Ok, Some(2), 2)
    );
    assert_eq!(
        (operations[1].outcome, operations[1].end),
        (Outcome::Unknown, u64::MAX)
    );
}

#[test]
fn what_is_no_history_is_refused() {
    let invoke =
        r#"{"index":0,"time_ns":1,"type":"invoke","process":0,"f":"get","value":{"key":"k"}}"#;
    let complete =
        r#"{"index":0,"time_ns":1,"type":"ok","process":0,"f":"get","value":{"items":[]}}"#;
    let parse = |lines: &[&str]| {
        let records: Vec<Record> = lines
            .iter()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        operations(&records)
    };
    assert!(parse(&[invoke, complete]).is_ok());
    assert!(parse(&[invoke, invoke]).is_err());
    assert!(parse(&[complete]).is_err());
}

//! The checkers blind to revisions: registers by search, lists by cycles.

use std::time::Duration;

use super::*;
use chaos::checkers::{append, wgl};
use chaos::ops::{Item, Micro};

#[test]
fn wgl_agrees_on_small_histories() {
    let log = log(&["a", "b"]);
    let budget = Duration::from_secs(5);
    let right = [
        put(0, (1, 5), "a", 2),
        put(1, (2, 6), "b", 3),
        get(2, (3, 4), &log, 3),
        get(2, (7, 8), &log, 3),
    ];
    valid(&wgl::check(&right, budget));
    let stale = [
        put(0, (1, 2), "a", 2),
        put(0, (3, 4), "b", 3),
        get(1, (5, 6), &log, 2),
    ];
    caught(&wgl::check(&stale, budget), "not-linearizable");
    // Two readers see two concurrent writes in opposite orders.
    let torn = [
        put(0, (1, 20), "a", 2),
        put(1, (2, 21), "b", 3),
        get(2, (3, 4), &log, 2),
        get(2, (5, 6), &log, 3),
        get(2, (7, 8), &log, 2),
    ];
    caught(&wgl::check(&torn, budget), "not-linearizable");
}

#[test]
fn wgl_lets_unknown_writes_happen_late_or_never_but_not_undone() {
    let log = log(&["a", "b"]);
    let budget = Duration::from_secs(5);
    let unknown = operation(0, (3, 4), put_call("b"), Outcome::Unknown);
    let first = put(1, (1, 2), "a", 2);
    let late = [
        first.clone(),
        unknown.clone(),
        get(2, (5, 6), &log, 2),
        get(2, (7, 8), &log, 3),
    ];
    valid(&wgl::check(&late, budget));
    valid(&wgl::check(
        &[first.clone(), unknown.clone(), get(2, (5, 6), &log, 2)],
        budget,
    ));
    let undone = [
        first,
        unknown,
        get(2, (5, 6), &log, 3),
        get(2, (7, 8), &log, 2),
    ];
    caught(&wgl::check(&undone, budget), "not-linearizable");
}

#[test]
fn wgl_follows_swaps() {
    let log = log(&["a", "b"]);
    let budget = Duration::from_secs(5);
    let good = ok(
        0,
        (3, 4),
        swap("a", "b"),
        swapped(true, vec![StepReply::Done]),
        3,
    );
    valid(&wgl::check(
        &[
            put(0, (1, 2), "a", 2),
            good.clone(),
            get(1, (5, 6), &log, 3),
        ],
        budget,
    ));
    let bad = Operation {
        call: swap("z", "b"),
        ..good
    };
    caught(
        &wgl::check(&[put(0, (1, 2), "a", 2), bad], budget),
        "not-linearizable",
    );
    let item = state_at(&log, 3).items.get("reg/x").cloned();
    let refused = ok(
        0,
        (3, 4),
        swap("z", "c"),
        swapped(false, vec![StepReply::Item(item)]),
        2,
    );
    caught(
        &wgl::check(&[put(0, (1, 2), "a", 2), refused], budget),
        "not-linearizable",
    );
}

#[test]
fn wgl_says_unknown_when_time_is_up() {
    // Many concurrent writes and a read of none of them: every order must be tried.
    let mut history: Vec<Operation> = (0..24)
        .map(|n| put(n, (n + 1, 100 + n), &format!("v{n}"), 2))
        .collect();
    for n in 0..24 {
        let item = Item {
            key: "reg/x".into(),
            value: format!("v{n}"),
            create: 2,
            modified: 2,
            version: 1,
            lease: 0,
        };
        history.push(ok(
            50 + n,
            (30 + n, 200 + n),
            get_call(),
            Reply::Items(vec![item]),
            2,
        ));
    }
    let never = Item {
        key: "reg/x".into(),
        value: "never".into(),
        create: 2,
        modified: 2,
        version: 1,
        lease: 0,
    };
    history.push(ok(99, (300, 301), get_call(), Reply::Items(vec![never]), 2));
    let report = wgl::check(&history, Duration::from_millis(50));
    assert_ne!(report.verdict, Verdict::Valid, "{report}");
    let report = wgl::check(&history, Duration::ZERO);
    assert_eq!(report.verdict, Verdict::Unknown, "{report}");
}

fn lists(process: u64, times: (u64, u64), steps: &[(&str, Option<u64>, &[u64])]) -> Operation {
    let (mut micros, mut reads) = (Vec::new(), Vec::new());
    for (key, element, list) in steps {
        let key = format!("list/{key}");
        match element {
            Some(element) => {
                micros.push(Micro::Append(key, *element));
                reads.push(None);
            }
            None => {
                micros.push(Micro::Read(key));
                reads.push(Some(list.to_vec()));
            }
        }
    }
    ok(
        process,
        times,
        Call::Append { steps: micros },
        Reply::Lists(reads),
        2,
    )
}

fn final_lists(values: &[(&str, &str)]) -> Operation {
    let items = values
        .iter()
        .map(|(key, value)| Item {
            key: format!("list/{key}"),
            value: (*value).into(),
            create: 2,
            modified: 2,
            version: 1,
            lease: 0,
        })
        .collect();
    let list = Call::List {
        prefix: String::new(),
        serializable: true,
        revision: 0,
    };
    let read = ok(0, (900, 901), list, Reply::Items(items), 2);
    Operation {
        process: Process::Named("final-0".into()),
        ..read
    }
}

fn append_check(history: &[Operation], finals: &[(&str, &str)]) -> Report {
    append::check(&[history, &[final_lists(finals)]].concat())
}

#[test]
fn append_accepts_what_is_right() {
    let history = [
        lists(0, (1, 2), &[("x", Some(1), &[])]),
        lists(
            1,
            (3, 4),
            &[("x", None, &[1]), ("x", Some(2), &[]), ("x", None, &[1, 2])],
        ),
        lists(0, (5, 6), &[("x", None, &[1, 2])]),
    ];
    valid(&append_check(&history, &[("x", "1,2")]));
}

#[test]
fn append_catches_each_anomaly() {
    let write = |process, times, element| lists(process, times, &[("x", Some(element), &[])]);
    let read = |times, list: &[u64]| lists(9, times, &[("x", None, list)]);
    let lost = [write(0, (1, 2), 1), write(0, (3, 4), 2)];
    caught(&append_check(&lost, &[("x", "2")]), "lost-append");
    caught(
        &append_check(&[write(0, (1, 2), 1)], &[("x", "1,1")]),
        "duplicate-element",
    );
    caught(
        &append_check(&[write(0, (1, 2), 1)], &[("x", "1,5")]),
        "phantom-element",
    );
    let orders = [
        write(0, (1, 9), 1),
        write(1, (2, 8), 2),
        read((3, 4), &[2, 1]),
    ];
    caught(
        &append_check(&orders, &[("x", "1,2")]),
        "incompatible-order",
    );
    let aborted = Operation {
        outcome: Outcome::Fail,
        reply: None,
        ..write(0, (1, 2), 1)
    };
    caught(
        &append_check(
            &[aborted, write(1, (1, 2), 2), read((3, 4), &[2, 1])],
            &[("x", "2,1")],
        ),
        "aborted-read",
    );
    let stale = [write(0, (1, 2), 1), read((3, 4), &[])];
    caught(&append_check(&stale, &[("x", "1")]), "cycle");
    // Each of two concurrent transactions misses the other's write.
    let skew = [
        lists(0, (1, 9), &[("x", None, &[]), ("y", Some(2), &[])]),
        lists(1, (2, 8), &[("y", None, &[]), ("x", Some(1), &[])]),
    ];
    caught(&append_check(&skew, &[("x", "1"), ("y", "2")]), "cycle");
}

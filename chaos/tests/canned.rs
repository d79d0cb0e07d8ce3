//! Tiny histories, good and bad, one promise each: every bad one must be caught by name.

use std::time::Duration;

use chaos::checkers::certificate::EventLog;
use chaos::checkers::coverage::Required;
use chaos::checkers::lease::Bounds;
use chaos::checkers::{
    Report, Verdict, agreement, append, certificate, coverage, lease, set, watch, wgl,
};
use chaos::history::{
    Event, EventKind, Frame, Kind, Operation, Outcome, Process, Record, WatchRecord, WatchSpec,
    operations,
};
use chaos::model::{Change, State};
use chaos::ops::{Call, Compare, Item, Micro, Reply, Step, StepReply};

// --- Making histories. Times are places: operation (s, e) is invoked at s and over at e.

fn operation(process: u64, (start, end): (u64, u64), call: Call, outcome: Outcome) -> Operation {
    let end = if outcome == Outcome::Unknown {
        u64::MAX
    } else {
        end
    };
    let end_ns = if end == u64::MAX {
        end
    } else {
        end * 1_000_000_000
    };
    Operation {
        process: Process::Client(process),
        node: Some(0),
        call,
        start,
        end,
        start_ns: start * 1_000_000_000,
        end_ns,
        outcome,
        reply: None,
        rev: None,
        error: None,
    }
}

fn ok(process: u64, times: (u64, u64), call: Call, reply: Reply, rev: i64) -> Operation {
    let operation = operation(process, times, call, Outcome::Ok);
    Operation {
        reply: Some(reply),
        rev: Some(rev),
        ..operation
    }
}

fn put_call(value: &str) -> Call {
    Call::Put {
        key: "reg/x".into(),
        value: value.into(),
        lease: 0,
    }
}

fn get_call() -> Call {
    Call::Get {
        key: "reg/x".into(),
        serializable: false,
        revision: 0,
    }
}

fn put(process: u64, times: (u64, u64), value: &str, rev: i64) -> Operation {
    ok(process, times, put_call(value), Reply::Done, rev)
}

/// A read that found what `log` has at `rev`.
fn get(process: u64, times: (u64, u64), log: &EventLog, rev: i64) -> Operation {
    let items = state_at(log, rev)
        .items
        .get("reg/x")
        .cloned()
        .into_iter()
        .collect();
    ok(process, times, get_call(), Reply::Items(items), rev)
}

fn state_at(log: &EventLog, rev: i64) -> State {
    let mut state = State::default();
    for event in log.iter().filter(|event| event.revision() <= rev) {
        state.change(&State::change_of(event), event.revision());
    }
    state
}

/// A log of puts to `reg/x` from revision 2 on.
fn log(values: &[&str]) -> EventLog {
    let changes: Vec<Vec<Change>> = values
        .iter()
        .map(|value| vec![Change::Put("reg/x".into(), (*value).into(), 0)])
        .collect();
    log_of(&changes)
}

fn log_of(revisions: &[Vec<Change>]) -> EventLog {
    let mut state = State::default();
    let mut events = Vec::new();
    let mut revision = 1;
    for changes in revisions {
        revision += 1;
        events.extend(changes.iter().map(|change| state.change(change, revision)));
    }
    EventLog::new(revision, events)
}

#[track_caller]
fn valid(report: &Report) {
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
}

#[track_caller]
fn caught(report: &Report, kind: &str) {
    assert!(
        report.verdict == Verdict::Invalid && report.has(kind),
        "expected {kind}: {report}"
    );
}

// --- certificate

#[test]
fn certificate_accepts_what_is_right() {
    let log = log(&["a", "b"]);
    let history = [
        put(0, (1, 4), "a", 2),
        // Concurrent with both writes: may see either.
        get(1, (2, 6), &log, 2),
        put(0, (5, 8), "b", 3),
        get(1, (9, 10), &log, 3),
    ];
    valid(&certificate::check(&history, &log));
}

#[test]
fn certificate_resolves_unknown_outcomes_from_the_log() {
    let unknown = operation(0, (1, 2), put_call("a"), Outcome::Unknown);
    valid(&certificate::check(
        std::slice::from_ref(&unknown),
        &log(&["a"]),
    ));
    valid(&certificate::check(&[unknown], &log(&[])));
}

#[test]
fn certificate_catches_a_lost_write() {
    caught(
        &certificate::check(&[put(0, (1, 2), "a", 2)], &log(&[])),
        "lost-write",
    );
    caught(
        &certificate::check(&[put(0, (1, 2), "a", 2)], &log(&["other"])),
        "lost-write",
    );
    let mut truncated = log(&["a"]);
    truncated.events.clear();
    caught(
        &certificate::check(&[put(0, (1, 2), "a", 2)], &truncated),
        "lost-write",
    );
}

#[test]
fn certificate_catches_a_stale_read() {
    let log = log(&["a", "b"]);
    let history = [
        put(0, (1, 2), "a", 2),
        put(0, (3, 4), "b", 3),
        get(1, (5, 6), &log, 2),
    ];
    caught(&certificate::check(&history, &log), "stale-read");
}

#[test]
fn certificate_lets_serializable_reads_be_old_but_not_wrong() {
    let log = log(&["a", "b"]);
    let call = Call::Get {
        key: "reg/x".into(),
        serializable: true,
        revision: 0,
    };
    let old = Operation {
        call: call.clone(),
        ..get(1, (5, 6), &log, 2)
    };
    let history = [put(0, (1, 2), "a", 2), put(0, (3, 4), "b", 3), old];
    valid(&certificate::check(&history, &log));
    let wrong = Operation {
        call,
        rev: Some(3),
        ..get(1, (5, 6), &log, 2)
    };
    let history = [put(0, (1, 2), "a", 2), put(0, (3, 4), "b", 3), wrong];
    caught(&certificate::check(&history, &log), "wrong-read");
}

#[test]
fn certificate_checks_reads_at_a_named_revision_against_that_revision() {
    let log = log(&["a", "b"]);
    let call = Call::Get {
        key: "reg/x".into(),
        serializable: false,
        revision: 2,
    };
    let right = Operation {
        call: call.clone(),
        rev: Some(3),
        ..get(1, (5, 6), &log, 2)
    };
    let wrong = Operation {
        call,
        rev: Some(3),
        ..get(1, (5, 6), &log, 3)
    };
    let writes = [put(0, (1, 2), "a", 2), put(0, (3, 4), "b", 3)];
    valid(&certificate::check(&[&writes[..], &[right]].concat(), &log));
    caught(
        &certificate::check(&[&writes[..], &[wrong]].concat(), &log),
        "wrong-read",
    );
}

#[test]
fn certificate_catches_a_write_below_what_was_told() {
    let log = log(&["b", "a"]);
    let history = [put(0, (1, 2), "a", 3), put(1, (3, 4), "b", 2)];
    caught(
        &certificate::check(&history, &log),
        "late-write-at-old-revision",
    );
}

#[test]
fn certificate_catches_an_unknown_write_seen_before_it_was_sent() {
    let log = log(&["a"]);
    let history = [
        get(1, (1, 2), &log, 2),
        operation(0, (3, 4), put_call("a"), Outcome::Unknown),
    ];
    caught(&certificate::check(&history, &log), "phantom-write");
}

#[test]
fn certificate_catches_a_refused_write_that_happened() {
    let refused = operation(0, (1, 2), put_call("a"), Outcome::Fail);
    caught(
        &certificate::check(&[refused], &log(&["a"])),
        "refused-write-happened",
    );
}

#[test]
fn certificate_catches_a_write_done_twice() {
    caught(
        &certificate::check(&[put(0, (1, 2), "a", 2)], &log(&["a", "a"])),
        "phantom-write",
    );
}

#[test]
fn certificate_catches_one_revision_told_twice() {
    let history = [put(0, (1, 4), "a", 2), put(1, (2, 3), "a", 2)];
    caught(
        &certificate::check(&history, &log(&["a"])),
        "revision-claimed-twice",
    );
}

#[test]
fn certificate_catches_events_that_miscount() {
    let mut log = log(&["a", "b"]);
    log.events.get_mut(&3).unwrap()[0].item.version = 1;
    let history = [put(0, (1, 2), "a", 2), put(0, (3, 4), "b", 3)];
    caught(&certificate::check(&history, &log), "wrong-event");
}

fn swap(from: &str, to: &str) -> Call {
    Call::Txn {
        compare: vec![Compare::Value("reg/x".into(), from.into())],
        then: vec![Step::Put("reg/x".into(), to.into())],
        otherwise: vec![Step::Get("reg/x".into())],
    }
}

fn swapped(succeeded: bool, steps: Vec<StepReply>) -> Reply {
    Reply::Txn { succeeded, steps }
}

#[test]
fn certificate_catches_a_transaction_that_compared_wrongly() {
    let log = log(&["a", "b"]);
    let done = |from| {
        let reply = swapped(true, vec![StepReply::Done]);
        [
            put(0, (1, 2), "a", 2),
            ok(0, (3, 4), swap(from, "b"), reply, 3),
        ]
    };
    valid(&certificate::check(&done("a"), &log));
    caught(&certificate::check(&done("z"), &log), "lost-write");
}

#[test]
fn certificate_accepts_the_end_of_a_lease_and_nothing_like_it() {
    let key = "lease/7".to_owned();
    let delete = vec![Change::Delete(key.clone())];
    let history = |lease| {
        let call = Call::Put {
            key: key.clone(),
            value: "a".into(),
            lease,
        };
        [ok(0, (1, 2), call, Reply::Done, 2)]
    };
    let log = |lease| {
        log_of(&[
            vec![Change::Put(key.clone(), "a".into(), lease)],
            delete.clone(),
        ])
    };
    valid(&certificate::check(&history(7), &log(7)));
    caught(&certificate::check(&history(0), &log(0)), "phantom-write");
}

// --- wgl

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

// --- append

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

// --- set

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

// --- agreement

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

// --- watch

fn spec(start: i64) -> WatchSpec {
    WatchSpec {
        prefix: "reg/".into(),
        start,
        prev_kv: true,
        no_put: false,
        no_delete: false,
        progress: true,
    }
}

fn frames(frames: Vec<Frame>) -> Vec<WatchRecord> {
    frames
        .into_iter()
        .zip(1..)
        .map(|(frame, index)| WatchRecord {
            index,
            time_ns: index,
            stream: 0,
            node: 0,
            frame,
        })
        .collect()
}

/// A stream on the log of three puts, which ends converged.
fn watch_check(middle: Vec<Frame>) -> Report {
    let log = log(&["a", "b", "c"]);
    let mut all = vec![Frame::Open(spec(2)), Frame::Created(4)];
    all.extend(middle);
    all.push(Frame::Converged(4, true));
    watch::check(&frames(all), &log)
}

fn events(revisions: &[i64]) -> Frame {
    let log = log(&["a", "b", "c"]);
    Frame::Events(
        revisions
            .iter()
            .flat_map(|revision| log.events[revision].clone())
            .collect(),
    )
}

#[test]
fn watch_accepts_what_is_right() {
    valid(&watch_check(vec![events(&[2, 3, 4])]));
    valid(&watch_check(vec![
        events(&[2]),
        Frame::Progress(2),
        events(&[3]),
        events(&[4]),
        Frame::Progress(4),
    ]));
    valid(&watch_check(vec![
        events(&[2]),
        Frame::Closed("cut".into()),
        Frame::Open(spec(3)),
        Frame::Created(4),
        events(&[3, 4]),
    ]));
    // From now on means from after the revision of the confirmation.
    let log = log(&["a", "b", "c"]);
    let now = vec![
        Frame::Open(spec(0)),
        Frame::Created(3),
        events(&[4]),
        Frame::Converged(4, true),
    ];
    valid(&watch::check(&frames(now), &log));
}

#[test]
fn watch_catches_each_broken_guarantee() {
    caught(&watch_check(vec![events(&[2]), events(&[4])]), "lost-event");
    caught(&watch_check(vec![events(&[2, 3])]), "lost-event");
    caught(
        &watch_check(vec![events(&[2]), events(&[2]), events(&[3, 4])]),
        "duplicate",
    );
    caught(
        &watch_check(vec![events(&[3]), events(&[2]), events(&[4])]),
        "unordered",
    );
    caught(
        &watch_check(vec![events(&[2]), Frame::Progress(3), events(&[3, 4])]),
        "bookmark-ahead",
    );
    caught(
        &watch_check(vec![events(&[2, 3]), Frame::Progress(2), events(&[4])]),
        "bookmark-behind",
    );
    let resumed = vec![
        events(&[2]),
        Frame::Closed("cut".into()),
        Frame::Open(spec(3)),
        Frame::Created(4),
        events(&[4]),
    ];
    caught(&watch_check(resumed), "lost-on-resume");
    let early = vec![Frame::Open(spec(4)), Frame::Created(4), events(&[3, 4])];
    caught(
        &watch_check([vec![events(&[2])], early].concat()),
        "before-start",
    );
    let mut never = log(&["a", "b", "c", "d"]);
    let phantom = Frame::Events(never.events.remove(&5).unwrap());
    caught(
        &watch_check(vec![events(&[2, 3, 4]), phantom]),
        "phantom-event",
    );
    let change = |change: fn(&mut Event)| {
        let Frame::Events(mut events) = events(&[2, 3, 4]) else {
            unreachable!()
        };
        change(&mut events[1]);
        watch_check(vec![Frame::Events(events)])
    };
    caught(&change(|event| event.prev = None), "prev-kv");
    caught(
        &change(|event| event.item.value = "z".into()),
        "wrong-event",
    );
    caught(
        &change(|event| event.item.create = event.item.modified),
        "is-create",
    );
    caught(
        &change(|event| event.kind = EventKind::Delete),
        "wrong-event",
    );
    caught(&change(|event| event.item.key = "other".into()), "filter");
}

#[test]
fn watch_catches_filters_ignored_and_revisions_in_pieces() {
    let pair = |a: &str, b: &str| {
        vec![
            Change::Put("reg/x".into(), a.into(), 0),
            Change::Put("reg/y".into(), b.into(), 0),
        ]
    };
    let log = log_of(&[pair("1", "2"), vec![Change::Delete("reg/x".into())]]);
    let (both, delete) = (log.events[&2].clone(), log.events[&3].clone());
    let open = |no_delete| {
        Frame::Open(WatchSpec {
            no_delete,
            ..spec(2)
        })
    };
    let check = |no_delete, middle: Vec<Frame>| {
        let ends = (
            vec![open(no_delete), Frame::Created(3)],
            vec![Frame::Converged(3, true)],
        );
        watch::check(&frames([ends.0, middle, ends.1].concat()), &log)
    };
    valid(&check(
        false,
        vec![Frame::Events(both.clone()), Frame::Events(delete.clone())],
    ));
    valid(&check(true, vec![Frame::Events(both.clone())]));
    caught(
        &check(
            true,
            vec![Frame::Events(both.clone()), Frame::Events(delete.clone())],
        ),
        "filter",
    );
    let pieces = vec![
        Frame::Events(both[..1].to_vec()),
        Frame::Events(both[1..].to_vec()),
        Frame::Events(delete),
    ];
    caught(&check(false, pieces), "not-atomic");
    let half = vec![Frame::Events(both[..1].to_vec())];
    caught(&check(true, half), "not-atomic");
}

#[test]
fn watch_wants_streams_to_arrive_and_compaction_to_be_true() {
    let log = log(&["a", "b", "c"]);
    let stuck = vec![
        Frame::Open(spec(2)),
        Frame::Created(4),
        Frame::Converged(4, false),
    ];
    caught(&watch::check(&frames(stuck), &log), "did-not-converge");
    let canceled = |compacted| {
        let canceled = Frame::Canceled {
            compacted,
            reason: "compacted".into(),
        };
        let all = vec![
            Frame::Open(spec(3)),
            canceled,
            Frame::Open(spec(4)),
            Frame::Created(4),
            events(&[4]),
            Frame::Converged(4, true),
        ];
        watch::check(&frames(all), &log)
    };
    valid(&canceled(4));
    caught(&canceled(3), "canceled-above-compaction");
    let unwatched = vec![Frame::Open(spec(2)), Frame::Created(4), events(&[2, 3, 4])];
    assert_eq!(
        watch::check(&frames(unwatched), &log).verdict,
        Verdict::Unknown
    );
}

// --- lease

fn lease_history(renewals: &[u64]) -> Vec<Operation> {
    let mut history = vec![
        ok(
            0,
            (1, 2),
            Call::Grant { lease: 7, ttl: 3 },
            Reply::Ttl(3),
            1,
        ),
        ok(
            0,
            (2, 3),
            Call::Put {
                key: "lease/7".into(),
                value: "v".into(),
                lease: 7,
            },
            Reply::Done,
            2,
        ),
    ];
    for at in renewals {
        history.push(ok(
            0,
            (*at, at + 1),
            Call::KeepAlive { lease: 7 },
            Reply::Ttl(3),
            2,
        ));
    }
    history
}

/// The key's deletion is seen at second `gone`; members are read at second 900.
fn lease_check(history: &[Operation], gone: Option<u64>, early: Duration) -> Report {
    let put = vec![Change::Put("lease/7".into(), "v".into(), 7)];
    let delete = vec![Change::Delete("lease/7".into())];
    let log = log_of(&if gone.is_some() {
        vec![put, delete]
    } else {
        vec![put]
    });
    let seen = gone.map(|second| WatchRecord {
        index: second,
        time_ns: second * 1_000_000_000,
        stream: 0,
        node: 0,
        frame: Frame::Events(log.events[&3].clone()),
    });
    let items = state_at(&log, log.to).items.into_values().collect();
    let list = Call::List {
        prefix: String::new(),
        serializable: true,
        revision: 0,
    };
    let read = ok(0, (900, 901), list, Reply::Items(items), log.to);
    let read = Operation {
        process: Process::Named("final-0".into()),
        ..read
    };
    let seen: Vec<WatchRecord> = seen.into_iter().collect();
    let bounds = Bounds {
        early,
        late: Duration::from_secs(10),
    };
    lease::check(&[history, &[read]].concat(), &seen, &log, bounds)
}

#[test]
fn leases_end_neither_early_nor_late() {
    valid(&lease_check(&lease_history(&[]), Some(5), Duration::ZERO));
    valid(&lease_check(
        &lease_history(&[3, 5]),
        Some(8),
        Duration::ZERO,
    ));
    caught(
        &lease_check(&lease_history(&[3, 5]), Some(7), Duration::ZERO),
        "early-expiry",
    );
    valid(&lease_check(
        &lease_history(&[3, 5]),
        Some(7),
        Duration::from_secs(2),
    ));
    caught(
        &lease_check(&lease_history(&[]), None, Duration::ZERO),
        "late-expiry",
    );
    valid(&lease_check(&lease_history(&[890]), None, Duration::ZERO));
    // A renewal confirmed after the end was seen.
    caught(
        &lease_check(&lease_history(&[20]), Some(8), Duration::ZERO),
        "early-expiry",
    );
    let revoke = ok(0, (4, 5), Call::Revoke { lease: 7 }, Reply::Done, 3);
    let revoked = [lease_history(&[3]), vec![revoke]].concat();
    valid(&lease_check(&revoked, Some(5), Duration::ZERO));
    caught(
        &lease_check(
            &[revoked, lease_history(&[890])[2..].to_vec()].concat(),
            None,
            Duration::ZERO,
        ),
        "late-expiry",
    );
}

// --- coverage and the history itself

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

//! The oracle.

use super::*;
use chaos::checkers::certificate;

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

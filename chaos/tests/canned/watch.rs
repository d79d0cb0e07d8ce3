//! The guarantees of watch streams.

use super::*;
use chaos::checkers::watch;
use chaos::history::{Event, EventKind, Frame, WatchRecord, WatchSpec};

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

//! Tiny histories, good and bad, one promise each: every bad one must be caught by name.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificate;
mod ends;
mod lease;
mod search;
mod watch;

use chaos::checkers::certificate::EventLog;
use chaos::checkers::{Report, Verdict};
use chaos::history::{Operation, Outcome, Process};
use chaos::model::{Change, State};
use chaos::ops::{Call, Compare, Reply, Step, StepReply};

// Times are places: an operation (s, e) is invoked at s and over at e.

pub(crate) fn operation(
    process: u64,
    (start, end): (u64, u64),
    call: Call,
    outcome: Outcome,
) -> Operation {
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

pub(crate) fn ok(process: u64, times: (u64, u64), call: Call, reply: Reply, rev: i64) -> Operation {
    let operation = operation(process, times, call, Outcome::Ok);
    Operation {
        reply: Some(reply),
        rev: Some(rev),
        ..operation
    }
}

pub(crate) fn put_call(value: &str) -> Call {
    Call::Put {
        key: "reg/x".into(),
        value: value.into(),
        lease: 0,
    }
}

pub(crate) fn get_call() -> Call {
    Call::Get {
        key: "reg/x".into(),
        serializable: false,
        revision: 0,
    }
}

pub(crate) fn put(process: u64, times: (u64, u64), value: &str, rev: i64) -> Operation {
    ok(process, times, put_call(value), Reply::Done, rev)
}

/// A read that found what `log` has at `rev`.
pub(crate) fn get(process: u64, times: (u64, u64), log: &EventLog, rev: i64) -> Operation {
    let items = state_at(log, rev)
        .items
        .get("reg/x")
        .cloned()
        .into_iter()
        .collect();
    ok(process, times, get_call(), Reply::Items(items), rev)
}

pub(crate) fn state_at(log: &EventLog, rev: i64) -> State {
    let mut state = State::default();
    for event in log.iter().filter(|event| event.revision() <= rev) {
        state.change(&State::change_of(event), event.revision());
    }
    state
}

/// A log of puts to `reg/x` from revision 2 on.
pub(crate) fn log(values: &[&str]) -> EventLog {
    let changes: Vec<Vec<Change>> = values
        .iter()
        .map(|value| vec![Change::Put("reg/x".into(), (*value).into(), 0)])
        .collect();
    log_of(&changes)
}

pub(crate) fn log_of(revisions: &[Vec<Change>]) -> EventLog {
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
pub(crate) fn valid(report: &Report) {
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
}

#[track_caller]
pub(crate) fn caught(report: &Report, kind: &str) {
    assert!(
        report.verdict == Verdict::Invalid && report.has(kind),
        "expected {kind}: {report}"
    );
}

pub(crate) fn swap(from: &str, to: &str) -> Call {
    Call::Txn {
        compare: vec![Compare::Value("reg/x".into(), from.into())],
        then: vec![Step::Put("reg/x".into(), to.into())],
        otherwise: vec![Step::Get("reg/x".into())],
    }
}

pub(crate) fn swapped(succeeded: bool, steps: Vec<StepReply>) -> Reply {
    Reply::Txn { succeeded, steps }
}

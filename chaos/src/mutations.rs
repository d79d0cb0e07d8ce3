//! What a broken store would have left behind: changes to a valid history that make it wrong.
//!
//! Each mutation names the checker and the anomaly that must catch it. One that finds nothing
//! to change in a history says so.

use crate::checkers::certificate::EventLog;
use crate::dice::Dice;
use crate::evidence::Evidence;
use crate::history::{Event, Frame, Operation, Outcome};
use crate::model::State;
use crate::ops::{Call, Item, Micro, Reply};

/// One way to make a history wrong.
pub struct Mutation {
    /// Its name.
    pub name: &'static str,
    /// The checkers that must say invalid, each with the anomaly it must name (empty: any).
    pub caught_by: &'static [(&'static str, &'static str)],
    /// Does it; false when the history offers no place for it.
    pub apply: fn(&mut Evidence, &mut Dice) -> bool,
}

/// All mutations.
pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "acknowledged write not in the log",
        caught_by: &[("certificate", "lost-write")],
        apply: drop_write,
    },
    Mutation {
        name: "write happens twice",
        caught_by: &[("certificate", "phantom-write")],
        apply: write_twice,
    },
    Mutation {
        name: "two writes told each other's revision",
        caught_by: &[("certificate", "lost-write")],
        apply: swap_revisions,
    },
    Mutation {
        name: "two writes told one revision",
        caught_by: &[("certificate", "revision-claimed-twice")],
        apply: same_revision,
    },
    Mutation {
        name: "read of an older state",
        caught_by: &[("certificate", "stale-read"), ("wgl", "not-linearizable")],
        apply: stale_read,
    },
    Mutation {
        name: "read of a value that never was",
        caught_by: &[("certificate", "wrong-read"), ("wgl", "not-linearizable")],
        apply: wrong_read,
    },
    Mutation {
        name: "refused write happens",
        caught_by: &[("certificate", "refused-write-happened")],
        apply: refused_write,
    },
    Mutation {
        name: "write out of nowhere",
        caught_by: &[("certificate", "phantom-write")],
        apply: forget_write,
    },
    Mutation {
        name: "members tell different histories",
        caught_by: &[("agreement", "members-disagree")],
        apply: other_history,
    },
    Mutation {
        name: "members have different hashes",
        caught_by: &[("agreement", "hashes-differ")],
        apply: other_hash,
    },
    Mutation {
        name: "element missing on one member",
        caught_by: &[("set", "lost-element")],
        apply: lose_element,
    },
    Mutation {
        name: "list read in another order",
        caught_by: &[
            ("append", "incompatible-order"),
            ("certificate", "wrong-read"),
        ],
        apply: reorder_list,
    },
    Mutation {
        name: "list read before an append that was over",
        caught_by: &[("append", "cycle")],
        apply: stale_list,
    },
    Mutation {
        name: "watch event lost",
        caught_by: &[("watch", "")],
        apply: lose_event,
    },
    Mutation {
        name: "watch event lost on resume",
        caught_by: &[("watch", "lost-on-resume")],
        apply: lose_on_resume,
    },
    Mutation {
        name: "watch event twice",
        caught_by: &[("watch", "duplicate")],
        apply: repeat_event,
    },
    Mutation {
        name: "watch events out of order",
        caught_by: &[("watch", "unordered")],
        apply: swap_events,
    },
    Mutation {
        name: "revision in two pieces",
        caught_by: &[("watch", "not-atomic")],
        apply: split_revision,
    },
    Mutation {
        name: "wrong previous value",
        caught_by: &[("watch", "prev-kv")],
        apply: wrong_prev,
    },
    Mutation {
        name: "bookmark ahead of events",
        caught_by: &[("watch", "bookmark-ahead")],
        apply: bookmark_ahead,
    },
    Mutation {
        name: "event that was not asked for",
        caught_by: &[("watch", "filter")],
        apply: unfiltered,
    },
    Mutation {
        name: "creation told as an update",
        caught_by: &[("watch", "is-create")],
        apply: not_created,
    },
    Mutation {
        name: "stream that stops",
        caught_by: &[("watch", "did-not-converge")],
        apply: stop_stream,
    },
];

/// Places in `list` that satisfy `wanted`, one of them picked.
fn pick<T>(dice: &mut Dice, list: &[T], wanted: impl Fn(&T) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..list.len())
        .filter(|place| wanted(&list[*place]))
        .collect();
    dice.pick(&places).copied()
}

fn is_acked_write(operation: &Operation) -> bool {
    operation.outcome == Outcome::Ok
        && operation
            .reply
            .as_ref()
            .is_some_and(|reply| reply.wrote(&operation.call))
}

fn in_all_logs(evidence: &mut Evidence, mut change: impl FnMut(&mut EventLog)) {
    for (_, log) in &mut evidence.logs {
        change(log);
    }
}

fn drop_write(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let Some(place) = pick(dice, &evidence.operations, is_acked_write) else {
        return false;
    };
    let Some(rev) = evidence.operations[place].rev else {
        return false;
    };
    in_all_logs(evidence, |log| drop(log.events.remove(&rev)));
    true
}

fn write_twice(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let is_put = |o: &Operation| is_acked_write(o) && matches!(o.call, Call::Put { .. });
    let Some(place) = pick(dice, &evidence.operations, is_put) else {
        return false;
    };
    let Some(rev) = evidence.operations[place].rev else {
        return false;
    };
    in_all_logs(evidence, |log| {
        log.to += 1;
        let again: Vec<Event> = log.events[&rev]
            .iter()
            .map(|event| {
                let item = Item {
                    modified: log.to,
                    ..event.item.clone()
                };
                Event {
                    item,
                    ..event.clone()
                }
            })
            .collect();
        log.events.insert(log.to, again);
    });
    true
}

fn swap_revisions(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let is_put = |o: &Operation| is_acked_write(o) && matches!(o.call, Call::Put { .. });
    let first = pick(dice, &evidence.operations, is_put);
    let second = pick(dice, &evidence.operations, is_put);
    let (Some(first), Some(second)) = (first, second) else {
        return false;
    };
    let revs = (
        evidence.operations[first].rev,
        evidence.operations[second].rev,
    );
    (
        evidence.operations[first].rev,
        evidence.operations[second].rev,
    ) = (revs.1, revs.0);
    first != second
}

fn same_revision(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let first = pick(dice, &evidence.operations, is_acked_write);
    let second = pick(dice, &evidence.operations, is_acked_write);
    let (Some(first), Some(second)) = (first, second) else {
        return false;
    };
    evidence.operations[first].rev = evidence.operations[second].rev;
    first != second
}

/// A read of a register told the value before one that a finished put had written.
fn stale_read(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let operations = &evidence.operations;
    let older = |read: &Operation| -> Option<(Item, i64)> {
        let (
            Call::Get {
                key, revision: 0, ..
            },
            Outcome::Ok,
        ) = (&read.call, read.outcome)
        else {
            return None;
        };
        let put_before = |limit: u64| {
            operations
                .iter()
                .filter(|o| is_acked_write(o) && o.end < limit)
                .filter(|o| matches!(&o.call, Call::Put { key: put, .. } if put == key))
                .max_by_key(|o| o.rev)
        };
        let newer = put_before(read.start)?;
        let older = put_before(newer.start)?;
        let rev = older.rev?;
        let mut state = State::default();
        let (_, log) = evidence.logs.first()?;
        for event in log.iter().take_while(|event| event.revision() <= rev) {
            state.change(&State::change_of(event), event.revision());
        }
        Some((state.items.get(key)?.clone(), rev))
    };
    let Some(place) = pick(dice, operations, |read| older(read).is_some()) else {
        return false;
    };
    let Some((item, rev)) = older(&operations[place]) else {
        return false;
    };
    let read = &mut evidence.operations[place];
    (read.reply, read.rev) = (Some(Reply::Items(vec![item])), Some(rev));
    true
}

fn wrong_read(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let is_read = |o: &Operation| matches!((&o.call, &o.reply), (Call::Get { .. }, Some(Reply::Items(items))) if !items.is_empty());
    let Some(place) = pick(dice, &evidence.operations, is_read) else {
        return false;
    };
    if let Some(Reply::Items(items)) = &mut evidence.operations[place].reply {
        items[0].value = "never written".into();
    }
    true
}

fn refused_write(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let Some(place) = pick(dice, &evidence.operations, is_acked_write) else {
        return false;
    };
    let operation = &mut evidence.operations[place];
    operation.outcome = Outcome::Fail;
    (operation.reply, operation.rev) = (None, None);
    true
}

fn forget_write(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let is_put = |o: &Operation| is_acked_write(o) && matches!(o.call, Call::Put { .. });
    let Some(place) = pick(dice, &evidence.operations, is_put) else {
        return false;
    };
    evidence.operations.remove(place);
    true
}

fn other_history(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let Some((_, log)) = evidence.logs.last_mut() else {
        return false;
    };
    let revisions: Vec<i64> = log.events.keys().copied().collect();
    let Some(revision) = dice.pick(&revisions) else {
        return false;
    };
    log.events.remove(revision);
    true
}

fn other_hash(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let is_hash = |o: &Operation| matches!(o.reply, Some(Reply::Hash { .. }));
    let Some(place) = pick(dice, &evidence.operations, is_hash) else {
        return false;
    };
    evidence.operations[place].reply = Some(Reply::Hash {
        hash: 8,
        compacted: 0,
    });
    true
}

fn lose_element(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let acked: Vec<String> = evidence
        .operations
        .iter()
        .filter(|o| o.outcome == Outcome::Ok)
        .filter_map(|o| match &o.call {
            Call::Put { key, .. } if key.starts_with("set/") => Some(key.clone()),
            _ => None,
        })
        .collect();
    let Some(lost) = dice.pick(&acked) else {
        return false;
    };
    let is_final = |o: &Operation| matches!(o.call, Call::List { .. });
    let Some(place) = pick(dice, &evidence.operations, is_final) else {
        return false;
    };
    if let Some(Reply::Items(items)) = &mut evidence.operations[place].reply {
        items.retain(|item| &item.key != lost);
    }
    true
}

fn first_list(operation: &mut Operation, long: usize) -> Option<&mut Vec<u64>> {
    match (&operation.call, &mut operation.reply) {
        (Call::Append { .. }, Some(Reply::Lists(lists))) => {
            lists.iter_mut().flatten().find(|list| list.len() >= long)
        }
        _ => None,
    }
}

fn reorder_list(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let has_list = |o: &Operation| {
        o.outcome == Outcome::Ok && !o.call.may_write() && first_list(&mut o.clone(), 2).is_some()
    };
    let Some(place) = pick(dice, &evidence.operations, has_list) else {
        return false;
    };
    if let Some(list) = first_list(&mut evidence.operations[place], 2) {
        list.swap(0, 1);
    }
    true
}

/// A read-only transaction misses the last element of a list whose append was over before.
fn stale_list(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let operations = &evidence.operations;
    let over_before = |element: u64, start: u64| {
        operations.iter().any(|o| {
            o.outcome == Outcome::Ok
                && o.end < start
                && matches!(&o.call, Call::Append { steps } if steps.iter().any(
                    |s| matches!(s, Micro::Append(_, e) if *e == element)))
        })
    };
    let fits = |o: &Operation| {
        let mut copy = o.clone();
        o.outcome == Outcome::Ok
            && !o.call.may_write()
            && first_list(&mut copy, 1)
                .and_then(|list| list.last().copied())
                .is_some_and(|element| over_before(element, o.start))
    };
    let Some(place) = pick(dice, operations, fits) else {
        return false;
    };
    if let Some(list) = first_list(&mut evidence.operations[place], 1) {
        list.pop();
    }
    true
}

fn is_events(frame: &Frame, least: usize) -> bool {
    matches!(frame, Frame::Events(events) if events.len() >= least)
}

fn lose_event(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let Some(place) = pick(dice, &evidence.watch, |r| is_events(&r.frame, 1)) else {
        return false;
    };
    if let Frame::Events(events) = &mut evidence.watch[place].frame {
        let lost = dice.below(events.len());
        events.remove(lost);
    }
    true
}

fn lose_on_resume(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let stream_of = |place: usize| evidence.watch[place].stream;
    let mut first_after_resume = Vec::new();
    for stream in 0..3 {
        let frames: Vec<usize> = (0..evidence.watch.len())
            .filter(|place| stream_of(*place) == stream)
            .collect();
        let opens = frames.iter().enumerate().skip(1);
        for (at, _) in opens.filter(|(_, p)| matches!(evidence.watch[**p].frame, Frame::Open(_))) {
            // Open, Created, Events, Events: the loss shows when the second one arrives.
            let (Some(&lost), Some(&next)) = (frames.get(at + 2), frames.get(at + 3)) else {
                continue;
            };
            if is_events(&evidence.watch[lost].frame, 1)
                && is_events(&evidence.watch[next].frame, 1)
            {
                first_after_resume.push(lost);
            }
        }
    }
    let Some(place) = dice.pick(&first_after_resume) else {
        return false;
    };
    evidence.watch.remove(*place);
    true
}

fn repeat_event(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let Some(place) = pick(dice, &evidence.watch, |r| is_events(&r.frame, 1)) else {
        return false;
    };
    let again = evidence.watch[place].clone();
    evidence.watch.insert(place + 1, again);
    true
}

fn swap_events(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let pairs: Vec<usize> = (1..evidence.watch.len())
        .filter(|place| {
            let (a, b) = (&evidence.watch[place - 1], &evidence.watch[*place]);
            a.stream == b.stream && is_events(&a.frame, 1) && is_events(&b.frame, 1)
        })
        .collect();
    let Some(place) = dice.pick(&pairs) else {
        return false;
    };
    evidence.watch.swap(place - 1, *place);
    true
}

fn split_revision(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let Some(place) = pick(dice, &evidence.watch, |r| is_events(&r.frame, 2)) else {
        return false;
    };
    let mut second = evidence.watch[place].clone();
    if let (Frame::Events(first), Frame::Events(second)) =
        (&mut evidence.watch[place].frame, &mut second.frame)
    {
        first.truncate(1);
        second.remove(0);
    }
    evidence.watch.insert(place + 1, second);
    true
}

fn wrong_prev(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let has_prev = |frame: &Frame| matches!(frame, Frame::Events(events) if events.iter().any(|event| event.prev.is_some()));
    let Some(place) = pick(dice, &evidence.watch, |r| has_prev(&r.frame)) else {
        return false;
    };
    if let Frame::Events(events) = &mut evidence.watch[place].frame {
        let event = events.iter_mut().find(|event| event.prev.is_some());
        event.into_iter().for_each(|event| event.prev = None);
    }
    true
}

fn bookmark_ahead(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let Some(place) = pick(dice, &evidence.watch, |r| is_events(&r.frame, 1)) else {
        return false;
    };
    let mut early = evidence.watch[place].clone();
    if let Frame::Events(events) = &early.frame {
        early.frame = Frame::Progress(events[0].revision());
    }
    evidence.watch.insert(place, early);
    true
}

fn unfiltered(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let filtered = |r: &crate::history::WatchRecord| r.stream > 0 && is_events(&r.frame, 1);
    let Some(place) = pick(dice, &evidence.watch, filtered) else {
        return false;
    };
    if let Frame::Events(events) = &mut evidence.watch[place].frame {
        events[0].item.key = "elsewhere".into();
    }
    true
}

fn not_created(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let created = |event: &Event| event.item.create == event.item.modified;
    let has = |frame: &Frame| matches!(frame, Frame::Events(events) if events.iter().any(created));
    let Some(place) = pick(dice, &evidence.watch, |r| has(&r.frame)) else {
        return false;
    };
    if let Frame::Events(events) = &mut evidence.watch[place].frame {
        let event = events.iter_mut().find(|event| created(event));
        event.into_iter().for_each(|event| event.item.create -= 1);
    }
    true
}

fn stop_stream(evidence: &mut Evidence, dice: &mut Dice) -> bool {
    let is_end = |frame: &Frame| matches!(frame, Frame::Converged(..));
    let Some(place) = pick(dice, &evidence.watch, |r| is_end(&r.frame)) else {
        return false;
    };
    if let Frame::Converged(_, reached) = &mut evidence.watch[place].frame {
        *reached = false;
    }
    true
}

//! etcd's guarantees on every watch stream, compared with the event log.
//!
//! Ordered, unique, reliable, atomic per revision, bookmarkable, resumable, filtered as asked,
//! right previous values, right notion of creation. A stream may be resumed any number of
//! times and on any member; each attempt owes every matching event from its start revision on.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Report;
use super::certificate::EventLog;
use crate::history::{Event, EventKind, Frame, WatchRecord, WatchSpec};
use crate::model::State;

/// Checks all streams.
pub fn check(records: &[WatchRecord], log: &EventLog) -> Report {
    let mut report = Report::new("watch");
    let truth = Truth::new(log);
    let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
    for record in records {
        let stream = streams
            .entry(record.stream)
            .or_insert_with(|| Stream::new(record.stream));
        stream.frame(record, &truth, &mut report);
    }
    report.count("streams", i64::try_from(streams.len()).unwrap_or(i64::MAX));
    if streams.values().all(|stream| !stream.converged) {
        report.unknown("no stream was waited for at the end");
    }
    report
}

/// The event log with previous values worked out.
struct Truth {
    events: Vec<Event>,
    /// Up to here a compaction may have taken previous values.
    compacted: i64,
    to: i64,
}

impl Truth {
    fn new(log: &EventLog) -> Truth {
        let mut state = State::default();
        let events = log.iter().map(|event| {
            let made = state.change(&State::change_of(event), event.revision());
            Event {
                prev: made.prev,
                ..event.clone()
            }
        });
        Truth {
            events: events.collect(),
            compacted: log.from,
            to: log.to,
        }
    }

    /// Place of the first event of a revision or later.
    fn place_of(&self, revision: i64) -> usize {
        self.events
            .partition_point(|event| event.revision() < revision)
    }

    fn find(&self, delivered: &Event) -> Option<usize> {
        let from = self.place_of(delivered.revision());
        self.events[from..]
            .iter()
            .take_while(|event| event.revision() == delivered.revision())
            .position(|event| event.item.key == delivered.item.key)
            .map(|offset| from + offset)
    }
}

struct Stream {
    id: u64,
    spec: Option<WatchSpec>,
    attempts: u32,
    /// Place in the truth of the next event owed; `None` before the attempt is confirmed.
    owed: Option<usize>,
    /// Whether something was delivered in this attempt.
    fresh: bool,
    last_revision: i64,
    bookmark: i64,
    seen: HashSet<(i64, String)>,
    converged: bool,
}

impl Stream {
    fn new(id: u64) -> Stream {
        Stream {
            id,
            spec: None,
            attempts: 0,
            owed: None,
            fresh: true,
            last_revision: 0,
            bookmark: 0,
            seen: HashSet::new(),
            converged: false,
        }
    }

    fn frame(&mut self, record: &WatchRecord, truth: &Truth, report: &mut Report) {
        let index = record.index;
        match &record.frame {
            Frame::Open(spec) => {
                self.attempts += 1;
                report.count(
                    if self.attempts > 1 {
                        "resumed"
                    } else {
                        "opened"
                    },
                    1,
                );
                self.owed = (spec.start > 0).then(|| truth.place_of(spec.start));
                self.spec = Some(spec.clone());
                self.fresh = true;
            }
            Frame::Created(revision) => {
                self.owed
                    .get_or_insert_with(|| truth.place_of(revision + 1));
            }
            Frame::Events(events) => self.events(index, events, truth, report),
            Frame::Progress(revision) => self.progress(index, *revision, truth, report),
            Frame::Canceled { compacted, reason } => {
                let next = self.owed.and_then(|place| truth.events.get(place));
                if *compacted > 0 && next.is_some_and(|event| event.revision() >= *compacted) {
                    let message = format!(
                        "stream {} was cancelled as compacted at {compacted}, but owed only {:?}",
                        self.id,
                        next.map(Event::revision)
                    );
                    report.invalid("canceled-above-compaction", &[index], message);
                }
                report.count("canceled", 1);
                let _ = reason;
            }
            Frame::Closed(_) => report.count("closed", 1),
            Frame::Converged(revision, reached) => {
                self.converged = true;
                if *reached {
                    self.owe_nothing_up_to(index, *revision, truth, report, "lost-event");
                } else {
                    let message = format!(
                        "stream {} did not reach revision {revision} in time",
                        self.id
                    );
                    report.invalid("did-not-converge", &[index], message);
                }
                if *revision > truth.to {
                    report.unknown("a stream saw more than the event log covers");
                }
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        self.spec.as_ref().is_some_and(|spec| {
            event.item.key.starts_with(&spec.prefix)
                && !(spec.no_put && event.kind == EventKind::Put)
                && !(spec.no_delete && event.kind == EventKind::Delete)
        })
    }

    fn events(&mut self, index: u64, events: &[Event], truth: &Truth, report: &mut Report) {
        let mut frame = report_scope(report, index);
        if let Some(first) = events.first()
            && first.revision() == self.last_revision
        {
            let message = format!(
                "stream {} got revision {} in two pieces",
                self.id, self.last_revision
            );
            frame.add("not-atomic", message);
        }
        for event in events {
            frame.report.count("events", 1);
            self.event(event, truth, &mut frame);
        }
        self.whole_revision(events, truth, &mut frame);
    }

    /// A frame must not end in the middle of a revision.
    fn whole_revision(&mut self, events: &[Event], truth: &Truth, frame: &mut Scope<'_>) {
        let (Some(last), Some(owed)) = (events.last(), self.owed) else {
            return;
        };
        let rest = truth.events[owed..]
            .iter()
            .take_while(|event| event.revision() == last.revision())
            .find(|event| self.wants(event));
        if let Some(missing) = rest {
            let message = format!(
                "stream {} got revision {} without {}",
                self.id,
                last.revision(),
                missing.item.key
            );
            frame.add("not-atomic", message);
        }
    }

    fn event(&mut self, event: &Event, truth: &Truth, frame: &mut Scope<'_>) {
        let revision = event.revision();
        let key = &event.item.key;
        if !self.wants(event) {
            frame.add(
                "filter",
                format!("stream {} did not ask for {key} at {revision}", self.id),
            );
        }
        if !self.seen.insert((revision, key.clone())) {
            frame.add(
                "duplicate",
                format!("stream {} got {key} at {revision} twice", self.id),
            );
            return;
        }
        if revision < self.last_revision {
            let message = format!(
                "stream {} got {revision} after {}",
                self.id, self.last_revision
            );
            frame.add("unordered", message);
        }
        if revision <= self.bookmark {
            let message = format!(
                "stream {} got {key} at {revision} after progress said {}",
                self.id, self.bookmark
            );
            frame.add("bookmark-ahead", message);
        }
        self.last_revision = self.last_revision.max(revision);
        let Some(place) = truth.find(event) else {
            frame.add(
                "phantom-event",
                format!("stream {} got {event:?}: no such event", self.id),
            );
            return;
        };
        let forgotten = event.prev.is_none() && revision <= truth.compacted;
        self.compare(event, &truth.events[place], forgotten, frame);
        self.advance(place, truth, frame);
        self.fresh = false;
    }

    fn compare(&self, event: &Event, expected: &Event, forgotten: bool, frame: &mut Scope<'_>) {
        if event.kind != expected.kind || event.item != expected.item {
            let is_create = |event: &Event| {
                event.kind == EventKind::Put && event.item.create == event.item.modified
            };
            let kind = if is_create(event) == is_create(expected) {
                "wrong-event"
            } else {
                "is-create"
            };
            frame.add(
                kind,
                format!("stream {} got {event:?} for {expected:?}", self.id),
            );
        }
        let asked = self.spec.as_ref().is_some_and(|spec| spec.prev_kv);
        if asked && event.prev != expected.prev && !forgotten {
            let message = format!(
                "stream {} got previous {:?} of {} at {}, expected {:?}",
                self.id,
                event.prev,
                event.item.key,
                event.revision(),
                expected.prev
            );
            frame.add("prev-kv", message);
        }
    }

    /// Moves past `place`; wanted events in between were lost.
    fn advance(&mut self, place: usize, truth: &Truth, frame: &mut Scope<'_>) {
        let Some(owed) = self.owed else { return };
        if place < owed {
            let message = format!(
                "stream {} asked for {} and later, got {}",
                self.id,
                truth.events.get(owed).map_or(0, Event::revision),
                truth.events[place].revision()
            );
            frame.add("before-start", message);
            return;
        }
        for lost in truth.events[owed..place]
            .iter()
            .filter(|event| self.wants(event))
        {
            let kind = if self.attempts > 1 && self.fresh {
                "lost-on-resume"
            } else {
                "lost-event"
            };
            let message = format!(
                "stream {} never got {} at {}",
                self.id,
                lost.item.key,
                lost.revision()
            );
            frame.add(kind, message);
        }
        self.owed = Some(place + 1);
    }

    fn progress(&mut self, index: u64, revision: i64, truth: &Truth, report: &mut Report) {
        report.count("bookmarks", 1);
        if revision < self.last_revision {
            let message = format!(
                "stream {} got progress {revision} after an event at {}",
                self.id, self.last_revision
            );
            report.invalid("bookmark-behind", &[index], message);
        }
        self.owe_nothing_up_to(index, revision, truth, report, "bookmark-ahead");
        self.bookmark = self.bookmark.max(revision);
        self.fresh = false;
    }

    fn owe_nothing_up_to(
        &mut self,
        index: u64,
        revision: i64,
        truth: &Truth,
        report: &mut Report,
        kind: &str,
    ) {
        let Some(owed) = self.owed else { return };
        let end = truth.place_of(revision + 1).max(owed);
        for lost in truth.events[owed..end]
            .iter()
            .filter(|event| self.wants(event))
        {
            let message = format!(
                "stream {} reached {revision} without {} at {}",
                self.id,
                lost.item.key,
                lost.revision()
            );
            report.invalid(kind, &[index], message);
        }
        self.owed = Some(end);
    }
}

/// Adds anomalies of one frame, one per kind at most: the rest follows from the first.
struct Scope<'a> {
    report: &'a mut Report,
    index: u64,
    told: HashMap<&'static str, u32>,
}

fn report_scope(report: &mut Report, index: u64) -> Scope<'_> {
    Scope {
        report,
        index,
        told: HashMap::new(),
    }
}

impl Scope<'_> {
    fn add(&mut self, kind: &'static str, message: String) {
        let told = self.told.entry(kind).or_default();
        *told += 1;
        if *told == 1 {
            self.report.invalid(kind, &[self.index], message);
        }
    }
}

//! Valid histories made without a store: clients, members and watchers played by one loop.
//!
//! They show that the checkers accept what is right under concurrency and unknown outcomes,
//! and are the ground on which [`crate::mutations`] plants what is wrong.

use std::collections::BTreeMap;

use crate::checkers::certificate::EventLog;
use crate::checkers::{append, set, wgl};
use crate::dice::Dice;
use crate::evidence::{Check, Evidence, RunInfo};
use crate::history::{Event, Frame, Operation, Outcome, Process, WatchRecord, WatchSpec};
use crate::model::State;
use crate::ops::{Call, Compare, Micro, Reply, Step};

const PROCESSES: usize = 6;
const MEMBERS: u32 = 3;

/// Makes a history of about `steps` moves.
pub fn generate(seed: u64, steps: usize) -> Evidence {
    let mut play = Play::new(seed);
    for _ in 0..steps {
        play.step();
    }
    play.finish()
}

struct Play {
    dice: Dice,
    index: u64,
    state: State,
    revision: i64,
    events: Vec<Event>,
    operations: Vec<Operation>,
    /// The open operation of each process, and whether it has taken effect.
    open: Vec<Option<(usize, bool)>>,
    /// Operations given up on that may still take effect.
    orphans: Vec<usize>,
    names: Vec<u64>,
    unique: u64,
    streams: Vec<Stream>,
    watch: Vec<WatchRecord>,
}

struct Stream {
    spec: WatchSpec,
    node: u32,
    next: i64,
}

impl Play {
    fn new(seed: u64) -> Play {
        let spec = |prefix: &str, prev_kv| WatchSpec {
            prefix: prefix.into(),
            start: 1,
            prev_kv,
            no_put: false,
            no_delete: false,
            progress: true,
        };
        let specs = [
            spec("", true),
            spec(wgl::PREFIX, true),
            spec(append::PREFIX, false),
        ];
        let mut play = Play {
            dice: Dice::new(seed),
            index: 0,
            state: State::default(),
            revision: 1,
            events: Vec::new(),
            operations: Vec::new(),
            open: vec![None; PROCESSES],
            orphans: Vec::new(),
            names: (0..PROCESSES as u64).collect(),
            unique: 0,
            streams: Vec::new(),
            watch: Vec::new(),
        };
        for (id, spec) in specs.into_iter().enumerate() {
            play.streams.push(Stream {
                spec: spec.clone(),
                node: 0,
                next: 1,
            });
            play.frame(id, Frame::Open(spec));
            play.frame(id, Frame::Created(1));
        }
        play
    }

    fn tick(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    fn step(&mut self) {
        if self.dice.chance(3) && !self.orphans.is_empty() {
            let chosen = self.dice.below(self.orphans.len());
            let orphan = self.orphans.swap_remove(chosen);
            self.effect(orphan);
        }
        if self.dice.chance(10) {
            let stream = self.dice.below(self.streams.len());
            self.deliver(stream);
        }
        let process = self.dice.below(PROCESSES);
        match self.open[process] {
            None => self.invoke(process),
            Some((id, false)) if self.dice.chance(4) => {
                self.orphans.push(id);
                self.give_up(process, id);
            }
            Some((id, true)) if self.dice.chance(4) => self.give_up(process, id),
            Some((id, false)) => {
                self.effect(id);
                self.open[process] = Some((id, true));
            }
            Some((id, true)) => {
                let end = self.tick();
                let operation = &mut self.operations[id];
                (operation.end, operation.end_ns, operation.outcome) =
                    (end, end * 1000, Outcome::Ok);
                self.open[process] = None;
            }
        }
    }

    fn give_up(&mut self, process: usize, id: usize) {
        let end_ns = self.tick() * 1000;
        let operation = &mut self.operations[id];
        operation.end_ns = end_ns;
        (operation.reply, operation.rev) = (None, None);
        if !operation.call.has_effect() {
            operation.outcome = Outcome::Fail;
        }
        self.names[process] += PROCESSES as u64;
        self.open[process] = None;
    }

    fn invoke(&mut self, process: usize) {
        let call = self.call();
        let start = self.tick();
        self.open[process] = Some((self.operations.len(), false));
        self.operations.push(Operation {
            process: Process::Client(self.names[process]),
            node: Some(0),
            call,
            start,
            end: u64::MAX,
            start_ns: start * 1000,
            end_ns: u64::MAX,
            outcome: Outcome::Unknown,
            reply: None,
            rev: None,
            error: None,
        });
    }

    fn call(&mut self) -> Call {
        self.unique += 1;
        let value = format!("v{}", self.unique);
        let key = format!("{}{}", wgl::PREFIX, self.dice.below(3));
        match self.dice.below(8) {
            0 | 1 => Call::Put {
                key,
                value,
                lease: 0,
            },
            2 | 3 => Call::Get {
                key,
                serializable: false,
                revision: 0,
            },
            4 => {
                let known = self
                    .state
                    .items
                    .get(&key)
                    .map_or("none", |item| &item.value)
                    .to_owned();
                Call::Txn {
                    compare: vec![Compare::Value(key.clone(), known)],
                    then: vec![Step::Put(key.clone(), value)],
                    otherwise: vec![Step::Get(key)],
                }
            }
            5 => Call::Put {
                key: format!("{}{}", set::PREFIX, self.unique),
                value,
                lease: 0,
            },
            6 if self.dice.chance(30) => Call::Delete { key },
            _ => {
                let list = |dice: &mut Dice| format!("{}{}", append::PREFIX, dice.below(2));
                let (a, b) = (list(&mut self.dice), list(&mut self.dice));
                let steps = match self.dice.below(3) {
                    0 => vec![Micro::Read(a), Micro::Read(b)],
                    1 => vec![Micro::Read(a), Micro::Append(b, self.unique)],
                    _ => vec![
                        Micro::Append(format!("{}0", append::PREFIX), self.unique),
                        Micro::Append(format!("{}1", append::PREFIX), self.unique),
                    ],
                };
                Call::Append { steps }
            }
        }
    }

    /// The instant at which the operation happens.
    fn effect(&mut self, id: usize) {
        let call = self.operations[id].call.clone();
        let Some((reply, changes)) = self.state.evaluate(&call, self.revision + 1) else {
            return;
        };
        if !changes.is_empty() {
            self.revision += 1;
        }
        for change in changes {
            let event = self.state.change(&change, self.revision);
            self.events.push(event);
        }
        let operation = &mut self.operations[id];
        if operation.end_ns == u64::MAX {
            (operation.reply, operation.rev) = (Some(reply), Some(self.revision));
        }
    }

    fn frame(&mut self, stream: usize, frame: Frame) {
        let index = self.tick();
        let node = self.streams[stream].node;
        self.watch.push(WatchRecord {
            index,
            time_ns: index * 1000,
            stream: stream as u64,
            node,
            frame,
        });
    }

    /// Sends what a stream has not got, sometimes over a new connection, sometimes a bookmark.
    fn deliver(&mut self, stream: usize) {
        if self.dice.chance(30) {
            self.frame(stream, Frame::Closed("played".into()));
            self.streams[stream].node = (self.streams[stream].node + 1) % MEMBERS;
            let start = self.streams[stream].next;
            let spec = WatchSpec {
                start,
                ..self.streams[stream].spec.clone()
            };
            self.frame(stream, Frame::Open(spec));
            self.frame(stream, Frame::Created(self.revision));
        }
        let Stream { spec, next, .. } = &self.streams[stream];
        let mut revisions: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for event in &self.events {
            if event.revision() >= *next && event.item.key.starts_with(&spec.prefix) {
                let prev = event.prev.clone().filter(|_| spec.prev_kv);
                let event = Event {
                    prev,
                    ..event.clone()
                };
                revisions.entry(event.revision()).or_default().push(event);
            }
        }
        for events in revisions.into_values() {
            self.frame(stream, Frame::Events(events));
        }
        self.streams[stream].next = self.revision + 1;
        if self.dice.chance(50) {
            self.frame(stream, Frame::Progress(self.revision));
        }
    }

    fn finish(mut self) -> Evidence {
        for process in 0..PROCESSES {
            if let Some((id, _)) = self.open[process] {
                self.give_up(process, id);
            }
        }
        for stream in 0..self.streams.len() {
            self.deliver(stream);
            self.frame(stream, Frame::Converged(self.revision, true));
        }
        let log = EventLog::new(self.revision, self.events.clone());
        for node in 0..MEMBERS {
            let list = Call::List {
                prefix: String::new(),
                serializable: true,
                revision: 0,
            };
            let items = self.state.items.values().cloned().collect();
            self.final_read(node, list, Reply::Items(items));
            let hash = Call::Hash {
                revision: self.revision,
            };
            self.final_read(
                node,
                hash,
                Reply::Hash {
                    hash: 7,
                    compacted: 0,
                },
            );
        }
        Evidence {
            info: RunInfo {
                scenario: "synthetic".into(),
                seed: 0,
                seconds: 0,
                system: "model".into(),
                binary: String::new(),
                members: MEMBERS as usize,
                checks: vec![Check::Wgl, Check::Append, Check::Set],
                faults: Vec::new(),
                writes_min: 1,
                lease_early_ms: 0,
                plants: Vec::new(),
                troubles: Vec::new(),
            },
            records: Vec::new(),
            operations: self.operations,
            watch: self.watch,
            logs: (0..MEMBERS).map(|node| (node, log.clone())).collect(),
        }
    }

    fn final_read(&mut self, node: u32, call: Call, reply: Reply) {
        let (start, end) = (self.tick(), self.tick());
        self.operations.push(Operation {
            process: Process::Named(format!("final-{node}")),
            node: Some(node),
            call,
            start,
            end,
            start_ns: start * 1000,
            end_ns: end * 1000,
            outcome: Outcome::Ok,
            reply: Some(reply),
            rev: Some(self.revision),
            error: None,
        });
    }
}

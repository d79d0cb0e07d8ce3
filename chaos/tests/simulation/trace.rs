//! What happened, line by line, as the code itself tells it through `tracing`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Votes, for the invariants; how often the store said what, for the situations.
    Votes,
    /// The same; the store's log is printed.
    Shown,
    /// The same; every packet, byte by byte, and the logs of store and consensus.
    Full,
}

/// A vote that was given to a candidate.
#[derive(Debug, Clone, Copy)]
pub struct Granted {
    pub voter: u64,
    pub term: u64,
    pub candidate: u64,
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static VOTES: RefCell<Vec<Granted>> = const { RefCell::new(Vec::new()) };
    static SAID: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
    static HOSTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static HOST: Cell<usize> = const { Cell::new(0) };
    static SEED: Cell<u64> = const { Cell::new(0) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The lines since the last call.
pub fn take_lines() -> Vec<String> {
    LINES.take()
}

/// The votes since the last call.
pub fn take_votes() -> Vec<Granted> {
    VOTES.take()
}

/// How often the store logged which message since the last call; snapshots that replaced older
/// data count as [`CAUGHT_UP`] too.
pub fn take_said() -> BTreeMap<String, u64> {
    SAID.take()
}

/// See [`take_said`].
pub const CAUGHT_UP: &str = "installed a snapshot over older data";

/// The panics on this thread since the last call: most are caught by the task they happen in.
pub fn take_panics() -> Vec<String> {
    PANICS.take()
}

/// Notes panics from now on. Some end the process: the seed is printed with them.
pub fn note_panics(seed: u64) {
    SEED.set(seed);
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            println!("the panic is of seed {}", SEED.get());
            PANICS.with(|panics| panics.borrow_mut().push(info.to_string()));
            before(info);
        }));
    });
}

/// Collects for the thread.
pub struct Collector(pub Detail);

/// The target of votes that are given.
const VOTES_TARGET: &str = "raft_store::votes";
/// Longer lines are cut: a hash stands for the rest.
const LINE_MAX: usize = 200;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        if metadata.is_span() {
            return self.0 != Detail::Votes
                && metadata.name() == "node"
                && target == "turmoil::sim";
        }
        if target.starts_with("raft_store") {
            return true;
        }
        match self.0 {
            Detail::Votes => false,
            Detail::Shown => target.starts_with("openraft") && *metadata.level() <= shown_level(),
            Detail::Full => {
                target.starts_with("turmoil") && !message_only(metadata)
                    || target.starts_with("openraft") && *metadata.level() <= Level::INFO
            }
        }
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut name = Line(String::new());
        attributes.record(&mut name);
        HOSTS.with(|hosts| {
            let mut hosts = hosts.borrow_mut();
            let known = hosts.iter().position(|host| *host == name.0);
            let at = known.unwrap_or_else(|| {
                hosts.push(name.0);
                hosts.len() - 1
            });
            Id::from_u64(at as u64 + 1)
        })
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if metadata.target() == VOTES_TARGET {
            let mut vote = Vote::default();
            event.record(&mut vote);
            if vote.0.iter().all(|part| *part != 0) {
                let [voter, term, candidate] = vote.0;
                let granted = Granted {
                    voter,
                    term,
                    candidate,
                };
                VOTES.with(|votes| votes.borrow_mut().push(granted));
            }
        }
        if metadata.target().starts_with("raft_store") {
            count(event);
        }
        let hidden = self.0 == Detail::Shown
            && metadata.target().starts_with("raft_store")
            && *metadata.level() > Level::DEBUG;
        if self.0 == Detail::Votes || hidden {
            return;
        }
        let mut message = Message::default();
        if metadata.target().starts_with("turmoil") {
            // Once per packet is enough, and the bytes cost their time.
            event.record(&mut message);
            if message.text == "Send" || message.text == "Delivered" {
                return;
            }
        }
        let mut line = Line(String::new());
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let _ = write!(
            line.0,
            "{:>9.3} {} {}:",
            at.as_secs_f64(),
            host(),
            metadata.target()
        );
        event.record(&mut line);
        if self.0 == Detail::Shown {
            println!("{}", line.0);
            return;
        }
        // Consensus prints its clock, which is the machine's at the beginning.
        if line.0.contains("Instant") || tells_the_time(&line.0) {
            return;
        }
        LINES.with(|lines| lines.borrow_mut().push(shorten(line.0)));
    }

    fn enter(&self, id: &Id) {
        HOST.set(id.into_u64() as usize);
    }

    fn exit(&self, _: &Id) {
        HOST.set(0);
    }
}

/// Counts what the store said.
fn count(event: &Event<'_>) {
    let mut message = Message::default();
    event.record(&mut message);
    SAID.with(|said| {
        let mut said = said.borrow_mut();
        if message.replaced {
            *said.entry(CAUGHT_UP.to_owned()).or_default() += 1;
        }
        *said.entry(message.text).or_default() += 1;
    });
}

/// The host that runs, as turmoil's spans say.
fn host() -> String {
    let at = HOST.get();
    HOSTS.with(|hosts| match at {
        0 => "-".to_owned(),
        at => hosts.borrow()[at - 1]
            .trim_start_matches(" name=")
            .to_owned(),
    })
}

fn shown_level() -> Level {
    match std::env::var("SIM_RAFT") {
        Ok(level) => level.parse().unwrap_or(Level::DEBUG),
        Err(_) => Level::WARN,
    }
}

/// Whether there is a time of day in the line.
fn tells_the_time(line: &str) -> bool {
    let shape = |window: &[u8]| {
        window[2] == b':'
            && window[5] == b':'
            && window[8] == b'.'
            && [0, 1, 3, 4, 6, 7, 9]
                .iter()
                .all(|at| window[*at].is_ascii_digit())
    };
    line.as_bytes().windows(10).any(shape)
}

/// Steps have no fields; what happens in them is told by other lines.
fn message_only(metadata: &Metadata<'_>) -> bool {
    metadata.fields().len() <= 1
}

fn shorten(mut line: String) -> String {
    if line.len() > LINE_MAX {
        let hash = crate::verdict::digest(line.as_bytes());
        let mut end = LINE_MAX;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        let _ = write!(line, "…{hash:016x}");
    }
    line
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[derive(Default)]
struct Message {
    text: String,
    /// Whether a snapshot took the place of older data.
    replaced: bool,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.text = format!("{value:?}"),
            "replaced" => self.replaced = format!("{value:?}") != "None",
            _ => {}
        }
    }
}

#[derive(Default)]
struct Vote([u64; 3]);

impl Visit for Vote {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "voter" => self.0[0] = value,
            "term" => self.0[1] = value,
            "candidate" => self.0[2] = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Fails with the first difference and what led to it.
pub fn assert_same(first: &[String], second: &[String]) {
    let differs = first.iter().zip(second).position(|(a, b)| a != b);
    if let Some(at) = differs {
        let context = first[at.saturating_sub(8)..at].join("\n  ");
        panic!(
            "line {at} differs after\n  {context}\nfirst:  {}\nsecond: {}",
            first[at], second[at]
        );
    }
    assert_eq!(first.len(), second.len(), "one run went on for longer");
}

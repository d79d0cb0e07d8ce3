//! The Raft log under power failures, kills, failing and full disks, by seed.
//!
//! A run is a series of lives on one disk. In each life requests are queued in an order that a
//! model notes, until the disk fails, the process is killed or the power fails; then the log is
//! opened again. What it holds must be what the model holds after some prefix of the requests
//! that covers all that were acknowledged. `WAL_SEEDS=FROM..TO` runs other seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raft_store::LogPosition;
use raft_store::wal::{Durable, LogRecord, Recovered, Vote, Wal, WalConfig, WalError};
use seams::{FaultDisk, RealClock, RealNet, Rng, Seams, SeededRng, Threads};

/// What a request does to the log, in steps that a crash may separate.
#[derive(Debug, Clone)]
enum Step {
    Entry(LogRecord),
    Vote(Vote),
    Truncate(Option<u64>),
    Purge(LogPosition),
}

/// The log after some steps.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    purged: Option<LogPosition>,
    entries: BTreeMap<u64, LogRecord>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Entry(record) => {
                self.entries.insert(record.position.index, record.clone());
            }
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Truncate(after) => {
                let from = after.map_or(0, |after| after + 1);
                self.entries.split_off(&from);
            }
            Step::Purge(upto) => {
                self.purged = Some(*upto);
                self.entries = self.entries.split_off(&(upto.index + 1));
            }
        }
    }

    fn last(&self) -> Option<LogPosition> {
        let last = self.entries.values().next_back();
        last.map(|record| record.position).or(self.purged)
    }

    fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    /// What a log that was just opened holds.
    fn of(wal: &Wal, recovered: &Recovered) -> Result<Model, String> {
        let records = wal.read(0, u64::MAX, usize::MAX);
        let records = records.map_err(|error| format!("cannot read: {error}"))?;
        let indexed = records.iter().map(|r| (r.position.index, r.clone()));
        let model = Model {
            vote: recovered.vote,
            purged: recovered.purged,
            entries: indexed.collect(),
        };
        if model.entries.len() != records.len() || recovered.last != model.last() {
            return Err(format!("{recovered:?} does not go with the entries"));
        }
        Ok(model)
    }
}

/// Everything that was asked for since the log was last opened, and how much was acknowledged.
#[derive(Default)]
struct History {
    base: Model,
    steps: Vec<Step>,
    /// That many steps were acknowledged.
    acked: Arc<AtomicUsize>,
    /// After all steps.
    now: Model,
    commits: BTreeSet<LogPosition>,
}

impl History {
    fn note(&mut self, step: Step) {
        self.now.apply(&step);
        self.steps.push(step);
    }

    /// A `done` for the steps up to now.
    fn done(&self) -> Durable {
        let (acked, upto) = (Arc::clone(&self.acked), self.steps.len());
        Box::new(move |result| {
            if result.is_ok() {
                let before = acked.fetch_max(upto, Ordering::SeqCst);
                assert!(before <= upto, "acknowledged out of order");
            }
        })
    }

    /// Checks what was found, and goes on from there.
    fn recover(&mut self, found: Model, recovered: &Recovered) -> Result<(), String> {
        let acked = self.acked.load(Ordering::SeqCst);
        let mut model = self.base.clone();
        let mut matches = acked == 0 && model == found;
        for (at, step) in self.steps.iter().enumerate() {
            model.apply(step);
            matches |= at + 1 >= acked && model == found;
        }
        if !matches {
            let summary = |m: &Model| (m.vote, m.purged, m.entries.len(), m.last());
            return Err(format!(
                "{acked} of {} steps were acknowledged; found {:?}, all steps give {:?}",
                self.steps.len(),
                summary(&found),
                summary(&model),
            ));
        }
        if let Some(commit) = recovered.committed
            && !self.commits.contains(&commit)
        {
            return Err(format!("a commit mark from nowhere: {commit}"));
        }
        *self = History {
            base: found.clone(),
            now: found,
            commits: std::mem::take(&mut self.commits),
            ..History::default()
        };
        Ok(())
    }
}

/// That the faults which a story is about did happen.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    crashes: u32,
    kills: u32,
    torn_tails: u32,
    failed_opens: u32,
    io_errors: u32,
    unacked_lost: u32,
}

/// One disk and what happens to it.
struct Story {
    disk: FaultDisk,
    rng: Arc<SeededRng>,
    mutate: fn(&mut WalConfig),
    history: History,
    term: u64,
    seen: Seen,
}

const DIR: &str = "/member/log";

impl Story {
    fn new(seed: u64, mutate: fn(&mut WalConfig)) -> Story {
        Story {
            disk: FaultDisk::new(seed),
            rng: Arc::new(SeededRng::new(!seed)),
            mutate,
            history: History::default(),
            term: 1,
            seen: Seen::default(),
        }
    }

    fn seams(&self) -> Seams {
        Seams {
            clock: Arc::new(RealClock),
            rng: Arc::clone(&self.rng) as Arc<dyn Rng>,
            disk: Arc::new(self.disk.clone()),
            net: Arc::new(RealNet),
            threads: Threads::Simulated,
        }
    }

    fn config(&self) -> WalConfig {
        let mut config = WalConfig {
            segment_bytes: 4096 << self.rng.below(3),
            cache_bytes: self.rng.below(4096) as usize,
            recycle: self.rng.below(3) as usize,
            ..WalConfig::default()
        };
        (self.mutate)(&mut config);
        config
    }

    /// Opens the log, checks what it found and lives until something fails or it has had enough.
    fn life(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let lived = runtime.block_on(self.serve());
        // The process is killed: its tasks stop where they are.
        drop(runtime);
        lived?;
        if self.disk.is_down() || self.rng.below(2) == 0 {
            self.disk.crash();
            self.seen.crashes += 1;
        } else {
            self.disk.kill();
            self.seen.kills += 1;
        }
        Ok(())
    }

    async fn serve(&mut self) -> Result<(), String> {
        let seams = self.seams();
        let tasks = seams.tasks();
        self.plan_faults();
        let (wal, recovered) = match Wal::open(Path::new(DIR), &seams, &tasks, self.config()) {
            Ok(opened) => opened,
            Err(WalError::Io { .. }) => {
                self.seen.failed_opens += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("refused to open: {error}")),
        };
        let found = Model::of(&wal, &recovered)?;
        self.seen.torn_tails += u32::from(recovered.dropped_tail);
        self.seen.unacked_lost += u32::from(found != self.history.now);
        self.history.recover(found, &recovered)?;
        for _ in 0..self.rng.below(60) {
            if wal.failed().is_some() {
                self.seen.io_errors += u32::from(!self.disk.is_down());
                break;
            }
            self.request(&wal).await?;
        }
        if self.rng.below(10) == 0 {
            tasks.shutdown().await;
        }
        Ok(())
    }

    fn plan_faults(&self) {
        let rng = &self.rng;
        if rng.below(4) > 0 {
            self.disk.crash_after(1 + rng.below(120));
        }
        if rng.below(8) == 0 {
            self.disk.fail_sync_after(1 + rng.below(40));
        }
        if rng.below(8) == 0 {
            self.disk.fail_write_after(1 + rng.below(60));
        }
        let full = rng.below(12) == 0;
        let capacity = full.then(|| 8192 + rng.below(40_000));
        self.disk.set_capacity(capacity);
        let slow = rng.below(3) == 0;
        self.disk
            .set_latency(slow.then_some(Duration::from_millis(1)));
    }

    async fn request(&mut self, wal: &Wal) -> Result<(), String> {
        match self.rng.below(20) {
            0..12 => self.append(wal),
            12..14 => self.vote(wal),
            14 => self.truncate(wal),
            15..17 => self.purge(wal),
            17 => {
                if let Some(last) = self.history.now.last() {
                    self.history.commits.insert(last);
                    wal.save_committed(last);
                }
            }
            _ => self.read(wal)?,
        }
        for _ in 0..self.rng.below(4) {
            tokio::task::yield_now().await;
        }
        if self.rng.below(5) == 0 {
            tokio::time::sleep(Duration::from_millis(self.rng.below(4))).await;
        }
        Ok(())
    }

    fn append(&mut self, wal: &Wal) {
        let mut records = Vec::new();
        for _ in 0..=self.rng.below(5) {
            let most = if self.rng.below(20) == 0 { 9000 } else { 700 };
            let mut payload = vec![0; self.rng.below(most) as usize];
            self.rng.fill(&mut payload);
            let record = LogRecord {
                position: LogPosition {
                    term: self.term,
                    index: self.history.now.next_index(),
                },
                kind: self.rng.below(3) as u8,
                payload: Bytes::from(payload),
            };
            records.push(record.clone());
            self.history.note(Step::Entry(record));
        }
        wal.append(records, self.history.done());
    }

    fn vote(&mut self, wal: &Wal) {
        self.term += 1;
        let vote = Vote {
            term: self.term,
            node: self.rng.below(3),
            committed: self.rng.below(2) == 0,
        };
        self.history.note(Step::Vote(vote));
        wal.save_vote(vote, self.history.done());
    }

    fn truncate(&mut self, wal: &Wal) {
        let entries = &self.history.now.entries;
        let Some((&first, _)) = entries.first_key_value() else {
            return;
        };
        let after = (first + self.rng.below(entries.len() as u64 + 1)).checked_sub(1);
        self.term += 1;
        self.history.note(Step::Truncate(after));
        wal.truncate_after(after, self.history.done());
    }

    fn purge(&mut self, wal: &Wal) {
        let now = &self.history.now;
        let upto = if self.rng.below(10) == 0 {
            // A snapshot of the leader's was installed.
            LogPosition {
                term: self.term,
                index: now.next_index() + self.rng.below(50),
            }
        } else {
            let nth = self.rng.below(now.entries.len() as u64 + 1) as usize;
            let Some(record) = now.entries.values().nth(nth) else {
                return;
            };
            record.position
        };
        self.history.note(Step::Purge(upto));
        wal.purge(upto);
    }

    fn read(&mut self, wal: &Wal) -> Result<(), String> {
        let next = self.history.now.next_index();
        let from = self.rng.below(next + 1);
        let max = self.rng.below(3000) as usize;
        let got = match wal.read(from, next, max) {
            Ok(got) => got,
            Err(_) if self.disk.is_down() => return Ok(()),
            Err(error) => return Err(format!("read: {error}")),
        };
        let mut expected = self.history.now.entries.range(from..);
        for record in &got {
            if expected.next().map(|(_, expected)| expected) != Some(record) {
                return Err(format!("read from {from} gave a wrong {}", record.position));
            }
        }
        let bytes: usize = got.iter().map(|record| record.payload.len()).sum();
        if got.is_empty() && expected.next().is_some() || got.len() > 1 && bytes > max {
            return Err(format!("read from {from} up to {max} bytes gave {bytes}"));
        }
        Ok(())
    }
}

fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(range) = std::env::var("WAL_SEEDS") else {
        return default;
    };
    let (from, to) = range.split_once("..").expect("FROM..TO");
    from.parse().expect("a seed")..to.parse().expect("a seed")
}

fn run(seed: u64, mutate: fn(&mut WalConfig)) -> Result<Seen, String> {
    let mut story = Story::new(seed, mutate);
    for life in 0..12 {
        let lived = story.life();
        lived.map_err(|error| format!("WAL_SEEDS={seed}..{}, life {life}: {error}", seed + 1))?;
    }
    Ok(story.seen)
}

#[test]
fn acknowledged_requests_survive_any_fault() {
    let mut total = Seen::default();
    for seed in seeds(0..400) {
        let seen = run(seed, |_| {}).unwrap_or_else(|error| panic!("{error}"));
        total.crashes += seen.crashes;
        total.kills += seen.kills;
        total.torn_tails += seen.torn_tails;
        total.failed_opens += seen.failed_opens;
        total.io_errors += seen.io_errors;
        total.unacked_lost += seen.unacked_lost;
    }
    println!("{total:?}");
    let least = total.crashes.min(total.kills).min(total.unacked_lost);
    let least = least.min(total.torn_tails).min(total.failed_opens);
    let default = std::env::var("WAL_SEEDS").is_err();
    assert!(!default || least.min(total.io_errors) > 50, "{total:?}");
}

#[test]
fn a_story_replays_from_its_seed() {
    let trace = |seed| {
        let mut story = Story::new(seed, |_| {});
        for _ in 0..6 {
            story.life().expect("a sound log");
        }
        (story.disk.counts(), format!("{:?}", story.history.now))
    };
    assert_eq!(trace(11), trace(11));
}

/// Each planted bug is noticed by the checks above.
#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    fn check_noticed(mutate: fn(&mut WalConfig)) {
        let error = (0..200).find_map(|seed| run(seed, mutate).err());
        println!("{}", error.expect("nobody noticed"));
    }

    #[test]
    fn entries_without_sync_are_noticed() {
        check_noticed(|config| config.mutants.skip_entry_sync = true);
    }

    #[test]
    fn votes_without_sync_are_noticed() {
        check_noticed(|config| config.mutants.skip_vote_sync = true);
    }

    #[test]
    fn a_torn_tail_that_is_accepted_is_noticed() {
        check_noticed(|config| config.mutants.accept_torn_tail = true);
    }
}

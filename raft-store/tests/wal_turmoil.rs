//! The Raft log in a simulated host: on turmoil's file system, with turmoil's crashes.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use raft_store::LogPosition;
use raft_store::wal::{Durable, LogRecord, Recovered, Vote, Wal, WalConfig};
use seams::{Rng, Seams, SeededRng};

/// What the host reports to the test.
#[derive(Default)]
struct Report {
    /// The last index that was acknowledged.
    acked: Option<u64>,
    /// The term of the last vote that was acknowledged.
    voted: Option<u64>,
    opened: Vec<Recovered>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Report>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().expect("no panic before")
    }
}

fn config() -> WalConfig {
    WalConfig {
        segment_bytes: 8192,
        cache_bytes: 1024,
        recycle: 1,
        ..WalConfig::default()
    }
}

/// One life of the host: checks what was recovered, then appends until it is crashed.
async fn member(report: Shared, seed: u64) {
    let life = report.lock().opened.len() as u64;
    let seams = Seams::simulated(seed * 1000 + life);
    let tasks = seams.tasks();
    let dir = Path::new("/data/log");
    let (wal, recovered) = Wal::open(dir, &seams, &tasks, config()).expect("a sound log");
    check(&wal, &recovered, &report);
    report.lock().opened.push(recovered);
    let mut next = recovered.last.map_or(0, |last| last.index + 1);
    loop {
        let first = next;
        next += 1 + seams.rng.below(8);
        append(&wal, first..next, &report);
        if seams.rng.below(10) == 0 {
            vote(&wal, next, &report);
        }
        if seams.rng.below(20) == 0 && next > 50 {
            wal.purge(position(next - 50));
        }
        tokio::time::sleep(Duration::from_millis(seams.rng.below(12))).await;
    }
}

fn check(wal: &Wal, recovered: &Recovered, report: &Shared) {
    let report = report.lock();
    let records = wal.read(0, u64::MAX, usize::MAX).expect("readable");
    assert!(recovered.last.map(|last| last.index) >= report.acked);
    assert!(recovered.vote.map(|vote| vote.term) >= report.voted);
    for (found, index) in records.iter().zip(wal.first_index().unwrap_or(0)..) {
        assert_eq!(*found, record(index));
    }
    let last = records.last().map(|record| record.position);
    assert_eq!(last.or(recovered.purged), recovered.last);
}

fn append(wal: &Wal, indexes: std::ops::Range<u64>, report: &Shared) {
    let (last, report) = (indexes.end - 1, report.clone());
    let done: Durable = Box::new(move |result| {
        // Only a crash fails it.
        if result.is_ok() {
            report.lock().acked = Some(last);
        }
    });
    wal.append(indexes.map(record).collect(), done);
}

fn vote(wal: &Wal, term: u64, report: &Shared) {
    let vote = Vote {
        term,
        node: 1,
        committed: true,
    };
    let report = report.clone();
    let done: Durable = Box::new(move |result| {
        if result.is_ok() {
            report.lock().voted = Some(term);
        }
    });
    wal.save_vote(vote, done);
}

fn position(index: u64) -> LogPosition {
    LogPosition { term: 1, index }
}

fn record(index: u64) -> LogRecord {
    LogRecord {
        position: position(index),
        kind: 1,
        payload: Bytes::from(vec![index as u8; 1 + (index * 37 % 400) as usize]),
    }
}

/// Crashes the host six times; gives what each life recovered.
fn simulate(seed: u64) -> Vec<Recovered> {
    let report = Shared::default();
    let mut builder = turmoil::Builder::new();
    builder.rng_seed(seed);
    builder.fs().block_size(512);
    let mut sim = builder.build();
    let shared = report.clone();
    sim.host("member", move || {
        let report = shared.clone();
        async move {
            member(report, seed).await;
            Ok(())
        }
    });
    let rng = SeededRng::new(seed);
    for _ in 0..6 {
        for _ in 0..1 + rng.below(400) {
            sim.step().expect("no panic");
        }
        sim.crash("member");
        sim.bounce("member");
    }
    sim.step().expect("no panic");
    let opened = report.lock().opened.clone();
    assert_eq!(opened.len(), 7);
    opened
}

#[test]
fn acknowledged_records_survive_crashes_of_a_simulated_host() {
    let opened = (0..20).flat_map(simulate);
    let torn = opened.filter(|recovered| recovered.dropped_tail).count();
    assert!(torn > 5, "{torn} torn tails");
}

#[test]
fn a_simulation_replays_from_its_seed() {
    assert_eq!(simulate(3), simulate(3));
}

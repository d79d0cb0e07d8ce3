//! Tests of the log on a disk in memory: what it writes when, and what it makes of what it finds.

use std::path::PathBuf;

use seams::{Disk, FaultDisk, Open, RealClock, RealNet, SeededRng, Threads};
use tokio::sync::oneshot;

use super::segment::Header;
use super::*;

type Answer = oneshot::Receiver<io::Result<()>>;

fn done() -> (Durable, Answer) {
    let (send, receive) = oneshot::channel();
    let done = Box::new(move |result| {
        let _ = send.send(result);
    });
    (done, receive)
}

fn seams(disk: &FaultDisk) -> Seams {
    Seams {
        clock: Arc::new(RealClock),
        rng: Arc::new(SeededRng::new(disk.counts().changes)),
        disk: Arc::new(disk.clone()),
        net: Arc::new(RealNet),
        threads: Threads::Simulated,
    }
}

fn small() -> WalConfig {
    WalConfig {
        segment_bytes: 4096,
        cache_bytes: 0,
        recycle: 2,
        ..WalConfig::default()
    }
}

/// An open log and its tasks.
struct Running {
    wal: Wal,
    tasks: Tasks,
    recovered: Recovered,
}

fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

fn try_open(disk: &FaultDisk, config: WalConfig) -> Result<Running, WalError> {
    let seams = seams(disk);
    let tasks = seams.tasks();
    let (wal, recovered) = Wal::open(&dir(), &seams, &tasks, config)?;
    Ok(Running {
        wal,
        tasks,
        recovered,
    })
}

fn open(disk: &FaultDisk) -> Running {
    try_open(disk, small()).unwrap()
}

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        node: 7,
        committed: false,
    }
}

/// An entry whose payload tells its position.
fn entry(term: u64, index: u64, bytes: usize) -> LogRecord {
    let mut payload = format!("{term}/{index} ").into_bytes();
    payload.resize(bytes.max(payload.len()), b'.');
    LogRecord {
        position: at(term, index),
        kind: 1,
        payload: Bytes::from(payload),
    }
}

impl Running {
    fn queue(&self, term: u64, indexes: std::ops::Range<u64>) -> Answer {
        let (done, answer) = done();
        let records = indexes.map(|index| entry(term, index, 100)).collect();
        self.wal.append(records, done);
        answer
    }

    /// One request per entry, so that rotations fall between groups as well.
    async fn append(&self, term: u64, indexes: std::ops::Range<u64>) {
        for index in indexes {
            self.queue(term, index..index + 1).await.unwrap().unwrap();
        }
    }

    async fn vote(&self, vote: Vote) {
        let (done, answer) = done();
        self.wal.save_vote(vote, done);
        answer.await.unwrap().unwrap();
    }

    async fn truncate(&self, after: Option<u64>) {
        let (done, answer) = done();
        self.wal.truncate_after(after, done);
        answer.await.unwrap().unwrap();
    }

    /// Waits until everything that was queued before is done.
    async fn settle(&self) {
        self.queue(0, 0..0).await.unwrap().unwrap();
        tokio::task::yield_now().await;
    }

    /// The entries as `term/index`, after checking their payloads.
    fn entries(&self) -> Vec<(u64, u64)> {
        let records = self.wal.read(0, u64::MAX, usize::MAX).unwrap();
        for record in &records {
            let LogPosition { term, index } = record.position;
            assert_eq!(*record, entry(term, index, record.payload.len()));
            assert_eq!(self.wal.position_of(index), Some(record.position));
        }
        records
            .iter()
            .map(|r| (r.position.term, r.position.index))
            .collect()
    }

    async fn reopen(self, disk: &FaultDisk) -> Running {
        self.tasks.shutdown().await;
        open(disk)
    }
}

fn run(term: u64, indexes: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    indexes.map(|index| (term, index)).collect()
}

fn files(disk: &FaultDisk, suffix: &str) -> Vec<PathBuf> {
    let names = disk.read_dir(&dir()).unwrap();
    let matching = names.into_iter().filter(|name| name.ends_with(suffix));
    matching.map(|name| dir().join(name)).collect()
}

#[tokio::test]
async fn what_was_appended_is_read_before_and_after_a_restart() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    assert_eq!(log.recovered, Recovered::default());
    let answer = log.queue(1, 0..10);
    assert_eq!(
        log.entries(),
        run(1, 0..10),
        "readable before it is durable"
    );
    answer.await.unwrap().unwrap();
    log.vote(vote(3)).await;
    log.append(3, 10..100).await;
    assert!(files(&disk, ".wal").len() > 2);
    let both = [run(1, 0..10), run(3, 10..100)].concat();
    assert_eq!(log.entries(), both);

    let log = log.reopen(&disk).await;
    assert_eq!(log.recovered.vote, Some(vote(3)));
    assert_eq!(log.recovered.last, Some(at(3, 99)));
    assert!(!log.recovered.dropped_tail);
    assert_eq!(log.entries(), both);
}

#[tokio::test]
async fn a_drained_batch_is_one_write_and_one_sync() {
    let disk = FaultDisk::new(1);
    let config = WalConfig {
        segment_bytes: 1 << 20,
        ..small()
    };
    let log = try_open(&disk, config).unwrap();
    log.settle().await;
    let before = disk.counts();
    let mut answers = Vec::new();
    for index in 0..50 {
        answers.push(log.queue(1, index..index + 1));
    }
    let (saved, answer) = done();
    log.wal.save_vote(vote(2), saved);
    log.wal.save_committed(at(1, 20));
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    answer.await.unwrap().unwrap();
    let after = disk.counts();
    assert_eq!(after.writes - before.writes, 1);
    assert_eq!(after.syncs - before.syncs, 1);
    assert_eq!(after.dir_syncs, before.dir_syncs);
}

#[tokio::test]
async fn every_sync_is_reported() {
    let disk = FaultDisk::new(1);
    let (send, receive) = std::sync::mpsc::channel();
    let on_sync: OnSync = Arc::new(move |report: &SyncReport| {
        let _ = send.send((report.bytes, report.requests));
    });
    let config = WalConfig {
        on_sync: Some(on_sync),
        ..small()
    };
    let log = try_open(&disk, config).unwrap();
    drop(log.queue(1, 0..1));
    drop(log.queue(1, 1..2));
    log.settle().await;
    assert_eq!(receive.try_iter().collect::<Vec<_>>(), [(2 * 144, 3)]);
}

#[tokio::test]
async fn a_truncation_holds_across_segments_and_restarts() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..100).await;
    log.truncate(Some(9)).await;
    log.append(2, 10..60).await;
    log.truncate(Some(49)).await;
    let expected = [run(1, 0..10), run(2, 10..50)].concat();
    assert_eq!(log.entries(), expected);
    let log = log.reopen(&disk).await;
    assert_eq!(log.entries(), expected);
    log.append(3, 50..55).await;
    log.truncate(None).await;
    log.append(4, 0..3).await;
    let log = log.reopen(&disk).await;
    assert_eq!(log.entries(), run(4, 0..3));
}

#[tokio::test]
async fn purged_segments_are_recycled_and_votes_stay() {
    let disk = FaultDisk::new(1);
    let mut log = open(&disk);
    log.vote(vote(9)).await;
    for round in 0..20 {
        let from = round * 100;
        log.append(1, from..from + 100).await;
        log.wal.save_committed(at(1, from + 60));
        log.wal.purge(at(1, from + 49));
        log.settle().await;
        assert!(log.wal.disk_bytes() <= 10 * 4096, "round {round}");
        let on_disk = files(&disk, "").len() as u64 * 4096;
        assert_eq!(on_disk, log.wal.disk_bytes());
        log = log.reopen(&disk).await;
        assert_eq!(log.recovered.vote, Some(vote(9)));
        assert_eq!(log.recovered.purged, Some(at(1, from + 49)));
        assert_eq!(log.recovered.committed, Some(at(1, from + 60)));
        assert_eq!(log.entries(), run(1, from + 50..from + 100));
        assert_eq!(log.wal.position_of(from + 49), Some(at(1, from + 49)));
    }
    let spares = files(&disk, "").len() - files(&disk, ".wal").len();
    assert!((1..=3).contains(&spares), "{spares} spares");
}

#[tokio::test]
async fn a_purge_behind_the_end_starts_anew() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..100).await;
    log.wal.purge(at(5, 1000));
    assert_eq!(log.wal.last(), Some(at(5, 1000)));
    log.append(5, 1001..1003).await;
    let log = log.reopen(&disk).await;
    assert_eq!(log.recovered.last, Some(at(5, 1002)));
    assert_eq!(log.entries(), run(5, 1001..1003));
    log.wal.purge(at(6, 2000));
    log.settle().await;
    assert_eq!(files(&disk, ".wal").len(), 1);
    let log = log.reopen(&disk).await;
    assert_eq!(log.recovered.last, Some(at(6, 2000)));
    assert_eq!(log.recovered.purged, Some(at(6, 2000)));
}

#[tokio::test]
async fn an_entry_may_be_larger_than_a_segment() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..5).await;
    let (saved, answer) = done();
    log.wal
        .append(vec![entry(1, 5, 50_000), entry(1, 6, 10)], saved);
    answer.await.unwrap().unwrap();
    log.append(1, 7..50).await;
    assert_eq!(log.entries(), run(1, 0..50));
    let log = log.reopen(&disk).await;
    assert_eq!(log.entries(), run(1, 0..50));
}

#[tokio::test]
async fn an_entry_that_does_not_continue_the_log_is_refused() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..5).await;
    let refused = log.queue(1, 6..7).await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    log.append(1, 5..6).await;
    assert_eq!(log.entries(), run(1, 0..6));
}

#[tokio::test]
async fn closing_writes_what_is_queued_and_fails_what_comes() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    let answer = log.queue(1, 0..5);
    log.wal.save_committed(at(1, 3));
    log.tasks.shutdown().await;
    answer.await.unwrap().unwrap();
    assert!(log.queue(1, 5..6).await.unwrap().is_err());
    assert!(log.wal.failed().is_some());
    let log = open(&disk);
    assert_eq!(log.recovered.committed, Some(at(1, 3)));
    log.wal.save_committed(at(1, 4));
    let log = log.reopen(&disk).await;
    assert_eq!(
        log.recovered.committed,
        Some(at(1, 4)),
        "though nothing came with it"
    );
    assert_eq!(log.entries(), run(1, 0..5));
}

#[tokio::test]
async fn a_torn_tail_is_dropped_and_writing_goes_on() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..3).await;
    log.queue(1, 3..8).await.unwrap().unwrap();
    log.tasks.shutdown().await;
    // The first entry of the last batch is damaged: none of the batch counts.
    let segment = &files(&disk, ".wal")[0];
    disk.flip_bit(segment, 512 + 3 * 144 + 50, 0).unwrap();
    let log = open(&disk);
    assert!(log.recovered.dropped_tail);
    assert_eq!(log.entries(), run(1, 0..3));
    log.append(2, 3..4).await;
    let log = log.reopen(&disk).await;
    assert!(!log.recovered.dropped_tail);
    assert_eq!(log.entries(), [run(1, 0..3), run(2, 3..4)].concat());
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_wherever_it_is() {
    let whole = FaultDisk::new(1);
    let log = open(&whole);
    log.vote(vote(1)).await;
    log.append(1, 0..60).await;
    log.tasks.shutdown().await;
    let segments = files(&whole, ".wal");
    assert!(segments.len() >= 3);
    for (number, segment) in segments.iter().enumerate() {
        let newest = number + 1 == segments.len();
        for offset in (0..3000).step_by(7).filter(|at| *at < 64 || *at >= 512) {
            whole.flip_bit(segment, offset, 3).unwrap();
            match try_open(&whole, small()) {
                Err(WalError::Corrupt {
                    file, offset: at, ..
                }) => {
                    assert_eq!(&file, segment);
                    assert!(at <= offset, "{at} is behind the damage at {offset}");
                    assert!(
                        at + 200 > offset,
                        "{at} is far before the damage at {offset}"
                    );
                }
                Ok(log) => {
                    // Only the last batch, or bytes that mean nothing, may go unnoticed.
                    let last = log.recovered.last.map(|last| last.index);
                    assert!(newest && last >= Some(58), "{offset} in {number}: {last:?}");
                    log.tasks.shutdown().await;
                    break;
                }
                Err(other) => panic!("{other}"),
            }
            whole.flip_bit(segment, offset, 3).unwrap();
        }
    }
}

#[tokio::test]
async fn the_refusal_says_what_to_do() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..10).await;
    log.tasks.shutdown().await;
    disk.flip_bit(&files(&disk, ".wal")[0], 700, 0).unwrap();
    let text = try_open(&disk, small()).err().unwrap().to_string();
    assert!(
        text.contains("/data/log/0000000001.wal at byte 656"),
        "{text}"
    );
    assert!(
        text.contains("Remove this member from the cluster"),
        "{text}"
    );
    assert!(text.contains("add it again"), "{text}");
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    for missing in [0, 1] {
        let disk = FaultDisk::new(1);
        let log = open(&disk);
        log.append(1, 0..80).await;
        log.tasks.shutdown().await;
        disk.remove_file(&files(&disk, ".wal")[missing]).unwrap();
        let refused = try_open(&disk, small()).err().unwrap();
        assert!(matches!(refused, WalError::Corrupt { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_in_plain_words() {
    let disk = FaultDisk::new(1);
    open(&disk).tasks.shutdown().await;
    let segment = files(&disk, ".wal").remove(0);
    let file = disk.open(&segment, Open::EDIT).unwrap();
    let mut header = disk.read(&segment).unwrap()[..64].to_vec();
    header[8] = 9;
    let checksum = crc32c::crc32c(&header[..60]).to_le_bytes();
    header[60..].copy_from_slice(&checksum);
    file.write_all_at(&header, 0).unwrap();
    assert!(Header::decode(&disk.read(&segment).unwrap()).is_err());
    let text = try_open(&disk, small()).err().unwrap().to_string();
    assert!(text.contains("has format 9"), "{text}");
    assert!(text.contains("Start the newer version"), "{text}");
}

#[tokio::test]
async fn a_full_disk_fails_everything_and_loses_nothing() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..20).await;
    disk.set_capacity(Some(3 * 4096));
    let mut answers = Vec::new();
    for index in 20..200 {
        answers.push(log.queue(1, index..index + 1));
    }
    let mut failed = 0;
    for answer in answers {
        if let Err(error) = answer.await.unwrap() {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            failed += 1;
        }
    }
    assert!(failed > 0);
    let later = log.queue(1, 200..201).await.unwrap().unwrap_err();
    assert_eq!(later.kind(), io::ErrorKind::StorageFull);
    let failure = log.wal.failed().map(|error| error.kind());
    assert_eq!(failure, Some(io::ErrorKind::StorageFull));
    log.tasks.shutdown().await;
    disk.set_capacity(None);
    disk.crash();
    let log = open(&disk);
    let last = log.recovered.last.unwrap().index;
    assert!(last >= 19);
    assert_eq!(log.entries(), run(1, 0..last + 1));
    log.append(2, last + 1..last + 50).await;
}

#[tokio::test]
async fn a_failed_sync_is_never_tried_again() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..3).await;
    disk.fail_sync_after(1);
    let first = log.queue(1, 3..5);
    let (saved, voted) = done();
    log.wal.save_vote(vote(4), saved);
    assert!(first.await.unwrap().is_err());
    assert!(voted.await.unwrap().is_err());
    let syncs = disk.counts().syncs;
    assert!(log.queue(1, 5..6).await.unwrap().is_err());
    assert_eq!(disk.counts().syncs, syncs);
    log.tasks.shutdown().await;

    // The process starts again and finds the entries in the page cache, which holds them for
    // clean. What it reports must survive a crash all the same.
    disk.kill();
    let log = open(&disk);
    let seen = (log.entries(), log.recovered.vote);
    disk.crash();
    let log = open(&disk);
    assert_eq!((log.entries(), log.recovered.vote), seen);
}

#[tokio::test]
async fn a_spare_is_prepared_before_it_is_needed() {
    let disk = FaultDisk::new(1);
    let log = open(&disk);
    log.append(1, 0..15).await;
    tokio::task::yield_now().await;
    assert_eq!(files(&disk, "").len(), 2, "one segment, one spare");
    let before = disk.counts();
    log.append(1, 15..40).await;
    assert!(disk.counts().writes - before.writes < 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_on_a_real_disk_with_a_thread_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let seams = Seams::real();
    for round in 0..3 {
        let tasks = seams.tasks();
        let (wal, recovered) = Wal::open(&path, &seams, &tasks, small()).unwrap();
        let log = Running {
            wal,
            tasks,
            recovered,
        };
        assert_eq!(log.entries(), run(1, 0..round * 200));
        log.append(1, round * 200..(round + 1) * 200).await;
        log.tasks.shutdown().await;
    }
}

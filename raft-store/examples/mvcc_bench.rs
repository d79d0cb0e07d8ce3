//! How fast the applied state takes and gives keys, on RocksDB in a temporary directory.
//!
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo run -p raft-store --example mvcc_bench -- [KEYS]`
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use raft_store::LogPosition;
use raft_store::engine::tree::Tree;
use raft_store::engine::{RocksConfig, RocksEngine};
use raft_store::mvcc::{Entry, Mvcc, MvccConfig};
use raft_store::pb::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use raft_store::pb::log::Command;
use raft_store::pb::log::command::Op;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const VALUE_BYTES: usize = 256;

fn main() {
    let keys: u64 = std::env::args()
        .nth(1)
        .map_or(1_000_000, |n| n.parse().unwrap());
    index_memory(keys);
    let dir = tempfile::tempdir().unwrap();
    let mvcc = open(dir.path());
    let mut log = Log { mvcc, next: 0 };
    log.puts("create", keys, 64, mix);
    for batch in [1, 16, 64, 512] {
        log.puts("update", (keys / 4).max(1), batch, mix);
    }
    reads(&log.mvcc, keys);
    collect(&mut log);
    timed("flush", 1, || log.mvcc.flush().unwrap());
    drop(log);
    let begun = (Instant::now(), cpu());
    let mvcc = open(dir.path());
    let took = begun.0.elapsed();
    println!(
        "open     {took:?}, {:?} CPU, {} keys",
        cpu() - begun.1,
        mvcc.sizes().keys
    );
    println!("RSS      {} MiB", rss() >> 20);
}

struct Log {
    mvcc: Mvcc,
    next: u64,
}

impl Log {
    fn puts(&mut self, what: &str, count: u64, batch: u64, order: impl Fn(u64) -> u64) {
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        let entries: Vec<Entry> = (0..count).map(|n| put(key(order(n)), &value)).collect();
        let mut entries = entries.into_iter().peekable();
        let busy = cpu();
        let begun = Instant::now();
        while entries.peek().is_some() {
            let some = entries.by_ref().take(batch as usize);
            let some: Vec<_> = some.map(|entry| (self.position(), entry)).collect();
            self.mvcc.apply(some).unwrap();
        }
        let took = begun.elapsed();
        let rate = count as f64 / took.as_secs_f64();
        println!(
            "{what}   batches of {batch:3}: {rate:8.0}/s, {:.2} us CPU each",
            (cpu() - busy).as_secs_f64() * 1e6 / count as f64
        );
    }

    fn position(&mut self) -> LogPosition {
        self.next += 1;
        LogPosition {
            term: 1,
            index: self.next,
        }
    }
}

fn reads(mvcc: &Mvcc, keys: u64) {
    let get = |n| RangeRequest {
        key: key(mix(n)),
        ..RangeRequest::default()
    };
    let mut n = 0;
    timed("get", 100_000, || {
        n += 1;
        assert_eq!(mvcc.range(&get(n % keys)).unwrap().kvs.len(), 1);
    });
    let list = |limit, count_only, revision| RangeRequest {
        key: Bytes::from_static(b"/"),
        range_end: Bytes::from_static(b"0"),
        limit,
        count_only,
        revision,
        ..RangeRequest::default()
    };
    timed("list 10000", 20, || {
        mvcc.range(&list(10_000, false, 0)).unwrap()
    });
    timed("count", 10_000, || mvcc.range(&list(0, true, 0)).unwrap());
    let old = mvcc.revision() - 1000;
    timed("list 500, 1000 revisions ago", 100, || {
        mvcc.range(&list(500, false, old)).unwrap()
    });
}

fn collect(log: &mut Log) {
    let revision = log.mvcc.revision();
    let compact = Op::Compact(CompactionRequest {
        revision,
        physical: false,
    });
    let entry = (log.position(), command(compact));
    log.mvcc.apply(vec![entry]).unwrap();
    let before = log.mvcc.sizes().live_bytes;
    let begun = Instant::now();
    while log.mvcc.gc_step(1000).unwrap() {}
    println!(
        "collect  {revision} revisions in {:?}, {} of {before} bytes left",
        begun.elapsed(),
        log.mvcc.sizes().live_bytes
    );
}

/// Inserts in random order while a reader always holds the tree of 64 inserts ago.
fn index_memory(keys: u64) {
    let before = rss();
    let mut tree: Tree<[u64; 5]> = Tree::default();
    let mut published = tree.clone();
    let begun = cpu();
    for n in 0..keys {
        tree.insert(&key(mix(n)), [n; 5]);
        if n % 64 == 0 {
            published = tree.clone();
        }
    }
    let took = cpu() - begun;
    drop(published);
    println!(
        "index    {:.0} bytes per key of {}, {:.2} us CPU per insert",
        (rss() - before) as f64 / keys as f64,
        key(1).len(),
        took.as_secs_f64() * 1e6 / keys as f64
    );
}

fn open(dir: &std::path::Path) -> Mvcc {
    let engine = RocksEngine::open(dir, &RocksConfig::default()).unwrap();
    Mvcc::open(Arc::new(engine), MvccConfig::default()).unwrap()
}

/// Forty bytes, as Kubernetes has them.
fn key(n: u64) -> Bytes {
    format!(
        "/registry/pods/ns-{:04}/pod-{:013x}",
        n % 1000,
        n & 0xF_FFFF_FFFF_FFFF
    )
    .into()
}

fn mix(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn put(key: Bytes, value: &Bytes) -> Entry {
    command(Op::Put(PutRequest {
        key,
        value: value.clone(),
        ..PutRequest::default()
    }))
}

fn command(op: Op) -> Entry {
    let command = Command {
        op: Some(op),
        ..Command::default()
    };
    Entry::Command(command.encode_to_vec().into())
}

fn timed<T>(what: &str, times: u32, mut run: impl FnMut() -> T) {
    let begun = (Instant::now(), cpu());
    for _ in 0..times {
        std::hint::black_box(run());
    }
    let (took, busy) = (begun.0.elapsed() / times, (cpu() - begun.1) / times);
    println!("{what:8} {took:?} each, {busy:?} CPU");
}

fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// CPU time of this thread: the machine may be busy with something else.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

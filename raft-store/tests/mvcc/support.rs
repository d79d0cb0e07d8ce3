//! Stores and requests for the tests of the applied state.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use raft_store::engine::{Engine, EngineError, MemoryEngine, RocksConfig, RocksEngine, Space};
use raft_store::mvcc::{Entry, Mvcc, MvccConfig, Outcome, Response};
use raft_store::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use raft_store::pb::etcdserverpb::request_op::Request;
use raft_store::pb::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, PutRequest,
    RangeRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse, alarm_request,
};
use raft_store::pb::log::command::Op;
use raft_store::pb::log::{Command, LeaseGrant, LeaseRevoke};
use raft_store::pb::mvccpb::KeyValue;
use raft_store::{LogPosition, Result};
use seams::RealDisk;

/// Which engine a store runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Rocks,
}

pub const KINDS: [Kind; 2] = [Kind::Memory, Kind::Rocks];

pub fn open_engine(kind: Kind, dir: &Path) -> Arc<dyn Engine> {
    try_open_engine(kind, dir).unwrap()
}

pub fn try_open_engine(kind: Kind, dir: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(match kind {
        Kind::Memory => Arc::new(MemoryEngine::open(Arc::new(RealDisk), dir)?),
        Kind::Rocks => {
            let config = RocksConfig {
                memory_bytes: 8 << 20,
                ..RocksConfig::default()
            };
            Arc::new(RocksEngine::open(dir, &config)?)
        }
    })
}

pub fn config() -> MvccConfig {
    MvccConfig {
        quota_bytes: 1 << 20,
        ring_bytes: 1 << 20,
    }
}

/// A state machine with the log that was applied to it.
pub struct Store {
    pub mvcc: Mvcc,
    pub engine: Arc<dyn Engine>,
    pub kind: Kind,
    pub dir: PathBuf,
    pub log: Vec<(LogPosition, Entry)>,
    home: tempfile::TempDir,
    copies: usize,
}

impl Store {
    pub fn new(kind: Kind) -> Store {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("0");
        let engine = open_engine(kind, &dir);
        Store {
            mvcc: Mvcc::open(engine.clone(), config()).unwrap(),
            engine,
            kind,
            dir,
            log: Vec::new(),
            home,
            copies: 0,
        }
    }

    /// Applies commands as one batch.
    pub fn apply(&mut self, ops: impl IntoIterator<Item = Op>) -> Vec<Outcome> {
        let entries = ops.into_iter().map(command).collect();
        self.apply_entries(entries)
    }

    pub fn apply_entries(&mut self, entries: Vec<Entry>) -> Vec<Outcome> {
        let first = self.log.len() as u64;
        let placed: Vec<_> = entries
            .into_iter()
            .zip(first..)
            .map(|(entry, index)| (LogPosition { term: 1, index }, entry))
            .collect();
        self.log.extend(placed.iter().cloned());
        self.mvcc.apply(placed).unwrap()
    }

    pub fn one(&mut self, op: Op) -> Outcome {
        self.apply([op]).pop().unwrap()
    }

    /// Puts a key and returns the revision.
    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        match self.one(put(key, value)).unwrap() {
            Response::Put(response) => response.header.unwrap().revision,
            other => panic!("not a put: {other:?}"),
        }
    }

    pub fn delete(&mut self, key: &str, end: &str) -> i64 {
        match self.one(delete(key, end)).unwrap() {
            Response::DeleteRange(response) => response.deleted,
            other => panic!("not a deletion: {other:?}"),
        }
    }

    pub fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse> {
        match self.one(Op::Txn(request))? {
            Response::Txn(response) => Ok(response),
            other => panic!("not a transaction: {other:?}"),
        }
    }

    pub fn compact(&mut self, revision: i64) -> Result<()> {
        self.one(compact(revision)).map(|_| ())
    }

    pub fn collect_all(&self) {
        while self.mvcc.gc_step(3).unwrap() {}
    }

    /// All keys at a revision as `key=value`.
    pub fn dump(&self, revision: i64) -> Vec<String> {
        let all = RangeRequest {
            revision,
            ..range("\0", "\0")
        };
        show(&self.mvcc.range(&all).unwrap().kvs)
    }

    pub fn get(&self, key: &str) -> Option<KeyValue> {
        self.mvcc.range(&range(key, "")).unwrap().kvs.pop()
    }

    /// A directory that does not exist yet.
    pub fn fresh_dir(&mut self) -> PathBuf {
        self.copies += 1;
        self.home.path().join(self.copies.to_string())
    }

    /// Loses what was not flushed, as a crash does, and applies the log again from there.
    pub fn crash(&mut self) {
        // RocksDB may remove files while they are copied; a machine that stops copies nothing.
        let found = (0..50).find_map(|_| {
            let copy = self.fresh_dir();
            copy_dir(&self.dir, &copy).ok()?;
            Some((try_open_engine(self.kind, &copy).ok()?, copy))
        });
        let (engine, dir) = found.unwrap();
        self.mvcc = Mvcc::open(engine.clone(), config()).unwrap();
        (self.engine, self.dir) = (engine, dir);
        let from = self.mvcc.applied().map_or(0, |applied| applied.index + 1);
        let again = self.log[from as usize..].to_vec();
        self.mvcc.apply(again).unwrap();
    }

    /// Flushes and opens again.
    pub fn reopen(&mut self) {
        self.mvcc.flush().unwrap();
        self.crash();
    }

    /// Goes on with a copy of itself, as a member does that installs a snapshot.
    pub fn replace_with_checkpoint(&mut self) {
        let copy = self.fresh_dir();
        let checkpoint = self.mvcc.checkpoint(&copy).unwrap();
        assert_eq!(checkpoint.applied, self.mvcc.applied());
        assert_eq!(checkpoint.revision, self.mvcc.revision());
        assert_eq!(checkpoint.membership, self.mvcc.membership());
        self.engine = open_engine(self.kind, &copy);
        self.dir = copy;
        self.mvcc.replace(self.engine.clone()).unwrap();
    }

    pub fn open_at(&mut self, dir: PathBuf) {
        self.engine = open_engine(self.kind, &dir);
        self.mvcc = Mvcc::open(self.engine.clone(), config()).unwrap();
        self.dir = dir;
    }
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    let mut names = std::fs::read_dir(from)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<Vec<_>>>()?;
    // The manifest first: the files that it names are older.
    names.sort_by_key(|name| !name.to_string_lossy().starts_with("MANIFEST"));
    for name in names.iter().filter(|name| *name != "LOCK") {
        std::fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

pub fn show(kvs: &[KeyValue]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let pair = |kv: &KeyValue| format!("{}={}", text(&kv.key), text(&kv.value));
    kvs.iter().map(pair).collect()
}

pub fn command(op: Op) -> Entry {
    let command = Command {
        op: Some(op),
        ..Command::default()
    };
    Entry::Command(command.encode_to_vec().into())
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put_request(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

pub fn put(key: &str, value: &str) -> Op {
    Op::Put(put_request(key, value))
}

pub fn put_leased(key: &str, value: &str, lease: i64) -> Op {
    Op::Put(PutRequest {
        lease,
        ..put_request(key, value)
    })
}

pub fn delete_request(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    }
}

pub fn delete(key: &str, end: &str) -> Op {
    Op::DeleteRange(delete_request(key, end))
}

pub fn compact(revision: i64) -> Op {
    Op::Compact(CompactionRequest {
        revision,
        physical: false,
    })
}

pub fn grant(id: i64, ttl: i64) -> Op {
    Op::LeaseGrant(LeaseGrant { id, ttl })
}

pub fn revoke(ids: &[i64]) -> Op {
    Op::LeaseRevoke(LeaseRevoke { ids: ids.to_vec() })
}

pub fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }
}

pub fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub fn op_put(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(put_request(key, value)))
}

pub fn op_get(key: &str, end: &str) -> RequestOp {
    op(Request::RequestRange(range(key, end)))
}

pub fn op_delete(key: &str, end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(delete_request(key, end)))
}

pub fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

pub fn compare(key: &str, target: TargetUnion, result: CompareResult) -> Compare {
    let kind = match target {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result as i32,
        target: kind as i32,
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(target),
    }
}

/// Tells a story on each engine.
pub fn on_both(story: impl Fn(&mut Store)) {
    for kind in KINDS {
        story(&mut Store::new(kind));
    }
}

/// The revision in a header.
pub fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().unwrap().revision
}

pub fn alarm(action: alarm_request::AlarmAction, member_id: u64, alarm: AlarmType) -> Op {
    Op::Alarm(AlarmRequest {
        action: action as i32,
        member_id,
        alarm: alarm as i32,
    })
}

/// How many versions the engine holds.
pub fn versions(store: &Store) -> usize {
    let mut cursor = store.engine.cursor(Space::Kv);
    cursor.seek(&[]);
    let mut count = 0;
    while cursor.entry().unwrap().is_some() {
        count += 1;
        cursor.next();
    }
    count
}

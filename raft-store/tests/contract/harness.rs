//! Runs cases on a backend, and what cases have in common.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use raft_store::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use raft_store::pb::etcdserverpb::request_op::Request as Op;
use raft_store::pb::etcdserverpb::response_op::Response as OpResponse;
use raft_store::pb::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use raft_store::pb::mvccpb::KeyValue;
use raft_store::{Result, Store, WatchItem, WatchStream};
use tokio::time::timeout;

use crate::backend::{Backend, Feature, Skipped};

/// What a case ends with, unless it panics.
pub(crate) type Outcome = std::result::Result<(), Skipped>;

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Ctx) -> BoxFuture<'a, Outcome>,
}

/// Declares the cases of a module: async functions from `&Ctx` to `Outcome`.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::harness::Case] = &[$($crate::harness::Case {
            name: stringify!($name),
            run: |t| Box::pin($name(t)),
        }),*];
    };
}
pub(crate) use cases;

/// Longer than any case should take, on a busy machine.
const CASE_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Runs the cases one after the other on a fresh store, all of them, and panics if any failed.
pub(crate) async fn run(backend: &dyn Backend, cases: &[Case]) {
    let running = match backend.start().await {
        Ok(running) => running,
        Err(Skipped(reason)) => {
            println!(
                "SKIPPED all {} cases on {}: {reason}",
                cases.len(),
                backend.name()
            );
            return;
        }
    };
    let mut failed = Vec::new();
    for case in cases {
        let t = Ctx::new(running.store.clone(), running.lacks, case.name);
        let run = timeout(CASE_LIMIT, (case.run)(&t));
        match AssertUnwindSafe(run).catch_unwind().await {
            Ok(Ok(Ok(()))) => println!("ok      {}", case.name),
            Ok(Ok(Err(Skipped(reason)))) => println!("SKIPPED {}: {reason}", case.name),
            Ok(Err(_)) => failed.push(format!("{} (too slow)", case.name)),
            Err(_) => failed.push(case.name.to_owned()),
        }
    }
    assert!(
        failed.is_empty(),
        "on {} these cases failed: {}",
        backend.name(),
        failed.join(", ")
    );
}

/// The store under test, with keys that no other case uses.
pub(crate) struct Ctx {
    pub(crate) store: Arc<dyn Store>,
    lacks: &'static [(Feature, &'static str)],
    prefix: String,
}

static CASES_RUN: AtomicU32 = AtomicU32::new(0);

impl Ctx {
    fn new(store: Arc<dyn Store>, lacks: &'static [(Feature, &'static str)], name: &str) -> Ctx {
        let number = CASES_RUN.fetch_add(1, Ordering::Relaxed);
        Ctx {
            store,
            lacks,
            prefix: format!("/{number:04}-{name}/"),
        }
    }

    /// Skips the case on backends without a feature.
    pub(crate) fn needs(&self, feature: Feature) -> Outcome {
        match self.lacks.iter().find(|(lacked, _)| *lacked == feature) {
            Some((_, reason)) => Err(Skipped((*reason).to_owned())),
            None => Ok(()),
        }
    }

    /// A key of this case.
    pub(crate) fn key(&self, name: &str) -> Bytes {
        Bytes::from(format!("{}{name}", self.prefix))
    }

    /// The end of the range of all keys of this case.
    pub(crate) fn end(&self) -> Bytes {
        Bytes::from(format!("{}0", self.prefix.trim_end_matches('/')))
    }

    pub(crate) async fn put(&self, name: &str, value: &str) -> PutResponse {
        self.try_put(put_request(self.key(name), value))
            .await
            .expect("a put")
    }

    pub(crate) async fn try_put(&self, request: PutRequest) -> Result<PutResponse> {
        self.store.put(request, Bytes::new()).await
    }

    /// Puts and yields the revision.
    pub(crate) async fn put_revision(&self, name: &str, value: &str) -> i64 {
        revision(&self.put(name, value).await.header)
    }

    pub(crate) async fn delete(&self, name: &str) -> DeleteRangeResponse {
        let request = DeleteRangeRequest {
            key: self.key(name),
            ..Default::default()
        };
        self.try_delete(request).await.expect("a delete")
    }

    pub(crate) async fn try_delete(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse> {
        self.store.delete_range(request, Bytes::new()).await
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> RangeResponse {
        self.store.range(request).await.expect("a range")
    }

    /// All keys of this case.
    pub(crate) fn all(&self) -> RangeRequest {
        RangeRequest {
            key: self.key(""),
            range_end: self.end(),
            ..Default::default()
        }
    }

    pub(crate) async fn get(&self, name: &str) -> Option<KeyValue> {
        let request = RangeRequest {
            key: self.key(name),
            ..Default::default()
        };
        self.range(request).await.kvs.pop()
    }

    /// The value as text.
    pub(crate) async fn value(&self, name: &str) -> Option<String> {
        self.get(name).await.map(|kv| text(&kv.value))
    }

    pub(crate) async fn txn(&self, request: TxnRequest) -> TxnResponse {
        self.try_txn(request).await.expect("a txn")
    }

    pub(crate) async fn try_txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        self.store.txn(request, Bytes::new()).await
    }

    pub(crate) async fn revision(&self) -> i64 {
        self.store.progress().await.expect("the revision")
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<()> {
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        self.store.compact(request).await.map(|_| ())
    }

    /// The names of keys, without what makes them this case's.
    pub(crate) fn names(&self, kvs: &[KeyValue]) -> Vec<String> {
        let name = |kv: &KeyValue| text(&kv.key).trim_start_matches(&self.prefix).to_owned();
        kvs.iter().map(name).collect()
    }
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

pub(crate) fn put_request(key: Bytes, value: &str) -> PutRequest {
    PutRequest {
        key,
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    }
}

// Operations of a transaction.

pub(crate) fn put_op(key: Bytes, value: &str) -> RequestOp {
    op(Op::RequestPut(put_request(key, value)))
}

pub(crate) fn get_op(key: Bytes) -> RequestOp {
    op(Op::RequestRange(RangeRequest {
        key,
        ..Default::default()
    }))
}

pub(crate) fn delete_op(key: Bytes, range_end: Bytes) -> RequestOp {
    op(Op::RequestDeleteRange(DeleteRangeRequest {
        key,
        range_end,
        prev_kv: true,
    }))
}

pub(crate) fn txn_op(txn: TxnRequest) -> RequestOp {
    op(Op::RequestTxn(txn))
}

pub(crate) fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// A transaction without compares that does these operations.
pub(crate) fn always(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..Default::default()
    }
}

pub(crate) fn compare(key: Bytes, result: CompareResult, union: TargetUnion) -> Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result as i32,
        target: target as i32,
        key,
        target_union: Some(union),
        range_end: Bytes::new(),
    }
}

pub(crate) fn ranged(response: &ResponseOp) -> &RangeResponse {
    match &response.response {
        Some(OpResponse::ResponseRange(range)) => range,
        other => panic!("no range response: {other:?}"),
    }
}

pub(crate) fn deleted(response: &ResponseOp) -> &DeleteRangeResponse {
    match &response.response {
        Some(OpResponse::ResponseDeleteRange(delete)) => delete,
        other => panic!("no delete response: {other:?}"),
    }
}

pub(crate) fn nested(response: &ResponseOp) -> &TxnResponse {
    match &response.response {
        Some(OpResponse::ResponseTxn(txn)) => txn,
        other => panic!("no txn response: {other:?}"),
    }
}

/// The next item of a watch, which must come soon.
pub(crate) async fn next(watch: &mut Box<dyn WatchStream>) -> Result<WatchItem> {
    timeout(SOON, watch.next())
        .await
        .expect("an item of the watch in time")
}

/// Asserts that a watch has nothing to tell now.
pub(crate) async fn silent(watch: &mut Box<dyn WatchStream>) {
    if let Ok(item) = timeout(Duration::from_millis(300), watch.next()).await {
        panic!("the watch should be silent, but tells {item:?}");
    }
}

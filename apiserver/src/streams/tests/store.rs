//! A store that holds a few objects and never changes.

use async_trait::async_trait;
use bytes::Bytes;
use raft_store::pb::etcdserverpb::*;
use raft_store::pb::mvccpb::KeyValue;
use raft_store::{Error, Result, Store, WatchItem, WatchStream};
use tokio::sync::mpsc;

use crate::storage::keys;

pub(super) struct Still {
    pub(super) pairs: Vec<KeyValue>,
}

impl Still {
    /// Objects, each with the resource that it belongs to.
    pub(super) fn new(objects: &[(&str, &str, &str)]) -> Self {
        let pairs = objects.iter().map(|(group, resource, json)| {
            let doc = api::doc::Doc::literal(json);
            let metadata = |key| doc.root().text(&["metadata", key]);
            let local = keys::local(metadata("namespace"), metadata("name"));
            let key = format!("{}{local}", keys::prefix(group, resource, false));
            KeyValue {
                key: key.into_bytes().into(),
                value: doc.to_string().into_bytes().into(),
                mod_revision: 1,
                ..KeyValue::default()
            }
        });
        let mut pairs: Vec<KeyValue> = pairs.collect();
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        Self { pairs }
    }
}

struct Silence(mpsc::Receiver<()>, mpsc::Sender<()>);

#[async_trait]
impl WatchStream for Silence {
    async fn next(&mut self) -> Result<WatchItem> {
        self.0.recv().await;
        Ok(WatchItem::Progress { revision: 1 })
    }

    async fn request_progress(&mut self) -> Result<()> {
        let _ = self.1.try_send(());
        Ok(())
    }
}

#[async_trait]
impl Store for Still {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let within = |pair: &&KeyValue| pair.key >= request.key && pair.key < request.range_end;
        let kvs: Vec<KeyValue> = self.pairs.iter().filter(within).cloned().collect();
        Ok(RangeResponse {
            count: kvs.len() as i64,
            kvs,
            ..RangeResponse::default()
        })
    }

    async fn put(&self, _: PutRequest, _: Bytes) -> Result<PutResponse> {
        Err(Error::Stopped)
    }

    async fn delete_range(&self, _: DeleteRangeRequest, _: Bytes) -> Result<DeleteRangeResponse> {
        Err(Error::Stopped)
    }

    async fn txn(&self, _: TxnRequest, _: Bytes) -> Result<TxnResponse> {
        Err(Error::Stopped)
    }

    async fn compact(&self, _: CompactionRequest) -> Result<CompactionResponse> {
        Err(Error::Stopped)
    }

    async fn watch(&self, _: WatchCreateRequest) -> Result<Box<dyn WatchStream>> {
        let (sender, receiver) = mpsc::channel(1);
        Ok(Box::new(Silence(receiver, sender)))
    }

    async fn lease_grant(&self, _: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        Err(Error::Stopped)
    }

    async fn lease_revoke(&self, _: i64) -> Result<LeaseRevokeResponse> {
        Err(Error::Stopped)
    }

    async fn lease_keep_alive(&self, _: i64) -> Result<LeaseKeepAliveResponse> {
        Err(Error::Stopped)
    }

    async fn lease_time_to_live(
        &self,
        _: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        Err(Error::Stopped)
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        Err(Error::Stopped)
    }

    async fn progress(&self) -> Result<i64> {
        Ok(1)
    }

    async fn status(&self) -> Result<StatusResponse> {
        Err(Error::Stopped)
    }
}

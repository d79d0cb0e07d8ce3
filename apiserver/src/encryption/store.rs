//! A store whose values pass through encryption. Whoever is above it sees what they wrote; whoever
//! looks at the store itself does not.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use raft_store::pb::etcdserverpb::request_op::Request as Op;
use raft_store::pb::etcdserverpb::response_op::Response as Done;
use raft_store::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseOp, StatusResponse, TxnRequest, TxnResponse,
    WatchCreateRequest,
};
use raft_store::pb::mvccpb::KeyValue;
use raft_store::{Error, Result, Store, WatchItem, WatchStream};

use super::{Encryption, Failure};

/// Which resources stand under which prefixes of keys.
type Prefixes = BTreeMap<String, (String, String)>;

/// A store whose values pass through encryption.
pub struct Encrypted {
    inner: Arc<dyn Store>,
    values: Arc<Values>,
}

/// What is done to values.
struct Values {
    encryption: Arc<Encryption>,
    prefixes: Prefixes,
}

impl Encrypted {
    /// Puts encryption in front of a store. Resources come with the prefixes of their keys.
    pub fn new(
        inner: Arc<dyn Store>,
        encryption: Arc<Encryption>,
        prefixes: impl IntoIterator<Item = (String, (String, String))>,
    ) -> Self {
        let prefixes = prefixes.into_iter().collect();
        Self {
            inner,
            values: Arc::new(Values {
                encryption,
                prefixes,
            }),
        }
    }

    /// Whether what stands at a key would be encrypted otherwise if it were written now.
    pub async fn is_stale(&self, key: &str) -> bool {
        let request = RangeRequest {
            key: key.as_bytes().to_vec().into(),
            ..RangeRequest::default()
        };
        let Ok(found) = self.inner.range(request).await else {
            return false;
        };
        let resource = self.values.resource(key.as_bytes());
        match (found.kvs.first(), resource) {
            (Some(pair), Some(resource)) => self.values.encryption.is_stale(resource, &pair.value),
            _ => false,
        }
    }
}

impl Values {
    /// Whose key it is.
    fn resource<'k>(&'k self, key: &'k [u8]) -> Option<(&'k str, &'k str)> {
        let key = std::str::from_utf8(key).ok()?;
        let known = self
            .prefixes
            .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        if let Some((prefix, (group, resource))) = known
            && key.starts_with(prefix)
        {
            return Some((group, resource));
        }
        // Custom resources: /registry/GROUP/RESOURCE/…
        let mut parts = key.strip_prefix(crate::storage::keys::ROOT)?.split('/');
        let (group, resource) = (parts.next()?, parts.next()?);
        (group.contains('.') && parts.next().is_some()).then_some((group, resource))
    }

    fn seal(&self, key: &[u8], value: &Bytes) -> Result<Bytes> {
        let Some(resource) = self.resource(key) else {
            return Ok(value.clone());
        };
        let sealed = self.encryption.seal(resource, key, value);
        sealed.map_err(|failure| error(&failure))
    }

    /// Decrypts a pair. One that nobody can ever decrypt stays as it is, and whoever reads it finds
    /// no object there: it must not stand in the way of all others.
    async fn open(&self, pair: &mut KeyValue) -> Result<()> {
        let Some(resource) = self.resource(&pair.key) else {
            return Ok(());
        };
        let value = pair.value.clone();
        match self.encryption.open(resource, &pair.key, value).await {
            Ok(value) => {
                pair.value = value;
                Ok(())
            }
            Err(Failure::Broken(why)) => {
                let key = String::from_utf8_lossy(&pair.key);
                tracing::error!(%key, why, "a stored value cannot be decrypted");
                Ok(())
            }
            Err(failure) => Err(error(&failure)),
        }
    }

    async fn open_all(&self, pairs: &mut [KeyValue]) -> Result<()> {
        for pair in pairs {
            self.open(pair).await?;
        }
        Ok(())
    }

    fn seal_operations(&self, operations: &mut [RequestOp]) -> Result<()> {
        for operation in operations {
            match &mut operation.request {
                Some(Op::RequestPut(put)) => put.value = self.seal(&put.key, &put.value)?,
                Some(Op::RequestTxn(nested)) => {
                    self.seal_operations(&mut nested.success)?;
                    self.seal_operations(&mut nested.failure)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn open_responses(&self, responses: &mut [ResponseOp]) -> Result<()> {
        // Nested transactions are opened after those that they are in.
        let mut todo: VecDeque<&mut ResponseOp> = responses.iter_mut().collect();
        while let Some(response) = todo.pop_front() {
            match &mut response.response {
                Some(Done::ResponseRange(range)) => self.open_all(&mut range.kvs).await?,
                Some(Done::ResponsePut(put)) => {
                    if let Some(before) = &mut put.prev_kv {
                        self.open(before).await?;
                    }
                }
                Some(Done::ResponseDeleteRange(gone)) => {
                    self.open_all(&mut gone.prev_kvs).await?;
                }
                Some(Done::ResponseTxn(nested)) => todo.extend(nested.responses.iter_mut()),
                None => {}
            }
        }
        Ok(())
    }
}

fn error(failure: &Failure) -> Error {
    match failure {
        Failure::Unwell(why) => {
            tracing::warn!(why, "values cannot be encrypted or decrypted");
            Error::Unhealthy
        }
        Failure::Broken(why) => Error::InvalidArgument(why.clone()),
    }
}

#[async_trait]
impl Store for Encrypted {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let mut response = self.inner.range(request).await?;
        self.values.open_all(&mut response.kvs).await?;
        Ok(response)
    }

    async fn put(&self, mut request: PutRequest, metadata: Bytes) -> Result<PutResponse> {
        request.value = self.values.seal(&request.key, &request.value)?;
        let mut response = self.inner.put(request, metadata).await?;
        if let Some(before) = &mut response.prev_kv {
            self.values.open(before).await?;
        }
        Ok(response)
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
        metadata: Bytes,
    ) -> Result<DeleteRangeResponse> {
        let mut response = self.inner.delete_range(request, metadata).await?;
        self.values.open_all(&mut response.prev_kvs).await?;
        Ok(response)
    }

    async fn txn(&self, mut request: TxnRequest, metadata: Bytes) -> Result<TxnResponse> {
        self.values.seal_operations(&mut request.success)?;
        self.values.seal_operations(&mut request.failure)?;
        let mut response = self.inner.txn(request, metadata).await?;
        self.values.open_responses(&mut response.responses).await?;
        Ok(response)
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse> {
        self.inner.compact(request).await
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Box<dyn WatchStream>> {
        Ok(Box::new(Opened {
            inner: self.inner.watch(request).await?,
            values: self.values.clone(),
            item: None,
            opened: 0,
        }))
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.inner.lease_grant(request).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse> {
        self.inner.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        self.inner.lease_keep_alive(id).await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.inner.lease_time_to_live(request).await
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        self.inner.leases().await
    }

    async fn progress(&self) -> Result<i64> {
        self.inner.progress().await
    }

    async fn status(&self) -> Result<StatusResponse> {
        self.inner.status().await
    }
}

/// A watch whose values are decrypted.
struct Opened {
    inner: Box<dyn WatchStream>,
    values: Arc<Values>,
    /// An item whose decryption may have been given up by the caller and is taken up again.
    item: Option<WatchItem>,
    /// How many of its events are decrypted.
    opened: usize,
}

#[async_trait]
impl WatchStream for Opened {
    async fn next(&mut self) -> Result<WatchItem> {
        if self.item.is_none() {
            self.opened = 0;
            self.item = Some(self.inner.next().await?);
        }
        if let Some(WatchItem::Events { events, .. }) = &mut self.item {
            while let Some(event) = events.get_mut(self.opened) {
                for pair in [&mut event.kv, &mut event.prev_kv].into_iter().flatten() {
                    self.values.open(pair).await?;
                }
                self.opened += 1;
            }
        }
        self.item.take().ok_or(Error::Stopped)
    }

    async fn request_progress(&mut self) -> Result<()> {
        self.inner.request_progress().await
    }
}

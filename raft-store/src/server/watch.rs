//! Stub of the Watch service, until the branch `watch` brings it.

use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::member::Member;
use crate::pb::etcdserverpb::watch_server::Watch;
use crate::pb::etcdserverpb::{WatchRequest, WatchResponse};

/// Stub.
pub struct WatchService {}

impl WatchService {
    /// Stub.
    pub fn new(_: Member) -> WatchService {
        WatchService {}
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;
    async fn watch(
        &self,
        _: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("stub"))
    }
}

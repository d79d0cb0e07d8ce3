//! The KV service.

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};
use prost::Message;
use tonic::Status;

use super::{Inner, status};
use crate::error::{Error, Result};
use crate::member::Member;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use crate::store::Store;

/// Keys in the first chunk of a stream; later chunks grow or shrink towards [`CHUNK_BYTES`].
const FIRST_CHUNK_KEYS: i64 = 64;
/// What a chunk should weigh: enough to be cheap per key, little enough to keep memory low.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) async fn range(server: &Inner, request: RangeRequest) -> Result<RangeResponse> {
    if !request.serializable && server.member.is_learner() {
        return Err(Error::NotSupportedForLearner);
    }
    server.member.range(request).await
}

pub(super) async fn put(server: &Inner, request: PutRequest, audit: Bytes) -> Result<PutResponse> {
    server.member.put(request, audit).await
}

pub(super) async fn delete_range(
    server: &Inner,
    request: DeleteRangeRequest,
    audit: Bytes,
) -> Result<DeleteRangeResponse> {
    server.member.delete_range(request, audit).await
}

pub(super) async fn txn(server: &Inner, request: TxnRequest, audit: Bytes) -> Result<TxnResponse> {
    server.member.txn(request, audit).await
}

pub(super) async fn compact(
    server: &Inner,
    request: CompactionRequest,
) -> Result<CompactionResponse> {
    server.member.compact(request).await
}

/// A range in chunks, all of one revision; header, count and more come in the last.
pub(super) async fn range_stream(
    member: Member,
    request: RangeRequest,
) -> Result<impl Stream<Item = Result<RangeStreamResponse, Status>>, Status> {
    if request.key.is_empty() {
        return Err(status::status(&Error::EmptyKey));
    }
    check_streamable(&request)?;
    let ready = match request.serializable {
        true => member.recovered().await,
        false => member.read_barrier().await,
    };
    ready.map_err(|error| status::status(&error))?;
    let pages = Pages::new(member, request);
    Ok(stream::unfold(Some(pages), |pages| async move {
        let mut pages = pages?;
        match pages.next() {
            Ok((chunk, last)) => Some((Ok(chunk), (!last).then_some(pages))),
            Err(error) => Some((Err(status::status(&error)), None)),
        }
    }))
}

fn check_streamable(request: &RangeRequest) -> Result<(), Status> {
    let (Ok(order), Ok(target)) = (
        SortOrder::try_from(request.sort_order),
        SortTarget::try_from(request.sort_target),
    ) else {
        return Err(status::status(&Error::InvalidSortOption));
    };
    let by_key = target == SortTarget::Key && order == SortOrder::Ascend;
    if order != SortOrder::None && !by_key {
        return Err(Status::unimplemented(
            "RangeStream does not support custom sort orders",
        ));
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        return Err(Status::unimplemented(
            "RangeStream does not support revision filters",
        ));
    }
    Ok(())
}

/// Where a stream stands.
struct Pages {
    member: Member,
    /// The next page; its revision is fixed by the first page.
    request: RangeRequest,
    /// The client's limit, or none.
    limit: Option<i64>,
    sent: i64,
    /// The store's revision and the range's count at the first page.
    first: Option<(i64, i64)>,
}

impl Pages {
    fn new(member: Member, request: RangeRequest) -> Pages {
        let limit = (request.limit > 0).then_some(request.limit);
        let mut pages = Pages {
            member,
            request,
            limit,
            sent: 0,
            first: None,
        };
        pages.set_page_size(FIRST_CHUNK_KEYS);
        pages
    }

    /// The next chunk and whether it is the last.
    fn next(&mut self) -> Result<(RangeStreamResponse, bool)> {
        let page = self.member.mvcc().range(&self.request)?;
        let revision = page.header.as_ref().map_or(0, |header| header.revision);
        let (store_revision, count) = *self.first.get_or_insert((revision, page.count));
        if self.request.revision == 0 {
            self.request.revision = store_revision;
        }
        self.sent += page.kvs.len() as i64;
        let last = !page.more || self.limit == Some(self.sent);
        let size = page.encoded_len();
        let mut chunk = RangeResponse {
            kvs: page.kvs,
            ..RangeResponse::default()
        };
        if last {
            let mut header = self.member.header();
            header.revision = store_revision;
            chunk.header = Some(header);
            chunk.more = page.more;
            chunk.count = count;
        } else if let Some(last) = chunk.kvs.last() {
            let mut after = BytesMut::with_capacity(last.key.len() + 1);
            after.extend_from_slice(&last.key);
            after.extend_from_slice(&[0]);
            self.request.key = after.freeze();
            self.set_page_size(next_page_size(self.request.limit, size));
        }
        Ok((
            RangeStreamResponse {
                range_response: Some(chunk),
            },
            last,
        ))
    }

    fn set_page_size(&mut self, keys: i64) {
        let left = self.limit.map_or(i64::MAX, |limit| limit - self.sent);
        self.request.limit = keys.min(left);
    }
}

/// Doubles or halves a page that was well below or above the size wanted.
fn next_page_size(keys: i64, bytes: usize) -> i64 {
    if bytes < CHUNK_BYTES / 2 {
        keys.saturating_mul(2)
    } else if bytes > CHUNK_BYTES * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_and_shrink_towards_the_chunk_size() {
        assert_eq!(next_page_size(64, 1000), 128);
        assert_eq!(next_page_size(64, CHUNK_BYTES), 64);
        assert_eq!(next_page_size(64, 3 * CHUNK_BYTES), 32);
        assert_eq!(next_page_size(1, 3 * CHUNK_BYTES), 1);
    }

    #[test]
    fn sorted_and_filtered_ranges_are_not_streamed() {
        let streamable = |request: RangeRequest| check_streamable(&request).map_err(|s| s.code());
        let range = RangeRequest {
            key: "k".into(),
            ..RangeRequest::default()
        };
        assert_eq!(streamable(range.clone()), Ok(()));
        let ascending = SortOrder::Ascend as i32;
        assert_eq!(
            streamable(RangeRequest {
                sort_order: ascending,
                ..range.clone()
            }),
            Ok(())
        );
        let descending = SortOrder::Descend as i32;
        let refused = Err(tonic::Code::Unimplemented);
        assert_eq!(
            streamable(RangeRequest {
                sort_order: descending,
                ..range.clone()
            }),
            refused
        );
        assert_eq!(
            streamable(RangeRequest {
                min_mod_revision: 1,
                ..range.clone()
            }),
            refused
        );
        let unknown = RangeRequest {
            sort_target: 9,
            ..range
        };
        assert_eq!(streamable(unknown), Err(tonic::Code::InvalidArgument));
    }
}

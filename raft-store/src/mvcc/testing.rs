//! Requests for tests.

use bytes::Bytes;

use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

pub(crate) fn txn(
    compare: Vec<Compare>,
    success: Vec<RequestOp>,
    failure: Vec<RequestOp>,
) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn nested(request: TxnRequest) -> RequestOp {
    op(Request::RequestTxn(request))
}

pub(crate) fn put(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }))
}

pub(crate) fn get(key: &str, end: &str) -> RequestOp {
    op(Request::RequestRange(RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }))
}

pub(crate) fn delete(key: &str, end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..DeleteRangeRequest::default()
    }))
}

//! Between our vocabulary and etcd's messages.

use bytes::Bytes;
use raft_store::pb::etcdserverpb as pb;
use raft_store::pb::mvccpb;

use crate::history::{Event, EventKind, WatchSpec};
use crate::ops::{Call, Compare, Item, Step, StepReply};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The end of the range of all keys with a prefix; for the empty one, of all keys.
fn range_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

/// The start of that range.
fn range_start(prefix: &str) -> Bytes {
    if prefix.is_empty() {
        Bytes::from_static(&[0])
    } else {
        bytes(prefix)
    }
}

pub(super) fn put(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        lease,
        ..Default::default()
    }
}

pub(super) fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        ..Default::default()
    }
}

/// A range request for a `Get` or `List`.
pub(super) fn range(call: &Call) -> pb::RangeRequest {
    let (key, range_end, serializable, revision) = match call {
        Call::Get {
            key,
            serializable,
            revision,
        } => (bytes(key), Bytes::new(), *serializable, *revision),
        Call::List {
            prefix,
            serializable,
            revision,
        } => (
            range_start(prefix),
            range_end(prefix),
            *serializable,
            *revision,
        ),
        _ => (Bytes::new(), Bytes::new(), false, 0),
    };
    pb::RangeRequest {
        key,
        range_end,
        serializable,
        revision,
        ..Default::default()
    }
}

pub(super) fn txn(compare: &[Compare], then: &[Step], otherwise: &[Step]) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: compare.iter().map(condition).collect(),
        success: then.iter().map(operation).collect(),
        failure: otherwise.iter().map(operation).collect(),
    }
}

fn condition(compare: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (target, key, union) = match compare {
        Compare::Value(key, value) => (CompareTarget::Value, key, TargetUnion::Value(bytes(value))),
        Compare::Modified(key, revision) => {
            (CompareTarget::Mod, key, TargetUnion::ModRevision(*revision))
        }
    };
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

fn operation(step: &Step) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match step {
        Step::Get(key) => Request::RequestRange(pb::RangeRequest {
            key: bytes(key),
            ..Default::default()
        }),
        Step::Put(key, value) => Request::RequestPut(put(key, value, 0)),
        Step::Delete(key) => Request::RequestDeleteRange(delete(key)),
    };
    pb::RequestOp {
        request: Some(request),
    }
}

pub(super) fn step_reply(response: pb::ResponseOp) -> StepReply {
    use pb::response_op::Response;
    match response.response {
        Some(Response::ResponseRange(range)) => {
            StepReply::Item(range.kvs.into_iter().next().map(item))
        }
        Some(Response::ResponseDeleteRange(deleted)) => StepReply::Deleted(deleted.deleted),
        _ => StepReply::Done,
    }
}

pub(super) fn item_of_step(response: pb::ResponseOp) -> Option<Item> {
    match step_reply(response) {
        StepReply::Item(item) => item,
        StepReply::Done | StepReply::Deleted(_) => None,
    }
}

pub(super) fn item(kv: mvccpb::KeyValue) -> Item {
    Item {
        key: text(&kv.key),
        value: text(&kv.value),
        create: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// An event as it came over the wire.
pub fn event(event: mvccpb::Event) -> Event {
    let kind = if event.r#type == 0 {
        EventKind::Put
    } else {
        EventKind::Delete
    };
    Event {
        kind,
        item: event.kv.map(item).unwrap_or_else(nothing),
        prev: event.prev_kv.map(item),
    }
}

fn nothing() -> Item {
    crate::model::tombstone("", 0)
}

pub(super) fn watch_request(spec: &WatchSpec) -> pb::WatchRequest {
    use pb::watch_create_request::FilterType;
    let mut filters = Vec::new();
    if spec.no_put {
        filters.push(FilterType::Noput.into());
    }
    if spec.no_delete {
        filters.push(FilterType::Nodelete.into());
    }
    let create = pb::WatchCreateRequest {
        key: range_start(&spec.prefix),
        range_end: range_end(&spec.prefix),
        start_revision: spec.start,
        progress_notify: spec.progress,
        filters,
        prev_kv: spec.prev_kv,
        watch_id: 0,
        fragment: false,
    };
    pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_its_successor() {
        assert_eq!(&range_end("a/")[..], b"a0");
        assert_eq!(&range_end("")[..], b"\0");
    }
}

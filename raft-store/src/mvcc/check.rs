//! What can be said about a request without looking at the data.
//!
//! Serving members check before they propose, so that a bad request costs no log entry. Apply
//! checks transactions again: that no key changes twice in a revision is what the storage rests on.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::span::{End, Span};
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::pb::log::command::Op;

/// Operations (or compares) of a transaction at most, added up along a path of nested ones.
pub const MAX_TXN_OPS: usize = 128;

/// Checks a range request.
pub fn check_range(request: &RangeRequest) -> Result<()> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    match (order, target) {
        (Ok(_), Ok(_)) => Ok(()),
        _ => Err(Error::InvalidSortOption),
    }
}

/// Checks a range request that is to be answered in chunks, which come in the order of the keys.
pub fn check_range_stream(request: &RangeRequest) -> Result<()> {
    check_range(request)?;
    if !has_key_order(request) {
        return Err(Error::Unimplemented("RangeStream with a custom sort order"));
    }
    if has_revision_filters(request) {
        return Err(Error::Unimplemented("RangeStream with revision filters"));
    }
    Ok(())
}

/// Checks a put request.
pub fn check_put(request: &PutRequest) -> Result<()> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(Error::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(Error::LeaseProvided)
    } else {
        Ok(())
    }
}

/// Checks a delete request.
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<()> {
    match request.key.is_empty() {
        true => Err(Error::EmptyKey),
        false => Ok(()),
    }
}

/// Checks a transaction; says whether it only reads, so that it needs no log entry.
///
/// Two cases are refused here that etcd lets through by accident: a nested put beside a later
/// nested delete of the same key, and a put beside a delete of "every key from" below it. There
/// the key would change twice in one revision.
pub fn check_txn(request: &TxnRequest) -> Result<bool> {
    check_ops(request, MAX_TXN_OPS)?;
    check_overlap(request)?;
    let mut ops = request.success.iter().chain(&request.failure);
    Ok(ops.all(|op| matches!(op.request, Some(Request::RequestRange(_)))))
}

/// The part of [`check_txn`] without which apply would break.
pub(super) fn check_overlap(request: &TxnRequest) -> Result<()> {
    for branch in [&request.success, &request.failure] {
        // The common small transactions cannot overlap.
        if branch.iter().filter(|op| !is_range(op)).count() > 1 || branch.iter().any(is_txn) {
            Changes::of(branch)?;
        }
    }
    Ok(())
}

/// Whether a transaction has a put on any path: those that a full store refuses.
pub(super) fn has_put(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => has_put(nested),
        _ => false,
    })
}

/// Whether an operation costs about as much as its size says: it neither reads nor changes a range
/// of keys, of which there may be millions.
pub(super) fn is_light(op: &Op) -> bool {
    match op {
        Op::DeleteRange(request) => request.range_end.is_empty(),
        Op::Txn(request) => is_light_txn(request),
        Op::LeaseRevoke(_) => false,
        _ => true,
    }
}

fn is_light_txn(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    let points = request.compare.iter().all(|c| c.range_end.is_empty());
    points
        && ops.all(|op| match &op.request {
            Some(Request::RequestRange(range)) => range.range_end.is_empty(),
            Some(Request::RequestDeleteRange(delete)) => delete.range_end.is_empty(),
            Some(Request::RequestTxn(nested)) => is_light_txn(nested),
            Some(Request::RequestPut(_)) | None => true,
        })
}

/// Whether any range of a transaction reads at a revision of its own choice.
pub(super) fn reads_history(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.any(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.revision > 0,
        Some(Request::RequestTxn(nested)) => reads_history(nested),
        _ => false,
    })
}

/// Whether the keys are wanted in ascending order, or in none.
pub(super) fn has_key_order(request: &RangeRequest) -> bool {
    request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32
            && request.sort_order == SortOrder::Ascend as i32)
}

pub(super) fn has_revision_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn is_range(op: &RequestOp) -> bool {
    matches!(op.request, Some(Request::RequestRange(_)) | None)
}

fn is_txn(op: &RequestOp) -> bool {
    matches!(op.request, Some(Request::RequestTxn(_)))
}

fn check_ops(request: &TxnRequest, max: usize) -> Result<()> {
    let longest = request.compare.len();
    let longest = longest
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = max.checked_sub(longest) else {
        return Err(Error::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete_range(delete)?,
            Some(Request::RequestTxn(nested)) => check_ops(nested, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What one branch of a transaction may change.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<Span<'a>>,
}

impl<'a> Changes<'a> {
    /// Collects the changes of a branch; fails if two of them may concern the same key, unless
    /// they are on two branches of which only one runs.
    fn of(branch: &'a [RequestOp]) -> Result<Changes<'a>> {
        let mut all = Changes::default();
        for op in branch {
            let ours = match &op.request {
                Some(Request::RequestPut(put)) => Changes {
                    puts: BTreeSet::from([&put.key[..]]),
                    deletes: Vec::new(),
                },
                Some(Request::RequestDeleteRange(delete)) => Changes {
                    puts: BTreeSet::new(),
                    deletes: vec![Span::new(&delete.key, &delete.range_end)],
                },
                Some(Request::RequestTxn(nested)) => {
                    let mut either = Changes::of(&nested.success)?;
                    let other = Changes::of(&nested.failure)?;
                    either.puts.extend(other.puts);
                    either.deletes.extend(other.deletes);
                    either
                }
                Some(Request::RequestRange(_)) | None => continue,
            };
            all.add(ours)?;
        }
        Ok(all)
    }

    fn add(&mut self, more: Changes<'a>) -> Result<()> {
        let clash = !self.puts.is_disjoint(&more.puts)
            || self.deletes.iter().any(|span| any_in(&more.puts, span))
            || more.deletes.iter().any(|span| any_in(&self.puts, span));
        if clash {
            return Err(Error::DuplicateKey);
        }
        self.puts.extend(more.puts);
        // Deletes may overlap: what the first removed, the second does not find.
        self.deletes.extend(more.deletes);
        Ok(())
    }
}

fn any_in(keys: &BTreeSet<&[u8]>, span: &Span<'_>) -> bool {
    let end = match span.end {
        End::Point => return keys.contains(span.start),
        End::Before(end) if end <= span.start => return false,
        End::Before(end) => Bound::Excluded(end),
        End::Unbounded => Bound::Unbounded,
    };
    let range = (Bound::Included(span.start), end);
    keys.range::<[u8], _>(range).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::testing::{delete, get, nested, put, txn};

    fn duplicate(ops: Vec<RequestOp>) -> bool {
        match check_txn(&txn(vec![], ops, vec![])) {
            Ok(_) => false,
            Err(Error::DuplicateKey) => true,
            Err(other) => panic!("unexpected: {other}"),
        }
    }

    #[test]
    fn a_key_may_change_once_on_each_path() {
        assert!(!duplicate(vec![put("a", "1"), put("b", "1"), get("a", "")]));
        assert!(duplicate(vec![put("a", "1"), put("a", "2")]));
        assert!(duplicate(vec![put("a", "1"), delete("a", "")]));
        assert!(duplicate(vec![delete("a", "c"), put("b", "1")]));
        assert!(!duplicate(vec![delete("a", "c"), put("c", "1")]));
        assert!(!duplicate(vec![delete("a", "c"), delete("b", "d")]));
        assert!(!duplicate(vec![delete("c", "a"), put("b", "1")]));
        // Every key from b on; etcd misses this one.
        assert!(duplicate(vec![delete("b", "\0"), put("c", "1")]));
        assert!(!duplicate(vec![delete("b", "\0"), put("a", "1")]));
    }

    #[test]
    fn branches_of_a_nested_transaction_may_overlap_each_other_only() {
        let either = |a: Vec<RequestOp>, b: Vec<RequestOp>| nested(txn(vec![], a, b));
        let both = || either(vec![put("a", "1")], vec![put("a", "2")]);
        assert!(!duplicate(vec![both()]));
        assert!(duplicate(vec![both(), put("a", "3")]));
        assert!(duplicate(vec![both(), both()]));
        assert!(duplicate(vec![both(), delete("a", "b")]));
        assert!(!duplicate(vec![either(
            vec![put("a", "1")],
            vec![delete("a", "")]
        )]));
        assert!(duplicate(vec![either(
            vec![put("a", "1"), put("a", "1")],
            vec![]
        )]));
        // Etcd misses this one too.
        let del = either(vec![delete("a", "")], vec![]);
        assert!(duplicate(vec![both(), del]));
    }

    #[test]
    fn operations_count_along_a_path() {
        let gets = |n: usize| (0..n).map(|_| get("a", "")).collect::<Vec<_>>();
        assert_eq!(check_txn(&txn(vec![], gets(128), gets(128))), Ok(true));
        let over = txn(vec![], gets(129), vec![]);
        assert_eq!(check_txn(&over), Err(Error::TooManyOps));
        let inner = |n| nested(txn(vec![], gets(n), vec![]));
        assert_eq!(check_txn(&txn(vec![], vec![inner(127)], vec![])), Ok(false));
        let over = txn(vec![], vec![inner(128)], vec![]);
        assert_eq!(check_txn(&over), Err(Error::TooManyOps));
    }

    #[test]
    fn commands_over_ranges_are_not_light() {
        let light = |op| is_light(&op);
        let ops = |ops: Vec<RequestOp>| light(Op::Txn(txn(vec![], ops, vec![])));
        assert!(light(Op::Put(PutRequest::default())));
        assert!(ops(vec![put("a", "1"), get("a", ""), delete("b", "")]));
        assert!(!ops(vec![put("a", "1"), get("a", "b")]));
        assert!(!ops(vec![nested(txn(
            vec![],
            vec![],
            vec![delete("a", "b")]
        ))]));
        let delete_range = |end: &str| DeleteRangeRequest {
            key: "a".into(),
            range_end: end.to_owned().into(),
            prev_kv: false,
        };
        assert!(light(Op::DeleteRange(delete_range(""))));
        assert!(!light(Op::DeleteRange(delete_range("b"))));
        assert!(!light(Op::LeaseRevoke(Default::default())));
    }

    #[test]
    fn malformed_requests_are_named() {
        let op = |op: RequestOp| check_txn(&txn(vec![], vec![op], vec![]));
        assert_eq!(op(put("", "1")), Err(Error::EmptyKey));
        assert_eq!(op(get("", "")), Err(Error::EmptyKey));
        assert_eq!(op(delete("", "")), Err(Error::EmptyKey));
        assert_eq!(op(RequestOp { request: None }), Err(Error::KeyNotFound));
        let request = PutRequest {
            key: "a".into(),
            value: "v".into(),
            ignore_value: true,
            ..PutRequest::default()
        };
        assert_eq!(check_put(&request), Err(Error::ValueProvided));
        let request = PutRequest {
            key: "a".into(),
            lease: 1,
            ignore_lease: true,
            ..PutRequest::default()
        };
        assert_eq!(check_put(&request), Err(Error::LeaseProvided));
        let request = RangeRequest {
            key: "a".into(),
            sort_order: 3,
            ..RangeRequest::default()
        };
        assert_eq!(check_range(&request), Err(Error::InvalidSortOption));
    }
}

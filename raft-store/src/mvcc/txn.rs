//! Transactions: the compares, the path they choose, and what is checked before any effect.
//!
//! The whole path through nested transactions is decided from the state before the transaction.
//! Everything that can fail is checked along that path first, so that a transaction has all its
//! effects or none.

use std::cmp::Ordering;

use bytes::Bytes;

use super::keys::{KeyMeta, VersionRecord};
use super::range::{header, range, resolve};
use super::span::Span;
use super::state::{Failure, Source};
use crate::error::Error;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::{
    Compare, PutRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};

/// Which branch each transaction takes: the outermost first, then those nested in its chosen
/// branch, depth first.
pub(super) type Path = std::vec::IntoIter<bool>;

/// Decides the path of a transaction and checks every operation on it.
pub(super) fn prepare(source: &impl Source, request: &TxnRequest) -> Result<Path, Failure> {
    let mut path = Vec::new();
    choose(source, request, &mut path)?;
    check_branch(source, request, &mut path.iter().copied())?;
    Ok(path.into_iter())
}

/// Answers a transaction that only reads.
pub(super) fn read(source: &impl Source, request: &TxnRequest) -> Result<TxnResponse, Failure> {
    let succeeded = prepare(source, request)?.next().unwrap_or(false);
    let responses = branch(request, succeeded)
        .iter()
        .map(|op| match &op.request {
            Some(Request::RequestRange(request)) => {
                Ok(answer(Response::ResponseRange(range(source, request)?)))
            }
            _ => Err(Error::Internal("a reading transaction writes".into()).into()),
        })
        .collect::<Result<_, Failure>>()?;
    Ok(TxnResponse {
        header: header(source.revision()),
        succeeded,
        responses,
    })
}

/// One response of a transaction.
pub(super) fn answer(response: Response) -> ResponseOp {
    ResponseOp {
        response: Some(response),
    }
}

/// Whether a put may go ahead: its lease exists, and so does the key it wants to keep parts of.
pub(super) fn check_put(source: &impl Source, request: &PutRequest) -> Result<(), Error> {
    if request.lease != 0 && source.leases().get(request.lease).is_none() {
        return Err(Error::LeaseNotFound);
    }
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && source.index().get(&request.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    match succeeded {
        true => &request.success,
        false => &request.failure,
    }
}

fn choose(source: &impl Source, request: &TxnRequest, path: &mut Vec<bool>) -> Result<(), Failure> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(source, compare)? {
            succeeded = false;
            break;
        }
    }
    path.push(succeeded);
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose(source, nested, path)?;
        }
    }
    Ok(())
}

fn check_branch(
    source: &impl Source,
    request: &TxnRequest,
    path: &mut impl Iterator<Item = bool>,
) -> Result<(), Failure> {
    for op in branch(request, path.next().unwrap_or(false)) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_revision(source, range.revision)?,
            Some(Request::RequestPut(put)) => check_put(source, put)?,
            Some(Request::RequestTxn(nested)) => check_branch(source, nested, path)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Unlike a range by itself, one in a transaction may not have a negative revision.
fn check_revision(source: &impl Source, revision: i64) -> Result<(), Error> {
    if revision < 0 {
        return Err(Error::Compacted {
            compact_revision: source.compact_revision(),
        });
    }
    resolve(source, revision).map(|_| ())
}

/// Whether a compare holds for every key that it means. A missing key compares as all zeros, but
/// no compare of a value holds for it.
fn holds(source: &impl Source, compare: &Compare) -> Result<bool, Failure> {
    let span = Span::new(&compare.key, &compare.range_end);
    let target = CompareTarget::try_from(compare.target).ok();
    if target == Some(CompareTarget::Value) {
        return value_holds(source, compare, &span);
    }
    if span.is_point() {
        let meta = source.index().get(span.start).copied().unwrap_or_default();
        return Ok(number_holds(&meta, compare, target));
    }
    let mut metas = span
        .entries(source.index())
        .map(|(_, meta)| meta)
        .peekable();
    if metas.peek().is_none() {
        return Ok(number_holds(&KeyMeta::default(), compare, target));
    }
    Ok(metas.all(|meta| number_holds(meta, compare, target)))
}

fn number_holds(meta: &KeyMeta, compare: &Compare, target: Option<CompareTarget>) -> bool {
    let wanted = compare.target_union.as_ref();
    // A number for another target than the one named counts as 0.
    let (found, wanted) = match (target, wanted) {
        (Some(CompareTarget::Version), Some(TargetUnion::Version(n))) => (meta.version, *n),
        (Some(CompareTarget::Version), _) => (meta.version, 0),
        (Some(CompareTarget::Create), Some(TargetUnion::CreateRevision(n))) => (meta.create, *n),
        (Some(CompareTarget::Create), _) => (meta.create, 0),
        (Some(CompareTarget::Mod), Some(TargetUnion::ModRevision(n))) => (meta.modified, *n),
        (Some(CompareTarget::Mod), _) => (meta.modified, 0),
        (Some(CompareTarget::Lease), Some(TargetUnion::Lease(n))) => (meta.lease, *n),
        (Some(CompareTarget::Lease), _) => (meta.lease, 0),
        (Some(CompareTarget::Value) | None, _) => (0, 0),
    };
    result_holds(found.cmp(&wanted), compare)
}

fn value_holds(source: &impl Source, compare: &Compare, span: &Span<'_>) -> Result<bool, Failure> {
    let wanted = match &compare.target_union {
        Some(TargetUnion::Value(value)) => value.clone(),
        _ => Bytes::new(),
    };
    let mut found = 0;
    for (key, meta) in span.entries(source.index()) {
        found += 1;
        let VersionRecord::Put { value, .. } = source.version(key, meta.modified)? else {
            return Err(Failure::Gone);
        };
        if !result_holds(value.cmp(&wanted), compare) {
            return Ok(false);
        }
    }
    Ok(found > 0)
}

fn result_holds(order: Ordering, compare: &Compare) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order == Ordering::Equal,
        Ok(CompareResult::NotEqual) => order != Ordering::Equal,
        Ok(CompareResult::Greater) => order == Ordering::Greater,
        Ok(CompareResult::Less) => order == Ordering::Less,
        Err(_) => true,
    }
}

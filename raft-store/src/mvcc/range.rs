//! Answers range requests.

use bytes::Bytes;

use super::check::{has_key_order, has_revision_filters};
use super::span::Span;
use super::state::{Failure, Row, Source};
use crate::error::Error;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

/// A response header that carries only the revision; the member adds the rest.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// The revision that a request reads at. Revisions of 0 and below mean the current one.
pub(super) fn resolve(source: &impl Source, revision: i64) -> Result<i64, Error> {
    if revision > source.revision() {
        return Err(Error::FutureRevision);
    }
    let at = if revision <= 0 {
        source.revision()
    } else {
        revision
    };
    if at < source.compact_revision() {
        return Err(Error::Compacted {
            compact_revision: source.compact_revision(),
        });
    }
    Ok(at)
}

/// Reads keys at one revision.
///
/// `count` is that of the whole span, whatever the limit and the filters. Filters and sorting come
/// before the limit, except that an order that is not by key but left open sorts what the limit has
/// let through.
pub(super) fn range(
    source: &impl Source,
    request: &RangeRequest,
) -> Result<RangeResponse, Failure> {
    let at = resolve(source, request.revision)?;
    let span = Span::new(&request.key, &request.range_end);
    let by_value = request.sort_target == SortTarget::Value as i32;
    let (mut rows, count) = if request.count_only {
        (Vec::new(), count(source, &span, at)?)
    } else {
        rows(source, &span, at, fetch_limit(request), |row| {
            passes(request, row)
        })?
    };
    if by_value {
        source.fill(&mut rows)?;
    }
    sort(&mut rows, request);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let more = limit > 0 && rows.len() > limit;
    if more {
        rows.truncate(limit);
    }
    if request.keys_only {
        rows.iter_mut().for_each(|row| row.value = None);
    } else {
        fill_in_key_order(source, &mut rows)?;
    }
    Ok(RangeResponse {
        header: header(source.revision()),
        kvs: rows.into_iter().map(Row::into_key_value).collect(),
        more,
        count: count as i64,
    })
}

/// How many rows to fetch: one more than wanted tells whether there are more.
fn fetch_limit(request: &RangeRequest) -> usize {
    let limited = request.limit > 0 && has_key_order(request) && !has_revision_filters(request);
    match usize::try_from(request.limit) {
        Ok(limit) if limited => limit.saturating_add(1),
        _ => usize::MAX,
    }
}

fn count(source: &impl Source, span: &Span<'_>, at: i64) -> Result<usize, Failure> {
    if at == source.revision() {
        return Ok(span.count(source.index()));
    }
    Ok(source.past_rows(span, at, 0, true)?.1)
}

/// The first `limit` rows that pass the filter, and how many keys there are in all.
fn rows(
    source: &impl Source,
    span: &Span<'_>,
    at: i64,
    limit: usize,
    passes: impl Fn(&Row) -> bool,
) -> Result<(Vec<Row>, usize), Failure> {
    if at != source.revision() {
        let (mut rows, count) = source.past_rows(span, at, limit, true)?;
        rows.retain(passes);
        return Ok((rows, count));
    }
    if span.is_point() {
        let row = source.row(span.start);
        let count = row.is_some().into();
        return Ok((row.into_iter().filter(passes).collect(), count));
    }
    let found = span
        .entries(source.index())
        .take(limit)
        .map(|(key, meta)| Row {
            key: Bytes::copy_from_slice(key),
            meta: *meta,
            value: None,
        });
    Ok((found.filter(passes).collect(), span.count(source.index())))
}

fn passes(request: &RangeRequest, row: &Row) -> bool {
    let within = |revision: i64, min: i64, max: i64| {
        (max == 0 || revision <= max) && (min == 0 || revision >= min)
    };
    let (min, max) = (request.min_mod_revision, request.max_mod_revision);
    let (min_create, max_create) = (request.min_create_revision, request.max_create_revision);
    within(row.meta.modified, min, max) && within(row.meta.create, min_create, max_create)
}

fn sort(rows: &mut [Row], request: &RangeRequest) {
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    let descending = request.sort_order == SortOrder::Descend as i32;
    if target == SortTarget::Key && !descending {
        return;
    }
    rows.sort_by(|a, b| {
        let order = match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.meta.version.cmp(&b.meta.version),
            SortTarget::Create => a.meta.create.cmp(&b.meta.create),
            SortTarget::Mod => a.meta.modified.cmp(&b.meta.modified),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if descending { order.reverse() } else { order }
    });
}

/// Reads the missing values of rows in any order.
fn fill_in_key_order(source: &impl Source, rows: &mut [Row]) -> Result<(), Failure> {
    if rows.is_sorted_by(|a, b| a.key < b.key) {
        return source.fill(rows);
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*a].key.cmp(&rows[*b].key));
    let mut sorted: Vec<Row> = order.iter().map(|at| rows[*at].clone()).collect();
    source.fill(&mut sorted)?;
    for (at, row) in order.into_iter().zip(sorted) {
        rows[at] = row;
    }
    Ok(())
}

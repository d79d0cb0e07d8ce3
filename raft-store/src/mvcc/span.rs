//! Which keys a request means.

use super::index::Index;
use super::keys::KeyMeta;

/// A key, or a range of keys, as `key` and `range_end` of a request say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub(super) start: &'a [u8],
    pub(super) end: End<'a>,
}

/// Where a span ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End<'a> {
    /// The span is one key.
    Point,
    /// Below this key.
    Before(&'a [u8]),
    /// Nowhere: every key from the start on.
    Unbounded,
}

impl<'a> Span<'a> {
    pub(super) fn new(key: &'a [u8], range_end: &'a [u8]) -> Span<'a> {
        let end = match range_end {
            [] => End::Point,
            [0] => End::Unbounded,
            end => End::Before(end),
        };
        Span { start: key, end }
    }

    pub(super) fn is_point(&self) -> bool {
        self.end == End::Point
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            End::Point => key == self.start,
            End::Before(end) => key >= self.start && key < end,
            End::Unbounded => key >= self.start,
        }
    }

    /// How many keys of the index are in the span.
    pub(super) fn count(&self, index: &Index) -> usize {
        match self.end {
            End::Point => index.get(self.start).is_some().into(),
            End::Before(end) => index.count(self.start, Some(end)),
            End::Unbounded => index.count(self.start, None),
        }
    }

    /// The keys of the index in the span, ascending.
    pub(super) fn entries<'i>(
        &self,
        index: &'i Index,
    ) -> impl Iterator<Item = (&'i [u8], &'i KeyMeta)> + use<'i, 'a>
    where
        'a: 'i,
    {
        let end = match self.end {
            End::Before(end) => Some(end),
            End::Point | End::Unbounded => None,
        };
        let point = self.is_point().then_some(self.start);
        index
            .range(self.start, end)
            .take_while(move |(key, _)| point.is_none_or(|point| *key == point))
    }
}

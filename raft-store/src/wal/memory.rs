//! What the log keeps in memory: where each entry is on disk, the recent entries themselves, and
//! the latest vote and marks.
//!
//! Entries appear here when they are appended, before they are on disk. Until the writer has
//! placed them they stay in the cache; after that the oldest leave it when its bytes run out.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::LogRecord;
use super::record::{ALIGN, ENTRY_PREFIX, HEADER};
use super::segment::Segment;
use super::{Vote, reading};
use crate::position::LogPosition;

/// What a cached record costs besides its payload: the record, and the share of its allocation.
const RECORD_OVERHEAD: usize = 64;

/// Where an entry is. `at` is 0 until it is written.
#[derive(Debug, Clone, Copy)]
struct Slot {
    segment: u32,
    at: u32,
    /// Bytes of the frame, without padding.
    len: u32,
    /// Which [`Memory::epoch`] it was appended in.
    epoch: u32,
}

/// Where the writer put an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) index: u64,
    pub(super) epoch: u32,
    pub(super) segment: u32,
    pub(super) at: u32,
}

/// The latest of what each segment repeats at its head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogPosition>,
    pub(super) committed: Option<LogPosition>,
}

/// The log as callers see it.
pub(super) struct Memory {
    /// The index of `slots[0]`.
    first: u64,
    slots: VecDeque<Slot>,
    /// Runs of entries of one term: the first index of the run, and the term.
    terms: VecDeque<(u64, u64)>,
    /// The newest entries, without a gap up to the last.
    cache: VecDeque<LogRecord>,
    cache_bytes: usize,
    cache_limit: usize,
    /// Counts truncations, so that the writer does not place an entry that was replaced.
    epoch: u32,
    pub(super) marks: Marks,
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
}

impl Memory {
    pub(super) fn new(cache_limit: usize) -> Memory {
        Memory {
            first: 0,
            slots: VecDeque::new(),
            terms: VecDeque::new(),
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_limit,
            epoch: 0,
            marks: Marks::default(),
            segments: BTreeMap::new(),
        }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The index that the next entry must have; any is fine for an empty log.
    pub(super) fn expected(&self) -> Option<u64> {
        self.last().map(|last| last.index + 1)
    }

    /// The index of the oldest entry, if there is one.
    pub(super) fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The position of the last entry; of the last purged one if there is none.
    pub(super) fn last(&self) -> Option<LogPosition> {
        match self.terms.back() {
            Some(&(_, term)) => Some(LogPosition {
                term,
                index: self.end() - 1,
            }),
            None => self.marks.purged,
        }
    }

    pub(super) fn position_of(&self, index: u64) -> Option<LogPosition> {
        if let Some(purged) = self.marks.purged.filter(|purged| purged.index == index) {
            return Some(purged);
        }
        if index < self.first || index >= self.end() {
            return None;
        }
        let run = self.terms.partition_point(|&(first, _)| first <= index);
        let &(_, term) = self.terms.get(run.checked_sub(1)?)?;
        Some(LogPosition { term, index })
    }

    /// Adds entries. They must continue the log; otherwise nothing changes and the answer says so.
    pub(super) fn append(&mut self, records: &[LogRecord]) -> io::Result<()> {
        let mut expected = self.expected();
        for record in records {
            let index = record.position.index;
            if expected.is_some_and(|expected| expected != index) {
                let message = format!("entry {index} does not continue the log at {expected:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            expected = Some(index + 1);
        }
        for record in records {
            self.push(record.clone());
        }
        self.evict();
        Ok(())
    }

    /// Adds an entry that was read from disk. An empty log takes any: the segments before may be
    /// gone, and the purge mark that says so may come later.
    pub(super) fn replay(&mut self, record: LogRecord) -> io::Result<()> {
        if !self.slots.is_empty() {
            return self.append(&[record]);
        }
        self.push(record);
        Ok(())
    }

    fn push(&mut self, record: LogRecord) {
        let LogPosition { term, index } = record.position;
        if self.slots.is_empty() {
            self.first = index;
        }
        if self.terms.back().is_none_or(|&(_, last)| last != term) {
            self.terms.push_back((index, term));
        }
        self.slots.push_back(Slot {
            segment: 0,
            at: 0,
            len: (HEADER + ENTRY_PREFIX + record.payload.len()) as u32,
            epoch: self.epoch,
        });
        self.cache_bytes += cost(&record);
        self.cache.push_back(record);
    }

    /// Notes where entries are on disk; those that were truncated or purged since are skipped.
    pub(super) fn place(&mut self, placed: &[Placed]) {
        for place in placed {
            let Some(at) = place.index.checked_sub(self.first) else {
                continue;
            };
            if let Some(slot) = self.slots.get_mut(at as usize)
                && slot.epoch == place.epoch
            {
                slot.segment = place.segment;
                slot.at = place.at;
            }
        }
        self.evict();
    }

    fn evict(&mut self) {
        while self.cache_bytes > self.cache_limit {
            let oldest = self.slots.len() - self.cache.len();
            // An entry that is not on disk yet can be read only here.
            if self.slots.get(oldest).is_none_or(|slot| slot.at == 0) {
                return;
            }
            if let Some(record) = self.cache.pop_front() {
                self.cache_bytes -= cost(&record);
            }
        }
    }

    /// Drops entries with a larger index than `after`, or all.
    pub(super) fn truncate(&mut self, after: Option<u64>) {
        self.epoch += 1;
        let end = after
            .map_or(0, |after| after.saturating_add(1))
            .max(self.first);
        self.slots.truncate((end - self.first) as usize);
        while self.cache.back().is_some_and(|r| r.position.index >= end) {
            if let Some(record) = self.cache.pop_back() {
                self.cache_bytes -= cost(&record);
            }
        }
        while self.terms.back().is_some_and(|&(first, _)| first >= end) {
            self.terms.pop_back();
        }
    }

    /// Drops entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogPosition) {
        if self.marks.purged.is_some_and(|purged| purged >= upto) {
            return;
        }
        self.marks.purged = Some(upto);
        let begin = upto.index + 1;
        if begin >= self.end() {
            self.slots.clear();
            self.terms.clear();
            self.first = begin;
        } else if begin > self.first {
            self.slots.drain(..(begin - self.first) as usize);
            self.first = begin;
            // The run that holds `begin` now starts there.
            let run = self.terms.partition_point(|&(first, _)| first <= begin);
            self.terms.drain(..run.saturating_sub(1));
            if let Some(run) = self.terms.front_mut() {
                run.0 = begin;
            }
        }
        while self.cache.front().is_some_and(|r| r.position.index < begin) {
            if let Some(record) = self.cache.pop_front() {
                self.cache_bytes -= cost(&record);
            }
        }
    }

    /// The segment that holds the oldest entry; `None` if that is not written or there is none.
    pub(super) fn oldest_segment(&self) -> Option<u32> {
        let slot = self.slots.front().filter(|slot| slot.at != 0)?;
        Some(slot.segment)
    }

    /// What to fetch for the entries `from..to`: at most `max_bytes` of payload, at least one.
    pub(super) fn plan(&self, from: u64, to: u64, max_bytes: usize) -> reading::Plan {
        let mut plan = reading::Plan::default();
        let mut budget = max_bytes;
        let cached_from = self.end() - self.cache.len() as u64;
        for index in from.max(self.first)..to.min(self.end()) {
            let slot = self.slots[(index - self.first) as usize];
            let payload = slot.len as usize - HEADER - ENTRY_PREFIX;
            if payload > budget && !plan.is_empty() {
                break;
            }
            // An oversized first entry comes alone.
            let enough = payload > budget;
            budget = budget.saturating_sub(payload);
            if index >= cached_from {
                let record = &self.cache[(index - cached_from) as usize];
                plan.cached.push(record.clone());
            } else {
                // Rather stop short than leave a gap.
                let Some(segment) = self.segments.get(&slot.segment) else {
                    break;
                };
                let len = slot.len.next_multiple_of(ALIGN as u32);
                plan.fetch(segment, index, slot.at, len);
            }
            if enough {
                break;
            }
        }
        plan
    }

    /// Bytes of the segments' files.
    pub(super) fn disk_bytes(&self) -> u64 {
        let capacities = self.segments.values().map(|s| u64::from(s.header.capacity));
        capacities.sum()
    }
}

fn cost(record: &LogRecord) -> usize {
    record.payload.len() + RECORD_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<LogRecord> {
        indexes
            .map(|index| LogRecord {
                position: LogPosition { term, index },
                kind: 1,
                payload: Bytes::from(vec![index as u8; 36]),
            })
            .collect()
    }

    fn place_all(memory: &mut Memory, epoch: u32) {
        let placed: Vec<_> = (memory.first..memory.end())
            .map(|index| Placed {
                index,
                epoch,
                segment: 1,
                at: 512,
            })
            .collect();
        memory.place(&placed);
    }

    fn at(term: u64, index: u64) -> LogPosition {
        LogPosition { term, index }
    }

    #[test]
    fn positions_follow_append_truncate_and_purge() {
        let mut memory = Memory::new(1 << 20);
        assert_eq!(memory.last(), None);
        memory.append(&entries(1, 0..5)).unwrap();
        memory.append(&entries(2, 5..8)).unwrap();
        assert_eq!(memory.position_of(4), Some(at(1, 4)));
        assert_eq!(memory.position_of(5), Some(at(2, 5)));
        memory.truncate(Some(5));
        assert_eq!(memory.last(), Some(at(2, 5)));
        memory.append(&entries(3, 6..7)).unwrap();
        memory.purge(at(1, 2));
        assert_eq!(memory.position_of(1), None);
        assert_eq!(memory.position_of(2), Some(at(1, 2)));
        assert_eq!(memory.position_of(3), Some(at(1, 3)));
        assert_eq!(memory.position_of(6), Some(at(3, 6)));
        memory.purge(at(3, 20));
        assert_eq!(memory.last(), Some(at(3, 20)));
        assert_eq!(memory.first(), None);
        memory.append(&entries(4, 21..22)).unwrap();
        assert_eq!(memory.last(), Some(at(4, 21)));
    }

    #[test]
    fn a_gap_is_refused_and_changes_nothing() {
        let mut memory = Memory::new(1 << 20);
        memory.append(&entries(1, 0..3)).unwrap();
        assert!(memory.append(&entries(1, 4..6)).is_err());
        assert!(memory.append(&entries(1, 2..6)).is_err());
        assert_eq!(memory.last(), Some(at(1, 2)));
    }

    #[test]
    fn only_placed_entries_leave_the_cache() {
        let mut memory = Memory::new(250);
        memory.append(&entries(1, 0..10)).unwrap();
        assert_eq!(memory.cache.len(), 10);
        place_all(&mut memory, 0);
        assert_eq!(memory.cache.len(), 2);
        assert_eq!(memory.cache_bytes, 200);
    }

    #[test]
    fn a_replaced_entry_is_not_placed() {
        let mut memory = Memory::new(0);
        memory.append(&entries(1, 0..3)).unwrap();
        memory.truncate(Some(0));
        memory.append(&entries(2, 1..3)).unwrap();
        place_all(&mut memory, 0);
        // Entry 0 is the one that is still of epoch 0.
        assert_eq!(memory.cache.len(), 2);
        assert_eq!(memory.oldest_segment(), Some(1));
        place_all(&mut memory, 1);
        assert_eq!(memory.cache.len(), 0);
    }

    #[test]
    fn a_read_gives_at_least_one_and_stops_at_the_limit() {
        let mut memory = Memory::new(1 << 20);
        memory.append(&entries(1, 3..10)).unwrap();
        let indexes = |from, to, max| -> Vec<u64> {
            let plan = memory.plan(from, to, max);
            plan.cached.iter().map(|r| r.position.index).collect()
        };
        assert_eq!(indexes(3, 10, 1), [3]);
        assert_eq!(indexes(4, 10, 108), [4, 5, 6]);
        assert_eq!(indexes(0, 5, 1 << 20), [3, 4]);
        assert_eq!(indexes(9, 100, 1 << 20), [9]);
        assert_eq!(indexes(10, 100, 1 << 20), [0_u64; 0]);
    }
}

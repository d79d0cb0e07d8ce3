//! Watchers at the same position, grouped by what they want: events are matched and encoded once
//! per group, however many watchers it has.

use std::sync::Arc;

use super::outbox::{Fan, Outbox, Written};
use crate::error::Result;
use crate::pb::etcdserverpb::ResponseHeader;
use crate::watch::interest::Interest;
use crate::watch::local::Kinds;
use crate::watch::{KeyRange, Revision, WatchHub};

/// What a watcher wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) range: KeyRange,
    pub(super) kinds: Kinds,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
}

/// One watcher, among others who want the same.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    /// It gets no events below this revision.
    pub(super) from: i64,
    /// The start revision of the request; no progress is reported below it.
    pub(super) start: i64,
    /// Whether it wants to hear of progress.
    pub(super) progress: bool,
    /// Whether it has got no events since the last report was due.
    pub(super) quiet: bool,
}

#[derive(Debug)]
struct Group {
    spec: Spec,
    /// By ID.
    watchers: Vec<Watcher>,
    /// Filled and emptied by each delivery.
    matched: Vec<(u32, u32)>,
}

/// How a delivery is dressed.
pub(super) struct Dress<'a> {
    pub(super) hub: &'a WatchHub,
    pub(super) header: ResponseHeader,
    pub(super) fragment_bytes: usize,
}

/// Watchers at the same position.
#[derive(Default)]
pub(super) struct Cohort {
    /// Slots; empty ones are reused.
    groups: Vec<Option<Group>>,
    by_range: Interest<Vec<usize>>,
    len: usize,
}

impl Cohort {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn insert(&mut self, spec: Spec, watcher: Watcher) {
        self.len += 1;
        let Cohort {
            groups, by_range, ..
        } = self;
        let slots = by_range.entry(&spec.range);
        let known = slots.iter().find_map(|slot| {
            let group = groups[*slot].as_ref()?;
            (group.spec == spec).then_some(*slot)
        });
        if let Some(group) = known.and_then(|slot| groups[slot].as_mut()) {
            let at = group.watchers.partition_point(|w| w.id < watcher.id);
            group.watchers.insert(at, watcher);
            return;
        }
        let group = Some(Group {
            spec,
            watchers: vec![watcher],
            matched: Vec::new(),
        });
        let slot = match groups.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                groups.push(None);
                groups.len() - 1
            }
        };
        groups[slot] = group;
        slots.push(slot);
    }

    pub(super) fn remove(&mut self, spec: &Spec, id: i64) -> Option<Watcher> {
        let Cohort {
            groups, by_range, ..
        } = self;
        let mut removed = None;
        by_range.retain(&spec.range, |slots| {
            slots.retain(|slot| {
                let Some(group) = groups[*slot].as_mut().filter(|g| g.spec == *spec) else {
                    return true;
                };
                if let Ok(at) = group.watchers.binary_search_by_key(&id, |w| w.id) {
                    removed = Some(group.watchers.remove(at));
                }
                let keep = !group.watchers.is_empty();
                if !keep {
                    groups[*slot] = None;
                }
                keep
            });
            !slots.is_empty()
        });
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Moves all watchers of another cohort here.
    pub(super) fn absorb(&mut self, other: Cohort) {
        for group in other.groups.into_iter().flatten() {
            for watcher in group.watchers {
                self.insert(group.spec.clone(), watcher);
            }
        }
    }

    /// All watchers.
    pub(super) fn watchers(&self) -> impl Iterator<Item = &Watcher> {
        self.groups.iter().flatten().flat_map(|g| &g.watchers)
    }

    /// All watchers, to be changed in all but their ID.
    pub(super) fn watchers_mut(&mut self) -> impl Iterator<Item = &mut Watcher> {
        let groups = self.groups.iter_mut().flatten();
        groups.flat_map(|group| &mut group.watchers)
    }

    /// The ranges whose events need their previous versions.
    pub(super) fn ranges_with_previous(&self) -> Vec<KeyRange> {
        let groups = self.groups.iter().flatten();
        let with_previous = groups.filter(|group| group.spec.prev_kv);
        with_previous.map(|g| g.spec.range.clone()).collect()
    }

    /// Queues the events of a batch for the watchers that want them. Each response holds whole
    /// revisions and its header the last of them.
    pub(super) fn deliver(
        &mut self,
        batch: Vec<Arc<Revision>>,
        dress: &Dress<'_>,
        outbox: &mut Outbox,
    ) -> Result<()> {
        let touched = self.matching(&batch);
        let batch = Arc::new(batch);
        for slot in touched {
            let Some(group) = self.groups[slot].as_mut() else {
                continue;
            };
            let matched = std::mem::take(&mut group.matched);
            group.deliver(&batch, matched, dress, outbox)?;
        }
        Ok(())
    }

    /// Notes in each group which changes it wants; returns the groups that want any.
    fn matching(&mut self, batch: &[Arc<Revision>]) -> Vec<usize> {
        let Cohort {
            groups, by_range, ..
        } = self;
        let mut touched = Vec::new();
        for (r, revision) in batch.iter().enumerate() {
            for (c, change) in revision.changes.iter().enumerate() {
                by_range.around(change.key(), |slots| {
                    for slot in slots {
                        if let Some(group) = &mut groups[*slot]
                            && group.spec.kinds.admit(change)
                        {
                            if group.matched.is_empty() {
                                touched.push(*slot);
                            }
                            group.matched.push((r as u32, c as u32));
                        }
                    }
                });
            }
        }
        touched
    }
}

impl Group {
    fn deliver(
        &mut self,
        batch: &Arc<Vec<Arc<Revision>>>,
        matched: Vec<(u32, u32)>,
        dress: &Dress<'_>,
        outbox: &mut Outbox,
    ) -> Result<()> {
        let revision_of = |at: &(u32, u32)| batch[at.0 as usize].revision;
        if self.spec.prev_kv {
            for (r, c) in &matched {
                let change = &batch[*r as usize].changes[*c as usize];
                dress.hub.fetch_previous(change)?;
            }
        }
        let (Some(first), Some(last)) = (matched.first(), matched.last()) else {
            return Ok(());
        };
        let (first, last) = (revision_of(first), revision_of(last));
        let fan = |ids, matched| Fan {
            ids,
            header: ResponseHeader {
                revision: last,
                ..dress.header
            },
            batch: batch.clone(),
            matched,
            prev_kv: self.spec.prev_kv,
            fragment_bytes: self.spec.fragment.then_some(dress.fragment_bytes),
            progress: Written::default(),
        };
        let mut ids = Vec::with_capacity(self.watchers.len());
        for watcher in self.watchers.iter_mut().filter(|w| w.from <= last) {
            watcher.quiet = false;
            if watcher.from <= first {
                ids.push(watcher.id);
            } else {
                // It starts in the middle of the batch.
                let later = |at: &&(u32, u32)| revision_of(at) >= watcher.from;
                let own: Vec<_> = matched.iter().filter(later).copied().collect();
                dress.hub.count_events(own.len());
                outbox.push_fan(fan(vec![watcher.id], own));
            }
        }
        if !ids.is_empty() {
            dress.hub.count_events(ids.len() * matched.len());
            outbox.push_fan(fan(ids, matched));
        }
        Ok(())
    }
}

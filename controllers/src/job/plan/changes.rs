//! Which pods of a job to create and delete.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::super::{backoff, removal};
use super::{CHANGES_MAX, Changes, Creation, Sync, all_failures, has_failed, index, next_failures};
use crate::job::indexes::Indexes;
use crate::pod::Pod;

impl Sync<'_> {
    pub(super) fn changes(&mut self) -> Changes {
        let job = self.observed.job;
        if self.end.is_some() {
            return Changes {
                delete: self.active.clone(),
                ..Changes::default()
            };
        }
        self.manages = job.metadata.deletion_timestamp.is_none();
        if !self.manages {
            return Changes::default();
        }
        let active = self.active_count;
        if job.spec.suspend {
            return self.deletion(self.active.len(), usize::MAX);
        }
        let wanted = match job.spec.completions {
            // One success is enough; the others may end as they like.
            None if self.succeeded > 0 => active,
            None => job.spec.parallelism,
            Some(completions) => (completions - self.succeeded)
                .min(job.spec.parallelism)
                .max(0),
        };
        let deletion = self.deletion(usize::try_from(active - wanted).unwrap_or(0), CHANGES_MAX);
        if !deletion.delete.is_empty() {
            return deletion;
        }
        let leaving = if job.replaces_only_failed() {
            self.terminating
        } else {
            0
        };
        let missing = usize::try_from(wanted - leaving - active).unwrap_or(0);
        self.creation(missing.min(CHANGES_MAX))
    }

    fn deletion(&self, at_least: usize, at_most: usize) -> Changes {
        let job = self.observed.job;
        let indexes = job.is_indexed().then(|| job.indexes());
        let mut delete = removal::choose(&self.active, at_least, indexes, self.observed.now);
        delete.truncate(at_most);
        Changes {
            delete,
            release: true,
            ..Changes::default()
        }
    }

    fn creation(&self, missing: usize) -> Changes {
        let job = self.observed.job;
        let mut changes = Changes::default();
        if missing == 0 {
            return changes;
        }
        let is_per_index = job.spec.backoff_limit_per_index.is_some();
        let rest = self.backoff.rest(self.observed.now);
        if !is_per_index && !rest.is_zero() {
            changes.again = Some(rest);
            return changes;
        }
        if !job.is_indexed() {
            let one = Creation {
                index: None,
                failures: None,
            };
            changes.create = vec![one; missing];
            return changes;
        }
        let mut rests = Vec::new();
        for index in self.pending().missing(job.indexes(), missing) {
            let delayed = self.indexes.delayed.get(&index);
            let rest = delayed
                .map(|pod| backoff::rest_of_index(all_failures(pod), pod, self.observed.now));
            match rest.filter(|rest| is_per_index && !rest.is_zero()) {
                Some(rest) => rests.push(rest),
                None => changes.create.push(Creation {
                    index: Some(index),
                    failures: is_per_index.then(|| next_failures(job, delayed)),
                }),
            }
        }
        if changes.create.is_empty() {
            changes.again = rests.into_iter().min();
        }
        changes
    }

    /// The indexes that need no pod.
    fn pending(&self) -> Indexes {
        let mut taken = self
            .indexes
            .succeeded
            .with(&self.active.iter().filter_map(|pod| index(pod)).collect());
        if self.observed.job.replaces_only_failed() {
            let leaving = self.observed.pods.iter().filter(|pod| pod.is_terminating());
            taken = taken.with(&leaving.filter_map(|pod| index(pod)).collect());
        }
        match &self.indexes.failed {
            Some(failed) => taken.with(failed),
            None => taken,
        }
    }

    /// The last failed pod of each index that waits for a new one.
    pub(super) fn delayed(&self) -> BTreeMap<u32, Arc<Pod>> {
        let job = self.observed.job;
        let active: HashSet<u32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        let failed = self.countable(&HashSet::new(), |pod| has_failed(job, pod));
        let mut last = BTreeMap::<u32, Arc<Pod>>::new();
        for pod in failed {
            let Some(index) = index(&pod) else {
                continue;
            };
            let sets = &self.indexes;
            let is_done = sets.succeeded.has(index)
                || sets.failed.as_ref().is_some_and(|failed| failed.has(index));
            let is_newer = last.get(&index).is_none_or(|known| {
                all_failures(known) <= all_failures(&pod)
                    && backoff::ended_at(&pod) >= backoff::ended_at(known)
            });
            if !is_done && !active.contains(&index) && is_newer {
                last.insert(index, pod);
            }
        }
        last
    }
}

//! How pods are spread over ReplicaSets when a Deployment that is rolling out, or rests, changes its
//! size.

use super::revisions::{DESIRED_REPLICAS, MAX_REPLICAS, annotate_replicas, revision};
use super::{Planner, Step, available, by_age, is_rolling, max_surge};
use crate::apps::ReplicaSet;
use client::View;

impl Planner<'_> {
    /// Whether the Deployment changed its size since its sets were last scaled.
    pub(super) fn is_scaling(&mut self) -> bool {
        self.sync_revision(false);
        let active = self.active(0..self.sets.len()).into_iter();
        let mut desired = active.filter_map(|at| number(&self.sets[at].set, DESIRED_REPLICAS));
        desired.any(|desired| desired != self.wanted())
    }

    /// Brings the sets to the Deployment's size without going on with a rollout.
    pub(super) fn scale(&mut self) {
        self.sync_revision(false);
        self.spread();
        if self.deployment.spec.paused && self.rollback_to().is_none() {
            self.clean_up();
        }
        self.set_status();
    }

    fn spread(&mut self) {
        if let Some(only) = self.active_or_latest() {
            self.scale_set(only, self.wanted(), false);
            return;
        }
        if self.is_saturated() {
            for at in self.active(self.old()) {
                self.scale_set(at, 0, false);
            }
            return;
        }
        if is_rolling(self.deployment) {
            self.spread_by_proportion();
        }
    }

    /// The one set that has pods; if none has, the one for the template, or else the youngest.
    fn active_or_latest(&self) -> Option<usize> {
        match self.active(0..self.sets.len())[..] {
            [] => self.new.or_else(|| self.old().last().copied()),
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether the set for the template is as large as wanted, and all its pods are available.
    fn is_saturated(&self) -> bool {
        let Some(at) = self.new else {
            return false;
        };
        let set = &self.sets[at].set;
        let wanted = self.wanted();
        let annotations = set.metadata.annotations.as_ref();
        let desired = annotations.and_then(|all| all.get(DESIRED_REPLICAS)?.parse().ok());
        set.spec.replicas == wanted && desired == Some(wanted) && available(set) == wanted
    }

    /// Every set grows or shrinks by its share, so that a rollout goes on as it was.
    fn spread_by_proportion(&mut self) {
        let wanted = self.wanted();
        let allowed = if wanted > 0 {
            wanted + max_surge(self.deployment)
        } else {
            0
        };
        let mut active = self.active(0..self.sets.len());
        let to_add = allowed
            - active
                .iter()
                .map(|at| self.sets[*at].set.spec.replicas)
                .sum::<i32>();
        // The largest first; of equally large ones the younger grows and the older shrinks.
        active.sort_by(|a, b| {
            let (a, b) = (&self.sets[*a].set, &self.sets[*b].set);
            let by_size = b.spec.replicas.cmp(&a.spec.replicas);
            let by_age = if to_add > 0 {
                by_age(b, a)
            } else {
                by_age(a, b)
            };
            by_size.then(if to_add == 0 {
                std::cmp::Ordering::Equal
            } else {
                by_age
            })
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for at in &active {
            let set = &self.sets[*at].set;
            let share = self.share(set, to_add, added);
            sizes.push(set.spec.replicas + share);
            added += share;
        }
        if let Some(first) = sizes.first_mut().filter(|_| to_add != 0) {
            *first = (*first + to_add - added).max(0);
        }
        for (at, size) in active.into_iter().zip(sizes) {
            self.scale_set(at, size, true);
        }
    }

    /// A set's share of the pods that are to be added, or taken away.
    fn share(&self, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
        if set.spec.replicas == 0 || to_add == 0 || to_add == added {
            return 0;
        }
        let left = to_add - added;
        let share = self.fraction(set);
        if to_add > 0 {
            share.min(left)
        } else {
            share.max(left)
        }
    }

    fn fraction(&self, set: &ReplicaSet) -> i32 {
        let wanted = self.wanted();
        let current = set.spec.replicas;
        if wanted == 0 {
            return -current;
        }
        let before = number(set, MAX_REPLICAS).filter(|before| *before != 0);
        let before = before.unwrap_or_else(|| self.plan.status.replicas.unwrap_or(0));
        if before == 0 {
            return 0;
        }
        let most = wanted + max_surge(self.deployment);
        let size = f64::from(current.saturating_mul(most)) / f64::from(before);
        // Halves are rounded away from zero, as upstream does; sizes fit an i32.
        size.round() as i32 - current
    }

    /// Plans a new size for a set; whether it differs from the old one. `force` brings its
    /// annotations up to date even if the size is right.
    pub(super) fn scale_set(&mut self, at: usize, wanted: i32, force: bool) -> bool {
        let set = &self.sets[at].set;
        let current = set.spec.replicas;
        if !force && current == wanted {
            return false;
        }
        let mut annotations = set.metadata.annotations.clone().unwrap_or_default();
        let is_annotated = annotate_replicas(self.deployment, &mut annotations);
        let is_resized = current != wanted;
        if is_resized || is_annotated {
            let replicas = is_resized.then_some((current, wanted));
            self.update(at, annotations, replicas, None);
        }
        is_resized
    }

    /// Deletes old sets beyond the limit, the lowest numbers first.
    pub(super) fn clean_up(&mut self) {
        let limit = self.deployment.spec.revision_history_limit;
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
            return;
        };
        let old = self
            .old()
            .into_iter()
            .filter(|at| !self.sets[*at].set.is_deleted());
        let mut old: Vec<usize> = old.collect();
        let number = |at: usize| revision(&self.sets[at].set);
        // Stable: sets without a proper number stay in order of age.
        old.sort_by_key(|at| number(*at).unwrap_or(0));
        let surplus = old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        for at in old.into_iter().take(surplus) {
            let set = &self.sets[at].set;
            let observed = set.status.observed_generation.unwrap_or(0);
            let is_empty = set.status.replicas == 0 && set.spec.replicas == 0;
            if is_empty && set.metadata.generation.unwrap_or(0) <= observed {
                self.plan
                    .steps
                    .extend(self.sets[at].observed.clone().map(Step::Delete));
            }
        }
    }
}

/// A number that an annotation has.
fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    let text = set.metadata.annotations.as_ref()?.get(annotation)?;
    text.parse().ok().filter(|number| *number >= 0)
}

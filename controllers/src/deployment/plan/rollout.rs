//! How new pods take the place of old ones.

use super::{Planner, available, max_unavailable};
use crate::apps::ReplicaSet;

impl Planner<'_> {
    /// All old pods first, then all new ones.
    pub(super) fn recreate(&mut self, has_pods: impl Fn(&ReplicaSet) -> bool) {
        self.sync_revision(false);
        let mut is_scaled = false;
        for at in self.active(self.old()) {
            is_scaled |= self.scale_set(at, 0, false);
        }
        if is_scaled || self.are_old_running(has_pods) {
            return self.set_rollout_status();
        }
        if self.new.is_none() {
            self.sync_revision(true);
        }
        if let Some(new) = self.new {
            self.scale_set(new, self.wanted(), false);
        }
        if self.is_complete() {
            self.clean_up();
        }
        self.set_rollout_status();
    }

    fn are_old_running(&self, has_pods: impl Fn(&ReplicaSet) -> bool) -> bool {
        let mut old = self.old().into_iter().map(|at| &self.sets[at].set);
        old.any(|set| set.status.replicas > 0 || has_pods(set))
    }

    /// New pods and old ones side by side, within the limits; either grows or shrinks at a time.
    pub(super) fn roll(&mut self) {
        self.sync_revision(true);
        let is_scaled = self.grow_new() || self.shrink_old();
        if !is_scaled && self.is_complete() {
            self.clean_up();
        }
        self.set_rollout_status();
    }

    fn grow_new(&mut self) -> bool {
        let Some(new) = self.new else {
            return false;
        };
        let current = self.sets[new].set.spec.replicas;
        let wanted = self.wanted();
        let size = if current > wanted {
            wanted
        } else {
            self.new_replicas(current)
        };
        self.scale_set(new, size, false)
    }

    /// Old pods that are not available go first; they help nobody. Then others, as far as new ones
    /// are available in their place.
    fn shrink_old(&mut self) -> bool {
        let old = self.active(self.old());
        if old.is_empty() {
            return false;
        }
        let least = self.wanted() - max_unavailable(self.deployment);
        let new = self.new.map(|at| &self.sets[at].set);
        let new_unavailable = new.map_or(0, |new| new.spec.replicas - available(new));
        let surplus = self.planned() - least - new_unavailable;
        if surplus <= 0 {
            return false;
        }
        let unhealthy = self.take(&old, surplus, |set| set.spec.replicas - available(set));
        let surplus = self.available() - least;
        let healthy = self.take(&old, surplus, |set| set.spec.replicas);
        unhealthy + healthy > 0
    }

    /// Takes up to `most` pods from sets, the oldest first; how many. `spare` tells how many of a set
    /// may go.
    fn take(&mut self, sets: &[usize], most: i32, spare: impl Fn(&ReplicaSet) -> i32) -> i32 {
        let mut taken = 0;
        for at in sets {
            let set = &self.sets[*at].set;
            let count = spare(set).min(most - taken).min(set.spec.replicas);
            if count > 0 {
                let size = set.spec.replicas - count;
                self.scale_set(*at, size, false);
                taken += count;
            }
        }
        taken
    }
}

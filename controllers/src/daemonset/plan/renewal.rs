//! How a DaemonSet's pods are renewed: old ones first, or, with surge, new ones beside them first.

use std::sync::Arc;

use super::placement::Fit;
use super::{Planner, is_updated};
use crate::pod::Pod;
use client::View;

/// The pods on a node: the new one, the old one; none if there are more than one of a kind.
type Pair<'o> = Option<(Option<&'o Arc<Pod>>, Option<&'o Arc<Pod>>)>;

impl<'o> Planner<'o> {
    pub(super) fn renew(&mut self) {
        let mut wanted = 0;
        for node in self.observed.nodes {
            if self.observed.placement.fit(node) == Fit::Run {
                wanted += 1;
                self.on_node.entry(node.name()).or_default();
            }
        }
        let mut missing = self.limit(|rolling| rolling.max_unavailable.as_ref(), wanted);
        let surge = self.limit(|rolling| rolling.max_surge.as_ref(), wanted);
        if wanted > 0 && missing == 0 && surge == 0 {
            missing = 1;
        }
        match surge {
            0 => self.replace(usize::try_from(missing).unwrap_or(0)),
            _ => self.surge(
                usize::try_from(surge).unwrap_or(0),
                usize::try_from(wanted).unwrap_or(0),
            ),
        }
    }

    fn pairs(&self) -> Vec<(&'o str, Pair<'o>)> {
        let pairs = self.on_node.iter().map(|(node, pods)| {
            let live = pods.iter().copied().filter(|pod| !pod.is_deleted());
            let (new, old): (Vec<_>, Vec<_>) =
                live.partition(|pod| is_updated(self.set, pod, self.observed.hash));
            let pair = match (&new[..], &old[..]) {
                ([] | [_], [] | [_]) => Some((new.first().copied(), old.first().copied())),
                _ => None,
            };
            (*node, pair)
        });
        pairs.collect()
    }

    /// Deletes old pods: all that are not available, and others as far as pods may be missing.
    fn replace(&mut self, missing_max: usize) {
        let mut missing = 0;
        let mut candidates = Vec::new();
        for (_, pair) in self.pairs() {
            match pair {
                Some((Some(new), None)) if self.is_available(new) => {}
                Some((None, Some(old))) if self.is_available(old) => {
                    if missing < missing_max {
                        candidates.push(old.clone());
                    }
                }
                Some((None, Some(old))) => {
                    self.plan.delete.push(old.clone());
                    missing += 1;
                }
                _ => missing += 1,
            }
        }
        candidates.truncate(missing_max.saturating_sub(missing));
        self.plan.delete.extend(candidates);
    }

    /// Makes new pods beside old ones: beside all that are not available, and beside others as far
    /// as the surge allows; old ones go when new ones are available.
    fn surge(&mut self, surge_max: usize, wanted: usize) {
        let (mut surging, mut available) = (0, 0);
        let (mut misplaced, mut candidates) = (Vec::new(), Vec::new());
        for (node, pair) in self.pairs() {
            let Some((new, old)) = pair else {
                surging += 1;
                continue;
            };
            let is_available =
                |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| self.is_available(pod));
            available += usize::from(is_available(old.or(new)));
            let Some(old) = old else {
                continue;
            };
            if new.is_some() {
                match is_available(new) {
                    true => self.plan.delete.push(old.clone()),
                    false => surging += 1,
                }
                continue;
            }
            match (self.fits(node), self.is_available(old)) {
                (false, false) => self.plan.delete.push(old.clone()),
                (false, true) => misplaced.push(old.clone()),
                (true, false) => self.plan.create.push(node.into()),
                (true, true) if surging < surge_max => candidates.push(node.to_string()),
                (true, true) => {}
            }
        }
        misplaced.truncate(available.saturating_sub(wanted));
        self.plan.delete.extend(misplaced);
        candidates.truncate(surge_max.saturating_sub(surging));
        self.plan.create.extend(candidates);
    }

    fn fits(&self, node: &str) -> bool {
        let mut nodes = self.observed.nodes.iter();
        let node = nodes.find(|known| known.name() == node);
        node.is_some_and(|node| self.observed.placement.fit(node) == Fit::Run)
    }
}

//! What a StatefulSet says of itself.

use std::sync::Arc;

use client::View;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::Planner;
use crate::history::REVISION_HASH;
use crate::pod::{Phase, Pod};

impl Planner<'_> {
    /// The pods that count.
    fn pods(&self) -> Vec<&Arc<Pod>> {
        if self.set.is_deleted() {
            return self.observed.pods.iter().collect();
        }
        let wanted = self
            .replicas
            .iter()
            .filter_map(|replica| replica.pod.as_ref());
        wanted.chain(&self.condemned).collect()
    }

    pub(super) fn status(&self) -> StatefulSetStatus {
        let pods = self.pods();
        let count = |is: &dyn Fn(&Pod) -> bool| -> i32 {
            let count = pods.iter().filter(|pod| is(pod)).count();
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        let is_there = |pod: &Pod| pod.status.phase != Phase::Unset;
        let is_ready = |pod: &Pod| pod.status.phase == Phase::Running && pod.is_ready();
        let is_of = |pod: &Pod, revision: &str| {
            is_there(pod) && !pod.is_deleted() && pod.label(REVISION_HASH) == Some(revision)
        };
        let (current, update) = (self.observed.current.name(), self.observed.update.name());
        let replicas = count(&is_there);
        let ready = count(&is_ready);
        let updated = count(&|pod| is_of(pod, update));
        let is_rolling = self.set.spec.update_strategy.type_ == "RollingUpdate";
        let wanted = self.set.spec.replicas;
        let is_done = is_rolling && [replicas, ready, updated] == [wanted; 3];
        let (current, of_current) = match is_done {
            true => (update, updated),
            false => (current, count(&|pod| is_of(pod, current)) - self.renewed),
        };
        StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas,
            ready_replicas: number(ready),
            available_replicas: Some(count(&|pod| self.is_available(pod))),
            current_replicas: number(of_current),
            updated_replicas: number(updated),
            current_revision: Some(current.into()),
            update_revision: Some(update.into()),
            collision_count: Some(self.observed.collisions),
            conditions: self.set.status.conditions.clone(),
        }
    }

    /// When the next pod becomes available by mere time.
    pub(super) fn again(&self, status: &StatefulSetStatus) -> Option<SignedDuration> {
        let seconds = self.set.spec.min_ready_seconds;
        if seconds <= 0
            || status.ready_replicas.unwrap_or(0) == status.available_replicas.unwrap_or(0)
        {
            return None;
        }
        let pods = self.observed.pods.iter();
        let next = pods
            .filter_map(|pod| pod.available_in(seconds, self.now))
            .min();
        Some(next.unwrap_or(SignedDuration::from_secs(seconds.into())))
    }
}

/// A count as statuses have it: zero is not written.
fn number(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count > 0)
}

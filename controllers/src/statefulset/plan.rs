//! What a StatefulSet needs: pods with numbers made, renewed and deleted in order, their claims, and
//! its status.

pub(super) mod claims;
mod identity;
mod status;
#[cfg(test)]
mod stories;

use std::cmp::Reverse;
use std::sync::Arc;

use client::View;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::apps::{StatefulSet, scaled};
use crate::history::{REVISION_HASH, Revision};
use crate::pod::{Phase, Pod};
use crate::volumes::Claim;
pub(super) use identity::{is_member, ordinal};

/// What there is of a StatefulSet.
pub(super) struct Observed<'o> {
    /// The set itself.
    pub set: &'o StatefulSet,
    /// The template that all its pods had before the update.
    pub current: &'o Revision,
    /// The template that its pods shall have.
    pub update: &'o Revision,
    /// How often names of revisions collided.
    pub collisions: i32,
    /// Its pods.
    pub pods: &'o [Arc<Pod>],
    /// Finds a claim by its name.
    pub claim: &'o (dyn Fn(&str) -> Option<Arc<Claim>> + Sync),
}

/// What to do for a StatefulSet.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One after the other; the steps of a phase at once if the set allows it. If one fails, what
    /// follows waits, but the status is told.
    pub phases: Vec<Vec<Step>>,
    /// What the set shall say of itself.
    pub status: StatefulSetStatus,
    /// When to look again although nothing happens.
    pub again: Option<SignedDuration>,
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Make a pod, after those of its claims that are missing.
    Create {
        /// The pod's name.
        pod: String,
        /// The whole pod.
        body: Value,
        /// Its claims.
        claims: Missing,
    },
    /// Make the claims that a waiting pod lacks.
    CreateClaims {
        /// The pod's name.
        pod: String,
        /// The claims.
        claims: Missing,
    },
    /// Bring a pod's name tags, its volumes, and its claims' owners up to date.
    Update {
        /// Which.
        pod: Arc<Pod>,
        /// The pod's changes, as a strategic merge patch.
        patch: Option<Value>,
        /// The claims that are missing, if the pod's volumes are not as they should be.
        claims: Missing,
        /// The claims' owners.
        owners: Vec<Owners>,
    },
    /// Bring the owners of a leaving pod's claims up to date.
    Own(Vec<Owners>),
    /// Delete a pod.
    Delete(Arc<Pod>),
}

/// The claims that a pod lacks.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Those to make.
    pub create: Vec<Value>,
    /// Why the pod cannot have them: one that is there is going.
    pub error: Option<String>,
}

/// New owners of a claim.
#[derive(Debug)]
pub(super) struct Owners {
    /// Which claim.
    pub claim: Arc<Claim>,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Whether somebody else controls it, so that the policy is not followed.
    pub is_conflict: bool,
}

/// Whether pods are made and deleted without waiting for each other.
pub(super) fn is_parallel(set: &StatefulSet) -> bool {
    set.spec.pod_management_policy == "Parallel"
}

/// What to do for a StatefulSet.
pub(super) fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut planner = Planner::new(observed, now);
    if !observed.set.is_deleted() {
        planner.run();
    }
    planner.finish()
}

/// A number of the set, and its pod, if it is there.
struct Replica {
    ordinal: i32,
    pod: Option<Arc<Pod>>,
}

struct Planner<'o> {
    observed: &'o Observed<'o>,
    set: &'o StatefulSet,
    now: Timestamp,
    /// One for each number.
    replicas: Vec<Replica>,
    /// Pods whose numbers are not wanted, the highest first.
    condemned: Vec<Arc<Pod>>,
    /// How many pods the update takes away.
    renewed: i32,
    phases: Vec<Vec<Step>>,
}

/// Whether what follows must wait.
type MustWait = bool;

impl<'o> Planner<'o> {
    fn new(observed: &'o Observed<'o>, now: Timestamp) -> Self {
        let set = observed.set;
        let start = set.spec.ordinals.start;
        let numbers = start..start + set.spec.replicas;
        let mut condemned = Vec::new();
        let new = |ordinal| Replica { ordinal, pod: None };
        let mut replicas: Vec<_> = numbers.clone().map(new).collect();
        for pod in observed.pods {
            match ordinal(pod.name()) {
                Some(ordinal) if numbers.contains(&ordinal) => {
                    let at = usize::try_from(ordinal - start).unwrap_or(0);
                    replicas[at].pod = Some(pod.clone());
                }
                Some(_) => condemned.push(pod.clone()),
                None => {}
            }
        }
        condemned.sort_by_key(|pod| Reverse(ordinal(pod.name())));
        Self {
            observed,
            set,
            now,
            replicas,
            condemned,
            renewed: 0,
            phases: Vec::new(),
        }
    }

    fn run(&mut self) {
        let is_parallel = is_parallel(self.set);
        let replicas = 0..self.replicas.len();
        let condemned = 0..self.condemned.len();
        let must_wait = self.phase(replicas, Self::keep)
            || self.phase(condemned.clone(), Self::fix_claims)
            || self.phase(condemned, Self::condemn);
        if (must_wait && !is_parallel) || self.set.spec.update_strategy.type_ == "OnDelete" {
            return;
        }
        self.renew();
    }

    /// Looks at pods one by one; if the set is ordered, until one must be waited for.
    fn phase(
        &mut self,
        all: std::ops::Range<usize>,
        look: fn(&Self, usize, &mut Vec<Step>) -> MustWait,
    ) -> MustWait {
        let is_ordered = !is_parallel(self.set);
        let mut steps = Vec::new();
        let must_wait = all
            .into_iter()
            .any(|at| look(self, at, &mut steps) && is_ordered);
        self.phases.push(steps);
        must_wait
    }

    /// Makes a wanted pod, or replaces it if it has ended, or waits for it.
    fn keep(&self, at: usize, steps: &mut Vec<Step>) -> MustWait {
        let replica = &self.replicas[at];
        let Some(pod) = &replica.pod else {
            if !claims::is_stale(self.set, replica.ordinal, self.observed.claim) {
                steps.push(self.create(replica.ordinal));
            }
            return true;
        };
        if pod.is_terminal() {
            if !pod.is_deleted() {
                steps.push(Step::Delete(pod.clone()));
            }
            return true;
        }
        if pod.status.phase == Phase::Pending {
            let claims = claims::missing(self.set, replica.ordinal, self.observed.claim);
            let is_failed = claims.error.is_some();
            if is_failed || !claims.create.is_empty() {
                let pod = pod.name().to_string();
                steps.push(Step::CreateClaims { pod, claims });
            }
            if is_failed {
                return true;
            }
        }
        let must_wait = pod.is_deleted() || !self.is_available(pod);
        if must_wait && !is_parallel(self.set) {
            return true;
        }
        steps.extend(self.update(replica.ordinal, pod));
        false
    }

    fn create(&self, ordinal: i32) -> Step {
        let revision = self.revision_for(ordinal);
        Step::Create {
            pod: identity::pod_name(self.set, ordinal),
            body: identity::pod(self.set, &revision.template(), revision.name(), ordinal),
            claims: claims::missing(self.set, ordinal, self.observed.claim),
        }
    }

    /// A pod below the partition, or one that the update has not reached, comes back as it was.
    fn revision_for(&self, ordinal: i32) -> &'o Revision {
        let strategy = &self.set.spec.update_strategy;
        let kept = match &strategy.rolling_update {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None if strategy.type_ == "RollingUpdate" => {
                self.set.status.current_replicas.unwrap_or(0)
            }
            None => 0,
        };
        match ordinal < self.set.spec.ordinals.start + kept {
            true => self.observed.current,
            false => self.observed.update,
        }
    }

    fn update(&self, ordinal: i32, pod: &Arc<Pod>) -> Option<Step> {
        let is_stored = identity::is_stored(self.set, pod);
        let patch = identity::correction(self.set, pod, is_stored);
        let claims = match is_stored {
            true => Missing::default(),
            false => claims::missing(self.set, ordinal, self.observed.claim),
        };
        let owners = claims::owners(self.set, pod, self.observed.claim);
        let pod = pod.clone();
        let is_right = patch.is_none() && owners.is_empty();
        (!is_right).then_some(Step::Update {
            pod,
            patch,
            claims,
            owners,
        })
    }

    fn fix_claims(&self, at: usize, steps: &mut Vec<Step>) -> MustWait {
        let owners = claims::owners(self.set, &self.condemned[at], self.observed.claim);
        if !owners.is_empty() {
            steps.push(Step::Own(owners));
        }
        false
    }

    /// Deletes a pod that is not wanted, once all below it are well; the first that is not well may
    /// go itself.
    fn condemn(&self, at: usize, steps: &mut Vec<Step>) -> MustWait {
        let pod = &self.condemned[at];
        if pod.is_deleted() {
            return true;
        }
        let is_first_unwell = self.first_unwell().is_some_and(|first| first == pod.uid());
        if !is_parallel(self.set) && !self.is_available(pod) && !is_first_unwell {
            return true;
        }
        steps.push(Step::Delete(pod.clone()));
        true
    }

    /// The uid of the pod with the lowest number that is not available; a missing one has none.
    fn first_unwell(&self) -> Option<&str> {
        let wanted = self.replicas.iter().map(|replica| replica.pod.as_ref());
        let condemned = self.condemned.iter().rev().map(Some);
        let mut unwell = wanted.chain(condemned).filter(|pod| self.is_unwell(*pod));
        unwell.next().map(|pod| pod.map_or("", |pod| pod.uid()))
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.status.phase == Phase::Running
            && pod.is_available(self.set.spec.min_ready_seconds, self.now)
    }

    fn is_unwell(&self, pod: Option<&Arc<Pod>>) -> bool {
        let is_available = |pod: &Pod| pod.is_available(self.set.spec.min_ready_seconds, self.now);
        pod.is_none_or(|pod| pod.is_deleted() || !is_available(pod))
    }

    /// Deletes pods of former templates, the highest number first, so that they come back renewed.
    fn renew(&mut self) {
        let rolling = self.set.spec.update_strategy.rolling_update.as_ref();
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        let partition = usize::try_from(partition)
            .unwrap_or(0)
            .min(self.replicas.len());
        let steps = match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
            Some(most) => self.renew_some(partition, most),
            None => self.renew_one(partition).into_iter().collect(),
        };
        self.renewed = i32::try_from(steps.len()).unwrap_or(i32::MAX);
        self.phases
            .push(steps.into_iter().map(Step::Delete).collect());
    }

    /// The highest that is not renewed, if all above it are well.
    fn renew_one(&self, partition: usize) -> Option<Arc<Pod>> {
        for replica in self.replicas[partition..].iter().rev() {
            if let Some(pod) = replica.pod.as_ref().filter(|pod| self.is_outdated(pod)) {
                return Some(pod.clone());
            }
            if self.is_unwell(replica.pod.as_ref()) {
                return None;
            }
        }
        None
    }

    /// As many as may be unavailable, in addition to those that are.
    fn renew_some(&self, partition: usize, most: &IntOrString) -> Vec<Arc<Pod>> {
        let most = scaled(most, self.set.spec.replicas, false)
            .unwrap_or(1)
            .max(1);
        let most = usize::try_from(most).unwrap_or(1);
        let unwell = self
            .replicas
            .iter()
            .filter(|one| self.is_unwell(one.pod.as_ref()));
        let room = most.saturating_sub(unwell.count());
        let pods = self.replicas[partition..].iter().rev();
        let pods = pods.filter_map(|replica| replica.pod.clone());
        pods.filter(|pod| self.is_outdated(pod))
            .take(room)
            .collect()
    }

    fn is_outdated(&self, pod: &Pod) -> bool {
        pod.label(REVISION_HASH) != Some(self.observed.update.name()) && !pod.is_deleted()
    }

    fn finish(self) -> Plan {
        let status = self.status();
        let again = self.again(&status);
        let phases = self.phases.into_iter().filter(|steps| !steps.is_empty());
        Plan {
            phases: phases.collect(),
            status,
            again,
        }
    }
}

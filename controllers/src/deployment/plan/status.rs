//! What a Deployment says of itself: counts and conditions.

use client::View;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetCondition};

use super::{Planner, max_unavailable};
use crate::apps::{Deployment, ReplicaSet};
use crate::status::time;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Why a Deployment is done.
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
/// Why a Deployment is given up.
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// Whether a Deployment has a time by which it must make progress.
pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    let deadline = deployment.spec.progress_deadline_seconds;
    deadline.is_some_and(|deadline| deadline != i32::MAX)
}

fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

fn find<'s>(status: &'s DeploymentStatus, type_: &str) -> Option<&'s DeploymentCondition> {
    let mut all = status.conditions.iter().flatten();
    all.find(|one| one.type_ == type_)
}

/// Sets a condition, unless status and reason are what they were.
fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let last = find(status, &condition.type_);
    if let Some(last) = last.filter(|last| last.status == condition.status) {
        if last.reason == condition.reason {
            return;
        }
        condition.last_transition_time = last.last_transition_time.clone();
    }
    let all = status.conditions.get_or_insert_default();
    all.retain(|one| one.type_ != condition.type_);
    all.push(condition);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(all) = &mut status.conditions {
        all.retain(|one| one.type_ != type_);
    }
    if status.conditions.as_ref().is_some_and(Vec::is_empty) {
        status.conditions = None;
    }
}

/// What a Deployment says when a ReplicaSet could not be made, and the message for everybody.
pub(crate) fn creation_failed(
    deployment: &Deployment,
    set_name: &str,
    cause: &str,
    now: Timestamp,
) -> (DeploymentStatus, String) {
    let message = format!("Failed to create new replica set {set_name:?}: {cause}");
    let mut status = deployment.status.clone();
    if has_deadline(deployment) {
        let reason = "ReplicaSetCreateError";
        set(
            &mut status,
            condition(PROGRESSING, "False", reason, message.clone(), now),
        );
    }
    (status, message)
}

impl Planner<'_> {
    /// Whether the Deployment makes progress, as it says.
    pub(super) fn progressing(&self) -> Option<&DeploymentCondition> {
        find(&self.plan.status, PROGRESSING)
    }

    pub(super) fn set_progressing(&mut self, status: &str, reason: &str, message: String) {
        let condition = condition(PROGRESSING, status, reason, message, self.now);
        set(&mut self.plan.status, condition);
    }

    /// Time at rest does not count towards the deadline.
    pub(super) fn check_paused(&mut self) {
        let reason = self.progressing().and_then(|one| one.reason.as_deref());
        if !has_deadline(self.deployment) || reason == Some(TIMED_OUT) {
            return;
        }
        match (self.deployment.spec.paused, reason == Some(PAUSED)) {
            (true, false) => self.set_progressing("Unknown", PAUSED, "Deployment is paused".into()),
            (false, true) => {
                let message = "Deployment is resumed".into();
                self.set_progressing("Unknown", "DeploymentResumed", message);
            }
            _ => {}
        }
    }

    /// Counts, and whether enough pods are available.
    pub(super) fn set_status(&mut self) {
        self.plan.status = self.counts();
    }

    fn counts(&self) -> DeploymentStatus {
        let sum = |count: &dyn Fn(&ReplicaSet) -> i32| -> i32 {
            self.sets.iter().map(|set| count(&set.set)).sum()
        };
        let available = self.available();
        let replicas: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let updated = self.new.map_or(0, |new| self.sets[new].set.status.replicas);
        let last = &self.plan.status;
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: number(sum(&|set| set.status.replicas)),
            updated_replicas: number(updated),
            ready_replicas: number(sum(&|set| set.status.ready_replicas.unwrap_or(0))),
            available_replicas: number(available),
            unavailable_replicas: number((replicas - available).max(0)),
            terminating_replicas: self.terminating(),
            collision_count: last.collision_count,
            conditions: last.conditions.clone(),
        };
        let is_enough = available >= self.wanted() - max_unavailable(self.deployment);
        let (holds, reason, message) = match is_enough {
            true => (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            ),
            false => (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            ),
        };
        set(
            &mut status,
            condition(AVAILABLE, holds, reason, message.into(), self.now),
        );
        status
    }

    /// None if some set does not tell.
    fn terminating(&self) -> Option<i32> {
        let count = |set: &ReplicaSet| match set.status.terminating_replicas {
            None if set.status.observed_generation.unwrap_or(0) == 0 => Some(0),
            count => count,
        };
        self.sets.iter().map(|set| count(&set.set)).sum()
    }

    /// Counts, and how the rollout goes.
    pub(super) fn set_rollout_status(&mut self) {
        let mut status = self.counts();
        if has_deadline(self.deployment) {
            self.judge_progress(&mut status);
        } else {
            remove(&mut status, PROGRESSING);
        }
        match self.replica_failure() {
            Some(failure) => set(&mut status, failure),
            None => remove(&mut status, REPLICA_FAILURE),
        }
        self.plan.status = status;
    }

    fn judge_progress(&self, status: &mut DeploymentStatus) {
        let last = self.progressing().cloned();
        let reason = last.as_ref().and_then(|one| one.reason.as_deref());
        let is_done =
            status.replicas == status.updated_replicas && reason == Some(NEW_SET_AVAILABLE);
        if is_done {
            return;
        }
        let what = match self.new {
            Some(new) => format!("ReplicaSet {:?}", self.sets[new].set.name()),
            None => format!("Deployment {:?}", self.deployment.name()),
        };
        let progressing = |holds, reason, verb| {
            condition(
                PROGRESSING,
                holds,
                reason,
                format!("{what} {verb}"),
                self.now,
            )
        };
        if is_complete(self.deployment, status) {
            set(
                status,
                progressing("True", NEW_SET_AVAILABLE, "has successfully progressed."),
            );
        } else if self.has_progressed(status) {
            let mut condition = progressing("True", "ReplicaSetUpdated", "is progressing.");
            if let Some(last) = last.filter(|last| last.status == "True") {
                condition.last_transition_time = last.last_transition_time;
            }
            // Removed first, so that the time of the last progress is updated in any case.
            remove(status, PROGRESSING);
            set(status, condition);
        } else if self.is_timed_out(status) {
            set(
                status,
                progressing("False", TIMED_OUT, "has timed out progressing."),
            );
        }
    }

    /// Whether anything got better since the last status.
    fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let last = &self.plan.status;
        let old = |status: &DeploymentStatus| {
            status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
        };
        let grew = |count: fn(&DeploymentStatus) -> Option<i32>| {
            count(status).unwrap_or(0) > count(last).unwrap_or(0)
        };
        grew(|status| status.updated_replicas)
            || old(status) < old(last)
            || grew(|status| status.ready_replicas)
            || grew(|status| status.available_replicas)
    }

    fn is_timed_out(&self, status: &DeploymentStatus) -> bool {
        let Some(last) = find(status, PROGRESSING) else {
            return false;
        };
        match last.reason.as_deref() {
            Some(NEW_SET_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            _ => self
                .deadline(last)
                .is_some_and(|deadline| deadline < self.now),
        }
    }

    fn deadline(&self, progressing: &DeploymentCondition) -> Option<Timestamp> {
        let seconds = self.deployment.spec.progress_deadline_seconds?;
        let since = progressing.last_update_time.as_ref()?;
        Some(since.0 + SignedDuration::from_secs(seconds.into()))
    }

    /// When a rollout that makes no progress is to be looked at again.
    pub(super) fn next_progress_check(&self) -> Option<SignedDuration> {
        let last = self
            .progressing()
            .filter(|_| has_deadline(self.deployment))?;
        if last.reason.as_deref() == Some(TIMED_OUT) || self.is_complete() {
            return None;
        }
        let left = self.deadline(last)?.duration_since(self.now);
        // A second more, because times in objects have whole seconds.
        Some(left.max(SignedDuration::ZERO) + SignedDuration::from_secs(1))
    }

    /// Whether the last status says that all is as wanted.
    pub(super) fn is_complete(&self) -> bool {
        is_complete(self.deployment, &self.plan.status)
    }

    /// Why pods could not be made or deleted: of the set for the template, or else of any.
    fn replica_failure(&self) -> Option<DeploymentCondition> {
        let of = |at: usize| {
            let mut all = self.sets[at].set.status.conditions.iter().flatten();
            all.find(|one| one.type_ == REPLICA_FAILURE)
        };
        let all = self.new.into_iter().chain(self.old());
        all.filter_map(of).next().map(converted)
    }
}

fn converted(condition: &ReplicaSetCondition) -> DeploymentCondition {
    let condition = condition.clone();
    DeploymentCondition {
        type_: condition.type_,
        status: condition.status,
        last_update_time: condition.last_transition_time.clone(),
        last_transition_time: condition.last_transition_time,
        reason: condition.reason,
        message: condition.message,
    }
}

fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let all = deployment.spec.replicas;
    let counts = [
        status.updated_replicas,
        status.replicas,
        status.available_replicas,
    ];
    counts.iter().all(|count| count.unwrap_or(0) == all)
        && status.observed_generation >= deployment.metadata.generation
}

/// A count as statuses have it: zero is not written.
fn number(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

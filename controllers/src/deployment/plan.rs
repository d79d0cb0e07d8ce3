//! What a Deployment needs: ReplicaSets made, scaled and deleted, and its status. A pure function of
//! the Deployment, its ReplicaSets and the time.
//!
//! The plan changes copies of the sets as it goes, so that its later steps see what its earlier ones
//! will have done; the status counts what was observed.

mod revisions;
mod rollout;
mod scaling;
mod status;
#[cfg(test)]
mod stories;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::View;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::Value;

use crate::apps::{Deployment, ReplicaSet, scaled};

pub(super) use revisions::REVISION;
pub(super) use status::creation_failed;

/// What to do for a Deployment.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In this order; if one fails, the rest waits.
    pub steps: Vec<Step>,
    /// What the Deployment shall say of itself afterwards.
    pub status: DeploymentStatus,
    /// The number of its latest ReplicaSet, if the Deployment does not say it yet.
    pub revision: Option<String>,
    /// When to look again although nothing happens.
    pub again: Option<SignedDuration>,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Make a ReplicaSet for the Deployment's template.
    Create {
        /// Its name.
        name: String,
        /// How many pods it starts with.
        replicas: i32,
        /// The whole object.
        body: Value,
    },
    /// Change a ReplicaSet.
    Update {
        /// Which.
        set: Arc<ReplicaSet>,
        /// What its annotations become.
        annotations: BTreeMap<String, String>,
        /// How many pods it has and shall have, if that changes.
        replicas: Option<(i32, i32)>,
        /// How long its pods must be ready, if that changes.
        min_ready_seconds: Option<i32>,
    },
    /// Delete a ReplicaSet that is too old.
    Delete(Arc<ReplicaSet>),
    /// Change the Deployment itself: its template and annotations, by a strategic merge patch.
    Rollback(Value),
    /// Tell the user.
    Event {
        /// Whether something is wrong.
        is_warning: bool,
        /// In a word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
}

/// What to do for a Deployment that controls `sets`. `has_pods` tells whether a set has pods whose
/// containers may run.
pub(super) fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    has_pods: impl Fn(&ReplicaSet) -> bool,
    now: Timestamp,
) -> Plan {
    let mut planner = Planner::new(deployment, sets, now);
    planner.run(has_pods);
    planner.finish()
}

/// A ReplicaSet while the plan is made.
struct Set {
    /// As it was observed; none if it is to be made.
    observed: Option<Arc<ReplicaSet>>,
    /// As it will be.
    set: ReplicaSet,
    /// The number of pods it wanted when it was observed, or will want when it is made.
    replicas: i32,
}

struct Planner<'d> {
    deployment: &'d Deployment,
    now: Timestamp,
    /// By age.
    sets: Vec<Set>,
    /// Which of them is for the Deployment's template.
    new: Option<usize>,
    plan: Plan,
}

impl<'d> Planner<'d> {
    fn new(deployment: &'d Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Self {
        let mut sets = sets.to_vec();
        sets.sort_by(|a, b| by_age(a, b));
        let is_new = |set: &Arc<ReplicaSet>| set.spec.template == deployment.spec.template;
        let new = sets.iter().position(is_new);
        let working = |observed: Arc<ReplicaSet>| Set {
            set: ReplicaSet::clone(&observed),
            replicas: observed.spec.replicas,
            observed: Some(observed),
        };
        Self {
            deployment,
            now,
            sets: sets.into_iter().map(working).collect(),
            new,
            plan: Plan {
                status: deployment.status.clone(),
                ..Plan::default()
            },
        }
    }

    fn run(&mut self, has_pods: impl Fn(&ReplicaSet) -> bool) {
        let deployment = self.deployment;
        if deployment.spec.selector.selects_all() {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.";
            self.event(true, "SelectingAll", message.into());
            self.plan.status.observed_generation = deployment.metadata.generation;
            return;
        }
        if deployment.is_deleted() {
            self.sync_revision(false);
            return self.set_status();
        }
        self.check_paused();
        if deployment.spec.paused {
            return self.scale();
        }
        if let Some(revision) = self.rollback_to() {
            return self.rollback(revision);
        }
        if self.is_scaling() {
            return self.scale();
        }
        match deployment.spec.strategy.type_.as_str() {
            "Recreate" => self.recreate(has_pods),
            _ => self.roll(),
        }
    }

    fn finish(mut self) -> Plan {
        if self.plan.status == self.deployment.status {
            self.plan.again = self.next_progress_check();
        }
        self.plan
    }

    fn event(&mut self, is_warning: bool, reason: &'static str, message: String) {
        self.plan.steps.push(Step::Event {
            is_warning,
            reason,
            message,
        });
    }

    /// The sets for former templates, by age.
    fn old(&self) -> Vec<usize> {
        let all = 0..self.sets.len();
        all.filter(|at| Some(*at) != self.new).collect()
    }

    /// Those of `sets` that want pods.
    fn active(&self, sets: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let wants_pods = |at: &usize| self.sets[*at].set.spec.replicas > 0;
        sets.into_iter().filter(wants_pods).collect()
    }

    fn wanted(&self) -> i32 {
        self.deployment.spec.replicas
    }

    /// How many pods all sets want, as planned.
    fn planned(&self) -> i32 {
        self.sets.iter().map(|set| set.set.spec.replicas).sum()
    }

    /// How many pods of all sets are available.
    fn available(&self) -> i32 {
        self.sets.iter().map(|set| available(&set.set)).sum()
    }
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.available_replicas.unwrap_or(0)
}

fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    let (one, two) = (
        &a.metadata.creation_timestamp,
        &b.metadata.creation_timestamp,
    );
    one.cmp(two).then_with(|| a.name().cmp(b.name()))
}

fn is_rolling(deployment: &Deployment) -> bool {
    deployment.spec.strategy.type_ == "RollingUpdate"
}

/// How many pods may be there beyond what is wanted, and how many may be missing; not both are none,
/// or a rollout would never start.
fn limits(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment.spec.strategy.rolling_update.as_ref();
    let resolve = |value: Option<&_>, round_up| {
        let value = value.and_then(|value| scaled(value, deployment.spec.replicas, round_up));
        value.unwrap_or(0)
    };
    let surge = resolve(rolling.and_then(|limits| limits.max_surge.as_ref()), true);
    let missing = resolve(
        rolling.and_then(|limits| limits.max_unavailable.as_ref()),
        false,
    );
    if surge == 0 && missing == 0 {
        (0, 1)
    } else {
        (surge, missing)
    }
}

/// How many pods may be there beyond what is wanted.
fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) {
        limits(deployment).0
    } else {
        0
    }
}

/// How many of the wanted pods may be missing.
fn max_unavailable(deployment: &Deployment) -> i32 {
    match is_rolling(deployment) && deployment.spec.replicas != 0 {
        true => limits(deployment).1.min(deployment.spec.replicas),
        false => 0,
    }
}

//! What a job's pods make of it, step by step: [`Sync::begin`] looks at them and says which to delete
//! and create; [`Sync::changed`] takes in what came of that; [`Sync::track`] notes pods that have ended
//! in the status, so that their finalizers may go; [`Sync::finish`] counts those whose finalizers are
//! gone, and ends the job.
//!
//! A pod that has ended is counted exactly once, whatever dies in between: it is noted under its uid
//! before its finalizer goes, and its uid leaves the note in the write that counts it.

mod changes;
mod counting;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::View as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Backoff;
use super::indexes::Indexes;
use super::policy::{self, Verdict};
use super::view::Job;
use crate::pod::{Phase, Pod};

/// What holds a pod until it is counted.
pub(crate) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The index of a pod, as annotation and as label.
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often pods of this index failed before, as far as it counts.
pub(crate) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often pods of this index failed before without that it counts.
pub(crate) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// So many pods are noted at once at most: this bounds the status.
const UNCOUNTED_MAX: usize = 500;
/// So many pods are created or deleted in one sync at most.
pub(crate) const CHANGES_MAX: usize = 500;

/// What is known of a job when it is synced: all that was written for it before has been seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed<'a> {
    pub(crate) job: &'a Job,
    /// Its pods.
    pub(crate) pods: &'a [Arc<Pod>],
    pub(crate) backoff: Backoff,
    pub(crate) now: Timestamp,
}

/// A pod to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Creation {
    /// Its completion index, if it gets one.
    pub(crate) index: Option<u32>,
    /// How often its index failed before, if that matters: what counts, and what does not.
    pub(crate) failures: Option<(u32, u32)>,
}

/// What to do with a job's pods first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) delete: Vec<Arc<Pod>>,
    /// The pods that are deleted are not to be counted: their finalizers go first.
    pub(crate) release: bool,
    pub(crate) create: Vec<Creation>,
    /// When to look again.
    pub(crate) again: Option<Duration>,
}

/// What came of the changes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) deleted: usize,
    pub(crate) deleted_ready: usize,
    pub(crate) created: usize,
}

/// An event about the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) is_warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// One sync of a job.
#[derive(Debug)]
pub(crate) struct Sync<'a> {
    observed: Observed<'a>,
    /// What the status is to be.
    pub(crate) status: JobStatus,
    pub(crate) events: Vec<Event>,
    /// What the backoff is once the status is written.
    pub(crate) backoff: Backoff,
    /// The condition with which it ends, or ends once nothing is left to be counted.
    end: Option<JobCondition>,
    active: Vec<Arc<Pod>>,
    active_count: i32,
    ready: i32,
    terminating: i32,
    failed: i32,
    succeeded: i32,
    noted: Noted,
    indexes: IndexSets,
    manages: bool,
    flush: bool,
    reached_max: bool,
    /// Pods that still have the finalizer.
    held: HashSet<String>,
}

/// The uids that the status named when the sync began.
#[derive(Debug, Default)]
struct Noted {
    succeeded: HashSet<String>,
    failed: HashSet<String>,
}

#[derive(Debug, Default)]
struct IndexSets {
    counted: Indexes,
    succeeded: Indexes,
    failed: Option<Indexes>,
    /// The last failed pod of each index that has no successor yet.
    delayed: BTreeMap<u32, Arc<Pod>>,
}

impl<'a> Sync<'a> {
    /// Looks at a job and its pods.
    pub(crate) fn begin(observed: Observed<'a>) -> (Self, Changes) {
        let (job, now) = (observed.job, observed.now);
        let mut status = job.status.clone();
        let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
        let set = |uids: &Option<Vec<String>>| uids.iter().flatten().cloned().collect();
        let noted = Noted {
            succeeded: set(&uncounted.succeeded),
            failed: set(&uncounted.failed),
        };
        let active: Vec<Arc<Pod>> = observed
            .pods
            .iter()
            .filter(|pod| pod.is_active())
            .cloned()
            .collect();
        let mut sync = Self {
            active_count: count(active.len()),
            ready: count(active.iter().filter(|pod| pod.is_ready()).count()),
            terminating: count(
                observed
                    .pods
                    .iter()
                    .filter(|pod| pod.is_terminating())
                    .count(),
            ),
            failed: 0,
            succeeded: 0,
            events: Vec::new(),
            backoff: observed.backoff,
            end: None,
            indexes: IndexSets::default(),
            manages: false,
            flush: false,
            reached_max: false,
            held: HashSet::new(),
            observed,
            status,
            active,
            noted,
        };
        let succeeded = sync.countable(&sync.noted.succeeded, |pod| {
            pod.status.phase == Phase::Succeeded
        });
        let failed = sync.countable(&sync.noted.failed, |pod| has_failed(job, pod));
        let counted = failed
            .iter()
            .filter(|pod| policy::judge(job, pod) != Verdict::Ignored);
        sync.failed = job.status.failed.unwrap_or(0)
            + count(counted.count())
            + count(sync.noted.failed.len());
        sync.succeeded = job.status.succeeded.unwrap_or(0)
            + count(succeeded.len())
            + count(sync.noted.succeeded.len());
        sync.backoff = observed.backoff.after(&succeeded, &failed);
        if sync.status.start_time.is_none() && !job.spec.suspend {
            sync.status.start_time = Some(Time(now));
        }
        sync.end = sync.judge();
        let mut again = None;
        if sync.end.is_none() && !job.spec.suspend {
            again = sync.deadline().map(|deadline| wait(deadline, now));
        }
        if job.is_indexed() {
            sync.judge_indexes();
        }
        let mut changes = sync.changes();
        changes.again = changes.again.into_iter().chain(again).min();
        (sync, changes)
    }

    /// Takes in what came of the changes.
    pub(crate) fn changed(&mut self, changes: &Changes, outcome: Outcome) {
        let spec = &self.observed.job.spec;
        let deleted = count(outcome.deleted);
        self.terminating += deleted;
        self.ready -= count(outcome.deleted_ready);
        if self.end.is_some() {
            if outcome.deleted < changes.delete.len() {
                self.end = None;
            }
            self.active_count -= deleted;
        } else {
            self.active_count += count(outcome.created) - deleted;
            let is_complete = match spec.completions {
                None => self.succeeded > 0,
                Some(completions) => self.succeeded >= completions,
            };
            if is_complete && self.active_count == 0 {
                let message = "Reached expected number of succeeded pods";
                self.end =
                    Some(self.condition("SuccessCriteriaMet", "CompletionsReached", message));
            } else if self.manages {
                self.suspend_or_resume();
            }
        }
        let status = &mut self.status;
        let is_same = status.active.unwrap_or(0) == self.active_count
            && status.ready == Some(self.ready)
            && status.terminating == Some(self.terminating);
        self.flush |= !is_same;
        status.active = (self.active_count != 0).then_some(self.active_count);
        status.ready = Some(self.ready);
        status.terminating = Some(self.terminating);
    }

    fn judge(&self) -> Option<JobCondition> {
        let job = self.observed.job;
        let holds = |which| job.condition(which).filter(|found| found.status == "True");
        if let Some(met) = holds("SuccessCriteriaMet") {
            return Some(met.clone());
        }
        if let Some(target) = holds("FailureTarget") {
            return Some(self.failed_for(target));
        }
        let mut failed = self.observed.pods.iter().filter(|pod| has_failed(job, pod));
        let verdict = failed.find_map(|pod| match policy::judge(job, pod) {
            Verdict::FailsJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = verdict {
            return Some(self.condition("FailureTarget", "PodFailurePolicy", &message));
        }
        if self.failed > job.spec.backoff_limit || self.restarted_too_often() {
            let message = "Job has reached the specified backoff limit";
            return Some(self.condition("FailureTarget", "BackoffLimitExceeded", message));
        }
        let is_late = self
            .deadline()
            .is_some_and(|deadline| deadline <= self.observed.now);
        (is_late && !job.spec.suspend).then(|| {
            let message = "Job was active longer than specified deadline";
            self.condition("FailureTarget", "DeadlineExceeded", message)
        })
    }

    fn judge_indexes(&mut self) {
        let job = self.observed.job;
        let below = job.indexes();
        self.indexes.counted = Indexes::parse(
            job.status.completed_indexes.as_deref().unwrap_or_default(),
            below,
        );
        let held = || self.observed.pods.iter().filter(|pod| has_finalizer(pod));
        let valid = |pod: &Pod| index(pod).filter(|index| *index < below);
        let succeeded = held()
            .filter(|pod| pod.status.phase == Phase::Succeeded)
            .filter_map(|pod| valid(pod));
        self.indexes.succeeded = self.indexes.counted.with(&succeeded.collect());
        self.succeeded = i32::try_from(self.indexes.succeeded.count()).unwrap_or(i32::MAX);
        if let Some(limit) = job.spec.backoff_limit_per_index {
            let known = job.status.failed_indexes.as_deref().unwrap_or_default();
            let failed = held()
                .filter(|pod| fails_index(job, pod, limit))
                .filter_map(|pod| valid(pod));
            let failed = Indexes::parse(known, below).with(&failed.collect());
            if self.end.is_none() {
                self.end = self.judge_failed_indexes(&failed);
            }
            self.indexes.failed = Some(failed);
            self.indexes.delayed = self.delayed();
        }
        if self.end.is_none() {
            let policy = job.spec.success_policy.as_ref();
            let met = policy::is_enough(policy, below, &self.indexes.succeeded);
            self.end =
                met.map(|message| self.condition("SuccessCriteriaMet", "SuccessPolicy", &message));
        }
    }

    fn judge_failed_indexes(&self, failed: &Indexes) -> Option<JobCondition> {
        let job = self.observed.job;
        let most = job
            .spec
            .max_failed_indexes
            .and_then(|most| u32::try_from(most).ok());
        if most.is_some_and(|most| failed.count() > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(self.condition("FailureTarget", "MaxFailedIndexesExceeded", message));
        }
        let ended = failed.count() + self.indexes.succeeded.count();
        (!failed.is_empty() && ended >= job.indexes())
            .then(|| self.condition("FailureTarget", "FailedIndexes", "Job has failed indexes"))
    }

    /// Restarts within pods that run count as failures.
    fn restarted_too_often(&self) -> bool {
        let spec = &self.observed.job.spec;
        let running = self.observed.pods.iter().map(|pod| &pod.status);
        let running =
            running.filter(|status| matches!(status.phase, Phase::Running | Phase::Pending));
        let containers = running.flat_map(|status| {
            status
                .init_container_statuses
                .iter()
                .chain(&status.container_statuses)
        });
        let restarts: i64 = containers.map(|found| i64::from(found.restart_count)).sum();
        let is_too_often = restarts > 0 && restarts >= i64::from(spec.backoff_limit);
        is_too_often && spec.template.value()["spec"]["restartPolicy"] == "OnFailure"
    }

    /// When it has been active for too long.
    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.observed.job.spec.active_deadline_seconds?;
        let start = self.status.start_time.as_ref()?;
        start.0.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Pods that have the finalizer and an index that counts.
    fn countable(&self, but: &HashSet<String>, is_meant: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let job = self.observed.job;
        let pods = self
            .observed
            .pods
            .iter()
            .filter(|pod| has_finalizer(pod) && !but.contains(pod.uid()));
        let pods = pods.filter(|pod| {
            !job.is_indexed() || index(pod).is_some_and(|index| index < job.indexes())
        });
        pods.filter(|pod| is_meant(pod)).cloned().collect()
    }

    fn suspend_or_resume(&mut self) {
        let is_suspended = self.observed.job.spec.suspend;
        let (status, reason, message) = match is_suspended {
            true => ("True", "JobSuspended", "Job suspended"),
            false => ("False", "JobResumed", "Job resumed"),
        };
        let condition = JobCondition {
            status: status.to_string(),
            ..self.condition("Suspended", reason, message)
        };
        if !ensure(&mut self.status, condition) {
            return;
        }
        self.flush = true;
        let (reason, start) = match is_suspended {
            true => ("Suspended", None),
            false => ("Resumed", Some(Time(self.observed.now))),
        };
        // Since its scheduling may change while it is suspended, a suspended job has not started.
        self.status.start_time = start;
        self.events.push(event(false, reason, message));
    }

    fn failed_for(&self, target: &JobCondition) -> JobCondition {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        self.condition("Failed", &text(&target.reason), &text(&target.message))
    }

    fn condition(&self, which: &str, reason: &str, message: &str) -> JobCondition {
        let now = Time(self.observed.now);
        JobCondition {
            type_: which.to_string(),
            status: "True".to_string(),
            reason: Some(reason.to_string()),
            message: Some(message.to_string()),
            last_probe_time: Some(now.clone()),
            last_transition_time: Some(now),
        }
    }
}

/// Sets a condition; one that would say that something does not hold is not begun. Says whether
/// anything changes.
fn ensure(status: &mut JobStatus, condition: JobCondition) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    match conditions
        .iter_mut()
        .find(|found| found.type_ == condition.type_)
    {
        Some(found) => {
            let is_same = found.status == condition.status
                && found.reason == condition.reason
                && found.message == condition.message;
            if !is_same {
                *found = condition;
            }
            !is_same
        }
        None if condition.status == "False" => false,
        None => {
            conditions.push(condition);
            true
        }
    }
}

fn event(is_warning: bool, reason: &str, message: &str) -> Event {
    Event {
        is_warning,
        reason: reason.to_string(),
        message: message.to_string(),
    }
}

/// Whether a pod is held until it is counted.
pub(crate) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|found| found == FINALIZER)
}

/// Whether a pod counts as failed.
fn has_failed(job: &Job, pod: &Pod) -> bool {
    let phase = pod.status.phase;
    phase == Phase::Failed
        || (!job.replaces_only_failed() && pod.is_deleted() && phase != Phase::Succeeded)
}

fn fails_index(job: &Job, pod: &Pod, limit: i32) -> bool {
    has_failed(job, pod)
        && match policy::judge(job, pod) {
            Verdict::FailsIndex => true,
            Verdict::Ignored => false,
            _ => i64::from(number(pod, FAILURES)) >= i64::from(limit),
        }
}

/// The completion index of a pod.
pub(crate) fn index(pod: &Pod) -> Option<u32> {
    pod.annotation(INDEX)?.parse().ok()
}

fn number(pod: &Pod, annotation: &str) -> u32 {
    let text = pod.annotation(annotation).unwrap_or_default();
    text.parse::<i32>()
        .ok()
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0)
}

/// The failures of an index before a pod, whether they count or not.
fn all_failures(pod: &Pod) -> u32 {
    number(pod, FAILURES).saturating_add(number(pod, IGNORED_FAILURES))
}

/// What the successor of a pod says of failures.
fn next_failures(job: &Job, replaced: Option<&Arc<Pod>>) -> (u32, u32) {
    replaced.map_or((0, 0), |pod| {
        let (counted, ignored) = (number(pod, FAILURES), number(pod, IGNORED_FAILURES));
        match policy::judge(job, pod) {
            Verdict::Ignored => (counted, ignored + 1),
            _ => (counted + 1, ignored),
        }
    })
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn wait(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests;

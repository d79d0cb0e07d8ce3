//! What a CronJob is to do now: forget jobs that have ended or gone, and start one if it is time.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use client::View as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJobStatus;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::timetable::{Timetable, rfc3339, zone};
use super::view::CronJob;
use crate::adoption::controller_ref;
use crate::job::Job;

/// When a job was due, on the job.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Clocks differ a little: it is better to come late than too early.
const MARGIN: Duration = Duration::from_millis(100);
/// From so many missed times on, users are told.
const MANY_MISSED: i64 = 100;

/// An event about the CronJob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

fn normal(reason: &'static str, message: impl Into<String>) -> Event {
    Event {
        is_warning: false,
        reason,
        message: message.into(),
    }
}

fn warning(reason: &'static str, message: impl Into<String>) -> Event {
    Event {
        is_warning: true,
        reason,
        message: message.into(),
    }
}

/// What is to be done for its schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) events: Vec<Event>,
    /// The time for which a job is to be started.
    pub(crate) start: Option<Timestamp>,
    /// When to look again.
    pub(crate) again: Option<Duration>,
}

// --- history

/// The ended jobs that are too many, oldest first.
pub(crate) fn surplus(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = &cron.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    let surplus = limits.into_iter().filter_map(|(end, limit)| {
        let limit = usize::try_from(limit?).unwrap_or(0);
        let ended = |job: &&Arc<Job>| job.finished().is_some_and(|found| found.type_ == end);
        let mut ended: Vec<Arc<Job>> = jobs.iter().filter(ended).cloned().collect();
        ended.sort_by(by_start);
        ended.truncate(ended.len().saturating_sub(limit));
        Some(ended)
    });
    surplus.flatten().collect()
}

/// What has not started comes last.
fn by_start(one: &Arc<Job>, two: &Arc<Job>) -> Ordering {
    let [a, b] = [one, two].map(|job| job.status.start_time.as_ref());
    let by_time = a.is_none().cmp(&b.is_none()).then_with(|| a.cmp(&b));
    by_time.then_with(|| one.name().cmp(two.name()))
}

// --- jobs that run

/// Takes a job from those that are active.
pub(crate) fn deactivate(status: &mut CronJobStatus, uid: &str) {
    if let Some(active) = &mut status.active {
        active.retain(|found| found.uid.as_deref() != Some(uid));
    }
    status.active.take_if(|active| active.is_empty());
}

pub(crate) fn is_active(status: &CronJobStatus, uid: &str) -> bool {
    let mut active = status.active.iter().flatten();
    active.any(|found| found.uid.as_deref() == Some(uid))
}

/// The jobs that run and that the status does not know.
pub(crate) fn unexpected<'j>(status: &CronJobStatus, jobs: &'j [Arc<Job>]) -> Vec<&'j Arc<Job>> {
    let running = jobs.iter().filter(|job| job.finished().is_none());
    running
        .filter(|job| !is_active(status, job.uid()))
        .collect()
}

/// What is told of a job that runs although nobody knows it.
pub(crate) fn saw_unexpected(job: &Job) -> Event {
    let name = job.name();
    warning(
        "UnexpectedJob",
        format!("Saw a job that the controller did not create or forgot: {name}"),
    )
}

/// Forgets jobs that have ended, and remembers the last success.
pub(crate) fn note_ended(status: &mut CronJobStatus, jobs: &[Arc<Job>]) -> Vec<Event> {
    let mut events = Vec::new();
    for job in jobs {
        let Some(end) = job.finished() else {
            continue;
        };
        if is_active(status, job.uid()) {
            deactivate(status, job.uid());
            let message = format!(
                "Saw completed job: {}, condition: {}",
                job.name(),
                end.type_
            );
            events.push(normal("SawCompletedJob", message));
        }
        let completed = job
            .status
            .completion_time
            .as_ref()
            .filter(|_| end.type_ == "Complete");
        if completed > status.last_successful_time.as_ref() {
            status.last_successful_time = completed.cloned();
        }
    }
    events
}

/// The active jobs that are not among those that the informer knows.
pub(crate) fn missing(status: &CronJobStatus, jobs: &[Arc<Job>]) -> Vec<ObjectReference> {
    let active = status.active.iter().flatten();
    let is_known = |found: &&ObjectReference| {
        jobs.iter()
            .any(|job| found.uid.as_deref() == Some(job.uid()))
    };
    active.filter(|found| !is_known(found)).cloned().collect()
}

/// What is told of an active job that is gone.
pub(crate) fn went_missing(name: &str) -> Event {
    normal("MissingJob", format!("Active job went missing: {name}"))
}

// --- what is due

/// Whether it is time.
pub(crate) fn due(cron: &CronJob, status: &CronJobStatus, now: Timestamp) -> Due {
    let mut due = Due::default();
    let spec = &cron.spec;
    if cron.metadata.deletion_timestamp.is_some() {
        return due;
    }
    if let Some(name) = spec.time_zone.as_ref().filter(|name| zone(name).is_none()) {
        let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
        due.events.push(warning("UnknownTimeZone", message));
        return due;
    }
    if spec.suspend {
        return due;
    }
    if spec.schedule.contains("TZ") {
        let message = format!(
            "CRON_TZ or TZ used in schedule {:?} is not officially supported, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            spec.schedule
        );
        due.events.push(warning("UnsupportedSchedule", message));
    }
    let timetable = match timetable(cron) {
        Ok(timetable) => timetable,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            due.events.push(warning("UnparseableSchedule", message));
            return due;
        }
    };
    due_by(cron, status, &timetable, now, &mut due);
    due
}

fn due_by(
    cron: &CronJob,
    status: &CronJobStatus,
    timetable: &Timetable,
    now: Timestamp,
    due: &mut Due,
) {
    let spec = &cron.spec;
    let earliest = earliest(cron, status, now, true);
    let missed = match last_missed(timetable, earliest, now) {
        Ok(missed) => missed,
        Err(error) => {
            let message = format!("invalid schedule: {} : {error}", spec.schedule);
            due.events.push(warning("InvalidSchedule", message));
            return;
        }
    };
    due.again = again(cron, status, timetable, now);
    let Some(time) = missed.last else {
        return;
    };
    if missed.count > MANY_MISSED {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        due.events.push(warning("TooManyMissedTimes", message));
    }
    let seconds = spec
        .starting_deadline_seconds
        .map(SignedDuration::from_secs);
    if seconds.is_some_and(|seconds| now.duration_since(time) > seconds) {
        let time =
            jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S +0000", time).unwrap_or_default();
        due.events.push(warning(
            "MissSchedule",
            format!("Missed scheduled time to start a job: {time}"),
        ));
        return;
    }
    let name = job_name(cron, time);
    let active = status.active.as_deref().unwrap_or_default();
    let is_begun = active
        .iter()
        .any(|found| found.name.as_ref() == Some(&name));
    if is_begun
        || status
            .last_schedule_time
            .as_ref()
            .is_some_and(|last| last.0 == time)
    {
        return;
    }
    if spec.concurrency_policy == "Forbid" && !active.is_empty() {
        let message =
            "Not starting job because prior execution is running and concurrency policy is Forbid";
        due.events.push(normal("JobAlreadyActive", message));
        return;
    }
    due.start = Some(time);
}

fn timetable(cron: &CronJob) -> Result<Timetable, String> {
    let spec = &cron.spec;
    match &spec.time_zone {
        Some(zone) if !spec.schedule.contains("TZ") => {
            Timetable::parse(&format!("TZ={zone} {}", spec.schedule))
        }
        _ => Timetable::parse(&spec.schedule),
    }
}

/// From when on times count.
fn earliest(cron: &CronJob, status: &CronJobStatus, now: Timestamp, in_time: bool) -> Timestamp {
    let last = status
        .last_schedule_time
        .as_ref()
        .or(cron.metadata.creation_timestamp.as_ref());
    let last = last.map_or(now, |last| last.0);
    let seconds = cron.spec.starting_deadline_seconds.filter(|_| in_time);
    let deadline =
        seconds.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    deadline.map_or(last, |deadline| deadline.max(last))
}

/// Times that have come.
struct Missed {
    last: Option<Timestamp>,
    /// About how many they are.
    count: i64,
}

fn last_missed(
    timetable: &Timetable,
    earliest: Timestamp,
    now: Timestamp,
) -> Result<Missed, &'static str> {
    let first = timetable.next(earliest).filter(|first| *first <= now);
    let Some(first) = first else {
        return Ok(Missed {
            last: None,
            count: 0,
        });
    };
    let second = timetable.next(first).filter(|second| *second <= now);
    let Some(second) = second else {
        return Ok(Missed {
            last: Some(first),
            count: 1,
        });
    };
    let distance = second.as_second() - first.as_second();
    if distance < 1 {
        return Err("time difference between two schedules is less than 1 second");
    }
    let count = now.duration_since(first).as_secs() / distance + 1;
    // A year of minutes need not be walked through: the last ones are near the end.
    let near = SignedDuration::from_secs((count - 2) * distance);
    let near = first.checked_add(near).unwrap_or(first);
    let next = |time: &Timestamp| timetable.next(*time).filter(|next| *next <= now);
    let last = std::iter::successors(next(&near), next).last();
    Ok(Missed { last, count })
}

/// How long until the next time after the last that has come.
fn again(
    cron: &CronJob,
    status: &CronJobStatus,
    timetable: &Timetable,
    now: Timestamp,
) -> Option<Duration> {
    let earliest = earliest(cron, status, now, false);
    let from = match last_missed(timetable, earliest, now) {
        Ok(Missed {
            last: Some(last), ..
        }) => last,
        Ok(Missed { count: 0, .. }) => earliest,
        _ => now,
    };
    let wait = timetable.next(from)?.duration_since(now);
    Some(Duration::try_from(wait).unwrap_or_default() + MARGIN)
}

// --- the job

/// One name for each scheduled minute, so that none is started twice.
pub(crate) fn job_name(cron: &CronJob, time: Timestamp) -> String {
    let name = cron.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", time.as_second().div_euclid(60))
}

/// The job for a time.
pub(crate) fn job(cron: &CronJob, time: Timestamp) -> Value {
    let template = cron.spec.job_template.value();
    let map = |key: &str| {
        let found = template["metadata"][key].as_object();
        found.cloned().unwrap_or_else(Map::new)
    };
    let mut annotations = map("annotations");
    let zone = zone(cron.spec.time_zone.as_deref().unwrap_or_default()).unwrap_or_default();
    annotations.insert(SCHEDULED.to_string(), rfc3339(time, zone).into());
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(cron, time),
            "namespace": cron.metadata.namespace,
            "labels": map("labels"),
            "annotations": annotations,
            "ownerReferences": [controller_ref(cron)],
        },
        "spec": template["spec"],
    })
}

/// A job was started for a time.
pub(crate) fn note_started(status: &mut CronJobStatus, job: &Job, time: Timestamp) {
    let meta = &job.metadata;
    status.active.get_or_insert_default().push(ObjectReference {
        api_version: Some("batch/v1".to_string()),
        kind: Some("Job".to_string()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        resource_version: meta.resource_version.clone(),
        uid: meta.uid.clone(),
        field_path: None,
    });
    status.last_schedule_time = Some(Time(time));
}

#[cfg(test)]
mod tests;

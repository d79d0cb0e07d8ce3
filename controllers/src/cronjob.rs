//! CronJobs: jobs that are started by the clock.
//!
//! - [`view`]: what of a CronJob is read; [`timetable`]: when it is due; [`plan`]: what to do then

mod plan;
mod timetable;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use client::{EventType, Index, Informer, Key, Queue, Recorder, Subscription, View, errors};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJobStatus;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use serde_json::json;

use self::plan::Event;
use self::view::CronJob;
use crate::adoption;
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::job::Job;
use crate::merge;

/// Starts jobs by the clock.
pub(crate) struct CronJobs {
    context: Context,
    recorder: Recorder,
    crons: Informer<CronJob>,
    /// Jobs by their controller.
    jobs: Index<Job>,
    _subscriptions: [Subscription; 2],
}

#[async_trait]
impl Controller for CronJobs {
    type Key = Key;

    fn start(context: &Context, queue: &Queue<Key>) -> Self {
        let crons = context.informers.of::<CronJob>();
        let jobs = context.informers.of::<Job>();
        let subscriptions = [watch_crons(&crons, queue), watch_jobs(&jobs, queue)];
        Self {
            context: context.clone(),
            recorder: context.recorder("cronjob-controller"),
            jobs: adoption::index_by_controller(&jobs),
            crons,
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, key: &Key) -> Result<Again, Error> {
        let Some(cron) = self.crons.get(&key.namespace, &key.name) else {
            return Ok(Again::Done);
        };
        let mut status = cron.status.clone();
        let jobs = self.jobs.get(cron.uid());
        for job in plan::surplus(&cron, &jobs) {
            self.delete(&cron, &mut status, &job).await;
        }
        let synced = self.run(&cron, &mut status, &jobs).await;
        self.write(&cron, &status).await?;
        synced
    }
}

fn watch_crons(crons: &Informer<CronJob>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    crons.on_change(move |_, new| {
        if let Some(cron) = new {
            queue.add(Key::of(&**cron));
        }
    })
}

fn watch_jobs(jobs: &Informer<Job>, queue: &Queue<Key>) -> Subscription {
    let queue = queue.clone();
    jobs.on_change(move |old, new| {
        for job in [old, new].into_iter().flatten() {
            if let Some(owner) = job.controller().filter(|owner| owner.kind == "CronJob") {
                queue.add(Key::new(job.namespace(), &owner.name));
            }
        }
    })
}

impl CronJobs {
    /// Notes what has become of jobs, and starts one if it is time.
    async fn run(
        &self,
        cron: &CronJob,
        status: &mut CronJobStatus,
        jobs: &[Arc<Job>],
    ) -> Result<Again, Error> {
        let unexpected = plan::unexpected(status, jobs);
        if !unexpected.is_empty() {
            // Perhaps the informer has not seen yet what was written last.
            let live = self.crons(cron).get(cron.name()).await?;
            if live.metadata.resource_version != cron.metadata.resource_version {
                *status = live.status;
            }
            for job in unexpected
                .into_iter()
                .filter(|job| !plan::is_active(status, job.uid()))
            {
                self.record(cron, &plan::saw_unexpected(job));
            }
        }
        for event in plan::note_ended(status, jobs) {
            self.record(cron, &event);
        }
        for missing in plan::missing(status, jobs) {
            let (name, uid) = (
                missing.name.unwrap_or_default(),
                missing.uid.unwrap_or_default(),
            );
            let live = self.jobs(cron).get_opt(&name).await?;
            if live.is_none_or(|live| live.uid() != uid) {
                self.record(cron, &plan::went_missing(&name));
                plan::deactivate(status, &uid);
            }
        }
        let due = plan::due(cron, status, self.context.now());
        for event in &due.events {
            self.record(cron, event);
        }
        if let Some(time) = due.start {
            self.start_job(cron, status, time).await?;
        }
        Ok(due.again.map_or(Again::Done, Again::After))
    }

    async fn start_job(
        &self,
        cron: &CronJob,
        status: &mut CronJobStatus,
        time: Timestamp,
    ) -> Result<(), Error> {
        if cron.spec.concurrency_policy == "Replace" {
            for active in status.active.clone().unwrap_or_default() {
                let name = active.name.unwrap_or_default();
                let job = self.jobs(cron).get(&name).await.inspect_err(|error| {
                    let message = format!("Get job: {}", errors::message(error));
                    self.recorder
                        .event(&object(cron), EventType::Warning, "FailedGet", message);
                })?;
                if !self.delete(cron, status, &job).await {
                    let namespace = cron.namespace();
                    return Err(Error::other(format!(
                        "could not replace job {namespace}/{name}"
                    )));
                }
            }
        }
        let body = plan::job(cron, time).to_string();
        let path = self.jobs(cron).resource_url().to_string();
        let request = Request::new(path).create(&PostParams::default(), body.into_bytes());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let job = match self.context.client.request::<Job>(request).await {
            Ok(job) => {
                let message = format!("Created job {}", job.name());
                self.recorder.event(
                    &object(cron),
                    EventType::Normal,
                    "SuccessfulCreate",
                    message,
                );
                job
            }
            Err(error) if errors::is_already_exists(&error) => {
                // It was started before, and that could not be written; or it is somebody else's.
                let job = self.jobs(cron).get(&plan::job_name(cron, time)).await?;
                if !adoption::is_controlled_by(&job, cron) || plan::is_active(status, job.uid()) {
                    return Ok(());
                }
                job
            }
            Err(error) => {
                if !errors::is_namespace_terminating(&error) {
                    let message = format!("Error creating job: {}", errors::message(&error));
                    self.recorder
                        .event(&object(cron), EventType::Warning, "FailedCreate", message);
                }
                return Err(error.into());
            }
        };
        plan::note_started(status, &job, time);
        Ok(())
    }

    /// Deletes a job. Says whether that was possible.
    async fn delete(&self, cron: &CronJob, status: &mut CronJobStatus, job: &Job) -> bool {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(job.uid().to_string()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let deleted = self.jobs(cron).delete(job.name(), &params).await;
        let (kind, reason, message) = match &deleted {
            Ok(_) => {
                plan::deactivate(status, job.uid());
                (
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted job {}", job.name()),
                )
            }
            Err(error) => (
                EventType::Warning,
                "FailedDelete",
                format!("Deleted job: {}", errors::message(error)),
            ),
        };
        self.recorder.event(&object(cron), kind, reason, message);
        deleted.is_ok()
    }

    async fn write(&self, cron: &CronJob, status: &CronJobStatus) -> Result<(), Error> {
        let value = |status| serde_json::to_value(status).map_err(kube::Error::SerdeError);
        let Some(change) = merge::diff(&value(&cron.status)?, &value(status)?) else {
            return Ok(());
        };
        let metadata =
            json!({"uid": cron.uid(), "resourceVersion": cron.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": change}));
        self.crons(cron)
            .patch_status(cron.name(), &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    fn record(&self, cron: &CronJob, event: &Event) {
        let kind = if event.is_warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        self.recorder
            .event(&object(cron), kind, event.reason, event.message.clone());
    }

    fn jobs(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.context.client.clone(), cron.namespace())
    }

    fn crons(&self, cron: &CronJob) -> Api<CronJob> {
        Api::namespaced(self.context.client.clone(), cron.namespace())
    }
}

fn object(cron: &CronJob) -> k8s_openapi::api::core::v1::ObjectReference {
    kube::Resource::object_ref(cron, &())
}

#[cfg(test)]
mod tests;

//! Jobs: pods that are to end, so many of them, some of them again.
//!
//! It watches jobs and pods; a sync waits until the informers have seen what the one before wrote, so
//! that the [`plan`] may take them as they are. Pods that lost their job are let go of.
//!
//! - [`view`]: what of a job is read
//! - [`plan`]: what its pods make of it; [`backoff`], [`indexes`], [`policy`] and [`removal`] are parts of
//!   that; [`pods`]: what its pods are made of

mod backoff;
mod indexes;
mod plan;
mod pods;
mod policy;
mod removal;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use client::{EventType, Index, Informer, Key, Queue, Subscription, View, errors};
use futures::StreamExt;
use futures::stream;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

pub(crate) use self::view::Job;

use self::backoff::Backoff;
use self::plan::{Changes, FINALIZER, Observed, Outcome, Sync};
use crate::adoption;
use crate::context::Context;
use crate::controller::{Again, Controller, Error};
use crate::expectations::Expectations;
use crate::merge;
use crate::pod::Pod;
use crate::pod_control::{PodControl, slow_start};

/// When to look again for what was written but not yet seen: mostly that wakes the job before.
const UNSEEN: Duration = Duration::from_secs(1);
/// Requests at a time for one job.
const REQUESTS: usize = 32;

/// What is woken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// A job.
    Job(Key),
    /// A pod that perhaps has no job to count it.
    Pod(Key),
    /// All pods of a job, by its uid.
    PodsOf(String),
}

/// Runs jobs.
pub(crate) struct Jobs {
    context: Context,
    control: PodControl,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    by_controller: Index<Pod>,
    /// Versions of jobs that were written.
    written: Arc<Expectations>,
    /// By the job's uid.
    backoffs: Arc<Mutex<HashMap<String, Backoff>>>,
    _subscriptions: [Subscription; 3],
}

#[async_trait]
impl Controller for Jobs {
    type Key = Task;

    fn start(context: &Context, queue: &Queue<Task>) -> Self {
        let control = PodControl::new(context, "job-controller");
        let jobs = context.informers.of::<Job>();
        let pods = context.informers.of::<Pod>();
        let (written, backoffs) = (Arc::<Expectations>::default(), Arc::default());
        let saw = control.expectations.clone();
        let subscriptions = [
            watch_jobs(&jobs, queue, &written, &control.expectations, &backoffs),
            adoption::wake_owners_as(&pods, &jobs, queue, Task::Job, move |pod| saw.saw(pod)),
            watch_pods(&pods, &jobs, queue),
        ];
        Self {
            context: context.clone(),
            by_controller: adoption::index_by_controller(&pods),
            control,
            jobs,
            pods,
            written,
            backoffs,
            _subscriptions: subscriptions,
        }
    }

    async fn sync(&self, task: &Task) -> Result<Again, Error> {
        match task {
            Task::Job(key) => match self.jobs.get(&key.namespace, &key.name) {
                Some(job) => self.sync_job(&job).await,
                None => Ok(Again::Done),
            },
            Task::Pod(key) => {
                let pod = self.pods.get(&key.namespace, &key.name);
                self.let_go(pod.as_slice()).await
            }
            Task::PodsOf(uid) => self.let_go(&self.by_controller.get(uid)).await,
        }
    }
}

/// A change of a job wakes it; its end wakes the pods that it leaves behind.
fn watch_jobs(
    jobs: &Informer<Job>,
    queue: &Queue<Task>,
    written: &Arc<Expectations>,
    pods: &Arc<Expectations>,
    backoffs: &Arc<Mutex<HashMap<String, Backoff>>>,
) -> Subscription {
    let (queue, written, pods, backoffs) = (
        queue.clone(),
        written.clone(),
        pods.clone(),
        backoffs.clone(),
    );
    jobs.on_change(move |old, new| {
        let Some(job) = new.or(old) else {
            return;
        };
        written.saw(&**job);
        if new.is_none() || job.finished().is_some() {
            lock(&backoffs).remove(job.uid());
            queue.add(Task::PodsOf(job.uid().to_string()));
        }
        match new {
            Some(job) => queue.add(Task::Job(Key::of(&**job))),
            None => {
                written.forget(job.uid());
                pods.forget(job.uid());
            }
        }
    })
}

/// Pods that are held for nobody are looked at by themselves.
fn watch_pods(pods: &Informer<Pod>, jobs: &Informer<Job>, queue: &Queue<Task>) -> Subscription {
    let (queue, jobs) = (queue.clone(), jobs.clone());
    pods.on_change(move |_, new| {
        let Some(pod) = new.filter(|pod| plan::has_finalizer(pod)) else {
            return;
        };
        if !is_counted(&jobs, pod) {
            queue.add(Task::Pod(Key::of(&**pod)));
        }
    })
}

/// Whether there is a job that counts a pod, as far as the cache knows.
fn is_counted(jobs: &Informer<Job>, pod: &Pod) -> bool {
    let Some(owner) = pod.controller() else {
        return false;
    };
    if owner.kind != "Job" || owner.api_version != "batch/v1" {
        // Whoever controls it has put the finalizer there.
        return true;
    }
    let job = jobs.get(pod.namespace(), &owner.name);
    let job = job.filter(|job| job.uid() == owner.uid);
    job.is_some_and(|job| job.is_foreign() || job.finished().is_none())
}

impl Jobs {
    async fn sync_job(&self, job: &Job) -> Result<Again, Error> {
        if job.is_foreign() || job.finished().is_some() {
            return Ok(Again::Done);
        }
        if !self.is_current(job) {
            return Ok(Again::After(UNSEEN));
        }
        if !matches!(
            job.spec.completion_mode.as_deref(),
            None | Some("NonIndexed" | "Indexed")
        ) {
            let message = "Skipped Job sync because completion mode is unknown";
            self.control.event(
                job,
                EventType::Warning,
                "UnknownCompletionMode",
                message.to_string(),
            );
            return Ok(Again::Done);
        }
        let pods = self.claim(job).await?;
        let backoff = lock(&self.backoffs)
            .get(job.uid())
            .copied()
            .unwrap_or_default();
        let observed = Observed {
            job,
            pods: &pods,
            backoff,
            now: self.context.now(),
        };
        let (mut sync, changes) = Sync::begin(observed);
        let (outcome, managed) = self.apply(job, &changes).await;
        sync.changed(&changes, outcome);
        self.record(job, sync).await?;
        managed?;
        Ok(changes.again.map_or(Again::Done, Again::After))
    }

    /// Whether the caches show all that was done for a job.
    fn is_current(&self, job: &Job) -> bool {
        let is_live = |name: &str, uid: &str| {
            let pod = self.pods.get(job.namespace(), name);
            pod.is_some_and(|pod| pod.uid() == uid && !pod.is_deleted())
        };
        let now = self.context.seams.clock.now();
        self.control.expectations.are_met(job.uid(), now, is_live)
            && self.written.are_met(job.uid(), now, |_, _| false)
    }

    /// The pods of a job, with those that it takes.
    async fn claim(&self, job: &Job) -> Result<Vec<Arc<Pod>>, Error> {
        let selects = |pod: &Pod| job.spec.selector.matches(pod.metadata.labels.as_ref());
        let candidates = adoption::candidates(&self.by_controller, job);
        let client = &self.context.client;
        Ok(adoption::claim_all_held(client, job, candidates, selects, Some(FINALIZER)).await?)
    }

    /// Deletes and creates pods.
    async fn apply(&self, job: &Job, changes: &Changes) -> (Outcome, Result<(), Error>) {
        let deleted = stream::iter(changes.delete.clone()).map(|pod| async move {
            if changes.release {
                self.release(job, &pod).await?;
            }
            self.control
                .delete(job, &pod)
                .await
                .map(|()| pod.is_ready())
        });
        let deleted: Vec<Result<bool, Error>> = deleted.buffer_unordered(REQUESTS).collect().await;
        let create = |at: usize| async move {
            let body = pods::body(job, &changes.create[at]).to_string();
            match self.control.create(job, body.as_bytes()).await {
                // Asking again is of no use, and the job goes as well.
                Err(error) if error.api().is_some_and(errors::is_namespace_terminating) => Ok(()),
                result => result,
            }
        };
        let (created, mut result) = slow_start(changes.create.len(), create).await;
        let outcome = Outcome {
            deleted: deleted.iter().filter(|one| one.is_ok()).count(),
            deleted_ready: deleted.iter().filter(|one| matches!(one, Ok(true))).count(),
            created,
        };
        if let Some(error) = deleted.into_iter().find_map(Result::err) {
            result = Err(error);
        }
        (outcome, result)
    }

    /// Counts pods that have ended: the status names them, their finalizers go, the status counts
    /// them.
    async fn record(&self, job: &Job, mut sync: Sync<'_>) -> Result<(), Error> {
        let (is_changed, release) = sync.track();
        let mut known = (job.status.clone(), job.metadata.resource_version.clone());
        if is_changed {
            known = self.write(job, &known, &sync).await?;
            lock(&self.backoffs).insert(job.uid().to_string(), sync.backoff);
        }
        let results = stream::iter(release).map(|pod| async move {
            let result = self.release(job, &pod).await;
            result.map(|()| pod.uid().to_string())
        });
        let results: Vec<Result<String, Error>> =
            results.buffer_unordered(REQUESTS).collect().await;
        let released: Vec<String> = results
            .iter()
            .filter_map(|one| one.as_ref().ok().cloned())
            .collect();
        let failure = results.into_iter().find_map(Result::err);
        let is_changed = match failure {
            None => sync.finish(&released),
            Some(_) => sync.finish_partly(&released),
        };
        if is_changed {
            self.write(job, &known, &sync).await?;
        }
        for event in &sync.events {
            let kind = if event.is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            };
            self.control
                .event(job, kind, &event.reason, event.message.clone());
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes the status, if the job is still the one that is known.
    async fn write(&self, job: &Job, known: &Known, sync: &Sync<'_>) -> Result<Known, Error> {
        let value = |status| serde_json::to_value(status).map_err(kube::Error::SerdeError);
        let (old, new) = (value(&known.0)?, value(&sync.status)?);
        let Some(status) = merge::diff(&old, &new) else {
            return Ok(known.clone());
        };
        let metadata = json!({"uid": job.uid(), "resourceVersion": known.1});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
        let api = Api::<Job>::namespaced(self.context.client.clone(), job.namespace());
        let written = api
            .patch_status(job.name(), &PatchParams::default(), &patch)
            .await?;
        let version = written.metadata.resource_version;
        let now = self.context.seams.clock.now();
        self.written.wrote(job.uid(), version.as_deref(), now);
        Ok((sync.status.clone(), version))
    }

    /// Lets go of pods that no job counts.
    async fn let_go(&self, pods: &[Arc<Pod>]) -> Result<Again, Error> {
        let is_lost = |pod: &&Arc<Pod>| plan::has_finalizer(pod) && !is_counted(&self.jobs, pod);
        let lost: Vec<Arc<Pod>> = pods.iter().filter(is_lost).cloned().collect();
        let results = stream::iter(lost).map(|pod| async move { self.take_finalizer(&pod).await });
        let results: Vec<_> = results.buffer_unordered(REQUESTS).collect().await;
        results.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Again::Done)
    }

    /// Takes the finalizer from a job's pod.
    async fn release(&self, job: &Job, pod: &Pod) -> Result<(), Error> {
        if let Some(version) = self.take_finalizer(pod).await? {
            let now = self.context.seams.clock.now();
            self.control
                .expectations
                .wrote(job.uid(), Some(&version), now);
        }
        Ok(())
    }

    /// Takes the finalizer from a pod. Gives its version after that, if it is still there.
    async fn take_finalizer(&self, pod: &Pod) -> Result<Option<String>, Error> {
        if !plan::has_finalizer(pod) {
            return Ok(None);
        }
        let patch = json!({"metadata": {"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let api = Api::<Pod>::namespaced(self.context.client.clone(), pod.namespace());
        match api
            .patch_metadata(
                pod.name(),
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await
        {
            // With its last finalizer a pod that was deleted goes, and no watch shows this version.
            Ok(_) if pod.is_deleted() => Ok(None),
            Ok(written) => Ok(written.metadata.resource_version),
            // It is gone, or another has its name.
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A status as it is stored, and the version of its job.
type Known = (k8s_openapi::api::batch::v1::JobStatus, Option<String>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! The view of a Job that its controllers share.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus, PodFailurePolicy, SuccessPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::adoption::Selects;
use crate::selector::Selector;
use crate::template::Template;

/// The controller that syncs jobs that name none.
const CONTROLLER: &str = "kubernetes.io/job-controller";

/// A Job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Job {
    /// Its metadata.
    pub(crate) metadata: ObjectMeta,
    /// What is wanted.
    pub(crate) spec: JobSpec,
    /// What its controller says.
    pub(crate) status: JobStatus,
}

client::view!(Job, k8s_openapi::api::batch::v1::Job);

/// What is wanted of a job.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JobSpec {
    /// So many pods run at once, at most.
    pub(crate) parallelism: i32,
    /// So many are to succeed; none: any success is enough.
    pub(crate) completions: Option<i32>,
    /// `NonIndexed` or `Indexed`.
    pub(crate) completion_mode: Option<Box<str>>,
    /// So many may fail.
    pub(crate) backoff_limit: i32,
    /// So many may fail of one index.
    pub(crate) backoff_limit_per_index: Option<i32>,
    /// So many indexes may fail.
    pub(crate) max_failed_indexes: Option<i32>,
    /// Which failures count, and how.
    pub(crate) pod_failure_policy: Option<PodFailurePolicy>,
    /// When indexes are enough.
    pub(crate) success_policy: Option<SuccessPolicy>,
    /// So long it may be active.
    pub(crate) active_deadline_seconds: Option<i64>,
    /// So long it stays when it has ended.
    pub(crate) ttl_seconds_after_finished: Option<i32>,
    /// No pods are to run.
    pub(crate) suspend: bool,
    /// Which pods are its own.
    pub(crate) selector: Selector,
    /// When a pod is replaced: `TerminatingOrFailed` or `Failed`.
    pub(crate) pod_replacement_policy: Option<Box<str>>,
    /// Who syncs it, if not this controller.
    pub(crate) managed_by: Option<Box<str>>,
    /// What its pods are made from.
    pub(crate) template: Template,
}

impl Selects for Job {
    fn selector(&self) -> &Selector {
        &self.spec.selector
    }
}

impl Default for JobSpec {
    /// What the API server defaults.
    fn default() -> Self {
        Self {
            parallelism: 1,
            completions: None,
            completion_mode: None,
            backoff_limit: 6,
            backoff_limit_per_index: None,
            max_failed_indexes: None,
            pod_failure_policy: None,
            success_policy: None,
            active_deadline_seconds: None,
            ttl_seconds_after_finished: None,
            suspend: false,
            selector: Selector::default(),
            pod_replacement_policy: None,
            managed_by: None,
            template: Template::default(),
        }
    }
}

impl Job {
    /// Whether its pods have indexes.
    pub(crate) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// So many indexes there are.
    pub(crate) fn indexes(&self) -> u32 {
        u32::try_from(self.spec.completions.unwrap_or(0)).unwrap_or(0)
    }

    /// Whether another controller syncs it.
    pub(crate) fn is_foreign(&self) -> bool {
        self.spec
            .managed_by
            .as_deref()
            .is_some_and(|name| name != CONTROLLER)
    }

    /// A pod is replaced only once it has ended.
    pub(crate) fn replaces_only_failed(&self) -> bool {
        let policy = self.spec.pod_replacement_policy.as_deref();
        policy == Some("Failed") || self.spec.pod_failure_policy.is_some()
    }

    /// The condition of a type, whatever its status.
    pub(crate) fn condition(&self, which: &str) -> Option<&JobCondition> {
        find(&self.status, which)
    }

    /// How it ended, if it has.
    pub(crate) fn finished(&self) -> Option<&JobCondition> {
        let mut all = self.status.conditions.iter().flatten();
        all.find(|found| matches!(&*found.type_, "Complete" | "Failed") && found.status == "True")
    }

    /// When it ended, if it has and says so.
    pub(crate) fn finished_at(&self) -> Option<Timestamp> {
        self.finished()?
            .last_transition_time
            .as_ref()
            .map(|time| time.0)
    }
}

/// The condition of a type, whatever its status.
pub(crate) fn find<'s>(status: &'s JobStatus, which: &str) -> Option<&'s JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|found| found.type_ == which)
}

//! What runs to an end: Jobs, and CronJobs that make them.

mod cron_job;
mod indexes;
mod job;
mod job_spec;
mod job_status;

use super::facts::Facts;

/// The facts of a resource.
pub(crate) fn facts(resource: &str) -> Option<&'static Facts> {
    match resource {
        "cronjobs" => Some(&cron_job::CRON_JOB),
        "jobs" => Some(&job::JOB),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

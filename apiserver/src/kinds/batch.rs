//! What runs to an end: Jobs, and CronJobs that make them.

mod cron_job;
mod indexes;
mod job;
mod job_spec;
mod job_status;

pub(crate) use cron_job::CRON_JOB;
pub(crate) use job::JOB;

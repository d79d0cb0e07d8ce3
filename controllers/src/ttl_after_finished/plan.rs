//! When a job that has ended has been there for long enough.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::job::Job;

/// How long a job stays: none if it stays for good, nothing if its time is over.
pub(crate) fn rest(job: &Job, now: Timestamp) -> Option<Duration> {
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let seconds = job.spec.ttl_seconds_after_finished?;
    let end = job
        .finished_at()?
        .checked_add(SignedDuration::from_secs(seconds.into()))
        .ok()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_job_that_has_ended_goes_when_its_time_is_over() {
        let complete = json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let running = json!([{"type": "Suspended", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        for (name, ttl, conditions, deleted, second, want) in [
            (
                "no time is set",
                json!(null),
                complete.clone(),
                json!(null),
                0,
                None,
            ),
            ("it runs", json!(10), running, json!(null), 0, None),
            (
                "it stays",
                json!(10),
                complete.clone(),
                json!(null),
                4,
                Some(6),
            ),
            (
                "its time is over",
                json!(10),
                complete.clone(),
                json!(null),
                10,
                Some(0),
            ),
            (
                "it goes at once",
                json!(0),
                complete.clone(),
                json!(null),
                0,
                Some(0),
            ),
            (
                "it goes already",
                json!(0),
                complete,
                json!("2026-01-01T00:00:00Z"),
                0,
                None,
            ),
        ] {
            let job: Value = json!({"metadata": {"deletionTimestamp": deleted},
                "spec": {"ttlSecondsAfterFinished": ttl}, "status": {"conditions": conditions}});
            let job: Job = serde_json::from_value(job).unwrap();
            let now = format!("2026-01-01T00:00:{second:02}Z").parse().unwrap();
            assert_eq!(rest(&job, now), want.map(Duration::from_secs), "{name}");
        }
    }
}

//! Upstream's cases of what is due, retold.

use super::*;

const CREATED: &str = "2016-05-19T09:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(spec: Value) -> CronJob {
    let mut all = json!({"schedule": "0 * * * ?", "concurrencyPolicy": "Allow",
        "jobTemplate": {"metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}}, "spec": {"parallelism": 1}}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    let cron = json!({"metadata": {"name": "mycron", "namespace": "ns", "uid": "u", "creationTimestamp": CREATED}, "spec": all});
    serde_json::from_value(cron).unwrap()
}

fn job(name: &str, status: Value) -> Arc<Job> {
    let job = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "status": status});
    Arc::new(serde_json::from_value(job).unwrap())
}

fn ended(name: &str, how: &str, start: &str) -> Arc<Job> {
    job(
        name,
        json!({"startTime": start, "completionTime": start,
        "conditions": [{"type": how, "status": "True"}]}),
    )
}

fn status(last: Option<&str>, active: &[&str]) -> CronJobStatus {
    let active: Vec<Value> = active
        .iter()
        .map(|name| json!({"name": name, "uid": name}))
        .collect();
    serde_json::from_value(json!({"lastScheduleTime": last, "active": active})).unwrap()
}

fn reasons(due: &Due) -> Vec<&str> {
    due.events.iter().map(|event| event.reason).collect()
}

#[test]
fn a_job_is_started_once_its_time_has_come() {
    const LAST: Option<&str> = Some("2016-05-19T09:00:00Z");
    let on_time = Some("2016-05-19T10:00:00Z");
    for (name, spec, last, active, now, start, events, again) in [
        (
            "never ran, not yet",
            json!({}),
            None,
            &[][..],
            "2016-05-19T09:30:00Z",
            None,
            &[][..],
            Some(1800),
        ),
        (
            "never ran, time",
            json!({}),
            None,
            &[],
            "2016-05-19T10:00:00Z",
            on_time,
            &[],
            Some(3600),
        ),
        (
            "ran, not yet",
            json!({}),
            LAST,
            &[],
            "2016-05-19T09:59:59Z",
            None,
            &[],
            Some(1),
        ),
        (
            "ran, a bit late",
            json!({}),
            LAST,
            &[],
            "2016-05-19T10:00:05Z",
            on_time,
            &[],
            Some(3595),
        ),
        (
            "suspended",
            json!({"suspend": true}),
            LAST,
            &[],
            "2016-05-19T10:00:00Z",
            None,
            &[],
            None,
        ),
        (
            "too late",
            json!({"startingDeadlineSeconds": 10}),
            LAST,
            &[],
            "2016-05-19T10:00:11Z",
            None,
            &[],
            Some(3589),
        ),
        (
            "in time",
            json!({"startingDeadlineSeconds": 10}),
            LAST,
            &[],
            "2016-05-19T10:00:09Z",
            on_time,
            &[],
            Some(3591),
        ),
        (
            "another runs, allowed",
            json!({}),
            LAST,
            &["x"],
            "2016-05-19T10:00:00Z",
            on_time,
            &[],
            Some(3600),
        ),
        (
            "another runs, replaced",
            json!({"concurrencyPolicy": "Replace"}),
            LAST,
            &["x"],
            "2016-05-19T10:00:00Z",
            on_time,
            &[],
            Some(3600),
        ),
        (
            "another runs, forbidden",
            json!({"concurrencyPolicy": "Forbid"}),
            LAST,
            &["x"],
            "2016-05-19T10:00:00Z",
            None,
            &["JobAlreadyActive"],
            Some(3600),
        ),
        (
            "it runs",
            json!({}),
            LAST,
            &["mycron-24394200"],
            "2016-05-19T10:00:05Z",
            None,
            &[],
            Some(3595),
        ),
        (
            "many were missed",
            json!({}),
            LAST,
            &[],
            "2016-06-01T10:00:05Z",
            Some("2016-06-01T10:00:00Z"),
            &["TooManyMissedTimes"],
            Some(3595),
        ),
        (
            "few were missed",
            json!({}),
            LAST,
            &[],
            "2016-05-19T13:30:00Z",
            Some("2016-05-19T13:00:00Z"),
            &[],
            Some(1800),
        ),
        (
            "no schedule",
            json!({"schedule": "x"}),
            LAST,
            &[],
            "2016-05-19T10:00:00Z",
            None,
            &["UnparseableSchedule"],
            None,
        ),
        (
            "no zone",
            json!({"timeZone": "bad/zone"}),
            LAST,
            &[],
            "2016-05-19T10:00:00Z",
            None,
            &["UnknownTimeZone"],
            None,
        ),
        (
            "zone",
            json!({"schedule": "0 12 * * *", "timeZone": "Europe/Berlin"}),
            LAST,
            &[],
            "2016-05-19T10:00:00Z",
            on_time,
            &[],
            Some(86400),
        ),
        (
            "own zone",
            json!({"schedule": "TZ=Europe/Berlin 0 12 * * *"}),
            LAST,
            &[],
            "2016-05-19T10:00:00Z",
            on_time,
            &["UnsupportedSchedule"],
            Some(86400),
        ),
    ] {
        let due = due(&cron(spec), &status(last, active), at(now));
        assert_eq!(due.start, start.map(at), "{name}");
        assert_eq!(reasons(&due), events, "{name}");
        let again = again.map(|seconds| Duration::from_secs(seconds) + MARGIN);
        assert_eq!(due.again, again, "{name}");
    }
}

#[test]
fn what_came_too_late_is_told_with_its_time() {
    // The window is wide enough for the time itself, but not for now: clocks moved in between.
    let mut cron = cron(json!({"startingDeadlineSeconds": 1}));
    cron.metadata.creation_timestamp = Some(Time(at("2016-05-19T09:59:59Z")));
    let mut due = Due::default();
    let timetable = timetable(&cron).unwrap();
    due_by(
        &cron,
        &CronJobStatus::default(),
        &timetable,
        at("2016-05-19T10:00:01.5Z"),
        &mut due,
    );
    assert_eq!(due.start, None);
    let mut texts = due.events.iter().map(|event| event.message.as_str());
    if let Some(text) = texts.next() {
        assert_eq!(
            text,
            "Missed scheduled time to start a job: Thu, 19 May 2016 10:00:00 +0000"
        );
    }
}

#[test]
fn messages_are_upstreams() {
    let now = at("2016-05-19T10:00:00Z");
    let message = |spec: Value| {
        due(&cron(spec), &status(None, &["x"]), now).events[0]
            .message
            .clone()
    };
    assert_eq!(
        message(json!({"timeZone": "bad/zone"})),
        r#"invalid timeZone: "bad/zone": unknown time zone bad/zone"#
    );
    assert_eq!(
        message(json!({"schedule": "x"})),
        r#"unparseable schedule: "x" : expected exactly 5 fields, found 1: [x]"#
    );
    assert_eq!(
        message(json!({"concurrencyPolicy": "Forbid"})),
        "Not starting job because prior execution is running and concurrency policy is Forbid"
    );
}

#[test]
fn jobs_are_named_and_marked_by_their_minute() {
    let cron = cron(json!({"timeZone": "Europe/Berlin"}));
    let made = super::job(&cron, at("2016-05-19T10:00:00Z"));
    assert_eq!(made["metadata"]["name"], "mycron-24394200");
    assert_eq!(made["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(
        made["metadata"]["annotations"],
        json!({"x": "y", SCHEDULED: "2016-05-19T12:00:00+02:00"})
    );
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["controller"]),
        (&json!("CronJob"), &json!(true))
    );
    assert_eq!(made["spec"], json!({"parallelism": 1}));
}

#[test]
fn ended_jobs_are_kept_up_to_a_limit() {
    let cron = cron(json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}));
    let jobs = [
        ended("new", "Complete", "2016-05-19T05:00:00Z"),
        ended("old", "Complete", "2016-05-19T04:00:00Z"),
        ended("bad", "Failed", "2016-05-19T03:00:00Z"),
        job("running", json!({})),
    ];
    let surplus = surplus(&cron, &jobs);
    let names: Vec<&str> = surplus.iter().map(|job| job.name()).collect();
    assert_eq!(names, ["old", "bad"]);
}

#[test]
fn ended_jobs_are_active_no_more() {
    let mut status = status(None, &["good", "bad", "lost"]);
    let jobs = [
        ended("good", "Complete", "2016-05-19T05:00:00Z"),
        ended("older", "Complete", "2016-05-19T04:00:00Z"),
        ended("bad", "Failed", "2016-05-19T06:00:00Z"),
        job("stranger", json!({})),
    ];
    assert_eq!(unexpected(&status, &jobs)[0].name(), "stranger");
    let events = note_ended(&mut status, &jobs);
    let texts: Vec<&str> = events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Saw completed job: good, condition: Complete",
            "Saw completed job: bad, condition: Failed"
        ]
    );
    assert_eq!(
        status.last_successful_time,
        Some(Time(at("2016-05-19T05:00:00Z")))
    );
    let missing = missing(&status, &jobs);
    assert_eq!(missing[0].name.as_deref(), Some("lost"));
    deactivate(&mut status, "lost");
    assert!(status.active.is_none());
}

//! Upstream's cases of TestControllerSyncJob and its kin, retold as stories.

use serde_json::{Value, json};

use super::*;
use crate::job::view;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut all = json!({"parallelism": 2, "completions": 5, "backoffLimit": 6, "completionMode": "NonIndexed"});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    let mut known = json!({"startTime": at(-1000).to_string()});
    for (key, value) in status.as_object().unwrap() {
        known[key] = value.clone();
    }
    let job = json!({"metadata": {"name": "job", "namespace": "ns", "uid": "j"}, "spec": all, "status": known});
    serde_json::from_value(job).unwrap()
}

/// `name phase`, with a `!` behind the name of one that is being deleted, then perhaps `i=index`,
/// `f=failures`, `ready`, `free` for one without finalizer and `end=second`.
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    let name = words[0].trim_end_matches('!');
    let mut annotations = json!({});
    if let Some(index) = value("i=") {
        annotations[INDEX] = index.into();
    }
    if let Some(failures) = value("f=") {
        annotations[FAILURES] = failures.into();
    }
    let finalizers: &[&str] = if words.contains(&"free") {
        &[]
    } else {
        &[FINALIZER]
    };
    let end: i64 = value("end=").map_or(-500, |end| end.parse().unwrap());
    let conditions = match words.contains(&"ready") {
        true => json!([{"type": "Ready", "status": "True"}]),
        false => json!([]),
    };
    let state = match words[1] {
        "Failed" | "Succeeded" => {
            let code = value("code=").map_or(1, |code| code.parse().unwrap());
            json!({"terminated": {"exitCode": code, "finishedAt": at(end).to_string()}})
        }
        _ => json!({}),
    };
    let restarts: i32 = value("r=").map_or(0, |restarts| restarts.parse().unwrap());
    let deleted = words[0].ends_with('!').then(|| at(end).to_string());
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": annotations,
                "finalizers": finalizers, "deletionTimestamp": deleted, "deletionGracePeriodSeconds": 0},
            "spec": {"nodeName": "n"},
            "status": {"phase": words[1], "conditions": conditions,
                "containerStatuses": [{"name": "main", "state": state, "restartCount": restarts}]},
        }))
        .unwrap(),
    )
}

/// A job and its pods, and what came of syncing them.
struct Story {
    job: Job,
    pods: Vec<Arc<Pod>>,
    backoff: Backoff,
    changes: Changes,
    released: Vec<String>,
    status: JobStatus,
    events: Vec<Event>,
    flushes: usize,
}

impl Story {
    fn new(job: Job, pods: &[&str]) -> Self {
        Self {
            status: job.status.clone(),
            job,
            pods: pods.iter().map(|text| pod(text)).collect(),
            backoff: Backoff::default(),
            changes: Changes::default(),
            released: Vec::new(),
            events: Vec::new(),
            flushes: 0,
        }
    }

    /// One sync in which everything succeeds.
    fn sync(mut self) -> Self {
        let observed = Observed {
            job: &self.job,
            pods: &self.pods,
            backoff: self.backoff,
            now: at(0),
        };
        let (mut sync, changes) = Sync::begin(observed);
        let ready = changes.delete.iter().filter(|pod| pod.is_ready()).count();
        let outcome = Outcome {
            deleted: changes.delete.len(),
            deleted_ready: ready,
            created: changes.create.len(),
        };
        sync.changed(&changes, outcome);
        let (flush, release) = sync.track();
        self.flushes += usize::from(flush);
        self.released = release.iter().map(|pod| pod.uid().to_string()).collect();
        self.flushes += usize::from(sync.finish(&self.released));
        (self.status, self.events, self.backoff) = (sync.status, sync.events, sync.backoff);
        self.changes = changes;
        self
    }

    /// The next sync, after the status was written and some pods have changed.
    fn then(mut self, pods: &[&str]) -> Self {
        self.job.status = self.status.clone();
        self.pods = pods.iter().map(|text| pod(text)).collect();
        self.sync()
    }

    fn deleted(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.changes.delete.iter().map(|pod| pod.name()).collect();
        names.sort_unstable();
        names
    }

    fn created(&self) -> Vec<u32> {
        self.changes
            .create
            .iter()
            .filter_map(|one| one.index)
            .collect()
    }

    /// active, ready, terminating, succeeded, failed.
    fn counts(&self) -> [i32; 5] {
        let status = &self.status;
        [
            status.active,
            status.ready,
            status.terminating,
            status.succeeded,
            status.failed,
        ]
        .map(|count| count.unwrap_or(0))
    }

    /// `type reason: message` of the conditions that hold.
    fn conditions(&self) -> Vec<String> {
        let holding = self
            .status
            .conditions
            .iter()
            .flatten()
            .filter(|found| found.status == "True");
        let texts = holding.map(|found| {
            let (reason, message) = (found.reason.as_deref(), found.message.as_deref());
            format!("{} {}: {}", found.type_, reason.unwrap(), message.unwrap())
        });
        texts.collect()
    }

    fn reasons(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| event.reason.as_str())
            .collect()
    }
}

#[test]
fn as_many_pods_run_as_may_and_must() {
    for (name, spec, status, pods, create, deleted, counts) in [
        (
            "starts",
            json!({}),
            json!({}),
            &[][..],
            2,
            &[][..],
            [2, 0, 0, 0, 0],
        ),
        (
            "starts, any success will do",
            json!({"completions": null}),
            json!({}),
            &[],
            2,
            &[],
            [2, 0, 0, 0, 0],
        ),
        (
            "runs",
            json!({}),
            json!({}),
            &["a Running ready", "b Pending"],
            0,
            &[],
            [2, 1, 0, 0, 0],
        ),
        (
            "too few",
            json!({}),
            json!({}),
            &["a Running"],
            1,
            &[],
            [2, 0, 0, 0, 0],
        ),
        (
            "too many",
            json!({}),
            json!({}),
            &["a Running ready", "b Running ready", "c Pending"],
            0,
            &["c"],
            [2, 2, 1, 0, 0],
        ),
        (
            "the last ones",
            json!({}),
            json!({"succeeded": 4}),
            &[],
            1,
            &[],
            [1, 0, 0, 4, 0],
        ),
        (
            "one has ended",
            json!({}),
            json!({}),
            &["a Succeeded", "b Running"],
            1,
            &[],
            [2, 0, 0, 1, 0],
        ),
        (
            "a failed one is replaced",
            json!({}),
            json!({}),
            &["a Failed", "b Running"],
            1,
            &[],
            [2, 0, 0, 0, 1],
        ),
        (
            "one that goes is replaced",
            json!({}),
            json!({}),
            &["a! Running", "b Running"],
            1,
            &[],
            [2, 0, 1, 0, 1],
        ),
        (
            "but not if only failed ones are",
            json!({"podReplacementPolicy": "Failed"}),
            json!({}),
            &["a! Running", "b Running"],
            0,
            &[],
            [1, 0, 1, 0, 0],
        ),
        (
            "a success is enough",
            json!({"completions": null}),
            json!({}),
            &["a Succeeded", "b Running"],
            0,
            &[],
            [1, 0, 0, 1, 0],
        ),
        (
            "parallelism 0",
            json!({"parallelism": 0}),
            json!({}),
            &["a Running"],
            0,
            &["a"],
            [0, 0, 1, 0, 0],
        ),
        (
            "suspended",
            json!({"suspend": true}),
            json!({}),
            &["a Running ready", "b Running"],
            0,
            &["a", "b"],
            [0, 0, 2, 0, 0],
        ),
    ] {
        let story = Story::new(job(spec, status), pods).sync();
        assert_eq!(story.changes.create.len(), create, "{name}");
        assert_eq!(story.deleted(), deleted, "{name}");
        assert_eq!(story.counts(), counts, "{name}");
    }
}

#[test]
fn a_job_completes_when_enough_pods_have_succeeded() {
    let story = Story::new(
        job(json!({}), json!({"succeeded": 3})),
        &["a Succeeded", "b Succeeded"],
    )
    .sync();
    assert_eq!(
        story.conditions(),
        [
            "SuccessCriteriaMet CompletionsReached: Reached expected number of succeeded pods",
            "Complete CompletionsReached: Reached expected number of succeeded pods",
        ]
    );
    assert_eq!(story.status.completion_time, Some(Time(at(0))));
    assert_eq!(story.reasons(), ["Completed"]);
    assert_eq!((story.counts(), story.flushes), ([0, 0, 0, 5, 0], 2));
    assert_eq!(story.released, ["a", "b"]);
    let uncounted = story.status.uncounted_terminated_pods.unwrap();
    assert!(uncounted.succeeded.is_none() && uncounted.failed.is_none());
}

#[test]
fn pods_that_still_go_delay_the_end() {
    let job = job(json!({"completions": 1}), json!({}));
    let story = Story::new(job, &["a Succeeded", "b! Running"]).sync();
    assert_eq!(story.conditions().len(), 1, "the criteria are met");
    assert!(story.reasons().is_empty());
    let story = story.then(&[]);
    assert_eq!(story.reasons(), ["Completed"]);
    assert_eq!(story.conditions().len(), 2);
}

#[test]
fn too_many_successes_are_told() {
    let story = Story::new(
        job(json!({"completions": 1}), json!({})),
        &["a Succeeded", "b Succeeded"],
    )
    .sync();
    assert_eq!(story.reasons(), ["TooManySucceededPods", "Completed"]);
}

#[test]
fn a_job_fails_in_upstreams_words() {
    let late = json!({"startTime": at(-20).to_string()});
    for (name, spec, status, pods, reason, message) in [
        (
            "backoff limit",
            json!({"backoffLimit": 1}),
            json!({"failed": 1}),
            &["a Failed", "b Running"][..],
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ),
        (
            "no backoff",
            json!({"backoffLimit": 0}),
            json!({}),
            &["a Failed"],
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ),
        (
            "restarts",
            json!({"backoffLimit": 3, "template": {"spec": {"restartPolicy": "OnFailure"}}}),
            json!({}),
            &["a Running r=2", "b Running r=1"],
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ),
        (
            "deadline",
            json!({"activeDeadlineSeconds": 10}),
            late,
            &["a Running ready"],
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        ),
        (
            "policy",
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]}}),
            json!({}),
            &["a Failed code=3", "b Running"],
            "PodFailurePolicy",
            "Container main for pod ns/a failed with exit code 3 matching FailJob rule at index 0",
        ),
    ] {
        let story = Story::new(job(spec, status), pods).sync();
        let running: Vec<&str> = pods
            .iter()
            .filter(|pod| pod.contains("Running"))
            .map(|pod| &pod[..1])
            .collect();
        assert_eq!(story.deleted(), running, "{name}");
        assert!(!story.changes.release, "{name}: they count as failed");
        let target = format!("FailureTarget {reason}: {message}");
        assert_eq!(story.conditions()[0], target, "{name}");
        let ended: Vec<String> = running
            .iter()
            .map(|name| format!("{name} Failed"))
            .collect();
        let story = match running.is_empty() {
            true => story,
            false => story.then(&ended.iter().map(String::as_str).collect::<Vec<_>>()),
        };
        let failed = format!("Failed {reason}: {message}");
        assert!(story.conditions().contains(&failed), "{name}");
    }
}

#[test]
fn ignored_failures_do_not_count() {
    let policy = json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]},
        "backoffLimit": 0});
    let mut story = Story::new(job(policy, json!({})), &["a Failed"]);
    let mut disrupted = (*story.pods[0]).clone();
    disrupted.status.conditions =
        serde_json::from_value(json!([{"type": "DisruptionTarget", "status": "True"}])).unwrap();
    story.pods = vec![Arc::new(disrupted)];
    let story = story.sync();
    assert_eq!((story.counts()[4], story.changes.create.len()), (0, 2));
    assert_eq!(story.released, ["a"]);
    assert!(story.conditions().is_empty());
}

#[test]
fn failures_delay_the_next_pods() {
    let story = Story::new(job(json!({}), json!({})), &["a Failed end=-3", "b Running"]).sync();
    assert!(story.changes.create.is_empty());
    assert_eq!(story.changes.again, Some(Duration::from_secs(7)));
    assert_eq!(
        story.backoff,
        Backoff {
            failures: 1,
            last: Some(at(-3))
        }
    );
    assert_eq!(story.counts(), [1, 0, 0, 0, 1]);
}

#[test]
fn a_deadline_wakes_the_job() {
    let spec = json!({"activeDeadlineSeconds": 30});
    let status = json!({"startTime": at(-20).to_string()});
    let story = Story::new(job(spec, status), &["a Running", "b Running"]).sync();
    assert_eq!(story.changes.again, Some(Duration::from_secs(10)));
}

#[test]
fn suspending_and_resuming_move_the_start() {
    let story = Story::new(job(json!({"suspend": true}), json!({})), &["a Running"]).sync();
    assert!(
        story.changes.release,
        "what is deleted does not count as failed"
    );
    assert_eq!(
        story.conditions(),
        ["Suspended JobSuspended: Job suspended"]
    );
    assert_eq!(
        (story.reasons(), story.status.start_time.clone()),
        (vec!["Suspended"], None)
    );
    let mut story = story;
    story.job.spec.suspend = false;
    let story = story.then(&[]);
    assert_eq!(story.reasons(), ["Resumed"]);
    assert_eq!(story.status.start_time, Some(Time(at(0))));
    assert_eq!(story.changes.create.len(), 2);
    let condition = view::find(&story.status, "Suspended").unwrap();
    assert_eq!(
        (&*condition.status, condition.reason.as_deref()),
        ("False", Some("JobResumed"))
    );
}

#[test]
fn a_job_that_is_deleted_only_lets_its_pods_go() {
    let mut story = Story::new(job(json!({}), json!({})), &["a Running", "b Failed"]);
    story.job.metadata.deletion_timestamp = Some(Time(at(0)));
    let story = story.sync();
    assert!(story.changes.create.is_empty() && story.changes.delete.is_empty());
    assert_eq!(story.released, ["a", "b"]);
}

#[test]
fn every_index_succeeds_once() {
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3});
    let story = Story::new(job(spec, json!({})), &[]).sync();
    assert_eq!(story.created(), [0, 1, 2]);
    let story = story.then(&["a Succeeded i=0", "b Running i=1", "c Running i=2"]);
    assert_eq!(story.created(), [3]);
    assert_eq!(story.status.completed_indexes.as_deref(), Some("0"));
    let story = story.then(&[
        "b Failed i=1",
        "c Succeeded i=2",
        "d Succeeded i=3",
        "e Running",
        "f Running i=9",
    ]);
    assert_eq!(story.deleted(), ["e", "f"], "no index, or one too high");
    let story = story.then(&["b2 Succeeded i=1"]);
    assert_eq!(story.status.completed_indexes.as_deref(), Some("0-3"));
    assert_eq!(story.counts(), [0, 0, 0, 4, 1]);
    assert_eq!(story.reasons(), ["Completed"]);
}

#[test]
fn one_of_two_pods_of_an_index_goes() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2});
    let story = Story::new(
        job(spec, json!({})),
        &["a Running i=0 ready", "b Pending i=0", "c Running i=1"],
    )
    .sync();
    assert_eq!(story.deleted(), ["b"]);
    assert!(story.changes.release);
}

#[test]
fn enough_indexes_end_a_job_by_its_policy() {
    let spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}});
    let story = Story::new(
        job(spec, json!({})),
        &["a Succeeded i=0", "b Running i=1", "c Running i=2"],
    )
    .sync();
    assert_eq!(story.deleted(), ["b", "c"]);
    assert_eq!(
        story.conditions(),
        ["SuccessCriteriaMet SuccessPolicy: Matched rules at index 0"]
    );
    let story = story.then(&["b Failed i=1", "c Failed i=2"]);
    assert_eq!(
        story.conditions()[1],
        "Complete SuccessPolicy: Matched rules at index 0"
    );
    assert_eq!(story.status.completed_indexes.as_deref(), Some("0"));
    assert_eq!(story.reasons(), ["Completed"]);
}

fn per_index(more: Value) -> Job {
    let mut spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    job(spec, json!({}))
}

#[test]
fn indexes_fail_one_by_one() {
    let story = Story::new(
        per_index(json!({})),
        &["a Failed i=0 f=0", "b Running i=1", "c Running i=2"],
    )
    .sync();
    let want = Creation {
        index: Some(0),
        failures: Some((1, 0)),
    };
    assert_eq!(story.changes.create, [want]);
    assert!(story.released.is_empty(), "its successor must see it");
    assert_eq!(story.status.failed_indexes.as_deref(), Some(""));

    let story = story.then(&[
        "a Failed i=0 f=0",
        "a2 Running i=0 f=1",
        "b Running i=1",
        "c Running i=2",
    ]);
    assert_eq!(story.released, ["a"]);
    let story = story.then(&["a2 Failed i=0 f=1", "b Succeeded i=1", "c Running i=2"]);
    assert!(story.changes.create.is_empty());
    assert_eq!(story.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(story.status.completed_indexes.as_deref(), Some("1"));
    let story = story.then(&["c Succeeded i=2"]);
    assert_eq!(
        story.conditions(),
        [
            "FailureTarget FailedIndexes: Job has failed indexes",
            "Failed FailedIndexes: Job has failed indexes"
        ]
    );
    assert_eq!(story.reasons(), ["FailedIndexes"]);
}

#[test]
fn an_index_waits_for_its_own_failures() {
    let story = Story::new(
        per_index(json!({"backoffLimitPerIndex": 5})),
        &["a Failed i=0 f=1 end=-5", "b Running i=1", "c Running i=2"],
    )
    .sync();
    assert!(story.changes.create.is_empty());
    assert_eq!(story.changes.again, Some(Duration::from_secs(15)));
}

#[test]
fn too_many_failed_indexes_end_a_job() {
    let job = per_index(json!({"maxFailedIndexes": 1, "backoffLimitPerIndex": 0}));
    let story = Story::new(job, &["a Failed i=0", "b Failed i=1", "c Running i=2"]).sync();
    assert_eq!(story.deleted(), ["c"]);
    assert_eq!(
        story.conditions(),
        [
            "FailureTarget MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes"
        ]
    );
}

#[test]
fn a_rule_fails_an_index_at_once() {
    let job = per_index(json!({"podFailurePolicy": {"rules": [
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]}}));
    let story = Story::new(
        job,
        &["a Failed i=0 f=0 code=42", "b Running i=1", "c Running i=2"],
    )
    .sync();
    assert_eq!(story.status.failed_indexes.as_deref(), Some("0"));
    assert!(story.changes.create.is_empty());
    assert_eq!(story.released, ["a"]);
}

/// Every crash between two writes leaves what the next sync counts right.
#[test]
fn pods_are_counted_once_whatever_dies_in_between() {
    let job = job(json!({"completions": 3}), json!({}));
    let pods: Vec<Arc<Pod>> = ["a Succeeded", "b Failed"].map(pod).to_vec();
    let observe = |job, pods| Observed {
        job,
        pods,
        backoff: Backoff::default(),
        now: at(0),
    };
    let (mut sync, changes) = Sync::begin(observe(&job, &pods));
    sync.changed(&changes, Outcome::default());
    let (flush, release) = sync.track();
    assert!(flush && release.len() == 2);
    let noted = sync.status.clone();
    let uids = noted.uncounted_terminated_pods.clone().unwrap();
    assert_eq!(
        (uids.succeeded, uids.failed),
        (Some(vec!["a".into()]), Some(vec!["b".into()]))
    );

    // It died when the status was written and one finalizer was gone.
    let mut job = job;
    job.status = noted;
    let pods: Vec<Arc<Pod>> = ["a Succeeded free", "b Failed"].map(pod).to_vec();
    let (mut sync, changes) = Sync::begin(observe(&job, &pods));
    sync.changed(&changes, Outcome::default());
    let (flush, release) = sync.track();
    assert!(flush && release.len() == 1);
    assert_eq!((sync.status.succeeded, sync.status.failed), (Some(1), None));
    assert!(sync.finish(&["b".to_string()]));
    assert_eq!(
        (sync.status.succeeded, sync.status.failed),
        (Some(1), Some(1))
    );
}

#[test]
fn so_many_pods_are_noted_at_a_time() {
    let texts: Vec<String> = (0..UNCOUNTED_MAX + 20)
        .map(|at| format!("p{at} Succeeded"))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let count = i32::try_from(texts.len()).unwrap();
    let story = Story::new(job(json!({"completions": count}), json!({})), &texts).sync();
    assert_eq!(story.released.len(), UNCOUNTED_MAX);
    assert!(
        story.reasons().is_empty(),
        "it does not end before all are counted"
    );
    let story = story.then(&texts[UNCOUNTED_MAX..]);
    assert_eq!(
        (story.counts()[3], story.reasons()),
        (count, vec!["Completed"])
    );
}

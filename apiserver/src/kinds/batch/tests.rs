//! A good Job and a good CronJob, and one wrong field at a time.

use super::cron_job::CRON_JOB;
use super::job::JOB;
use crate::kinds::testing::{Case, cases, changed, conformed, prepared_create};

const POD: &str = r#"{"restartPolicy":"Never","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler",
    "containers":[{"name":"c","image":"nginx","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{}}]}"#;

fn job() -> String {
    let labels = r#"{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"j","controller-uid":"u","job-name":"j"}"#;
    format!(
        r#"{{"apiVersion":"batch/v1","kind":"Job","metadata":{{"name":"j","namespace":"n","uid":"u"}},
        "spec":{{"parallelism":1,"completions":2,"backoffLimit":6,"completionMode":"Indexed","suspend":false,"podReplacementPolicy":"Failed",
            "selector":{{"matchLabels":{{"batch.kubernetes.io/controller-uid":"u"}}}},
            "podFailurePolicy":{{"rules":[{{"action":"Ignore","onPodConditions":[{{"type":"DisruptionTarget","status":"True"}}]}},{{"action":"FailJob","onExitCodes":{{"containerName":"c","operator":"In","values":[1,2]}}}}]}},
            "successPolicy":{{"rules":[{{"succeededIndexes":"0-1","succeededCount":1}}]}},
            "template":{{"metadata":{{"labels":{labels}}},"spec":{POD}}}}},
        "status":{{}}}}"#
    )
}

#[test]
fn jobs() {
    let rules = "spec podFailurePolicy rules";
    cases(
        &JOB,
        &job(),
        &[
            Case::create(
                "spec parallelism",
                "-1",
                &["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"],
            ),
            Case::create(
                "spec completions",
                "-",
                &[
                    "spec.completions: Required value: when completion mode is Indexed",
                    r#"spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-1": error parsing succeededIndexes: too large index: "0""#,
                    "spec.successPolicy.rules[0].succeededCount: Invalid value: 1: must be less than or equal to 0 (the number of specified completions)",
                    "spec.successPolicy.rules[0].succeededCount: Invalid value: 1: must be less than or equal to 0 (the number of indexes in the specified succeededIndexes field)",
                ],
            ),
            Case::create(
                "spec completionMode",
                r#""NonIndexed""#,
                &[
                    r#"spec.successPolicy: Invalid value: {"rules":[{"succeededIndexes":"0-1","succeededCount":1}]}: requires indexed completion mode"#,
                ],
            ),
            Case::create(
                "spec maxFailedIndexes",
                "1",
                &["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"],
            ),
            Case::create(
                "spec managedBy",
                r#""x""#,
                &[
                    r#"spec.managedBy: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")"#,
                ],
            ),
            Case::create(
                "spec selector",
                "-",
                &[
                    "spec.selector: Required value",
                    r#"spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"j","controller-uid":"u","job-name":"j"}: `selector` does not match template `labels`"#,
                ],
            ),
            Case::create(
                "spec template metadata labels controller-uid",
                r#""v""#,
                &[
                    r#"spec.template.metadata.labels[controller-uid]: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"j","controller-uid":"v","job-name":"j"}: must be 'u'"#,
                ],
            ),
            Case::create(
                "spec template spec restartPolicy",
                r#""Always""#,
                &[
                    r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#,
                ],
            ),
            Case::create(
                "spec template spec restartPolicy",
                r#""OnFailure""#,
                &[
                    r#"spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#,
                ],
            ),
            Case::create(
                &format!("{rules} 0 action"),
                r#""x""#,
                &[
                    r#"spec.podFailurePolicy.rules[0].action: Unsupported value: "x": supported values: "Count", "FailIndex", "FailJob", "Ignore""#,
                ],
            ),
            Case::create(
                &format!("{rules} 0 action"),
                r#""""#,
                &[
                    r#"spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#,
                ],
            ),
            Case::create(
                &format!("{rules} 0 onPodConditions"),
                "-",
                &[
                    "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                ],
            ),
            Case::create(
                &format!("{rules} 1 onExitCodes values"),
                "[2,1,0]",
                &[
                    "spec.podFailurePolicy.rules[1].onExitCodes.values[2]: Invalid value: 0: must not be 0 for the In operator",
                    "spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [2,1,0]: must be ordered",
                ],
            ),
            Case::create(
                &format!("{rules} 1 onExitCodes containerName"),
                r#""z""#,
                &[
                    r#"spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: "z": must be one of the container or initContainer names in the pod template"#,
                ],
            ),
            Case::create(
                "spec podReplacementPolicy",
                r#""TerminatingOrFailed""#,
                &[
                    r#"spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed""#,
                ],
            ),
            Case::update("spec parallelism", "5", &[]),
            Case::update(
                "spec completions",
                "3",
                &[
                    "spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism",
                ],
            ),
            Case::update(
                "spec backoffLimitPerIndex",
                "3",
                &["spec.backoffLimitPerIndex: Invalid value: 3: field is immutable"],
            ),
        ],
    );
}

#[test]
fn templates_change_while_nothing_runs() {
    let suspended = changed(&conformed(&job()), "spec suspend", "true").to_string();
    let spec = "spec template spec";
    cases(
        &JOB,
        &suspended,
        &[
            Case::update(&format!("{spec} nodeSelector"), r#"{"a":"b"}"#, &[]),
            Case::update(
                &format!("{spec} containers 0 resources"),
                r#"{"requests":{"cpu":"1"}}"#,
                &[],
            ),
            Case::update(
                &format!("{spec} containers 0 image"),
                r#""x""#,
                &["spec.template.spec: Invalid value: {…"],
            ),
        ],
    );
    cases(
        &JOB,
        &job(),
        &[Case::update(
            &format!("{spec} nodeSelector"),
            r#"{"a":"b"}"#,
            &["spec.template: Invalid value: {…"],
        )],
    );
}

#[test]
fn selectors_are_generated() {
    let new = prepared_create(
        &JOB,
        r#"{"metadata":{"name":"j","uid":"u"},"spec":{"template":{"metadata":{"labels":{"job-name":"x"}}}}}"#,
    );
    assert_eq!(
        new.root().path(&["spec"]).unwrap().to_string(),
        r#"{"template":{"metadata":{"labels":{"job-name":"x","batch.kubernetes.io/job-name":"j","controller-uid":"u","batch.kubernetes.io/controller-uid":"u"}}},"selector":{"matchLabels":{"batch.kubernetes.io/controller-uid":"u"}}}"#
    );
    let manual = prepared_create(&JOB, r#"{"spec":{"manualSelector":true}}"#);
    assert_eq!(
        manual.root().path(&["spec"]).unwrap().to_string(),
        r#"{"manualSelector":true}"#
    );
}

#[test]
fn statuses() {
    let running = changed(
        &conformed(&job()),
        "status",
        r#"{"active":1,"failed":2,"succeeded":1,"startTime":"2024-01-01T00:00:00Z","conditions":[{"type":"FailureTarget","status":"True"}]}"#,
    )
    .to_string();
    let status = |path: &str, value: &str, want: &[&str]| Case::sub("status", path, value, want);
    cases(
        &JOB,
        &running,
        &[
            status(
                "status failed",
                "1",
                &["status.failed: Invalid value: 1: cannot decrease the failed counter"],
            ),
            status(
                "status succeeded",
                "0",
                &["status.succeeded: Invalid value: 0: cannot decrease the succeeded counter"],
            ),
            status(
                "status startTime",
                r#""2024-01-02T00:00:00Z""#,
                &[
                    r#"status.startTime: Invalid value: "2024-01-02T00:00:00Z": field is immutable for unsuspended job once set"#,
                ],
            ),
            status(
                "status conditions",
                "[]",
                &[
                    "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                ],
            ),
            status(
                "status conditions 1",
                r#"{"type":"Failed","status":"True"}"#,
                &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
            ),
            status(
                "status conditions 1",
                r#"{"type":"Complete","status":"True"}"#,
                &[
                    "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
                    "status.completionTime: Required value: completionTime is required for Complete jobs",
                    "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                    "status.active: Invalid value: 1: active>0 is invalid for finished job",
                    "status.conditions: Invalid value: cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
                ],
            ),
            status(
                "status completedIndexes",
                r#""1,0""#,
                &[
                    r#"status.completedIndexes: Invalid value: "1,0": error parsing completedIndexes: non-increasing order, previous: 1, current: 0"#,
                ],
            ),
            status(
                "status failedIndexes",
                r#""0""#,
                &[
                    r#"status.failedIndexes: Invalid value: "0": cannot set non-null failedIndexes when backoffLimitPerIndex is null"#,
                ],
            ),
            status(
                "status ready",
                "2",
                &["status.ready: Invalid value: 2: cannot set more ready pods than active"],
            ),
            status(
                "status uncountedTerminatedPods",
                r#"{"succeeded":["a"],"failed":["a"]}"#,
                &[r#"status.uncountedTerminatedPods.failed[0]: Duplicate value: "a""#],
            ),
        ],
    );
}

#[test]
fn cron_jobs() {
    let good = format!(
        r#"{{"apiVersion":"batch/v1","kind":"CronJob","metadata":{{"name":"c","namespace":"n"}},
        "spec":{{"schedule":"*/5 * * * *","timeZone":"Europe/Paris","concurrencyPolicy":"Allow","suspend":false,"successfulJobsHistoryLimit":3,
            "jobTemplate":{{"metadata":{{}},"spec":{{"template":{{"metadata":{{}},"spec":{POD}}}}}}}}},"status":{{}}}}"#
    );
    cases(
        &CRON_JOB,
        &good,
        &[
            Case::create("spec schedule", r#""""#, &["spec.schedule: Required value"]),
            Case::create(
                "spec schedule",
                r#""error""#,
                &[
                    r#"spec.schedule: Invalid value: "error": expected exactly 5 fields, found 1: [error]"#,
                ],
            ),
            Case::create(
                "spec schedule",
                r#""TZ=UTC 0 * * * *""#,
                &[
                    r#"spec.schedule: Invalid value: "TZ=UTC 0 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#,
                ],
            ),
            Case::create(
                "spec timeZone",
                r#""Europe/Atlantis""#,
                &[
                    r#"spec.timeZone: Invalid value: "Europe/Atlantis": unknown time zone Europe/Atlantis"#,
                ],
            ),
            Case::create(
                "spec timeZone",
                r#""Local""#,
                &[
                    r#"spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"#,
                ],
            ),
            Case::create(
                "spec timeZone",
                r#""""#,
                &[r#"spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string"#],
            ),
            Case::create(
                "spec concurrencyPolicy",
                r#""x""#,
                &[
                    r#"spec.concurrencyPolicy: Unsupported value: "x": supported values: "Allow", "Forbid", "Replace""#,
                ],
            ),
            Case::create(
                "spec startingDeadlineSeconds",
                "-1",
                &[
                    "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            Case::create(
                "spec jobTemplate spec selector",
                r#"{"matchLabels":{"a":"b"}}"#,
                &[
                    r#"spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated"#,
                ],
            ),
            Case::create(
                "spec jobTemplate spec manualSelector",
                "true",
                &[
                    r#"spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false""#,
                ],
            ),
            Case::create(
                "metadata name",
                &format!("{:?}", "a".repeat(53)),
                &[&format!(
                    "metadata.name: Invalid value: {:?}: must be no more than 52 characters",
                    "a".repeat(53)
                )],
            ),
            Case::create(
                "spec jobTemplate spec template spec containers 0 name",
                r#""""#,
                &["spec.jobTemplate.spec.template.spec.containers[0].name: Required value"],
            ),
        ],
    );
}

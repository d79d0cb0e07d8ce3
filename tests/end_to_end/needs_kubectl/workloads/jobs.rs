//! Jobs: completions, indexes, limits, policies, suspension.

use crate::support::Kubectl;

/// A Job with further lines of its spec, whose container runs a command.
fn manifest(name: &str, spec: &str, command: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
{spec}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers: [{{name: work, image: busybox, command: {command}}}]
"
    )
}

const QUICK: &str = "[sleep, '1']";
const ENDLESS: &str = "[sleep, '1000']";
const FAILURE: &str = "[sh, -c, exit 42]";

fn condition(kind: &str, field: &str) -> String {
    format!(r#"{{.status.conditions[?(@.type=="{kind}")].{field}}}"#)
}

pub(super) fn complete_as_often_as_asked(kubectl: &Kubectl) {
    kubectl.apply(&manifest(
        "five",
        "  completions: 5\n  parallelism: 2",
        QUICK,
    ));
    kubectl.shows(&["job", "five"], "{.status.active}", "2");
    kubectl.must(&[
        "wait",
        "--for=condition=Complete",
        "job/five",
        "--timeout=80s",
    ]);
    let counts = "{.status.succeeded} {.status.failed} {.status.active}";
    assert_eq!(kubectl.path(&["job", "five"], counts), "5  ");
    assert_eq!(
        kubectl.count("pods", "job-name=five"),
        5,
        "no more than were asked for"
    );
    let told = kubectl.must(&["describe", "job", "five"]);
    assert!(
        told.contains("SuccessfulCreate") && told.contains("Completed"),
        "{told}"
    );
    let phases = kubectl.path(&["pods"], "{.items[*].status.phase}");
    assert_eq!(phases, ["Succeeded"; 5].join(" "));
    kubectl.must(&["delete", "job", "five"]);
    kubectl.shows(&["pods"], "{.items}", "[]");
    // One that is not wanted once it is done.
    kubectl.apply(&manifest("brief", "  ttlSecondsAfterFinished: 1", QUICK));
    kubectl.is_gone("job/brief");
}

pub(super) fn number_their_pods(kubectl: &Kubectl) {
    let spec = "  completionMode: Indexed\n  completions: 3\n  parallelism: 3";
    kubectl.apply(&manifest("parts", spec, QUICK));
    kubectl.must(&[
        "wait",
        "--for=condition=Complete",
        "job/parts",
        "--timeout=60s",
    ]);
    assert_eq!(
        kubectl.path(&["job", "parts"], "{.status.completedIndexes}"),
        "0-2"
    );
    let index = r"{range .items[*]}{.metadata.annotations.batch\.kubernetes\.io/job-completion-index} {.spec.hostname};{end}";
    let mut pods: Vec<String> = kubectl
        .path(&["pods"], index)
        .split(';')
        .map(str::to_owned)
        .collect();
    pods.sort();
    assert_eq!(pods, ["", "0 parts-0", "1 parts-1", "2 parts-2"]);
    // Every index may fail so often by itself.
    let spec =
        "  completionMode: Indexed\n  completions: 2\n  parallelism: 2\n  backoffLimitPerIndex: 0";
    kubectl.apply(&manifest("failing", spec, FAILURE));
    kubectl.shows(
        &["job", "failing"],
        &condition("Failed", "reason"),
        "FailedIndexes",
    );
    assert_eq!(
        kubectl.path(&["job", "failing"], "{.status.failedIndexes}"),
        "0,1"
    );
}

pub(super) fn give_up_after_enough_failures(kubectl: &Kubectl) {
    kubectl.apply(&manifest("failing", "  backoffLimit: 1", FAILURE));
    kubectl.shows(
        &["job", "failing"],
        &condition("Failed", "reason"),
        "BackoffLimitExceeded",
    );
    assert_eq!(kubectl.path(&["job", "failing"], "{.status.failed}"), "2");
    let made = "{.items[*].metadata.creationTimestamp}";
    let made = kubectl.path(&["pods", "--sort-by=.metadata.creationTimestamp"], made);
    let (first, second) = made.split_once(' ').expect("two pods");
    assert!(first < second, "the second one waits a while: {made}");
    let told = kubectl.must(&["describe", "job", "failing"]);
    assert!(
        told.contains("Job has reached the specified backoff limit"),
        "{told}"
    );
}

pub(super) fn end_as_their_policies_say(kubectl: &Kubectl) {
    let spec = "
  backoffLimit: 6
  podFailurePolicy:
    rules:
    - {action: FailJob, onExitCodes: {operator: In, values: [42]}}";
    kubectl.apply(&manifest("hopeless", spec, FAILURE));
    kubectl.shows(
        &["job", "hopeless"],
        &condition("Failed", "reason"),
        "PodFailurePolicy",
    );
    assert_eq!(kubectl.path(&["job", "hopeless"], "{.status.failed}"), "1");

    kubectl.apply(&manifest("late", "  activeDeadlineSeconds: 2", ENDLESS));
    kubectl.shows(
        &["job", "late"],
        &condition("Failed", "reason"),
        "DeadlineExceeded",
    );
    kubectl.shows(
        &["pods", "-l", "job-name=late"],
        "{.items[*].status.phase}",
        "",
    );

    let spec = "
  completionMode: Indexed
  completions: 3
  parallelism: 1
  successPolicy: {rules: [{succeededIndexes: '0'}]}";
    kubectl.apply(&manifest("enough", spec, QUICK));
    kubectl.must(&[
        "wait",
        "--for=condition=Complete",
        "job/enough",
        "--timeout=60s",
    ]);
    let reason = condition("SuccessCriteriaMet", "reason");
    assert_eq!(kubectl.path(&["job", "enough"], &reason), "SuccessPolicy");
}

pub(super) fn wait_while_they_are_suspended(kubectl: &Kubectl) {
    kubectl.apply(&manifest("later", "  suspend: true", QUICK));
    kubectl.shows(&["job", "later"], &condition("Suspended", "status"), "True");
    assert_eq!(kubectl.count("pods", "job-name=later"), 0);
    kubectl.must(&[
        "patch",
        "job",
        "later",
        "-p",
        r#"{"spec":{"suspend":false}}"#,
    ]);
    kubectl.must(&[
        "wait",
        "--for=condition=Complete",
        "job/later",
        "--timeout=60s",
    ]);

    kubectl.apply(&manifest("held", "  parallelism: 2", ENDLESS));
    kubectl.shows(&["job", "held"], "{.status.active}", "2");
    kubectl.must(&["patch", "job", "held", "-p", r#"{"spec":{"suspend":true}}"#]);
    kubectl.shows(&["pods", "-l", "job-name=held"], "{.items}", "[]");
    assert_eq!(
        kubectl.path(&["job", "held"], &condition("Suspended", "reason")),
        "JobSuspended"
    );
    assert_eq!(
        kubectl.path(&["job", "held"], "{.status.failed}"),
        "",
        "nothing failed"
    );
}

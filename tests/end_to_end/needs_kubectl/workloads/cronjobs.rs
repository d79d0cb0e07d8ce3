//! CronJobs: Jobs on time, and by hand.

use crate::support::Kubectl;

pub(super) fn make_jobs_when_they_are_due(kubectl: &Kubectl) {
    kubectl.must(&[
        "create",
        "cronjob",
        "minutely",
        "--image=busybox",
        "--schedule=* * * * *",
        "--",
        "true",
    ]);
    kubectl.must(&[
        "create",
        "cronjob",
        "yearly",
        "--image=busybox",
        "--schedule=0 0 1 1 *",
        "--",
        "true",
    ]);
    kubectl.must(&["create", "job", "now", "--from=cronjob/yearly"]);
    kubectl.must(&[
        "wait",
        "--for=condition=Complete",
        "job/now",
        "--timeout=60s",
    ]);
    let owner = "{.metadata.ownerReferences[0].kind}/{.metadata.ownerReferences[0].name}";
    assert_eq!(kubectl.path(&["job", "now"], owner), "CronJob/yearly");
    let manually = r"{.metadata.annotations.cronjob\.kubernetes\.io/instantiate}";
    assert_eq!(kubectl.path(&["job", "now"], manually), "manual");

    // Due within a minute.
    let made = kubectl.prints(&["get", "jobs", "-o", "name"], "job.batch/minutely-");
    let job = made.lines().find(|name| name.contains("minutely")).unwrap();
    kubectl.must(&["wait", "--for=condition=Complete", job, "--timeout=60s"]);
    let scheduled = kubectl.path(&["cronjob", "minutely"], "{.status.lastScheduleTime}");
    assert!(scheduled.ends_with(":00Z"), "on the minute: {scheduled}");
    kubectl.prints(
        &[
            "get",
            "cronjob",
            "minutely",
            "-ojsonpath={.status.lastSuccessfulTime}",
        ],
        "Z",
    );
    assert_eq!(
        kubectl.path(&["cronjob", "yearly"], "{.status.lastScheduleTime}"),
        ""
    );
    let told = kubectl.must(&["describe", "cronjob", "minutely"]);
    assert!(told.contains("SuccessfulCreate"), "{told}");
}

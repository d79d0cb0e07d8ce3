//! CronJobs on a real API server.

use client::clock;
use k8s_openapi::api::batch::v1 as batch;
use kube::api::ListParams;

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually, gone};

const ROW: Row = Row::of::<CronJobs>("cronjob-controller", "cronjob-controller");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_starts_what_is_due_and_cleans_up() {
    let cluster = Cluster::start().await;
    cluster.server.namespace("a").await;
    let crons = Api::<batch::CronJob>::namespaced(cluster.admin.clone(), "a");
    let jobs = Api::<batch::Job>::namespaced(cluster.admin.clone(), "a");
    let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let cron = json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": template,
        "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 0}});
    crons
        .create(
            &PostParams::default(),
            &serde_json::from_value(cron).unwrap(),
        )
        .await
        .unwrap();
    // Its last time was an hour ago: one job is due.
    let hour = jiff::SignedDuration::from_secs(3600);
    let last = clock::now(&*cluster.seams.clock) - hour;
    let patch = Patch::Merge(json!({"status": {"lastScheduleTime": last.to_string()}}));
    crons
        .patch_status("c", &PatchParams::default(), &patch)
        .await
        .unwrap();
    cluster.run(&[ROW]);
    let job = eventually("a job is started", || async {
        jobs.list(&ListParams::default()).await.unwrap().items.pop()
    })
    .await;
    let status = eventually("the job is active", || async {
        let status = crons.get("c").await.unwrap().status.unwrap_or_default();
        status.active.is_some().then_some(status)
    })
    .await;
    assert_eq!(status.active.unwrap()[0].uid, job.metadata.uid);
    let name = job.metadata.name.unwrap();
    let now = clock::now(&*cluster.seams.clock).to_string();
    let complete = json!({"status": {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": [
        {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": now, "lastProbeTime": now},
        {"type": "Complete", "status": "True", "lastTransitionTime": now, "lastProbeTime": now}]}});
    jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(complete))
        .await
        .unwrap();
    gone(&jobs, &name).await;
    eventually("nothing but the success is left of it", || async {
        let status = crons.get("c").await.unwrap().status.unwrap_or_default();
        let is_active = status
            .active
            .iter()
            .flatten()
            .any(|found| found.name.as_ref() == Some(&name));
        (!is_active && status.last_successful_time.is_some()).then_some(())
    })
    .await;
}

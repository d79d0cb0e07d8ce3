//! Jobs on a real API server.

use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::Value;

use super::*;
use crate::controller::Row;
use crate::testing::{Cluster, eventually};

const ROW: Row = Row::of::<Jobs>("job-controller", "job-controller");

async fn cluster() -> (Cluster, Api<LivePod>, Api<k8s_openapi::api::batch::v1::Job>) {
    let cluster = Cluster::start().await;
    cluster.server.namespace("a").await;
    cluster.run(&[ROW]);
    let pods = Api::namespaced(cluster.admin.clone(), "a");
    let jobs = Api::namespaced(cluster.admin.clone(), "a");
    (cluster, pods, jobs)
}

type LivePod = k8s_openapi::api::core::v1::Pod;

fn job(name: &str, mut spec: Value) -> k8s_openapi::api::batch::v1::Job {
    spec["template"] =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

async fn running(pods: &Api<LivePod>) -> Vec<LivePod> {
    let all = pods.list(&ListParams::default()).await.unwrap();
    let phase = |pod: &LivePod| pod.status.as_ref().and_then(|status| status.phase.clone());
    let is_new = |pod: &LivePod| {
        phase(pod).as_deref() == Some("Pending") && pod.metadata.deletion_timestamp.is_none()
    };
    all.items.into_iter().filter(is_new).collect()
}

async fn end(pods: &Api<LivePod>, pod: &LivePod, phase: &str) {
    let name = pod.metadata.name.clone().unwrap();
    let patch = Patch::Merge(json!({"status": {"phase": phase}}));
    pods.patch_status(&name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexed_job_runs_to_its_end() {
    let (_cluster, pods, jobs) = cluster().await;
    let spec = json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"});
    jobs.create(&PostParams::default(), &job("j", spec))
        .await
        .unwrap();
    for _ in 0..3 {
        let pod = eventually("a pod runs", || async { running(&pods).await.pop() }).await;
        end(&pods, &pod, "Succeeded").await;
    }
    let job = eventually("the job is complete", || async {
        let job = jobs.get("j").await.unwrap();
        let status = job.status.clone().unwrap_or_default();
        status.completion_time.is_some().then_some(job)
    });
    let status = job.await.status.unwrap();
    assert_eq!(
        (status.succeeded, status.completed_indexes.as_deref()),
        (Some(3), Some("0-2"))
    );
    assert_eq!((status.active, status.failed), (None, None));
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|pod| pod.metadata.finalizers.is_none()));
    let conditions: Vec<String> = status
        .conditions
        .unwrap()
        .into_iter()
        .map(|found| found.type_)
        .collect();
    assert_eq!(conditions, ["SuccessCriteriaMet", "Complete"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_fails_and_its_pods_are_let_go_of_when_it_is_gone() {
    let (_cluster, pods, jobs) = cluster().await;
    jobs.create(
        &PostParams::default(),
        &job(
            "j",
            json!({"backoffLimit": 0, "parallelism": 2, "completions": 2}),
        ),
    )
    .await
    .unwrap();
    let two = eventually("two pods run", || async {
        Some(running(&pods).await).filter(|found| found.len() == 2)
    })
    .await;
    end(&pods, &two[0], "Failed").await;
    let status = eventually("the job has failed", || async {
        let status = jobs.get("j").await.unwrap().status.unwrap_or_default();
        // The other pod goes when its node says so.
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            if pod.metadata.deletion_timestamp.is_some() {
                let now = DeleteParams::default().grace_period(0);
                let _ = pods
                    .delete(pod.metadata.name.as_deref().unwrap(), &now)
                    .await;
            }
        }
        let has_failed = status
            .conditions
            .iter()
            .flatten()
            .any(|found| found.type_ == "Failed");
        has_failed.then_some(status)
    });
    let status = status.await;
    let failed = status
        .conditions
        .unwrap()
        .into_iter()
        .find(|found| found.type_ == "Failed")
        .unwrap();
    assert_eq!(failed.reason.as_deref(), Some("BackoffLimitExceeded"));

    jobs.create(&PostParams::default(), &job("k", json!({})))
        .await
        .unwrap();
    let held = eventually("a pod is held", || async { running(&pods).await.pop() }).await;
    assert_eq!(held.metadata.finalizers.as_deref().unwrap(), [FINALIZER]);
    jobs.delete("k", &DeleteParams::background()).await.unwrap();
    let name = held.metadata.name.unwrap();
    eventually("the pod is let go of", || async {
        let pod = pods.get_opt(&name).await.unwrap();
        pod.is_none_or(|pod| pod.metadata.finalizers.is_none())
            .then_some(())
    })
    .await;
}

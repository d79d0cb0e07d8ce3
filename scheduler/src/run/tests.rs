//! The scheduler against a real API server on a store in memory.

use std::time::Duration;

use apiserver::testing::{PATIENCE, Server};
use apiserver::user::User;
use client::transport::transport;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;

struct Cluster {
    server: Server,
    tasks: Tasks,
}

impl Cluster {
    async fn start() -> Self {
        let server = Server::start().await;
        let api = server.api.clone();
        let access = Access::new("kube-scheduler", move |_: &Identity| {
            let user = User::new("system:kube-scheduler", &["system:authenticated"]);
            transport(apiserver::in_process::InProcess::new(api.clone(), user))
        });
        let seams = Seams::real();
        let tasks = seams.tasks();
        let config = Config::default();
        let scheduler = Scheduler::new(access, config, "host", Metrics::default(), &seams, &tasks);
        let scope = tasks.clone();
        tasks.spawn(
            "scheduler",
            async move { scheduler.run(None, &scope).await },
        );
        let cluster = Cluster { server, tasks };
        cluster
            .create(
                "/api/v1/namespaces/default/serviceaccounts",
                json!({"metadata": {"name": "default"}}),
            )
            .await;
        cluster
    }

    async fn create(&self, path: &str, body: Value) {
        let answer = self.server.ask("POST", path, &body.to_string()).await;
        assert!(
            answer.code < 300 || answer.code == 409,
            "{}: {}",
            answer.code,
            answer.doc
        );
    }

    async fn node(&self, name: &str, cpu: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": &name[name.len() - 1..]}}});
        self.create("/api/v1/nodes", node).await;
        let status = json!({"spec": {"taints": null}, "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "1000"},
            "capacity": {"cpu": cpu, "memory": "64Gi", "pods": "1000"}}});
        let path = format!("/api/v1/nodes/{name}");
        self.server
            .ask("PATCH", &path, &status.to_string())
            .await
            .ok();
        self.server
            .ask("PATCH", &format!("{path}/status"), &status.to_string())
            .await
            .ok();
    }

    async fn pod(&self, name: &str, cpu: &str, spec: Value) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}});
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        self.create("/api/v1/namespaces/default/pods", pod).await;
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.server.ask("GET", path, "").await;
        serde_json::from_str(&answer.doc.to_string()).unwrap()
    }

    async fn pods(&self) -> Vec<Value> {
        let list = self.get("/api/v1/namespaces/default/pods").await;
        list["items"].as_array().cloned().unwrap_or_default()
    }

    async fn eventually(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path).await;
            if holds(&found) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "waited too long until {what}: {found}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn notes(list: &Value, reason: &str) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    let events = items.filter(|event| event["reason"] == reason);
    events
        .map(|event| event["note"].as_str().unwrap_or_default().to_string())
        .collect()
}

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_pods_are_bound_and_none_twice() {
    let cluster = Cluster::start().await;
    for node in 0..10 {
        cluster.node(&format!("n{node}"), "4").await;
    }
    for pod in 0..300 {
        cluster.pod(&format!("p{pod}"), "100m", json!({})).await;
    }
    let all_bound = |list: &Value| {
        let items = list["items"].as_array().unwrap();
        items.len() == 300 && items.iter().all(|pod| pod["spec"]["nodeName"].is_string())
    };
    cluster
        .eventually(
            "all are bound",
            "/api/v1/namespaces/default/pods",
            all_bound,
        )
        .await;
    let mut per_node = std::collections::BTreeMap::new();
    for pod in cluster.pods().await {
        *per_node
            .entry(pod["spec"]["nodeName"].as_str().unwrap().to_string())
            .or_insert(0) += 1;
    }
    assert!(
        per_node.values().all(|pods| (20..=40).contains(pods)),
        "{per_node:?}"
    );
    let events = cluster
        .eventually("it is told", EVENTS, |list| {
            notes(list, "Scheduled").len() >= 300
        })
        .await;
    let node = cluster.get("/api/v1/namespaces/default/pods/p0").await["spec"]["nodeName"].clone();
    let told = format!(
        "Successfully assigned default/p0 to {}",
        node.as_str().unwrap()
    );
    assert!(notes(&events, "Scheduled").contains(&told));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_place_says_why_and_goes_when_there_is_one() {
    let cluster = Cluster::start().await;
    cluster.node("n0", "1").await;
    cluster.pod("p", "2", json!({})).await;
    let path = "/api/v1/namespaces/default/pods/p";
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let pod = cluster
        .eventually("the condition is there", path, |pod| {
            pod["status"]["conditions"][0]["message"] == message
        })
        .await;
    let condition = &pod["status"]["conditions"][0];
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"]
        ),
        (
            &json!("PodScheduled"),
            &json!("False"),
            &json!("Unschedulable")
        )
    );
    cluster
        .eventually("it is told", EVENTS, |list| {
            notes(list, "FailedScheduling")
                .iter()
                .any(|note| note == message)
        })
        .await;
    cluster.node("n1", "4").await;
    cluster
        .eventually("it is bound", path, |pod| pod["spec"]["nodeName"] == "n1")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_make_way_for_a_pod_that_matters_more() {
    let cluster = Cluster::start().await;
    cluster.node("n0", "2").await;
    let high = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000});
    cluster
        .create("/apis/scheduling.k8s.io/v1/priorityclasses", high)
        .await;
    cluster
        .pod("low", "2", json!({"terminationGracePeriodSeconds": 0}))
        .await;
    let low = "/api/v1/namespaces/default/pods/low";
    let bound = cluster
        .eventually("low runs", low, |pod| pod["spec"]["nodeName"] == "n0")
        .await;
    cluster
        .pod("high", "2", json!({"priorityClassName": "high"}))
        .await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // There is no node agent: whoever is to go goes when its time is over.
        let pod = cluster.get(low).await;
        if pod["metadata"]["deletionTimestamp"].is_string() {
            let conditions = pod["status"]["conditions"].as_array().unwrap().clone();
            let target = conditions
                .iter()
                .find(|one| one["type"] == "DisruptionTarget")
                .unwrap();
            assert_eq!(target["reason"], "PreemptionByScheduler");
            assert_eq!(
                target["message"],
                "default-scheduler: preempting to accommodate a higher priority pod"
            );
            let high = cluster.get("/api/v1/namespaces/default/pods/high").await;
            let _ = &high;
            cluster
                .server
                .ask("DELETE", low, r#"{"gracePeriodSeconds": 0}"#)
                .await
                .ok();
            break;
        }
        if pod["metadata"]["uid"] != bound["metadata"]["uid"] {
            break;
        }
        assert!(Instant::now() < deadline, "nobody made way: {pod}");
        sleep(Duration::from_millis(20)).await;
    }
    cluster
        .eventually("high runs", "/api/v1/namespaces/default/pods/high", |pod| {
            pod["spec"]["nodeName"] == "n0"
        })
        .await;
    let high = cluster.get("/api/v1/namespaces/default/pods/high").await;
    let uid = high["metadata"]["uid"].as_str().unwrap();
    let told = format!("Preempted by pod {uid} on node n0");
    cluster
        .eventually("it is told", EVENTS, |list| {
            notes(list, "Preempted").contains(&told)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_hold_a_pod_back() {
    let cluster = Cluster::start().await;
    cluster.node("n0", "2").await;
    cluster
        .pod(
            "p",
            "1",
            json!({"schedulingGates": [{"name": "example.com/g"}]}),
        )
        .await;
    cluster.pod("q", "1", json!({})).await;
    cluster
        .eventually("q runs", "/api/v1/namespaces/default/pods/q", |pod| {
            pod["spec"]["nodeName"] == "n0"
        })
        .await;
    let path = "/api/v1/namespaces/default/pods/p";
    assert!(cluster.get(path).await["spec"]["nodeName"].is_null());
    cluster
        .server
        .ask("PATCH", path, r#"{"spec": {"schedulingGates": null}}"#)
        .await
        .ok();
    cluster
        .eventually("p runs", path, |pod| pod["spec"]["nodeName"] == "n0")
        .await;
}

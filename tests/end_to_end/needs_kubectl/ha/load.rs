//! What is written while masters come and go: a writer whose acknowledgements are kept, Jobs that show
//! whether anybody reconciles, and rollouts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::server::{Failure, Server, version_of};

pub(super) const NAMESPACE: &str = "load";
pub(super) const CONFIG_MAPS: &str = "/api/v1/namespaces/load/configmaps";
pub(super) const PODS: &str = "/api/v1/namespaces/load/pods";
pub(super) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/load/deployments";
pub(super) const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/load/replicasets";
pub(super) const STATEFUL_SETS: &str = "/apis/apps/v1/namespaces/load/statefulsets";
pub(super) const JOBS: &str = "/apis/batch/v1/namespaces/load/jobs";
pub(super) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// Pods that every Job shall have in its life.
pub(super) const COMPLETIONS: usize = 2;
/// Pods that the Deployment may have at a time: its replicas and its surge.
pub(super) const WEB_MOST: u64 = 5;

/// Between two objects of the writer, two Jobs, two rollouts of the Deployment and of the StatefulSet.
const WRITES: Duration = Duration::from_millis(40);
const JOBS_EVERY: Duration = Duration::from_millis(700);
const WEB_EVERY: Duration = Duration::from_secs(4);
const DB_EVERY: Duration = Duration::from_secs(15);
/// Between two attempts of a write that was not acknowledged.
const RETRY: Duration = Duration::from_millis(20);

/// A write that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) name: String,
    /// 0 of a deletion.
    pub(super) version: u64,
}

/// The load, which goes on until it is told to end.
#[derive(Clone, Default)]
pub(super) struct Load {
    acks: Arc<Mutex<Vec<Ack>>>,
    longest_gap: Arc<Mutex<Duration>>,
    jobs: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Load {
    pub(super) fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap().clone()
    }

    /// The longest time between two acknowledged writes.
    pub(super) fn longest_gap(&self) -> Duration {
        *self.longest_gap.lock().unwrap()
    }

    /// How many Jobs were acknowledged.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.ends.load(Ordering::Relaxed)
    }

    /// Makes, changes and deletes config maps, one request at a time.
    pub(super) async fn write(self, server: Server) {
        let mut last = Instant::now();
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let name = format!("w-{number:05}");
            let object = json!({"metadata": {"name": name}, "data": {"n": "0"}});
            let path = format!("{CONFIG_MAPS}/{name}");
            self.acknowledged(&name, make(&server, CONFIG_MAPS, &object).await);
            {
                let mut longest = self.longest_gap.lock().unwrap();
                *longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            if number % 3 == 0 {
                let changed = server.patch(&path, &json!({"data": {"n": "1"}})).await;
                self.acknowledged(&name, changed.ok());
            }
            if number % 5 == 0 && unmake(&server, &path).await {
                let version = 0;
                self.acks.lock().unwrap().push(Ack { name, version });
            }
            sleep(WRITES).await;
        }
    }

    fn acknowledged(&self, name: &str, object: Option<Value>) {
        if let Some(object) = object {
            let (name, version) = (name.to_owned(), version_of(&object));
            self.acks.lock().unwrap().push(Ack { name, version });
        }
    }

    /// Makes Jobs.
    pub(super) async fn work(self, server: Server) {
        while self.goes_on() {
            let name = format!("job-{:04}", self.jobs());
            if make(&server, JOBS, &job(&name)).await.is_some() {
                self.jobs.fetch_add(1, Ordering::Relaxed);
            }
            sleep(JOBS_EVERY).await;
        }
    }

    /// Rolls out a Deployment or a StatefulSet, again and again.
    pub(super) async fn roll(self, server: Server, path: &'static str, every: Duration) {
        let mut round = 0;
        while self.goes_on() {
            round += 1;
            let image = json!([{"name": "c", "image": format!("image:{round}")}]);
            let patch = json!({"spec": {"template": {"spec": {"containers": image}}}});
            // The next round is as good as another attempt.
            let _ = server.patch(path, &patch).await;
            let until = Instant::now() + every;
            while self.goes_on() && Instant::now() < until {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Starts everything, in a namespace that is there.
    pub(super) async fn start(&self, server: &Server) {
        make(server, DEPLOYMENTS, &web()).await;
        make(server, STATEFUL_SETS, &db()).await;
        tokio::spawn(self.clone().write(server.clone()));
        tokio::spawn(self.clone().work(server.clone()));
        let web = "/apis/apps/v1/namespaces/load/deployments/web";
        tokio::spawn(self.clone().roll(server.clone(), web, WEB_EVERY));
        let db = "/apis/apps/v1/namespaces/load/statefulsets/db";
        tokio::spawn(self.clone().roll(server.clone(), db, DB_EVERY));
    }
}

/// Makes an object, until a server says that it is there; yields it unless it is gone again.
pub(super) async fn make(server: &Server, path: &str, object: &Value) -> Option<Value> {
    let own = format!("{path}/{}", object["metadata"]["name"].as_str()?);
    loop {
        match server.create(path, object).await {
            Ok(made) => return Some(made),
            // An earlier attempt came through.
            Err(Failure::Refused(409, _)) => {
                if let Ok(made) = server.get(&own).await {
                    return Some(made);
                }
            }
            Err(Failure::Refused(400 | 403 | 422, message)) => panic!("{path}: {message}"),
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

/// Deletes an object; whether a server said that it did, or that it is not there.
async fn unmake(server: &Server, path: &str) -> bool {
    for _ in 0..50 {
        match server.delete(path).await {
            Ok(_) | Err(Failure::Refused(404, _)) => return true,
            Err(_) => sleep(RETRY).await,
        }
    }
    false
}

fn pods(label: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": label}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": image}],
        },
    })
}

fn web() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": WEB_MOST - 1,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": pods("web", "image:0"),
        },
    })
}

fn db() -> Value {
    json!({
        "metadata": {"name": "db"},
        "spec": {
            "replicas": 3,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": pods("db", "image:0"),
        },
    })
}

fn job(name: &str) -> Value {
    let mut template = pods("job", "work");
    template["spec"]["restartPolicy"] = "Never".into();
    json!({
        "metadata": {"name": name},
        "spec": {"completions": COMPLETIONS, "parallelism": COMPLETIONS, "template": template},
    })
}

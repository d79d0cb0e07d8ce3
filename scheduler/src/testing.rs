//! Clusters in a few lines, for tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cache::Cache;
use crate::cycle::{Attempt, Decision, Nominated, schedule};
use crate::preemption::{Circumstances, Outcome, post_filter};
use crate::profile::Profile;
use crate::views::{Node, Pod, PodDisruptionBudget};

/// Merges the fields of one object into another.
pub(crate) fn merged(mut one: Value, other: Value) -> Value {
    match (&mut one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in other {
                let before = one.remove(&key).unwrap_or(Value::Null);
                one.insert(key, merged(before, value));
            }
        }
        (_, Value::Null) => {}
        (one, other) => *one = other,
    }
    one
}

/// A node of 4 cores, 8 GiB and 110 pods, with its hostname; more as it is given.
pub(crate) fn node(name: &str, more: Value) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    Arc::new(serde_json::from_value(merged(node, more)).unwrap())
}

/// A node of a zone.
pub(crate) fn node_in(name: &str, zone: &str) -> Arc<Node> {
    let labels = json!({"topology.kubernetes.io/zone": zone});
    node(name, json!({"metadata": {"labels": labels}}))
}

/// A pod with one container that asks for nothing; more as it is given.
pub(crate) fn pod(name: &str, more: Value) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "i"}]},
    });
    Arc::new(serde_json::from_value(merged(pod, more)).unwrap())
}

/// A pod that asks for cpu.
pub(crate) fn pod_of(name: &str, cpu: &str, more: Value) -> Arc<Pod> {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    pod(
        name,
        merged(json!({"spec": {"containers": [container]}}), more),
    )
}

/// On a node.
pub(crate) fn on(node: &str, more: Value) -> Value {
    merged(json!({"spec": {"nodeName": node}}), more)
}

/// A cache with a profile.
pub(crate) struct Cluster {
    pub(crate) cache: Cache,
    pub(crate) profile: Profile,
    pub(crate) start: usize,
}

impl Cluster {
    pub(crate) fn new(nodes: impl IntoIterator<Item = Arc<Node>>) -> Self {
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|node| cache.set_node(&node));
        Cluster {
            cache,
            profile: Profile::default(),
            start: 0,
        }
    }

    /// With pods that run.
    pub(crate) fn with(mut self, pods: impl IntoIterator<Item = Arc<Pod>>) -> Self {
        pods.into_iter().for_each(|pod| self.cache.set_pod(&pod));
        self
    }

    /// One cycle.
    pub(crate) fn attempt(&mut self, pod: &Arc<Pod>, seed: u64) -> Attempt {
        let info = self.cache.prepare(pod, &self.profile.defaults);
        let nominated = Nominated::default();
        schedule(
            self.cache.snapshot(),
            &info,
            &self.profile,
            &nominated,
            self.start,
            seed,
        )
    }

    /// One cycle, and the pod assumed where it goes.
    pub(crate) fn place(&mut self, pod: &Arc<Pod>) -> Result<String, String> {
        let attempt = self.attempt(pod, 1);
        self.start = attempt.next_start;
        match attempt.decision {
            Decision::Place(placement) => {
                let info = self.cache.prepare(pod, &self.profile.defaults);
                self.cache.assume(&info, &placement.node);
                Ok(placement.node)
            }
            Decision::Unfit(diagnosis) => Err(diagnosis.message()),
            Decision::Error(error) => Err(error),
        }
    }

    /// A cycle that fails, and PostFilter after it: the outcome and the whole message.
    pub(crate) fn preempt(
        &mut self,
        pod: &Arc<Pod>,
        budgets: &[Arc<PodDisruptionBudget>],
    ) -> (Outcome, String) {
        let Decision::Unfit(mut diagnosis) = self.attempt(pod, 1).decision else {
            panic!("the pod fits");
        };
        let info = self.cache.prepare(pod, &self.profile.defaults);
        let circumstances = Circumstances {
            budgets,
            nominated: &Nominated::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            seed: 0,
        };
        let snapshot = self.cache.snapshot();
        let outcome = post_filter(snapshot, &info, &self.profile, &diagnosis, &circumstances);
        diagnosis.post_filter = outcome.message.clone();
        (outcome, diagnosis.message())
    }
}

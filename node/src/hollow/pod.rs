//! What a hollow node reads of a pod: a compact view, kept for every pod of the process.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::script::Script;

/// A pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its metadata.
    pub metadata: ObjectMeta,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

client::view!(Pod, k8s_openapi::api::core::v1::Pod);

/// What is wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) node_name: Option<String>,
    pub(super) host_network: bool,
    pub(super) restart_policy: Option<String>,
    pub(super) active_deadline_seconds: Option<i64>,
    pub(super) init_containers: Vec<Container>,
    pub(super) containers: Vec<Container>,
    pub(super) ephemeral_containers: Vec<Container>,
    pub(super) readiness_gates: Vec<Gate>,
}

/// A container as it is wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) restart_policy: Option<String>,
    pub(super) resources: Option<Json>,
    /// What its command would do, as far as that is plain to see.
    pub(super) script: Option<Script>,
}

impl<'de> Deserialize<'de> for Container {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Container, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Raw {
            name: String,
            image: String,
            restart_policy: Option<String>,
            resources: Option<Json>,
            command: Vec<String>,
            args: Vec<String>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let script = Script::of(&raw.image, &[raw.command, raw.args].concat());
        Ok(Container {
            name: raw.name,
            image: raw.image,
            restart_policy: raw.restart_policy,
            resources: raw.resources.filter(|json| !json.is_empty()),
            script,
        })
    }
}

/// A condition that has to be true before the pod is ready.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Gate {
    pub(super) condition_type: String,
}

/// What was reported, by the node or by others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    pub(super) start_time: Option<Time>,
    pub(super) observed_generation: Option<i64>,
    pub(super) conditions: Vec<Condition>,
    pub(super) init_container_statuses: Vec<ContainerStatus>,
    pub(super) container_statuses: Vec<ContainerStatus>,
    pub(super) ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) observed_generation: Option<i64>,
}

/// A container as it was reported.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerStatus {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) ready: bool,
    pub(super) restart_count: i32,
    pub(super) state: State,
    pub(super) last_state: State,
    pub(super) resources: Option<Json>,
}

/// The state of a container; at most one of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct State {
    pub(super) waiting: Option<Waiting>,
    pub(super) running: Option<Running>,
    pub(super) terminated: Option<Terminated>,
}

/// Why a container does not run yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Waiting {
    pub(super) reason: String,
}

/// Since when a container runs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Running {
    pub(super) started_at: Option<Time>,
}

/// How a container ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Terminated {
    pub(super) exit_code: i32,
    pub(super) reason: String,
    pub(super) started_at: Option<Time>,
    pub(super) finished_at: Option<Time>,
}

/// A document that is passed on as it came, as compact text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Json(Box<str>);

impl Json {
    pub(super) fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }

    fn is_empty(&self) -> bool {
        &*self.0 == "{}"
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Json(value.to_string().into_boxed_str()))
    }
}

impl Pod {
    pub(super) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// Whether its specification has changed since the node last spoke of it.
    pub(super) fn is_behind(&self) -> bool {
        self.status.observed_generation != Some(self.generation())
    }

    pub(super) fn phase(&self) -> &str {
        self.status.phase.as_deref().unwrap_or("Pending")
    }

    /// Whether it has come to its end, by whoever's word.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|one| one.kind == kind)
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// Whether a Job counts on its end.
    pub(super) fn is_of_a_job(&self) -> bool {
        let owners = self.metadata.owner_references.as_deref();
        owners
            .unwrap_or_default()
            .iter()
            .any(|owner| owner.kind == "Job" && owner.controller == Some(true))
    }

    /// Whether a container that ends is started again.
    pub(super) fn restarts(&self, container: &Container, code: i32) -> bool {
        let own = container.restart_policy.as_deref();
        match own.or(self.spec.restart_policy.as_deref()) {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        }
    }
}

impl Container {
    /// Whether an init container goes on beside the others.
    pub(super) fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

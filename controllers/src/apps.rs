//! The views of the kinds that keep pods running: Deployment, ReplicaSet, ReplicationController,
//! StatefulSet and DaemonSet. Templates are kept as text, statuses are small and whole.

use k8s_openapi::api::apps::v1::{
    DaemonSetStatus, DeploymentStatus, ReplicaSetStatus, StatefulSetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::adoption::Selects;
use crate::selector::{Labels, Selector};
use crate::template::Template;

/// A Deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: DeploymentSpec,
    /// What is.
    pub status: DeploymentStatus,
}

client::view!(Deployment, k8s_openapi::api::apps::v1::Deployment);

/// What is wanted of a Deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    /// How many pods.
    #[serde(deserialize_with = "replicas")]
    pub replicas: Replicas,
    /// Which pods are its own.
    pub selector: Selector,
    /// What they look like.
    pub template: Template,
    /// How new pods take the place of old ones.
    pub strategy: DeploymentStrategy,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// Whether it rests.
    pub paused: bool,
    /// How many old ReplicaSets are kept.
    pub revision_history_limit: Option<i32>,
    /// How long it may go without progress.
    pub progress_deadline_seconds: Option<i32>,
}

/// How new pods take the place of old ones.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStrategy {
    /// `RollingUpdate` or `Recreate`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The limits of a rolling update.
    pub rolling_update: Option<RollingUpdate>,
}

/// The limits of a rolling update.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    /// How many may be unavailable.
    pub max_unavailable: Option<IntOrString>,
    /// How many may be there beyond what is wanted.
    pub max_surge: Option<IntOrString>,
    /// Ordinals below stay as they are (StatefulSet).
    pub partition: Option<i32>,
}

/// A ReplicaSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSet {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ReplicaSetSpec,
    /// What is.
    pub status: ReplicaSetStatus,
}

client::view!(ReplicaSet, k8s_openapi::api::apps::v1::ReplicaSet);

/// What is wanted of a ReplicaSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetSpec {
    /// How many pods.
    #[serde(deserialize_with = "replicas")]
    pub replicas: Replicas,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// Which pods are its own.
    pub selector: Selector,
    /// What they look like.
    pub template: Template,
}

/// A ReplicationController: a ReplicaSet that selects by labels alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicationController {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(deserialize_with = "by_labels")]
    pub spec: ReplicaSetSpec,
    /// What is.
    pub status: ReplicaSetStatus,
}

client::view!(
    ReplicationController,
    k8s_openapi::api::core::v1::ReplicationController
);

/// A StatefulSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSet {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: StatefulSetSpec,
    /// What is.
    pub status: StatefulSetStatus,
}

client::view!(StatefulSet, k8s_openapi::api::apps::v1::StatefulSet);

/// What is wanted of a StatefulSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetSpec {
    /// How many pods.
    #[serde(deserialize_with = "replicas")]
    pub replicas: Replicas,
    /// Which pods are its own.
    pub selector: Selector,
    /// What they look like.
    pub template: Template,
    /// The claims that each pod gets.
    pub volume_claim_templates: Vec<Value>,
    /// The headless service that names its pods.
    pub service_name: String,
    /// `OrderedReady` or `Parallel`.
    pub pod_management_policy: String,
    /// How pods are renewed.
    pub update_strategy: DeploymentStrategy,
    /// How many old revisions are kept.
    pub revision_history_limit: Option<i32>,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// What becomes of claims.
    pub persistent_volume_claim_retention_policy: Option<ClaimRetention>,
    /// Where its pods' numbers start.
    pub ordinals: Ordinals,
}

/// What becomes of a StatefulSet's claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimRetention {
    /// `Retain` or `Delete`, when the set goes.
    pub when_deleted: String,
    /// `Retain` or `Delete`, when it shrinks.
    pub when_scaled: String,
}

/// Where the numbers of a StatefulSet's pods start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ordinals {
    /// The first.
    pub start: i32,
}

/// A DaemonSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSet {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: DaemonSetSpec,
    /// What is.
    pub status: DaemonSetStatus,
}

client::view!(DaemonSet, k8s_openapi::api::apps::v1::DaemonSet);

/// What is wanted of a DaemonSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetSpec {
    /// Which pods are its own.
    pub selector: Selector,
    /// What they look like.
    pub template: Template,
    /// How pods are renewed.
    pub update_strategy: DeploymentStrategy,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// How many old revisions are kept.
    pub revision_history_limit: Option<i32>,
}

macro_rules! selects {
    ($($view:ident),*) => {$(
        impl Selects for $view {
            fn selector(&self) -> &Selector {
                &self.spec.selector
            }
        }
    )*};
}

selects!(
    Deployment,
    ReplicaSet,
    ReplicationController,
    StatefulSet,
    DaemonSet
);

/// A number of pods; one, if an object does not say.
pub type Replicas = i32;

fn replicas<'de, D: Deserializer<'de>>(from: D) -> Result<Replicas, D::Error> {
    Ok(Option::<i32>::deserialize(from)?.unwrap_or(1))
}

/// The spec of a ReplicationController: its selector is labels, by default its template's.
fn by_labels<'de, D: Deserializer<'de>>(from: D) -> Result<ReplicaSetSpec, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        #[serde(deserialize_with = "replicas")]
        replicas: Replicas,
        min_ready_seconds: i32,
        selector: Labels,
        template: Option<Template>,
    }
    let spec = Spec::deserialize(from)?;
    Ok(ReplicaSetSpec {
        replicas: spec.replicas,
        min_ready_seconds: spec.min_ready_seconds,
        selector: Selector::of_labels(&spec.selector),
        template: spec.template.unwrap_or_default(),
    })
}

/// How many of `total` a number or a percentage is; `None` if it is neither.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    let text = match value {
        IntOrString::Int(number) => return Some(*number),
        IntOrString::String(text) => text,
    };
    let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
    let product = percent * i64::from(total);
    let rounded = if round_up {
        (product + 99).div_euclid(100)
    } else {
        product.div_euclid(100)
    };
    i32::try_from(rounded).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn percentages_are_of_the_total() {
        let percent = |text: &str| IntOrString::String(text.into());
        assert_eq!(scaled(&IntOrString::Int(3), 10, true), Some(3));
        assert_eq!(scaled(&percent("25%"), 10, true), Some(3));
        assert_eq!(scaled(&percent("25%"), 10, false), Some(2));
        assert_eq!(scaled(&percent("100%"), 7, false), Some(7));
        assert_eq!(scaled(&percent("x"), 7, false), None);
    }

    #[test]
    fn the_views_read_objects() {
        let rc: ReplicationController = serde_json::from_value(json!({
            "metadata": {"name": "rc"},
            "spec": {"replicas": 2, "selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}}},
            "status": {"replicas": 1}
        })).unwrap();
        assert_eq!((rc.spec.replicas, rc.status.replicas), (2, 1));
        assert!(rc.spec.selector.matches(Some(rc.spec.template.labels())));
        let set: StatefulSet = serde_json::from_value(json!({
            "spec": {"replicas": 0, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}},
                     "ordinals": {"start": 5}, "selector": {"matchLabels": {}}, "template": {}}
        })).unwrap();
        assert_eq!((set.spec.replicas, set.spec.ordinals.start), (0, 5));
        assert_eq!(
            set.spec.update_strategy.rolling_update.unwrap().partition,
            Some(2)
        );
    }
}

//! Namespaces, disruption budgets, and what tells which pods belong together.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, policy::v1 as policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;

/// A namespace: its labels.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Namespace {
    /// Name and labels.
    pub metadata: ObjectMeta,
}

client::view!(Namespace, core::Namespace);

/// A service: whom it selects.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// The selector.
    pub spec: MapSelector,
}

client::view!(Service, core::Service);

/// A replication controller: whom it selects.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReplicationController {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// The selector.
    pub spec: MapSelector,
}

client::view!(ReplicationController, core::ReplicationController);

/// A replica set: whom it selects.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReplicaSet {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// The selector.
    pub spec: SetSelector,
}

client::view!(ReplicaSet, apps::ReplicaSet);

/// A stateful set: whom it selects.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct StatefulSet {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// The selector.
    pub spec: SetSelector,
}

client::view!(StatefulSet, apps::StatefulSet);

/// A selector that is a map of labels.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct MapSelector {
    /// None selects nothing.
    #[serde(default)]
    pub selector: Option<BTreeMap<String, String>>,
}

/// A selector with expressions.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SetSelector {
    /// None selects nothing.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
}

/// A budget of disruptions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodDisruptionBudget {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Whom it protects.
    pub spec: SetSelector,
    /// What is left of it.
    pub status: Budget,
}

/// What a budget still allows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Budget {
    /// How many pods may be disrupted now.
    pub disruptions_allowed: i32,
    /// Pods whose disruption is counted already, with the time.
    pub disrupted_pods: BTreeMap<String, serde::de::IgnoredAny>,
}

client::view!(PodDisruptionBudget, policy::PodDisruptionBudget);

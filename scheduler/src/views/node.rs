//! Nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{Requests, name, trim, units};

/// A node as the scheduler sees it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "Raw")]
pub struct Node {
    /// Without what no plugin reads.
    pub metadata: ObjectMeta,
    /// spec.unschedulable: cordoned.
    pub unschedulable: bool,
    /// What keeps pods away.
    pub taints: Box<[core::Taint]>,
    /// What pods can ask for.
    pub allocatable: Requests,
    /// How many pods it takes.
    pub pods: i64,
    /// Images on it: names and size in bytes.
    pub images: Box<[(String, i64)]>,
    /// status.declaredFeatures.
    pub features: Box<[String]>,
}

client::view!(Node, core::Node);

impl Node {
    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.metadata)
    }

    /// Its labels.
    pub fn labels(&self) -> impl Iterator<Item = (&String, &String)> {
        self.metadata.labels.iter().flatten()
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    unschedulable: bool,
    taints: Vec<core::Taint>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    allocatable: BTreeMap<String, Quantity>,
    images: Vec<RawImage>,
    declared_features: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawImage {
    names: Vec<String>,
    size_bytes: i64,
}

impl From<Raw> for Node {
    fn from(mut raw: Raw) -> Self {
        trim(&mut raw.metadata);
        // A heartbeat changes the version and nothing else that is kept.
        raw.metadata.annotations = None;
        let images = raw.status.images.into_iter().flat_map(|image| {
            let size = image.size_bytes;
            image.names.into_iter().map(move |name| (name, size))
        });
        Node {
            unschedulable: raw.spec.unschedulable,
            taints: raw.spec.taints.into(),
            allocatable: Requests::of(&raw.status.allocatable),
            pods: raw.status.allocatable.get("pods").map_or(0, units),
            images: images.collect(),
            features: raw.status.declared_features.into(),
            metadata: raw.metadata,
        }
    }
}

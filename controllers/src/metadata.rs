//! The view of objects of any kind: who they are, whose they are, and whether they go.

use client::View;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

/// An object of any kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    metadata: ObjectMeta,
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: ObjectMeta,
        }
        let all = Object::deserialize(from)?.metadata;
        let metadata = ObjectMeta {
            name: all.name,
            namespace: all.namespace,
            uid: all.uid,
            resource_version: all.resource_version,
            owner_references: all.owner_references,
            finalizers: all.finalizers,
            deletion_timestamp: all.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata })
    }
}

impl View for Meta {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

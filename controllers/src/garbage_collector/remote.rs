//! Objects of any kind on the server, by who they are.

use std::sync::Arc;

use client::errors;
use http::Request as HttpRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{DynamicObject, PartialObjectMeta, Request};
use serde_json::Value;

use super::identity::Identity;
use super::plan::Policy;
use crate::catalog::Catalog;
use crate::controller::Error;

/// How often a patch is tried when others change the object at the same time.
const TRIES: usize = 5;

/// A look at an object.
pub(super) enum Found {
    /// It is there.
    Live(Box<ObjectMeta>),
    /// It is not, or another has its name.
    Absent,
    /// Nobody serves its kind, for all that is known.
    Unknown,
    /// Its kind is in namespaces and it is not: nobody can be meant.
    Nowhere,
}

/// Reads and writes objects.
pub(super) struct Remote {
    pub(super) client: kube::Client,
    pub(super) catalog: Arc<Catalog>,
}

impl Remote {
    /// The path of an object's collection; none if its kind is not known.
    fn path(&self, identity: &Identity) -> Option<Result<String, Found>> {
        let resource = self
            .catalog
            .of_kind(&identity.kind.api_version, &identity.kind.kind)?;
        let is_nowhere = resource.namespaced && identity.namespace.is_empty();
        Some(match is_nowhere {
            true => Err(Found::Nowhere),
            false => Ok(resource.path(&identity.namespace)),
        })
    }

    /// Whether the objects of a kind are in namespaces.
    pub(super) fn is_namespaced(&self, identity: &Identity) -> Option<bool> {
        let resource = self
            .catalog
            .of_kind(&identity.kind.api_version, &identity.kind.kind)?;
        Some(resource.namespaced)
    }

    /// Looks at an object.
    pub(super) async fn get(&self, identity: &Identity) -> Result<Found, Error> {
        let path = match self.path(identity) {
            None => return Ok(Found::Unknown),
            Some(Err(found)) => return Ok(found),
            Some(Ok(path)) => path,
        };
        let request = Request::new(path).get_metadata(&identity.name, &GetParams::default());
        match self.send(request).await {
            Ok(live) if live.uid.as_deref() == Some(&*identity.uid.to_string()) => {
                Ok(Found::Live(Box::new(live)))
            }
            Ok(_) => Ok(Found::Absent),
            Err(error) if errors::is_not_found(&error) => Ok(Found::Absent),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes an object by a merge patch that is made from it as it is. One that is gone, or needs no
    /// patch, is left alone.
    pub(super) async fn patch(
        &self,
        identity: &Identity,
        patch: impl Fn(&ObjectMeta) -> Option<Value>,
    ) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let Found::Live(live) = self.get(identity).await? else {
                return Ok(());
            };
            let (Some(patch), Some(Ok(path))) = (patch(&live), self.path(identity)) else {
                return Ok(());
            };
            let request = Request::new(path).patch_metadata(
                &identity.name,
                &PatchParams::default(),
                &Patch::Merge(patch),
            );
            tries += 1;
            match self.send(request).await {
                Err(error) if errors::is_conflict(&error) && tries < TRIES => {}
                Err(error) if errors::is_not_found(&error) => return Ok(()),
                result => return result.map(drop).map_err(Into::into),
            }
        }
    }

    /// Deletes an object if its owners are as they were read. Says whether it was there.
    pub(super) async fn delete(
        &self,
        identity: &Identity,
        read: &ObjectMeta,
        policy: Policy,
    ) -> Result<bool, Error> {
        let version = read.resource_version.clone();
        match self.delete_version(identity, version, policy).await {
            Err(error) if errors::is_conflict(&error) => {}
            result => return gone_or(result),
        }
        // Something has changed. If it was not the owners, that does not matter: an object that
        // changes all the time goes nevertheless.
        match self.get(identity).await? {
            Found::Live(live) if owners(&live) == owners(read) => {
                gone_or(self.delete_version(identity, None, policy).await)
            }
            Found::Live(_) => Err(Error::other(format!(
                "the owners of {identity} have changed"
            ))),
            _ => Ok(false),
        }
    }

    async fn delete_version(
        &self,
        identity: &Identity,
        version: Option<String>,
        policy: Policy,
    ) -> kube::Result<()> {
        let Some(Ok(path)) = self.path(identity) else {
            return Ok(());
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(identity.uid.to_string()),
                resource_version: version,
            }),
            propagation_policy: Some(match policy {
                Policy::Background => PropagationPolicy::Background,
                Policy::Foreground => PropagationPolicy::Foreground,
                Policy::Orphan => PropagationPolicy::Orphan,
            }),
            ..DeleteParams::default()
        };
        let request = Request::new(path).delete(&identity.name, &params);
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.client
            .request::<serde::de::IgnoredAny>(request)
            .await
            .map(drop)
    }

    async fn send(
        &self,
        request: Result<HttpRequest<Vec<u8>>, kube::core::request::Error>,
    ) -> kube::Result<ObjectMeta> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        let object: PartialObjectMeta<DynamicObject> = self.client.request(request).await?;
        Ok(object.metadata)
    }
}

fn gone_or(result: kube::Result<()>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if errors::is_not_found(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn owners(meta: &ObjectMeta) -> &[OwnerReference] {
    meta.owner_references.as_deref().unwrap_or_default()
}

//! Objects that are to be changed: fetched whole, for informers hold only parts, and only as they
//! were when they were judged.

use client::View;
use client::recorder::{EventType, Recorder};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::Status;

use crate::controller::Error;
use crate::note::Note;

/// Fetches an object that was seen.
///
/// # Errors
/// A conflict if it has changed since.
pub async fn fetch<K: View + Clone + std::fmt::Debug>(
    api: &Api<K>,
    seen: &ObjectMeta,
) -> Result<K, Error> {
    let name = seen.name.as_deref().unwrap_or_default();
    let found = api.get(name).await?;
    if found.meta().resource_version != seen.resource_version {
        let message = format!("{name} has changed since it was seen");
        let status = Status::failure(&message, "Conflict").with_code(409);
        return Err(kube::Error::Api(Box::new(status)).into());
    }
    Ok(found)
}

/// What an event about an object refers to.
pub fn reference<V: View + k8s_openapi::Resource>(object: &V) -> ObjectReference {
    let metadata = object.meta();
    ObjectReference {
        api_version: Some(V::API_VERSION.into()),
        kind: Some(V::KIND.into()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

/// Records what a plan wants said of an object.
pub fn say(recorder: &Recorder, object: &ObjectReference, note: &Note) {
    let kind = match note.is_warning {
        true => EventType::Warning,
        false => EventType::Normal,
    };
    recorder.event(object, kind, &note.reason, note.message.clone());
}

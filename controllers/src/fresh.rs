//! Objects that are to be changed: fetched whole, for informers hold only parts, and only as they
//! were when they were judged.

use client::View;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::Status;

use crate::controller::Error;

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

//! Objects at rest: between the registry and the store.
//!
//! - [`object`]: one stored object, as bytes that are ready to be sent
//! - [`Objects`]: what the server itself reads of them

#[cfg(test)]
pub(crate) mod fake;
pub mod object;

use std::sync::Arc;

pub use object::Object;

/// What authorization, admission and strategies read of the stored objects: the watch cache, as
/// fresh as it is. Whoever needs more asks the storage.
pub trait Objects: Send + Sync + 'static {
    /// One object; `namespace` is empty for those of the cluster.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;

    /// All objects of a resource in a namespace, or everywhere if it is empty, sorted by namespace
    /// and name.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>>;

    /// A number that changes whenever an object of the resource does: what was compiled from them
    /// holds as long as it stays.
    fn version(&self, group: &str, resource: &str) -> u64;
}

/// Waits for the watch cache.
#[async_trait::async_trait]
pub trait CatchUp: Send + Sync + 'static {
    /// Returns when the cache knows all that was written before the call, or gives up.
    async fn catch_up(&self);
}

/// Finds objects that others may have written a moment ago, on another server.
#[derive(Clone)]
pub struct Lookup {
    /// The cache.
    pub objects: Arc<dyn Objects>,
    /// How to wait for it; none in tests.
    pub catch_up: Option<Arc<dyn CatchUp>>,
}

impl Lookup {
    /// An object as the cache has it; what the cache does not know yet is waited for.
    pub async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        let found = self.objects.get(group, resource, namespace, name);
        match (&found, &self.catch_up) {
            (None, Some(_)) => self.latest(group, resource, namespace, name).await,
            _ => found,
        }
    }

    /// An object as it was when the call began, or newer.
    pub async fn latest(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        if let Some(catch_up) = &self.catch_up {
            catch_up.catch_up().await;
        }
        self.objects.get(group, resource, namespace, name)
    }
}

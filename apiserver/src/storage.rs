//! Objects at rest: between the registry and the store.
//!
//! - [`object`]: one stored object, as bytes that are ready to be sent
//! - [`Objects`]: what the server itself reads of them

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

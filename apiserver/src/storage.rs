//! Objects at rest: between the registry and the store.
//!
//! - [`keys`]: where objects stand in the store
//! - [`object`]: one stored object, as bytes that are ready to be sent
//! - [`collection`]: the objects of one resource in memory, now and a while ago
//! - [`cache`]: the watch cache, which keeps all of them
//! - writes: [`transact`]
//! - [`lookup`]: objects that another server may have written a moment ago
//! - [`Objects`]: what the server itself reads of them

pub mod cache;
pub mod collection;
#[cfg(test)]
pub(crate) mod fake;
pub mod keys;
pub mod lookup;
pub mod object;
pub mod transact;

use std::collections::HashMap;
use std::sync::Arc;

use raft_store::Store;
use seams::{Seams, Tasks};

pub use cache::{Cache, Source};
use collection::Pulled;
pub use collection::{Change, Collection, Cursor};
pub use lookup::{CatchUp, Lookup};
pub use object::Object;
pub use transact::{Along, WriteError, Writer};

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

    /// What happened to objects of a resource since a place, which moves on. Without a place, or when
    /// its past is forgotten, that is all of them.
    fn since(&self, group: &str, resource: &str, _place: &mut Option<Cursor>) -> Since {
        Since::All(self.list(group, resource, ""))
    }
}

/// What happened to objects.
pub enum Since {
    /// All that there are now.
    All(Vec<Arc<Object>>),
    /// Changes, in order.
    Changes(Vec<Arc<Change>>),
}

/// Everything that is stored: read from memory, written to the store.
pub struct Storage {
    /// The watch cache.
    pub cache: Arc<Cache>,
    /// Writes.
    pub writer: Writer,
    /// By group, then by resource.
    by_name: HashMap<String, HashMap<String, Arc<Collection>>>,
}

impl Storage {
    /// Storage of some resources, by group and name. It is filled as soon as the store answers.
    pub fn start(
        store: Arc<dyn Store>,
        sources: Vec<((String, String), Source)>,
        seams: &Seams,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let mut by_name: HashMap<String, HashMap<String, _>> = HashMap::new();
        for ((group, resource), source) in &sources {
            let group = by_name.entry(group.clone()).or_default();
            group.insert(resource.clone(), source.collection.clone());
        }
        let sources = sources.into_iter().map(|(_, source)| source).collect();
        let cache = Cache::new(store.clone(), sources);
        cache.follow(seams, tasks);
        Arc::new(Self {
            cache,
            writer: Writer::new(store, seams.clone()),
            by_name,
        })
    }

    fn collection(&self, group: &str, resource: &str) -> Option<&Collection> {
        Some(&**self.by_name.get(group)?.get(resource)?)
    }
}

impl Objects for Storage {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.collection(group, resource)?
            .get(&keys::local(namespace, name))
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let Some(collection) = self.collection(group, resource) else {
            return Vec::new();
        };
        let tree = collection.tree();
        collection::within(&tree, namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn version(&self, group: &str, resource: &str) -> u64 {
        self.collection(group, resource)
            .map_or(0, Collection::version)
    }

    fn since(&self, group: &str, resource: &str, place: &mut Option<Cursor>) -> Since {
        let Some(collection) = self.collection(group, resource) else {
            return Since::All(Vec::new());
        };
        if let Some(place) = place
            && let Pulled::Changes(changes) = collection.pull(place, usize::MAX)
        {
            return Since::Changes(changes);
        }
        let (tree, _, end) = collection.state();
        *place = Some(end);
        Since::All(tree.values().cloned().collect())
    }
}

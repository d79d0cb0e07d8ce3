//! Objects in memory, by namespace and name, with indexes. No IO and no time: changes go in, and what
//! they change comes out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use crate::key::{Key, View};

/// What changed: what there was and what there is now.
pub type Change<V> = (Option<Arc<V>>, Option<Arc<V>>);

/// The keys under which an index finds an object.
pub type IndexBy<V> = fn(&V) -> Vec<String>;

type Names<V> = BTreeMap<Arc<str>, Arc<V>>;

/// What an index finds under one key. Most find one object, and a tree of one takes the room of
/// eleven.
enum Bucket<V> {
    One(Key, Arc<V>),
    Many(BTreeMap<Key, Arc<V>>),
}

/// Objects and their indexes.
pub struct Store<V> {
    namespaces: BTreeMap<Arc<str>, Names<V>>,
    len: usize,
    indexes: Vec<Indexed<V>>,
}

struct Indexed<V> {
    name: &'static str,
    by: IndexBy<V>,
    buckets: BTreeMap<String, Bucket<V>>,
}

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self {
            namespaces: BTreeMap::new(),
            len: 0,
            indexes: Vec::new(),
        }
    }
}

impl<V: View> Store<V> {
    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<V>> {
        self.namespaces.get(namespace)?.get(name).cloned()
    }

    /// All objects.
    pub fn list(&self) -> Vec<Arc<V>> {
        let mut all = Vec::with_capacity(self.len);
        all.extend(self.namespaces.values().flat_map(BTreeMap::values).cloned());
        all
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<V>> {
        let names = self.namespaces.get(namespace);
        names.map_or_else(Vec::new, |names| names.values().cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A new or changed object. One that took the place of another of its name is a deletion and a
    /// creation.
    pub fn put(&mut self, object: V) -> Vec<Change<V>> {
        let key = self.known_as(Key::of(&object));
        let new = Arc::new(object);
        let names = self.namespaces.entry(key.namespace.clone()).or_default();
        let old = names.insert(key.name.clone(), new.clone());
        self.len += usize::from(old.is_none());
        for index in &mut self.indexes {
            index.change(&key, old.as_ref(), Some(&new));
        }
        match old {
            Some(old) if old.meta().uid != new.meta().uid => {
                vec![(Some(old), None), (None, Some(new))]
            }
            old => vec![(old, Some(new))],
        }
    }

    /// A key that shares its texts with what is here already.
    fn known_as(&self, key: Key) -> Key {
        let Some((namespace, names)) = self.namespaces.get_key_value(&key.namespace) else {
            return key;
        };
        let name = names.get_key_value(&key.name).map(|(name, _)| name.clone());
        Key {
            namespace: namespace.clone(),
            name: name.unwrap_or(key.name),
        }
    }

    /// An object is gone; this is how it was last.
    pub fn remove(&mut self, last: V) -> Option<Change<V>> {
        self.take(&Key::of(&last))?;
        Some((Some(Arc::new(last)), None))
    }

    fn take(&mut self, key: &Key) -> Option<Arc<V>> {
        let names = self.namespaces.get_mut(&*key.namespace)?;
        let old = names.remove(&*key.name)?;
        if names.is_empty() {
            self.namespaces.remove(&*key.namespace);
        }
        self.len -= 1;
        for index in &mut self.indexes {
            index.change(key, Some(&old), None);
        }
        Some(old)
    }

    /// These are all objects there are. What did not change is no change.
    pub fn replace(&mut self, objects: BTreeMap<Key, V>) -> Vec<Change<V>> {
        let mut changes = Vec::new();
        let known = self.namespaces.iter().flat_map(|(namespace, names)| {
            names.keys().map(move |name| Key {
                namespace: namespace.clone(),
                name: name.clone(),
            })
        });
        let gone: Vec<Key> = known.filter(|key| !objects.contains_key(key)).collect();
        for key in gone {
            changes.extend(self.take(&key).map(|old| (Some(old), None)));
        }
        for (key, object) in objects {
            let known = self.get(&key.namespace, &key.name);
            let version = |object: &V| object.meta().resource_version.clone();
            if known.is_none_or(|known| version(&known) != version(&object)) {
                changes.extend(self.put(object));
            }
        }
        changes
    }

    fn index(&mut self, name: &'static str, by: IndexBy<V>) -> usize {
        if let Some(at) = self.indexes.iter().position(|index| index.name == name) {
            return at;
        }
        let buckets = BTreeMap::new();
        let mut index = Indexed { name, by, buckets };
        for object in self.list() {
            index.change(&Key::of(&*object), None, Some(&object));
        }
        self.indexes.push(index);
        self.indexes.len() - 1
    }
}

impl<V: View> Indexed<V> {
    fn change(&mut self, key: &Key, old: Option<&Arc<V>>, new: Option<&Arc<V>>) {
        for value in old.map(|old| (self.by)(old)).unwrap_or_default() {
            if let Some(bucket) = self.buckets.get_mut(&value)
                && bucket.is_empty_without(key)
            {
                self.buckets.remove(&value);
            }
        }
        if let Some(new) = new {
            for value in (self.by)(new) {
                match self.buckets.entry(value) {
                    Entry::Occupied(bucket) => bucket.into_mut().put(key, new),
                    Entry::Vacant(bucket) => {
                        bucket.insert(Bucket::One(key.clone(), new.clone()));
                    }
                }
            }
        }
    }
}

impl<V> Bucket<V> {
    fn put(&mut self, key: &Key, new: &Arc<V>) {
        match self {
            Self::One(known, object) if known == key => *object = new.clone(),
            Self::One(known, object) => {
                let both = [(known.clone(), object.clone()), (key.clone(), new.clone())];
                *self = Self::Many(both.into());
            }
            Self::Many(objects) => {
                objects.insert(key.clone(), new.clone());
            }
        }
    }

    /// Takes an object out; true if nothing is left.
    fn is_empty_without(&mut self, key: &Key) -> bool {
        match self {
            Self::One(known, _) => known == key,
            Self::Many(objects) => {
                objects.remove(key);
                objects.is_empty()
            }
        }
    }

    fn list(&self) -> Vec<Arc<V>> {
        match self {
            Self::One(_, object) => vec![object.clone()],
            Self::Many(objects) => objects.values().cloned().collect(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(objects) => objects.len(),
        }
    }
}

/// An index over the objects of an informer.
pub struct Index<V> {
    store: Arc<RwLock<Store<V>>>,
    at: usize,
}

impl<V> Clone for Index<V> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            at: self.at,
        }
    }
}

impl<V: View> Index<V> {
    pub(crate) fn new(store: &Arc<RwLock<Store<V>>>, name: &'static str, by: IndexBy<V>) -> Self {
        let mut locked = store.write().unwrap_or_else(PoisonError::into_inner);
        let at = locked.index(name, by);
        drop(locked);
        Self {
            store: store.clone(),
            at,
        }
    }

    /// The objects under a key.
    pub fn get(&self, key: &str) -> Vec<Arc<V>> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let bucket = store.indexes[self.at].buckets.get(key);
        bucket.map_or_else(Vec::new, Bucket::list)
    }

    /// How many objects are under a key.
    pub fn count(&self, key: &str) -> usize {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.indexes[self.at]
            .buckets
            .get(key)
            .map_or(0, Bucket::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("a".to_string());
        object.metadata.name = Some(name.to_string());
        object.metadata.uid = Some(uid.to_string());
        object.metadata.resource_version = Some(version.to_string());
        object
    }

    fn told(changes: &[Change<ConfigMap>]) -> Vec<String> {
        let one = |object: &Option<Arc<ConfigMap>>| match object {
            Some(object) => format!(
                "{}:{}@{}",
                object.name(),
                object.uid(),
                object.metadata.resource_version.as_deref().unwrap()
            ),
            None => "-".to_string(),
        };
        let told = changes.iter();
        told.map(|(old, new)| format!("{}>{}", one(old), one(new)))
            .collect()
    }

    #[test]
    fn a_replacement_tells_only_what_changed() {
        let mut store = Store::default();
        for name in ["gone", "same", "changed", "replaced"] {
            store.put(object(name, "1", "5"));
        }
        let now = [
            object("same", "1", "5"),
            object("changed", "1", "6"),
            object("replaced", "2", "7"),
            object("new", "1", "8"),
        ];
        let now = now.into_iter().map(|object| (Key::of(&object), object));
        assert_eq!(
            told(&store.replace(now.collect())),
            [
                "gone:1@5>-",
                "changed:1@5>changed:1@6",
                "->new:1@8",
                "replaced:1@5>-",
                "->replaced:2@7",
            ]
        );
        assert_eq!(store.len(), 4);
        assert_eq!(store.list().len(), 4);
    }

    #[test]
    fn indexes_follow_their_objects() {
        let store = Arc::new(RwLock::new(Store::default()));
        let put = |object| store.write().unwrap().put(object);
        put(object("x", "1", "5"));
        let by: IndexBy<ConfigMap> = |object| vec![object.uid().to_string()];
        let index = Index::new(&store, "uid", by);
        put(object("y", "1", "6"));
        assert_eq!(Index::new(&store, "uid", by).get("1").len(), 2);
        put(object("x", "2", "7"));
        assert_eq!((index.count("1"), index.count("2")), (1, 1));
        store.write().unwrap().remove(object("y", "1", "8"));
        assert_eq!(index.get("1").len(), 0);
        assert_eq!(index.get("2")[0].name(), "x");
    }
}

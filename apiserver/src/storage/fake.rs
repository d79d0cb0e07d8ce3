//! Objects in memory, for tests of whoever reads them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::doc::Doc;

use super::{Object, Objects};
use crate::authorization::{bootstrap_policy, rbac};

/// Group and resource, or namespace and name.
type Pair = (String, String);

/// Objects in memory.
#[derive(Default)]
pub(crate) struct Fake {
    objects: Mutex<BTreeMap<Pair, BTreeMap<Pair, Arc<Object>>>>,
    revision: Mutex<u64>,
    versions: Mutex<BTreeMap<Pair, u64>>,
}

impl Fake {
    pub(crate) fn put(&self, group: &str, resource: &str, doc: &Doc) {
        let metadata = |key: &str| doc.root().text(&["metadata", key]).to_string();
        let mut revision = self.revision.lock().unwrap();
        *revision += 1;
        let object = Arc::new(Object::new(*revision, doc.to_string()));
        let of = (group.to_string(), resource.to_string());
        let mut objects = self.objects.lock().unwrap();
        let resource = objects.entry(of.clone()).or_default();
        resource.insert((metadata("namespace"), metadata("name")), object);
        self.versions.lock().unwrap().insert(of, *revision);
    }

    pub(crate) fn literal(&self, group: &str, resource: &str, json: &str) {
        self.put(group, resource, &Doc::literal(json));
    }

    pub(crate) fn remove(&self, group: &str, resource: &str, (namespace, name): (&str, &str)) {
        let of = (group.to_string(), resource.to_string());
        let key = (namespace.to_string(), name.to_string());
        let mut objects = self.objects.lock().unwrap();
        objects.entry(of.clone()).or_default().remove(&key);
        let mut revision = self.revision.lock().unwrap();
        *revision += 1;
        self.versions.lock().unwrap().insert(of, *revision);
    }

    pub(crate) fn with_bootstrap_policy() -> Arc<Self> {
        let fake = Self::default();
        for one in bootstrap_policy::wanted() {
            fake.put(rbac::GROUP, one.resource, &one.doc);
        }
        Arc::new(fake)
    }
}

impl Objects for Fake {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let objects = self.objects.lock().unwrap();
        let of = objects.get(&(group.to_string(), resource.to_string()))?;
        of.get(&(namespace.to_string(), name.to_string())).cloned()
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let objects = self.objects.lock().unwrap();
        let of = objects.get(&(group.to_string(), resource.to_string()));
        let all = of.into_iter().flatten();
        all.filter(|((at, _), _)| namespace.is_empty() || at == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn version(&self, group: &str, resource: &str) -> u64 {
        let versions = self.versions.lock().unwrap();
        let of = (group.to_string(), resource.to_string());
        versions.get(&of).copied().unwrap_or_default()
    }
}
